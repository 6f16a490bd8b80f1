"""Notifications as an asynchronous iterator, on a connection of its own that is replaced when it is lost.

PostgreSQL keeps no notifications for a session that is gone. An iterator that only reconnects would lose some without a
sign. This one yields a `Gap` in the place of notifications that may be missing.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from headrace.exceptions import InterfaceError
from headrace.exceptions._values import shown

if TYPE_CHECKING:
    from types import TracebackType

    from headrace.connection import Connection

log = logging.getLogger("headrace.listen")

FIRST_DELAY = 0.1
LONGEST_DELAY = 30.0
"""Seconds between attempts to connect: each pause is twice the one before, minus a random part of up to a half."""
LONGEST_DELAY_OF_SEVERAL = 1.0
"""The longest of these pauses if there are several hosts."""


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification, as NOTIFY has sent it."""

    channel: str
    payload: str
    pid: int
    """The backend that sent it."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A place where notifications may be missing. A program that derives a state from them should read it anew."""

    reason: Literal["connection lost", "queue full"]
    missing: int | None
    """How many notifications were dropped from a full queue; None for a lost connection, as the number is unknown."""

    seconds: float
    """How long there was no connection that listened; 0 for a full queue."""

    error: object
    """Why the connection was lost: an exception or a text; None for a full queue."""


class ListeningPool(Protocol):
    """The pool, as a `Listening` uses it."""

    _listenings: set[Listening]
    """The open ones, which end with the pool."""

    @property
    def _has_several_hosts(self) -> bool:
        """True if another host may take over."""

    def _choosing_host(self) -> AbstractContextManager[object]:
        """Return the block in which `_connect_one()` is called."""

    def _check(self) -> None:
        """Raise InterfaceError unless the pool is open, on this event loop."""

    async def _connect_one(self) -> Connection:
        """Return a new connection that the pool does not count."""


class Listening:
    """The notifications on some channels: `async with pool.listen("orders") as events: async for event in events`.

    The server listens from the beginning of the block. Events are `Notification`s, and a `Gap` if some may be missing:
    after the connection was lost and replaced, and after the queue was full. The queue keeps up to `max_queue` events
    for a slow consumer; if there are more, the oldest are dropped. The connection is checked every `heartbeat` seconds.
    Listening ends with the block or the pool.
    """

    def __init__(self, pool: ListeningPool, channels: tuple[str, ...], max_queue: int, heartbeat: float | None) -> None:
        if not channels:
            raise InterfaceError("channels are expected: pool.listen('orders', ...)")
        for channel in channels:
            if not isinstance(channel, str):
                raise InterfaceError(
                    f"a channel is expected to be a str, got {type(channel).__name__} {shown(channel)}"
                )
        if isinstance(max_queue, bool) or not isinstance(max_queue, int) or max_queue < 1:
            raise ValueError(f"max_queue is expected to be greater than zero, got {shown(max_queue)}")
        if heartbeat is not None and not heartbeat > 0:
            raise ValueError(f"heartbeat is expected to be a number of seconds or None, got {shown(heartbeat)}")
        self._pool = pool
        self._channels = channels
        self._max_queue = max_queue
        self._heartbeat = heartbeat
        self._queue: deque[Notification | Gap] = deque()
        self._dropped = 0
        self._arrival: asyncio.Future[None] | None = None
        self._connection: Connection | None = None
        self._lost_at: float | None = None
        self._lost_with: object = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._beat: asyncio.TimerHandle | None = None
        self._state: Literal["new", "open", "closed"] = "new"

    def __repr__(self) -> str:
        state = "reconnecting" if self._state == "open" and self._connection is None else self._state
        return f"<{type(self).__name__} {', '.join(map(repr, self._channels))} {state} {id(self):#x}>"

    # -- iteration -------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._state != "new":
            raise InterfaceError("listening cannot begin twice: call pool.listen() again")
        self._pool._check()
        self._state = "open"
        self._pool._listenings.add(self)
        try:
            await self._connect()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[Notification | Gap]:
        # The event loop closes a generator that is left early, and so the connection.
        async with self if self._state == "new" else nullcontext():
            while (event := await self.next()) is not None:
                yield event

    async def next(self) -> Notification | Gap | None:
        """Return the next event, or None after the end and the last event."""
        while not self._queue:
            if self._state == "closed":
                return None
            if self._arrival is not None:
                raise InterfaceError("cannot wait for the next event: another task is waiting for it already")
            self._arrival = asyncio.get_running_loop().create_future()
            try:
                await self._arrival
            finally:
                self._arrival = None
        if self._dropped:
            missing, self._dropped = self._dropped, 0
            return Gap("queue full", missing, 0.0, None)
        return self._queue.popleft()

    def _put(self, event: Notification | Gap) -> None:
        if len(self._queue) >= self._max_queue:
            self._queue.popleft()
            self._dropped += 1
        self._queue.append(event)
        self._wake()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    # -- the connection --------------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        with self._pool._choosing_host():
            connection = await self._pool._connect_one()
        try:
            for channel in self._channels:
                await connection.add_listener(channel, self._on_notification)
            if self._state == "closed":
                raise InterfaceError("listening has ended")
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        connection._when_lost(self._on_lost)
        if connection.is_closed():
            self._on_lost(connection)
        else:
            self._check_later()

    def _on_notification(self, connection: object, pid: int, channel: str, payload: str) -> None:
        self._put(Notification(channel, payload, pid))

    def _on_lost(self, connection: Connection) -> None:
        if self._state != "open" or self._connection is None:
            return
        self._connection = None
        if self._beat is not None:
            self._beat.cancel()
        loop = asyncio.get_running_loop()
        self._lost_at = loop.time()
        self._lost_with = connection._lost_with
        log.warning("the connection that listens on %s is lost: %s", self._channels, self._lost_with)
        self._spawn(self._reconnect())

    async def _reconnect(self) -> None:
        delay = FIRST_DELAY
        while self._state == "open":
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            longest = LONGEST_DELAY_OF_SEVERAL if self._pool._has_several_hosts else LONGEST_DELAY
            delay = min(delay * 2, longest)
            lost_at, lost_with = self._lost_at, self._lost_with
            assert lost_at is not None
            try:
                await self._connect()
            except Exception as error:
                log.warning("no new connection to listen on %s yet: %s", self._channels, error)
                continue
            away = asyncio.get_running_loop().time() - lost_at
            self._put(Gap("connection lost", None, away, lost_with))
            return

    def _check_later(self) -> None:
        if self._heartbeat is not None:
            self._beat = asyncio.get_running_loop().call_later(self._heartbeat, self._check_now)

    def _check_now(self) -> None:
        if self._connection is not None:
            self._spawn(self._check(self._connection))

    async def _check(self, connection: Connection) -> None:
        """Send a health check, because a dead connection looks the same as one without notifications."""
        try:
            await connection.execute("", timeout=self._heartbeat)
        except Exception as error:
            log.warning("the connection that listens on %s does not answer: %r", self._channels, error)
            connection.terminate()
        else:
            self._check_later()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- the end ---------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Stop listening. Events that have arrived can still be read."""
        connection = self._connection
        tasks = self._end()
        if connection is not None:
            await connection.close()
        if tasks:
            await asyncio.wait(tasks)

    def terminate(self) -> None:
        """Stop listening at once, without telling the server."""
        connection = self._connection
        self._end()
        if connection is not None:
            connection.terminate()

    def _end(self) -> list[asyncio.Task[None]]:
        self._state = "closed"
        self._connection = None
        self._pool._listenings.discard(self)
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        self._wake()
        return tasks
