"""Transactions, nested by savepoints.

Source: PostgreSQL documentation, BEGIN, SAVEPOINT, and "Concurrency Control" for the isolation levels.
"""

from __future__ import annotations

import enum
from asyncio import CancelledError
from itertools import count
from typing import TYPE_CHECKING

from headrace._core.preparation import own_statement
from headrace._core.record import Record
from headrace.driver import KIND_VALUE
from headrace.errors import InterfaceError
from headrace.fetch import commit_refused

if TYPE_CHECKING:
    from types import TracebackType

    from headrace.connection_base import ConnectionBase

ISOLATION_LEVELS = {
    "read_uncommitted": "READ UNCOMMITTED",
    "read_committed": "READ COMMITTED",
    "repeatable_read": "REPEATABLE READ",
    "serializable": "SERIALIZABLE",
}

TEXT = 25

_savepoints = count(1)


class State(enum.Enum):
    """Where a transaction stands."""

    NEW = "not yet started"
    STARTED = "already started"
    COMMITTED = "already committed"
    ROLLEDBACK = "already rolled back"
    FAILED = "in error state"


class Transaction:
    """A transaction block, or a savepoint where one is open already; made by `Connection.transaction()`.

    As a context manager it commits at the end, and rolls back where the block raises. By hand: `start()`, then
    `commit()` or `rollback()`. Calls inside it may run at once; they run in order. A COMMIT that the server answers by
    ROLLBACK, because a statement had failed, raises InFailedSQLTransactionError with that failure as its cause.

    Cancellation while it starts or ends leaves no open transaction behind: what was begun is rolled back, and a COMMIT
    or ROLLBACK once sent is carried out.
    """

    __slots__ = ("_connection", "_deferrable", "_isolation", "_lease", "_managed", "_readonly", "_savepoint", "_state")

    def __init__(
        self,
        connection: ConnectionBase,
        isolation: str | None = None,
        readonly: bool = False,
        deferrable: bool = False,
    ) -> None:
        if isolation is not None and isolation not in ISOLATION_LEVELS:
            raise ValueError(f"isolation is expected to be either of {set(ISOLATION_LEVELS)!r}, got {isolation!r}")
        self._connection = connection
        self._lease = connection._lease
        self._isolation = isolation
        self._readonly = readonly
        self._deferrable = deferrable
        self._state = State.NEW
        self._savepoint: str | None = None
        self._managed = False

    def __repr__(self) -> str:
        mode = " ".join(
            word
            for word, wanted in (
                (self._isolation or "", self._isolation),
                ("readonly", self._readonly),
                ("deferrable", self._deferrable),
            )
            if wanted
        )
        return f"<headrace.Transaction state:{self._state.name.lower()}{' ' + mode if mode else ''} {id(self):#x}>"

    async def __aenter__(self) -> None:
        if self._managed:
            raise InterfaceError("cannot enter context: already in an `async with` block")
        self._managed = True
        await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                if not self._gone():
                    await self._rollback()
            else:
                await self._commit()
        finally:
            self._managed = False

    async def start(self) -> None:
        """Begin the transaction, or set the savepoint."""
        self._connection._check_lease(self._lease, "Transaction.start()")
        if self._state is not State.NEW:
            raise InterfaceError(f"cannot start; the transaction is {self._state.value}")
        connection = self._connection
        outer: Transaction | None = connection._transaction
        if outer is None:
            if await connection._status() != "I":
                raise InterfaceError(
                    "cannot use Connection.transaction() in a manually started transaction",
                    hint="End it by execute('COMMIT') or execute('ROLLBACK') first, or use transaction() throughout.",
                )
            outer = connection._transaction
        if outer is None:
            connection._transaction = self
            begin, undo = self._begin(), "ROLLBACK"
        else:
            await self._check_isolation(outer)
            self._savepoint = f"headrace_savepoint_{next(_savepoints):x}"
            begin, undo = f"SAVEPOINT {self._savepoint}", f"ROLLBACK TO {self._savepoint}; RELEASE {self._savepoint}"
        driver = connection._driver
        try:
            request = driver.script(begin)
            try:
                await driver.reply(request, connection._timeout(None))
            except (CancelledError, TimeoutError):
                if request.abandoned or request.status:
                    # It was sent, or even answered in the very turn of the cancellation.
                    driver.background(undo)
                raise
        except BaseException:
            self._ended(State.FAILED)
            raise
        self._state = State.STARTED

    async def commit(self) -> None:
        """Commit the transaction, or release the savepoint."""
        self._check_by_hand("commit")
        await self._commit()

    async def rollback(self) -> None:
        """Roll the transaction back, or return to the savepoint."""
        self._check_by_hand("rollback")
        await self._rollback()

    async def _commit(self) -> None:
        self._check_started("commit")
        cause = self._connection._driver.session.failed_by
        tag = await self._end("COMMIT" if self._savepoint is None else f"RELEASE SAVEPOINT {self._savepoint}",
                              State.COMMITTED)  # fmt: skip
        if tag == "ROLLBACK":
            self._state = State.ROLLEDBACK
            raise commit_refused(cause)

    async def _rollback(self) -> None:
        self._check_started("rollback")
        await self._end(
            "ROLLBACK" if self._savepoint is None else f"ROLLBACK TO {self._savepoint}; RELEASE {self._savepoint}",
            State.ROLLEDBACK,
        )

    async def _end(self, query: str, state: State) -> str:
        """Send what ends the transaction: it is carried out even where the caller no longer waits."""
        connection = self._connection
        driver = connection._driver
        request = driver.script(query, kept=True)
        try:
            tag: str = await driver.reply(request, connection._timeout(None))
        except BaseException:
            self._ended(State.FAILED)
            raise
        self._ended(state)
        return tag

    def _ended(self, state: State) -> None:
        self._state = state
        if self._connection._transaction is self:
            self._connection._transaction = None

    def _begin(self) -> str:
        words = ["BEGIN"]
        if self._isolation is not None:
            words.append(f"ISOLATION LEVEL {ISOLATION_LEVELS[self._isolation]}")
        if self._readonly:
            words.append("READ ONLY")
        if self._deferrable:
            words.append("DEFERRABLE")
        return " ".join(words)

    async def _check_isolation(self, outer: Transaction) -> None:
        if self._isolation is None:
            return
        level = outer._isolation
        if level is None:
            driver = self._connection._driver
            question = own_statement("SHOW transaction_isolation", (), [("transaction_isolation", TEXT)])
            request = driver.execute_statement(question, (), KIND_VALUE, 1, 0, Record)
            level = str(await driver.reply(request, self._connection._timeout(None))).replace(" ", "_")
        if level != self._isolation:
            raise InterfaceError(
                f"nested transaction has a different isolation level: current {self._isolation!r} != outer {level!r}"
            )

    def _check_by_hand(self, method: str) -> None:
        if self._managed:
            raise InterfaceError(f"cannot manually {method} from within an `async with` block")

    def _check_started(self, method: str) -> None:
        self._connection._check_lease(self._lease, f"Transaction.{method}()")
        if self._state is not State.STARTED:
            raise InterfaceError(f"cannot {method}; the transaction is {self._state.value}")

    def _gone(self) -> bool:
        """Whether there is nothing left to roll back: the connection is closed, or its lease over and reset."""
        return self._connection.is_closed() or self._lease != self._connection._lease
