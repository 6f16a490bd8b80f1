"""A test that hangs fails, and the tests behind it run.

When its time is over, the tasks of the event loop are cancelled, so the report of the failure shows where the test was
waiting. If nothing is over after AGAIN more seconds, or if no loop is running, an exception is raised in the main
thread, wherever it is. The report also lists the tasks and the stack of each thread.

A test that not even this ends, such as one that waits in C code, ends its process: see `faulthandler_timeout` in
pyproject.toml.
"""

from __future__ import annotations

import asyncio
import faulthandler
import io
import signal
import tempfile
from collections.abc import Generator
from types import FrameType

import pytest

SHARE = 5 / 12
"""What a part of a test (its setup, the test itself, or its teardown) may take of faulthandler's time."""

AGAIN = 15.0
"""Seconds until the next attempt to end a part."""

HAS_TIMER = hasattr(signal, "setitimer")
"""Windows has none."""

_stacks = pytest.StashKey[str]()


class _Watch:
    """Ends a part of a test that takes too long."""

    def __init__(self, item: pytest.Item, limit: float) -> None:
        self._item = item
        self.said = f"it took longer than {limit:g} s"
        self._cancelled: asyncio.AbstractEventLoop | None = None
        self.has_ended_it = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle the timer's signal."""
        loop = asyncio._get_running_loop()
        if not self.has_ended_it:
            self.has_ended_it = True
            self._item.stash[_stacks] = _seen(loop)
        if loop is None or loop is self._cancelled:
            # Cancelled tasks may be waiting for what blocks the loop.
            pytest.fail(self.said)
        self._cancelled = loop
        # Nothing else may be called from here, because the loop may be anywhere in its own code.
        loop.call_soon_threadsafe(_cancel_all, loop, self.said)


def _cancel_all(loop: asyncio.AbstractEventLoop, why: str) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel(why)


def _seen(loop: asyncio.AbstractEventLoop | None) -> str:
    """Return the stacks of all threads and tasks."""
    text = io.StringIO()
    with tempfile.TemporaryFile("w+") as file:  # faulthandler needs a real one
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        text.write(file.read())
    if loop is not None:
        for task in asyncio.all_tasks(loop):
            task.print_stack(file=text)
    return text.getvalue()


def _limited(item: pytest.Item) -> Generator[None, None, None]:
    limit = SHARE * float(item.config.getini("faulthandler_timeout") or 0)
    if not (HAS_TIMER and limit):
        yield
        return
    watch = _Watch(item, limit)
    before = signal.signal(signal.SIGALRM, watch)
    signal.setitimer(signal.ITIMER_REAL, limit, AGAIN)
    try:
        yield
    except (Exception, asyncio.CancelledError, pytest.fail.Exception) as error:
        if watch.has_ended_it:
            raise pytest.fail.Exception(f"the test was ended: {watch.said}") from error
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if watch.has_ended_it:
        pytest.fail(f"the test has to be ended: {watch.said}")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Limit the time of the fixtures."""
    return (yield from _limited(item))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Limit the time of the test."""
    return (yield from _limited(item))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Limit the time of the fixtures' ends."""
    return (yield from _limited(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the stacks to the report."""
    report = yield
    if report.failed and _stacks in item.stash:
        report.sections.append(("Threads and tasks when the time was over", item.stash[_stacks]))
        del item.stash[_stacks]
    return report


def pytest_enter_pdb() -> None:
    """Give whoever debugs a test as much time as it takes."""
    if HAS_TIMER:
        signal.setitimer(signal.ITIMER_REAL, 0)


def pytest_exception_interact() -> None:
    """The same, once a test has failed under `--pdb`."""
    pytest_enter_pdb()
