"""``python -m bench.arrow``: results as columns in Arrow's format.

They are compared with those of ADBC and connectorx, with psycopg's COPY, with headrace's own Records, and with the rate
at which the server makes the rows.

Each driver runs in a process of its own, by turns. The figures are rows a second, by the quickest round, and the
processor time of the client for one result, by the median. A busy machine changes the first and hardly the second. A
driver that is not installed is left out: `pip install adbc-driver-postgresql pyarrow connectorx`.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import typer
from rich.console import Console
from rich.table import Table

import headrace
from bench import markdown
from bench.server import embedded_server

TABLES = """
CREATE TABLE bench_arrow_sku AS
    SELECT g::int4 AS id, (g * 7)::int4 AS product, (g % 100)::int4 AS size, (g % 3)::int4 AS stock
    FROM generate_series(1, 100000) AS g;
CREATE TABLE bench_arrow_mixed AS
    SELECT g::int4 AS id, 'name of item ' || g AS name,
        timestamptz '2020-01-01 00:00+00' + g * interval '1 minute' AS made_at,
        (g / 100.0)::numeric(12, 2) AS price, g / 7.0::float8 AS weight, g % 2 = 0 AS available,
        CASE WHEN g % 10 > 0 THEN md5(g::text) END AS code
    FROM generate_series(1, 200000) AS g
"""

RESULTS = {
    "100,000 rows of 4 ints": ("SELECT * FROM bench_arrow_sku", 100_000),
    "200,000 mixed rows of 7 columns": ("SELECT * FROM bench_arrow_mixed", 200_000),
}

DRIVERS = {
    "headrace": "headrace",
    "headrace-stream": "headrace",
    "headrace-records": "headrace",
    "adbc": "adbc_driver_postgresql",
    "connectorx": "connectorx",
    "psycopg-copy": "psycopg",
    "server": "headrace",
}
"""The drivers, and the packages that they need. `server` is the server's own time for the rows in binary form."""

DOCS = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"


@dataclass
class Figures:
    """The samples of one driver and one result."""

    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


async def run_headrace(driver: str, dsn: str, query: str, rows: int, rounds: int) -> None:
    """Measure headrace, and print a line for each round."""
    connection = await headrace.connect(dsn)
    if driver == "server":
        for _ in range(rounds):
            print(await server_seconds(connection, query), 0.0, flush=True)
        await connection.close()
        return

    async def stream() -> int:
        return sum([len(batch) async for batch in connection.stream_arrow(query)])

    async def columns() -> int:
        return len(await connection.fetch_arrow(query))

    async def records() -> int:
        return len(await connection.fetch(query))

    calls: dict[str, Callable[[], Awaitable[int]]] = {
        "headrace": columns,
        "headrace-stream": stream,
        "headrace-records": records,
    }
    call = calls[driver]
    for _ in range(rounds):
        began, used = perf_counter(), process_time()
        count = await call()
        print(perf_counter() - began, process_time() - used, flush=True)
        assert count == rows
    await connection.close()


async def server_seconds(connection: headrace.Connection, query: str) -> float:
    """Return the time that the server needs to make the rows of a query in binary form, without sending them."""
    plan = await connection.fetch(f"EXPLAIN (ANALYZE, SERIALIZE BINARY, TIMING OFF) {query}")
    (milliseconds,) = (line.split()[2] for (line,) in plan if line.startswith("Execution Time"))
    return float(milliseconds) / 1000


def run_other(driver: str, dsn: str, query: str, rows: int, rounds: int) -> None:
    """Measure another driver, and print a line for each round."""
    call: Callable[[], int]
    if driver == "adbc":
        adbc: Any = import_module("adbc_driver_postgresql.dbapi")

        cursor = adbc.connect(dsn, autocommit=True).cursor()

        def call() -> int:
            cursor.execute(query)
            rows: int = cursor.fetch_arrow_table().num_rows
            return rows
    elif driver == "psycopg-copy":
        psycopg_cursor = psycopg.connect(dsn, autocommit=True).cursor()
        psycopg_cursor.execute(f"SELECT * FROM ({query}) AS q LIMIT 0".encode())
        types = [column.type_code for column in psycopg_cursor.description or ()]

        def call() -> int:
            with psycopg_cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT binary)".encode()) as copy:
                copy.set_types(types)
                return sum(1 for _ in copy.rows())
    else:
        connectorx: Any = import_module("connectorx")
        # It knows no Unix sockets.
        port = parse_qs(urlsplit(dsn).query)["port"][0]
        uri = f"postgresql://postgres@127.0.0.1:{port}/postgres"

        def call() -> int:
            rows: int = connectorx.read_sql(uri, query, return_type="arrow").num_rows
            return rows

    for _ in range(rounds):
        began, used = perf_counter(), process_time()
        found = call()
        print(perf_counter() - began, process_time() - used, flush=True)
        assert found == rows


def measured(driver: str, dsn: str, title: str, rounds: int) -> Figures:
    """Measure a driver in a process of its own."""
    command = [sys.executable, "-m", "bench.arrow", "--driver", driver, "--dsn", dsn, "--result", title]
    done = subprocess.run([*command, "--rounds", str(rounds)], capture_output=True, text=True, check=False)
    # A driver may complain at the end of its process that something was not closed.
    figures = Figures()
    for line in done.stdout.splitlines():
        seconds, processor = map(float, line.split())
        figures.seconds.append(seconds)
        figures.processor.append(processor)
    if len(figures.seconds) < rounds:
        sys.exit(f"{driver}: {done.stderr}")
    return figures


def main(
    rounds: Annotated[int, typer.Option(min=2, help="Results of each driver, in each of three turns.")] = 10,
    update_docs: Annotated[bool, typer.Option("--update-docs", help="Put the tables into docs/benchmarks.md.")] = False,
    driver: Annotated[str, typer.Option(hidden=True)] = "",
    dsn: Annotated[str, typer.Option(hidden=True)] = "",
    result: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Compare the drivers on one server."""
    if driver:
        query, rows = RESULTS[result]
        if driver == "server" or driver.startswith("headrace"):
            asyncio.run(run_headrace(driver, dsn, query, rows, rounds))
        else:
            run_other(driver, dsn, query, rows, rounds)
        return
    drivers = [name for name, package in DRIVERS.items() if find_spec(package)]
    texts = []
    with embedded_server(tcp=True) as server:
        asyncio.run(prepare(server.dsn))
        for title, (_, rows) in RESULTS.items():
            found: dict[str, Figures] = {name: Figures() for name in drivers}
            for _ in range(3):
                for name in drivers:
                    figures = measured(name, server.dsn, title, rounds)
                    # The first result of a process prepares the statement and fills caches.
                    found[name].seconds += figures.seconds[1:]
                    found[name].processor += figures.processor[1:]
            lines = compared(rows, found)
            show(title, lines)
            texts.append(as_markdown(title, lines))
    if update_docs:
        markdown.replace(DOCS, "arrow", "\n\n".join(texts))


async def prepare(dsn: str) -> None:
    """Make the tables."""
    connection = await headrace.connect(dsn)
    await connection.execute(TABLES)
    for name in ("bench_arrow_sku", "bench_arrow_mixed"):
        await connection.execute(f"VACUUM ANALYZE {name}")
    await connection.close()


HEADINGS = ("driver", "million rows/s", "ms of processor time", "of headrace's time", "of its processor time")


def compared(rows: int, found: dict[str, Figures]) -> list[list[str]]:
    """Return the lines of the table of one result."""
    own = found["headrace"]
    lines = []
    for name, figures in found.items():
        quickest, processor = min(figures.seconds), median(figures.processor)
        client = name != "server"
        lines.append(
            [
                name,
                f"{rows / quickest / 1e6:.2f}",
                f"{processor * 1000:.1f}" if client else "-",
                f"{quickest / min(own.seconds):.2f}",
                f"{processor / median(own.processor):.2f}" if client else "-",
            ]
        )
    return lines


def show(title: str, lines: list[list[str]]) -> None:
    """Print the table of one result."""
    table = Table(title=title)
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "driver" else "right")
    for line in lines:
        table.add_row(*line)
    Console(width=110).print(table)


def as_markdown(title: str, lines: list[list[str]]) -> str:
    """Return the table of one result for the documentation."""
    headings = [title, *HEADINGS[1:]]
    marks = ["---", *["---:"] * (len(headings) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [headings, marks, *lines])


if __name__ == "__main__":
    typer.run(main)
