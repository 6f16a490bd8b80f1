"""Closing a connection: what runs is cancelled, what was not sent fails, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import headrace
import headrace._io.driver
from tests.peers import backend
from tests.peers.frontend import Terminate
from tests.servers import Cluster

if TYPE_CHECKING:
    from tests.fixtures import Connect, Fake, Gate, MakePool
    from tests.peers.fakeserver import Peer
    from tests.secure import Secure

MANY_LOCKS = "SELECT count(pg_advisory_lock(i)) FROM generate_series(1, 5000) i"
"""The server needs some time to give so many back."""
ONE_OF_THEM = "SELECT pg_try_advisory_lock(5000) AND pg_advisory_unlock(5000)"

SLEEP = "SELECT pg_sleep($1)"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


def in_flight(conn: headrace.Connection) -> int:
    return conn._driver.session.sent.count


async def test_every_query_in_flight_is_cancelled_in_turn(connect: Any) -> None:
    """Not the first alone: the others would run to their ends, or until the time is up."""
    conn = await connect()
    await conn.fetch(SLEEP, 0)
    calls = [asyncio.create_task(conn.fetch(SLEEP, 600)) for _ in range(5)]
    await until(lambda: in_flight(conn) == 5)
    async with asyncio.timeout(10):
        await conn.close()
    for call in calls:
        assert isinstance(call.exception(), headrace.QueryCanceledError)
    assert conn.is_closed()


async def test_closing_twice_at_once(connect: Any) -> None:
    conn = await connect()
    await conn.fetch(SLEEP, 0)
    call = asyncio.create_task(conn.fetch(SLEEP, 600))
    await until(lambda: in_flight(conn) == 1)
    async with asyncio.timeout(10):
        await asyncio.gather(conn.close(), conn.close(), conn.close())
    assert isinstance(call.exception(), headrace.QueryCanceledError)


async def test_one_of_two_who_close_gives_up(connect: Any) -> None:
    conn = await connect()
    await conn.fetch(SLEEP, 0)
    call = asyncio.create_task(conn.fetch(SLEEP, 600))
    await until(lambda: in_flight(conn) == 1)
    first, second = asyncio.create_task(conn.close()), asyncio.create_task(conn.close())
    await asyncio.sleep(0)
    first.cancel()
    async with asyncio.timeout(10):
        await asyncio.gather(first, second, return_exceptions=True)
    assert second.exception() is None
    assert conn.is_closed()
    assert (await asyncio.gather(call, return_exceptions=True)) == [call.exception()]


async def test_while_executemany_is_being_sent(connect: Any) -> None:
    """The server waits for the rest of it, so no CancelRequest would end it."""
    conn = await connect()
    await conn.execute("CREATE TEMP TABLE t (a int)")
    started = asyncio.Event()

    def elements() -> Any:
        for i in range(10_000_000):
            if i == 100_000:
                started.set()
            yield (i,)

    call = asyncio.create_task(conn.executemany("INSERT INTO t VALUES ($1)", elements()))
    async with asyncio.timeout(30):
        await started.wait()
        await conn.close()
    assert isinstance(call.exception(), (headrace.ConnectionDoesNotExistError, headrace.QueryCanceledError))


async def test_draining_passes_over_what_was_dropped(connect: Any, gate: Gate) -> None:
    conn = await connect(max_pipeline=1)
    await conn.fetch(SLEEP, 0)
    await conn.fetch(gate.query)
    gate.close()
    running = asyncio.create_task(conn.fetch(gate.query))
    await until(lambda: in_flight(conn) == 1)
    gone = [asyncio.create_task(conn.fetch(SLEEP, 600)) for _ in range(3)]
    await asyncio.sleep(0)
    drained = asyncio.create_task(conn._driver.drain())
    for task in gone:
        task.cancel()
    await asyncio.sleep(0)
    assert not drained.done()
    gate.open()
    async with asyncio.timeout(10):
        await drained
    assert await running == [(5,)]
    assert conn._driver.pending == 0


async def test_a_task_group_that_fails_inside_a_transaction_ends_at_once(conn: headrace.Connection) -> None:
    """Its tasks are cancelled one after the other; the last of them leaves nobody who waits for what runs."""
    await conn.fetch(SLEEP, 0)
    async with asyncio.timeout(10):
        with pytest.raises(ExceptionGroup):
            async with conn.transaction(), asyncio.TaskGroup() as group:
                await conn.fetchval("SELECT 1")  # nothing is sent behind the first statement before BEGIN was answered
                for _ in range(3):
                    group.create_task(conn.fetch(SLEEP, 600))
                await until(lambda: in_flight(conn) == 3)
                raise LookupError("the program fails")
        assert await conn.fetchval("SELECT 1") == 1
    assert not conn.is_in_transaction()


async def test_cold_calls_of_a_pool_are_spread_over_its_connections(pool: Any) -> None:
    """A call whose statement is being prepared counts as work: the next call goes to another connection."""
    made = await pool(min_size=3, max_size=3)
    calls = [asyncio.create_task(made.fetchval("SELECT pg_backend_pid()")) for _ in range(30)]
    pids = await asyncio.gather(*calls)
    assert len(set(pids)) == 3


def test_a_loop_closed_under_a_running_query(server: Any, database: str) -> None:
    """The coroutine is thrown away with the loop, and says nothing of it.

    The backend goes on with the query until the module's database is dropped.
    """
    program = f"""
import asyncio, gc, warnings
import headrace
warnings.simplefilter("ignore", ResourceWarning)

async def begin():
    connection = await headrace.connect({server.dsn(database)!r})
    call = connection.fetch("SELECT pg_sleep(600)")
    call.send(None)
    await asyncio.sleep(0)
    return connection, call

loop = asyncio.new_event_loop()
connection, call = loop.run_until_complete(begin())
connection._driver.transport.transport._sock.close()
loop.close()
call.close()
print("quiet")
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "quiet\n", done.stderr
    assert "closed" not in done.stderr


async def test_a_closed_connection_says_so_once(conn: headrace.Connection) -> None:
    await conn.close()
    with pytest.raises(headrace.InterfaceError, match="^connection is closed$"):
        await conn.fetchval("SELECT 1")


# Until the server has closed the connection


@pytest.mark.slow
async def test_a_closed_connection_holds_no_lock(connect: Connect) -> None:
    """The backend is gone when close() returns, and what it held is free."""
    other = await connect()
    for _ in range(100):
        conn = await connect()
        await conn.execute(MANY_LOCKS)
        await conn.close()
        assert await other.fetchval(ONE_OF_THEM)


async def test_a_connection_closed_over_tls_holds_no_lock(tls: Secure) -> None:
    arguments = {**tls.to("scram"), "ssl": "verify-full", "sslrootcert": tls.pki.root}
    other = await headrace.connect(**arguments)
    for _ in range(20):
        conn = await headrace.connect(**arguments)
        await conn.execute(MANY_LOCKS)
        await conn.close()
        assert await other.fetchval(ONE_OF_THEM)
    await other.close()


async def test_the_connections_of_a_closed_pool_hold_no_lock(connect: Connect, pool: MakePool) -> None:
    """They may have been taken by a callback, or by a connection that the pool does not reset."""
    other = await connect()

    async def init(connection: headrace.Connection) -> None:
        await connection.execute(MANY_LOCKS)

    for _ in range(20):
        made = await pool(min_size=1, max_size=1, init=init)
        await made.close()
        assert await other.fetchval(ONE_OF_THEM)


async def test_close_waits_for_the_server_and_hears_it_out(fake: Fake) -> None:
    told, over = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.expect(Terminate)
        told.set()
        await over.wait()
        await peer.send(backend.notice_response("one last thing"))

    server = await fake(script)
    conn = await headrace.connect(server.dsn(), ssl="disable")
    notices: list[str] = []
    conn.add_log_listener(lambda _, message: notices.append(str(message.message)))
    closing = [asyncio.create_task(conn.close()) for _ in range(2)]
    async with asyncio.timeout(10):
        await told.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not any(task.done() for task in closing), "the backend is still there"
        assert conn.is_closed()
        over.set()
        await asyncio.gather(*closing)
    assert notices == ["one last thing"]
    assert bytes(server.peers[0].received).count(b"X\0\0\0\4") == 1


async def refusing_to_go(peer: Peer) -> None:
    await peer.greet()
    await peer.expect(Terminate)
    await peer.hold()


async def test_a_server_that_does_not_close_is_left_after_the_time_out(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await fake(refusing_to_go, refusing_to_go)
    conn = await headrace.connect(server.dsn(), ssl="disable")
    async with asyncio.timeout(10):
        with pytest.raises(TimeoutError):
            await conn.close(timeout=0.1)
        assert conn.is_closed()
        assert headrace._io.driver.CLOSE_TIMEOUT == 10
        monkeypatch.setattr(headrace._io.driver, "CLOSE_TIMEOUT", 0.1)
        await (await headrace.connect(server.dsn(), ssl="disable")).close()


async def test_who_gives_up_waiting_for_the_server_leaves_nothing_open(fake: Fake) -> None:
    server = await fake(refusing_to_go)
    conn = await headrace.connect(server.dsn(), ssl="disable")
    closing = asyncio.create_task(conn.close())
    async with asyncio.timeout(10):
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
    assert conn.is_closed()


async def test_a_server_that_resets_the_connection_instead(fake: Fake) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.expect(Terminate)
        peer.reset()

    server = await fake(script)
    conn = await headrace.connect(server.dsn(), ssl="disable")
    async with asyncio.timeout(10):
        await conn.close()
    assert conn.is_closed()


# Where the event loop is another one, or closed

OTHER_LOOP = """
import asyncio, gc, os, sys, warnings
import headrace

failed = []
sys.unraisablehook = failed.append
warnings.simplefilter("always")
report = []
warnings.showwarning = lambda message, *rest: report.append(str(message))
loop = asyncio.new_event_loop()
loop.set_exception_handler(lambda loop, context: report.append(context["message"]))

def descriptors():
    return len(os.listdir("/dev/fd"))

async def ask(function, *args):
    result = function(*args)
    if result is not None:
        await result

def refused(function, *args):
    try:
        asyncio.run(ask(function, *args))
    except headrace.InterfaceError as error:
        assert "belongs to another event loop" in str(error), error
    else:
        raise AssertionError("not refused")

before = descriptors()
%s
gc.collect()
assert descriptors() <= before, "a socket is still open"
report += [str(each.exc_value) for each in failed]
print(report or "quiet")
"""

CONNECTION = """
async def begun(call):
    call.send(None)
    return call

connection = loop.run_until_complete(headrace.connect({dsn!r}, ssl={ssl!r}))
refused(connection.close)
assert not connection.is_closed()
if {idle}:
    assert loop.run_until_complete(connection.fetchval("SELECT 1")) == 1
else:
    call = loop.run_until_complete(begun(connection.fetchval("SELECT pg_sleep(600)")))
loop.close()
refused(connection.close)
connection.terminate()
assert connection.is_closed()
connection.terminate()
if not {idle}:
    call.close()
    del call
asyncio.run(ask(connection.close))
"""

POOL = """
async def opened():
    return await headrace.create_pool({dsn!r}, ssl={ssl!r}, min_size=2, max_size=2)

pool = loop.run_until_complete(opened())
refused(pool.close)
refused(pool.terminate)
assert loop.run_until_complete(pool.fetchval("SELECT 1")) == 1
lease = loop.run_until_complete(ask_for_lease(pool)) if {leased} else None
loop.close()
refused(pool.close)
pool.terminate()
assert pool.get_size() == 0
pool.terminate()
asyncio.run(ask(pool.close))
del pool, lease
"""

LEASE = """
async def ask_for_lease(pool):
    return await pool.acquire()
"""


def run_outside(program: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.stdout == "quiet\n", done.stderr
    assert not done.stderr


@pytest.mark.parametrize("idle", [True, False], ids=["idle", "at-work"])
def test_a_connection_in_another_loop_and_after_its_own(server: Cluster, database: str, idle: bool) -> None:
    """close() is refused and changes nothing; terminate() drops the socket. Neither says more than that."""
    run_outside(OTHER_LOOP % CONNECTION.format(dsn=server.dsn(database), ssl="disable", idle=idle))


def test_a_connection_with_tls_in_another_loop_and_after_its_own(tls: Secure) -> None:
    where = tls.to("scram")
    dsn = " ".join(f"{key}='{where[key]}'" for key in where)
    run_outside(OTHER_LOOP % CONNECTION.format(dsn=dsn, ssl="require", idle=True))


@pytest.mark.parametrize("leased", [True, False], ids=["leased", "idle"])
def test_a_pool_in_another_loop_and_after_its_own(server: Cluster, leased: bool) -> None:
    run_outside(OTHER_LOOP % (LEASE + POOL.format(dsn=server.dsn(), ssl="disable", leased=leased)))


async def test_terminate_from_another_thread(connect: Connect) -> None:
    """It is left to the loop, whose transports are its own."""
    conn = await connect()
    await asyncio.to_thread(conn.terminate)
    await until(conn.is_closed)
