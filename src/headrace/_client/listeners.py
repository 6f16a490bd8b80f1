"""Listeners: who is told of notifications, of the server's log messages and of the end of a connection.

Source: PostgreSQL documentation, LISTEN, NOTIFY and "Asynchronous Operations" (protocol-async).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from headrace._client.base import ConnectionBase
from headrace._connect.poolers import check_own_backend
from headrace._sql.quoting import quote_identifier
from headrace.exceptions import InterfaceError, InterfaceWarning

if TYPE_CHECKING:
    from headrace.exceptions import PostgresLogMessage

LONGEST_NAME = 63
"""Bytes of an identifier (sql-syntax-identifiers: NAMEDATALEN-1)."""

Listener = Callable[..., Any]
"""A function or coroutine function."""


class ListenerMethods(ConnectionBase):
    """The methods of a connection that add and remove listeners.

    Listeners are functions or coroutine functions. They are called in the event loop, one after the other in the order
    in which they were added; what a coroutine function waits for holds nobody up. Their first argument is the
    connection, or the pool's proxy where they were added during a lease. An error in one goes to the loop's exception
    handler.
    """

    _listeners: Listeners | None

    async def add_listener(self, channel: str, callback: Listener) -> None:
        """Have `callback(connection, pid, channel, payload)` called for each notification on a channel.

        `channel` is the name as it is: upper case and spaces are kept. Inside a transaction the server listens from its
        COMMIT on, and not at all where it is rolled back. A callback added twice is called once.
        """
        self._check_open()
        listeners = self._registry()
        name = _channel(channel)
        callbacks = listeners.channels.setdefault(channel, [])
        added = _add(callbacks, callback)
        listeners.face = self._face
        if channel in listeners.listening:
            return
        # Registered first: a notification may be in the same packet as the answer.
        try:
            await check_own_backend(self._driver, "LISTEN", self._timeout(None))
            await self._listen(f"LISTEN {name}")
        except BaseException:
            if added:
                await self._forget(listeners, channel, callback)
            raise
        if not self.is_in_transaction():
            listeners.listening.add(channel)

    async def remove_listener(self, channel: str, callback: Listener) -> None:
        """Have a callback no longer called for a channel; nothing happens where it was not.

        With the last one the server is told to send no more (UNLISTEN).
        """
        listeners = self._listeners
        if listeners is None or self.is_closed() or callback not in listeners.channels.get(channel, ()):
            return
        listeners.channels[channel].remove(callback)
        if not listeners.channels[channel]:
            del listeners.channels[channel]
            listeners.listening.discard(channel)
            if not listeners.channels:
                listeners.face = None
            await self._listen(f"UNLISTEN {_channel(channel)}")

    def add_log_listener(self, callback: Callable[[Any, PostgresLogMessage], Any]) -> None:
        """Have `callback(connection, message)` called for each notice, warning or other log message of the server.

        One that is added during a lease ends with it; one that a pool's `init` adds stays.
        """
        self._check_open()
        listeners = self._registry()
        if _add(listeners.logs, callback) and self._proxy is not None:
            listeners.leased_logs.append(callback)

    def remove_log_listener(self, callback: Callable[[Any, PostgresLogMessage], Any]) -> None:
        """Have a callback no longer called for log messages."""
        if self._listeners is not None and callback in self._listeners.logs:
            self._listeners.logs.remove(callback)
            if callback in self._listeners.leased_logs:
                self._listeners.leased_logs.remove(callback)

    def add_termination_listener(self, callback: Callable[[Any], Any]) -> None:
        """Have `callback(connection)` called once when the connection has come to its end, whoever ended it.

        On a connection that is closed already it is never called.
        """
        _add(self._registry().terminations, callback)

    def remove_termination_listener(self, callback: Callable[[Any], Any]) -> None:
        """Have a callback no longer called at the end of the connection."""
        if self._listeners is not None and callback in self._listeners.terminations:
            self._listeners.terminations.remove(callback)

    # -- for the modules of the package ----------------------------------------------------------------------------

    def _on_notice(self, message: PostgresLogMessage) -> None:
        """Take a notice from the driver."""
        if self._listeners is not None:
            for callback in self._listeners.logs:
                self._listeners.call(callback, self._listeners.logs, self._face, message)

    def _on_notification(self, pid: int, channel: str, payload: str) -> None:
        """Take a notification from the driver."""
        if self._listeners is not None:
            callbacks = self._listeners.channels.get(channel, [])
            for callback in callbacks:
                self._listeners.call(callback, callbacks, self._face, pid, channel, payload)

    def _tell_of_end(self) -> None:
        """Call the termination listeners."""
        if self._listeners is not None:
            callbacks, self._listeners.terminations = self._listeners.terminations, []
            for callback in callbacks:
                self._listeners.call(callback, callbacks, self._face)

    def _drop_listeners(self) -> list[InterfaceWarning]:
        """Remove listeners at the end of a lease; returns a warning for each kind there was.

        They are those for notifications, which a reset ends on the server, and what was added for log messages.
        """
        listeners = self._listeners
        if listeners is None:
            return []
        counts = (
            (sum(map(len, listeners.channels.values())), "notification"),
            (len(listeners.leased_logs), "log"),
        )
        # Emptied, not just let go of: calls that are under way look for their callback there.
        for callbacks in listeners.channels.values():
            callbacks.clear()
        listeners.channels.clear()
        listeners.listening.clear()
        for callback in listeners.leased_logs:
            listeners.logs.remove(callback)
        listeners.leased_logs.clear()
        listeners.face = None
        return [
            InterfaceWarning(
                f"{self!r} is being released to the pool but has {count} active {kind} "
                f"listener{'' if count == 1 else 's'}",
                hint="Remove listeners before the connection is given back, or use pool.listen().",
            )
            for count, kind in counts
            if count
        ]

    def _registry(self) -> Listeners:
        if self._listeners is None:
            self._listeners = Listeners(self._driver.loop)
        return self._listeners

    async def _forget(self, listeners: Listeners, channel: str, callback: Listener) -> None:
        callbacks = listeners.channels.get(channel, [])
        if callback in callbacks:
            callbacks.remove(callback)
            if not callbacks:
                del listeners.channels[channel]
        if not listeners.channels:
            listeners.face = None

    async def _listen(self, command: str) -> None:
        driver = self._driver
        await driver.reply(driver.simple_query(command), self._timeout(None))


class Listeners:
    """The listeners of one connection."""

    __slots__ = ("_loop", "_tasks", "channels", "face", "leased_logs", "listening", "logs", "terminations")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Future[Any]] = set()
        self.face: object = None
        """The connection as listeners for notifications see it. Their lease lasts while it is kept here."""
        self.channels: dict[str, list[Listener]] = {}
        self.listening: set[str] = set()
        """Channels that the server is sure to listen on."""
        self.logs: list[Listener] = []
        self.leased_logs: list[Listener] = []
        """Those among them that end with the lease."""
        self.terminations: list[Listener] = []

    def call(self, callback: Listener, among: list[Listener], *args: Any) -> None:
        """Have the callback called soon, unless it is no longer `among` the listeners then."""
        if not self._loop.is_closed():
            self._loop.call_soon(self._call, callback, among, args)

    def _call(self, callback: Listener, among: list[Listener], args: tuple[Any, ...]) -> None:
        if callback not in among:
            return
        try:
            result = callback(*args)
        except Exception as error:
            report(self._loop, callback, error)
            return
        if isawaitable(result):
            task = asyncio.ensure_future(result, loop=self._loop)
            self._tasks.add(task)
            task.add_done_callback(lambda task: self._ended(callback, task))

    def _ended(self, callback: Listener, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            report(self._loop, callback, error)


def _channel(name: str) -> str:
    """Return the quoted name of a channel.

    One too long would be cut off by the server, and its notifications come under a name that nobody knows.
    """
    quoted = quote_identifier(name, "channel")
    if len(name.encode()) > LONGEST_NAME:
        raise InterfaceError(
            f"channel is expected to have at most {LONGEST_NAME} bytes, got {len(name.encode())}: {name!r:.100}"
        )
    return quoted


def _add(callbacks: list[Listener], callback: Listener) -> bool:
    """Add a callback; returns False where it was there already."""
    if not callable(callback):
        raise InterfaceError(f"expected a callable or an `async def` function, got {callback!r}")
    if callback in callbacks:
        return False
    callbacks.append(callback)
    return True


def report(loop: asyncio.AbstractEventLoop, callback: object, error: BaseException) -> None:
    """Tell the loop's exception handler of an error in a callback: nobody else could take it."""
    loop.call_exception_handler({"message": f"error in the listener {callback!r}", "exception": error})
