"""``python -m bench.kills``: what a program notices if the backends of its pool are killed.

A hundred tasks look up rows through a pool of six, each one row after another, and a few tasks write rows with tokens.
Meanwhile pg_terminate_backend() ends one backend of the pool after another. The program makes no call again, so each
call that fails counts. In the end the table tells which writes were lost, although their calls had succeeded, and which
were carried out twice.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import count, cycle
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import asyncpg
import typer
from rich.console import Console
from rich.table import Table

from bench import data, markdown
from bench.data import SCHEMA
from bench.latency import DOCS, OTHERS, check_other, open_pool
from bench.server import embedded_server
from bench.workloads.lookups import PRODUCT, keys_of

RESULTS = Path(__file__).parent / "results" / "kills.json"

POOL_SIZE = 6
CALLERS = 100
WRITERS = 6

CALLS_BETWEEN = 500
"""Look-ups and writes that end between two kills: the calls that a kill concerns are among them."""

PATIENCE = 30.0
"""Seconds without a call that ends, after which a driver is taken for hanging."""

KEYS = 10_000

TABLE = f"CREATE TABLE {SCHEMA}.written (token bigint NOT NULL)"
EMPTY = f"TRUNCATE {SCHEMA}.written"
WRITE = f"INSERT INTO {SCHEMA}.written VALUES ($1)"
WRITTEN = f"SELECT token, count(*) FROM {SCHEMA}.written GROUP BY token"
KILL = """
    SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1"""

HEADINGS = ("driver", "look-ups", "failed per kill: median, max", "writes", "failed", "lost", "doubled")


@dataclass
class Round:
    """The calls of one driver, and their outcome."""

    kills: int = 0
    lookups: int = 0
    writes: int = 0
    failed: list[int] = field(default_factory=list)
    """The look-ups that have failed after each kill, until the next one."""

    failed_writes: int = 0
    lost: int = 0
    """Writes that had succeeded and are not in the table."""

    doubled: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    """The kinds of errors of look-ups and writes, with their numbers."""

    hangs: bool = False


class Calls:
    """The look-ups and the writes through one pool, until they are cancelled."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._keys = cycle(keys_of(KEYS))
        self._tokens = count(1)
        self._ended = asyncio.Event()
        self.lookups = 0
        self.failed_lookups = 0
        self.tokens = 0
        self.acknowledged: set[int] = set()
        self.failed_writes = 0
        self.errors: Counter[str] = Counter()

    @property
    def ended(self) -> int:
        """The number of calls that have ended."""
        return self.lookups + self.failed_lookups + len(self.acknowledged) + self.failed_writes

    async def look_up(self) -> None:
        """Look up one row after another."""
        for key in self._keys:
            try:
                row = await self._pool.fetchrow(PRODUCT, key)
            except Exception as error:
                self.failed_lookups += 1
                await self._failed(error)
            else:
                assert row[0] == key
                self.lookups += 1
            self._ended.set()

    async def write(self) -> None:
        """Write one row after another."""
        for token in self._tokens:
            self.tokens = token
            try:
                await self._pool.execute(WRITE, token)
            except Exception as error:
                self.failed_writes += 1
                await self._failed(error)
            else:
                self.acknowledged.add(token)
            self._ended.set()

    async def _failed(self, error: Exception) -> None:
        self.errors[type(error).__name__] += 1
        # A pool that refuses calls at once would not let the event loop go on.
        await asyncio.sleep(0.001)

    async def until(self, number: int) -> None:
        """Wait until so many calls have ended. Raises TimeoutError if none ends for a long time."""
        while self.ended < number:
            self._ended.clear()
            async with asyncio.timeout(PATIENCE):
                await self._ended.wait()


async def one_round(driver: str, dsn: str, kills: int) -> Round:
    """Kill the backends of a new pool, one after another, while calls are made."""
    found = Round()
    admin = await asyncpg.connect(dsn)
    try:
        await admin.execute(EMPTY)
        async with open_pool(driver, dsn, POOL_SIZE) as pool:
            calls = Calls(pool)
            tasks = [asyncio.create_task(calls.look_up()) for _ in range(CALLERS)]
            tasks += [asyncio.create_task(calls.write()) for _ in range(WRITERS)]
            try:
                await calls.until(CALLS_BETWEEN)
                for _ in range(kills):
                    before = calls.failed_lookups
                    found.kills += bool(await admin.fetchval(KILL))
                    await calls.until(calls.ended + CALLS_BETWEEN)
                    found.failed.append(calls.failed_lookups - before)
            except TimeoutError:
                found.hangs = True
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks, timeout=PATIENCE)
        times = dict(await admin.fetch(WRITTEN))
    finally:
        await admin.close()
    found.lookups = calls.lookups + calls.failed_lookups
    found.writes = len(calls.acknowledged) + calls.failed_writes
    found.failed_writes = calls.failed_writes
    found.lost = len(calls.acknowledged - times.keys())
    found.doubled = sum(number > 1 for number in times.values())
    found.errors = dict(calls.errors.most_common())
    return found


def cells(driver: str, found: Round) -> list[str]:
    """Return a row of the table."""
    failed = f"{median(found.failed):g}, {max(found.failed)}" if found.failed else "-"
    if found.hangs:
        failed += f" (hangs after {found.kills} kills)"
    numbers = (found.lookups, failed, found.writes, found.failed_writes, found.lost, found.doubled)
    return [driver, *(each if isinstance(each, str) else f"{each:,}" for each in numbers)]


def as_markdown(results: dict[str, Round], kills: int) -> str:
    """Return the table for the documentation."""
    lines = [HEADINGS, ("---", *["---:"] * (len(HEADINGS) - 1)), *(cells(*each) for each in results.items())]
    method = (
        f"{kills} kills; {CALLERS} look-ups and {WRITERS} writes are under way at every moment, "
        f"and {CALLS_BETWEEN:,} calls end between two kills."
    )
    return "\n".join([method, "", *(f"| {' | '.join(line)} |" for line in lines)])


def measure(dsn: str, drivers: list[str], kills: int, say: Callable[[str], None]) -> dict[str, Round]:
    """Measure the drivers, one after the other."""
    asyncio.run(_execute(dsn, TABLE))
    results = {}
    for driver in drivers:
        say(driver)
        results[driver] = asyncio.run(one_round(driver, dsn, kills))
    return results


async def _execute(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


app = typer.Typer(add_completion=False)


@app.command()
def main(
    kills: Annotated[int, typer.Option(min=1, help="Backends to kill, for each driver.")] = 40,
    other: Annotated[str, typer.Option(help=f"The driver to compare with: {' or '.join(OTHERS)}.")] = OTHERS[0],
    update_docs: Annotated[bool, typer.Option("--update-docs", help="Put the table into docs/benchmarks.md.")] = False,
    json_file: Annotated[Path, typer.Option("--json", help="The JSON file.")] = RESULTS,
) -> None:
    """Count the calls that fail when backends of a pool are killed."""
    stdout, stderr = Console(width=None if sys.stdout.isatty() else 200), Console(stderr=True)
    check_other(other, update_docs)
    # headrace warns of connections that an administrator has ended.
    logging.getLogger("headrace.pool").setLevel(logging.ERROR)
    with embedded_server(tcp=False, bin_directory=None) as server:
        data.create_data(server.dsn, {})
        results = measure(server.dsn, ["headrace", other], kills, lambda name: stderr.print(name, style="dim"))
    table = Table(*HEADINGS, title="killed backends", title_justify="left", pad_edge=False)
    for driver, found in results.items():
        table.add_row(*cells(driver, found))
    stdout.print(table)
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(json.dumps({driver: asdict(found) for driver, found in results.items()}, indent=1) + "\n")
    if update_docs:
        markdown.replace(DOCS, "kills", as_markdown(results, kills))


if __name__ == "__main__":
    app(prog_name="python -m bench.kills")
