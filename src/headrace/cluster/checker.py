"""The check of one host: a small query on a connection of its own, again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Protocol

from headrace.cluster.topology import Observation
from headrace.exceptions import ConnectionDoesNotExistError, PostgresError

if TYPE_CHECKING:
    from headrace.connection import Connection

QUERY: Final = """
SELECT r,
       CASE WHEN r THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_flush_lsn() END,
       CASE WHEN r
            THEN (SELECT greatest(c.timeline_id, m.min_recovery_end_timeline,
                                  (SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver))
                  FROM pg_catalog.pg_control_checkpoint() AS c, pg_catalog.pg_control_recovery() AS m)
            ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8)
                 )::pg_catalog.bit(32)::pg_catalog.int4
       END,
       s.system_identifier,
       extract(epoch FROM pg_catalog.pg_postmaster_start_time())::pg_catalog.float8,
       pg_catalog.current_setting('default_transaction_read_only') = 'on'
FROM pg_catalog.pg_is_in_recovery() AS r, pg_catalog.pg_control_system() AS s
"""
"""The columns of an Observation.

The position of a primary is what it has flushed: a standby gets no more, and an idle primary may leave its last records
unflushed for long.

A standby does not tell the timeline that it replays, so this takes the highest one that is known to be reached: of
its last restart point, of the data on its disk, and, for roles that may see it (pg_read_all_stats), of the WAL that
it receives. Source: PostgreSQL documentation, "System Administration Functions" and "Control Data Functions".
"""

LATE: Final = 0.25
"""A check without an answer does not count if the event loop was late by more than this part of the time limit."""

LONGEST: Final = 3
"""Time limits that a check may take in all: for the query, a new connection, and the query again."""

ALIVE: Final = ("53",)
"""SQLSTATE classes of a server that refuses a connection because it is busy (too many connections), not away."""


class Report(Protocol):
    """The functions that are told of each check."""

    def observed(self, observation: Observation) -> None:
        """The host has answered."""

    def missed(self, error: Exception, *, late: bool) -> None:
        """The host has not answered in time, or only by an error. `late`: the event loop was late meanwhile."""

    def failed(self, error: Exception) -> None:
        """The host has refused or ended the connection."""


class Lateness:
    """Measures how late the event loop is while a check is under way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, step: float) -> None:
        self._loop = loop
        self._step = step
        self._worst = 0.0
        self._due = loop.time() + step
        self._timer = loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        self._worst = max(self._worst, now - self._due)
        self._due = now + self._step
        self._timer = self._loop.call_at(self._due, self._tick)

    def end(self) -> float:
        """Stop; returns by how many seconds the loop was late at most."""
        self._timer.cancel()
        return max(self._worst, self._loop.time() - self._due)


class Checker:
    """Checks one host. `connect` opens a connection to it, and `report` is told of each check."""

    def __init__(
        self, connect: Callable[[float], Awaitable[Connection]], report: Report, *, interval: float, timeout: float
    ) -> None:
        self._connect = connect
        self._report = report
        self._interval = interval
        self._timeout = timeout
        self._connection: Connection | None = None
        self._wakes: asyncio.Future[None] | None = None
        self._is_new = False
        self._again = False
        self._was_early = False
        self.checks = 0

    async def run(self) -> None:
        """Check the host every `interval` seconds, and at once when the connection is lost or a check was missed."""
        while True:
            await self._pause()
            await self.look()

    async def _pause(self) -> None:
        loop = asyncio.get_running_loop()
        if self._again:
            self._again = False
            return
        self._wakes = loop.create_future()
        timer = loop.call_later(self._interval, _settle, self._wakes)
        try:
            await self._wakes
        finally:
            self._wakes = None
            self._was_early = loop.time() < timer.when()
            timer.cancel()

    def wake(self) -> None:
        """Check at once, unless the last check was early too."""
        if self._wakes is not None and not self._was_early:
            _settle(self._wakes)

    async def look(self) -> None:
        """Check once. A first check without an answer is followed by another one at once, on a new connection."""
        loop = asyncio.get_running_loop()
        self.checks += 1
        lateness = Lateness(loop, self._timeout / 10)
        try:
            async with asyncio.timeout(LONGEST * self._timeout):
                try:
                    observation = await self._ask()
                except ConnectionDoesNotExistError:
                    if self._is_new:
                        raise
                    # Its own backend may have been terminated. A new connection shows whether the host is away.
                    observation = await self._ask()
        except Exception as error:
            # The checks go on after any error, and the state of the host has its text.
            late = lateness.end() > LATE * self._timeout
            if self._is_away(error):
                self._report.failed(error)
            else:
                self._again = isinstance(error, TimeoutError) and not self._again
                self._report.missed(error, late=late)
            self.drop()
        else:
            lateness.end()
            self._again = False
            self._report.observed(observation)

    def _is_away(self, error: Exception) -> bool:
        """Return whether an error shows that the host does not serve anybody, and not only that it is slow or busy."""
        if isinstance(error, TimeoutError):
            return False
        if isinstance(error, PostgresError) and (error.sqlstate or "")[:2] in ALIVE:
            return False
        return self._connection is None or self._connection.is_closed()

    async def _ask(self) -> Observation:
        if self._connection is not None and self._connection.is_closed():
            self._connection = None
        self._is_new = self._connection is None
        if self._connection is None:
            connection = await self._connect(self._timeout)
            self._connection = connection
            connection._when_lost(self._on_lost)
        row = await self._connection.fetchrow(QUERY, timeout=self._timeout)
        assert row is not None
        in_recovery, lsn, timeline, system, started, read_only = row
        # pg_control_system() returns a signed number, but programs of PostgreSQL print it without a sign.
        return Observation(in_recovery, lsn or 0, timeline, system % 2**64, started, read_only)

    def _on_lost(self, connection: Connection) -> None:
        if connection is self._connection:
            self.wake()

    def drop(self) -> None:
        """Drop the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
