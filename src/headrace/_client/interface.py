"""The interface of a connection for the modules below it: transactions, cursors, prepared statements, COPY, listeners.

They are layers below `headrace.connection`, so they must not import it. They get the connection as an argument, and
this module lists the members that they may use. `Connection` implements all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from headrace._core.rows.record import Record
    from headrace._core.rows.row_plan import RowShape
    from headrace._io.driver import Driver
    from headrace._sql.named_parameters import AnyQuery
    from headrace.exceptions import InterfaceError
    from headrace.insert.turn import Turn


class ConnectionInterface(Protocol):
    """The members of `Connection` that the modules below it use."""

    _driver: Driver
    """Sends the requests of this connection."""
    _strict_transactions: bool
    """The option `strict_transactions`: overlapping transactions of several tasks raise an error."""
    _transactions: list[Any]
    """An `OpenTransaction` for each open transaction, the outermost first."""
    _overlap: InterfaceError | None
    """The error of transactions of two tasks that have overlapped; None again once all of them have ended."""
    _reported_overlaps: set[tuple[str, str]]
    """Pairs of call sites whose transactions have overlapped and for which the log has a warning."""
    _insert_turn: Turn
    """The insertions of several tasks take turns."""

    _copied_as_text: set[str]
    """The COPYs of rows, in the binary format, that had to be in the text format when they were last run."""

    @property
    def _lease(self) -> object:
        """The lease that the connection is in now. Objects made in one lease are not usable in another one."""

    @property
    def _face(self) -> object:
        """The connection as callbacks get it: the pool's proxy during a lease."""

    def is_closed(self) -> bool:
        """Return whether the connection is closed, by either side."""

    def is_in_transaction(self) -> bool:
        """Return whether a transaction block is open: from start() on, or according to the last reply of the server."""

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """Return a transaction, or a savepoint inside an open one."""

    async def fetchval(
        self, query: AnyQuery, *args: object, column: int | str = 0, timeout: float | None = None
    ) -> Any:
        """Run a query and return one column of its first row."""

    def _timeout(self, timeout: float | None) -> float | None:
        """Return the seconds that a call may take, by default `command_timeout`; raises ValueError for a bad value."""

    def _rows_as(
        self, record_class: type[Record] | RowShape | None, row: type[Any] | None = None
    ) -> type[Record] | RowShape:
        """Return the class that rows become, by default the connection's `record_class`."""

    def _check_lease(self, lease: object, what: str) -> None:
        """Raise InterfaceError if the lease is over or the connection is closed; `what` names the call for the text."""

    def _in_own_loop(self) -> bool:
        """Return whether the connection's event loop is running this code."""

    async def _status(self) -> str:
        """Return the transaction status ("I", "T" or "E") after all requests so far have completed."""
