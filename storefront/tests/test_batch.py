"""A partner's batch: complete, in the partner's order, and resumable after an interruption."""

from __future__ import annotations

import asyncio
import csv
import io
import subprocess
import sys
from collections.abc import Iterator
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
    Tally,
    UsageError,
    answer,
    look_up,
    open_connection,
)
from storefront.batch import WINDOW
from storefront.catalogue import COLUMNS, PAGE

ORDER = "7\n3\nabc\n999\n7\n50\n1\n"
"""An order with a malformed, an unknown and a repeated line."""

REPORTS = [
    (3, "'abc' is not a product id: expected a whole number from 1 to 2147483647"),
    (4, "no product has the id 999"),
    (5, "product 7 is repeated: its SKUs are listed where it first appears"),
]


class Reports(list[tuple[int, str]]):
    """Collects the reports of a batch."""

    def __call__(self, line: int, problem: str) -> None:
        self.append((line, problem))


class Interrupted(Exception):
    """Ends a batch early, in place of a real error."""


async def run(dsn: str, order: str, window: int = WINDOW) -> tuple[Tally, str, Reports]:
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
        )
    return tally, output.getvalue().decode(), reports


async def rows_of(dsn: str, *ids: int) -> list[list[str]]:
    """Return the SKUs of these products as rows of CSV."""
    async with open_connection(dsn) as connection:
        found = [await look_up(connection, product_id) for product_id in ids]
    return [["" if value is None else str(value) for value in record] for records in found for record in records]


async def test_every_sku_comes_in_the_order_of_the_lines(dsn: str, sample: Sample) -> None:
    ids = [*range(50, 0, -2), *range(1, 50, 2)]
    tally, output, reports = await run(dsn, "\n".join(map(str, ids)))
    assert list(csv.reader(io.StringIO(output))) == await rows_of(dsn, *ids)
    assert tally == Tally(lines=50, products=50, skus=sample.sku_count)
    assert tally.all_found
    assert reports == []


async def test_a_line_without_skus_is_reported_by_its_number(dsn: str) -> None:
    tally, output, reports = await run(dsn, ORDER)
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


async def test_a_product_without_skus_is_found_and_reported(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        await connection.execute("INSERT INTO product (product_name, brand_id) VALUES ('bare', 1)")
    tally, output, reports = await run(dsn, "51\n")
    assert (output, reports) == ("", [(1, "product 51 has no SKUs")])
    assert (tally.products, tally.without_skus, tally.all_found) == (1, 1, True)


async def test_a_product_of_more_than_a_page_is_whole(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        await connection.execute(
            "INSERT INTO sku (product_id, product_size_id, product_color_id)"
            f" SELECT 2, 1, 1 FROM generate_series(1, {2 * PAGE})"
        )
    _, output, _ = await run(dsn, "1\n2\n3\n")
    assert list(csv.reader(io.StringIO(output))) == await rows_of(dsn, 1, 2, 3)


async def test_an_empty_order_is_answered(dsn: str) -> None:
    assert await run(dsn, "") == (Tally(), "", [])


@pytest.mark.parametrize("window", [1, 2, 1_000])
async def test_the_window_does_not_change_the_answer(dsn: str, window: int) -> None:
    assert await run(dsn, ORDER, window=window) == await run(dsn, ORDER)


async def test_no_window_is_an_error(dsn: str) -> None:
    with pytest.raises(UsageError, match="window must be at least 1 line, got 0"):
        await run(dsn, ORDER, window=0)


class Watched:
    """Wraps a connection's fetch and counts the calls that run at once."""

    def __init__(self, connection: headrace.Connection) -> None:
        self.connection = connection
        self.running = self.most = 0

    async def fetch(self, query: str, *args: Any) -> list[headrace.Record]:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            records: list[headrace.Record] = await self.connection.fetch(query, *args)
            return records
        finally:
            self.running -= 1


async def test_lines_are_read_and_looked_up_no_further_than_the_window(dsn: str) -> None:
    written = RowWriter(io.BytesIO())
    done: list[int] = []
    ahead: list[int] = []

    def lines(order: Order) -> Iterator[Any]:
        for line in order:
            ahead.append(line.number - len(done))
            yield line

    order = Order(io.BytesIO("\n".join(map(str, range(1, 51))).encode()))
    async with open_connection(dsn) as connection:
        watched = Watched(connection)
        await answer(
            watched,  # type: ignore[arg-type]
            lines(order),
            written,
            report=Reports(),
            tally=Tally(),
            window=8,
            line_done=lambda line: done.append(line.number),
        )
    assert done == list(range(1, 51))
    assert watched.most == max(ahead) == 8


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
            calls = 0

            async def fetch(self, query: str, *args: Any) -> list[headrace.Record]:
                self.calls += 1
                if self.calls == 20:
                    await admin.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())
                return await super().fetch(query, *args)

        with pytest.raises((headrace.PostgresError, headrace.InterfaceError, OSError)):
            await ProductBatch(order, output, window=4).run(Failing(connection), Reports())  # type: ignore[arg-type]
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
