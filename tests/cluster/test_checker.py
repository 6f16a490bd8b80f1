"""The check of one host: what counts as an answer, as a miss and as a failure. The connections are played."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from headrace.cluster.checker import Checker
from headrace.cluster.topology import Observation
from headrace.exceptions import (
    ConnectionDoesNotExistError,
    InsufficientPrivilegeError,
    TooManyConnectionsError,
)

ROW = (True, 100, 1, -5, 12.5, False)
SEEN = Observation(True, 100, 1, 2**64 - 5, 12.5, False)


class Played:
    """A connection. Each query has the next outcome: a row, an exception, or a function that returns one of these."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.closed = False
        self.lost: Callable[[Any], None] | None = None

    def is_closed(self) -> bool:
        return self.closed

    def _when_lost(self, callback: Callable[[Any], None]) -> None:
        self.lost = callback

    def lose(self) -> None:
        self.closed = True
        assert self.lost is not None
        self.lost(self)

    async def fetchrow(self, query: str, timeout: float) -> Any:
        outcome = self.outcomes.pop(0) if self.outcomes else ROW
        if callable(outcome):
            outcome = outcome()
        if isinstance(outcome, ConnectionDoesNotExistError):
            self.closed = True
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def terminate(self) -> None:
        self.closed = True

    async def close(self) -> None:
        self.closed = True


class Reports:
    """Everything that a checker has reported."""

    def __init__(self) -> None:
        self.all: list[Any] = []

    def observed(self, observation: Observation) -> None:
        self.all.append(observation)

    def missed(self, error: Exception, *, late: bool) -> None:
        self.all.append(("missed", type(error), late))

    def failed(self, error: Exception) -> None:
        self.all.append(("failed", type(error)))


def checker(reports: Reports, *connections: Any, interval: float = 3600.0, timeout: float = 60.0) -> Checker:
    waiting = list(connections)

    async def connect(timeout: float) -> Any:
        connection = waiting.pop(0)
        if isinstance(connection, BaseException):
            raise connection
        return connection

    return Checker(connect, reports, interval=interval, timeout=timeout)


@pytest.mark.parametrize(
    ("connections", "expected"),
    [
        ([Played(ROW)], [SEEN]),
        ([ConnectionRefusedError()], [("failed", ConnectionRefusedError)]),
        ([TimeoutError()], [("missed", TimeoutError, False)]),
        ([Played(TimeoutError())], [("missed", TimeoutError, False)]),
        ([Played(ConnectionDoesNotExistError("gone"))], [("failed", ConnectionDoesNotExistError)]),
        ([TooManyConnectionsError("full")], [("missed", TooManyConnectionsError, False)]),
        ([Played(InsufficientPrivilegeError("no"))], [("missed", InsufficientPrivilegeError, False)]),
        ([LookupError("a mistake in connect")], [("failed", LookupError)]),
        ([Played((None, "x"))], [("missed", ValueError, False)]),
    ],
)
async def test_one_check(connections: list[Any], expected: list[Any]) -> None:
    reports = Reports()
    await checker(reports, *connections).look()
    assert reports.all == expected


async def test_the_connection_is_kept() -> None:
    reports = Reports()
    made = checker(reports, Played())
    for _ in range(3):
        await made.look()
    assert reports.all == [SEEN] * 3
    await made.close()


async def test_a_backend_that_was_terminated_says_nothing_about_its_server() -> None:
    reports = Reports()
    made = checker(reports, Played(ROW, ConnectionDoesNotExistError("terminated")), Played(), ConnectionRefusedError())
    for _ in range(2):
        await made.look()
    assert reports.all == [SEEN, SEEN]


async def test_a_server_that_ends_its_backends_and_refuses_is_away() -> None:
    reports = Reports()
    made = checker(reports, Played(ROW, ConnectionDoesNotExistError("shut down")), ConnectionRefusedError())
    for _ in range(2):
        await made.look()
    assert reports.all == [SEEN, ("failed", ConnectionRefusedError)]


async def test_a_miss_does_not_count_while_the_event_loop_is_late() -> None:
    def block() -> TimeoutError:
        time.sleep(0.2)
        return TimeoutError()

    reports = Reports()
    await checker(reports, Played(block), timeout=0.1).look()
    assert reports.all == [("missed", TimeoutError, True)]


async def test_a_check_that_hangs_is_given_up() -> None:
    async def hang(timeout: float) -> Any:
        await asyncio.Event().wait()

    reports = Reports()
    await Checker(hang, reports, interval=1.0, timeout=0.01).look()
    assert [report[:2] for report in reports.all] == [("missed", TimeoutError)]


async def test_a_lost_connection_leads_to_a_check_at_once() -> None:
    reports = Reports()
    first = Played()
    made = checker(reports, first, Played())
    await made.look()
    task = asyncio.create_task(made.run())
    await asyncio.sleep(0)
    first.lose()
    async with asyncio.timeout(30):
        while len(reports.all) < 2:
            await asyncio.sleep(0)
    assert reports.all == [SEEN, SEEN]
    task.cancel()


async def test_a_check_without_an_answer_is_repeated_at_once() -> None:
    reports = Reports()
    made = checker(reports, Played(TimeoutError()), Played(TimeoutError()), Played())
    await made.look()
    task = asyncio.create_task(made.run())
    async with asyncio.timeout(30):
        while len(reports.all) < 3:
            await asyncio.sleep(0)
    assert reports.all == [("missed", TimeoutError, False)] * 2 + [SEEN]
    task.cancel()
