"""``python -m bench.export``: the storefront's export, beside psql's COPY of the same join.

psql writes the catalogue as CSV into a file. `storefront export` writes it as CSV, NDJSON and Parquet, and the service
sends it over HTTP. Each is a process that starts anew, except for the service. The turns alternate, so that other work
on the machine meets all of them alike, and the best time of each counts. Ratios are those to psql in the same run.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.program import ProgramError, Run, run_program, run_storefront
from bench.service import UNLIMITED, Process, server_process
from storefront import EmbeddedServer, Sample, create_database, create_schema, load, open_connection
from storefront.embedded import find_binaries
from storefront.partners import add_partner
from storefront.service_schema import create_service_tables
from storefront.stream import CATALOGUE_SINCE

PSQL = "psql's COPY, CSV"
START = "start of the program alone"

Contestant = Callable[[], Awaitable[Run]]


def psql(dsn: str, file: Path) -> Contestant:
    """Return a contestant: psql's COPY of the join as CSV into a file."""
    query = CATALOGUE_SINCE.replace("$1", "0")
    program = str(find_binaries() / "psql")
    command = [program, "-X", "-q", dsn, "-c", f"COPY ({query}) TO STDOUT (FORMAT csv, HEADER)"]

    async def run() -> Run:
        return await asyncio.to_thread(run_program, command, file)

    return run


def export(dsn: str, file: Path, *options: str) -> Contestant:
    """Return a contestant: `storefront export` into a file."""

    async def run() -> Run:
        return await asyncio.to_thread(run_storefront, "export", "--dsn", dsn, "--output", file, *options)

    return run


def download(service: Process, key: str, media_type: str) -> Contestant:
    """Return a contestant: an export over HTTP. The processor time is that of the service."""
    request = (
        f"GET /v1/export HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Accept: {media_type}\r\nConnection: close\r\n\r\n"
    )

    async def run() -> Run:
        before, started = service.cpu(), time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port, limit=2**20)
        writer.write(request.encode())
        end = b""
        while data := await reader.read(2**18):
            end = (end + data)[-200:]
        writer.close()
        if b"complete" not in end:
            raise ProgramError(f"the export over HTTP is not complete: {end!r}")
        return Run(time.perf_counter() - started, service.cpu() - before)

    return run


async def compare(dsn: str, rounds: int, directory: Path) -> dict[str, list[Run]]:
    """Run all contestants by turns. The first turn of each warms up and does not count."""
    async with open_connection(dsn) as connection:
        await create_service_tables(connection)
        key = (await add_partner(connection, f"bench {time.time_ns()}", **UNLIMITED)).key
    async with server_process("service", dsn) as service:
        contestants = {
            PSQL: psql(dsn, directory / "psql.csv"),
            "export, CSV": export(dsn, directory / "export.csv"),
            "export, NDJSON": export(dsn, directory / "export.ndjson"),
            "export, Parquet": export(dsn, directory / "export.parquet"),
            "GET /v1/export, CSV": download(service, key, "text/csv"),
            "GET /v1/export, NDJSON": download(service, key, "application/x-ndjson"),
            START: export(dsn, directory / "nothing.csv", "--take", "0"),
        }
        runs: dict[str, list[Run]] = {name: [] for name in contestants}
        for number in range(rounds + 1):
            for name, contestant in contestants.items():
                run = await contestant()
                if number:
                    runs[name].append(run)
    return runs


def show(title: str, runs: dict[str, list[Run]]) -> None:
    """Print the table."""
    table = Table(title=title)
    for heading in ("", "seconds", "of psql's", "without the start", "processor seconds", "peak memory"):
        table.add_column(heading, justify="right" if heading else "left")
    seconds = {name: min(run.seconds for run in each) for name, each in runs.items()}
    base, start = seconds[PSQL], seconds[START]
    for name, each in runs.items():
        own = seconds[name] - start if name.startswith("export") else seconds[name]
        peak = max(run.peak for run in each)
        table.add_row(
            name,
            f"{seconds[name]:.2f}",
            f"{seconds[name] / base:.2f}",
            f"{own / base:.2f}" if name != START else "",
            f"{min(run.processor for run in each):.2f}",
            f"{peak / 1e6:.0f} MB" if peak else "",
        )
    Console().print(table)


async def measure(dsn: str, rounds: int, sample: Sample | None) -> None:
    """Fill the database with a sample, if there is one, and print the figures."""
    if sample is not None:
        await create_database(dsn)
        async with open_connection(dsn) as connection:
            await create_schema(connection)
            await load(connection, sample)
            await connection.execute("VACUUM ANALYZE")
    async with open_connection(dsn) as connection:
        count = await connection.fetchval("SELECT count(*) FROM sku")
    with tempfile.TemporaryDirectory() as directory:
        runs = await compare(dsn, rounds, Path(directory))
    show(f"a catalogue of {count:,} SKUs, best of {rounds}", runs)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each that count.")] = 5,
    products: Annotated[int, typer.Option(min=1, help="Products of the sample.")] = 50_000,
    skus: Annotated[int, typer.Option(min=1, help="SKUs of the sample.")] = 300_000,
    dsn: Annotated[str | None, typer.Option(help="A database with a sample, instead of the embedded server.")] = None,
) -> None:
    """Measure the storefront's export."""
    try:
        if dsn is not None:
            asyncio.run(measure(dsn, rounds, None))
            return
        with tempfile.TemporaryDirectory() as directory, EmbeddedServer(Path(directory) / "server") as server:
            sample = Sample(product_count=products, sku_count=skus)
            asyncio.run(measure(server.dsn("products"), rounds, sample))
    except ProgramError as error:
        sys.exit(f"bench.export: {error}")


if __name__ == "__main__":
    typer.run(main)
