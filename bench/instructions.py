"""``python -m bench.instructions WORKLOAD``: instructions per unit of work of the client, for each peer.

If the wall clock is too noisy to compare two versions, instructions are still precise. Each peer runs twice, with few
operations and with three times as many, so that the difference excludes the start-up.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from typing import Annotated, Protocol

import psycopg
import typer
from rich.console import Console
from rich.table import Table

from bench import data, figures
from bench.peers.registry import NAMES
from bench.server import ServerError, embedded_server
from bench.workloads import families
from bench.workloads.registry import find
from bench.workloads.workload import FULL, Workload

MORE = 3
BATCHED_OPERATIONS = 1_000
REPEATED_OPERATIONS = 5

app = typer.Typer(add_completion=False)
stdout = Console()
stderr = Console(stderr=True)


class CountError(Exception):
    """Instructions cannot be counted here, or the run failed. The message says why."""


class Counter(Protocol):
    """A program that counts the instructions of a command in user space."""

    name: str

    def command(self, command: list[str]) -> list[str]: ...

    def count(self, output: str) -> int | None: ...


class Perf:
    """``perf stat``: the processor's own counter."""

    name = "perf stat"
    _pattern = re.compile(r"^(\d+),[^,]*,instructions:u", re.MULTILINE)

    def command(self, command: list[str]) -> list[str]:
        return ["perf", "stat", "-x", ",", "-e", "instructions:u", "--", *command]

    def count(self, output: str) -> int | None:
        found = self._pattern.search(output)
        return int(found[1]) if found else None


class Callgrind:
    """valgrind's callgrind: about fifty times slower, for machines without a counter."""

    name = "valgrind --tool=callgrind"
    _pattern = re.compile(r"Collected : (\d+)")

    def command(self, command: list[str]) -> list[str]:
        return ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command]

    def count(self, output: str) -> int | None:
        found = self._pattern.search(output)
        return int(found[1]) if found else None


@app.command()
def instructions(
    workload: Annotated[str, typer.Argument(help="Its name; `python -m bench --list` has them.")],
    peers: Annotated[str, typer.Option(help="Peers, separated by commas.")] = "headrace,asyncpg",
    loop: Annotated[str, typer.Option(help="Event loop: asyncio or uvloop.")] = "asyncio",
    operations: Annotated[int | None, typer.Option(min=1, help="Operations of the shorter run.")] = None,
) -> None:
    """Count the instructions per unit of a workload for each peer."""
    names = peers.split(",")
    try:
        found = find(FULL, workload)
        if unknown := [name for name in names if name not in NAMES]:
            raise ValueError(f"--peers: expected some of {', '.join(NAMES)}, got {unknown[0]!r}")
        counter = _counter()
        fewer = operations or (BATCHED_OPERATIONS if found.batch else REPEATED_OPERATIONS)
        table = Table("peer", f"instructions per unit ({found.unit.removesuffix('/s')})", title=found.title)
        with embedded_server() as server:
            data.create_data(server.dsn, families.tables())
            for name in names:
                stderr.print(f"{name}: {counter.name}", style="dim", highlight=False)
                each = _instructions_per_unit(counter, found, name, loop, server.dsn, fewer)
                table.add_row(name, figures.rate(each))
    except (ValueError, ServerError, CountError, psycopg.Error) as error:
        stderr.print(f"error: {error}", style="red", highlight=False, markup=False)
        raise typer.Exit(2) from None
    stdout.print(table)


def _counter() -> Counter:
    """Return the first counter that works here. Raises CountError if none does."""
    choices: tuple[Counter, ...] = (Perf(), Callgrind())
    for counter in choices:
        command = counter.command(["true"])
        if shutil.which(command[0]) is None:
            continue
        done = subprocess.run(command, capture_output=True, text=True)
        if counter.count(done.stderr) is not None:
            return counter
    raise CountError("no instruction counter: perf has none on this machine, and valgrind is not installed")


def _instructions_per_unit(
    counter: Counter, workload: Workload, peer: str, loop: str, dsn: str, operations: int
) -> float:
    few, few_units = _run(counter, workload, peer, loop, dsn, operations)
    many, many_units = _run(counter, workload, peer, loop, dsn, operations * MORE)
    return (many - few) / (many_units - few_units)


def _run(counter: Counter, workload: Workload, peer: str, loop: str, dsn: str, operations: int) -> tuple[int, int]:
    command = [sys.executable, "-m", "bench.profile", workload.name, "--peer", peer, "--loop", loop]
    command += ["--operations", str(operations), "--dsn", dsn, "--filled"]
    done = subprocess.run(counter.command(command), capture_output=True, text=True)
    counted = counter.count(done.stderr)
    if done.returncode or counted is None:
        raise CountError(f"{peer} failed: {done.stderr.strip()[-1000:]}")
    return counted, json.loads(done.stdout.splitlines()[-1])["units"]


if __name__ == "__main__":
    app(prog_name="python -m bench.instructions")
