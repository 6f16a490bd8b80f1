"""Transactions, which nest as savepoints.

Source: PostgreSQL documentation, BEGIN, SAVEPOINT, and "Concurrency Control" for the isolation levels.
"""

from __future__ import annotations

import enum
import logging
import os
import sys
from asyncio import CancelledError, current_task
from contextvars import ContextVar
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import ref

from headrace._core.pipeline.prepare import own_statement
from headrace._core.rows.record import Record
from headrace._io.driver import KIND_VALUE
from headrace.exceptions import InFailedSQLTransactionError, InterfaceError, PostgresError
from headrace.exceptions._values import shown

if TYPE_CHECKING:
    from types import CodeType, TracebackType
    from typing import Any

    from headrace._client.interface import ConnectionInterface
    from headrace._core.pipeline.commands import Block, Commands
    from headrace._core.pipeline.requests import Command

ISOLATION_LEVELS = {
    "read_uncommitted": "READ UNCOMMITTED",
    "read_committed": "READ COMMITTED",
    "repeatable_read": "REPEATABLE READ",
    "serializable": "SERIALIZABLE",
}

TEXT = 25

# No such savepoint exists, so the server fails the open transaction (ROLLBACK TO SAVEPOINT, 3B001). The name explains
# the error in the server's log.
FAIL = "ROLLBACK TO SAVEPOINT headrace_transactions_of_two_tasks_overlap"

MANUAL_HINT = "End it by execute('COMMIT') or execute('ROLLBACK') first, or use transaction() throughout."

HINT = (
    "Use one connection for each task, such as `async with pool.acquire()` in each of them, or run the transactions "
    "one after another."
)

PACKAGE = f"{Path(__file__).parent}{os.sep}"

log = logging.getLogger("headrace")

_savepoints = count(1)


class State(enum.Enum):
    """The state of a transaction."""

    NEW = "not yet started"
    STARTED = "already started"
    COMMITTED = "already committed"
    ROLLEDBACK = "already rolled back"
    FAILED = "in error state"


class OpenTransaction:
    """The state of a transaction that is open on a connection, from the call of start() to the call that ends it.

    It refers to neither the connection nor the `Transaction`, so contexts that inherit it keep neither alive.
    """

    isolation: str | None = None
    is_open = False
    starting = False
    managed = False
    """An `async with` block will end it."""
    task: ref[Any] | None = None
    """The task that started it."""
    outer: OpenTransaction | None = None
    """The transaction around it, on any connection, in the context that created it."""

    code: CodeType
    """The caller of `transaction()`, with the instruction below. The line number is looked up if it is needed."""
    instruction: int

    def inherit(self, outer: OpenTransaction | None) -> None:
        """Become a descendant of the transactions of a context."""
        inner = self
        while True:
            # Drop those that have ended, or the context of a task that never ends would collect them.
            while outer is not None and not outer.is_open:
                outer = outer.outer
            inner.outer = outer
            if outer is None:
                break
            inner, outer = outer, outer.outer

    def is_entered_by(self, transaction: OpenTransaction) -> bool:
        """Return whether `transaction` comes from the task that started this one, or from a descendant of it."""
        if self.task is transaction.task:
            return True
        outer = transaction.outer
        while outer is not None and outer is not self:
            outer = outer.outer
        return outer is self

    @property
    def call_site(self) -> str:
        """File, line and function of the call of `transaction()`."""
        code = self.code
        line = code.co_firstlineno
        for start, end, number in code.co_lines():
            if start <= self.instruction < end and number is not None:
                line = number
        return f"{code.co_filename}:{line}, in {code.co_qualname}"


_innermost: ContextVar[OpenTransaction | None] = ContextVar("headrace_innermost_transaction", default=None)


def unknown_isolation(isolation: object) -> str:
    """Return the text of the error for an isolation level that does not exist."""
    text = f"isolation is expected to be either of {set(ISOLATION_LEVELS)!r}, got {shown(isolation)}"
    level = "_".join(isolation.lower().replace("_", " ").split()) if isinstance(isolation, str) else ""
    return f"{text}: write {level!r}" if level in ISOLATION_LEVELS else text


def check_isolation(isolation: object) -> None:
    """Raise ValueError for an isolation level that does not exist. None stands for the server's default."""
    if isolation is not None and isolation not in ISOLATION_LEVELS:
        raise ValueError(unknown_isolation(isolation))


class Transaction:
    """A transaction block, or a savepoint inside an open one. `Connection.transaction()` returns it.

    As a context manager it commits at the end, or rolls back if the block raises. Manual use is `start()`, then
    `commit()` or `rollback()`. Calls inside it may be concurrent; they run in order. If the server answers COMMIT with
    ROLLBACK, because a statement had failed, InFailedSQLTransactionError is raised with that failure as its cause.

    The transactions of several tasks on one connection must not overlap. `start()` raises InterfaceError while another
    task waits for the start of one. `commit()` raises InterfaceError if another task's transaction is open inside this
    one; `rollback()` never does. In both cases all of them are rolled back: until the last one has ended, every
    statement on the connection raises InFailedSQLTransactionError, and so does each `commit()`.

    BEGIN and SAVEPOINT cost no round trip: they are sent with the first statement. If the server refuses them, that
    statement raises the error and is not executed, nor is any other of the block. A block without a statement sends
    nothing. Behind a pooler that switches backends, `start()` sends the command and waits for the reply.

    Cancellation of the start or the end leaves no open transaction. A COMMIT or ROLLBACK that was sent takes effect. A
    transaction whose start was cancelled after BEGIN was sent is committed or released at once: it can contain nothing
    but queries of other tasks.

    Source: PostgreSQL documentation, BEGIN and SAVEPOINT, and "Pipelining" (protocol-flow-pipelining).
    """

    __slots__ = (
        "_block", "_command", "_connection", "_deferrable", "_isolation", "_lease", "_open", "_readonly", "_savepoint",
        "_state",
    )  # fmt: skip

    def __init__(
        self,
        connection: ConnectionInterface,
        isolation: str | None = None,
        readonly: bool = False,
        deferrable: bool = False,
    ) -> None:
        check_isolation(isolation)
        self._connection = connection
        self._lease = connection._lease
        self._isolation = isolation
        self._readonly = readonly
        self._deferrable = deferrable
        self._state = State.NEW
        self._savepoint: str | None = None
        self._command: Command | None = None
        self._block: Block | None = None
        this = self._open = OpenTransaction()
        if isolation is not None:
            this.isolation = isolation
        frame = sys._getframe(2)
        code = frame.f_code
        while code.co_filename.startswith(PACKAGE) and frame.f_back is not None:
            # It was called through a lease, or by insert_records().
            frame = frame.f_back
            code = frame.f_code
        this.code = code
        this.instruction = frame.f_lasti
        inherited = _innermost.get()
        if inherited is not None and (inherited.is_open or inherited.outer is not None):
            this.inherit(inherited)
        _innermost.set(this)

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

    @property
    def _managed(self) -> bool:
        """An attribute that asyncpg's users know."""
        return self._open.managed

    async def __aenter__(self) -> None:
        if self._open.managed:
            raise InterfaceError("cannot enter context: already in an `async with` block")
        self._open.managed = True
        try:
            await self.start()
        except BaseException:
            self._open.managed = False
            raise

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
            self._open.managed = False

    async def start(self) -> None:
        """Begin the transaction, or set the savepoint. The command is sent with the first statement.

        So the server's error, and the loss of the connection, are raised by the first statement, or by `commit()`.
        Raises InterfaceError if another task waits for the start of a transaction on the connection. With
        `strict_transactions`, also raises it if the open transaction belongs to a task that this one does not descend
        from.
        """
        connection = self._connection
        connection._check_lease(self._lease, "Transaction.start()")
        if self._state is not State.NEW:
            raise InterfaceError(f"cannot start; the transaction is {self._state.value}")
        this = self._open
        if this.is_open:
            raise InterfaceError("cannot start; another task is starting the transaction")
        transactions: list[OpenTransaction] = connection._transactions
        outermost = transactions[0] if transactions else None
        task = current_task()
        this.task = ref(task) if task is not None else None
        if (inherited := _innermost.get()) is not this:
            # It was created in a context that the tasks created from here on do not inherit.
            this.inherit(inherited)
            _innermost.set(this)
        if outermost is not None:
            self._check_others(transactions)
        transactions.append(this)
        this.is_open = this.starting = True
        try:
            if outermost is None:
                if await connection._status() != "I":
                    raise InterfaceError(
                        "cannot use Connection.transaction() in a manually started transaction", hint=MANUAL_HINT
                    )
                begin, end = self._begin(), "COMMIT"
            else:
                await self._check_isolation(outermost)
                name = self._savepoint = f"headrace_savepoint_{next(_savepoints):x}"
                begin, end = f"SAVEPOINT {name}", f"RELEASE SAVEPOINT {name}"
            if not this.is_open:
                raise self._no_longer_open("start")
            driver = connection._driver
            driver.check()
            if self._can_put_off():
                commands = driver.session.commands
                put_off = commands.begin if outermost is None else commands.put_off
                observer = driver.observer
                self._command = put_off(begin, None if observer is None else observer.command(begin))
            else:
                await self._start_at_once(begin, end)
                if outermost is None:
                    driver.session.commands.begun()
        except BaseException:
            last = transactions == [this]
            self._ended(State.FAILED)
            if last and connection._overlap is not None:
                connection._overlap = None
                connection._driver.background("ROLLBACK")
            raise
        self._block = self._commands.block
        this.starting = False
        self._state = State.STARTED

    def _can_put_off(self, *, releases: bool = False) -> bool:
        """Return whether BEGIN or SAVEPOINT, or RELEASE, may travel with the next request."""
        session = self._connection._driver.session
        if session.statements.unnamed or session.types.pooled:
            # A pooler may give the next request to another backend.
            return False
        commands = session.commands
        if releases:
            # It cannot fail then, unless a statement such as COMMIT AND CHAIN has ended the block of the savepoint.
            return commands.status == "T" and not session.count_pending() and commands.block is self._block
        # In a failed transaction the server's error is raised at once.
        return commands.status != "E"

    async def _start_at_once(self, begin: str, end: str) -> None:
        """Send the command that begins it, and wait for the reply. `end` is the command that undoes it."""
        connection = self._connection
        driver = connection._driver
        request = driver.simple_query(begin)
        try:
            await driver.reply(request, connection._timeout(None))
        except (CancelledError, TimeoutError):
            if (request.abandoned or request.status) and self._open.is_open and connection._overlap is None:
                # It was sent, and perhaps even answered in the tick of the cancellation. This task has done nothing
                # inside it, but another one may have, so everything that succeeded is kept. After the end of the
                # lease or an overlap something else ends it.
                driver.background(end)
            raise

    async def commit(self) -> None:
        """Commit the transaction, or release the savepoint. RELEASE is sent with the next statement, or not at all.

        Raises the server's error if it has refused BEGIN and no statement has raised that. Raises InterfaceError if
        another task's transaction is open inside it, and InFailedSQLTransactionError if everything was rolled back
        because a statement had failed or transactions of two tasks had overlapped.
        """
        self._check_by_hand("commit")
        await self._commit()

    async def rollback(self) -> None:
        """Roll back the transaction, or return to the savepoint.

        If another task's transaction is open inside it, both are rolled back, with all transactions around them.
        """
        self._check_by_hand("rollback")
        await self._rollback()

    async def _commit(self) -> None:
        self._check_started("commit")
        connection = self._connection
        overlap = connection._overlap
        if overlap is not None:
            await self._end_overlapping(State.ROLLEDBACK)
            error = InFailedSQLTransactionError(
                "nothing was kept: transactions of two tasks had overlapped on the connection, and were rolled back",
                hint=HINT,
            )
            raise error from overlap
        if connection._transactions[-1] is not self._open and (other := self._other_inside()) is not None:
            refused = InterfaceError(
                f"cannot commit the transaction made at {self._open.call_site}: another task's transaction is open "
                f"inside it, made at {other.call_site}; both are rolled back",
                hint=HINT,
            )
            self._fail(refused)
            await self._end_overlapping(State.FAILED)
            raise refused
        if self._was_unsent(State.COMMITTED):
            return
        not_begun = self._commands.refusal()
        if not_begun is not None:
            self._ended(State.ROLLEDBACK)
            raise not_begun
        if self._savepoint is not None:
            release = f"RELEASE SAVEPOINT {self._savepoint}"
            if self._can_put_off(releases=True):
                connection._driver.check()
                observer = connection._driver.observer
                self._commands.put_off(release, None if observer is None else observer.command(release))
                self._ended(State.COMMITTED)
                return
        try:
            await self._end(
                "COMMIT" if self._savepoint is None else f"RELEASE SAVEPOINT {self._savepoint}", State.COMMITTED
            )
        except InFailedSQLTransactionError:
            if self._savepoint is None:
                self._state = State.ROLLEDBACK
            raise

    async def _rollback(self) -> None:
        self._check_started("rollback")
        connection = self._connection
        if connection._overlap is None and connection._transactions[-1] is not self._open:
            other = self._other_inside()
            if other is not None:
                self._fail(
                    InterfaceError(
                        f"the transaction made at {self._open.call_site} was rolled back while another task's was open "
                        f"inside it, made at {other.call_site}",
                        hint=HINT,
                    )
                )
        if connection._overlap is not None:
            await self._end_overlapping(State.ROLLEDBACK)
            return
        if self._was_unsent(State.ROLLEDBACK):
            return
        if self._is_refused():
            self._ended(State.ROLLEDBACK)
            return
        try:
            await self._end(
                "ROLLBACK" if self._savepoint is None else f"ROLLBACK TO {self._savepoint}; RELEASE {self._savepoint}",
                State.ROLLEDBACK,
            )
        except PostgresError:
            if not self._is_refused():
                raise
            # Its SAVEPOINT was still under way.
            self._state = State.ROLLEDBACK

    @property
    def _commands(self) -> Commands:
        return self._connection._driver.session.commands

    def _was_unsent(self, state: State) -> bool:
        """End it if nothing was queued behind the command that begins it; returns whether that was so."""
        if self._command is None or not self._commands.take_back(self._command):
            return False
        self._ended(state)
        return True

    def _is_refused(self) -> bool:
        """Return whether the server has refused the command that begins it, or the BEGIN around it."""
        return (self._command is not None and self._command.is_refused) or self._commands.is_refused

    async def _end(self, query: str, state: State) -> None:
        """Send the query that ends the transaction. It is executed even if the caller no longer waits.

        Requests from here on are outside the transaction, so it counts as ended before the reply.
        """
        connection = self._connection
        driver = connection._driver
        commands = driver.session.commands
        driver.check()
        if not query.startswith("RELEASE"):
            # It includes those that were put off.
            commands.drop_unsent()
        block = commands.end_block() if query in ("COMMIT", "ROLLBACK") else None
        request = driver.simple_query(query, uncancellable=True)
        if block is not None and query == "COMMIT":
            block.ends_with(request)
        self._ended(state)
        if connection._overlap is not None:
            connection._overlap = None  # this was the last one
        try:
            await driver.reply(request, connection._timeout(None))
        except BaseException:
            self._state = State.FAILED
            raise

    def _ended(self, state: State) -> None:
        """Remove it from the connection's list, with those inside it that its own task left open."""
        self._state = state
        this = self._open
        if not this.is_open:
            return
        this.is_open = this.starting = False
        transactions: list[OpenTransaction] = self._connection._transactions
        if transactions[-1] is this:
            transactions.pop()
        else:
            for each in transactions[transactions.index(this) + 1 :]:
                if each.task is this.task:
                    each.is_open = False
            transactions[:] = [each for each in transactions if each.is_open]
        if not transactions:
            self._commands.end_block()

    # -- for the dialect of SQLAlchemy -----------------------------------------------------------------------------

    def _was_prepared(self) -> None:
        """Note that PREPARE TRANSACTION has ended it."""
        self._ended(State.COMMITTED)

    # -- several tasks ---------------------------------------------------------------------------------------------

    def _check_others(self, transactions: list[OpenTransaction]) -> None:
        """Raise InterfaceError, or warn, if the open transactions do not allow this one inside."""
        this = self._open
        last = transactions[-1]
        if last.starting:
            raise InterfaceError(
                f"cannot start the transaction made at {this.call_site}: another task is starting one on this "
                f"connection, made at {last.call_site}",
                hint=HINT,
            )
        for each in reversed(transactions):
            if each.is_entered_by(this):
                return
        connection = self._connection
        sites = (last.call_site, this.call_site)
        if connection._strict_transactions:
            raise InterfaceError(
                f"cannot start the transaction made at {sites[1]}: the one that is open on this connection, made at "
                f"{sites[0]}, belongs to another task, which has not created this one",
                hint=HINT,
            )
        if sites not in connection._reported_overlaps:
            connection._reported_overlaps.add(sites)
            log.warning(
                "the transaction made at %s is a savepoint inside the transaction of another task, made at %s: what it "
                "commits is lost if that is rolled back. strict_transactions=True makes this an error. %s",
                sites[1], sites[0], HINT,
            )  # fmt: skip

    def _other_inside(self) -> OpenTransaction | None:
        """Return a transaction of another task that is open inside this one; None if there is none."""
        this = self._open
        transactions: list[OpenTransaction] = self._connection._transactions
        for each in transactions[transactions.index(this) + 1 :]:
            if each.task is not this.task:
                return each
        return None

    def _fail(self, overlap: InterfaceError) -> None:
        """Fail the open transaction on the server, so that no part of it can be committed."""
        self._connection._overlap = overlap
        if self._commands.is_over:
            return
        self._connection._driver.background(FAIL, error=overlap)

    async def _end_overlapping(self, state: State) -> None:
        """End one of several overlapping transactions. The last one rolls back everything."""
        connection = self._connection
        this = self._open
        transactions: list[OpenTransaction] = connection._transactions
        if transactions[0] is this and all(each.task is this.task for each in transactions):
            await self._end("ROLLBACK", state)
        else:
            self._ended(state)

    def _begin(self) -> str:
        words = ["BEGIN"]
        if self._isolation is not None:
            words.append(f"ISOLATION LEVEL {ISOLATION_LEVELS[self._isolation]}")
        if self._readonly:
            words.append("READ ONLY")
        if self._deferrable:
            words.append("DEFERRABLE")
        return " ".join(words)

    async def _check_isolation(self, outer: OpenTransaction) -> None:
        if self._isolation is None:
            return
        level = outer.isolation
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
        if self._open.managed:
            raise InterfaceError(f"cannot manually {method} from within an `async with` block")

    def _check_started(self, method: str) -> None:
        self._connection._check_lease(self._lease, f"Transaction.{method}()")
        if self._state is not State.STARTED:
            raise InterfaceError(f"cannot {method}; the transaction is {self._state.value}")
        if not self._open.is_open:
            raise self._no_longer_open(method)

    def _no_longer_open(self, method: str) -> InterfaceError:
        self._connection._check_lease(self._lease, f"Transaction.{method}()")
        return InterfaceError(
            f"cannot {method}; the transaction is no longer open: the one around it has ended, or the connection was "
            "reset"
        )

    def _gone(self) -> bool:
        """Return whether nothing is left to roll back: the connection was closed or reset, or the outer block ended."""
        connection = self._connection
        return not self._open.is_open or connection.is_closed() or self._lease != connection._lease
