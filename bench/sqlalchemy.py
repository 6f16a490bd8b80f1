"""``python -m bench.sqlalchemy``: SQLAlchemy on its asyncpg dialect with asyncpg, and on headrace's own dialect.

Both run the same program in one process, by turns. The figures are the processor time of the client, the number of
round trips, and the time on a network on which each answer takes 5 ms. Medians over the rounds are shown.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from statistics import median
from time import perf_counter, process_time
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import sqlalchemy as sa
import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from bench.server import embedded_server

DIALECTS = ("asyncpg", "headrace")
DELAY = 0.005
"""Seconds that each answer of the server takes longer on the slow network."""


class Base(DeclarativeBase):
    """The tables."""


class Item(Base):
    """A table for reading and writing."""

    __tablename__ = "bench_item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    price: Mapped[int]


# -- the network ----------------------------------------------------------------------------------------------------


class Relay:
    """Passes bytes on between a client and the server's Unix socket, and counts round trips."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.delay = 0.0
        self.trips = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        server_reader, server_writer = await asyncio.open_unix_connection(self.path)
        answered = True

        async def back() -> None:
            nonlocal answered
            while data := await server_reader.read(65536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                    with suppress(TimeoutError):  # the pieces of an answer share a delay
                        async with asyncio.timeout(0):
                            data += await server_reader.read(1 << 20)
                answered = True
                writer.write(data)
            writer.close()

        task = asyncio.ensure_future(back())
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                self.trips += answered
                answered = False
                server_writer.write(data)
        server_writer.close()
        with suppress(ConnectionError):
            await task


def relay(path: str, pipe: Pipe) -> None:
    """Be the process of the relay. It is told the delay, and answers with the round trips since it was told last."""

    async def run() -> None:
        found = Relay(path)
        server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        loop = asyncio.get_running_loop()
        while (delay := await loop.run_in_executor(None, pipe.recv)) is not None:
            pipe.send(found.trips)
            found.trips, found.delay = 0, delay

    asyncio.run(run())


@contextmanager
def network(path: str) -> Iterator[tuple[int, Callable[[float], int]]]:
    """Yield the port of a relay, and the function that sets its delay and returns the round trips so far."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=relay, args=(path, theirs), daemon=True)
    process.start()

    def told(delay: float) -> int:
        ours.send(delay)
        return int(ours.recv())

    try:
        yield ours.recv(), told
    finally:
        ours.send(None)
        process.join(10)


# -- the programs ---------------------------------------------------------------------------------------------------


@dataclass
class Workload:
    """A program, how often it runs for processor time, and how often on the slow network (0: not at all)."""

    name: str
    run: Callable[[AsyncEngine, int], Awaitable[None]]
    times: int
    slow_times: int
    cpu: list[dict[str, float]] = field(default_factory=list)
    wall: list[dict[str, float]] = field(default_factory=list)
    trips: dict[str, float] = field(default_factory=dict)


async def select_with_checkout(engine: AsyncEngine, times: int) -> None:
    """Check a connection out, select a row, and give it back."""
    query = sa.select(Item.name).where(Item.id == 7)
    for _ in range(times):
        async with engine.connect() as connection:
            await connection.scalar(query)


async def begin_select_commit(engine: AsyncEngine, times: int) -> None:
    """The same in a transaction that commits."""
    query = sa.select(Item.name).where(Item.id == 7)
    for _ in range(times):
        async with engine.begin() as connection:
            await connection.scalar(query)


async def select_rows(engine: AsyncEngine, times: int) -> None:
    """Select 1,000 rows by Core."""
    query = sa.select(Item.__table__)
    async with engine.connect() as connection:
        for _ in range(times):
            (await connection.execute(query)).all()


async def select_objects(engine: AsyncEngine, times: int) -> None:
    """Select 1,000 objects by the ORM."""
    for _ in range(times):
        async with AsyncSession(engine) as session:
            (await session.scalars(sa.select(Item))).all()


async def insert_objects(engine: AsyncEngine, times: int) -> None:
    """Insert 1,000 objects by the ORM, whose ids come back, and roll back."""
    for _ in range(times):
        async with AsyncSession(engine) as session:
            session.add_all([Item(name=f"item {number}", price=number) for number in range(1000)])
            await session.flush()
            await session.rollback()


def workloads() -> list[Workload]:
    """Return the programs."""
    return [
        Workload("Core, one row with checkout", select_with_checkout, 300, 20),
        Workload("Core, begin, one row, commit", begin_select_commit, 300, 20),
        Workload("Core, 1,000 rows", select_rows, 40, 0),
        Workload("ORM, 1,000 objects", select_objects, 10, 0),
        Workload("ORM, insert of 1,000 objects", insert_objects, 3, 3),
    ]


async def fill(engine: AsyncEngine) -> None:
    """Create the table, with 1,000 rows."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
        rows = [{"name": f"item {number}", "price": number} for number in range(1000)]
        await connection.execute(sa.insert(Item), rows)


async def measure(urls: dict[str, str], rounds: int, told: Callable[[float], int]) -> list[Workload]:
    """Run everything; returns the workloads with their samples."""
    engines = {name: create_async_engine(url, pool_size=1) for name, url in urls.items()}
    await fill(engines["headrace"])
    found = workloads()
    for each in found:
        for name in DIALECTS:
            await each.run(engines[name], 2)  # statements are prepared, code is warm
        for _ in range(rounds):
            cpu = {}
            for name in DIALECTS:
                gc.collect()
                told(0)
                began = process_time()
                await each.run(engines[name], each.times)
                cpu[name] = process_time() - began
                each.trips[name] = told(0) / each.times
            each.cpu.append(cpu)
        for _ in range(min(rounds, 3) if each.slow_times else 0):
            wall = {}
            for name in DIALECTS:
                told(DELAY)
                began = perf_counter()
                await each.run(engines[name], each.slow_times)
                wall[name] = perf_counter() - began
            each.wall.append(wall)
        told(0)
    for engine in engines.values():
        await engine.dispose()
    return found


# -- where the time of an insert goes -------------------------------------------------------------------------------


class Stopwatch:
    """The processor time below SQLAlchemy's events: of a statement in the engine, and of it in the cursor alone."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.began: dict[str, float] = {}
        self.spent = {"execute": 0.0, "cursor_execute": 0.0}
        for name in self.spent:
            sa.event.listen(engine.sync_engine, f"before_{name}", self._starting(name))
            sa.event.listen(engine.sync_engine, f"after_{name}", self._stopping(name))

    def _starting(self, name: str) -> Callable[..., None]:
        def start(*given: Any) -> None:
            self.began[name] = process_time()

        return start

    def _stopping(self, name: str) -> Callable[..., None]:
        def stop(*given: Any) -> None:
            self.spent[name] += process_time() - self.began[name]

        return stop


async def parts_of_an_insert(urls: dict[str, str], rounds: int) -> dict[str, list[list[float]]]:
    """Return the milliseconds of `insert_objects()` by dialect: of the ORM, of the engine, and of cursor and driver."""
    engines = {name: create_async_engine(url, pool_size=1) for name, url in urls.items()}
    many = "headrace, use_insertmanyvalues"
    engines[many] = create_async_engine(urls["headrace"], pool_size=1, use_insertmanyvalues=True)
    watches = {name: Stopwatch(engine) for name, engine in engines.items()}
    found: dict[str, list[list[float]]] = {name: [] for name in engines}
    for _ in range(rounds + 1):
        for name, engine in engines.items():
            spent = watches[name].spent
            spent.update(execute=0, cursor_execute=0)
            gc.collect()
            began = process_time()
            await insert_objects(engine, 3)
            total, execute, cursor = process_time() - began, spent["execute"], spent["cursor_execute"]
            found[name].append([each / 3 * 1e3 for each in (total - execute, execute - cursor, cursor)])
    for engine in engines.values():
        await engine.dispose()
    return {name: samples[1:] for name, samples in found.items()}  # statements were prepared in the first round


def ratio(samples: list[dict[str, float]]) -> str:
    """Return the median of headrace's part of asyncpg's time."""
    return f"{median(each['headrace'] / each['asyncpg'] for each in samples):.2f}" if samples else ""


def main(rounds: Annotated[int, typer.Option(min=1, help="Samples of each dialect.")] = 7) -> None:
    """Measure both dialects on one server."""
    with embedded_server() as server:
        parts = urlsplit(server.dsn)
        directory = parse_qs(parts.query)["host"][0]
        port = parts.port or int(parse_qs(parts.query).get("port", ["5432"])[0])
        with network(f"{directory}/.s.PGSQL.{port}") as (relay_port, told):
            name, user = parts.path.removeprefix("/"), parts.username or "postgres"
            urls = {each: f"postgresql+{each}://{user}@127.0.0.1:{relay_port}/{name}" for each in DIALECTS}
            found = asyncio.run(measure(urls, rounds, told))
            spent = asyncio.run(parts_of_an_insert(urls, rounds))
    table = Table(title=f"SQLAlchemy {sa.__version__}: headrace's dialect, of its asyncpg dialect")
    for title in ("program", "processor time", f"time at {DELAY * 1000:g} ms", "round trips", "asyncpg's"):
        table.add_column(title, justify="left" if title == "program" else "right")
    for each in found:
        trips: Any = (f"{each.trips[name]:.2f}" for name in ("headrace", "asyncpg"))
        table.add_row(each.name, ratio(each.cpu), ratio(each.wall), *trips)
    console = Console()
    console.print(table)
    table = Table(
        "dialect", "ORM", "engine", "cursor and driver", title="Insert of 1,000 objects, milliseconds of them"
    )
    for name, samples in spent.items():
        table.add_row(name, *(f"{median(part):.1f}" for part in zip(*samples, strict=True)))
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
