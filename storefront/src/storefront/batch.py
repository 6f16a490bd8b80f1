"""Answer a partner's batch: thousands of product ids in, every SKU of each out, in the partner's order.

Look-ups go to the pool while earlier ones are still on their way, up to a window of them, and are written in
the order of the lines. What is held in memory is that window, a page of rows for each line in it, whatever
the length of the file or the number of a product's SKUs.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import headrace
from storefront.catalogue import COLUMNS, Executor, first_page, further_pages
from storefront.checkpoint import Checkpoint, Tally
from storefront.errors import StorefrontError, UsageError
from storefront.orders import Order, OrderLine
from storefront.rows import RowWriter, open_binary
from storefront.timing import timed

WINDOW = 64
"""Lines looked up at once."""

CHECKPOINT_LINES = 500
"""Lines between two checkpoints."""

Report = Callable[[int, str], None]
"""Called with the number of a line and what is wrong with it, in the order of the lines."""

_Pending = tuple[OrderLine, "asyncio.Task[list[headrace.Record]] | None"]


@timed
async def answer(
    executor: Executor,
    lines: Iterable[OrderLine],
    output: RowWriter,
    *,
    report: Report,
    tally: Tally,
    window: int = WINDOW,
    settled: Callable[[OrderLine], None] = lambda line: None,
) -> Tally:
    """Look up every line's product, write its SKUs as rows of catalogue.COLUMNS, count the lines in `tally`.

    A line that yields no SKU, and one that repeats an earlier one (whose SKUs are written once), is reported.
    `settled` is called after each line, when all of its rows are written. An error of the database ends the
    batch after the lines settled so far; so does cancellation. No look-up is left running.
    """
    if window < 1:
        raise UsageError(f"the window must be at least 1 line, got {window}")
    pending: deque[_Pending] = deque()

    async def settle_first() -> None:
        line, task = pending[0]
        if task is None:
            # A chance for others, and for cancellation: a long row of bad lines waits for nothing else.
            await asyncio.sleep(0)
        await _settle(executor, line, await task if task else None, output, report, tally)
        pending.popleft()
        settled(line)

    try:
        for line in lines:
            look_up = line.product_id if not line.repeated else None
            task = asyncio.create_task(first_page(executor, look_up)) if look_up is not None else None
            pending.append((line, task))
            if len(pending) >= window:
                await settle_first()
        while pending:
            await settle_first()
    finally:
        tasks = [task for _, task in pending if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return tally


async def _settle(
    executor: Executor,
    line: OrderLine,
    rows: list[headrace.Record] | None,
    output: RowWriter,
    report: Report,
    tally: Tally,
) -> None:
    """Write a line's rows, or report why it has none."""
    if line.malformed is not None:
        report(line.number, line.malformed)
        tally.malformed += 1
    elif line.repeated:
        report(line.number, f"product {line.product_id} is repeated: its SKUs stand where it came first")
        tally.repeated += 1
    elif not rows:
        report(line.number, f"no product has the id {line.product_id}")
        tally.unknown += 1
    elif rows[0]["sku_id"] is None:
        report(line.number, f"product {line.product_id} has no SKUs")
        tally.products += 1
        tally.without_skus += 1
    else:
        written = _write(output, rows)
        async for page in further_pages(executor, rows):
            written += _write(output, page)
        tally.products += 1
        tally.skus += written
    tally.lines += 1


def _write(output: RowWriter, rows: list[headrace.Record]) -> int:
    for row in rows:
        output.write(row)
    return len(rows)


@dataclass
class ProductBatch:
    """A batch between two files, which can be cut off at any moment and resumed.

    A checkpoint beside `output_path` says how far the batch has come; it is renewed every `checkpoint_lines`
    lines and whenever the batch ends early, and removed when the batch is complete. What was written after
    the last checkpoint is written again by the next run, and the lines since then are reported again: nothing
    is lost and nothing is in the output twice.
    """

    input_path: Path
    output_path: Path
    resume: bool = False
    window: int = WINDOW
    checkpoint_lines: int = CHECKPOINT_LINES

    @property
    def checkpoint_path(self) -> Path:
        """The file that says how far the batch has come, while it is not complete."""
        return Checkpoint.path_for(self.output_path)

    async def run(self, executor: Executor, report: Report) -> Tally:
        """Answer the batch from its beginning or, to resume, its checkpoint; return the tally of all runs.

        Raises UsageError for files that cannot be opened, or where a batch was cut off here and `resume` is
        not set; StorefrontError where the input or the output is no longer what the checkpoint was made from.
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
                    raise StorefrontError(f"{self.output_path} is shorter than when the batch was cut off: begin anew")
                sink.truncate(checkpoint.output_offset)
                sink.seek(checkpoint.output_offset)
                output = RowWriter(sink, checkpoint.output_offset)
                return await self._answer(executor, report, order, sink, output, checkpoint.tally)

    def _check(self) -> None:
        """Refuse what would destroy a file."""
        with suppress(FileNotFoundError):
            if self.input_path.samefile(self.output_path):
                raise UsageError(f"the output would overwrite the input, {self.input_path}")
        if self.checkpoint_path.exists() and not self.resume:
            raise UsageError(
                f"a batch into {self.output_path} was cut off: --resume goes on with it; "
                f"remove {self.checkpoint_path} to begin anew"
            )

    def _skip(self, order: Order, checkpoint: Checkpoint) -> None:
        """Read again the lines that are done: for the ids seen in them, and to see that they are the same."""
        reached, digest = 0, ""
        while reached < checkpoint.input_offset:
            line = next(order, None)
            if line is None:
                break
            reached, digest = line.end, line.digest
        if (reached, digest) != (checkpoint.input_offset, checkpoint.input_digest):
            raise StorefrontError(
                f"{self.input_path} has changed since the batch was cut off: "
                f"remove {self.checkpoint_path} to begin anew"
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
        keeper = _Keeper(self, sink, output, tally)
        try:
            await answer(
                executor,
                order,
                output,
                report=report,
                tally=tally,
                window=self.window,
                settled=keeper.settled,
            )
        except BaseException:
            keeper.save()
            raise
        output.flush()
        self.checkpoint_path.unlink(missing_ok=True)
        return tally


class _Keeper:
    """Keeps a batch's checkpoint up to date while its lines are settled."""

    def __init__(self, batch: ProductBatch, sink: BinaryIO, output: RowWriter, tally: Tally) -> None:
        self._batch = batch
        self._sink = sink
        self._output = output
        self._tally = tally
        self._last: OrderLine | None = None
        self._position = output.position

    def settled(self, line: OrderLine) -> None:
        """Note that a line is done; save a checkpoint when one is due."""
        self._last = line
        self._position = self._output.position
        if line.number % self._batch.checkpoint_lines == 0:
            self.save()

    def save(self) -> None:
        """Make sure of what was written, then say how far it goes; nothing, before the first line is done."""
        if self._last is None:
            return
        self._output.flush()
        os.fsync(self._sink.fileno())
        state = Checkpoint(self._last.end, self._last.digest, self._position, self._tally)
        state.save(self._batch.checkpoint_path)
