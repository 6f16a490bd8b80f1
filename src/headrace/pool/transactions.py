"""Transactions of a pool: a lease with a transaction, and functions that run again after a conflict."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, TypeVarTuple

from headrace.exceptions import InFailedSQLTransactionError, InterfaceError, PostgresError, is_safe_to_retry
from headrace.exceptions._values import shown
from headrace.rows.type_vars import RecordT_co

if TYPE_CHECKING:
    from types import TracebackType

    from headrace.pool.proxy import PoolAcquireContext, PoolConnectionProxy
    from headrace.transaction import Transaction

log = logging.getLogger("headrace.pool")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

CONFLICTS = frozenset({"40001", "40P01"})
"""serialization_failure and deadlock_detected: the server has rolled back, and asks to run the transaction again."""

FIRST_PAUSE = 0.01
LONGEST_PAUSE = 1.0
"""Seconds between two attempts of a function. The pause is random, between 0 and a limit that doubles each time."""


class PoolTransaction(Generic[RecordT_co]):
    """The result of `Pool.transaction()`: an asynchronous context manager, to be used once."""

    __slots__ = ("_acquire", "_begin", "_transaction")

    def __init__(
        self, acquire: PoolAcquireContext[RecordT_co], begin: Callable[[PoolConnectionProxy[Any]], Transaction]
    ) -> None:
        self._acquire = acquire
        self._begin = begin
        self._transaction: Transaction | None = None

    async def __aenter__(self) -> PoolConnectionProxy[RecordT_co]:
        connection = await self._acquire.__aenter__()
        try:
            self._transaction = self._begin(connection)
            await self._transaction.__aenter__()
        except BaseException:
            await self._acquire.__aexit__(None, None, None)
            raise
        return connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        transaction, self._transaction = self._transaction, None
        try:
            if transaction is not None:
                await transaction.__aexit__(kind, error, traceback)
        finally:
            await self._acquire.__aexit__(None, None, None)


def checked_attempts(attempts: object) -> int:
    """Return the number of attempts; raises ValueError if it is not a whole number above 0."""
    if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
        raise ValueError(f"attempts is expected to be a whole number from 1, got {shown(attempts)}")
    return attempts


async def run_in_transaction(
    acquire: Callable[[], PoolAcquireContext[RecordT_co]],
    begin: Callable[[PoolConnectionProxy[Any]], Transaction],
    function: Callable[[PoolConnectionProxy[RecordT_co], *Ts], Awaitable[T]],
    args: tuple[*Ts],
    attempts: int,
) -> T:
    """Call `function` in a transaction of its own; see `Pool.run()`."""
    attempt = 1
    while True:
        undone = True  # no COMMIT has been sent
        lost = False
        try:
            async with acquire() as connection:
                try:
                    async with begin(connection):
                        result = await _call(function, connection, args)
                        undone = lost = connection.is_closed()
                except Exception as error:
                    lost = lost or (undone and connection.is_closed() and is_of_the_connection(error))
                    raise
            return result
        except Exception as error:
            # After a time-out the time that the caller allows is used up.
            safe = undone and is_safe_to_retry(error) and not isinstance(error, TimeoutError)
            if not (lost or is_conflict(error) or safe):
                raise
            if attempt == attempts:
                if attempts > 1:
                    error.add_note(f"Pool.run() has made {attempts} attempts.")
                raise
            pause = random.uniform(0, min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE))
            log.info(
                "attempt %d of %d of %s failed, next in %.3f s: %s", attempt, attempts, _name(function), pause, error
            )
        await asyncio.sleep(pause)
        attempt += 1


async def _call(function: Callable[..., Awaitable[T]], connection: object, args: tuple[object, ...]) -> T:
    returned = function(connection, *args)
    if not inspect.isawaitable(returned):
        raise TypeError(f"function is expected to be `async def`, but {_name(function)} returned {shown(returned)}")
    return await returned


def _name(function: Callable[..., object]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


def is_of_the_connection(error: BaseException) -> bool:
    """Return whether an error can come from a lost connection, and not from the program itself."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_of_the_connection, error.exceptions))
    return isinstance(error, PostgresError | InterfaceError | OSError) and not isinstance(error, TimeoutError)


def is_conflict(error: BaseException | None) -> bool:
    """Return whether a transaction failed by a conflict with another one, so that nothing of it was kept.

    After the conflict, further statements and COMMIT fail with InFailedSQLTransactionError, whose cause it is. Several
    tasks of the transaction may have failed, as a group of errors: one by the conflict, the others by this.
    """
    if isinstance(error, BaseExceptionGroup):
        return any(map(is_conflict, error.exceptions)) and all(
            is_conflict(each) or isinstance(each, InFailedSQLTransactionError) for each in error.exceptions
        )
    if isinstance(error, InFailedSQLTransactionError):
        return is_conflict(error.__cause__)
    return isinstance(error, PostgresError) and error.sqlstate in CONFLICTS
