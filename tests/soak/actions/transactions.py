"""Transactions: nested, failing, by hand, with calls at once inside them."""

from __future__ import annotations

import asyncio
from typing import Literal

import headrace
from headrace.exceptions import DivisionByZeroError, InFailedSQLTransactionError
from tests.soak.actions.echoes import echo
from tests.soak.actions.writes import INSERT
from tests.soak.figures import Finding
from tests.soak.turn import Turn, settled

DEPTH = 3

ISOLATION = (None, None, "read_committed", "repeatable_read")


class Undo(Exception):
    """Raised in a block to have it rolled back."""


class Books:
    """What one transaction has written so far."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self.standing: list[str] = []
        """Stands if the transaction is committed."""

    def token(self) -> str:
        """Return a token that is about to be written."""
        token = self._turn.token()
        self._turn.ledger.write([token])
        self.standing.append(token)
        return token

    def undo_to(self, mark: int) -> None:
        """All that was written since then is rolled back."""
        self._turn.ledger.refuse(self.standing[mark:])
        del self.standing[mark:]


async def nested(turn: Turn) -> None:
    """A block with blocks inside it, some of which fail."""
    async with turn.session() as connection:
        books = Books(turn)
        committing = False
        try:
            async with connection.transaction(isolation=turn.rng.choice(ISOLATION)):
                await _block(turn, connection, books, 1)
                if turn.chance(0.2):
                    raise Undo
                committing = True
        except BaseException as error:
            if not committing:
                books.undo_to(0)
            if isinstance(error, Undo):
                turn.figures.count("transactions rolled back")
                return
            raise
        turn.ledger.acknowledge(books.standing)
        turn.figures.count("transactions")


async def _block(turn: Turn, connection: headrace.Connection, books: Books, depth: int) -> None:
    for _ in range(turn.rng.randrange(1, 4)):
        what = turn.rng.random()
        if what < 0.4:
            await connection.execute(INSERT, books.token())
        elif what < 0.6:
            await echo(turn, connection)
        elif what < 0.75:
            await turn.together([connection.execute(INSERT, books.token()), echo(turn, connection)])
        elif depth < DEPTH:
            await _savepoint(turn, connection, books, depth)


async def _savepoint(turn: Turn, connection: headrace.Connection, books: Books, depth: int) -> None:
    mark = len(books.standing)
    end: Literal["keep", "fail", "undo"] = turn.rng.choice(("keep", "fail", "undo"))
    try:
        async with connection.transaction():
            await _block(turn, connection, books, depth + 1)
            if end == "fail":
                await connection.fetchval("SELECT 1 / $1::int", 0)
            elif end == "undo":
                raise Undo
    except (DivisionByZeroError, Undo):
        books.undo_to(mark)
    turn.figures.count("savepoints")


async def by_hand(turn: Turn) -> None:
    """start(), then commit() or rollback()."""
    async with turn.session() as connection:
        books = Books(turn)
        transaction = connection.transaction()
        ending = turn.rng.choice((transaction.commit, transaction.rollback))
        committing = False
        await transaction.start()
        try:
            await connection.execute(INSERT, books.token())
            await echo(turn, connection)
            committing = ending == transaction.commit
            await ending()
        except BaseException:
            if not committing:
                books.undo_to(0)
                if not connection.is_closed():
                    # The lease's reset would do it too, but a connection of one's own has none.
                    await connection.reset()
            raise
        if committing:
            turn.ledger.acknowledge(books.standing)
            turn.figures.count("transactions")
        else:
            books.undo_to(0)
            turn.figures.count("transactions rolled back")


async def cancelled_at_an_end(turn: Turn) -> None:
    """The beginning or the end of a block is cancelled: the connection is in no transaction after that."""
    async with turn.session() as connection:
        transaction = connection.transaction()
        # Once around at least: a commit() that was never begun ends nothing.
        at_start, turns = turn.chance(0.6), 1 + int(turn.rng.expovariate(1 / 8))
        books = Books(turn)
        if at_start:
            call = asyncio.create_task(transaction.start())
        else:
            await transaction.start()
            await connection.execute(INSERT, books.token())
            call = asyncio.create_task(transaction.commit())
        try:
            for _ in range(turns):
                await asyncio.sleep(0)
            cancelled = call.cancel("a victim of its turn")
            await settled([call])
        finally:
            call.cancel()
            await asyncio.wait([call])
        if not call.cancelled():
            await call
        if not cancelled:
            turn.ledger.acknowledge(books.standing)
            if at_start:
                await transaction.rollback()
        await echo(turn, connection)
        turn.same(connection.is_in_transaction(), False, "the transaction status after a cancellation")


async def commit_of_a_failed_one(turn: Turn) -> None:
    """A statement fails, and the block goes on as if it had not: COMMIT raises, nothing is kept."""
    async with turn.session() as connection:
        books = Books(turn)
        try:
            async with connection.transaction():
                await connection.execute(INSERT, books.token())
                try:
                    await connection.execute("SELECT 1 / 0")
                except DivisionByZeroError:
                    turn.figures.count("errors asked for")
        except InFailedSQLTransactionError as error:
            if not isinstance(error.__cause__, DivisionByZeroError):
                raise Finding(f"the cause of the failed COMMIT is {error.__cause__!r}") from error
        else:
            raise Finding("COMMIT of a failed transaction raised nothing")
        finally:
            books.undo_to(0)


async def typed_by_hand(turn: Turn) -> None:
    """BEGIN and COMMIT as texts, on a lease; or BEGIN alone: the lease's end rolls back."""
    async with turn.lease() as connection:
        books = Books(turn)
        ends = turn.chance(0.6)
        committing = False
        try:
            await connection.execute("BEGIN")
            await connection.execute(INSERT, books.token())
            committing = ends
            if ends:
                await connection.execute("COMMIT")
                turn.ledger.acknowledge(books.standing)
                turn.figures.count("transactions")
        finally:
            if not committing:
                books.undo_to(0)
