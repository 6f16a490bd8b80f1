"""A partner's batch: complete, in the partner's order, and resumable after an interruption."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import zstandard

import headrace
from storefront import (
    Checkpoint,
    EmbeddedServer,
    Format,
    Order,
    Problem,
    ProblemKind,
    ProductBatch,
    Sample,
    StorefrontError,
    Strategy,
    Tally,
    UsageError,
    answer,
    answers,
    batch,
    create_database,
    create_schema,
    encoder,
    load,
    look_up,
    open_connection,
)
from storefront.batch import MANY_SKUS, TABLE_LINES, WINDOW, choose_strategy
from storefront.catalogue import COLUMNS, PAGE
from storefront.rows import PartedFile, PartedParquet

ORDER = "7\n3\nabc\n999\n7\n50\n1\n"
"""An order with a malformed, an unknown and a repeated line."""

REPORTS = [
    (3, "'abc' is not a product id: expected a whole number from 1 to 9223372036854775807"),
    (4, "no product has the id 999"),
    (5, "product 7 is repeated: its SKUs are listed where it first appears"),
]


class Reports(list[tuple[int, str]]):
    """Collects the problems of a batch."""

    def __call__(self, problem: Problem) -> None:
        self.append((problem.line, problem.text))


class Interrupted(Exception):
    """Ends a batch early, in place of a real error."""


ALL = pytest.mark.parametrize("strategy", [Strategy.EACH, Strategy.GROUPED, Strategy.TABLE])
QUERIES = pytest.mark.parametrize("strategy", [Strategy.EACH, Strategy.GROUPED])


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a temporary table take so few lines that the orders of these tests need several."""
    monkeypatch.setattr(batch, "TABLE_PART", 16)


async def run(
    dsn: str,
    order: str,
    window: int = WINDOW,
    strategy: Strategy = Strategy.AUTO,
    chosen: Format = Format.CSV,
) -> tuple[Tally, str, Reports]:
    """Answer an order from memory to memory."""
    output, reports = io.BytesIO(), Reports()
    async with headrace.create_pool(dsn, min_size=1, max_size=3) as pool:
        tally = await answer(
            pool,
            Order(io.BytesIO(order.encode())),
            output.write,
            encoder(chosen, COLUMNS),
            report=reports,
            window=window,
            strategy=strategy,
        )
    return tally, output.getvalue().decode(), reports


async def answer_on(connection: headrace.Connection, lines: Iterable[Any], **options: Any) -> Tally:
    """Answer lines on a connection. The rows are thrown away."""
    options.setdefault("report", Reports())
    return await answer(connection, lines, lambda data: None, encoder(Format.CSV, COLUMNS), **options)


async def rows_of(dsn: str, *ids: int) -> list[list[str]]:
    """Return the SKUs of these products as rows of CSV."""
    async with open_connection(dsn) as connection:
        found = [await look_up(connection, product_id) for product_id in ids]
    return [["" if value is None else str(value) for value in record] for records in found for record in records]


@ALL
async def test_every_sku_comes_in_the_order_of_the_lines(dsn: str, sample: Sample, strategy: Strategy) -> None:
    ids = [*range(50, 0, -2), *range(1, 50, 2)]
    tally, output, reports = await run(dsn, "\n".join(map(str, ids)), strategy=strategy)
    assert list(csv.reader(io.StringIO(output))) == await rows_of(dsn, *ids)
    assert tally == Tally(lines=50, products=50, skus=sample.sku_count)
    assert tally.all_found
    assert reports == []


@ALL
async def test_a_line_without_skus_is_reported_by_its_number(dsn: str, strategy: Strategy) -> None:
    tally, output, reports = await run(dsn, ORDER, strategy=strategy)
    assert reports == REPORTS
    assert list(csv.reader(io.StringIO(output))) == await rows_of(dsn, 7, 3, 50, 1)
    assert (tally.lines, tally.products, tally.unknown, tally.malformed, tally.repeated) == (7, 4, 1, 1, 1)
    assert not tally.all_found


async def test_a_repeated_id_is_found(dsn: str) -> None:
    tally, _, _ = await run(dsn, "1\n1\n")
    assert tally.all_found


async def test_a_repeated_unknown_id_is_reported_twice(dsn: str) -> None:
    tally, _, reports = await run(dsn, "999\n999\n")
    assert [line for line, _ in reports] == [1, 2]
    assert (tally.unknown, tally.repeated) == (1, 1)


@ALL
async def test_an_id_that_no_column_can_hold_does_not_fail_the_batch(dsn: str, strategy: Strategy) -> None:
    beyond_integer, largest = 2**31, 2**63 - 1
    order = f"1\n{beyond_integer}\n{largest}\n{largest + 1}\n{largest}\n2\n"
    tally, output, reports = await run(dsn, order, strategy=strategy)
    assert reports == [
        (2, f"no product has the id {beyond_integer}"),
        (3, f"no product has the id {largest}"),
        (4, f"'{largest + 1}' is not a product id: expected a whole number from 1 to {largest}"),
        (5, f"no product has the id {largest}"),
    ]
    assert list(csv.reader(io.StringIO(output))) == await rows_of(dsn, 1, 2)
    assert (tally.products, tally.unknown, tally.malformed, tally.repeated) == (2, 3, 1, 0)


@ALL
async def test_any_name_is_written_as_csv(dsn: str, strategy: Strategy) -> None:
    names = ['a "quoted", name\nof two lines', "", '"', "carriage\rreturn", " blanks ", "Größe €"]
    async with open_connection(dsn) as connection:
        await connection.executemany(
            "UPDATE product SET product_name = $2 WHERE product_id = $1", list(enumerate(names, start=1))
        )
        await connection.execute(
            "UPDATE product_color SET product_color_name = $1 WHERE product_color_id = 1", 'a "b", c'
        )
    _, output, _ = await run(dsn, "1\n2\n3\n4\n5\n6\n", strategy=strategy)
    assert list(csv.reader(io.StringIO(output, newline=""))) == await rows_of(dsn, *range(1, len(names) + 1))


@ALL
async def test_a_product_without_skus_is_found_and_reported(dsn: str, strategy: Strategy) -> None:
    async with open_connection(dsn) as connection:
        await connection.execute("INSERT INTO product (product_name, brand_id) VALUES ('bare', 1)")
    tally, output, reports = await run(dsn, "51\n", strategy=strategy)
    assert (output, reports) == ("", [(1, "product 51 has no SKUs")])
    assert (tally.products, tally.without_skus, tally.all_found) == (1, 1, True)


@ALL
@pytest.mark.parametrize("more", [PAGE // 4, PAGE, 2 * PAGE])
async def test_a_product_of_more_than_a_page_is_whole(dsn: str, strategy: Strategy, more: int) -> None:
    async with open_connection(dsn) as connection:
        await connection.execute("DELETE FROM sku WHERE product_id = 2")
        await connection.execute(
            "INSERT INTO sku (product_id, product_size_id, product_color_id)"
            f" SELECT 2, 1, 1 FROM generate_series(1, {more})"
        )
    _, output, _ = await run(dsn, "1\n2\n3\n", strategy=strategy)
    assert list(csv.reader(io.StringIO(output))) == await rows_of(dsn, 1, 2, 3)


async def test_an_empty_order_is_answered(dsn: str) -> None:
    assert await run(dsn, "") == (Tally(), "", [])


@ALL
@pytest.mark.parametrize("window", [1, 2, 1_000])
async def test_the_window_does_not_change_the_answer(dsn: str, window: int, strategy: Strategy) -> None:
    assert await run(dsn, ORDER, window=window, strategy=strategy) == await run(dsn, ORDER)


@ALL
async def test_an_order_that_cannot_be_read_to_its_end_is_an_error(dsn: str, strategy: Strategy) -> None:
    def lines() -> Iterator[Any]:
        yield from Order(io.BytesIO(b"1\n2\n3\n"))
        raise OSError(5, "Input/output error")

    async with open_connection(dsn) as connection:
        with pytest.raises(OSError, match="Input/output error"):
            await answer_on(connection, lines(), strategy=strategy)
        assert await connection.fetchval("SELECT count(*) FROM product") == 50


@ALL
async def test_a_batch_that_fails_in_the_middle_leaves_nothing_running(dsn: str, strategy: Strategy) -> None:
    def interrupt(problem: Problem) -> None:
        raise Interrupted

    order = "\n".join([*map(str, range(1, 30)), "x", *map(str, range(30, 51))])
    async with headrace.create_pool(dsn, min_size=1, max_size=3) as pool:
        before = len(asyncio.all_tasks())
        with pytest.raises(Interrupted):
            await answer(
                pool,
                Order(io.BytesIO(order.encode())),
                lambda data: None,
                encoder(Format.CSV, COLUMNS),
                report=interrupt,
                window=8,
                strategy=strategy,
            )
        assert await pool.fetchval("SELECT count(*) FROM product") == 50
        # The driver may still be cancelling a query, and the pool connecting.
        async with asyncio.timeout(60):
            while len(asyncio.all_tasks()) > before:
                await asyncio.sleep(0.01)


@ALL
async def test_a_stream_left_early_leaves_nothing_behind(dsn: str, strategy: Strategy) -> None:
    lines = Order(io.BytesIO(b"".join(b"%d\n" % number for number in range(1, 51))))
    async with open_connection(dsn) as connection:
        async with aclosing(answers(connection, lines, encoder(Format.CSV, COLUMNS), strategy=strategy)) as parts:
            async for part in parts:
                if part.rows:
                    break
        assert await connection.fetchval("SELECT count(*) FROM pg_class WHERE relname = 'storefront_batch'") == 0
        assert not connection.is_in_transaction()


@ALL
async def test_lines_are_complete_with_their_rows(dsn: str, strategy: Strategy) -> None:
    rows, tally = 0, Tally()
    lines = Order(io.BytesIO(ORDER.encode()))
    async with (
        open_connection(dsn) as connection,
        aclosing(answers(connection, lines, encoder(Format.CSV, COLUMNS), window=2, strategy=strategy)) as parts,
    ):
        async for part in parts:
            rows += part.rows.count(b"\n")
            tally.add(part.tally)
            if part.last is not None:
                assert (part.last.number, rows) == (tally.lines, tally.skus)
    assert part.last is not None
    assert part.last.number == 7


@ALL
async def test_many_lines_in_any_mixture_are_answered_as_one_by_one(dsn: str, strategy: Strategy) -> None:
    choose = random.Random(3)
    lines = [choose.choice(["x", "", "999", str(choose.randint(1, 60))]) for _ in range(1_500)]
    expected = await run(dsn, "\n".join(lines), window=1, strategy=Strategy.EACH)
    assert await run(dsn, "\n".join(lines), strategy=strategy) == expected
    known = dict.fromkeys(int(line) for line in lines if line.isdigit() and int(line) <= 50)
    assert list(csv.reader(io.StringIO(expected[1]))) == await rows_of(dsn, *known)


async def test_repeated_ids_can_be_counted_without_a_report(dsn: str) -> None:
    reports = Reports()
    async with open_connection(dsn) as connection:
        tally = await answer_on(connection, Order(io.BytesIO(ORDER.encode())), report=reports, report_repeated=False)
    assert tally.repeated == 1
    assert reports == REPORTS[:2]


@ALL
async def test_ndjson_has_the_rows_of_csv(dsn: str, strategy: Strategy) -> None:
    async with open_connection(dsn) as connection:
        await connection.execute("UPDATE product SET product_name = $1 WHERE product_id = 3", 'a "quoted"\\\tname\x01')
    _, written, _ = await run(dsn, ORDER, strategy=strategy, chosen=Format.NDJSON)
    objects = [json.loads(line) for line in written.splitlines()]
    assert [[str(value) for value in each.values()] for each in objects] == await rows_of(dsn, 7, 3, 50, 1)
    assert all(tuple(each) == COLUMNS for each in objects)
    assert objects[0]["product_id"] == 7


async def test_problems_are_told_apart(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        await connection.execute("INSERT INTO product (product_name, brand_id) VALUES ('bare', 1)")
        problems: list[Problem] = []
        await answer_on(connection, Order(io.BytesIO(b"x\n999\n51\n1\n1\n")), report=problems.append)
    assert [(each.line, each.kind, each.product_id) for each in problems] == [
        (1, ProblemKind.MALFORMED, None),
        (2, ProblemKind.UNKNOWN, 999),
        (3, ProblemKind.WITHOUT_SKUS, 51),
        (5, ProblemKind.REPEATED, 1),
    ]


async def test_a_strategy_is_chosen_for_lines_and_skus(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        assert await choose_strategy(connection) is Strategy.GROUPED, "the tables were never analyzed"
        await connection.execute("ANALYZE")
        assert await choose_strategy(connection, TABLE_LINES - 1) is Strategy.GROUPED
        assert await choose_strategy(connection, TABLE_LINES) is Strategy.TABLE
        await connection.execute(
            "INSERT INTO sku (product_id, product_size_id, product_color_id)"
            f" SELECT 1 + i % 50, 1, 1 FROM generate_series(1, {50 * MANY_SKUS}) AS i"
        )
        await connection.execute("ANALYZE")
        assert await choose_strategy(connection) is Strategy.EACH
        await connection.execute("DELETE FROM sku; DELETE FROM product")
        await connection.execute("VACUUM ANALYZE product")
        assert await choose_strategy(connection) is Strategy.GROUPED


async def test_no_table_is_made_if_none_can_be_made(dsn: str) -> None:
    """A standby has no temporary tables, as in every transaction that is read-only."""
    async with open_connection(dsn) as connection:
        await connection.execute("SET default_transaction_read_only = on")
        assert await choose_strategy(connection, TABLE_LINES) is Strategy.GROUPED


async def test_a_long_order_is_answered_by_tables(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "TABLE_LINES", 7)
    queries: list[str] = []
    async with open_connection(dsn) as connection:
        connection.add_query_logger(lambda query: queries.append(query.query))
        await answer_on(connection, Order(io.BytesIO(ORDER.encode())))
    assert any("CREATE TEMPORARY TABLE" in query for query in queries)


async def test_no_window_is_an_error(dsn: str) -> None:
    with pytest.raises(UsageError, match="window must be at least 1 line, got 0"):
        await run(dsn, ORDER, window=0)


class Watched:
    """Wraps a connection's fetch_each and counts its queries that are under way."""

    def __init__(self, connection: headrace.Connection) -> None:
        self.connection = connection
        self.running = self.most = 0

    async def fetch_each(
        self, query: str, args: Iterable[tuple[object, ...]], *, window: int
    ) -> AsyncGenerator[list[headrace.Record]]:
        def counted() -> Iterator[tuple[object, ...]]:
            for each in args:
                self.running += 1
                self.most = max(self.most, self.running)
                yield each

        async with aclosing(self.connection.fetch_each(query, counted(), window=window)) as answers:
            async for rows in answers:
                yield rows
                self.running -= 1


@pytest.mark.parametrize(("strategy", "queries"), [(Strategy.EACH, 32), (Strategy.GROUPED, 2)])
async def test_lines_are_read_and_looked_up_no_further_than_the_window(
    dsn: str, strategy: Strategy, queries: int
) -> None:
    done = 0
    ahead: list[int] = []

    def lines(order: Order) -> Iterator[Any]:
        for line in order:
            ahead.append(line.number - done)
            yield line

    order = Order(io.BytesIO(b"".join(b"%d\n" % (1 + i % 1_000) for i in range(3_000))))
    async with open_connection(dsn) as connection:
        watched: Any = Watched(connection)
        parts = answers(watched, lines(order), encoder(Format.CSV, COLUMNS), window=512, strategy=strategy)
        async with aclosing(parts):
            async for part in parts:
                done += part.tally.lines
    assert done == 3_000
    assert watched.most == queries
    # A line that repeats an id is read ahead too.
    assert max(ahead) <= 512


async def test_lines_are_read_no_further_than_the_parts_under_way(dsn: str) -> None:
    done = 0
    ahead: list[int] = []

    def lines(order: Order) -> Iterator[Any]:
        for line in order:
            ahead.append(line.number - done)
            yield line

    order = Order(io.BytesIO(b"".join(b"%d\n" % (1 + i % 1_000) for i in range(300))))
    async with headrace.create_pool(dsn, min_size=1, max_size=3) as pool:
        parts = answers(pool, lines(order), encoder(Format.CSV, COLUMNS), strategy=Strategy.TABLE)
        async with aclosing(parts):
            async for part in parts:
                done += part.tally.lines
    assert done == 300
    assert max(ahead) <= batch.TABLE_PARTS_AHEAD * batch.TABLE_PART


@pytest.fixture
def order(tmp_path: Path) -> Path:
    path = tmp_path / "order.txt"
    path.write_text(ORDER)
    return path


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "skus.csv"


# ---------------------------------------------------------------------------------------------------------------------
# Between files

OUTPUTS = pytest.mark.parametrize("name", ["skus.csv", "skus.csv.gz", "skus.ndjson.zst", "skus.parquet"])


def content(path: Path) -> str:
    """Return the rows of an output, however it is written."""
    if path.suffix == ".parquet":
        return "".join(f"{row}\n" for row in pyarrow.parquet.read_table(path).to_pylist())
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    elif path.suffix == ".zst":
        data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read()
    return data.decode()


async def complete(dsn: str, job: ProductBatch, reports: Callable[[Problem], None] = lambda problem: None) -> Tally:
    async with headrace.create_pool(dsn, min_size=1, max_size=3) as pool:
        return await job.run(pool, reports)


async def whole(dsn: str, order: Path, tmp_path: Path, name: str = "skus.csv") -> tuple[str, Tally]:
    """Return the rows and the tally of an order that is not interrupted."""
    path = tmp_path / f"whole-{name}"
    tally = await complete(dsn, ProductBatch(order, path))
    return content(path), tally


def interrupt_at(line: int) -> Callable[[Problem], None]:
    """Return a report that raises Interrupted at a line."""

    def report(problem: Problem) -> None:
        if problem.line == line:
            raise Interrupted

    return report


def lines_done(output: Path) -> int:
    """Return how many lines the checkpoint of an output counts."""
    checkpoint = Checkpoint.load(Checkpoint.path_for(output))
    assert checkpoint is not None
    return checkpoint.tally.lines


@OUTPUTS
async def test_a_batch_between_files(dsn: str, order: Path, tmp_path: Path, name: str) -> None:
    reports, output = Reports(), tmp_path / name
    tally = await complete(dsn, ProductBatch(order, output), reports)
    assert reports == REPORTS
    expected = await rows_of(dsn, 7, 3, 50, 1)
    assert (tally.lines, tally.skus) == (7, len(expected))
    assert {path.name for path in tmp_path.iterdir()} == {order.name, name}
    lines = content(output).splitlines()
    if ".csv" in name:
        header, *rows = csv.reader(lines)
        assert tuple(header) == COLUMNS
    else:
        objects: list[dict[str, object]] = [json.loads(line.replace("'", '"')) for line in lines]
        rows = [[str(value) for value in each.values()] for each in objects]
    assert rows == expected


@OUTPUTS
async def test_a_batch_without_any_row_is_a_whole_file(dsn: str, order: Path, tmp_path: Path, name: str) -> None:
    order.write_text("x\n")
    tally = await complete(dsn, ProductBatch(order, tmp_path / name))
    assert tally == Tally(lines=1, malformed=1)
    assert content(tmp_path / name) == (",".join(COLUMNS) + "\n" if ".csv" in name else "")


@OUTPUTS
@ALL
async def test_an_interrupted_batch_is_resumed(
    dsn: str, order: Path, tmp_path: Path, name: str, strategy: Strategy
) -> None:
    order.write_text("".join(f"{number}\n" for number in range(1, 41)) + "x\n7\n999\n50\n")
    output, report = tmp_path / name, tmp_path / "report.txt"
    job = ProductBatch(order, output, window=4, checkpoint_lines=8, strategy=strategy, report_path=report)
    with pytest.raises(Interrupted):
        await complete(dsn, job, interrupt_at(43))
    assert 0 < lines_done(output) < 43
    job.resume = True
    tally = await complete(dsn, job)
    assert (content(output), tally) == await whole(dsn, order, tmp_path, name)
    assert [line.partition(": ")[0] for line in report.read_text().splitlines()] == [
        f"{order}:{n}" for n in (41, 42, 43)
    ]
    assert {path.name for path in tmp_path.iterdir()} == {order.name, name, "report.txt", f"whole-{name}"}


@ALL
async def test_a_cancelled_batch_is_resumed(
    dsn: str, order: Path, output: Path, tmp_path: Path, strategy: Strategy
) -> None:
    running: list[asyncio.Task[Tally]] = []

    def cancel(problem: Problem) -> None:
        running[0].cancel()

    job = ProductBatch(order, output, window=1, strategy=strategy)
    running.append(asyncio.create_task(complete(dsn, job, cancel)))
    with pytest.raises(asyncio.CancelledError):
        await running[0]
    tally = await complete(dsn, ProductBatch(order, output, resume=True))
    assert (output.read_text(), tally) == await whole(dsn, order, tmp_path)


async def test_a_batch_is_resumed_after_a_lost_connection(dsn: str, order: Path, output: Path, tmp_path: Path) -> None:
    order.write_text("\n".join(map(str, range(1, 51))))
    async with open_connection(dsn) as admin, open_connection(dsn) as connection:

        class Failing(Watched):
            async def fetch_each(self, *args: Any, **options: Any) -> AsyncGenerator[list[headrace.Record]]:
                answered = 0
                async with aclosing(super().fetch_each(*args, **options)) as replies:
                    async for rows in replies:
                        yield rows
                        answered += 1
                        if answered == 20:
                            await admin.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())

        failing: Any = Failing(connection)
        with pytest.raises((headrace.PostgresError, headrace.InterfaceError, OSError)):
            await ProductBatch(order, output, window=4, strategy=Strategy.EACH).run(failing)
    assert 20 <= lines_done(output) < 50
    tally = await complete(dsn, ProductBatch(order, output, resume=True))
    assert (output.read_text(), tally) == await whole(dsn, order, tmp_path)


@ALL
async def test_a_batch_is_resumed_by_another_strategy(
    dsn: str, order: Path, output: Path, tmp_path: Path, strategy: Strategy
) -> None:
    with pytest.raises(Interrupted):
        await complete(dsn, ProductBatch(order, output, window=1, checkpoint_lines=1), interrupt_at(4))
    assert lines_done(output) == 3
    tally = await complete(dsn, ProductBatch(order, output, resume=True, strategy=strategy))
    assert (output.read_text(), tally) == await whole(dsn, order, tmp_path)


class Crashes:
    """Keeps a copy of a directory as a kill would leave it, before and after each call that changes what is kept."""

    def __init__(self, directory: Path, copies: Path, patch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.copies = copies
        self.states: list[Path] = []
        for owner, name in ((os, "fsync"), (os, "replace"), (os, "unlink"), (os, "rmdir")):
            patch.setattr(owner, name, self._watched(getattr(owner, name)))

    def _watched(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **options: Any) -> Any:
            self._keep()
            result = function(*args, **options)
            self._keep()
            return result

        return watched

    def _keep(self) -> None:
        copy = self.copies / str(len(self.states))
        subprocess.run(["cp", "-r", self.directory, copy], check=True)
        self.states.append(copy)


@OUTPUTS
async def test_a_batch_is_resumed_after_a_kill_at_any_moment(
    dsn: str, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, copies = tmp_path / "work", tmp_path / "copies"
    work.mkdir()
    copies.mkdir()
    text = "".join(f"{number}\n" for number in range(1, 13)) + "x\n7\n999\n50\n"
    (work / "order.txt").write_text(text)

    def job(directory: Path, resume: bool) -> ProductBatch:
        return ProductBatch(
            directory / "order.txt",
            directory / name,
            resume=resume,
            window=1,
            checkpoint_lines=6,
            report_path=directory / "report.ndjson",
        )

    with monkeypatch.context() as patch:
        crashes = Crashes(work, copies, patch)
        tally = await complete(dsn, job(work, False))
    rows, report = content(work / name), (work / "report.ndjson").read_text()
    assert report.count("\n") == 3
    assert len(crashes.states) > 20
    reached = set()
    for state in crashes.states:
        path = state / "order.txt"
        # The checkpoint names the report by its path.
        checkpoint = Checkpoint.path_for(state / name)
        if checkpoint.exists():
            reached.add(lines_done(state / name))
            checkpoint.write_text(checkpoint.read_text().replace(str(work), str(state)))
        assert await complete(dsn, job(state, True)) == tally
        assert content(state / name) == rows
        assert (state / "report.ndjson").read_text() == report
        assert {file.name for file in path.parent.iterdir()} == {"order.txt", name, "report.ndjson"}
    assert reached == {0, 6, 12, 16}


PROGRAM = """
import asyncio, sys
from pathlib import Path
import headrace
from storefront import ProductBatch, Strategy, batch

batch.TABLE_PART = 64

async def main(dsn, order, output, strategy):
    async with headrace.create_pool(dsn, min_size=1, max_size=3) as pool:
        job = ProductBatch(Path(order), Path(output), resume=True, window=64, checkpoint_lines=64,
                           strategy=Strategy(strategy), report_path=Path(output + ".txt"))
        await job.run(pool)

asyncio.run(main(*sys.argv[1:]))
"""
"""Resumes a batch with many checkpoints."""


def random_order(seed: int, lines: int) -> str:
    """Return an order with malformed, unknown and repeated ids."""
    choose = random.Random(seed)
    return "".join(choose.choice(["x\n", "999\n", *[f"{choose.randint(1, 10_000)}\n"] * 20]) for _ in range(lines))


@pytest.mark.parametrize(("name", "strategy"), [("skus.csv.gz", "grouped"), ("skus.parquet", "table")])
async def test_a_batch_that_is_killed_again_and_again_loses_nothing(
    dsn: str, order: Path, tmp_path: Path, name: str, strategy: str
) -> None:
    order.write_text(random_order(5, 3_000))
    async with open_connection(dsn) as connection:
        await connection.execute(
            "INSERT INTO product (product_name, brand_id) SELECT 'p' || i, 1 FROM generate_series(51, 9000) AS i;"
            "INSERT INTO sku (product_id, product_size_id, product_color_id) SELECT product_id, 1, 2 FROM product"
        )
    output, choose, kills = tmp_path / name, random.Random(1), 0
    while True:
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, dsn, str(order), str(output), strategy])
        wanted = choose.randint(2, 9)
        checkpoints = set[int]()
        try:
            while process.poll() is None and len(checkpoints) < wanted:
                # The program itself goes on meanwhile, so the kill comes at any moment after a checkpoint.
                # It may end just now, and take its checkpoint away.
                if (checkpoint := Checkpoint.load(Checkpoint.path_for(output))) is not None:
                    checkpoints.add(checkpoint.tally.lines)
                await asyncio.sleep(0.001)
            if process.poll() is not None:
                break
            kills += 1
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0
    assert kills >= 2
    report = tmp_path / "whole.txt"
    await complete(dsn, ProductBatch(order, tmp_path / f"whole-{name}", report_path=report))
    assert content(output) == content(tmp_path / f"whole-{name}")
    assert (tmp_path / f"{name}.txt").read_text() == report.read_text()


@pytest.mark.parametrize("strategy", ["grouped", "table"])
@pytest.mark.parametrize("kill", [False, True], ids=["restart", "kill"])
async def test_a_batch_is_resumed_when_the_server_is_there_again(
    order: Path, output: Path, tmp_path: Path, strategy: str, kill: bool
) -> None:
    order.write_text("".join(f"{1 + number % 300}\n" for number in range(2_000)))
    with EmbeddedServer(tmp_path / "server") as server:
        dsn = server.dsn("products")
        await create_database(dsn)
        async with open_connection(dsn) as connection:
            await create_schema(connection)
            await load(connection, Sample(brand_count=10, product_count=250, sku_count=5_000))
            # The embedded server loses its last commits if it is killed.
            await connection.execute("CHECKPOINT")
        choose, ended = random.Random(2), 0
        job = ProductBatch(order, output, window=64, checkpoint_lines=16, strategy=Strategy(strategy))
        while True:
            begun = lines_done(output) if Checkpoint.path_for(output).exists() else 0
            end_at = [begun + choose.randint(50, 900)]

            def end_server(tally: Tally, end: int, end_at: list[int] = end_at) -> None:
                nonlocal ended
                if end_at and tally.lines >= end_at[0]:
                    end_at.clear()
                    if kill:
                        assert server.pid is not None
                        os.kill(server.pid, signal.SIGKILL)
                    server.stop()
                    server.start()
                    ended += 1

            job.progress = end_server
            try:
                tally = await complete(dsn, job)
                break
            except (headrace.PostgresError, headrace.InterfaceError, OSError):
                # The pool repeats queries on a new connection. It does not repeat a transaction.
                job.resume = True
        assert ended >= 1
        assert (output.read_text(), tally) == await whole(dsn, order, tmp_path)


async def test_an_interrupted_batch_is_not_restarted_by_accident(dsn: str, order: Path, output: Path) -> None:
    with pytest.raises(Interrupted):
        await complete(dsn, ProductBatch(order, output), interrupt_at(4))
    before = output.read_bytes()
    with pytest.raises(UsageError, match="was interrupted: continue it with --resume"):
        await complete(dsn, ProductBatch(order, output))
    assert output.read_bytes() == before


async def begin(dsn: str, order: Path, output: Path, **options: Any) -> None:
    """Interrupt a batch after the third line."""
    with pytest.raises(Interrupted):
        await complete(dsn, ProductBatch(order, output, window=1, checkpoint_lines=1, **options), interrupt_at(4))


@pytest.mark.parametrize("changed", ["8\n3\nabc\n999\n", "7\n", "\n"])
async def test_an_order_that_has_changed_is_not_resumed(dsn: str, order: Path, output: Path, changed: str) -> None:
    await begin(dsn, order, output)
    order.write_text(changed)
    with pytest.raises(StorefrontError, match=r"order.txt has changed since the batch was interrupted"):
        await complete(dsn, ProductBatch(order, output, resume=True))


async def test_an_order_that_has_grown_is_resumed(dsn: str, order: Path, output: Path, tmp_path: Path) -> None:
    await begin(dsn, order, output)
    order.write_text(ORDER + "2\n")
    tally = await complete(dsn, ProductBatch(order, output, resume=True))
    assert (output.read_text(), tally) == await whole(dsn, order, tmp_path)


async def test_an_output_that_has_lost_rows_is_not_resumed(dsn: str, order: Path, output: Path, tmp_path: Path) -> None:
    await begin(dsn, order, output)
    output.write_bytes(output.read_bytes()[:-500])
    with pytest.raises(
        StorefrontError, match=r"shorter than when the batch was interrupted: remove .*skus.csv.checkpoint"
    ):
        await complete(dsn, ProductBatch(order, output, resume=True))
    await begin(dsn, order, tmp_path / "skus.parquet")
    (tmp_path / "skus.parquet.parts" / "00000001.parquet").unlink()
    with pytest.raises(StorefrontError, match=r"00000001.parquet is missing, .*: remove .*skus.parquet.checkpoint"):
        await complete(dsn, ProductBatch(order, tmp_path / "skus.parquet", resume=True))


async def test_a_batch_is_resumed_as_it_was_begun(dsn: str, order: Path, output: Path, tmp_path: Path) -> None:
    await begin(dsn, order, output, report_path=tmp_path / "report")
    with pytest.raises(UsageError, match="was begun as csv none, and cannot go on as ndjson none"):
        await complete(dsn, ProductBatch(order, output, resume=True, output_format=Format.NDJSON))
    with pytest.raises(UsageError, match=r"was begun with --report .*/report: resume it so"):
        await complete(dsn, ProductBatch(order, output, resume=True))


async def test_a_file_that_is_not_a_checkpoint_is_reported(dsn: str, order: Path, output: Path) -> None:
    Checkpoint.path_for(output).write_text("{}")
    with pytest.raises(StorefrontError, match=r"skus.csv.checkpoint is not a checkpoint"):
        await complete(dsn, ProductBatch(order, output, resume=True))


async def test_resuming_without_a_checkpoint_starts_the_batch(
    dsn: str, order: Path, output: Path, tmp_path: Path
) -> None:
    tally = await complete(dsn, ProductBatch(order, output, resume=True))
    assert (output.read_text(), tally) == await whole(dsn, order, tmp_path)


async def test_the_output_is_not_the_input(dsn: str, order: Path) -> None:
    with pytest.raises(UsageError, match="the output would overwrite the input"):
        await complete(dsn, ProductBatch(order, order.parent / "." / order.name))
    assert order.read_text() == ORDER


async def test_a_file_that_cannot_be_opened_is_reported(dsn: str, order: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*missing.txt: No such file"):
        await complete(dsn, ProductBatch(tmp_path / "missing.txt", tmp_path / "out.csv"))
    for name in ("out.csv", "out.parquet"):
        with pytest.raises(UsageError, match=rf"cannot write .*{name}.*: No such file"):
            await complete(dsn, ProductBatch(order, tmp_path / "missing" / name))
    order.write_text("")
    with pytest.raises(UsageError, match=r"order.txt is empty: expected product ids"):
        await complete(dsn, ProductBatch(order, tmp_path / "out.csv"))
    assert [path.name for path in tmp_path.iterdir()] == [order.name]


async def test_a_pipe_cannot_be_resumed(dsn: str, order: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match=r"pipe is not a file: it cannot be read again from the middle"):
        await complete(dsn, ProductBatch(tmp_path / "pipe", tmp_path / "out.csv"))
    with pytest.raises(UsageError, match=r"pipe is not a file: it cannot be written again from the middle"):
        await complete(dsn, ProductBatch(order, tmp_path / "pipe"))


@contextmanager
def failing(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, fails: Callable[[int], bool]
) -> Iterator[list[Any]]:
    """Let the calls of a function find the disk full whose numbers `fails` chooses. The block gets all calls."""
    real, calls = getattr(owner, name), []

    def function(argument: Any) -> None:
        calls.append(argument)
        if fails(len(calls)):
            raise OSError(28, "No space left on device")
        real(argument)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, function)
        yield calls


@pytest.mark.parametrize("name", ["skus.csv", "skus.csv.gz", "skus.parquet"])
async def test_a_full_disk_loses_nothing(
    dsn: str, order: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third time that something is passed to the disk, it is full, and stays so."""
    order.write_text("".join(f"{number}\n" for number in range(1, 51)))
    output = tmp_path / name
    with failing(monkeypatch, os, "fsync", lambda call: call > 6):
        with pytest.raises(StorefrontError, match=rf"cannot write .*{name}.*: No space left on device"):
            await complete(dsn, ProductBatch(order, output, window=1, checkpoint_lines=10))
    assert lines_done(output) in (10, 20)
    tally = await complete(dsn, ProductBatch(order, output, resume=True))
    assert (content(output), tally) == await whole(dsn, order, tmp_path, name)


@pytest.mark.parametrize(("name", "kind"), [("skus.csv", PartedFile), ("skus.parquet", PartedParquet)])
async def test_a_part_that_does_not_fit_on_the_disk_is_not_ended_a_second_time(
    dsn: str, order: Path, tmp_path: Path, name: str, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows may be lost in part, so nothing after it may be a checkpoint."""
    order.write_text("".join(f"{number}\n" for number in range(1, 51)))
    output = tmp_path / name
    with failing(monkeypatch, kind, "end_part", lambda call: call == 3) as calls:
        with pytest.raises(StorefrontError, match=rf"cannot write .*{name}: No space left on device"):
            await complete(dsn, ProductBatch(order, output, window=1, checkpoint_lines=10))
    assert len(calls) == 3
    tally = await complete(dsn, ProductBatch(order, output, resume=True))
    assert (content(output), tally) == await whole(dsn, order, tmp_path, name)
