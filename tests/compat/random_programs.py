"""Random programs, run by asyncpg and by headrace on one server: what ends there ends here, and comes to the same.

    python -m tests.compat.random_programs --pg 15 --seconds 600
    python -m tests.compat.random_programs --pg 15 --seed 7

A program has a pool and a few tasks. Each task has calls of the pool, leases and connections of its own, transactions,
savepoints, cursors, prepared statements, COPY, LISTEN, row and advisory locks, errors of the server and of codecs, time
limits, cancellations at any tick, and backends that are terminated. The seed decides all of it.

Locks are taken in order, and fewer tasks lease or wait for a lock than the pool has connections. So with one request at
a time on a connection each program ends.

A call has one outcome, or it is a matter of time and its outcome is left out. Each write has a token of its own: an
acknowledged one must be in the table once, a refused one never, and one of unknown outcome at most once.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import itertools
import logging
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import uvloop

import headrace
from tests.installations import installations
from tests.servers import Cluster

PATIENCE = 60.0
"""Seconds that a program may take: it ends long before unless it never does."""

ROWS = 5
TABLES = f"""
DROP SCHEMA public CASCADE;
CREATE SCHEMA public;
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE tokens (token bigint, body text);
CREATE TABLE taken (number int PRIMARY KEY);
INSERT INTO taken VALUES (1);
CREATE TABLE items (number int PRIMARY KEY, touched int NOT NULL DEFAULT 0);
INSERT INTO items SELECT generate_series(1, {ROWS})
"""
ADD = "INSERT INTO tokens VALUES ($1, $2)"

MISTAKES: tuple[tuple[str, tuple[object, ...]], ...] = (
    ("SELECT 1/$1::int", (0,)),
    ("SELEC 1", ()),
    ("SELECT * FROM nowhere", ()),
    ("SELECT $1::int", ("one",)),
    ("SELECT $1::int", ()),
    ("INSERT INTO taken VALUES (1)", ()),
    ("SELECT 'bad'::mood", ()),
    ("SELECT g, 'good'::mood, CASE WHEN g = 40 THEN 'bad' ELSE 'good' END::mood FROM generate_series(1, 50) g", ()),
    ("SELECT 1/(g - 30) FROM generate_series(1, 50) g", ()),
    ("SELECT repeat('x', 10000), 1/(g - 30) FROM generate_series(1, 50) g", ()),
)

WHO: ContextVar[int] = ContextVar("WHO")


@dataclass
class Outcome:
    """The outcome of a program with one driver."""

    ended: bool = False
    noted: dict[int, list[object]] = field(default_factory=dict)
    """By task: what each call returned, or the classes of the error that it raised."""
    acknowledged: Counter[int] = field(default_factory=Counter)
    unknown: set[int] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    """Faults that neither driver may have."""
    stacks: str = ""


class Undo(Exception):
    """Leaves the block of a transaction, which is rolled back."""


class BadMoodError(Exception):
    """A decoder raises it."""


def decoded_mood(text: str) -> str:
    if text == "bad":
        raise BadMoodError(text)
    return f"mood {text}"


def is_closed(driver: Any, connection: Any) -> bool:
    try:
        return bool(connection.is_closed())
    except driver.InterfaceError:
        # asyncpg takes a lease back if its connection is lost.
        return True


def where(task: asyncio.Task[Any]) -> str:
    """Return the lines of the coroutines in which a task waits, the innermost last."""
    lines = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None)
        lines.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}" if frame is not None else repr(awaited))
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "ag_await", None)
    return f"{task.get_name()}: " + " > ".join(lines)


def plain(value: object) -> object:
    """A value that is equal for both drivers."""
    if isinstance(value, list):
        return [plain(each) for each in value]
    if type(value).__name__ == "Record":
        return tuple(value)  # type: ignore[arg-type]
    return value


class Program:
    """A random program, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        chance = random.Random(seed)
        self.size = chance.choice((1, 2, 2, 3, 3, 5))
        self.tasks = chance.randint(1, 8)
        self.steps = chance.randint(3, 25)
        self.killer = chance.random() < 0.15
        self.cache = chance.choice((100, 100, 3, 0))
        self.debug = chance.random() < 0.15
        self.uvloop = chance.random() < 0.25
        self.max_queries = chance.choice((50_000, 50_000, 3))
        self.lifetime = chance.choice((300.0, 300.0, 0.02))
        self.with_setup = chance.random() < 0.2
        self.eager = chance.random() < 0.3
        self.options: dict[str, Any] = chance.choice(({}, {}, {}, {"max_pipeline": 1}, {"pipeline_budget": 0}))

    def run(self, driver: Any, dsn: str, server: Cluster, database: str) -> Outcome:
        """Run it with a driver; returns what it came to."""
        outcome = Outcome()
        server.sql(TABLES, database=database)
        factory = uvloop.new_event_loop if self.uvloop else asyncio.new_event_loop
        with asyncio.Runner(debug=self.debug, loop_factory=factory) as runner:
            runner.run(Run(self, driver, dsn, outcome).limited())
        for backend in server.backends(database):
            server.sql("SELECT pg_terminate_backend(%s)", backend.pid)
        counted = Counter(token for (token,) in server.sql("SELECT token FROM tokens", database=database))
        for token in outcome.acknowledged.keys() | outcome.unknown | counted.keys():
            expected = outcome.acknowledged[token]
            if counted[token] != expected and not (token in outcome.unknown and counted[token] - expected in (0, 1)):
                outcome.faults.append(f"token {token} is there {counted[token]} times, and not {expected}")
        return outcome


class Run:
    """One run of a program."""

    def __init__(self, program: Program, driver: Any, dsn: str, outcome: Outcome) -> None:
        self.program = program
        self.driver = driver
        self.dsn = dsn
        self.outcome = outcome
        self.tokens = itertools.count(1)
        self.room = asyncio.Semaphore(max(program.size - 1, 1))
        self.pool: Any = None

    async def limited(self) -> None:
        """Run it, for PATIENCE seconds at most."""
        if self.program.eager and sys.version_info >= (3, 12):
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        asyncio.get_running_loop().set_exception_handler(self._excepted)
        main = asyncio.create_task(self._main())
        await asyncio.wait([main], timeout=PATIENCE)
        if not main.done():
            self.outcome.stacks = "\n".join(where(task) for task in asyncio.all_tasks())
            self.outcome.stacks += await self._activity()
            main.cancel()
            await asyncio.wait([main], timeout=PATIENCE)
            return
        await main
        self.outcome.ended = True
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if left:
            await asyncio.wait(left, timeout=PATIENCE)
            self.outcome.faults.extend(f"a task is left over: {task!r}" for task in left if not task.done())

    async def _activity(self) -> str:
        """Return the activity of the server."""
        connection = await asyncpg.connect(self.dsn)
        try:
            rows = await connection.fetch(
                "SELECT pid, pg_blocking_pids(pid), state, wait_event, query FROM pg_stat_activity"
                " WHERE datname = current_database()"
            )
            return "".join(f"\n{tuple(row)}" for row in rows)
        finally:
            connection.terminate()

    def _excepted(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        expected = "the listener raises", "Resetting connection with an active transaction"
        if not any(text in f"{context['message']} {context.get('exception')}" for text in expected):
            self.outcome.faults.append(f"the loop's exception handler: {context}")

    async def _main(self) -> None:
        options = self.program.options if self.driver is headrace else {}
        self.pool = self.driver.create_pool(
            self.dsn, min_size=min(self.program.size, 2), max_size=self.program.size, init=self._init,
            setup=self._setup if self.program.with_setup else None, max_queries=self.program.max_queries,
            max_inactive_connection_lifetime=self.program.lifetime, statement_cache_size=self.program.cache, **options
        )  # fmt: skip
        await self.pool
        killer = asyncio.create_task(self._kill()) if self.program.killer else None
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self.program.tasks):
                    group.create_task(self._task(number))
        finally:
            if killer is not None:
                killer.cancel()
                await asyncio.wait([killer])
        await asyncio.wait_for(self.pool.close(), PATIENCE / 2)

    async def _init(self, connection: Any) -> None:
        await connection.set_type_codec("mood", encoder=str, decoder=decoded_mood)

    async def _setup(self, connection: Any) -> None:
        await connection.fetchval("SELECT 'set up'")

    async def _kill(self) -> None:
        """Terminate a few backends of the pool."""
        chance = random.Random(self.program.seed)
        connection = await asyncpg.connect(self.dsn)
        try:
            for _ in range(3):
                await asyncio.sleep(chance.random() * 0.1)
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                    " AND datname = current_database() ORDER BY random() LIMIT 1"
                )
        finally:
            connection.terminate()

    async def _task(self, number: int) -> None:
        WHO.set(number)
        await Actor(self, number).act()


Step = Callable[["Actor", random.Random, Any], Awaitable[None]]


class Actor:
    """One task of a program."""

    def __init__(self, run: Run, number: int, certain: bool = True) -> None:
        self._run = run
        self._number = number
        self._noted: list[object] = run.outcome.noted.setdefault(number, []) if certain else []
        self._chance = random.Random(f"{run.program.seed} {number}")
        self._tokens = itertools.count(number * 1_000_000)
        self._certain = certain and not run.program.killer
        self._sure = self._certain
        self._written: list[list[int]] = []
        """The tokens that are written in each open transaction."""

    async def act(self) -> None:
        for _ in range(self._run.program.steps):
            chance = random.Random(self._chance.random())
            self._sure = self._certain
            kind = chance.random()
            try:
                if kind < 0.6:
                    await chance.choice(CALLS)(self, chance, self._run.pool)
                elif kind < 0.7:
                    await self._update(chance)
                elif kind < 0.87:
                    await self._lease(chance)
                elif kind < 0.93:
                    await self._cancelled_lease(chance)
                else:
                    await self._connect(chance)
            except (Exception, asyncio.CancelledError) as error:
                self._go_on()
                if self._sure or not isinstance(error, self._losses()):
                    raise
            self._go_on()
            if WHO.get() != self._number:
                self._run.outcome.faults.append(f"task {self._number} goes on as {WHO.get()}")

    # -- noting ----------------------------------------------------------------------------------------------------

    def _losses(self) -> tuple[type[BaseException], ...]:
        """The errors of a connection that was lost, or dropped, or of a transaction that failed."""
        driver = self._run.driver
        if self._run.program.killer and driver is asyncpg:
            # It has errors of its own then, such as InternalClientError.
            return (Exception, asyncio.CancelledError)
        return (driver.PostgresError, driver.InterfaceError, OSError, TimeoutError, asyncio.CancelledError)

    def _go_on(self) -> None:
        """Raise CancelledError if the task itself is cancelled: another one has failed."""
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError

    async def _note(self, call: Awaitable[object], sure: bool = True) -> object:
        """Note what a call comes to; returns it, or None."""
        try:
            value = plain(await call)
        except (Exception, asyncio.CancelledError) as error:
            self._go_on()
            if not self._sure and not isinstance(error, (*self._losses(), BadMoodError)):
                self._run.outcome.faults.append(f"task {self._number}: {error!r}")
            if sure and self._sure:
                self._noted.append(error)
            return error
        if sure and self._sure:
            self._noted.append(value)
        return value

    def _token(self) -> int:
        return next(self._tokens)

    async def _write(self, tokens: list[int], call: Awaitable[object], sure: bool = True) -> None:
        """Note a write, in the transaction that is open here or outside of one."""
        outcome = self._run.outcome
        outcome.unknown.update(tokens)
        result = await self._note(call, sure)
        if self._written:
            # They are unknown until the end of the transaction is known.
            if not isinstance(result, BaseException):
                self._written[-1].extend(tokens)
        elif not isinstance(result, BaseException):
            outcome.unknown.difference_update(tokens)
            outcome.acknowledged.update(tokens)
        elif sure and self._sure:
            outcome.unknown.difference_update(tokens)

    # -- calls of a pool or a connection ---------------------------------------------------------------------------

    async def select(self, chance: random.Random, target: Any) -> None:
        await self._note(target.fetchval("SELECT $1::int", chance.randrange(1000)))

    async def select_new(self, chance: random.Random, target: Any) -> None:
        await self._note(target.fetchrow(f"SELECT {chance.randrange(10**9)} AS a, 'good'::mood AS b"))

    async def rows(self, chance: random.Random, target: Any) -> None:
        count = chance.choice((0, 1, 10, 100, 3000))
        await self._note(target.fetch("SELECT g, repeat('x', g % 50) FROM generate_series(1, $1::int) g", count))

    async def long_values(self, chance: random.Random, target: Any) -> None:
        size = chance.choice((1000, 70_000, 3_000_000))
        await self._note(target.fetchval("SELECT length($1::bytea)", b"x" * size))
        await self._note(target.fetchval("SELECT repeat('y', $1::int)", size))

    async def sleep(self, chance: random.Random, target: Any) -> None:
        await self._note(target.fetchval("SELECT 5 FROM pg_sleep($1::float8)", chance.random() * 0.02))

    async def add(self, chance: random.Random, target: Any) -> None:
        token = self._token()
        await self._write([token], target.execute(ADD, token, "a" * chance.choice((1, 5000))))

    async def add_script(self, chance: random.Random, target: Any) -> None:
        one, two = self._token(), self._token()
        script = f"INSERT INTO tokens VALUES ({one}); INSERT INTO tokens VALUES ({two})"
        await self._write([one, two], target.execute(script))

    async def add_many(self, chance: random.Random, target: Any) -> None:
        tokens = [self._token() for _ in range(chance.choice((1, 5, 300)))]
        await self._write(tokens, target.executemany(ADD, [(token, "b" * 300) for token in tokens]))

    async def add_returning(self, chance: random.Random, target: Any) -> None:
        token = self._token()
        await self._write([token], target.fetchval(ADD + " RETURNING token", token, None))

    async def copy_in(self, chance: random.Random, target: Any) -> None:
        tokens = [self._token() for _ in range(chance.choice((1, 5, 3000)))]
        await self._write(tokens, target.copy_records_to_table("tokens", records=[(each, "c") for each in tokens]))

    async def copy_in_fails(self, chance: random.Random, target: Any) -> None:
        await self._note(target.copy_records_to_table("taken", records=[(self._number + 100,), (1,)]))

    async def copy_out(self, chance: random.Random, target: Any) -> None:
        output = io.BytesIO()
        count = chance.choice((1, 100, 20_000))
        await self._note(
            target.copy_from_query("SELECT g, repeat('x', 20) FROM generate_series(1, $1::int) g", count, output=output)
        )
        if self._sure:
            self._noted.append(output.getvalue())

    async def mistake(self, chance: random.Random, target: Any) -> None:
        query, args = chance.choice(MISTAKES)
        await self._note(target.fetch(query, *args))

    async def expire(self, chance: random.Random, target: Any) -> None:
        await self._run.pool.expire_connections()

    async def by_hand(self, chance: random.Random, target: Any) -> None:
        """Transactions without the methods for them; the pool's own calls hand on no transaction."""
        token = self._token()
        if self._written:
            return
        script = f"BEGIN; INSERT INTO tokens VALUES ({token}); {chance.choice(('COMMIT', 'ROLLBACK', 'SELECT 1/0'))}"
        if script.endswith("COMMIT"):
            await self._write([token], target.execute(script))
        else:
            await self._note(target.execute(script))
            await self._note(target.execute("ROLLBACK"))

    async def changes(self, chance: random.Random, target: Any) -> None:
        """A table comes, and its columns change under cached statements."""
        name = f"t{self._token()}"
        await self._note(target.execute(f"CREATE TABLE {name} (a int)"))
        await self._note(target.fetch(f"SELECT * FROM {name}"))
        await self._note(target.execute(f"ALTER TABLE {name} ADD COLUMN b text DEFAULT 'new'"))
        await self._note(target.execute(f"INSERT INTO {name} VALUES (1)"))
        await self._note(target.execute(f"DROP TABLE {name}"))

    async def block_of_code(self, chance: random.Random, target: Any) -> None:
        await self._note(target.execute("DO $$ BEGIN PERFORM set_config('search_path', 'nowhere', false); END $$"))
        await self._note(target.execute("SET search_path TO public"))

    async def crowd(self, chance: random.Random, target: Any) -> None:
        """Calls at once, of a pool."""
        if target is not self._run.pool:
            return
        chances = [random.Random(chance.random()) for _ in range(chance.randrange(2, 12))]
        kinds = [chance.choice((Actor.quiet, Actor.quiet_add)) for _ in chances]
        values = await asyncio.gather(*(kind(self, each, target) for kind, each in zip(kinds, chances, strict=True)))
        if self._sure:
            self._noted.append(values)

    async def quiet(self, chance: random.Random, target: Any) -> object:
        try:
            return plain(await target.fetchval("SELECT $1::int", chance.randrange(100)))
        except self._losses():
            if self._sure:
                raise
            return None

    async def quiet_add(self, chance: random.Random, target: Any) -> object:
        token = self._token()
        outcome = self._run.outcome
        outcome.unknown.add(token)
        try:
            await target.execute(ADD, token, None)
        except self._losses():
            if self._sure:
                raise
        else:
            outcome.unknown.discard(token)
            outcome.acknowledged[token] += 1
        return None

    async def timed_out(self, chance: random.Random, target: Any) -> None:
        seconds = chance.choice((0.001, 0.01, 0.03))
        kind = chance.randrange(3)
        call = target.fetchval("SELECT pg_sleep(30)", **({"timeout": seconds} if kind == 0 else {}))
        if kind == 0:
            await self._note(call)
        elif kind == 1:
            await self._note(asyncio.wait_for(call, seconds))
        else:
            try:
                async with asyncio.timeout(seconds):
                    await call
            except TimeoutError as error:
                if self._sure:
                    self._noted.append(error)
        self._left(target)

    async def cancelled(self, chance: random.Random, target: Any) -> None:
        """A call is cancelled at some tick: before it is sent, while it runs, as it ends, or afterwards."""
        ticks = chance.choice((0, 1, 2, 3, 5, 8, 13))
        kind = chance.randrange(4)
        pause = chance.choice((0.0, 0.0, 0.001, 0.005))
        token = self._token()
        calls: list[Awaitable[object]] = [
            target.execute(ADD, token, None),
            target.fetch("SELECT generate_series(1, 100)"),
            target.fetchval("SELECT pg_sleep(0.003)"),
            target.executemany(ADD, [(token, None)]),
        ]
        write = kind in (0, 3)
        if write:
            # This task may be cancelled before it comes to note it.
            self._run.outcome.unknown.add(token)
        call = asyncio.ensure_future(calls.pop(kind))
        # It is left alone if this task is cancelled meanwhile.
        call.add_done_callback(lambda task: task.cancelled() or task.exception())
        for each in calls:
            each.close()  # type: ignore[attr-defined]
        for _ in range(ticks):
            await asyncio.sleep(0)
        if pause:
            await asyncio.sleep(pause)
        call.cancel()
        if write:
            await self._write([token], call, sure=False)
        else:
            await self._note(call, sure=False)
        self._left(target)

    def _left(self, target: Any) -> None:
        """A call was given up: a transaction may have failed, and asyncpg may have closed the connection."""
        if target is not self._run.pool:
            self._sure = False

    # -- leases and connections ------------------------------------------------------------------------------------

    async def _update(self, chance: random.Random) -> None:
        """A call of the pool that waits for whoever has locked the row."""
        async with self._run.room:
            number = chance.randrange(1, ROWS + 1)
            await self._note(self._run.pool.execute("UPDATE items SET touched = 2 WHERE number = $1", number))

    async def _lease(self, chance: random.Random) -> None:
        shared = self._run.program.size > 1
        async with self._run.room:
            async with self._run.pool.acquire() as connection:
                await self._session(chance, connection, shared)

    async def _cancelled_lease(self, chance: random.Random) -> None:
        """A task with a lease is cancelled at some point, and perhaps once more while it ends."""
        actor = Actor(self._run, self._token(), certain=False)
        lease = asyncio.ensure_future(actor._lease(random.Random(chance.random())))
        for _ in range(chance.choice((1, 1, 1, 2))):
            for _ in range(chance.choice((0, 1, 2, 3, 5, 8, 13, 21))):
                await asyncio.sleep(0)
            await asyncio.sleep(chance.choice((0.0, 0.0, 0.001, 0.005, 0.02)))
            lease.cancel()
        result = (await asyncio.gather(lease, return_exceptions=True))[0]
        if isinstance(result, BaseException) and not isinstance(result, self._losses()):
            self._run.outcome.faults.append(f"task {self._number}: {result!r}")

    async def _connect(self, chance: random.Random) -> None:
        connection = await self._run.driver.connect(self._run.dsn, statement_cache_size=self._run.program.cache)
        try:
            await self._run._init(connection)
            await self._session(chance, connection, False)
            how = chance.randrange(3)
            if how == 0:
                await self._note(connection.close(), sure=False)
        finally:
            connection.terminate()

    async def _session(self, chance: random.Random, connection: Any, shared: bool) -> None:
        for _ in range(chance.randint(1, 8)):
            step = random.Random(chance.random())
            kind = step.random()
            if is_closed(self._run.driver, connection):
                break
            if kind < 0.4:
                await step.choice(CALLS)(self, step, connection)
            elif kind < 0.6:
                await self._transaction(step, connection, shared, 0)
            elif kind < 0.75 and shared:
                # A pool of two or more: one connection is left.
                await step.choice(CALLS)(self, step, self._run.pool)
            else:
                await step.choice(OF_CONNECTIONS)(self, step, connection)

    async def _transaction(self, chance: random.Random, connection: Any, shared: bool, depth: int) -> None:
        """A transaction, or a savepoint in it, that is committed or undone."""
        undone = chance.random() < 0.3
        outcome = self._run.outcome
        steps = [random.Random(chance.random()) for _ in range(chance.randrange(6))]
        locks = sorted(chance.sample(range(1, ROWS + 1), chance.randrange(3))) if depth == 0 else []
        options = {"isolation": chance.choice(("read_committed", "repeatable_read"))} if depth == 0 else {}
        tokens: list[int] = []
        self._written.append(tokens)
        try:
            async with connection.transaction(**options):
                for number in locks:
                    if options["isolation"] == "read_committed":
                        await self._note(
                            connection.fetchval(
                                "UPDATE items SET touched = 1 WHERE number = $1 RETURNING number", number
                            )
                        )
                    else:
                        await self._note(connection.execute("SELECT pg_advisory_xact_lock($1)", number))
                for step in steps:
                    kind = step.random()
                    if not self._sure:
                        break
                    if kind < 0.5:
                        await self._in_transaction(step, connection)
                    elif kind < 0.7 and depth < 3:
                        await self._transaction(step, connection, shared, depth + 1)
                    elif kind < 0.85 and shared:
                        written, self._written = self._written, []
                        try:
                            await step.choice(CALLS)(self, step, self._run.pool)
                        finally:
                            self._written = written
                    else:
                        await step.choice(IN_TRANSACTIONS)(self, step, connection)
                if undone:
                    raise Undo
        except (Undo, *self._losses()) as error:
            self._written.pop()
            self._go_on()
            if isinstance(error, Undo):
                outcome.unknown.difference_update(tokens)
            elif self._sure:
                self._noted.append(error)
            if not isinstance(error, Undo) and depth:
                raise
            return
        self._written.pop()
        if self._written:
            self._written[-1].extend(tokens)
        else:
            outcome.unknown.difference_update(tokens)
            outcome.acknowledged.update(tokens)

    async def _in_transaction(self, chance: random.Random, connection: Any) -> None:
        """A call; if it may fail, in a savepoint."""
        call = chance.choice(CALLS)
        if call in (Actor.mistake, Actor.timed_out, Actor.cancelled, Actor.copy_in_fails, Actor.block_of_code):
            savepoint = connection.transaction()
            await savepoint.start()
            tokens: list[int] = []
            self._written.append(tokens)
            try:
                await call(self, chance, connection)
            finally:
                self._written.pop()
                if not is_closed(self._run.driver, connection):
                    await savepoint.rollback()
                self._run.outcome.unknown.difference_update(tokens)
        else:
            await call(self, chance, connection)

    async def prepared(self, chance: random.Random, connection: Any) -> None:
        statement = await connection.prepare("SELECT $1::int + g FROM generate_series(1, 5) g")
        for _ in range(chance.randrange(4)):
            await self._note(statement.fetch(chance.randrange(100)))
        await self._note(statement.fetchval(1, column=0))
        await self._note(statement.fetchval("x"))

    async def prepared_wrong(self, chance: random.Random, connection: Any) -> None:
        await self._note(connection.prepare("SELECT nothing"))

    async def listen(self, chance: random.Random, connection: Any) -> None:
        """Listen: notifications arrive even if the listener raises or asks the pool."""
        heard: asyncio.Queue[str] = asyncio.Queue()
        raises = chance.random() < 0.3
        asks = chance.random() < 0.3 and self._run.program.size > 1
        asked: list[asyncio.Task[Any]] = []
        channel = f"c{self._token()}"

        def listener(connection: Any, pid: int, channel: str, payload: str) -> None:
            heard.put_nowait(payload)
            if asks:
                asked.append(asyncio.ensure_future(self._run.pool.fetchval("SELECT 1")))
            if raises:
                raise RuntimeError("the listener raises")

        await connection.add_listener(channel, listener)
        payloads = [str(chance.randrange(1000)) for _ in range(chance.randint(1, 4))]
        for payload in payloads:
            if self._run.program.size > 1 and chance.random() < 0.5:
                await self._note(self._run.pool.execute("SELECT pg_notify($1, $2)", channel, payload))
            else:
                await self._note(connection.execute("SELECT pg_notify($1, $2)", channel, payload))
        if self._sure:
            self._noted.append([await heard.get() for _ in payloads])
        await connection.remove_listener(channel, listener)
        await asyncio.gather(*asked, return_exceptions=True)

    async def advisory(self, chance: random.Random, connection: Any) -> None:
        """A lock that is held while the pool is asked, and let go here or by the reset."""
        number = chance.randrange(100, 103)
        await self._note(connection.execute("SELECT pg_advisory_lock($1)", number))
        if self._run.program.size > 1:
            await chance.choice(CALLS)(self, chance, self._run.pool)
        if is_closed(self._run.driver, connection):
            return
        await self._note(connection.fetchval("SELECT pg_advisory_unlock($1)", number))

    async def settings(self, chance: random.Random, connection: Any) -> None:
        name = chance.choice(("application_name", "work_mem"))
        await self._note(connection.fetchval(f"SHOW {name}"))
        await self._note(connection.execute(f"SET {name} TO '{64 + chance.randrange(64)}kB'"))
        await self._note(connection.fetchval("SELECT current_setting($1)", name))
        await self._note(connection.execute(f"RESET {name}"))

    async def dies(self, chance: random.Random, connection: Any) -> None:
        """The connection loses its backend, by its own doing."""
        if self._written:
            return
        await self._note(connection.fetchval("SELECT pg_terminate_backend(pg_backend_pid())"))
        self._sure = False

    async def dropped(self, chance: random.Random, connection: Any) -> None:
        if not self._written:
            self._sure = False
            if chance.random() < 0.5:
                connection.terminate()
            else:
                await connection.close()

    async def cursor(self, chance: random.Random, connection: Any) -> None:
        count, prefetch = chance.choice((0, 3, 120)), chance.choice((1, 10, 50))
        left = chance.random() < 0.3
        got = []
        async for row in connection.cursor("SELECT generate_series(1, $1::int)", count, prefetch=prefetch):
            got.append(tuple(row))
            if left and len(got) == 2:
                break
            if chance.random() < 0.05:
                await self.select(chance, connection)
        if self._sure:
            self._noted.append(got)

    async def cursor_by_hand(self, chance: random.Random, connection: Any) -> None:
        cursor = await connection.cursor("SELECT generate_series(1, 30)")
        await self._note(cursor.forward(chance.randrange(1, 5)))
        await self._note(cursor.fetch(chance.randrange(1, 40)))
        await self._note(cursor.fetchrow())

    async def deferred(self, chance: random.Random, connection: Any) -> None:
        await self._note(connection.fetchval("SELECT count(*) FROM items"))
        await self._note(connection.execute("SET LOCAL work_mem TO '123kB'"))
        await self._note(connection.fetchval("SHOW work_mem"))


CALLS: tuple[Step, ...] = (
    Actor.select, Actor.select, Actor.select_new, Actor.rows, Actor.long_values, Actor.sleep, Actor.add, Actor.add,
    Actor.add_script, Actor.add_many, Actor.add_returning, Actor.copy_in, Actor.copy_in_fails, Actor.copy_out,
    Actor.mistake, Actor.mistake, Actor.changes, Actor.block_of_code, Actor.crowd, Actor.expire, Actor.by_hand,
    Actor.timed_out, Actor.cancelled, Actor.cancelled,
)  # fmt: skip
OF_CONNECTIONS: tuple[Step, ...] = (
    Actor.prepared, Actor.prepared_wrong, Actor.listen, Actor.listen, Actor.advisory, Actor.settings, Actor.dies,
    Actor.dropped,
)  # fmt: skip
IN_TRANSACTIONS: tuple[Step, ...] = (Actor.cursor, Actor.cursor_by_hand, Actor.deferred, Actor.prepared)


def differences(reference: Outcome, outcome: Outcome) -> list[str]:
    """How what a program came to with headrace differs from what it came to with asyncpg."""
    if not outcome.ended:
        return [f"it does not end\n{outcome.stacks}"] if reference.ended else []
    found = list(outcome.faults)
    if not reference.ended:
        return found
    for task, noted in reference.noted.items():
        for place, (one, other) in enumerate(itertools.zip_longest(noted, outcome.noted.get(task, []))):
            if isinstance(one, asyncpg.ActiveSQLTransactionError):
                # asyncpg leaves an implicit transaction open if an argument is wrong.
                break
            if not alike(one, other):
                found.append(f"task {task}, {place}: {short(one)} with asyncpg, {short(other)} with headrace")
                break
    return found


def alike(one: object, other: object) -> bool:
    """Return whether two outcomes of a call are equal. Code that catches asyncpg's error must catch this one too."""
    if isinstance(one, BaseException):
        return type(one).__name__ in [each.__name__ for each in type(other).__mro__]
    return not isinstance(other, BaseException) and one == other


def short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 300 else text[:300] + "..."


def compared(seed: int, server: Cluster, database: str) -> list[str]:
    """Run the program of a seed with both drivers; returns what differs."""
    program = Program(seed)
    dsn = server.dsn(database)
    with warnings.catch_warnings():
        # Of leases that are given back in disorder.
        warnings.simplefilter("ignore")
        try:
            reference = program.run(asyncpg, dsn, server, database)
        except Exception:
            # Its own errors, after cancellations and lost connections.
            reference = Outcome()
        return differences(reference, program.run(headrace, dsn, server, database))


def main() -> int:
    """Run programs until the time is over; the exit status is 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.compat.random_programs", description=__doc__)
    parser.add_argument(
        "--pg", type=int, metavar="VERSION", help="the PostgreSQL to run on: by default the first found"
    )
    parser.add_argument("--seed", type=int, help="run the program of this seed alone")
    parser.add_argument("--seconds", type=float, default=60, help="how long to go on (%(default)s)")
    arguments = parser.parse_args()
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    logging.getLogger("headrace").setLevel(logging.CRITICAL)
    installation = next(each for each in installations() if arguments.pg in (None, each.version))
    seeds: Iterable[int] = [arguments.seed] if arguments.seed is not None else itertools.count(random.randrange(10**9))
    count = found = 0
    with Cluster(installation) as server, server.database() as database:
        end = time.monotonic() + arguments.seconds
        for seed in seeds:
            if time.monotonic() > end:
                break
            count += 1
            for difference in compared(seed, server, database):
                found += 1
                print(f"seed {seed}: {difference}", flush=True)
    print(f"{count} programs, {found} differences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
