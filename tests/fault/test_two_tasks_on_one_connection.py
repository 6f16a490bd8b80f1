"""Fault 48: transactions of two tasks on one connection: no call is told of a success that is not in the table.

Every statement here inserts a token of its own. A transaction whose end has succeeded has all its tokens in the table,
if the transaction around it has ended well too; one whose end has failed has none.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from typing import TYPE_CHECKING

import pytest

import headrace

if TYPE_CHECKING:
    from tests.fixtures import Connect, MakePool
    from tests.servers import Cluster

pytestmark = pytest.mark.fault(number=48)

OVERLAP = "another task's transaction is open inside it"
STARTING = "another task is starting one on this connection"
STRANGER = "belongs to another task, which has not created this one"
PATIENCE = 30.0


@pytest.fixture
async def table(server: Cluster, database: str) -> AsyncIterator[str]:
    server.sql("CREATE TABLE tokens (token int PRIMARY KEY)", database=database)
    yield "tokens"
    server.sql("DROP TABLE tokens", database=database)


Kept = Callable[[], set[int]]


async def put(connection: headrace.Connection, token: int) -> str:
    return await connection.execute(f"INSERT INTO tokens VALUES ({token})")


@pytest.fixture
def kept(server: Cluster, database: str, table: str) -> Kept:
    """The tokens in the table, as another session sees them."""

    def look() -> set[int]:
        return {row[0] for row in server.sql(f"SELECT token FROM {table}", database=database)}

    return look


async def ended(work: Awaitable[object]) -> BaseException | None:
    """Return the exception that something ends with, None if it succeeds."""
    async with asyncio.timeout(PATIENCE):
        (outcome,) = await asyncio.gather(work, return_exceptions=True)
    return outcome if isinstance(outcome, BaseException) else None


class Two:
    """Two tasks on one connection; `inner` begins once `outer` has begun, and both say when they may go on."""

    def __init__(self, connection: headrace.Connection) -> None:
        self.connection = connection
        self.outer_is_open = asyncio.Event()
        self.inner_is_open = asyncio.Event()
        self.outer_may_end = asyncio.Event()
        self.inner_may_go_on = asyncio.Event()
        self.inner_failures: list[BaseException] = []

    async def outer(self, error: BaseException | None = None) -> None:
        """Insert 1, and commit or raise."""
        async with self.connection.transaction():
            await put(self.connection, 1)
            self.outer_is_open.set()
            await self.outer_may_end.wait()
            if error is not None:
                raise error

    async def inner(self, error: BaseException | None = None) -> None:
        """Insert 2, then 3 if `error` is none, and commit or raise."""
        async with self.connection.transaction():
            await put(self.connection, 2)
            self.inner_is_open.set()
            await self.inner_may_go_on.wait()
            try:
                await put(self.connection, 3)
            except Exception as failure:
                self.inner_failures.append(failure)
            if error is not None:
                raise error

    async def begin(
        self, outer_error: BaseException | None = None, inner_error: BaseException | None = None
    ) -> tuple[asyncio.Task[None], asyncio.Task[None]]:
        """Have both open, the one inside the other."""
        outer = asyncio.create_task(self.outer(outer_error))
        await self.outer_is_open.wait()
        inner = asyncio.create_task(self.inner(inner_error))
        await self.inner_is_open.wait()
        return outer, inner


async def test_a_commit_with_another_task_inside_is_refused_and_nothing_is_kept_by_halves(
    conn: headrace.Connection, kept: Kept
) -> None:
    two = Two(conn)
    outer, inner = await two.begin()
    two.outer_may_end.set()
    refused = await ended(outer)
    assert isinstance(refused, headrace.InterfaceError)
    assert OVERLAP in str(refused)
    assert "HINT:  Use one connection for each task" in str(refused)
    assert len(re.findall(r"test_two_tasks_on_one_connection.py:\d+, in Two\.(?:outer|inner)\b", str(refused))) == 2
    assert conn.is_in_transaction()
    with pytest.raises(headrace.InFailedSQLTransactionError) as caught:
        await conn.fetch("SELECT 1")
    assert caught.value.__cause__ is refused

    two.inner_may_go_on.set()
    failure = await ended(inner)
    assert isinstance(failure, headrace.InFailedSQLTransactionError)
    assert failure.__cause__ is refused
    assert [type(each) for each in two.inner_failures] == [headrace.InFailedSQLTransactionError]
    assert two.inner_failures[0].__cause__ is refused
    assert not conn.is_in_transaction()
    assert kept() == set()
    async with conn.transaction():
        await put(conn, 4)
    assert kept() == {4}


@pytest.mark.parametrize("inner_error", [None, RuntimeError("inner")])
async def test_a_rollback_around_another_task_goes_on_and_takes_that_along(
    conn: headrace.Connection, kept: Kept, inner_error: BaseException | None
) -> None:
    two = Two(conn)
    own = RuntimeError("outer")
    outer, inner = await two.begin(own, inner_error)
    two.outer_may_end.set()
    assert await ended(outer) is own
    with pytest.raises(headrace.InFailedSQLTransactionError) as caught:
        await conn.execute("SELECT 1")
    assert "was rolled back while another task's was open inside it" in str(caught.value.__cause__)
    two.inner_may_go_on.set()
    failure = await ended(inner)
    if inner_error is None:
        assert isinstance(failure, headrace.InFailedSQLTransactionError)
    else:
        assert failure is inner_error
    assert [type(each) for each in two.inner_failures] == [headrace.InFailedSQLTransactionError]
    assert not conn.is_in_transaction()
    assert kept() == set()


async def test_a_cancellation_goes_on_although_another_task_is_inside(conn: headrace.Connection, kept: Kept) -> None:
    two = Two(conn)
    outer, inner = await two.begin()
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer
    inner.cancel()
    with pytest.raises(asyncio.CancelledError):
        await inner
    assert await conn.fetchval("SELECT 1") == 1
    assert not conn.is_in_transaction()
    assert kept() == set()


async def test_the_inner_one_ends_first(conn: headrace.Connection, kept: Kept) -> None:
    """Nothing overlaps then: it is a savepoint like any other."""
    two = Two(conn)
    outer, inner = await two.begin()
    two.inner_may_go_on.set()
    assert await ended(inner) is None
    two.outer_may_end.set()
    assert await ended(outer) is None
    assert two.inner_failures == []
    assert kept() == {1, 2, 3}


async def test_transactions_that_two_tasks_start_at_once_overlap(conn: headrace.Connection, kept: Kept) -> None:
    """A BEGIN that was not sent counts as open, so the second one is a savepoint in the first."""

    async def work(token: int) -> None:
        async with conn.transaction():
            await put(conn, token)

    first, second = await asyncio.gather(work(1), work(2), return_exceptions=True)
    assert isinstance(first, headrace.InterfaceError)
    assert OVERLAP in str(first)
    assert isinstance(second, headrace.InFailedSQLTransactionError)
    assert second.__cause__ is first
    assert kept() == set()
    assert not conn.is_in_transaction()
    await work(2)
    assert kept() == {2}


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_the_end_of_a_transaction_that_was_not_sent_with_another_task_inside(
    conn: headrace.Connection, kept: Kept, end: str
) -> None:
    outer = conn.transaction()
    await outer.start()
    go_on = asyncio.Event()

    async def work() -> None:
        async with conn.transaction():
            await go_on.wait()
            await put(conn, 2)

    inner = asyncio.create_task(work())
    await asyncio.sleep(0)
    if end == "commit":
        with pytest.raises(headrace.InterfaceError, match=OVERLAP):
            await outer.commit()
    else:
        await outer.rollback()
    go_on.set()
    assert isinstance(await ended(inner), headrace.InFailedSQLTransactionError)
    assert not conn.is_in_transaction()
    assert kept() == set()


@pytest.fixture
async def waiting(connect: Connect) -> headrace.Connection:
    """A connection whose transactions wait for the reply to BEGIN, as behind a pooler that switches backends."""
    return await connect(statement_mode="unnamed")


async def test_a_start_while_another_task_starts_one_is_refused(waiting: headrace.Connection, kept: Kept) -> None:
    """As by gather(): the first goes on as if nothing had been, of the second nothing is sent."""
    conn = waiting

    async def work(token: int) -> None:
        async with conn.transaction():
            await put(conn, token)

    first, second = await asyncio.gather(work(1), work(2), return_exceptions=True)
    assert first is None
    assert isinstance(second, headrace.InterfaceError)
    assert STARTING in str(second)
    assert "HINT:  Use one connection for each task" in str(second)
    assert kept() == {1}
    await work(2)
    assert kept() == {1, 2}


async def test_two_tasks_that_start_the_same_transaction(waiting: headrace.Connection, kept: Kept) -> None:
    conn = waiting
    transaction = conn.transaction()
    begun = asyncio.create_task(transaction.start())
    await asyncio.sleep(0)
    with pytest.raises(headrace.InterfaceError, match="another task is starting the transaction"):
        await transaction.start()
    await begun
    await put(conn, 1)
    await transaction.commit()
    assert kept() == {1}


async def test_a_savepoint_while_another_task_sets_one_is_refused(waiting: headrace.Connection, kept: Kept) -> None:
    conn = waiting

    async def work(token: int) -> None:
        async with conn.transaction():
            await put(conn, token)

    async with conn.transaction():
        first, second = await asyncio.gather(work(1), work(2), return_exceptions=True)
        assert first is None
        assert isinstance(second, headrace.InterfaceError)
        assert STARTING in str(second)
        await work(3)
    assert kept() == {1, 3}


async def test_a_start_that_is_refused_can_be_tried_again(waiting: headrace.Connection, kept: Kept) -> None:
    conn = waiting
    begun = asyncio.create_task(conn.transaction().start())
    await asyncio.sleep(0)
    transaction = conn.transaction()
    with pytest.raises(headrace.InterfaceError, match=STARTING):
        async with transaction:
            raise AssertionError("it has begun")
    await begun
    async with transaction:
        await put(conn, 1)
    await conn.execute("ROLLBACK")
    assert kept() == set()


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_a_release_with_a_later_savepoint_of_another_task_inside(
    conn: headrace.Connection, kept: Kept, end: str
) -> None:
    """RELEASE of the earlier savepoint would release the later one as well, and ROLLBACK TO would undo it."""
    both = asyncio.Event()
    gone = asyncio.Event()

    async def earlier() -> None:
        async with conn.transaction():
            await put(conn, 2)
            await both.wait()
            if end == "rollback":
                raise RuntimeError("earlier")

    async def later() -> None:
        async with conn.transaction():
            await put(conn, 3)
            both.set()
            await gone.wait()
            await put(conn, 4)

    async def outermost() -> None:
        async with conn.transaction():
            await put(conn, 1)
            first = asyncio.create_task(earlier())
            while conn._driver.pending or len(conn._transactions) < 2:
                await asyncio.sleep(0)
            second = asyncio.create_task(later())
            failure = await ended(first)
            if end == "commit":
                assert isinstance(failure, headrace.InterfaceError)
                assert OVERLAP in str(failure)
            else:
                assert str(failure) == "earlier"
            gone.set()
            assert isinstance(await ended(second), headrace.InFailedSQLTransactionError)
            assert conn.is_in_transaction()

    with pytest.raises(headrace.InFailedSQLTransactionError, match="transactions of two tasks had overlapped"):
        await outermost()
    assert not conn.is_in_transaction()
    assert kept() == set()


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_an_end_while_a_savepoint_inside_is_being_set(conn: headrace.Connection, kept: Kept, end: str) -> None:
    """From start() to the server's reply the transaction counts as open."""
    outer = conn.transaction()
    await outer.start()
    await put(conn, 1)
    go_on = asyncio.Event()

    async def work() -> None:
        async with conn.transaction():
            await go_on.wait()
            await put(conn, 2)

    inner = asyncio.create_task(work())
    await asyncio.sleep(0)
    if end == "commit":
        with pytest.raises(headrace.InterfaceError, match=OVERLAP):
            await outer.commit()
    else:
        await outer.rollback()
    go_on.set()
    assert isinstance(await ended(inner), headrace.InFailedSQLTransactionError)
    assert not conn.is_in_transaction()
    assert kept() == set()


@pytest.mark.parametrize("steps", range(4))
async def test_a_savepoint_that_is_cancelled_once_the_outer_end_was_refused(
    conn: headrace.Connection, kept: Kept, steps: int
) -> None:
    """What undoes the savepoint must not undo that the transaction has failed."""
    outer = conn.transaction()
    await outer.start()
    await put(conn, 1)
    inner = asyncio.create_task(conn.transaction().start())
    await asyncio.sleep(0)
    with pytest.raises(headrace.InterfaceError, match=OVERLAP):
        await outer.commit()
    for _ in range(steps):
        await asyncio.sleep(0)
    inner.cancel()
    await asyncio.gather(inner, return_exceptions=True)
    if inner.cancelled():
        assert await conn.fetchval("SELECT 1") == 1
        assert not conn.is_in_transaction()
    else:
        await conn.reset()
    assert kept() == set()


async def test_what_begins_while_a_commit_is_under_way_is_a_transaction_of_its_own(
    conn: headrace.Connection, kept: Kept
) -> None:
    first = conn.transaction()
    await first.start()
    await put(conn, 1)

    async def second() -> None:
        async with conn.transaction():
            await put(conn, 2)

    await asyncio.gather(first.commit(), second())
    assert kept() == {1, 2}


async def test_a_transaction_of_another_task_is_a_savepoint_and_one_warning(
    conn: headrace.Connection, kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    """The opener is a fixture, and the other task a server in the same process."""
    requests: asyncio.Queue[int] = asyncio.Queue()

    async def serve() -> None:
        while True:
            token = await requests.get()
            async with conn.transaction():
                await put(conn, token)
            requests.task_done()

    server = asyncio.create_task(serve())
    with caplog.at_level(logging.WARNING, "headrace"):
        for _ in range(2):
            fixture = conn.transaction()
            await fixture.start()
            for token in (1, 2):
                requests.put_nowait(token)
            await requests.join()
            assert await conn.fetchval("SELECT count(*) FROM tokens") == 2
            await fixture.rollback()
    server.cancel()
    await asyncio.gather(server, return_exceptions=True)
    assert kept() == set()
    (record,) = caplog.records
    assert record.name == "headrace"
    text = record.getMessage()
    assert re.search(r"test_two_tasks_on_one_connection.py:\d+, in .*serve\b", text)
    assert re.search(r"test_two_tasks_on_one_connection.py:\d+, in test_a_transaction_of_another_task_is", text)
    assert "strict_transactions=True" in text


@pytest.fixture
async def rolled_back(conn: headrace.Connection, kept: Kept) -> AsyncIterator[headrace.Connection]:
    """A connection inside a transaction that is rolled back after the test, whose task is another one."""
    transaction = conn.transaction()
    await transaction.start()
    yield conn
    await transaction.rollback()
    assert not conn.is_in_transaction()
    assert kept() == set()


async def test_a_fixture_that_rolls_everything_back(rolled_back: headrace.Connection) -> None:
    async with rolled_back.transaction():
        await put(rolled_back, 1)
    await asyncio.create_task(put(rolled_back, 2))
    assert await rolled_back.fetchval("SELECT count(*) FROM tokens") == 2


async def test_strict_transactions_refuse_another_task(connect: Connect, kept: Kept) -> None:
    connection = await connect(strict_transactions=True)
    two = Two(connection)
    outer = asyncio.create_task(two.outer())
    await two.outer_is_open.wait()
    refused = await ended(asyncio.create_task(two.inner()))
    assert isinstance(refused, headrace.InterfaceError)
    assert STRANGER in str(refused)
    assert len(re.findall(r"test_two_tasks_on_one_connection.py:\d+, in Two\.(?:outer|inner)\b", str(refused))) == 2
    two.outer_may_end.set()
    assert await ended(outer) is None
    assert kept() == {1}


async def test_strict_transactions_of_a_pool(pool: MakePool, kept: Kept) -> None:
    leases = await pool(min_size=1, max_size=1, strict_transactions=True)
    async with leases.acquire() as connection:
        two = Two(connection)
        outer = asyncio.create_task(two.outer())
        await two.outer_is_open.wait()
        refused = str(await ended(asyncio.create_task(two.inner())))
        assert STRANGER in refused
        assert len(re.findall(r"test_two_tasks_on_one_connection.py:\d+, in Two\.(?:outer|inner)\b", refused)) == 2
        two.outer_may_end.set()
        assert await ended(outer) is None
    assert kept() == {1}


async def test_strict_transactions_is_true_or_false(connect: Connect) -> None:
    with pytest.raises(ValueError, match="strict_transactions is expected to be True or False, got 'no'"):
        await connect(strict_transactions="no")


async def test_descendants_are_no_strangers(connect: Connect, kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """A task that was created inside the block, its own children, and a call that has a time limit."""
    connection = await connect(strict_transactions=True)

    async def child(token: int) -> None:
        async with connection.transaction():
            await put(connection, token)

    async def grandchild(token: int) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child(token))

    async with connection.transaction():
        await asyncio.create_task(child(1))
        await asyncio.create_task(grandchild(2))
        await asyncio.wait_for(child(3), PATIENCE)
        await asyncio.gather(child(4))
    assert kept() == {1, 2, 3, 4}
    transaction = connection.transaction()
    await asyncio.wait_for(transaction.start(), PATIENCE)
    await child(5)
    await transaction.commit()
    assert kept() == {1, 2, 3, 4, 5}
    assert caplog.records == []


async def test_only_tasks_created_inside_descend(connect: Connect, kept: Kept) -> None:
    """Neither a task that was created before does, nor one that was created in an earlier transaction."""
    connection = await connect(strict_transactions=True)
    go_on = asyncio.Event()

    async def late(token: int) -> None:
        await go_on.wait()
        async with connection.transaction():
            await put(connection, token)

    before = asyncio.create_task(late(1))
    async with connection.transaction():
        earlier = asyncio.create_task(late(2))
        await asyncio.sleep(0)
    async with connection.transaction():
        await put(connection, 3)
        go_on.set()
        for each in before, earlier:
            assert STRANGER in str(await ended(each))
    assert kept() == {3}


async def test_transactions_on_two_connections_are_told_apart(connect: Connect, kept: Kept) -> None:
    """Each is open in the context of the task, whichever ends first."""
    one, other = await connect(strict_transactions=True), await connect(strict_transactions=True)

    async def child(connection: headrace.Connection, token: int) -> None:
        async with connection.transaction():
            await put(connection, token)

    first, second = one.transaction(), other.transaction()
    await first.start()
    await second.start()
    await asyncio.create_task(child(one, 1))
    await asyncio.create_task(child(other, 2))
    await first.commit()
    await asyncio.create_task(child(other, 3))
    async with one.transaction():
        await asyncio.create_task(child(other, 4))
        await asyncio.create_task(child(one, 5))
    await second.commit()
    assert kept() == {1, 2, 3, 4, 5}


async def test_a_context_holds_no_transactions_that_have_ended(connect: Connect) -> None:
    """However a task goes on: two connections in turn, leases that end with an open transaction."""
    one, other = await connect(), await connect()
    previous = one.transaction()
    await previous.start()
    for number in range(20):
        following = (other, one)[number % 2].transaction()
        await following.start()
        await previous.commit()
        previous = following
    await previous.commit()
    for _ in range(20):
        await one.transaction().start()
        await one.reset()
    async with one.transaction():
        held = [value for value in contextvars.copy_context().values() if type(value).__name__ == "OpenTransaction"]
        assert len(held) == 1
        assert held[0].outer is None


async def test_what_was_left_open_inside_by_the_same_task_ends_too(conn: headrace.Connection, kept: Kept) -> None:
    outer, inner = conn.transaction(), conn.transaction()
    await outer.start()
    await inner.start()
    await put(conn, 1)
    await outer.commit()
    with pytest.raises(headrace.InterfaceError, match="cannot commit; the transaction is no longer open"):
        await inner.commit()
    async with conn.transaction():
        await put(conn, 2)
    assert kept() == {1, 2}


async def test_a_lease_that_ends_with_overlapping_transactions(pool: MakePool, kept: Kept) -> None:
    leases = await pool(min_size=1, max_size=1)
    async with leases.acquire() as connection:
        two = Two(connection)
        outer, inner = await two.begin()
        two.outer_may_end.set()
        assert OVERLAP in str(await ended(outer))
    async with leases.acquire() as connection, connection.transaction():
        await put(connection, 4)
        two.inner_may_go_on.set()
        # It has no part in the transaction of the lease that is there now.
        assert isinstance(await ended(inner), headrace.InterfaceError)
    assert [type(each) for each in two.inner_failures] == [headrace.InterfaceError]
    assert kept() == {4}


async def test_a_start_that_outlives_its_lease_touches_no_other(pool: MakePool, kept: Kept) -> None:
    """It waits for the end of a transaction begun by text, and then for its turn; the next lease is there by then."""
    leases = await pool(min_size=1, max_size=1)
    lease = await leases.acquire()
    await lease.execute("BEGIN")
    ending = asyncio.create_task(lease.execute("COMMIT"))
    begun = asyncio.create_task(lease.transaction().start())
    await asyncio.sleep(0)
    await leases.release(lease)
    async with leases.acquire() as connection, connection.transaction():
        await put(connection, 1)
    assert await ending == "COMMIT"
    failure = await ended(begun)
    assert isinstance(failure, headrace.InterfaceError)
    assert "released back to the pool" in str(failure)
    assert kept() == {1}


async def test_reset_ends_what_has_overlapped(conn: headrace.Connection, kept: Kept) -> None:
    two = Two(conn)
    outer, inner = await two.begin()
    two.outer_may_end.set()
    assert OVERLAP in str(await ended(outer))
    await conn.reset()
    async with conn.transaction():
        await put(conn, 4)
    two.inner_may_go_on.set()
    assert isinstance(await ended(inner), headrace.InterfaceError)
    assert two.inner_failures == []
    assert kept() == {3, 4}


class Mix:
    """Nested blocks of tasks and their children on one connection, which end, fail and are cancelled in any order."""

    def __init__(self, connection: headrace.Connection, seed: int) -> None:
        self.connection = connection
        self.chance = random.Random(seed)
        self.tokens = count(seed * 1000)
        self.tasks: list[asyncio.Task[set[int]]] = []
        self.undone: set[int] = set()
        """The tokens of blocks that have failed."""
        self.blocks: list[object] = []
        """The blocks that have begun and have not ended, the outermost first."""

    def begin(self, depth: int) -> asyncio.Task[set[int]]:
        task = asyncio.create_task(self.block(depth))
        self.tasks.append(task)
        return task

    async def block(self, depth: int) -> set[int]:
        """Return the tokens that are to be in the table if the transaction around this one is kept.

        A query that is made while another block is open may be part of that one's transaction, so nothing is said of
        its token.
        """
        chance = self.chance
        put_here: set[int] = set()
        children: list[asyncio.Task[set[int]]] = []
        this = object()
        self.blocks.append(this)
        try:
            async with self.connection.transaction():
                for _ in range(chance.randrange(4)):
                    token = next(self.tokens)
                    if self.blocks[-1] is this:
                        put_here.add(token)
                    await put(self.connection, token)
                    for _ in range(chance.randrange(3)):
                        await asyncio.sleep(0)
                    if depth < 3 and chance.random() < 0.5:
                        children.append(self.begin(depth + 1))
                        if chance.random() < 0.5:
                            await asyncio.wait(children)
                        if chance.random() < 0.2:
                            children[-1].cancel()
                if chance.random() < 0.2:
                    raise RuntimeError("undo")
        except BaseException:
            self.undone |= put_here
            raise
        finally:
            self.blocks.remove(this)
        return put_here.union(*(child.result() for child in children if child.done() and not failed(child)))


def failed(task: asyncio.Task[set[int]]) -> bool:
    return task.cancelled() or task.exception() is not None


async def test_random_tasks(connect: Connect, kept: Kept) -> None:
    told: set[int] = set()
    undone: set[int] = set()
    for seed in range(100):
        connection = await connect(strict_transactions=True)
        mix = Mix(connection, seed)
        roots = [mix.begin(0) for _ in range(4)]
        async with asyncio.timeout(PATIENCE):
            while not all(task.done() for task in mix.tasks):
                await asyncio.wait(mix.tasks)
        for root in roots:
            if not failed(root):
                told |= root.result()
        undone |= mix.undone
        errors = [task.exception() for task in mix.tasks if not task.cancelled()]
        expected = (RuntimeError, headrace.InterfaceError, headrace.InFailedSQLTransactionError)
        assert [each for each in errors if each is not None and not isinstance(each, expected)] == []
        assert await connection.fetchval("SELECT 1") == 1
        assert not connection.is_in_transaction()
        await connection.close()
    found = kept()
    assert told
    assert told <= found
    assert undone
    assert not undone & found
