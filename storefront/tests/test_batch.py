"""A partner's batch: complete, in the partner's order, and resumable after an interruption."""

from __future__ import annotations

import asyncio
import csv
import io
import random
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import headrace
from storefront import (
    Checkpoint,
    Order,
    ProductBatch,
    RowWriter,
    Sample,
    StorefrontError,
    Strategy,
    Tally,
    UsageError,
    answer,
    look_up,
    open_connection,
)
from storefront.batch import MANY_SKUS, WINDOW, choose_strategy
from storefront.catalogue import COLUMNS, PAGE

ORDER = "7\n3\nabc\n999\n7\n50\n1\n"
"""An order with a malformed, an unknown and a repeated line."""

REPORTS = [
    (3, "'abc' is not a product id: expected a whole number from 1 to 9223372036854775807"),
    (4, "no product has the id 999"),
    (5, "product 7 is repeated: its SKUs are listed where it first appears"),
]


class Reports(list[tuple[int, str]]):
    """Collects the reports of a batch."""

    def __call__(self, line: int, problem: str) -> None:
        self.append((line, problem))


class Interrupted(Exception):
    """Ends a batch early, in place of a real error."""


BOTH = pytest.mark.parametrize("strategy", [Strategy.EACH, Strategy.GROUPED])


async def run(
    dsn: str, order: str, window: int = WINDOW, strategy: Strategy = Strategy.AUTO
) -> tuple[Tally, str, Reports]:
    """Answer an order from memory to memory."""
    output, reports = io.BytesIO(), Reports()
    async with headrace.create_pool(dsn, min_size=1, max_size=3) as pool:
        tally = await answer(
            pool,
            Order(io.BytesIO(order.encode())),
            RowWriter(output),
            report=reports,
            tally=Tally(),
            window=window,
            strategy=strategy,
        )
    return tally, output.getvalue().decode(), reports


async def rows_of(dsn: str, *ids: int) -> list[list[str]]:
    """Return the SKUs of these products as rows of CSV."""
    async with open_connection(dsn) as connection:
        found = [await look_up(connection, product_id) for product_id in ids]
    return [["" if value is None else str(value) for value in record] for records in found for record in records]


@BOTH
async def test_every_sku_comes_in_the_order_of_the_lines(dsn: str, sample: Sample, strategy: Strategy) -> None:
    ids = [*range(50, 0, -2), *range(1, 50, 2)]
    tally, output, reports = await run(dsn, "\n".join(map(str, ids)), strategy=strategy)
    assert list(csv.reader(io.StringIO(output))) == await rows_of(dsn, *ids)
    assert tally == Tally(lines=50, products=50, skus=sample.sku_count)
    assert tally.all_found
    assert reports == []


@BOTH
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


@BOTH
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


@BOTH
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


@BOTH
async def test_a_product_without_skus_is_found_and_reported(dsn: str, strategy: Strategy) -> None:
    async with open_connection(dsn) as connection:
        await connection.execute("INSERT INTO product (product_name, brand_id) VALUES ('bare', 1)")
    tally, output, reports = await run(dsn, "51\n", strategy=strategy)
    assert (output, reports) == ("", [(1, "product 51 has no SKUs")])
    assert (tally.products, tally.without_skus, tally.all_found) == (1, 1, True)


@BOTH
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


@BOTH
@pytest.mark.parametrize("window", [1, 2, 1_000])
async def test_the_window_does_not_change_the_answer(dsn: str, window: int, strategy: Strategy) -> None:
    assert await run(dsn, ORDER, window=window, strategy=strategy) == await run(dsn, ORDER)


@BOTH
async def test_an_order_that_cannot_be_read_to_its_end_is_an_error(dsn: str, strategy: Strategy) -> None:
    def lines() -> Iterator[Any]:
        yield from Order(io.BytesIO(b"1\n2\n3\n"))
        raise OSError(5, "Input/output error")

    async with open_connection(dsn) as connection:
        with pytest.raises(OSError, match="Input/output error"):
            await answer(
                connection,
                lines(),
                RowWriter(io.BytesIO()),
                report=Reports(),
                tally=Tally(),
                strategy=strategy,
            )
        assert await connection.fetchval("SELECT count(*) FROM product") == 50


@BOTH
async def test_a_batch_that_fails_in_the_middle_leaves_nothing_running(dsn: str, strategy: Strategy) -> None:
    def interrupt(number: int, problem: str) -> None:
        raise Interrupted

    order = "\n".join([*map(str, range(1, 30)), "x", *map(str, range(30, 51))])
    async with open_connection(dsn) as connection:
        with pytest.raises(Interrupted):
            await answer(
                connection,
                Order(io.BytesIO(order.encode())),
                RowWriter(io.BytesIO()),
                report=interrupt,
                tally=Tally(),
                window=8,
                strategy=strategy,
            )
        assert len(asyncio.all_tasks()) == 1
        assert await connection.fetchval("SELECT count(*) FROM product") == 50


@BOTH
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
        tally = await answer(
            connection,
            Order(io.BytesIO(ORDER.encode())),
            RowWriter(io.BytesIO()),
            report=reports,
            tally=Tally(),
            report_repeated=False,
        )
    assert tally.repeated == 1
    assert reports == REPORTS[:2]


async def test_ids_are_grouped_unless_products_have_many_skus(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        assert await choose_strategy(connection) is Strategy.GROUPED, "the tables were never analyzed"
        await connection.execute("ANALYZE")
        assert await choose_strategy(connection) is Strategy.GROUPED
        await connection.execute(
            "INSERT INTO sku (product_id, product_size_id, product_color_id)"
            f" SELECT 1 + i % 50, 1, 1 FROM generate_series(1, {50 * MANY_SKUS}) AS i"
        )
        await connection.execute("ANALYZE")
        assert await choose_strategy(connection) is Strategy.EACH
        await connection.execute("DELETE FROM sku; DELETE FROM product")
        await connection.execute("VACUUM ANALYZE product")
        assert await choose_strategy(connection) is Strategy.GROUPED


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
    written = RowWriter(io.BytesIO())
    done: list[int] = []
    ahead: list[int] = []

    def lines(order: Order) -> Iterator[Any]:
        for line in order:
            ahead.append(line.number - len(done))
            yield line

    order = Order(io.BytesIO(b"".join(b"%d\n" % (1 + i % 1_000) for i in range(3_000))))
    async with open_connection(dsn) as connection:
        watched = Watched(connection)
        await answer(
            watched,  # type: ignore[arg-type]
            lines(order),
            written,
            report=Reports(),
            tally=Tally(),
            window=512,
            strategy=strategy,
            line_done=lambda line: done.append(line.number),
        )
    assert done == list(range(1, 3_001))
    assert watched.most == queries
    # A line that repeats an id is read ahead too.
    assert max(ahead) <= 512


@pytest.fixture
def order(tmp_path: Path) -> Path:
    path = tmp_path / "order.txt"
    path.write_text(ORDER)
    return path


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "skus.csv"


async def complete(dsn: str, batch: ProductBatch, reports: Reports) -> Tally:
    async with headrace.create_pool(dsn, min_size=1, max_size=3) as pool:
        return await batch.run(pool, reports)


async def whole(dsn: str, order: Path, tmp_path: Path) -> tuple[str, Tally]:
    """Return the output and the tally of an order that is not interrupted."""
    path = tmp_path / "whole.csv"
    tally = await complete(dsn, ProductBatch(order, path), Reports())
    return path.read_text(), tally


async def test_a_batch_between_files(dsn: str, order: Path, output: Path) -> None:
    reports = Reports()
    tally = await complete(dsn, ProductBatch(order, output), reports)
    header, *rows = csv.reader(io.StringIO(output.read_text()))
    assert tuple(header) == COLUMNS
    assert rows == await rows_of(dsn, 7, 3, 50, 1)
    assert reports == REPORTS
    assert (tally.lines, tally.skus) == (7, len(rows))
    assert {path.name for path in output.parent.iterdir()} == {order.name, output.name}


@pytest.mark.parametrize("line", [3, 4, 5])
async def test_an_interrupted_batch_continues_at_its_checkpoint(
    dsn: str, order: Path, output: Path, tmp_path: Path, line: int
) -> None:
    def interrupt(number: int, problem: str) -> None:
        if number == line:
            raise Interrupted

    with pytest.raises(Interrupted):
        await complete(dsn, ProductBatch(order, output), interrupt)  # type: ignore[arg-type]
    checkpoint = Checkpoint.load(Checkpoint.path_for(output))
    assert checkpoint is not None
    assert checkpoint.tally.lines == line - 1

    reports = Reports()
    tally = await complete(dsn, ProductBatch(order, output, resume=True), reports)
    assert (output.read_text(), tally) == await whole(dsn, order, tmp_path)
    assert reports == [report for report in REPORTS if report[0] >= line]
    assert not Checkpoint.path_for(output).exists()


async def test_a_cancelled_batch_is_resumed(dsn: str, order: Path, output: Path, tmp_path: Path) -> None:
    running: list[asyncio.Task[Tally]] = []

    def cancel(number: int, problem: str) -> None:
        running[0].cancel()

    running.append(asyncio.create_task(complete(dsn, ProductBatch(order, output, window=1), cancel)))  # type: ignore[arg-type]
    with pytest.raises(asyncio.CancelledError):
        await running[0]
    tally = await complete(dsn, ProductBatch(order, output, resume=True), Reports())
    assert (output.read_text(), tally) == await whole(dsn, order, tmp_path)


async def test_a_batch_is_resumed_after_a_lost_connection(dsn: str, order: Path, output: Path, tmp_path: Path) -> None:
    order.write_text("\n".join(map(str, range(1, 51))))
    async with open_connection(dsn) as admin, open_connection(dsn) as connection:

        class Failing(Watched):
            async def fetch_each(self, *args: Any, **options: Any) -> AsyncGenerator[list[headrace.Record]]:
                answered = 0
                async with aclosing(super().fetch_each(*args, **options)) as answers:
                    async for rows in answers:
                        yield rows
                        answered += 1
                        if answered == 20:
                            await admin.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())

        batch = ProductBatch(order, output, window=4, strategy=Strategy.EACH)
        with pytest.raises((headrace.PostgresError, headrace.InterfaceError, OSError)):
            await batch.run(Failing(connection), Reports())  # type: ignore[arg-type]
    checkpoint = Checkpoint.load(Checkpoint.path_for(output))
    assert checkpoint is not None
    assert 20 <= checkpoint.tally.lines < 50
    tally = await complete(dsn, ProductBatch(order, output, resume=True), Reports())
    assert (output.read_text(), tally) == await whole(dsn, order, tmp_path)


KILLED = """
import asyncio, os, sys
from pathlib import Path
import headrace
from storefront import ProductBatch

def report(line, problem):
    os._exit(9)

async def main(dsn, order, output):
    async with headrace.create_pool(dsn, min_size=1, max_size=3) as pool:
        await ProductBatch(Path(order), Path(output), checkpoint_lines=10).run(pool, report)

asyncio.run(main(*sys.argv[1:]))
"""


@BOTH
async def test_a_batch_is_resumed_by_another_strategy(
    dsn: str, order: Path, output: Path, tmp_path: Path, strategy: Strategy
) -> None:
    await interrupt_at_the_unknown_id(dsn, order, output)
    tally = await complete(dsn, ProductBatch(order, output, resume=True, strategy=strategy), Reports())
    assert (output.read_text(), tally) == await whole(dsn, order, tmp_path)


async def test_a_killed_batch_is_resumed(dsn: str, order: Path, output: Path, tmp_path: Path) -> None:
    order.write_text("\n".join(map(str, range(1, 46))) + "\nkill here\n46\n47\n")
    killed = subprocess.run([sys.executable, "-c", KILLED, dsn, str(order), str(output)], check=False)
    assert killed.returncode == 9
    checkpoint = Checkpoint.load(Checkpoint.path_for(output))
    assert checkpoint is not None
    assert checkpoint.tally.lines == 40

    tally = await complete(dsn, ProductBatch(order, output, resume=True), Reports())
    assert (output.read_text(), tally) == await whole(dsn, order, tmp_path)
    assert (tally.lines, tally.products, tally.malformed) == (48, 47, 1)


async def interrupt_at_the_unknown_id(dsn: str, order: Path, output: Path) -> None:
    def interrupt(number: int, problem: str) -> None:
        if "999" in problem:
            raise Interrupted

    with pytest.raises(Interrupted):
        await complete(dsn, ProductBatch(order, output), interrupt)  # type: ignore[arg-type]


async def test_an_interrupted_batch_is_not_restarted_by_accident(dsn: str, order: Path, output: Path) -> None:
    await interrupt_at_the_unknown_id(dsn, order, output)
    before = output.read_bytes()
    with pytest.raises(UsageError, match="was interrupted: continue it with --resume"):
        await complete(dsn, ProductBatch(order, output), Reports())
    assert output.read_bytes() == before


@pytest.mark.parametrize("changed", ["8\n3\nabc\n999\n", "7\n", ""])
async def test_an_order_that_has_changed_is_not_resumed(dsn: str, order: Path, output: Path, changed: str) -> None:
    await interrupt_at_the_unknown_id(dsn, order, output)
    order.write_text(changed)
    with pytest.raises(StorefrontError, match=r"order.txt has changed since the batch was interrupted"):
        await complete(dsn, ProductBatch(order, output, resume=True), Reports())


async def test_an_order_that_has_grown_is_resumed(dsn: str, order: Path, output: Path, tmp_path: Path) -> None:
    await interrupt_at_the_unknown_id(dsn, order, output)
    order.write_text(ORDER + "2\n")
    tally = await complete(dsn, ProductBatch(order, output, resume=True), Reports())
    assert (output.read_text(), tally) == await whole(dsn, order, tmp_path)


async def test_an_output_that_has_lost_rows_is_not_resumed(dsn: str, order: Path, output: Path) -> None:
    await interrupt_at_the_unknown_id(dsn, order, output)
    output.write_bytes(output.read_bytes()[:-500])
    with pytest.raises(StorefrontError, match="shorter than when the batch was interrupted"):
        await complete(dsn, ProductBatch(order, output, resume=True), Reports())


async def test_a_file_that_is_not_a_checkpoint_is_reported(dsn: str, order: Path, output: Path) -> None:
    Checkpoint.path_for(output).write_text("{}")
    with pytest.raises(StorefrontError, match=r"skus.csv.checkpoint is not a checkpoint"):
        await complete(dsn, ProductBatch(order, output, resume=True), Reports())


async def test_resuming_without_a_checkpoint_starts_the_batch(
    dsn: str, order: Path, output: Path, tmp_path: Path
) -> None:
    tally = await complete(dsn, ProductBatch(order, output, resume=True), Reports())
    assert (output.read_text(), tally) == await whole(dsn, order, tmp_path)


async def test_the_output_is_not_the_input(dsn: str, order: Path) -> None:
    with pytest.raises(UsageError, match="the output would overwrite the input"):
        await complete(dsn, ProductBatch(order, order.parent / "." / order.name), Reports())
    assert order.read_text() == ORDER


async def test_a_file_that_cannot_be_opened_is_reported(dsn: str, order: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*missing.txt: No such file"):
        await complete(dsn, ProductBatch(tmp_path / "missing.txt", tmp_path / "out.csv"), Reports())
    with pytest.raises(UsageError, match=r"cannot write .*out.csv: No such file"):
        await complete(dsn, ProductBatch(order, tmp_path / "missing" / "out.csv"), Reports())
