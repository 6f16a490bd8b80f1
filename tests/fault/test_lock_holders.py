"""Fault 41: the holder of a lock awaits the pool. Every program that ends on asyncpg's pool ends here too.

The holder of a lock is a lease, a connection of its own or another process, and the pool cannot know. Each program runs
on asyncpg's pool and on headrace's pool of the same size, and comes to the same. The texts have run before, so that
their costs are known and calls are pipelined.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

import headrace

if TYPE_CHECKING:
    from tests.servers import Cluster

pytestmark = pytest.mark.fault(number=41)

PATIENCE = 30.0
"""Seconds that a program may take: it ends long before unless it never does."""

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "max_pipeline=1": {"max_pipeline": 1},
    "pipeline_budget=0": {"pipeline_budget": 0},
}

ROWS = 6
TOUCH = "UPDATE item SET touched = touched + 1 WHERE number = $1 RETURNING number"
READ = "SELECT number FROM item WHERE number = $1"
COUNT = "SELECT count(*) FROM other"
ADD = "INSERT INTO other VALUES ($1)"
ANSWER = "SELECT 42"
NAP = "SELECT 7 FROM pg_sleep(0.02)"
ADVISORY = "SELECT pg_advisory_xact_lock($1)"


@dataclass
class World:
    """One driver's view of the server: its pool, connections of its own, and the background calls of the program."""

    driver: Any
    pool: Any
    kwargs: dict[str, Any]
    server: Cluster
    calls: list[asyncio.Task[Any]] = field(default_factory=list)

    def start(self, call: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Have a call run in the background."""
        task = asyncio.create_task(call)
        self.calls.append(task)
        return task

    async def blocked(self, call: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Have a call run in the background that is going to wait for a lock; returns when it does."""
        before = self._lock_waits()
        task = self.start(call)
        while self._lock_waits() == before:
            await asyncio.sleep(0.001)
        return task

    def _lock_waits(self) -> int:
        rows = self.server.sql(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'",
            self.kwargs["database"],
        )
        return int(rows[0][0])

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """A connection that is none of the pool's."""
        connection = await self.driver.connect(**self.kwargs)
        try:
            yield connection
        finally:
            await connection.close()


Program = Callable[[World], Awaitable[object]]

Outcome = tuple[object, object]
"""What a program returns, and the rows that it adds."""


@asynccontextmanager
async def world(
    driver: Any, size: int, server: Cluster, kwargs: dict[str, Any], options: dict[str, Any]
) -> AsyncIterator[World]:
    """Open a pool on fresh tables, and run every text a few times."""
    server.sql(
        "DROP TABLE IF EXISTS item, other; CREATE TABLE item (number int PRIMARY KEY, touched int NOT NULL DEFAULT 0);"
        f"INSERT INTO item SELECT generate_series(1, {ROWS}); CREATE TABLE other (number int)",
        database=kwargs["database"],
    )
    pool = driver.create_pool(**kwargs, **options, min_size=size, max_size=size)
    await pool
    made = World(driver, pool, kwargs, server)
    try:
        for _ in range(3):
            for text in (TOUCH, READ, ADD, ADVISORY):
                await asyncio.gather(*(pool.fetchval(text, ROWS) for _ in range(size)))
            for text in (COUNT, ANSWER, NAP):
                await asyncio.gather(*(pool.fetchval(text) for _ in range(size)))
        await pool.execute("UPDATE item SET touched = 0")
        await pool.execute("DELETE FROM other")
        yield made
    finally:
        for call in made.calls:
            call.cancel()
        await asyncio.gather(*made.calls, return_exceptions=True)
        pool.terminate()
        # The next program drops the tables. A program that fails leaves connections of its own, with locks.
        while backends := server.backends(kwargs["database"]):
            for backend in backends:
                server.sql("SELECT pg_terminate_backend(%s)", backend.pid)
            await asyncio.sleep(0.001)


async def comes_to(
    program: Program, driver: Any, size: int, server: Cluster, kwargs: dict[str, Any], **options: Any
) -> Outcome:
    """Return what a program comes to with a driver, and which rows it adds."""
    async with world(driver, size, server, kwargs, options) as made:
        async with asyncio.timeout(PATIENCE):
            result = await program(made)
            await asyncio.gather(*made.calls, return_exceptions=True)
    return result, server.sql("SELECT number FROM other ORDER BY 1", database=kwargs["database"])


@pytest.fixture(scope="module")
def with_asyncpg(server: Cluster) -> Callable[..., Awaitable[Outcome]]:
    """What a program comes to with asyncpg, which is run once for each program and server."""
    known: dict[object, Outcome] = {}

    async def expected(name: object, program: Program, size: int, kwargs: dict[str, Any]) -> Outcome:
        if name not in known:
            known[name] = await comes_to(program, asyncpg, size, server, kwargs)
        return known[name]

    return expected


# -- programs ----------------------------------------------------------------------------------------------------------


async def a_lease_updates_a_row(world: World) -> object:
    """Another call waits for the row, a slow one runs; the holder asks something unrelated."""
    pool = world.pool
    async with pool.acquire() as lease, lease.transaction():
        await lease.fetchval(TOUCH, 1)
        await world.blocked(pool.fetchval(TOUCH, 1))
        nap = world.start(pool.fetchval(NAP))
        await asyncio.sleep(0)
        answer = await pool.fetchval(ANSWER)
    return answer, await nap


async def a_lease_alters_a_table(world: World) -> object:
    """A plain read waits for the table, with others behind it; the holder asks for an INSERT."""
    pool = world.pool
    async with pool.acquire() as lease, lease.transaction():
        await lease.execute("ALTER TABLE item ADD COLUMN extra int")
        head = await world.blocked(pool.fetchval(READ, 1))
        reads = [world.start(pool.fetchval(ANSWER)) for _ in range(20)]
        tag = await pool.execute(ADD, 1)
        answers = await asyncio.gather(*reads)
    return tag, answers, await head


async def two_plain_reads_wait_for_a_table(world: World) -> object:
    """Of three connections one is left, and what stands behind the heads has to get there."""
    pool = world.pool
    async with world.connection() as holder, holder.transaction():
        await holder.execute("LOCK TABLE item IN ACCESS EXCLUSIVE MODE")
        calls = [pool.fetchval(text, *args) for text, *args in (*[(READ, 1)] * 2, *[(ANSWER,)] * 50, *[(ADD, 1)] * 3)]
        heads, others = [world.start(call) for call in calls[:2]], [world.start(call) for call in calls[2:]]
        answers = await asyncio.gather(*others)
    return answers, await asyncio.gather(*heads)


async def a_lease_holds_an_advisory_lock(world: World) -> object:
    """It is in no transaction."""
    pool = world.pool
    async with pool.acquire() as lease:
        await lease.fetchval("SELECT pg_advisory_lock(1)")
        head = await world.blocked(pool.fetchval(ADVISORY, 1))
        results = [await pool.fetchval(ANSWER), await pool.execute(ADD, 1), await pool.fetchval(COUNT)]
        await lease.fetchval("SELECT pg_advisory_unlock(1)")
        await head
    return results


async def a_connection_of_its_own_holds_the_lock(world: World) -> object:
    """Two of the pool's connections wait for it."""
    pool = world.pool
    async with world.connection() as holder, holder.transaction():
        await holder.fetchval(TOUCH, 1)
        heads = [await world.blocked(pool.fetchval(TOUCH, 1)) for _ in range(2)]
        reads = [world.start(pool.fetchval(ANSWER)) for _ in range(50)]
        results = [await pool.execute(ADD, 1), await pool.fetchval(READ, 2), *await asyncio.gather(*reads)]
    return results, await asyncio.gather(*heads)


async def every_method(pool: Any) -> list[object]:
    """Await the pool's methods one after another."""
    await pool.executemany(ADD, [(1,), (2,)])
    rows = await pool.fetchmany("INSERT INTO other VALUES ($1) RETURNING number", [(3,), (4,)])
    return [
        await pool.fetchval(READ, 2),
        await pool.execute(ADD, 5),
        await pool.execute("INSERT INTO other VALUES (6)"),
        [tuple(row) for row in rows],
        [tuple(row) for row in await pool.fetch(READ, 3)],
        tuple(await pool.fetchrow(TOUCH, 4)),
        await pool.fetchval(COUNT),
        await pool.copy_records_to_table("other", records=[(7,)]),
    ]


async def the_holder_awaits_directly(world: World) -> object:
    """Each method of the pool, from within the transaction of a lease."""
    async with world.pool.acquire() as lease, lease.transaction():
        await lease.fetchval(TOUCH, 1)
        await world.blocked(world.pool.fetchval(TOUCH, 1))
        return await every_method(world.pool)


async def the_holder_awaits_child_tasks(world: World) -> object:
    """Tasks that inherit the holder's context variables."""
    async with world.pool.acquire() as lease, lease.transaction():
        await lease.fetchval(TOUCH, 1)
        await world.blocked(world.pool.fetchval(TOUCH, 1))
        async with asyncio.TaskGroup() as group:
            reads = [group.create_task(world.pool.fetchval(ANSWER)) for _ in range(20)]
            writes = [group.create_task(world.pool.execute(ADD, number)) for number in range(5)]
            naps = [group.create_task(world.pool.fetchval(NAP)) for _ in range(2)]
        return [task.result() for task in (*reads, *writes, *naps)]


async def the_holder_awaits_a_helper(world: World) -> object:
    """The helper was there before the lease, and knows nothing of it."""
    queue: asyncio.Queue[asyncio.Future[object]] = asyncio.Queue()

    async def helper() -> None:
        while True:
            (await queue.get()).set_result(await every_method(world.pool))

    helping = world.start(helper())
    async with world.pool.acquire() as lease, lease.transaction():
        await lease.fetchval(TOUCH, 1)
        await world.blocked(world.pool.fetchval(TOUCH, 1))
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        queue.put_nowait(done)
        result = await done
    helping.cancel()
    return result


async def the_holder_acquires_a_second_lease(world: World) -> object:
    """A call waits for the lock, and the last connection is busy for a moment."""
    pool = world.pool
    async with pool.acquire() as lease, lease.transaction():
        await lease.fetchval(TOUCH, 1)
        await world.blocked(pool.fetchval(TOUCH, 1))
        nap = world.start(pool.fetchval(NAP))
        await asyncio.sleep(0)
        async with pool.acquire() as second:
            result = await second.fetchval(READ, 2)
    return result, await nap


PROGRAMS: tuple[Program, ...] = (
    a_lease_updates_a_row,
    a_lease_alters_a_table,
    two_plain_reads_wait_for_a_table,
    a_lease_holds_an_advisory_lock,
    a_connection_of_its_own_holds_the_lock,
    the_holder_awaits_directly,
    the_holder_awaits_child_tasks,
    the_holder_awaits_a_helper,
    the_holder_acquires_a_second_lease,
)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
async def test_a_program_that_ends_with_asyncpg_ends_here(
    program: Program, options: dict[str, Any], with_asyncpg: Any, server: Cluster, connect_kwargs: dict[str, Any]
) -> None:
    expected = await with_asyncpg(program, program, 3, connect_kwargs)
    assert await comes_to(program, headrace, 3, server, connect_kwargs, **options) == expected


# -- random programs ---------------------------------------------------------------------------------------------------


class Mix:
    """A random program, the same for the same seed.

    One task directs: it takes locks, starts calls that wait for them, and awaits calls that nothing holds up. Fewer
    connections than the pool has are leased or wait for a lock, so that with one request on a connection at a time
    every awaited call ends.
    """

    def __init__(self, seed: int, size: int, steps: int) -> None:
        self._seed = seed
        self._size = size
        self._steps = steps

    async def __call__(self, world: World) -> object:
        """Run it; returns what each awaited call came to."""
        self._random = random.Random(self._seed)
        self._world = world
        self._pool = world.pool
        self._leases: list[tuple[Any, Any, Any]] = []
        self._locked: dict[object, list[asyncio.Task[Any]]] = {}
        self._noted: list[object] = []
        self._numbers = iter(range(1_000_000))
        steps: list[Callable[[], Awaitable[None]]] = [
            self._lease, self._lock, self._lock, self._block, self._block, self._unblock, self._ask, self._ask,
            self._crowd, self._nap, self._give_up, self._cancel, self._turns,
        ]  # fmt: skip
        for _ in range(self._steps):
            await self._random.choice(steps)()
        while self._leases:
            await self._end(self._leases.pop())
        ends = await asyncio.gather(*world.calls, return_exceptions=True)
        return self._noted, [type(each) if isinstance(each, BaseException) else each for each in ends]

    def _free(self) -> int:
        """How many connections are neither leased nor wait for a lock."""
        waiting = sum(not call.done() for calls in self._locked.values() for call in calls)
        return self._size - waiting - sum(shared for *_, shared in self._leases)

    async def _lease(self) -> None:
        """A lease, or a connection of its own, begins a transaction."""
        if self._free() > 1 and self._random.random() < 0.7:
            holder = await self._pool.acquire()
            shared = True
        elif len(self._leases) < 4:
            holder = await self._world.driver.connect(**self._world.kwargs)
            shared = False
        else:
            return
        transaction = holder.transaction()
        await transaction.start()
        self._leases.append((holder, transaction, shared))

    async def _lock(self) -> None:
        """One of the holders takes a lock that nobody has."""
        if not self._leases:
            return
        lease = self._random.choice(self._leases)
        number = self._random.randrange(1, ROWS)
        if self._random.random() < 0.15:
            # Nobody has the table, so no row of it either.
            if not self._locked:
                await lease[0].execute("LOCK TABLE item IN ACCESS EXCLUSIVE MODE")
                self._locked["table", lease] = []
        elif not any(key[0] == "table" or key[:2] == ("row", number) for key in self._locked):  # type: ignore[index]
            await lease[0].fetchval(TOUCH, number)
            self._locked["row", number, lease] = []

    async def _block(self) -> None:
        """A call begins that waits for a lock."""
        if self._locked and self._free() > 1:
            key: Any = self._random.choice(list(self._locked))
            if key[0] == "table":
                call = self._pool.fetchval(self._random.choice((READ, TOUCH)), self._random.randrange(1, ROWS))
            else:
                call = self._pool.fetchval(TOUCH, key[1])
            self._locked[key].append(self._world.start(call))
            await self._turns()

    async def _unblock(self) -> None:
        """A transaction ends, and so do the calls that waited for it."""
        if self._leases and self._random.random() < 0.3:
            await self._end(self._leases.pop(self._random.randrange(len(self._leases))))

    async def _end(self, lease: tuple[Any, Any, Any]) -> None:
        holder, transaction, shared = lease
        await (transaction.commit() if self._random.random() < 0.5 else transaction.rollback())
        await (self._pool.release(holder) if shared else holder.close())
        for key in [key for key in self._locked if key[-1] is lease]:  # type: ignore[index]
            await asyncio.gather(*self._locked.pop(key), return_exceptions=True)

    def _call(self) -> Coroutine[Any, Any, Any]:
        """A call that waits for no lock."""
        number = next(self._numbers)
        kind = self._random.randrange(6)
        if kind == 0:
            return self._pool.execute(ADD, number)  # type: ignore[no-any-return]
        if kind == 1:
            return self._pool.executemany(ADD, [(number,), (number,)])  # type: ignore[no-any-return]
        if kind == 2:
            return self._pool.fetchval(f"SELECT {number}")  # type: ignore[no-any-return]
        if kind == 3:
            return self._pool.fetchval(NAP)  # type: ignore[no-any-return]
        return self._pool.fetchval(ANSWER)  # type: ignore[no-any-return]

    async def _ask(self) -> None:
        if self._free():
            self._noted.append(await self._call())

    async def _crowd(self) -> None:
        if self._free():
            self._noted.append(await asyncio.gather(*(self._call() for _ in range(self._random.randrange(2, 30)))))

    async def _nap(self) -> None:
        self._world.start(self._pool.fetchval(NAP))

    async def _give_up(self) -> None:
        """A call waits for a lock until its time is up."""
        rows: Any = [key for key in self._locked if key[0] == "row"]  # type: ignore[index]
        if rows and self._free():
            with pytest.raises(TimeoutError):
                await self._pool.fetchval(TOUCH, self._random.choice(rows)[1], timeout=0.005)

    async def _cancel(self) -> None:
        """A call that waits for a lock is cancelled."""
        waiting = [calls for calls in self._locked.values() if calls]
        if waiting:
            call = self._random.choice(waiting).pop()
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

    async def _turns(self) -> None:
        for _ in range(self._random.randrange(12)):
            await asyncio.sleep(0)


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("seed", range(6))
async def test_random_programs_end_here_as_with_asyncpg(
    seed: int, options: dict[str, Any], with_asyncpg: Any, server: Cluster, connect_kwargs: dict[str, Any]
) -> None:
    size = 2 + seed % 4
    program = Mix(seed, size, 120)
    expected = await with_asyncpg(seed, program, size, connect_kwargs)
    assert await comes_to(program, headrace, size, server, connect_kwargs, **options) == expected
