"""What everything on a connection stands on: its driver, its defaults, its lease and the state of its transaction."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from headrace._client.timeouts import checked_timeout
from headrace._core.rows.record import Record
from headrace.exceptions import InterfaceError
from headrace.rows import checked_record_class, rows_as

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace._connect.params.resolve import Address, ConnectParams
    from headrace._core.rows.row_plan import RowShape
    from headrace._io.driver import Driver


class ConnectionBase:
    """A connection as its statements, cursors, transactions, listeners and COPYs see it."""

    _strict_transactions = False

    def __init__(
        self,
        driver: Driver,
        params: ConnectParams,
        *,
        record_class: type[Record] = Record,
        command_timeout: float | None = None,
        address: Address | None = None,
    ) -> None:
        self._driver = driver
        self._params = params
        self._address = address if address is not None else params.addresses[0]
        self._record_class = record_class
        self._command_timeout = command_timeout
        self._transactions: list[Any] = []
        """An `OpenTransaction` for each transaction that is open, the outermost first."""
        self._overlap: InterfaceError | None = None
        """How transactions of two tasks have overlapped, until all of them have ended."""
        self._reported_overlaps: set[tuple[str, str]] = set()
        """The call sites of transactions of two tasks that the log has a warning of."""
        self._term: object = object()
        self._proxy: Callable[[], object] | None = None
        self._reset_at = 0
        """How many requests there had been with the reset after the last lease, which may still be under way."""
        driver.attach(self)

    def is_closed(self) -> bool:
        """Return whether the connection is closed, by either side."""
        return self._driver.is_closed

    def is_in_transaction(self) -> bool:
        """Return whether a transaction block is open, as the server said last."""
        driver = self._driver
        if driver.request_count - driver.pending < self._reset_at:
            return False  # what it said last is about the lease before
        return driver.session.status in ("T", "E")

    def _forget_transactions(self) -> None:
        """Learn that no transaction is open any more, or that none will be once a reset is done."""
        for transaction in self._transactions:
            transaction.is_open = transaction.starting = False
        self._transactions.clear()
        self._overlap = None

    def _reset_is_sent(self) -> None:
        """Learn that all that the last lease has left is undone by what was asked up to now."""
        self._reset_at = self._driver.request_count

    def _check_lease(self, lease: object, what: str) -> None:
        """Raise InterfaceError where what was made during a lease outlives it, or the connection is closed."""
        if lease != self._lease:
            raise InterfaceError(f"cannot call {what}: the underlying connection has been released back to the pool")
        if self.is_closed():
            raise InterfaceError(f"cannot call {what}: the underlying connection is closed")

    @property
    def _lease(self) -> object:
        """What things made on the connection belong to; they are of no use once it is another one."""
        return self._term if self._proxy is None else self._proxy()

    @property
    def _face(self) -> object:
        """What callbacks get to see of the connection."""
        return (self._proxy() if self._proxy is not None else None) or self

    # Instrumentation of asyncpg looks for these, private though they are.

    @property
    def _addr(self) -> tuple[str, int] | str:
        """Where the server is, as the user has named it: (host, port), or the path of a Unix socket."""
        address = self._address
        return address.socket_path if address.is_unix else (address.host or address.target, address.port)

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that the connection belongs to."""
        return self._driver.loop

    def _timeout(self, timeout: float | None) -> float | None:
        return self._command_timeout if timeout is None else checked_timeout(timeout)

    def _rows_as(
        self, record_class: type[Record] | RowShape | None, row: type[Any] | None = None
    ) -> type[Record] | RowShape:
        if row is not None:
            return rows_as(row, record_class)
        if record_class is None:
            return self._record_class
        return checked_record_class(record_class)

    def _check_open(self) -> None:
        if self.is_closed():
            raise InterfaceError("connection is closed")

    def _in_own_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._driver.loop
        except RuntimeError:
            return False

    async def _status(self) -> str:
        """Return the transaction status once everything asked so far is done."""
        driver = self._driver
        if driver.pending and driver.session.status != "I":
            await driver.reply(driver.simple_query(""), self._timeout(None))
        return driver.session.status
