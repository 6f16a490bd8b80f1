"""Answer a partner's batch: thousands of product ids in, every SKU of each out, in the partner's order.

`answers` yields the encoded rows bit by bit, for a web service as for a file. `ProductBatch` writes them to a file,
with checkpoints from which it can be resumed.

Memory holds at most one page of rows for each line of a window, or one part of the lines and a few megabytes of their
rows, however long the order is and however many SKUs a product has. Besides, it holds the set of ids seen so far.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import stat
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path

import headrace
from storefront.catalogue import COLUMNS, LOOK_UP_PAGE, LOOK_UP_PAGES, MAX_ID, PAGE, Executor, further_pages
from storefront.checkpoint import Checkpoint, Tally
from storefront.database import Database, leased
from storefront.errors import CannotResumeError, StorefrontError, UsageError
from storefront.formats import Encoder, Format, output_type
from storefront.orders import InputFormat, Order, OrderLine, open_order
from storefront.reports import Problem, ProblemKind, Report, ReportFile
from storefront.rows import PartedFile, PartedOutput, PartedParquet, naming, same_file
from storefront.timing import timed

logger = logging.getLogger(__name__)

WINDOW = 2_048
"""The number of lines that are looked up at once."""

CHECKPOINT_LINES = 10_000
"""The number of lines between two checkpoints."""

CHECKPOINT_BYTES = 64 * 2**20
"""The number of bytes of rows, not compressed, after which a checkpoint is due before its lines."""

ATTEMPTS = 3
"""How many hosts may be lost, one after another, before a batch that came no further gives up."""

TABLE_LINES = 1_500
"""The number of lines from which a temporary table is faster. It was measured; see the README."""

TABLE_PART = 20_000
"""The number of lines that are put into a temporary table at once."""

TABLE_PARTS_AHEAD = 2
"""The number of parts under way at once, each on a connection of its own, if there is a pool."""

MANY_SKUS = 200
"""The average number of SKUs a product from which a query for each id is faster. It was measured; see the README."""

SERVER = """\
SELECT (
    SELECT sku.reltuples / nullif(product.reltuples, 0)
    FROM pg_class AS sku, pg_class AS product
    WHERE sku.oid = to_regclass('sku') AND product.oid = to_regclass('product')
    AND sku.reltuples >= 0 AND product.reltuples >= 0
), has_database_privilege(current_database(), 'TEMPORARY') AND NOT current_setting('transaction_read_only')::boolean"""
"""The number of SKUs that a product has, and whether a temporary table can be made.

The number is an estimate without a look at the tables. It is null if a table was never analyzed. A standby has no
temporary tables; its transactions are read-only."""

BATCH_TABLE = "storefront_batch"

CREATE_BATCH_TABLE = (
    f"CREATE TEMPORARY TABLE {BATCH_TABLE} (line integer NOT NULL, product_id integer NOT NULL) ON COMMIT DROP"
)

LINES_WITHOUT_SKUS = f"""\
SELECT b.line, p.product_id IS NULL
FROM pg_temp.{BATCH_TABLE} AS b
LEFT JOIN product AS p ON p.product_id = b.product_id
WHERE NOT EXISTS (SELECT FROM sku AS s WHERE s.product_id = b.product_id)"""
"""The lines without a row in BATCH_ROWS, and whether that is because no product has the id."""

BATCH_ROWS = f"""\
SELECT p.product_id, p.product_name, p.brand_id, s.sku_id, c.product_color_name, z.product_size_name
FROM pg_temp.{BATCH_TABLE} AS b
JOIN product AS p ON p.product_id = b.product_id
JOIN sku AS s ON s.product_id = p.product_id
JOIN product_color AS c ON c.product_color_id = s.product_color_id
JOIN product_size AS z ON z.product_size_id = s.product_size_id
ORDER BY b.line, s.sku_id"""


class Strategy(StrEnum):
    """How the ids of a batch are put into queries."""

    AUTO = "auto"
    """Chosen by `choose_strategy`."""
    EACH = "each"
    """A query for each id, pipelined."""
    GROUPED = "grouped"
    """A query for up to 64 ids, as an array in `= ANY($1)`."""
    TABLE = "table"
    """Up to 20,000 lines by COPY into a temporary table, and their rows by COPY out of a join with it."""


@dataclass(slots=True)
class Answered:
    """Encoded rows, and the lines that are complete with them.

    `tally` counts these lines and rows, and `problems` are those of the lines. `last` is the last complete line if no
    line is in the middle of its rows, else None. A batch can be resumed there.
    """

    rows: bytes
    tally: Tally
    problems: list[Problem] = field(default_factory=list)
    last: OrderLine | None = None


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


async def answers(
    executor: Executor,
    lines: Iterable[OrderLine],
    encoder: Encoder,
    *,
    window: int = WINDOW,
    strategy: Strategy = Strategy.AUTO,
    report_repeated: bool = True,
) -> AsyncGenerator[Answered]:
    """Look up the product of every line, and yield its SKUs in the order of the lines, without the header.

    A line that yields no SKU is among the problems and, with `report_repeated`, a line that repeats an earlier id,
    whose SKUs come only once. An error of the database, a cancellation or closing the generator (contextlib.aclosing)
    ends the batch. Then no look-up is left running. With Strategy.TABLE a connection must not be used for anything else
    meanwhile, nor be in a transaction. Raises UsageError if the window is less than 1 line.
    """
    if window < 1:
        raise UsageError(f"the window must be at least 1 line, got {window}")
    if strategy is Strategy.AUTO:
        lines = iter(lines)
        first = list(islice(lines, TABLE_LINES))
        strategy = await choose_strategy(executor, len(first))
        lines = chain(first, lines)
    done = _Completion(report_repeated=report_repeated)
    if strategy is Strategy.TABLE:
        answered = _by_table(executor, lines, encoder, done)
    else:
        answered = _by_queries(executor, lines, encoder, done, _QUERIES[strategy], window)
    async with aclosing(answered):
        async for each in answered:
            yield each


@timed
async def answer(
    executor: Executor,
    lines: Iterable[OrderLine],
    output: Callable[[bytes], object],
    encoder: Encoder,
    *,
    report: Report,
    window: int = WINDOW,
    strategy: Strategy = Strategy.AUTO,
    report_repeated: bool = True,
) -> Tally:
    """Pass the rows of `answers` to `output` and the problems to `report`. Return the tally of the lines.

    Raises what `answers` raises, and the errors of `output` and `report`.
    """
    tally = Tally()
    parts = answers(executor, lines, encoder, window=window, strategy=strategy, report_repeated=report_repeated)
    async with aclosing(parts):
        async for part in parts:
            output(part.rows)
            tally.add(part.tally)
            for problem in part.problems:
                report(problem)
    return tally


async def choose_strategy(executor: Executor, lines: int = 0) -> Strategy:
    """Choose for an order of this many lines, and by the number of SKUs that a product has on average.

    The server keeps that number from its last ANALYZE. A query for many products saves most of the work of one for
    each, unless the rows themselves are most of it. A temporary table saves more, but costs some statements.
    """
    ((average, temporary),) = await executor.fetch(SERVER)
    # Replicas have no temporary tables, although the primary may just have answered in place of them.
    if temporary and lines >= TABLE_LINES and may_write(executor):
        return Strategy.TABLE
    return Strategy.EACH if average is not None and average > MANY_SKUS else Strategy.GROUPED


def may_write(executor: Executor) -> bool:
    """Return whether all statements of an executor go to a server that it may write to, as far as can be told."""
    return isinstance(executor, headrace.cluster.PrimaryView) or not isinstance(executor, headrace.cluster.View)


async def _by_queries(
    executor: Executor,
    lines: Iterable[OrderLine],
    encoder: Encoder,
    done: _Completion,
    query: _Query,
    window: int,
) -> AsyncGenerator[Answered]:
    lines_each = min(query.lines, window)
    asked: deque[list[OrderLine]] = deque()

    def requests() -> Iterator[tuple[object, ...]]:
        for part, ids in _divide(lines, query.ids, lines_each):
            asked.append(part)
            yield query.args(ids)

    replies = executor.fetch_each(query.sql, requests(), window=max(1, window // lines_each))
    async with aclosing(replies):
        async for rows in replies:
            found = {product_id: list(group) for product_id, group in groupby(rows, key=itemgetter(0))}
            part = asked.popleft()
            encoded = []
            for line in part:
                written = done.complete(line, found)
                if written:
                    encoded.append(encoder.product(written))
                    if len(written) == query.page:
                        yield done.answered(b"".join(encoded), None)
                        encoded = []
                        async for page in further_pages(executor, written, page=query.page):
                            yield Answered(encoder.product(page), Tally(skus=len(page)))
            yield done.answered(b"".join(encoded), part[-1])
            # Answers may have arrived already. This lets other tasks run, and a cancellation arrive.
            await asyncio.sleep(0)


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
    """Counts lines, and says why they have no rows."""

    def __init__(self, *, report_repeated: bool) -> None:
        self._report_repeated = report_repeated
        self._tally = Tally()
        self._problems: list[Problem] = []

    def complete(self, line: OrderLine, found: dict[int, list[headrace.Record]]) -> list[headrace.Record] | None:
        """Count a line. Return the rows to write, which are those found for its id."""
        tally = self._tally
        product_id = line.product_id
        if line.repeated:
            self.repeated(line)
        elif product_id is None:
            self._problem(line, ProblemKind.MALFORMED, str(line.malformed))
            tally.malformed += 1
        elif (rows := found.get(product_id)) is None:
            self.unknown(line)
        elif rows[0]["sku_id"] is None:
            self.without_skus(line)
        else:
            tally.products += 1
            tally.skus += len(rows)
            tally.lines += 1
            return rows
        tally.lines += 1
        return None

    def complete_part(self, part: list[OrderLine], without: dict[int, bool], skus: int) -> None:
        """Count lines. `without` has those without SKUs, by their index, and whether no product has the id."""
        tally = self._tally
        for index, line in enumerate(part):
            product_id = line.product_id
            if line.repeated:
                self.repeated(line)
            elif product_id is None:
                self._problem(line, ProblemKind.MALFORMED, str(line.malformed))
                tally.malformed += 1
            elif product_id > MAX_ID:
                self.unknown(line)
            elif index in without:
                self.unknown(line) if without[index] else self.without_skus(line)
            else:
                tally.products += 1
        tally.lines += len(part)
        tally.skus += skus

    def unknown(self, line: OrderLine) -> None:
        self._problem(line, ProblemKind.UNKNOWN, f"no product has the id {line.product_id}")
        self._tally.unknown += 1

    def without_skus(self, line: OrderLine) -> None:
        self._problem(line, ProblemKind.WITHOUT_SKUS, f"product {line.product_id} has no SKUs")
        self._tally.products += 1
        self._tally.without_skus += 1

    def repeated(self, line: OrderLine) -> None:
        if self._report_repeated:
            text = f"product {line.product_id} is repeated: its SKUs are listed where it first appears"
            self._problem(line, ProblemKind.REPEATED, text)
        self._tally.repeated += 1

    def _problem(self, line: OrderLine, kind: ProblemKind, text: str) -> None:
        self._problems.append(Problem(line.number, kind, line.product_id, text))

    def answered(self, rows: bytes, last: OrderLine | None) -> Answered:
        """Return rows with the lines counted since the last call."""
        result = Answered(rows, self._tally, self._problems, last)
        self._tally, self._problems = Tally(), []
        return result


# ---------------------------------------------------------------------------------------------------------------------
# By a temporary table


async def _by_table(
    executor: Executor, lines: Iterable[OrderLine], encoder: Encoder, done: _Completion
) -> AsyncGenerator[Answered]:
    rest = iter(lines)
    ahead = TABLE_PARTS_AHEAD if isinstance(executor, headrace.Pool | headrace.cluster.View) else 1
    running: deque[_TablePart] = deque()
    try:
        while True:
            while len(running) < ahead and (part := list(islice(rest, TABLE_PART))):
                running.append(_TablePart(executor, part, encoder))
            if not running:
                return
            first = running[0]
            async for data in first.rows():
                yield Answered(encoder.copied(data), Tally())
            without, skus = await first.task
            running.popleft()
            done.complete_part(first.lines, without, skus)
            yield done.answered(b"", first.lines[-1])
    finally:
        for part_running in running:
            part_running.task.cancel()
        await asyncio.gather(*(each.task for each in running), return_exceptions=True)


class _TablePart:
    """Looks lines up in a task, which waits if its rows are not taken."""

    MOST_WAITING = 16
    """The number of pieces of rows that wait to be taken. A piece has some hundred kilobytes at most."""

    def __init__(self, executor: Executor, lines: list[OrderLine], encoder: Encoder) -> None:
        self.lines = lines
        self._executor = executor
        self._options = encoder.copy_options
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = asyncio.Event()
        self.task = asyncio.create_task(self._look_up())

    async def rows(self) -> AsyncIterator[bytes]:
        """Yield the rows as COPY sends them, up to their end or an error, which the task has."""
        while (piece := await self._pieces.get()) is not None:
            self._room.set()
            yield piece

    async def _look_up(self) -> tuple[dict[int, bool], int]:
        """Return the lines without SKUs, as _Completion.complete_part() takes them, and the number of rows."""
        ids = [
            (index, line.product_id)
            for index, line in enumerate(self.lines)
            if line.product_id is not None and not line.repeated and line.product_id <= MAX_ID
        ]
        try:
            if not ids:
                return {}, 0
            # The two queries have one snapshot.
            async with (
                leased(self._executor) as connection,
                connection.transaction(isolation="repeatable_read"),
            ):
                await connection.execute(CREATE_BATCH_TABLE)
                await connection.copy_records_to_table(BATCH_TABLE, records=ids, schema_name="pg_temp")
                await connection.execute(f"ANALYZE pg_temp.{BATCH_TABLE}")
                without = await connection.fetch(LINES_WITHOUT_SKUS)
                status = await connection.copy_from_query(BATCH_ROWS, output=self._put, **self._options)
                return {row[0]: row[1] for row in without}, int(status.removeprefix("COPY "))
        finally:
            self._pieces.put_nowait(None)

    async def _put(self, piece: bytes) -> None:
        self._pieces.put_nowait(piece)
        while self._pieces.qsize() >= self.MOST_WAITING:
            self._room.clear()
            await self._room.wait()


# ---------------------------------------------------------------------------------------------------------------------
# Between files


@dataclass
class ProductBatch:
    """A batch between two files. It can be interrupted at any moment and resumed.

    The output is written in parts. A checkpoint file beside `output_path` records how far the batch has come, after
    each part of `checkpoint_lines` lines, and when the batch ends early; it is removed when the batch is complete. A
    resumed batch cuts the output and the report back to the last checkpoint and continues there, so nothing is lost or
    written twice. Each query sees the catalogue as it is then, also those after a resume.

    `output_format` and `input_format` are by default those that the names say. Problems are written to `report_path`,
    if there is one; see ReportFile.
    """

    input_path: Path
    output_path: Path
    resume: bool = False
    window: int = WINDOW
    checkpoint_lines: int = CHECKPOINT_LINES
    strategy: Strategy = Strategy.AUTO
    report_repeated: bool = True
    input_format: InputFormat = InputFormat.AUTO
    output_format: Format | None = None
    report_path: Path | None = None
    progress: Callable[[Tally, int], None] = lambda tally, end: None
    """Called with the tally so far, and how many bytes of the order have been read, uncompressed."""

    @property
    def checkpoint_path(self) -> Path:
        """The file that records how far the batch has come. It exists only while the batch is incomplete."""
        return Checkpoint.path_for(self.output_path)

    @timed
    async def run(self, executor: Executor, report: Report = lambda problem: None) -> Tally:
        """Answer the batch from its beginning or, if it is resumed, from its checkpoint. Return the tally of all runs.

        `report` is called with each problem, from the checkpoint on. Raises UsageError if a file cannot be opened or
        the input is empty, or if a batch into this output was interrupted and `resume` is not set; CannotResumeError if
        a file no longer matches the checkpoint; DamagedInputError if the input is damaged; and StorefrontError if the
        disk is full. After an error or a cancellation the batch can be resumed.
        """
        self._check()
        chosen, compression = output_type(self.output_path, self.output_format)
        described = f"{chosen} {compression}"
        checkpoint = Checkpoint.load(self.checkpoint_path)
        with open_order(self.input_path, self.input_format) as order:
            if order.is_empty:
                raise UsageError(f"{self.input_path} is empty: expected product ids")
            if checkpoint is not None:
                self._check_options(checkpoint, described)
                self._skip(order, checkpoint)
            output: PartedOutput
            with self._again():
                if chosen is Format.PARQUET:
                    parts = None if checkpoint is None else checkpoint.output_parts
                    output = PartedParquet(self.output_path, COLUMNS, parts)
                else:
                    offset = None if checkpoint is None else checkpoint.output_offset
                    output = PartedFile(self.output_path, chosen, compression, COLUMNS, offset)
            report_file = None
            try:
                if self.report_path is not None:
                    offset = None if checkpoint is None else checkpoint.report_offset
                    report_file = ReportFile(self.report_path, str(self.input_path), offset)
                writer = _Writer(self, output, report, report_file, described, checkpoint)
                if checkpoint is None:
                    writer.save()
                await writer.write(executor, order)
                with naming(self.output_path):
                    output.finish()
                self.checkpoint_path.unlink(missing_ok=True)
                if isinstance(output, PartedParquet):
                    shutil.rmtree(output.directory, ignore_errors=True)
            finally:
                output.close()
                if report_file is not None:
                    with suppress(OSError):
                        report_file.close()
        return writer.tally

    def _check(self) -> None:
        """Raise UsageError if the batch would destroy a file, or cannot be resumed."""
        if same_file(self.output_path, self.input_path):
            raise UsageError(f"the output would overwrite the input, {self.input_path}")
        report = self.report_path
        if report is not None and (same_file(report, self.input_path) or same_file(report, self.output_path)):
            raise UsageError(f"the report would overwrite {self.report_path}, which is the input or the output")
        for path, what in ((self.input_path, "read"), (self.output_path, "written")):
            if path.exists() and not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
                raise UsageError(f"{path} is not a file: it cannot be {what} again from the middle")
        if self.checkpoint_path.exists() and not self.resume:
            raise UsageError(
                f"a batch into {self.output_path} was interrupted: continue it with --resume, "
                f"or remove {self.checkpoint_path} to start again"
            )

    def _check_options(self, checkpoint: Checkpoint, described: str) -> None:
        """Raise UsageError if a resumed batch would write something else than it began with."""
        if checkpoint.output_type != described:
            raise UsageError(f"the batch was begun as {checkpoint.output_type}, and cannot go on as {described}")
        if checkpoint.report != self._report():
            begun = f"--report {checkpoint.report}" if checkpoint.report else "no --report"
            raise UsageError(f"the batch was begun with {begun}: resume it so")

    def _report(self) -> str | None:
        return None if self.report_path is None else str(self.report_path.absolute())

    @contextmanager
    def _again(self) -> Iterator[None]:
        """Add to an error how to start again."""
        try:
            yield
        except CannotResumeError as error:
            raise CannotResumeError(f"{error}: remove {self.checkpoint_path} to start again") from error

    def _skip(self, order: Order, checkpoint: Checkpoint) -> None:
        """Read the completed lines again, to collect their ids and to check that they have not changed."""
        last: OrderLine | None = None
        reached = 0
        while reached < checkpoint.input_offset:
            last = next(order, None)
            if last is None:
                break
            reached = last.end
        if reached != checkpoint.input_offset or (last is not None and last.digest != checkpoint.input_digest):
            raise CannotResumeError(
                f"{self.input_path} has changed since the batch was interrupted: "
                f"remove {self.checkpoint_path} to start again"
            )


async def run_on_hosts(batch: ProductBatch, database: Database, report: Report = lambda problem: None) -> Tally:
    """Run a batch on the replicas, if there are any, and go on with another host if one is lost.

    It continues at its last checkpoint, so nothing is lost or written twice. It gives up if ATTEMPTS hosts were lost in
    a row without a checkpoint. With one host there is one attempt. Strategy.TABLE writes, so it runs at the primary.
    """
    attempts = 0
    while True:
        before = Checkpoint.load(batch.checkpoint_path)
        try:
            return await batch.run(database.primary if batch.strategy is Strategy.TABLE else database.reads, report)
        except (headrace.PostgresConnectionError, headrace.InterfaceError, headrace.OperatorInterventionError) as error:
            attempts = attempts + 1 if Checkpoint.load(batch.checkpoint_path) == before else 1
            if not database.has_replicas or attempts == ATTEMPTS or not batch.checkpoint_path.exists():
                raise
            why = str(error).split("\n", 1)[0]
            logger.warning("a host was lost, and another one goes on: %s: %s", type(error).__name__, why)
        batch.resume = True
        await database.catch_up()


class _Writer:
    """Writes the answers of a batch, and saves a checkpoint after each part of them."""

    def __init__(
        self,
        batch: ProductBatch,
        output: PartedOutput,
        report: Report,
        report_file: ReportFile | None,
        described: str,
        checkpoint: Checkpoint | None,
    ) -> None:
        self._batch = batch
        self._output = output
        self._report = report
        self._report_file = report_file
        self._described = described
        self.tally = checkpoint.tally if checkpoint else Tally()
        self._offset, self._digest = (checkpoint.input_offset, checkpoint.input_digest) if checkpoint else (0, "")
        self._last: OrderLine | None = None
        # True if the files end with a whole line.
        self._between_lines = True
        self._bytes = 0
        self._lines = self.tally.lines

    async def write(self, executor: Executor, order: Order) -> None:
        """Write everything. After an error or a cancellation the last checkpoint is as late as possible."""
        batch = self._batch
        parts = answers(
            executor,
            order,
            self._output.encoder,
            window=batch.window,
            strategy=batch.strategy,
            report_repeated=batch.report_repeated,
        )
        try:
            async with aclosing(parts):
                async for part in parts:
                    self._take(part)
        except BaseException:
            if self._between_lines and self._last is not None:
                # If the disk is full, the batch is resumed from the checkpoint before.
                with suppress(OSError, StorefrontError):
                    self.save()
            raise
        self.save()

    def _take(self, part: Answered) -> None:
        self._between_lines = False
        with naming(self._batch.output_path):
            self._output.write(part.rows)
        if part.problems:
            self._tell(part.problems)
        self.tally.add(part.tally)
        self._bytes += len(part.rows)
        if part.last is None:
            return
        self._last, self._between_lines = part.last, True
        self._batch.progress(self.tally, part.last.end)
        if self.tally.lines - self._lines >= self._batch.checkpoint_lines or self._bytes >= CHECKPOINT_BYTES:
            self.save()

    def _tell(self, problems: list[Problem]) -> None:
        for problem in problems:
            self._report(problem)
        if self._report_file is not None and self._batch.report_path is not None:
            with naming(self._batch.report_path):
                for problem in problems:
                    self._report_file(problem)

    def save(self) -> None:
        """Pass the output and the report to the disk, then save a checkpoint of the last line.

        If that fails, the files are not written any more: the batch is resumed from the checkpoint before.
        """
        self._between_lines = False
        report_offset = 0
        with naming(self._batch.output_path):
            self._output.end_part()
        if self._report_file is not None and self._batch.report_path is not None:
            with naming(self._batch.report_path):
                report_offset = self._report_file.sync()
        if self._last is not None:
            self._offset, self._digest = self._last.end, self._last.digest
        state = Checkpoint(
            input_offset=self._offset,
            input_digest=self._digest,
            output_offset=self._output.offset,
            output_parts=self._output.parts,
            report_offset=report_offset,
            output_type=self._described,
            report=self._batch._report(),
            tally=self.tally,
        )
        with naming(self._batch.checkpoint_path):
            state.save(self._batch.checkpoint_path)
        self._last, self._bytes, self._lines = None, 0, self.tally.lines
        self._between_lines = True
