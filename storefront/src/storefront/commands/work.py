"""`storefront work`: work off partners' jobs."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import typer

from storefront.console import log_to_stderr
from storefront.database import POOL_SIZE, open_database
from storefront.jobs import JobLimits, Worker, WorkerSettings
from storefront.options import DATA_DIR, DataDirOption, DsnOption, VerboseOption, run_on_server
from storefront.service_schema import create_service_tables

app = typer.Typer()


@app.command()
def work(
    workers: Annotated[int, typer.Option(min=1, help="The number of jobs that are worked on at once.")] = 1,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End when no job waits, instead of waiting for more.")
    ] = False,
    pool_size: Annotated[int, typer.Option(min=1, help="The number of connections.")] = POOL_SIZE,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Work off partners' jobs until SIGTERM or Ctrl-C, beside the workers inside of `storefront serve`.

    At the end, unfinished jobs are given back at once, and other workers continue them. If this is killed, they do so
    when its claims are over, after half a minute. No line is answered twice or left out.
    """
    log_to_stderr(verbose=verbose)

    async def run(target: str) -> None:
        async with open_database(target, size=pool_size) as database:
            async with database.primary.acquire() as connection:
                await create_service_tables(connection)
            worker = Worker(database, count=workers, settings=WorkerSettings(limits=JobLimits()))
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop.set)
            await worker.run(stop, until_idle=until_idle)

    run_on_server(dsn, data_dir, run)
