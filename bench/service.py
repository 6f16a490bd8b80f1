"""``python -m bench.service``: the storefront's service against a bare program, and against itself on asyncpg.

A batch of 1,000 ids is answered by `storefront serve`, and by a program of asyncio that has no HTTP, no keys and no
limits: it fetches the same rows by headrace, encodes the same NDJSON and writes it to a socket. Look-ups come on many
connections at once. They are answered by the service on headrace, by the same application on a pool of asyncpg, and by
bare programs on either driver. The servers are processes of their own. Their turns alternate, so that other work on the
machine meets all of them alike.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

import headrace
from storefront import EmbeddedServer, Sample, create_database, create_schema, load, open_connection
from storefront.batch import Strategy
from storefront.catalogue import COLUMNS, LOOK_UP_PAGE, PAGE
from storefront.checkpoint import Tally
from storefront.formats import NdjsonEncoder
from storefront.partners import add_partner
from storefront.service.batch_ids import BatchIds
from storefront.service.batches import NdjsonAnswer, answer_batch
from storefront.service_schema import create_service_tables

POOL_SIZE = 6
UNLIMITED = {"requests_per_minute": 1_000_000_000, "batch_ids": 1_000_000, "batches_at_once": 1_000}
READY = "ready "
TURNS = 5
"""The number of times that each server answers look-ups, one after another."""

app = typer.Typer(add_completion=False)


# -- The servers, each a process -------------------------------------------------------------------------------------


async def serve_service(dsn: str) -> None:
    """Serve the storefront as `storefront serve` does."""
    from storefront.service.server import serve
    from storefront.service.settings import ServiceSettings

    settings = ServiceSettings(dsn, port=0, pool_size=POOL_SIZE, workers=0)
    await serve(settings, lambda address, _server: print(f"{READY}{address.rsplit(':', 1)[1]}", flush=True))


async def serve_on_asyncpg(dsn: str) -> None:
    """Serve the same application on a pool of asyncpg. It has all that look-ups need."""
    import asyncpg

    from storefront.service.application import create_application
    from storefront.service.server import GracefulServer, configuration, listening_socket
    from storefront.service.service import Service
    from storefront.service.settings import ServiceSettings

    settings = ServiceSettings(dsn, port=0, pool_size=POOL_SIZE, workers=0)
    application = create_application(settings)
    async with asyncpg.create_pool(dsn, min_size=1, max_size=POOL_SIZE) as pool:
        service = application.state.service = Service(settings, pool)
        with listening_socket(settings) as listening:
            print(f"{READY}{listening.getsockname()[1]}", flush=True)
            await GracefulServer(configuration(application, settings), service).serve([listening])


async def serve_bare(dsn: str, *, one_query: bool = False, driver: Any = headrace) -> None:
    """Answer lines of JSON: ids by their rows as NDJSON and the end of the connection, one id by a line of JSON."""
    query_of_all = """\
    SELECT p.product_id, p.product_name, p.brand_id, s.sku_id, c.product_color_name, z.product_size_name
    FROM product AS p
    JOIN sku AS s ON s.product_id = p.product_id
    JOIN product_color AS c ON c.product_color_id = s.product_color_id
    JOIN product_size AS z ON z.product_size_id = s.product_size_id
    WHERE p.product_id = ANY($1)
    ORDER BY p.product_id, s.sku_id"""
    async with driver.create_pool(dsn, min_size=1, max_size=POOL_SIZE) as pool:

        async def look_ups(line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line:
                rows = await pool.fetch(LOOK_UP_PAGE, int(line), 0, PAGE + 1)
                skus = [dict(zip(COLUMNS[3:], row[3:], strict=True)) for row in rows]
                product = dict(zip(COLUMNS, rows[0][:3], strict=False))
                writer.write(json.dumps({**product, "skus": skus}).encode() + b"\n")
                line = await reader.readline()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            line = await reader.readline()
            if not line.startswith(b"["):
                await look_ups(line, reader, writer)
                writer.close()
                return
            ids = json.loads(line)

            async def write(data: bytes) -> None:
                writer.write(data)
                await writer.drain()

            if one_query:
                found: dict[int, list[Any]] = {}
                for row in await pool.fetch(query_of_all, ids):
                    found.setdefault(row[0], []).append(row)
                encoder = NdjsonEncoder(COLUMNS)
                await write(b"".join([encoder.product(found[product]) for product in ids if product in found]))
            else:
                from array import array

                batch = BatchIds(array("q", ids))
                await answer_batch(pool, batch, NdjsonAnswer(), write, Tally(), strategy=Strategy.GROUPED, timeout=60.0)
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=2**20)
        print(f"{READY}{server.sockets[0].getsockname()[1]}", flush=True)
        await server.serve_forever()


SERVERS: dict[str, Callable[[str], Any]] = {
    "service": serve_service,
    "service on asyncpg": serve_on_asyncpg,
    "bare": serve_bare,
    "bare, one query": lambda dsn: serve_bare(dsn, one_query=True),
    "bare on asyncpg": lambda dsn: serve_bare(dsn, driver=import_module("asyncpg")),
}


class Process:
    """A server in a process of its own."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, port: int) -> None:
        self.name = name
        self.port = port
        self._process = process

    def cpu(self) -> float:
        """Return the seconds of processor time that it has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def server_process(name: str, dsn: str) -> AsyncIterator[Process]:
    """Start a server and yield it. It is terminated at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.service", "--only", name, "--dsn", dsn, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        if not line.startswith(READY):
            raise RuntimeError(f"the server {name!r} has not started")
        yield Process(name, process, int(line.removeprefix(READY)))
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


# -- The clients ------------------------------------------------------------------------------------------------------


async def time_batch(port: int, request: bytes) -> tuple[float, float, int]:
    """Send a batch. Return the seconds until the first byte of rows and the last, and the number of bytes."""
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    writer.write(request)
    first, size = 0.0, 0
    while data := await reader.read(2**18):
        first = first or time.perf_counter() - started
        size += len(data)
    writer.close()
    return first, time.perf_counter() - started, size


def service_request(key: str, ids: list[int]) -> bytes:
    """Return the HTTP request for a batch."""
    body = json.dumps(ids).encode()
    head = (
        f"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def look_up(
    port: int, key: str | None, connections: int, seconds: float, products: int
) -> tuple[float, list[float]]:
    """Make look-ups one behind another on each of some connections. Return how many were answered a second, and times.

    Without a key they are lines for a bare program.
    """
    ends = time.perf_counter() + seconds
    times: list[float] = []

    async def client(seed: int) -> None:
        choice = random.Random(seed)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (began := time.perf_counter()) < ends:
            product_id = choice.randint(1, products)
            if key is None:
                writer.write(b"%d\n" % product_id)
                await reader.readline()
            else:
                writer.write(
                    f"GET /v1/products/{product_id}/skus HTTP/1.1\r\nHost: localhost\r\n"
                    f"Authorization: Bearer {key}\r\n\r\n".encode()
                )
                await _read_response(reader)
            times.append(time.perf_counter() - began)
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client(seed) for seed in range(connections)))
    return len(times) / (time.perf_counter() - started), times


async def _read_response(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.decode())
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    await reader.readexactly(int(lengths[0].split(b":")[1]))


async def compare(dsn: str, rounds: int, connections: int, seconds: float, products: int) -> None:
    """Run all and print the figures."""
    async with open_connection(dsn) as connection:
        await create_service_tables(connection)
        key = (await add_partner(connection, f"bench {time.time_ns()}", **UNLIMITED)).key
    async with AsyncExitStack() as stack:
        started = {name: await stack.enter_async_context(server_process(name, dsn)) for name in SERVERS}
        choice = random.Random(1)
        names = ("service", "bare", "bare, one query")
        times: dict[str, list[tuple[float, float, int]]] = {name: [] for name in names}
        cpu = dict.fromkeys(names, 0.0)
        for number in range(rounds + 3):
            ids = choice.sample(range(1, products + 1), 1_000)
            for name in names:
                server = started[name]
                request = service_request(key, ids) if name == "service" else json.dumps(ids).encode() + b"\n"
                before = server.cpu()
                figures = await time_batch(server.port, request)
                if number >= 3:
                    times[name].append(figures)
                    cpu[name] += server.cpu() - before
        base = statistics.median(each[1] for each in times["bare"])
        print(f"a batch of 1,000 ids, median of {rounds}:")
        for name, all_figures in times.items():
            first, last = (statistics.median(each[column] for each in all_figures) for column in (0, 1))
            print(
                f"  {name:18} {last * 1e3:7.1f} ms ({last / base:4.2f} of bare), first bytes after {first * 1e3:6.1f}"
                f" ms, {cpu[name] / rounds * 1e3:6.1f} ms CPU, {all_figures[0][2]:,} bytes"
            )
        peers = ("service", "service on asyncpg", "bare", "bare on asyncpg")
        rates: dict[str, list[float]] = {name: [] for name in peers}
        waits: dict[str, list[float]] = {name: [] for name in peers}
        used = dict.fromkeys(peers, 0.0)
        for number in range(TURNS + 1):
            for name in peers:
                server = started[name]
                before = server.cpu()
                rate, took = await look_up(
                    server.port, key if name.startswith("service") else None, connections, seconds, products
                )
                if number:
                    rates[name].append(rate)
                    waits[name] += took
                    used[name] += server.cpu() - before
        print(f"look-ups on {connections} connections, median of {TURNS}:")
        for name in peers:
            percentiles = statistics.quantiles(waits[name], n=100)
            print(
                f"  {name:18} {statistics.median(rates[name]):7.0f} requests/s, p50 {percentiles[49] * 1e3:6.1f} ms,"
                f" p99 {percentiles[98] * 1e3:6.1f} ms, {used[name] / len(waits[name]) * 1e3:.3f} ms CPU each"
            )


@app.command()
def main(
    rounds: Annotated[int, typer.Option(min=1, help="Batches of each server.")] = 31,
    connections: Annotated[int, typer.Option(min=1, help="Clients that make look-ups at once.")] = 32,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long look-ups are made at a time.")] = 2.0,
    products: Annotated[int, typer.Option(min=1_000, help="Products of the sample.")] = 50_000,
    skus: Annotated[int, typer.Option(min=1_000, help="SKUs of the sample.")] = 300_000,
    dsn: Annotated[str | None, typer.Option(help="A database with a sample, instead of the embedded server.")] = None,
    only: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure the storefront's service."""
    if only is not None:
        assert dsn is not None
        asyncio.run(SERVERS[only](dsn))
        return

    async def run(target: str, *, fill: bool) -> None:
        if fill:
            await create_database(target)
            async with open_connection(target) as connection:
                await create_schema(connection)
                await load(connection, Sample(product_count=products, sku_count=skus))
                await connection.execute("ANALYZE")
        await compare(target, rounds, connections, seconds, products)

    if dsn is not None:
        asyncio.run(run(dsn, fill=False))
        return
    with tempfile.TemporaryDirectory() as directory, EmbeddedServer(Path(directory) / "server") as server:
        asyncio.run(run(server.dsn("products"), fill=True))


if __name__ == "__main__":
    app()
