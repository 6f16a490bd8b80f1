"""The decorator that logs the start of a function, its arguments and its time."""

from __future__ import annotations

import asyncio
import logging
import re

import pytest

from storefront import timed

SECONDS = r"\d+\.\d{3} s"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "storefront.timing")
    return caplog


async def test_start_arguments_and_end_are_logged(log: pytest.LogCaptureFixture) -> None:
    @timed
    async def add(left: int, right: int, *, note: str) -> int:
        """Add."""
        return left + right

    assert await add(1, 2, note="three") == 3
    started, finished = log.messages
    assert started == "add starts, with 1, 2, note='three'"
    assert re.fullmatch(rf"add finished in {SECONDS}", finished)
    assert (add.__name__, add.__doc__) == ("add", "Add.")


async def test_failure_is_logged_and_passed_on(log: pytest.LogCaptureFixture) -> None:
    @timed
    async def fail() -> None:
        raise LookupError("not here")

    with pytest.raises(LookupError, match="not here"):
        await fail()
    assert log.messages[0] == "fail starts, with no arguments"
    assert re.fullmatch(rf"fail failed after {SECONDS}: LookupError: not here", log.messages[1])


async def test_cancellation_is_logged_and_passed_on(log: pytest.LogCaptureFixture) -> None:
    @timed
    async def wait() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert re.fullmatch(rf"wait was cancelled after {SECONDS}", log.messages[1])


async def test_long_arguments_are_cut_short(log: pytest.LogCaptureFixture) -> None:
    class Thing:
        pass

    @timed
    async def work(*things: object) -> None:
        pass

    await work(list(range(10_000)), "x" * 10_000, Thing())
    assert len(log.messages[0]) < 300
    assert "[0, 1, 2, 3, ...]" in log.messages[0]
    assert log.messages[0].endswith("', a Thing")


async def test_an_object_is_shown_by_its_class_and_a_function_is_not_shown(log: pytest.LogCaptureFixture) -> None:
    @timed
    async def work(*things: object, report: object) -> None:
        pass

    await work(asyncio.Event(), print, 1, report=lambda: None)
    assert log.messages[0] == "work starts, with an Event, 1"


async def test_nothing_starts_before_it_is_awaited(log: pytest.LogCaptureFixture) -> None:
    @timed
    async def work() -> None:
        pass

    coroutine = work()
    assert log.messages == []
    await coroutine
    assert len(log.messages) == 2
