"""A run: epoch after epoch, each followed by a quiet moment in which the accounts are checked."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import headrace
from tests.servers import SUPERUSER
from tests.soak import accounts, ledger
from tests.soak.actions.locks import PROCEDURE
from tests.soak.actions.statements import CREATE
from tests.soak.actor import Actor
from tests.soak.figures import Figures
from tests.soak.report import Report
from tests.soak.routes import routes
from tests.soak.watchdog import Hung, Watchdog
from tests.soak.weather import Weather

if TYPE_CHECKING:
    from tests.servers import Cluster
    from tests.soak.options import Options
    from tests.soak.routes import Route

CLOSE_TIMEOUT = 30.0
"""Seconds that all pools may take to close once nothing is under way."""


async def soak(
    cluster: Cluster, database: str, options: Options, say: Callable[[str], None] = lambda text: None
) -> Report:
    """Run the soak on an empty database; returns what came of it. `say` is told of each epoch."""
    figures, samples = Figures(), []
    loop = asyncio.get_running_loop()
    began = loop.time()
    for text in (ledger.TABLE, *CREATE, *PROCEDURE):
        cluster.sql(text, database=database)
    await (await headrace.connect(host=cluster.host(), port=cluster.port, user=SUPERUSER, database=database)).close()
    gc.collect()
    before, tasks = accounts.objects(), asyncio.all_tasks()
    with _reporting_to(figures, loop):
        try:
            async with routes(cluster, database) as opened:
                books, watchdog = ledger.Ledger(figures), Watchdog(options.patience)
                weather = Weather(options.seed, cluster, database, opened, figures)
                actors = [
                    Actor(options.seed, number, opened, books, figures, watchdog, weather)
                    for number in range(options.actors)
                ]
                epoch = 0
                while not options.ended(epoch, loop.time() - began):
                    turns = range(epoch * options.turns, (epoch + 1) * options.turns)
                    await _watched(watchdog, *(actor.take_turns(turns) for actor in actors))
                    weather.clear_up()
                    await accounts.quiet(cluster, database, opened, figures)
                    accounts.forget_statements()
                    await accounts.quiet(cluster, database, opened, figures)
                    if figures.found("left behind"):
                        # Whoever is left may hold locks, or still write.
                        raise Hung("there is no quiet to check the accounts in")
                    books.balance(cluster.sql(ledger.CONTENTS, database=database))
                    cluster.sql("TRUNCATE ledger", database=database)
                    samples.append(accounts.sample(figures.counts["queries"], opened))
                    epoch += 1
                    say(f"epoch {epoch}: {figures.counts['queries']} queries, {len(figures.findings)} findings")
                accounts.compare(samples, figures)
                _check_pools(opened, figures)
                await asyncio.gather(*(_close(route, figures) for route in opened.values()))
                weather = actors = opened = None  # type: ignore[assignment]
        except Hung as hung:
            # What is left after that says nothing.
            figures.find("hang", str(hung))
        else:
            await _check_nothing_is_left(before, tasks, figures)
    return Report(options, cluster.name, figures, samples, loop.time() - began)


async def _watched(watchdog: Watchdog, *work: Any) -> None:
    """Run the actors to their ends, unless the watchdog finds that one hangs."""
    watching = asyncio.create_task(watchdog.watch(), name="watchdog")
    acting = [asyncio.create_task(each, name=f"actor {number}") for number, each in enumerate(work)]
    try:
        pending: set[asyncio.Task[Any]] = {watching, *acting}
        while pending != {watching}:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        for task in (watching, *acting):
            task.cancel()
        await asyncio.gather(watching, *acting, return_exceptions=True)


async def _close(route: Route, figures: Figures) -> None:
    try:
        await route.pool.close(timeout=CLOSE_TIMEOUT)
    except TimeoutError as error:
        figures.find_error(f"the pool of route {route.name} does not close", error)


def _check_pools(opened: Mapping[str, Route], figures: Figures) -> None:
    for route in opened.values():
        stats = route.pool.stats()
        figures.count("connections", stats.opened)
        if stats.quarantined:
            figures.find("quarantine", f"route {route.name}: a shared session was left in a transaction: {stats}")
        if stats.leaked:
            figures.find("leak", f"route {route.name}: leases were never given back: {stats}")


async def _check_nothing_is_left(before: Mapping[str, int], tasks: set[asyncio.Task[Any]], figures: Figures) -> None:
    """Everything is closed: no object of the driver's is referred to any more, and no task runs."""
    left = asyncio.all_tasks() - tasks
    if left:
        _, left = await asyncio.wait(left, timeout=accounts.PATIENCE)
    for task in left:
        figures.find("leak", f"a task is still running: {task!r}")
    for _ in range(3):
        # A generator that the collector finds is closed by the loop, in a turn of its own.
        gc.collect()
        await asyncio.sleep(0)
    for name, number in accounts.objects().items():
        if number > before.get(name, 0) and name not in accounts.KEPT:
            figures.find("leak", f"{number - before.get(name, 0)} objects of {name} are left after the end")


@contextmanager
def _reporting_to(figures: Figures, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Take what asyncio and the interpreter report of errors that reached nobody as findings."""

    def on_loop(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if context["message"].startswith("Resetting connection with an active transaction"):
            # That leases are given back in the middle of one is among the things that are done here.
            figures.count("transactions left open")
        elif error is None:
            figures.find("unhandled", f"{context}")
        else:
            figures.find_error(f"unhandled: {context.get('message')}", error)

    def on_unraisable(unraisable: Any) -> None:
        figures.find("unhandled", f"{unraisable.err_msg}: {unraisable.exc_value!r} in {unraisable.object!r}")

    # Connections are lost here all the time. Whoever keeps the records of that, as pytest does, keeps the errors in
    # them, and by their tracebacks all that they have come through.
    log = logging.getLogger("headrace")
    handler, hook, level = loop.get_exception_handler(), sys.unraisablehook, log.level
    log.setLevel(logging.ERROR)
    loop.set_exception_handler(on_loop)
    sys.unraisablehook = on_unraisable
    try:
        with warnings.catch_warnings():
            # Leases that end with listeners are among the things that are done here.
            warnings.simplefilter("ignore", headrace.InterfaceWarning)
            yield
    finally:
        log.setLevel(level)
        sys.unraisablehook = hook
        loop.set_exception_handler(handler)
