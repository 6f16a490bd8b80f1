"""Listeners: callbacks for notifications, for the server's log messages and for the end of a connection.

They are called in the event loop, one after the other, in the order in which they were added. A coroutine function runs
as a task, so the next callback does not wait for it. The loop's exception handler gets an error in a callback.

Source: PostgreSQL documentation, LISTEN, NOTIFY and "Asynchronous Operations" (protocol-async).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from headrace._connect.poolers import check_own_backend
from headrace._sql.quoting import quote_identifier
from headrace.exceptions import InterfaceError, InterfaceWarning
from headrace.exceptions._values import shown

if TYPE_CHECKING:
    from headrace._client.interface import ConnectionInterface
    from headrace.exceptions import PostgresLogMessage

LONGEST_NAME = 63
"""Bytes of an identifier (sql-syntax-identifiers: NAMEDATALEN-1)."""

Listener = Callable[..., Any]
"""A function or coroutine function."""


class Listeners:
    """The listeners of one connection.

    The connection is an argument of the methods that need it: a reference here would be a cycle, and a forgotten
    connection would be noticed only by the garbage collector.
    """

    __slots__ = ("_channels", "_face", "_leased_logs", "_listening", "_logs", "_loop", "_tasks", "_terminations")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Future[Any]] = set()
        self._face: object = None
        """The connection as listeners for notifications get it. It keeps their lease alive."""
        self._channels: dict[str, list[Listener]] = {}
        self._listening: set[str] = set()
        """The channels for which the server has confirmed LISTEN outside of a transaction."""
        self._logs: list[Listener] = []
        self._leased_logs: list[Listener] = []
        """The log listeners that are removed at the end of the lease."""
        self._terminations: list[Listener] = []

    # -- notifications ---------------------------------------------------------------------------------------------

    async def add(self, connection: ConnectionInterface, channel: str, callback: Listener) -> None:
        """Add a listener for notifications; sends LISTEN unless the server is listening already."""
        name = _channel(channel)
        added = _add(self._channels.setdefault(channel, []), callback)
        self._face = connection._face
        if channel in self._listening:
            return
        # The callback is registered first, because a notification may be in the same packet as the reply.
        try:
            await check_own_backend(connection._driver, "LISTEN", connection._timeout(None))
            await _run(connection, f"LISTEN {name}")
        except BaseException:
            if added:
                self._take_off(channel, callback)
            raise
        if not connection.is_in_transaction():
            self._listening.add(channel)

    async def remove(self, connection: ConnectionInterface, channel: str, callback: Listener) -> None:
        """Remove a listener for notifications; sends UNLISTEN with the last one of its channel."""
        if connection.is_closed() or callback not in self._channels.get(channel, ()):
            return
        self._take_off(channel, callback)
        if channel not in self._channels:
            self._listening.discard(channel)
            await _run(connection, f"UNLISTEN {_channel(channel)}")

    def notify(self, face: object, pid: int, channel: str, payload: str) -> None:
        """Call the listeners of a channel."""
        callbacks = self._channels.get(channel, [])
        for callback in callbacks:
            self._call_soon(callback, callbacks, face, pid, channel, payload)

    def _take_off(self, channel: str, callback: Listener) -> None:
        callbacks = self._channels.get(channel, [])
        if callback in callbacks:
            callbacks.remove(callback)
            if not callbacks:
                del self._channels[channel]
        if not self._channels:
            self._face = None

    # -- log messages ----------------------------------------------------------------------------------------------

    def add_log(self, callback: Listener, *, leased: bool) -> None:
        """Add a listener for log messages; one that is added during a lease ends with it."""
        if _add(self._logs, callback) and leased:
            self._leased_logs.append(callback)

    def remove_log(self, callback: Listener) -> None:
        """Remove a listener for log messages, if it is there."""
        for callbacks in (self._logs, self._leased_logs):
            if callback in callbacks:
                callbacks.remove(callback)

    def clear_logs(self) -> None:
        """Remove all listeners for log messages."""
        self._logs.clear()

    def log(self, face: object, message: PostgresLogMessage) -> None:
        """Call the listeners for log messages."""
        for callback in self._logs:
            self._call_soon(callback, self._logs, face, message)

    # -- the end ---------------------------------------------------------------------------------------------------

    def add_termination(self, callback: Listener) -> None:
        """Add a listener for the end of the connection."""
        _add(self._terminations, callback)

    def remove_termination(self, callback: Listener) -> None:
        """Remove a listener for the end of the connection, if it is there."""
        if callback in self._terminations:
            self._terminations.remove(callback)

    def terminated(self, face: object) -> None:
        """Call the listeners for the end of the connection, for the only time."""
        callbacks, self._terminations = self._terminations, []
        for callback in callbacks:
            self._call_soon(callback, callbacks, face)

    def end_lease(self, connection: object) -> list[InterfaceWarning]:
        """Remove the listeners of a lease; returns a warning for each kind of them.

        These are the listeners for notifications, for which a reset ends LISTEN on the server, and the log listeners
        that were added during the lease.
        """
        self._face = None
        if not self._channels and not self._listening and not self._leased_logs:
            return []
        counts = (
            (sum(map(len, self._channels.values())), "notification"),
            (len(self._leased_logs), "log"),
        )
        # The lists are emptied as well: calls that are scheduled already look for their callback in them.
        for callbacks in self._channels.values():
            callbacks.clear()
        self._channels.clear()
        self._listening.clear()
        for callback in self._leased_logs:
            self._logs.remove(callback)
        self._leased_logs.clear()
        return [
            InterfaceWarning(
                f"{connection!r} is being released to the pool but has {count} active {kind} "
                f"listener{'' if count == 1 else 's'}",
                hint="Remove listeners before the connection is given back, or use pool.listen().",
            )
            for count, kind in counts
            if count
        ]

    # -- calls -----------------------------------------------------------------------------------------------------

    def _call_soon(self, callback: Listener, among: list[Listener], *args: Any) -> None:
        """Schedule a call of the callback. It is not called if it has been removed from `among` by then."""
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


async def _run(connection: ConnectionInterface, command: str) -> None:
    driver = connection._driver
    await driver.reply(driver.simple_query(command), connection._timeout(None))


def _channel(name: str) -> str:
    """Return the quoted name of a channel; raises InterfaceError if it is too long.

    The server would truncate it, and its notifications would arrive under a name for which there is no listener.
    """
    quoted = quote_identifier(name, "channel")
    if len(name.encode()) > LONGEST_NAME:
        raise InterfaceError(
            f"channel is expected to have at most {LONGEST_NAME} bytes, got {len(name.encode())}: {shown(name)}"
        )
    return quoted


def _add(callbacks: list[Listener], callback: Listener) -> bool:
    """Add a callback; returns False if it is there already."""
    if not callable(callback):
        raise InterfaceError(f"expected a callable or an `async def` function, got {callback!r}")
    if callback in callbacks:
        return False
    callbacks.append(callback)
    return True


def report(loop: asyncio.AbstractEventLoop, callback: object, error: BaseException) -> None:
    """Pass an error in a callback to the loop's exception handler, because no caller could take it."""
    loop.call_exception_handler({"message": f"error in the listener {callback!r}", "exception": error})
