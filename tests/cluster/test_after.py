"""Reads that see what was written before: positions, and sessions that remember them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

import headrace
from headrace.cluster import Position
from headrace.exceptions import ForeignPositionError, NoReplicaError
from tests.cluster.conftest import until_true

if TYPE_CHECKING:
    from tests.cluster.conftest import MakeCluster, Trio

WRITE = "INSERT INTO written VALUES ($1)"
READ = "SELECT count(*) FROM written WHERE token = $1"
PORT = "SELECT current_setting('port')::int"

pytestmark = pytest.mark.any_server


async def test_own_writes_are_seen_while_replicas_are_late(delayed: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(delayed.dsn())
    await cluster.ready(replicas=2)
    seen = blind = 0
    for token in range(100, 140):
        await cluster.execute(WRITE, token)
        blind += await cluster.replicas.fetchval(READ, token)
        position = await cluster.position()
        seen += await cluster.replicas.after(position, wait=0.01).fetchval(READ, token)
    assert seen == 40
    assert blind < 40
    stats = cluster.stats()
    assert stats.reads_primary + stats.reads_known + stats.reads_probed == 40
    assert stats.reads_discarded > 0


async def test_a_replica_answers_once_it_has_replayed(delayed: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(delayed.dsn())
    await cluster.ready(replicas=2)
    await cluster.execute(WRITE, 1)
    replicas = cluster.replicas.after(await cluster.position(), wait=20)
    # The standbys reach the end of a commit only when something is written behind it.
    await cluster.execute("SELECT pg_switch_wal()")
    assert await replicas.fetchval(READ, 1) == 1
    assert cluster.stats().reads_primary == 0


async def test_an_idle_server_has_no_position_that_nobody_reaches(shared_trio: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(shared_trio.dsn())
    await cluster.ready(replicas=2)
    await cluster.execute(WRITE, 0)
    # The next record is inserted behind the header of a page. Until there is one, replay ends in front of it.
    await cluster.execute("SELECT pg_switch_wal()")
    replicas = cluster.replicas.after(await cluster.position(), wait=20)
    assert await replicas.fetchval(PORT) in {standby.port for standby in shared_trio.standbys}
    assert cluster.stats().reads_primary == 0


@pytest.mark.parametrize("how", ["fetch", "fetchrow", "each", "acquire", "copy", "transaction", "run"])
async def test_every_method_sees_the_position(delayed: Trio, make_cluster: MakeCluster, how: str) -> None:
    cluster = await make_cluster(delayed.dsn())
    await cluster.ready(replicas=2)
    token = hash(how) % 1_000_000 + 1000
    await cluster.execute(WRITE, token)
    view = cluster.replicas.after(str(await cluster.position()), wait=0.01)
    if how == "fetch":
        found = len(await view.fetch("SELECT * FROM written WHERE token = $1", token))
    elif how == "fetchrow":
        row = await view.fetchrow(headrace.sql("SELECT count(*) FROM written WHERE token = :token", token=token))
        found = row[0] if row is not None else 0
    elif how == "each":
        found = sum([count async for count in view.fetchval_each(READ, [(token,)])])
    elif how == "acquire":
        async with view.acquire() as connection:
            found = await connection.fetchval(READ, token)
    elif how == "copy":
        lines: list[bytes] = []

        async def keep(data: bytes) -> None:
            lines.append(data)

        await view.copy_from_query("SELECT 1 FROM written WHERE token = $1", token, output=keep)
        found = len(lines)
    elif how == "transaction":
        async with view.transaction(readonly=True) as connection:
            found = await connection.fetchval(READ, token)
    else:
        found = await view.run(lambda connection: connection.fetchval(READ, token))
    assert found == 1


async def test_a_position_that_a_replica_is_known_to_have_costs_no_question(
    shared_trio: Trio, make_cluster: MakeCluster
) -> None:
    cluster = await make_cluster(shared_trio.dsn())
    await cluster.ready(replicas=2)
    await cluster.execute(WRITE, 2)
    position = await cluster.position()
    shared_trio.wait_for_replay()
    await until_true(
        lambda: all(
            info.position is not None and info.position >= position
            for info in cluster.hosts()
            if info.role == "replica"
        ),
        "checks have seen that the replicas have the position",
    )
    view = cluster.replicas.after(position)
    assert await view.fetchval(READ, 2) == 1
    assert await view.fetchval(PORT) in {standby.port for standby in shared_trio.standbys}
    assert cluster.stats().reads_known == 2
    assert cluster.stats().reads_primary == 0


async def test_a_session_reads_its_own_writes(delayed: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(delayed.dsn())
    await cluster.ready(replicas=2)
    async with cluster.session(wait=0.01) as session:
        assert await session.position() is None
        assert await session.replicas.fetchval(PORT) in {standby.port for standby in delayed.standbys}
        await session.execute(WRITE, 500)
        assert await session.replicas.fetchval(READ, 500) == 1
        async with session.transaction() as connection:
            await connection.execute(WRITE, 501)
        assert await session.replicas.fetchval(READ, 501) == 1
        await session.copy_records_to_table("written", records=[(502,)])
        assert await session.replicas.fetchval(READ, 502) == 1
        await session.fetchval("INSERT INTO written VALUES (503) RETURNING token")
        position = await session.position()
        assert position is not None
    later = cluster.session(after=str(position), wait=0.01)
    assert await later.replicas.fetchval(READ, 503) == 1
    assert await later.position() == position


async def test_reads_of_a_session_at_once_all_see_its_write(paused: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(paused.dsn())
    await cluster.ready(replicas=2)
    session = cluster.session(wait=0.01)
    await session.execute(WRITE, 510)
    assert await asyncio.gather(*(session.replicas.fetchval(READ, 510) for _ in range(4))) == [1] * 4


async def test_a_write_by_a_stream_of_a_session_is_seen(paused: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(paused.dsn())
    await cluster.ready(replicas=2)
    insert = "INSERT INTO written VALUES ($1) RETURNING token"
    session = cluster.session(wait=0.01)
    assert [row async for row in session.stream(insert, 511)] == [(511,)]
    assert await session.replicas.fetchval(READ, 511) == 1
    session = cluster.session(wait=0.01)
    async with session.stream_arrow(insert, 512) as batches:
        async for _ in batches:
            assert await session.position() is not None
    assert await session.replicas.fetchval(READ, 512) == 1
    # A stream that only reads asks for no position.
    session = cluster.session()
    assert [row async for row in session.stream("SELECT 5")] == [(5,)]
    assert await session.position() is None


async def test_a_session_that_has_read_only_asks_for_no_position(shared_trio: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(shared_trio.dsn())
    session = cluster.session()
    await session.fetchval(READ, 1)
    assert await session.position() is None


async def test_a_write_during_a_lease_of_a_session_is_seen(delayed: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(delayed.dsn())
    await cluster.ready(replicas=2)
    session = cluster.session(wait=0.01)
    async with session.acquire() as connection:
        await connection.execute(WRITE, 600)
        assert await session.replicas.fetchval(READ, 600) == 1


async def test_without_fallback_a_read_waits_for_a_replica(delayed: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(delayed.dsn(), fallback=False)
    await cluster.ready(replicas=2)
    await cluster.execute(WRITE, 700)
    position = await cluster.position()
    beyond = Position(position.system_identifier, position.timeline, position.lsn + 2**40)
    with pytest.raises(NoReplicaError, match="fallback is False") as caught:
        await cluster.replicas.after(beyond).fetchval(READ, 700, timeout=0.2)
    assert headrace.is_safe_to_retry(caught.value)
    assert isinstance(caught.value, ConnectionError)
    await cluster.execute("SELECT pg_switch_wal()")
    assert await cluster.replicas.after(position).fetchval(READ, 700) == 1
    assert cluster.stats().reads_primary == 0


async def test_a_position_of_another_cluster_is_refused(shared_trio: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(shared_trio.dsn())
    position = await cluster.position()
    foreign = Position(position.system_identifier + 1, 1, 1)
    with pytest.raises(ForeignPositionError, match="belongs to another cluster"):
        cluster.replicas.after(foreign)
    with pytest.raises(ForeignPositionError):
        cluster.session(after=str(foreign))
    with pytest.raises(ValueError, match="a position is expected to be a text"):
        cluster.replicas.after("0/16B3748")
    with pytest.raises(ValueError, match="wait is expected"):
        cluster.replicas.after(position, wait=-1)


async def test_a_position_of_an_older_timeline_is_answered_by_the_primary(
    shared_trio: Trio, make_cluster: MakeCluster
) -> None:
    cluster = await make_cluster(shared_trio.dsn())
    position = await cluster.position()
    older = Position(position.system_identifier, position.timeline - 1, 1)
    assert await cluster.replicas.after(older).fetchval(PORT) == shared_trio.primary.port


async def test_a_position_of_a_newer_timeline_waits_for_the_next_primary(trio: Trio, make_cluster: MakeCluster) -> None:
    """Another process has noticed a promotion first. The former primary does not have what was written since."""
    behind = await make_cluster(trio.dsn(), check_interval=3600.0, command_timeout=60.0)
    promoted = trio.standbys[0]
    promoted.promote()
    ahead = await make_cluster(trio.dsn())
    await ahead.execute(WRITE, 1)
    position = await ahead.position()
    assert position.timeline == 2
    assert await behind.fetchval(PORT) == trio.primary.port
    assert await behind.replicas.after(position).fetchval(READ, 1) == 1
    async with behind.session(after=position).replicas.acquire() as connection:
        assert await connection.fetchval(READ, 1) == 1


async def test_a_position_of_a_timeline_that_nobody_is_on_has_no_primary(
    shared_trio: Trio, make_cluster: MakeCluster
) -> None:
    cluster = await make_cluster(shared_trio.dsn())
    position = await cluster.position()
    newer = cluster.replicas.after(Position(position.system_identifier, position.timeline + 1, 1))
    with pytest.raises(headrace.NoPrimaryError, match="on the timeline 2 of the position") as caught:
        await newer.fetchval(PORT, timeout=0.1)
    assert headrace.is_safe_to_retry(caught.value)
    with pytest.raises(headrace.NoPrimaryError):
        await newer.acquire(timeout=0.1)


async def test_errors_of_a_read_are_its_own(shared_trio: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(shared_trio.dsn())
    await cluster.ready(replicas=2)
    view = cluster.replicas.after(await cluster.position(), wait=20)
    await cluster.execute("SELECT pg_switch_wal()")
    with pytest.raises(headrace.UndefinedTableError):
        await view.fetch("SELECT * FROM nowhere")
    with pytest.raises(headrace.ArgumentError):
        await view.fetchval("SELECT $1::int", "five")
    with pytest.raises(headrace.ReadOnlySQLTransactionError):
        await view.execute("INSERT INTO written VALUES (9)")
    with pytest.raises(headrace.DivisionByZeroError):
        await view.fetchval("SELECT 1 / $1::int", 0)


async def test_a_read_that_is_cancelled_leaves_the_others_alone(delayed: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(delayed.dsn(), max_size=1)
    await cluster.ready(replicas=2)
    for token in range(800, 815):
        await cluster.execute(WRITE, token)
        view = cluster.replicas.after(await cluster.position(), wait=0.05)
        doomed = [asyncio.create_task(view.fetchval(READ, token)) for _ in range(4)]
        kept = [asyncio.create_task(view.fetchval(READ, token)) for _ in range(4)]
        for _ in range(token % 7):
            await asyncio.sleep(0)
        for task in doomed:
            task.cancel()
        assert await asyncio.gather(*kept) == [1] * 4
        await asyncio.gather(*doomed, return_exceptions=True)
    assert await cluster.replicas.fetchval("SELECT 1") == 1
