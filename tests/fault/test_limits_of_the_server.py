"""Fault 36: limits that the server imposes: on idle sessions, on transactions, on the number of connections."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from headrace.pool import scheduler
from tests.servers import SUPERUSER
from tests.watching import until_closed

if TYPE_CHECKING:
    from tests.fixtures import Connect, MakePool
    from tests.servers import Cluster

pytestmark = pytest.mark.fault(number=36)

PATIENCE = 10.0


async def test_an_idle_session_is_ended(connect: Connect) -> None:
    connection = await connect(server_settings={"idle_session_timeout": "50ms"})
    ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    connection.add_termination_listener(ended.set_result)
    async with asyncio.timeout(PATIENCE):
        assert await ended is connection
    with pytest.raises(headrace.InterfaceError, match="idle-session timeout"):
        await connection.fetchval("SELECT 1")


async def test_an_idle_death_is_replaced_unseen(pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connections that the server has ended since the last query are replaced, and nobody ever knows."""
    monkeypatch.setattr(scheduler, "GENERATION_PAUSE", 0.0)
    # Those that come next live on: a query sent in the very moment of such an end fails by rights.
    timeouts = itertools.chain(["50ms"] * 2, itertools.repeat("0"))

    async def connect(*args: Any, **kwargs: Any) -> headrace.Connection:
        return await headrace.connect(*args, **kwargs, server_settings={"idle_session_timeout": next(timeouts)})

    made = await pool(min_size=2, max_size=2, connect=connect)
    # The regular look at all connections would do it too, but later.
    sweeper = made._maintenance._sweeper
    assert sweeper is not None
    sweeper.cancel()
    async with asyncio.timeout(PATIENCE):
        # Nobody asks for anything meanwhile.
        while made.stats().opened < 4:
            await asyncio.sleep(0)
        assert await asyncio.gather(*(made.fetchval("SELECT $1::int", i) for i in range(10))) == list(range(10))
    # 57P05 is the end of one session, and says nothing about the others.
    assert made.stats().closed == {"connection_lost": 2}
    assert made.stats().opened == 4
    assert made.stats().connect_errors == 0


async def test_idle_in_a_transaction(connect: Connect) -> None:
    connection = await connect(server_settings={"idle_in_transaction_session_timeout": "50ms"})
    with pytest.raises((headrace.ConnectionDoesNotExistError, headrace.InterfaceError), match="idle-in-transaction"):
        async with connection.transaction():
            await connection.execute("SELECT 1")
            await until_closed(connection)
            await connection.execute("SELECT 1")


async def test_transaction_timeout(connect: Connect, server: Cluster) -> None:
    if server.version < 17:
        pytest.skip("transaction_timeout is new in PostgreSQL 17")
    connection = await connect(server_settings={"transaction_timeout": "50ms"})
    with pytest.raises(headrace.PostgresError) as raised:
        async with connection.transaction():
            await connection.execute("SELECT pg_sleep(600)")
    assert raised.value.sqlstate == "25P04"
    assert connection.is_closed()


async def test_statement_timeout_is_the_callers(conn: headrace.Connection) -> None:
    """It comes as 57014, as a cancellation does, but nobody has cancelled: the caller gets it; it is not repeated."""
    await conn.execute("SET statement_timeout = '20ms'")
    outcomes = await asyncio.gather(
        conn.fetchval("SELECT 1"),
        conn.fetchval("SELECT pg_sleep(600)"),
        conn.fetchval("SELECT 2"),
        return_exceptions=True,
    )
    assert outcomes[0] == 1
    assert type(outcomes[1]) is headrace.QueryCanceledError
    assert outcomes[2] == 2


async def test_too_many_connections(own_server: Cluster) -> None:
    with own_server.settings(restart=True, max_connections="8", superuser_reserved_connections="2"):
        own_server.sql("CREATE ROLE somebody LOGIN")
        dsn = own_server.dsn(SUPERUSER, user="somebody")
        others = [await headrace.connect(dsn) for _ in range(3)]
        async with headrace.create_pool(dsn, min_size=1, max_size=10) as pool:
            leases = [await pool.acquire()]
            leases.append(await pool.acquire(timeout=PATIENCE))
            # As long as there are connections one of them may come free, so nobody gets the refusal of another.
            with pytest.raises(TimeoutError) as raised:
                while True:
                    leases.append(await pool.acquire(timeout=0.5))
            assert isinstance(raised.value.__cause__, headrace.TooManyConnectionsError)
            # The connections that there are go on, and callers share them.
            assert await leases[0].fetchval("SELECT 1") == 1
            await pool.release(leases.pop())
            async with asyncio.timeout(PATIENCE):
                assert await asyncio.gather(*(pool.fetchval("SELECT $1::int", i) for i in range(20))) == list(range(20))

            async def hold() -> int:
                async with pool.acquire(timeout=PATIENCE) as lease:
                    return await lease.fetchval("SELECT 1 FROM pg_sleep(0.01)")  # type: ignore[no-any-return]

            assert await asyncio.gather(*(hold() for _ in range(12))) == [1] * 12
            # Once there is room again, the pool grows again.
            for other in others:
                await other.close()
            async with asyncio.timeout(PATIENCE):
                more = [await pool.acquire() for _ in range(3)]
            for lease in [*leases, *more]:
                await pool.release(lease)
