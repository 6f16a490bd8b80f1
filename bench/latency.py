"""``python -m bench.latency``: how long quick calls take beside slow ones, a lock and cancellations.

Twenty tasks look up rows through a pool, each one row after another, while something slow runs in the same pool.
headrace and another driver, asyncpg by default, alternate, one round each, with a new pool for each round. The
quantiles of each round are recorded, and their median over the rounds is shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated, Any

import asyncpg
import typer
from rich.console import Console
from rich.table import Table

from bench import data, markdown
from bench.data import PRODUCTS, SCHEMA
from bench.server import embedded_server
from bench.workloads import families
from bench.workloads.lookups import PRODUCT, keys_of

OTHERS = ("asyncpg", "fastpg")
"""The drivers that headrace can be compared with."""

RESULTS = Path(__file__).parent / "results" / "latency.json"
DOCS = Path(__file__).parent.parent / "docs" / "benchmarks.md"

CALLERS = 20
SLOW_SECONDS = 0.25
LOCK_SECONDS = 0.1
CANCEL_SECONDS = 0.01

RATIO = 1.1
"""The highest allowed ratio of a quantile to the other driver's."""

ADDED = 0.025
"""Seconds by which the slowest call may be slower than the other's: the pipeline budget plus 20 ms."""

SLEEP = "SELECT 1 FROM pg_sleep($1)"
LOCK = f"SELECT 1 FROM {SCHEMA}.product WHERE product_id = 1 FOR UPDATE"

Beside = Callable[[Any, str], AbstractAsyncContextManager[None]]
"""The work beside the quick calls. Its arguments are the driver's pool and the server's DSN."""


@dataclass(frozen=True)
class Scenario:
    """A pool size, and the work beside the quick calls.

    `judged`: whether the other driver's quantiles are a bound. They are not if slow statements keep the whole pool
    busy. A round then has a twentieth of the calls.
    """

    name: str
    size: int
    beside: Beside
    judged: bool = True


@dataclass(frozen=True)
class Quantiles:
    """Quantiles of the durations of calls, in seconds."""

    p50: float
    p99: float
    longest: float

    @classmethod
    def of(cls, seconds: list[float]) -> Quantiles:
        """Return the quantiles of these durations."""
        ordered = sorted(seconds)
        return cls(ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100], ordered[-1])


@dataclass
class Result:
    """The rounds of one scenario."""

    scenario: Scenario
    other: str
    rounds: dict[str, list[Quantiles]] = field(default_factory=lambda: defaultdict(list))

    def middle(self, driver: str) -> Quantiles:
        """Return the median of each quantile."""
        found = self.rounds[driver]
        return Quantiles(
            median(each.p50 for each in found),
            median(each.p99 for each in found),
            median(each.longest for each in found),
        )

    def compared(self) -> tuple[float, float, float]:
        """Return the ratios of p50 and p99 to the other's, and the seconds by which the slowest call is slower."""
        ours, theirs = self.middle("headrace"), self.middle(self.other)
        return ours.p50 / theirs.p50, ours.p99 / theirs.p99, ours.longest - theirs.longest

    def verdict(self) -> bool | None:
        """Return whether the bounds are kept; None if there are none."""
        p50, p99, added = self.compared()
        return p50 <= RATIO and p99 <= RATIO and added <= ADDED if self.scenario.judged else None


# -- work beside the quick calls ---------------------------------------------------------------------------------------


def repeated(count: int, once: Callable[[Any], Awaitable[None]]) -> Beside:
    """Run a number of tasks that call `once` with the pool in a loop."""

    @asynccontextmanager
    async def beside(pool: Any, dsn: str) -> AsyncIterator[None]:
        async def again() -> None:
            while True:
                await once(pool)

        tasks = [asyncio.create_task(again()) for _ in range(count)]
        await asyncio.sleep(0.01)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return beside


async def sleep(pool: Any) -> None:
    """Run a slow statement."""
    await pool.fetchval(SLEEP, SLOW_SECONDS)


async def cancel(pool: Any) -> None:
    """Run a statement that is cancelled."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CANCEL_SECONDS):
            await pool.fetchval(SLEEP, 60.0)


@asynccontextmanager
async def beside_a_lock(pool: Any, dsn: str) -> AsyncIterator[None]:
    """Make a call wait for a row that another connection locks again and again."""
    holder = await asyncpg.connect(dsn)

    async def holding() -> None:
        while True:
            async with holder.transaction():
                await holder.fetchval(LOCK)
                waiting = asyncio.create_task(pool.fetchval(LOCK))
                await asyncio.sleep(LOCK_SECONDS)
            await waiting

    task = asyncio.create_task(holding())
    await asyncio.sleep(0.01)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await holder.close()


def scenarios() -> list[Scenario]:
    """Return all scenarios, in the order of the table's rows."""
    found = []
    for size in (2, 6, 10):
        for count, name in ((0, "nothing"), (1, "one slow statement"), (2, "two slow statements")):
            # Both connections of the pool are always busy in that case.
            found.append(
                Scenario(f"pool of {size}, beside {name}", size, repeated(count, sleep), (size, count) != (2, 2))
            )
        found.append(Scenario(f"pool of {size}, beside a lock", size, beside_a_lock))
        found.append(Scenario(f"pool of {size}, beside cancellations", size, repeated(1, cancel)))
    return found


# -- measuring ---------------------------------------------------------------------------------------------------------


class FastpgPool:
    """A pool of fastpg with the names of asyncpg's methods."""

    def __init__(self, pool: Any) -> None:
        self.fetchrow = pool.select_one
        self.execute = pool.execute

    async def fetchval(self, sql: str, *args: object) -> object:
        return (await self.fetchrow(sql, *args))[0]


@asynccontextmanager
async def open_pool(driver: str, dsn: str, size: int) -> AsyncIterator[Any]:
    """Open a pool of a fixed size."""
    module: Any = importlib.import_module(driver)
    if driver == "fastpg":
        async with await module.create_pool(dsn, min_size=size, max_size=size) as pool:
            yield FastpgPool(pool)
    else:
        async with module.create_pool(dsn, min_size=size, max_size=size) as pool:
            yield pool


async def one_round(driver: str, scenario: Scenario, dsn: str, calls: int) -> Quantiles:
    """Make the quick calls through a new pool; return their quantiles."""
    keys = iter(keys_of(calls))
    seconds: list[float] = []
    async with open_pool(driver, dsn, scenario.size) as pool:

        async def caller() -> None:
            for key in keys:
                began = perf_counter()
                row = await pool.fetchrow(PRODUCT, key)
                seconds.append(perf_counter() - began)
                assert row[0] == key

        for _ in range(3):
            await asyncio.gather(*(pool.fetchrow(PRODUCT, 1 + i % PRODUCTS) for i in range(10 * scenario.size)))
        await asyncio.gather(*(pool.fetchval(SLEEP, 0.0) for _ in range(scenario.size)))
        async with scenario.beside(pool, dsn):
            gc.collect()
            await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return Quantiles.of(seconds)


def measure(
    dsn: str, chosen: list[Scenario], other: str, rounds: int, calls: int, say: Callable[[str], None]
) -> Iterator[Result]:
    """Measure the scenarios. The drivers alternate, and in each round the other one begins."""
    drivers = ("headrace", other)
    for scenario in chosen:
        say(scenario.name)
        result = Result(scenario, other)
        for number in range(rounds):
            for name in drivers if number % 2 == 0 else reversed(drivers):
                result.rounds[name].append(
                    asyncio.run(one_round(name, scenario, dsn, calls if scenario.judged else calls // 20))
                )
        yield result


# -- showing -----------------------------------------------------------------------------------------------------------


def headings(other: str) -> tuple[str, ...]:
    """Return the headings of the table."""
    return ("quick calls", "headrace p50, p99, max", f"{other} p50, p99, max", "p50", "p99", "max", "met")


def cells(result: Result) -> list[str]:
    """Return a row of the table."""

    def written(driver: str) -> str:
        found = result.middle(driver)
        return ", ".join(f"{seconds * 1e3:.2f}" for seconds in (found.p50, found.p99, found.longest)) + " ms"

    p50, p99, added = result.compared()
    verdict = {True: "yes", False: "**no**", None: ""}[result.verdict()]
    columns = [
        written("headrace"),
        written(result.other),
        f"{p50:.2f}x",
        f"{p99:.2f}x",
        f"{added * 1e3:+.1f} ms",
        verdict,
    ]
    return [result.scenario.name, *columns]


def as_markdown(results: list[Result], rounds: int, calls: int) -> str:
    """Return the table for the documentation."""
    lines = [headings(results[0].other), ("---", *["---:"] * 5, "---"), *map(cells, results)]
    method = f"Median of {rounds} rounds of {calls:,} calls each, by {CALLERS} tasks; the drivers alternate."
    return "\n".join([method, "", *(f"| {' | '.join(line)} |" for line in lines)])


def check_other(other: str, update_docs: bool) -> None:
    """Raise BadParameter if the other driver is not installed, or is not that of the documentation's table."""
    if other not in OTHERS or find_spec(other) is None:
        installed = ", ".join(filter(find_spec, OTHERS))
        raise typer.BadParameter(f"--other: expected one of those that are installed ({installed}), got {other!r}")
    if update_docs and other != OTHERS[0]:
        raise typer.BadParameter(f"--update-docs: the table in the documentation compares with {OTHERS[0]}")


app = typer.Typer(add_completion=False)


@app.command()
def main(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each driver.")] = 5,
    calls: Annotated[int, typer.Option(min=100, help="Quick calls in a round.")] = 10_000,
    other: Annotated[str, typer.Option(help=f"The driver to compare with: {' or '.join(OTHERS)}.")] = OTHERS[0],
    only: Annotated[str, typer.Option(help="Scenarios by name: part of the name, or a shell pattern.")] = "*",
    update_docs: Annotated[bool, typer.Option("--update-docs", help="Put the table into docs/benchmarks.md.")] = False,
    json_file: Annotated[Path, typer.Option("--json", help="The JSON file.")] = RESULTS,
) -> None:
    """Measure how long quick calls take beside slow ones."""
    stdout, stderr = Console(width=None if sys.stdout.isatty() else 200), Console(stderr=True)
    chosen = [each for each in scenarios() if fnmatchcase(each.name, only) or only in each.name]
    if not chosen:
        raise typer.BadParameter(f"--only: expected a pattern that matches one of the scenarios, got {only!r}")
    check_other(other, update_docs)
    with embedded_server(tcp=False, bin_directory=None) as server:
        data.create_data(server.dsn, families.tables())
        results = list(measure(server.dsn, chosen, other, rounds, calls, lambda name: stderr.print(name, style="dim")))
    table = Table(*headings(other), title="quick calls beside slow ones", title_justify="left", pad_edge=False)
    for result in results:
        table.add_row(*cells(result))
    stdout.print(table)
    json_file.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"name": each.scenario.name, "met": each.verdict()}
        | {driver: [asdict(found) for found in each.rounds[driver]] for driver in ("headrace", other)}
        for each in results
    ]
    json_file.write_text(json.dumps(rows, indent=1) + "\n")
    if update_docs:
        markdown.replace(DOCS, "latency", as_markdown(results, rounds, calls))


if __name__ == "__main__":
    app(prog_name="python -m bench.latency")
