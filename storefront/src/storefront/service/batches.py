"""Answer the batches of partners: the rows of each id as they come, and one object for each id that has none."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, Protocol

from storefront.batch import Strategy
from storefront.catalogue import COLUMNS, LOOK_UP_PAGE, LOOK_UP_PAGES, MAX_ID, PAGE, further_pages
from storefront.checkpoint import Tally
from storefront.database import AnyPool
from storefront.formats import CsvEncoder, NdjsonEncoder
from storefront.orders import SeenIds
from storefront.service.batch_ids import MALFORMED, BatchIds
from storefront.service.problems import ProblemError

WINDOW: Final = 1_024
"""The number of ids that are looked up at once for one batch."""

Write = Callable[[bytes], Awaitable[None]]


class BatchOutcome(StrEnum):
    """Why an id has no rows, or how a batch has ended."""

    UNKNOWN = "unknown"
    MALFORMED = "malformed"
    REPEATED = "repeated"
    """The rows of the id are where it first appears."""
    WITHOUT_SKUS = "without_skus"
    COMPLETE = "complete"
    FAILED = "failed"


class AnswerEncoder(Protocol):
    """Encodes an answer. An id without rows, and the end, have an outcome."""

    @property
    def media_type(self) -> str:
        """The Content-Type of the answer."""

    def header(self) -> bytes:
        """Return the beginning."""

    def product(self, rows: Sequence[Sequence[Any]]) -> bytes:
        """Encode rows of one product."""

    def without_rows(self, line: int, product_id: int | None, outcome: BatchOutcome, text: str | None) -> bytes:
        """Encode an id that has no rows. `text` is that of a malformed one."""

    def end(self, tally: Tally, problem: ProblemError | None) -> bytes:
        """Encode the end: the counts and, if the answer is not complete, the problem."""


class NdjsonAnswer:
    """An answer as NDJSON: an object has the columns of a row, or the member `outcome`."""

    media_type: Final = "application/x-ndjson"

    def __init__(self) -> None:
        encoder = NdjsonEncoder(COLUMNS)
        self.header = encoder.header
        self.product = encoder.product

    def without_rows(self, line: int, product_id: int | None, outcome: BatchOutcome, text: str | None) -> bytes:
        """Encode an id that has no rows."""
        if product_id is not None:
            return f'{{"outcome":"{outcome}","line":{line},"product_id":{product_id}}}\n'.encode()
        return f'{{"outcome":"{outcome}","line":{line},"text":{json.dumps(text)}}}\n'.encode()

    def end(self, tally: Tally, problem: ProblemError | None) -> bytes:
        """Encode the end of the answer."""
        members = {"outcome": BatchOutcome.FAILED if problem else BatchOutcome.COMPLETE, **asdict(tally)}
        if problem is not None:
            members["problem"] = problem.members()
        return json.dumps(members, separators=(",", ":")).encode() + b"\n"


class CsvAnswer:
    """An answer as CSV. The last column, `outcome`, is empty for the row of a SKU."""

    media_type: Final = "text/csv; charset=utf-8; header=present"

    def __init__(self) -> None:
        self._skus = CsvEncoder(COLUMNS)
        self._rows = CsvEncoder((*COLUMNS, "outcome"))
        self.header = self._rows.header

    def product(self, rows: Sequence[Sequence[Any]]) -> bytes:
        """Encode rows of one product."""
        encoded = self._skus.product(rows)
        if b'"' in encoded:
            # A quoted field may contain an end of line.
            return self._rows.rows((*row, None) for row in rows)
        return encoded.replace(b"\n", b",\n")

    def without_rows(self, line: int, product_id: int | None, outcome: BatchOutcome, text: str | None) -> bytes:
        """Encode an id that has no rows. Its text is in the first column."""
        first = text if product_id is None else product_id
        return self._rows.rows([(first, None, None, None, None, None, f"{outcome} line={line}")])

    def end(self, tally: Tally, problem: ProblemError | None) -> bytes:
        """Encode the end of the answer."""
        told = " ".join(f"{name}={count}" for name, count in asdict(tally).items())
        told = (
            f"{BatchOutcome.COMPLETE} {told}" if problem is None else f"{BatchOutcome.FAILED} {told} problem={problem}"
        )
        return self._rows.rows([(None, None, None, None, None, None, told)])


@dataclass(frozen=True)
class _Query:
    """A query for at most `ids` ids. A product gives a page of rows."""

    sql: str
    ids: int
    page: int

    def args(self, ids: list[int]) -> tuple[object, ...]:
        if self.ids == 1:
            return (ids[0] if ids else None, 0, self.page)
        return (ids, self.page)


_QUERIES: Final = {
    Strategy.EACH: _Query(LOOK_UP_PAGE, ids=1, page=PAGE),
    Strategy.GROUPED: _Query(LOOK_UP_PAGES, ids=64, page=PAGE // 4),
}

_Line = tuple[int, int, BatchOutcome | None]
"""An id with its index, and why it is not looked up."""


async def answer_batch(
    pool: AnyPool,
    batch: BatchIds,
    encoder: AnswerEncoder,
    write: Write,
    tally: Tally,
    *,
    strategy: Strategy,
    timeout: float,
) -> None:
    """Write the answer to a batch but for its end, in the order of the ids, and count in `tally`.

    Each `write` has the rows of several ids, and the next is made when it returns. Meanwhile at most WINDOW ids are
    looked up. `timeout` limits the wait for each result. An error or a cancellation leaves no look-up running.
    """
    query = _QUERIES[strategy]
    asked: deque[list[_Line]] = deque()

    def requests() -> Iterator[tuple[object, ...]]:
        for part, ids in _divide(batch, query.ids):
            asked.append(part)
            yield query.args(ids)

    answers = pool.fetch_each(query.sql, requests(), window=max(1, WINDOW // query.ids), timeout=timeout)
    pieces = [encoder.header()]
    async with aclosing(answers):
        async for rows in answers:
            found = {product_id: list(group) for product_id, group in groupby(rows, key=itemgetter(0))}
            for index, product_id, outcome in asked.popleft():
                tally.lines += 1
                if outcome is None:
                    product: Any = found.get(product_id)
                    if product is None:
                        outcome = BatchOutcome.UNKNOWN
                    else:
                        tally.products += 1
                        if product[0][3] is not None:
                            tally.skus += len(product)
                            pieces.append(encoder.product(product))
                            if len(product) == query.page:
                                await write(b"".join(pieces))
                                pieces = []
                                page: Any
                                async for page in further_pages(pool, product, page=query.page):
                                    tally.skus += len(page)
                                    await write(encoder.product(page))
                            continue
                        outcome = BatchOutcome.WITHOUT_SKUS
                setattr(tally, outcome, getattr(tally, outcome) + 1)
                text = batch.malformed[index] if product_id == MALFORMED else None
                line = batch.first_line + index
                pieces.append(encoder.without_rows(line, product_id or None, outcome, text))
            await write(b"".join(pieces))
            pieces = []


def _divide(batch: BatchIds, most: int) -> Iterator[tuple[list[_Line], list[int]]]:
    """Divide the ids into parts, each with those of it that are to be looked up."""
    seen = SeenIds()
    part: list[_Line] = []
    ids: list[int] = []
    for index, product_id in enumerate(batch.ids):
        outcome = None
        if product_id == MALFORMED:
            outcome = BatchOutcome.MALFORMED
        elif product_id > MAX_ID:
            outcome = BatchOutcome.UNKNOWN
        elif seen.add(product_id):
            ids.append(product_id)
        else:
            outcome = BatchOutcome.REPEATED
        part.append((index, product_id, outcome))
        if len(ids) == most or len(part) == 4 * most:
            yield part, ids
            part, ids = [], []
    if part:
        yield part, ids
