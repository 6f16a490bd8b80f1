"""executemany() and fetchmany() in a transaction of their own: BEGIN, the batch and COMMIT in one flight.

BEGIN travels with the batch, under the same Sync, and COMMIT right behind it. If an element fails, the server passes
over the rest of the batch, and answers COMMIT by ROLLBACK. So nothing is waited for in between, nothing of others can
come in between, and the connection is never left in a failed transaction.

Source: PostgreSQL documentation, "Pipelining" (protocol-flow-pipelining).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from headrace.exceptions import PostgresConnectionError, PostgresError
from headrace.exceptions._values import shown

if TYPE_CHECKING:
    from headrace._client.interface import ConnectionInterface
    from headrace._core.pipeline.requests import Command, Request
    from headrace._io.driver import Driver

MOST_REPEATS: Final = 10
"""How often a batch is asked for again because its statement was stale."""


def checked_transaction(transaction: object) -> bool:
    """Return the argument `transaction`; raises ValueError for anything but True and False."""
    if transaction is not True and transaction is not False:
        raise ValueError(f"transaction is expected to be True or False, got {shown(transaction)}")
    return transaction


class BatchTransaction:
    """The transaction of one batch."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._begin: Command | None = None
        self._commit: Request | None = None

    def send(self, queue: Callable[[], Any]) -> Any:
        """Queue BEGIN, what `queue` queues, and COMMIT; returns what `queue` returns.

        If it raises, nothing is queued.
        """
        driver = self._driver
        commands = driver.session.commands
        driver.check()
        observer = driver.observer
        begin = commands.begin("BEGIN", None if observer is None else observer.command("BEGIN"), alone=True)
        try:
            result = queue()
        except BaseException:
            commands.take_back(begin)
            commands.end_block()
            raise
        block = commands.end_block()
        commit = driver.simple_query("COMMIT")
        if block is not None:
            block.ends_with(commit)
        self._begin, self._commit = begin, commit
        return result

    async def committed(self, timeout: float | None) -> None:
        """Wait for the reply to COMMIT, once the batch has succeeded. From here on it takes effect in any case."""
        if self._commit is not None:
            self._driver.see_through(self._commit)
            await self._driver.reply(self._commit, timeout)

    async def rolled_back(self, timeout: float | None) -> None:
        """Wait for the reply to COMMIT, once the batch has failed. Its error is that of the batch."""
        if self._commit is not None:
            with suppress(Exception):
                await self._driver.reply(self._commit, timeout)

    def give_up(self) -> None:
        """The caller no longer waits, and has given up the batch."""
        if self._begin is not None and self._commit is not None:
            self._driver.give_up_block(self._begin, self._commit)


async def is_in_transaction(connection: ConnectionInterface) -> bool:
    """Return whether a transaction is open behind all that was asked so far.

    The server is asked only if that is unclear.
    """
    driver = connection._driver
    commands = driver.session.commands
    while not commands.is_idle_behind():
        if commands.is_open or commands.is_over or not driver.pending:
            return True
        await driver.reply(driver.simple_query(""), connection._timeout(None))
    return False


async def run_in_transaction(
    connection: ConnectionInterface, queue: Callable[[int], Request], timeout: float | None
) -> tuple[Request, Any]:
    """Run a batch in a transaction of its own, within `timeout` seconds; returns its request and its result.

    In an open transaction it is a part of that. `queue(repeated)` queues the batch. If the server refuses its statement
    as stale it is queued again, unless its elements came from an iterator and are gone.
    """
    loop = asyncio.get_running_loop()
    driver = connection._driver
    deadline = None if timeout is None else loop.time() + timeout

    def left() -> float | None:
        return None if deadline is None else deadline - loop.time()

    repeated = 0
    while True:
        if await is_in_transaction(connection):
            request = queue(repeated)
            return request, await driver.reply(request, left())
        transaction = BatchTransaction(driver)
        request = transaction.send(lambda: queue(repeated))  # noqa: B023
        try:
            result = await driver.reply(request, left())
        except (asyncio.CancelledError, GeneratorExit, TimeoutError):
            transaction.give_up()
            raise
        except BaseException as error:
            await transaction.rolled_back(left())
            if (
                isinstance(error, PostgresError)
                and error.safe_to_retry
                and repeated < MOST_REPEATS
                and not isinstance(error, PostgresConnectionError)
            ):
                repeated += 1
                continue
            raise
        await transaction.committed(left())
        return request, result
