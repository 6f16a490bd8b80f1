"""Answer a partner's batch: thousands of product ids in, every SKU of each out, in the partner's order.

The lines of a window are looked up at once, and their rows are written in the order of the lines. Memory holds one
page of rows for each line of the window, however long the file is and however many SKUs a product has.
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
"""The number of lines that are looked up at once."""

CHECKPOINT_LINES = 500
"""The number of lines between two checkpoints."""

Report = Callable[[int, str], None]
"""A function that is called with the number of a line and the problem with it, in the order of the lines."""

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
    line_done: Callable[[OrderLine], None] = lambda line: None,
) -> Tally:
    """Look up the product of every line, write its SKUs as rows of catalogue.COLUMNS, and count the lines in `tally`.

    `report` is called for a line that yields no SKU, and for a line that repeats an earlier id, whose SKUs are written
    only once. `line_done` is called after each line, when all of its rows are written. An error of the database or a
    cancellation ends the batch after the lines done so far. No look-up is left running. Raises UsageError if the
    window is less than 1 line.
    """
    if window < 1:
        raise UsageError(f"the window must be at least 1 line, got {window}")
    pending: deque[_Pending] = deque()

    async def complete_first() -> None:
        line, task = pending[0]
        if task is None:
            # A run of bad lines awaits nothing else. This lets other tasks run, and a cancellation arrive.
            await asyncio.sleep(0)
        await _complete_line(executor, line, await task if task else None, output, report, tally)
        pending.popleft()
        line_done(line)

    try:
        for line in lines:
            look_up = line.product_id if not line.repeated else None
            task = asyncio.create_task(first_page(executor, look_up)) if look_up is not None else None
            pending.append((line, task))
            if len(pending) >= window:
                await complete_first()
        while pending:
            await complete_first()
    finally:
        tasks = [task for _, task in pending if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return tally


async def _complete_line(
    executor: Executor,
    line: OrderLine,
    rows: list[headrace.Record] | None,
    output: RowWriter,
    report: Report,
    tally: Tally,
) -> None:
    """Write the rows of a line, or report why it has none."""
    if line.malformed is not None:
        report(line.number, line.malformed)
        tally.malformed += 1
    elif line.repeated:
        report(line.number, f"product {line.product_id} is repeated: its SKUs are listed where it first appears")
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
