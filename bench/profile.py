"""``python -m bench.profile WORKLOAD``: one workload of one peer in a loop, for perf or py-spy."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Annotated, NoReturn

import psycopg
import typer
from rich.console import Console

from bench import data
from bench.peers.peer import Unsupported
from bench.peers.registry import load_peer
from bench.server import ServerError, embedded_server
from bench.worker import loop_factory, opened, warm
from bench.workloads import families
from bench.workloads.registry import find
from bench.workloads.workload import FULL, Workload

WARM_OPERATIONS = 100

app = typer.Typer(add_completion=False)
stderr = Console(stderr=True)


@app.command()
def profile(
    workload: Annotated[str, typer.Argument(help="Its name; `python -m bench --list` has them.")],
    peer: Annotated[str, typer.Option(help="Which driver.")] = "headrace",
    loop: Annotated[str, typer.Option(help="Event loop: asyncio or uvloop.")] = "asyncio",
    seconds: Annotated[float, typer.Option(min=0, help="Seconds to run.")] = 10.0,
    operations: Annotated[int | None, typer.Option(min=1, help="Run this many operations once instead.")] = None,
    dsn: Annotated[str | None, typer.Option(help="A server to use instead of the embedded one.")] = None,
    filled: Annotated[bool, typer.Option("--filled", help="The server of --dsn already has the data.")] = False,
    tcp: Annotated[bool, typer.Option("--tcp", help="Loopback TCP instead of a Unix socket.")] = False,
) -> None:
    """Run one workload of one peer in a loop; print the result as JSON."""
    try:
        found = find(FULL, workload)
        loop_factory(loop)
        if dsn is not None:
            _run(found, peer, loop, dsn, seconds, operations, fill=not filled)
            return
        with embedded_server(tcp=tcp) as server:
            _run(found, peer, loop, server.dsn, seconds, operations, fill=True)
    except (ValueError, ImportError, ServerError, Unsupported, psycopg.Error) as error:
        _stop(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _run(
    workload: Workload, peer: str, loop: str, dsn: str, seconds: float, operations: int | None, *, fill: bool
) -> None:
    if fill:
        data.create_data(dsn, families.tables())
    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        done = runner.run(_loop(workload, peer, dsn, seconds, operations))
    print(json.dumps(done))


async def _loop(
    workload: Workload, name: str, dsn: str, seconds: float, operations: int | None
) -> dict[str, float | int | str]:
    batch = operations or workload.batch or 1
    done = 0
    async with opened(workload, load_peer(name), dsn) as job:
        await warm(job, min(batch, WARM_OPERATIONS))
        stderr.print(f"{name}, {workload.name}, process {os.getpid()}", style="dim", highlight=False)
        start = now = time.perf_counter()
        while not done or (operations is None and now - start < seconds):
            if job.reset is not None:
                await job.reset()
            await job.run(batch)
            done += batch
            now = time.perf_counter()
        units = done * job.units
    return {"operations": done, "units": units, "unit": workload.unit, "rate": units / (now - start)}


def _stop(message: str) -> NoReturn:
    stderr.print(f"error: {message}", style="red", highlight=False, markup=False)
    raise typer.Exit(2)


if __name__ == "__main__":
    app(prog_name=f"python -m bench.{Path(__file__).stem}")
