"""Answer a partner's batch: thousands of product ids in, every SKU of each out, in the partner's order.

The lines of a window are looked up at once, one id or many in a query, and their rows are written in the order of the
lines. Memory holds at most one page of rows for each line of the window, however long the file is and however many SKUs
a product has. The driver looks up fewer lines at once if their rows take more than some megabytes.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

import headrace
from storefront.catalogue import COLUMNS, LOOK_UP_PAGE, LOOK_UP_PAGES, MAX_ID, PAGE, Executor, further_pages
from storefront.checkpoint import Checkpoint, Tally
from storefront.errors import StorefrontError, UsageError
from storefront.orders import Order, OrderLine
from storefront.rows import RowWriter, open_binary
from storefront.timing import timed

WINDOW = 2_048
"""The number of lines that are looked up at once."""

CHECKPOINT_LINES = 10_000
"""The number of lines between two checkpoints."""

MANY_SKUS = 200
"""The average number of SKUs a product from which a query for each id is faster. It was measured; see the README."""

SKUS_A_PRODUCT = """\
SELECT sku.reltuples / nullif(product.reltuples, 0)
FROM pg_class AS sku, pg_class AS product
WHERE sku.oid = to_regclass('sku') AND product.oid = to_regclass('product')
AND sku.reltuples >= 0 AND product.reltuples >= 0"""
"""An estimate without a look at the tables. It has no row if a table was never analyzed."""

Report = Callable[[int, str], None]
"""A function that is called with the number of a line and the problem with it, in the order of the lines."""


class Strategy(StrEnum):
    """How the ids of a batch are put into queries."""

    AUTO = "auto"
    """Chosen by `choose_strategy`."""
    EACH = "each"
    """A query for each id, pipelined."""
    GROUPED = "grouped"
    """A query for up to 64 ids, as an array in `= ANY($1)`."""


@dataclass(frozen=True)
class _Query:
    """The query of a strategy, for at most `ids` ids out of at most `lines` lines. A product gives a page of rows.

    Lines without an id to look up are counted, because a window of them must not be read without an end.
    """

    sql: str
    ids: int
    lines: int
    page: int

    def args(self, ids: list[int]) -> tuple[object, ...]:
        if self.ids == 1:
            return (ids[0] if ids else None, 0, self.page)
        return (ids, self.page)


_QUERIES = {
    Strategy.EACH: _Query(LOOK_UP_PAGE, ids=1, lines=16, page=PAGE),
    Strategy.GROUPED: _Query(LOOK_UP_PAGES, ids=64, lines=256, page=PAGE // 4),
}


@timed
async def answer(
    executor: Executor,
    lines: Iterable[OrderLine],
    output: RowWriter,
    *,
    report: Report,
    tally: Tally,
    window: int = WINDOW,
    strategy: Strategy = Strategy.AUTO,
    report_repeated: bool = True,
    line_done: Callable[[OrderLine], None] = lambda line: None,
) -> Tally:
    """Look up the product of every line, write its SKUs as rows of catalogue.COLUMNS, and count the lines in `tally`.

    `report` is called for a line that yields no SKU and, with `report_repeated`, for a line that repeats an earlier id,
    whose SKUs are written only once. `line_done` is called after each line, when all of its rows are written. An error
    of the database or a cancellation ends the batch after the lines done so far. No look-up is left running. Raises
    UsageError if the window is less than 1 line.
    """
    if window < 1:
        raise UsageError(f"the window must be at least 1 line, got {window}")
    if strategy is Strategy.AUTO:
        strategy = await choose_strategy(executor)
    query = _QUERIES[strategy]
    lines_each = min(query.lines, window)
    asked: deque[list[OrderLine]] = deque()
    done = _Completion(output, report, tally, report_repeated=report_repeated)

    def requests() -> Iterator[tuple[object, ...]]:
        for part, ids in _divide(lines, query.ids, lines_each):
            asked.append(part)
            yield query.args(ids)

    answers = executor.fetch_each(query.sql, requests(), window=window // lines_each)
    async with aclosing(answers):
        async for rows in answers:
            found = {product_id: list(group) for product_id, group in groupby(rows, key=itemgetter(0))}
            for line in asked.popleft():
                written = done.complete(line, found)
                if written and len(written) == query.page:
                    async for page in further_pages(executor, written, page=query.page):
                        done.write(page)
                line_done(line)
            # Answers may have arrived already. This lets other tasks run, and a cancellation arrive.
            await asyncio.sleep(0)
    return tally


async def choose_strategy(executor: Executor) -> Strategy:
    """Choose by the number of SKUs that a product has on average, which the server keeps from its last ANALYZE.

    A query for many products saves most of the work of one for each, unless the rows themselves are most of it.
    """
    average: float | None = await executor.fetchval(SKUS_A_PRODUCT)
    return Strategy.EACH if average is not None and average > MANY_SKUS else Strategy.GROUPED


def _divide(lines: Iterable[OrderLine], most_ids: int, most_lines: int) -> Iterator[tuple[list[OrderLine], list[int]]]:
    """Divide the lines into parts, each with the ids in it that are to be looked up."""
    part: list[OrderLine] = []
    ids: list[int] = []
    for line in lines:
        part.append(line)
        product_id = line.product_id
        if product_id is not None and not line.repeated and product_id <= MAX_ID:
            ids.append(product_id)
        if len(ids) == most_ids or len(part) == most_lines:
            yield part, ids
            part, ids = [], []
    if part:
        yield part, ids


class _Completion:
    """Writes the rows of lines or reports why they have none, and counts the lines."""

    def __init__(self, output: RowWriter, report: Report, tally: Tally, *, report_repeated: bool) -> None:
        self._output = output
        self._report = report
        self._tally = tally
        self._report_repeated = report_repeated

    def complete(self, line: OrderLine, found: dict[int, list[headrace.Record]]) -> list[headrace.Record] | None:
        """Complete a line by the rows that were found. Return those that were written, which is the first page."""
        tally = self._tally
        product_id = line.product_id
        if line.repeated:
            if self._report_repeated:
                self._report(
                    line.number, f"product {product_id} is repeated: its SKUs are listed where it first appears"
                )
            tally.repeated += 1
        elif product_id is None:
            self._report(line.number, str(line.malformed))
            tally.malformed += 1
        elif (rows := found.get(product_id)) is None:
            self._report(line.number, f"no product has the id {product_id}")
            tally.unknown += 1
        elif rows[0]["sku_id"] is None:
            self._report(line.number, f"product {product_id} has no SKUs")
            tally.products += 1
            tally.without_skus += 1
        else:
            self.write(rows)
            tally.products += 1
            tally.lines += 1
            return rows
        tally.lines += 1
        return None

    def write(self, rows: list[headrace.Record]) -> None:
        """Write rows of one product."""
        self._output.write_product(rows)
        self._tally.skus += len(rows)


@dataclass
class ProductBatch:
    """A batch between two files. It can be interrupted at any moment and resumed.

    A checkpoint file beside `output_path` records how far the batch has come. It is updated every `checkpoint_lines`
    lines and when the batch ends early, and removed when the batch is complete. A resumed batch truncates the output
    to the last checkpoint and continues there, so no row is lost or written twice. Lines since that checkpoint may be
    reported twice.
    """

    input_path: Path
    output_path: Path
    resume: bool = False
    window: int = WINDOW
    checkpoint_lines: int = CHECKPOINT_LINES
    strategy: Strategy = Strategy.AUTO
    report_repeated: bool = True

    @property
    def checkpoint_path(self) -> Path:
        """The file that records how far the batch has come. It exists only while the batch is incomplete."""
        return Checkpoint.path_for(self.output_path)

    async def run(self, executor: Executor, report: Report) -> Tally:
        """Answer the batch from its beginning or, if it is resumed, from its checkpoint. Return the tally of all runs.

        Raises UsageError if a file cannot be opened, or if a batch into this output was interrupted and `resume` is not
        set. Raises StorefrontError if the input or the output no longer matches the checkpoint. After an error or a
        cancellation the batch can be resumed.
        """
        self._check()
        checkpoint = Checkpoint.load(self.checkpoint_path)
        with open_binary(self.input_path, "rb") as source:
            order = Order(source)
            if checkpoint is None:
                with open_binary(self.output_path, "wb") as sink:
                    output = RowWriter(sink)
                    output.write(COLUMNS)
                    return await self._answer(executor, report, order, sink, output, Tally())
            self._skip(order, checkpoint)
            with open_binary(self.output_path, "r+b") as sink:
                if sink.seek(0, os.SEEK_END) < checkpoint.output_offset:
                    raise StorefrontError(
                        f"{self.output_path} is shorter than when the batch was interrupted: "
                        f"remove {self.checkpoint_path} to start again"
                    )
                sink.truncate(checkpoint.output_offset)
                sink.seek(checkpoint.output_offset)
                output = RowWriter(sink, checkpoint.output_offset)
                return await self._answer(executor, report, order, sink, output, checkpoint.tally)

    def _check(self) -> None:
        """Raise UsageError if the batch would destroy a file."""
        with suppress(FileNotFoundError):
            if self.input_path.samefile(self.output_path):
                raise UsageError(f"the output would overwrite the input, {self.input_path}")
        if self.checkpoint_path.exists() and not self.resume:
            raise UsageError(
                f"a batch into {self.output_path} was interrupted: continue it with --resume, "
                f"or remove {self.checkpoint_path} to start again"
            )

    def _skip(self, order: Order, checkpoint: Checkpoint) -> None:
        """Read the completed lines again, to collect their ids and to check that they have not changed."""
        reached, digest = 0, ""
        while reached < checkpoint.input_offset:
            line = next(order, None)
            if line is None:
                break
            reached, digest = line.end, line.digest
        if (reached, digest) != (checkpoint.input_offset, checkpoint.input_digest):
            raise StorefrontError(
                f"{self.input_path} has changed since the batch was interrupted: "
                f"remove {self.checkpoint_path} to start again"
            )

    async def _answer(
        self,
        executor: Executor,
        report: Report,
        order: Order,
        sink: BinaryIO,
        output: RowWriter,
        tally: Tally,
    ) -> Tally:
        checkpoint_writer = _CheckpointWriter(self, sink, output, tally)
        try:
            await answer(
                executor,
                order,
                output,
                report=report,
                tally=tally,
                window=self.window,
                strategy=self.strategy,
                report_repeated=self.report_repeated,
                line_done=checkpoint_writer.line_done,
            )
        except BaseException:
            checkpoint_writer.save()
            raise
        output.flush()
        self.checkpoint_path.unlink(missing_ok=True)
        return tally


class _CheckpointWriter:
    """Updates the checkpoint of a batch while its lines are completed."""

    def __init__(self, batch: ProductBatch, sink: BinaryIO, output: RowWriter, tally: Tally) -> None:
        self._batch = batch
        self._sink = sink
        self._output = output
        self._tally = tally
        self._last: OrderLine | None = None
        self._position = output.position

    def line_done(self, line: OrderLine) -> None:
        """Record that a line is done, and save a checkpoint if one is due."""
        self._last = line
        self._position = self._output.position
        if line.number % self._batch.checkpoint_lines == 0:
            self.save()

    def save(self) -> None:
        """Sync the output to disk, then save a checkpoint. Do nothing before the first line is done."""
        if self._last is None:
            return
        self._output.flush()
        os.fsync(self._sink.fileno())
        state = Checkpoint(self._last.end, self._last.digest, self._position, self._tally)
        state.save(self._batch.checkpoint_path)
