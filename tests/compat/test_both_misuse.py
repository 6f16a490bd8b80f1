"""Wrong use, seen by programs written for asyncpg: both drivers raise the same, and go on the same.

Each program is run by both, on the same server, as in test_both_drivers.py. Beside the class of an error these note the
words that programs look for in its message.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import io
import pickle
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.compat.test_both_drivers import Run, check_both
from tests.servers import Cluster


async def said(run: Run, call: Callable[..., Any], *args: Any, words: str = "", **kwargs: Any) -> None:
    """Note what a call raises, and that its message holds the words; or what it returns."""
    try:
        result = call(*args, **kwargs)
        run.note(await result if inspect.isawaitable(result) else result)
        return
    except Exception as error:
        run.noted.append(error)
        message = str(error)
    assert words in message, f"{run.driver.__name__}: {words!r} is not in {message!r}"


async def awaited(cursor: Any) -> None:
    await cursor


async def closed(run: Run) -> None:
    """A closed connection, and what was made on it before."""
    conn = run.connection
    transaction = conn.transaction()
    await transaction.start()
    cursor = await conn.cursor("SELECT generate_series(1, 10)")
    factory = conn.cursor("SELECT 1")
    statement = await conn.prepare("SELECT 1")
    await conn.close()
    for method in (conn.execute, conn.fetch, conn.fetchrow, conn.fetchval, conn.prepare):
        await said(run, method, "SELECT 1", words="connection is closed")
    await said(run, conn.executemany, "SELECT $1::int", [(1,)], words="connection is closed")
    await said(run, conn.transaction, words="connection is closed")
    await said(run, conn.cursor, "SELECT 1", words="connection is closed")
    await said(run, conn.reset, words="connection is closed")
    await said(run, conn.add_listener, "channel", print, words="connection is closed")
    await said(run, conn.remove_listener, "channel", print)
    await said(run, conn.add_log_listener, print, words="connection is closed")
    await said(run, conn.add_termination_listener, print)
    closed = "the underlying connection is closed"
    await said(run, transaction.commit, words=f"cannot call Transaction.commit(): {closed}")
    await said(run, transaction.rollback, words=f"cannot call Transaction.rollback(): {closed}")
    await said(run, cursor.fetch, 1, words=f"cannot call Cursor.fetch(): {closed}")
    await said(run, cursor.fetchrow, words=f"cannot call Cursor.fetchrow(): {closed}")
    await said(run, cursor.forward, 1, words=f"cannot call Cursor.forward(): {closed}")
    await said(run, awaited, factory, words=closed)
    await said(run, statement.fetch, words=f"cannot call PreparedStatement.fetch(): {closed}")
    await said(run, statement.get_query, words=f"cannot call PreparedStatement.get_query(): {closed}")
    await conn.close()
    conn.terminate()
    run.note(conn.is_closed())


async def released(run: Run) -> None:
    """What outlives a lease: it must not reach the connection, which is somebody else's by then."""
    async with run.driver.create_pool(run.dsn, min_size=1, max_size=1) as pool:
        async with pool.acquire() as leased:
            transaction, factory = leased.transaction(), leased.cursor("SELECT 1")
            statement = await leased.prepare("SELECT 1")
            of_statement = statement.cursor()
            run.note(hasattr(leased, "fetch"), hasattr(leased, "nope"), leased._con is not None)
        for over in (leased.is_closed, leased.is_in_transaction, leased.get_server_pid, leased.transaction):
            await said(run, over, words="connection has been released back to the pool")
        await said(run, leased.fetch, "SELECT 1", words="cannot call Connection.fetch(): connection has been released")
        run.note(isinstance(leased, run.driver.Connection), hasattr(leased, "nope"), getattr(leased, "nope", 5))
        run.note(leased._con, "[released]" in repr(leased))
        async with pool.acquire() as other, other.transaction():
            await said(run, transaction.start, words="released back to the pool")
            for cursor in (factory, of_statement):
                await said(run, awaited, cursor, words="released back to the pool")
                await said(run, cursor.__aiter__, words="released back to the pool")
            await said(run, statement.fetch, words="released back to the pool")


LEVELS = [("serializable", "read_committed"), (None, "serializable"), (None, "read_committed")]


async def transactions(run: Run) -> None:
    """Transactions ended twice, by hand inside `async with`, and behind their back."""
    conn = run.connection
    for how in ("commit", "rollback"):
        transaction = conn.transaction()
        await said(run, transaction.commit, words="cannot commit; the transaction is not yet started")
        await said(run, transaction.rollback, words="cannot rollback; the transaction is not yet started")
        await transaction.start()
        await said(run, transaction.start, words="cannot start; the transaction is already started")
        run.note(repr(transaction).split(" 0x")[0].split(".")[1])
        await getattr(transaction, how)()
        ended = {"commit": "already committed", "rollback": "already rolled back"}[how]
        for again in (transaction.start, transaction.commit, transaction.rollback):
            await said(run, again, words=ended)
        run.note(repr(transaction).split(" 0x")[0].split(".")[1])
        transaction = conn.transaction(isolation="serializable", readonly=True, deferrable=True)
        run.note(repr(transaction).split(" 0x")[0].split(".")[1])

        async def by_hand(how: str = how) -> None:
            async with conn.transaction() as nothing, conn.transaction():
                assert nothing is None
                inner = conn.transaction()
                async with inner:
                    await getattr(inner, how)()

        await said(run, by_hand, words=f"cannot manually {how} from within an `async with` block")
    run.note(conn.is_in_transaction())
    outer = conn.transaction()
    await outer.start()
    await conn.execute("ROLLBACK")
    run.note(conn.is_in_transaction())
    await outer.commit()
    await conn.execute("BEGIN")
    await said(run, conn.transaction().start, words="manually started transaction")
    await conn.execute("ROLLBACK")
    for outer_level, inner_level in (
        ("serializable", "read_committed"),
        (None, "serializable"),
        (None, "read_committed"),
    ):
        async with conn.transaction(isolation=outer_level):
            await said(run, conn.transaction(isolation=inner_level).start)
    await conn.execute("SET default_transaction_isolation = 'repeatable read'")
    async with conn.transaction():
        await said(run, conn.transaction(isolation="read_committed").start, words="different isolation level")
        await said(run, conn.transaction(isolation="repeatable_read").start)


async def arguments(run: Run) -> None:
    """Arguments of a wrong number or kind, to queries and to methods."""
    conn = run.connection
    await said(run, conn.fetch, "SELECT $1::int", words="the server expects 1 argument for this query, 0 were passed")
    for args in ((), (1, 2)):
        with pytest.raises(run.driver.InterfaceError) as caught:
            await conn.fetch("SELECT $1::int", *args)
        run.note(caught.value.hint is not None, "HINT" in str(caught.value.args[0]))
    await said(run, conn.executemany, "SELECT $1::int", [5], words="executemany() argument sequence element #0")
    await said(run, conn.executemany, "SELECT $1::int", [(1,), ("x",)], words="in element #1 of executemany() sequence")
    for seconds in (-1, 0, "x", "0", True):
        await said(run, conn.fetch, "SELECT 1", timeout=seconds)
    await said(run, conn.fetchval, "SELECT 1", timeout="5")
    connection = await run.driver.connect(run.dsn, command_timeout="0.05")
    await said(run, connection.execute, "SELECT pg_sleep(10)")
    await said(run, connection.fetch, "SELECT pg_sleep(0.1)", timeout="10")
    connection.terminate()

    class WithInit(run.driver.Record):  # type: ignore[misc,name-defined]
        def __init__(self) -> None: ...

    class WithNew(run.driver.Record):  # type: ignore[misc,name-defined]
        def __new__(cls) -> Any: ...

    class Plain(run.driver.Record):  # type: ignore[misc,name-defined]
        pass

    for record_class in (WithInit, WithNew):
        await said(
            run, conn.fetch, "SELECT 1", record_class=record_class, words="must not redefine __new__ or __init__"
        )
    run.note(repr(await conn.fetchrow("SELECT 1 AS a, 'x' AS b", record_class=Plain)))
    run.note(repr(await conn.fetchrow("SELECT 1 AS a")))
    for wrong in ({"connection_class": int}, {"record_class": int}, {"max_inactive_connection_lifetime": -1}):
        await said(run, run.driver.create_pool, run.dsn, **wrong)


async def cursors(run: Run) -> None:
    """Cursors outside of their transaction, with wrong counts, and with a time limit."""
    conn = run.connection
    await said(run, awaited, conn.cursor("SELECT 1"), words="outside of a transaction")
    await said(run, conn.cursor("SELECT 1").__aiter__().__anext__, words="outside of a transaction")
    await said(run, awaited, conn.cursor("SELECT 1", prefetch=5), words="only be specified for iterable cursor")
    async with conn.transaction():
        cursor = await conn.cursor("SELECT generate_series(1, 10)")
        await said(run, cursor.fetch, 0, words="n must be greater than zero")
        await said(run, cursor.forward, -1, words="n must be greater than zero")
        run.note(await cursor.fetch(3), await cursor.forward(3), await cursor.fetch(9), await cursor.forward(1))
        # The time limit of a cursor is for opening it, and for iterating.
        slow = await conn.cursor("SELECT pg_sleep(0.3)", timeout=0.05)
        run.note(await slow.fetch(1))

    async def iterate() -> None:
        async with conn.transaction():
            async for _ in conn.cursor("SELECT pg_sleep(10)", timeout=0.05):
                pass

    await said(run, iterate)
    await said(run, cursor.fetchrow, words="outside of a transaction")
    statement = await conn.prepare("SELECT 1")
    run.note(statement.get_statusmsg(), await statement.fetch(), statement.get_statusmsg())


async def settings(run: Run) -> None:
    """What a connection says of itself, and the resetting of it."""
    conn = run.connection
    settings = conn.get_settings()
    await conn.execute("SET TIME ZONE 'Europe/Berlin'")
    run.note(settings.TimeZone, type(settings).__name__, hasattr(settings, "nope"), conn.get_reset_query())
    for name in ("TimeZone", "nope"):
        with pytest.raises(AttributeError):
            setattr(settings, name, "x")
    await conn.execute(f"{conn.get_reset_query()} SELECT 1")
    run.note(settings.TimeZone, conn._addr)
    told: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: told.append(context["message"].partition(" <")[0]))
    await conn.execute("BEGIN")
    await conn.reset()
    async with run.driver.create_pool(run.dsn, min_size=1, max_size=1) as pool:
        async with pool.acquire() as leased:
            await leased.execute("BEGIN")
        async with pool.acquire() as leased:
            run.note(leased.is_in_transaction())
    loop.set_exception_handler(None)
    run.note(told)

    class Kept(run.driver.Connection):  # type: ignore[misc,name-defined]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._reset_query = ""

    connection = await run.driver.connect(run.dsn, connection_class=Kept)
    await connection.execute("SET application_name = 'kept'")
    await connection.reset()
    run.note(connection.get_reset_query(), await connection.fetchval("SHOW application_name"))
    connection.terminate()


async def pools(run: Run) -> None:
    """Callbacks, classes of one's own, and what monitoring looks at."""
    seen: list[str] = []

    class Own(run.driver.Connection):  # type: ignore[misc,name-defined]
        async def fetch(self, *args: Any, **kwargs: Any) -> Any:
            seen.append("fetch")
            return await super().fetch(*args, **kwargs)

        async def execute(self, query: str, *args: Any, **kwargs: Any) -> Any:
            if query == "SELECT 1":
                seen.append("execute")
            return await super().execute(query, *args, **kwargs)

        async def executemany(self, *args: Any, **kwargs: Any) -> Any:
            seen.append("executemany")
            return await super().executemany(*args, **kwargs)

        async def reset(self, **kwargs: Any) -> None:
            seen.append("reset")
            await super().reset(**kwargs)

    async def init(connection: Any) -> None:
        seen.append(f"init {type(connection).__name__}")

    async def reset(connection: Any) -> None:
        seen.append(f"reset {type(connection).__name__}")

    async def connect(*args: Any, loop: Any, connection_class: Any, record_class: Any, **kwargs: Any) -> Any:
        seen.append(f"connect {len(args)} {loop is asyncio.get_running_loop()} {connection_class.__name__} {kwargs}")
        return await run.driver.connect(*args, connection_class=connection_class, **kwargs)

    pool = run.driver.create_pool(
        run.dsn,
        min_size=1,
        max_size=2,
        connection_class=Own,
        init=init,
        reset=reset,
        connect=connect,
        command_timeout=5,
    )
    await said(run, pool.expire_connections)
    await pool
    await pool.fetch("SELECT 1")
    await pool.execute("SELECT 1")
    await pool.executemany("SELECT $1::int", [(1,)])
    async with pool.acquire():
        pass
    run.note(seen)
    run.note(pool._minsize, pool._maxsize, len(pool._holders), pool._queue.qsize())
    leased = await pool.acquire()
    run.note(pool._queue.qsize(), [holder._in_use is not None for holder in pool._holders].count(True))
    run.note([holder._con is leased._con for holder in pool._holders].count(True), len(pool._queue._getters))
    run.note(sorted(holder.is_connected() for holder in pool._holders), leased._loop is asyncio.get_running_loop())
    await pool.release(leased)
    await pool.close()
    await said(run, pool.expire_connections)

    async def broken(connection: Any) -> None:
        raise KeyError("reset")

    async with run.driver.create_pool(run.dsn, min_size=1, max_size=1, reset=broken) as pool:
        leased = await pool.acquire()
        await said(run, pool.release, leased)

    async with run.driver.create_pool(run.dsn, min_size=1, max_size=1) as pool:
        leased = await pool.acquire()
        await leased.add_listener("one", print)
        await leased.add_listener("two", print)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            await pool.release(leased)
        assert [each.category.__name__ for each in caught] == ["InterfaceWarning"]
        assert "is being released to the pool but has 2 active notification listeners" in str(caught[0].message)


async def errors(run: Run) -> None:
    """What an error and a notice tell, and copies of them."""
    conn = run.connection
    await conn.execute("CREATE TABLE t (a int CONSTRAINT only_one PRIMARY KEY)")
    try:
        await conn.executemany("INSERT INTO t VALUES ($1)", [(1,), (1,)])
    except run.driver.UniqueViolationError as error:
        for each in (error, copy.copy(error), pickle.loads(pickle.dumps(error))):
            run.note(type(each).__name__, str(each), each.args, each.constraint_name, each.detail, each.sqlstate)
            run.note({name: text for name, text in each.as_dict().items() if not name.startswith("server_")})
    notices: list[Any] = []
    conn.add_log_listener(lambda connection, message: notices.append(message))
    text = "DO $$ BEGIN RAISE WARNING 'w' USING DETAIL = 'd', HINT = 'h'; END $$"
    await conn.execute(text)
    await asyncio.sleep(0)
    (notice,) = notices
    run.note(type(notice).__name__, str(notice), notice.severity, notice.detail, notice.hint, notice.query)
    await said(run, setattr, notice, "detail", "x", words="immutable")
    await said(run, conn.copy_from_table, "nope", output=io.BytesIO())
    for names in ({}, {"schema_name": "nope"}, {"columns": ["a"]}):
        await said(run, conn.copy_records_to_table, "nope", records=[(1,)], words="does not exist", **names)


async def instrumented(run: Run) -> None:
    """Methods wrapped on their classes, as tracing does it: calls through a pool are seen too."""
    seen: list[str] = []

    def wrapping(method: Callable[..., Any]) -> Callable[..., Any]:
        async def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
            query = self._query if not args or not isinstance(args[0], str) else args[0]
            connection = getattr(self, "_connection", self)
            assert connection._addr == run.connection._addr
            assert connection._params.database == run.connection._params.database
            seen.append(f"{type(self).__name__} {method.__name__} {query}")
            return await method(self, *args, **kwargs)

        return wrapper

    wrapped = [(run.driver.Connection, name) for name in ("execute", "executemany", "fetch", "fetchrow", "fetchval")]
    wrapped += [(run.driver.cursor.Cursor, "fetch"), (run.driver.cursor.CursorIterator, "__anext__")]
    kept = [(owner, name, getattr(owner, name)) for owner, name in wrapped]
    try:
        for owner, name, method in kept:
            setattr(owner, name, wrapping(method))
        async with run.driver.create_pool(run.dsn, min_size=1, max_size=1) as pool:
            await pool.fetch("SELECT 1")
            await pool.fetchval("SELECT 2")
            async with pool.acquire() as leased, leased.transaction():
                await leased.fetchrow("SELECT 3")
                run.note([row[0] async for row in leased.cursor("SELECT 4")])
                run.note(await (await leased.cursor("SELECT 5")).fetch(1))
    finally:
        for owner, name, method in kept:
            setattr(owner, name, method)
    run.note([each for each in seen if "SELECT" in each and "advisory" not in each])


PROGRAMS = [instrumented, closed, released, transactions, arguments, cursors, settings, pools, errors]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
async def test_both_come_to_the_same(
    program: Callable[[Run], Awaitable[None]], server: Cluster, tmp_path: Path
) -> None:
    await check_both(program, server, tmp_path)
