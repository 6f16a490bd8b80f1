"""Workers: each part exactly once, whoever dies, stops, or is taken over."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

import headrace
from storefront import EmbeddedServer, Strategy, batch, create_schema, open_connection
from storefront.formats import Format
from storefront.jobs import (
    JobLimits,
    JobState,
    Worker,
    cancel_job,
    create_job,
    delete_job,
    get_job,
    list_parts,
    parts,
    worker,
)
from storefront.jobs.claims import ClaimLostError, claim_job, give_back, put_off, renew_claim
from storefront.partners import add_partner, revoke_partner
from storefront.service_schema import create_service_tables

from .conftest import (
    KEEP,
    LEASE,
    NEVER,
    PATIENT,
    TEXT,
    Submit,
    batch_output,
    check_complete,
    claim,
    expire_claims,
    in_pieces,
    look_ups_held,
    result_of,
    store,
    until,
    until_ended,
    until_looking_up,
)

CSV = Format.CSV


@asynccontextmanager
async def working(pool: headrace.Pool, *, count: int = 1, **changes: Any) -> AsyncIterator[Worker]:
    """Run a worker beside the block."""
    worker = Worker(pool, count=count, settings=replace(PATIENT, **changes))
    stop = asyncio.Event()
    task = asyncio.create_task(worker.run(stop))
    try:
        yield worker
    finally:
        stop.set()
        await task


# The result


@pytest.mark.parametrize("input_lines", [1, 10, 1_000])
async def test_the_result_is_that_of_a_batch(pool: headrace.Pool, submit: Submit, input_lines: int) -> None:
    job = await submit(TEXT, result_format=CSV, input_lines=input_lines)
    await Worker(pool, settings=PATIENT).run(until_idle=True)
    await check_complete(pool, job, TEXT)


@pytest.mark.parametrize("part_size", [1, 2_000])
async def test_a_part_ends_when_it_is_full(pool: headrace.Pool, submit: Submit, part_size: int) -> None:
    job = await submit(TEXT, result_format=CSV, input_lines=1_000)
    await Worker(pool, settings=replace(PATIENT, part_size=part_size, window=1)).run(until_idle=True)
    await check_complete(pool, job, TEXT)
    done = await get_job(pool, job.partner_id, job.job_id)
    assert done.parts > 5


async def test_a_result_in_ndjson_has_an_object_for_each_row(pool: headrace.Pool, submit: Submit) -> None:
    job = await submit(TEXT, result_format=Format.NDJSON)
    await Worker(pool, settings=PATIENT).run(until_idle=True)
    objects = [json.loads(line) for line in (await result_of(pool, job.job_id)).splitlines()]
    expected, _ = await batch_output(pool, TEXT)
    rows = list(csv.DictReader(io.StringIO(expected.decode())))
    assert [{name: str(value) for name, value in each.items()} for each in objects] == rows


async def test_many_lines_go_through_a_temporary_table(
    pool: headrace.Pool, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "TABLE_LINES", 10)
    asked: list[Strategy] = []
    answers = batch.answers

    def watched(*args: Any, strategy: Strategy, **options: Any) -> Any:
        asked.append(strategy)
        return answers(*args, strategy=strategy, **options)

    monkeypatch.setattr(parts, "answers", watched)
    job = await submit(TEXT, result_format=CSV)
    await Worker(pool, settings=PATIENT).run(until_idle=True)
    assert set(asked) == {Strategy.TABLE}
    await check_complete(pool, job, TEXT)


async def test_lines_that_give_no_rows_are_done_too(pool: headrace.Pool, submit: Submit) -> None:
    text = "x\n" * 25
    job = await submit(text, result_format=CSV)
    await Worker(pool, settings=PATIENT).run(until_idle=True)
    await check_complete(pool, job, text)


# Sharing


async def test_two_workers_share_many_jobs(shop: str, pool: headrace.Pool, partner: int, submit: Submit) -> None:
    jobs = [await submit(TEXT, result_format=CSV, limits=JobLimits(jobs_at_once=99)) for _ in range(12)]
    async with headrace.create_pool(shop, min_size=1, max_size=4) as other:
        async with working(pool, count=2) as first, working(other, count=2) as second:
            for job in jobs:
                await until_ended(pool, job)
        assert first.parts_stored + second.parts_stored == 12 * 6
    for job in jobs:
        await check_complete(pool, job, TEXT)


async def test_a_claimed_job_is_claimed_by_no_other(pool: headrace.Pool, submit: Submit) -> None:
    job = await submit("1\n")
    claimed = await claim(pool)
    assert claimed is not None
    assert claimed.job_id == job.job_id
    assert await claim(pool, "B") is None


async def test_claims_at_once_are_of_different_jobs(pool: headrace.Pool, submit: Submit) -> None:
    jobs = [await submit("1\n", limits=JobLimits(jobs_at_once=9)) for _ in range(6)]
    claims = await asyncio.gather(*(claim(pool) for _ in range(9)))
    assert sorted(each.job_id for each in claims if each) == sorted(job.job_id for job in jobs)


async def test_a_job_that_is_just_being_claimed_holds_up_nobody(shop: str, pool: headrace.Pool, submit: Submit) -> None:
    first, second = await submit("1\n"), await submit("1\n")
    async with open_connection(shop) as other, other.transaction():
        await other.execute("SELECT FROM job WHERE job_id = $1 FOR UPDATE", first.job_id)
        async with asyncio.timeout(60):
            claimed = await claim(pool)
        assert claimed is not None
        assert claimed.job_id == second.job_id


async def test_partners_take_turns(pool: headrace.Pool, partner: int, submit: Submit) -> None:
    first, second = await submit("1\n"), await submit("1\n")
    other = (await add_partner(pool, "Boreas")).partner.partner_id
    third = await submit("1\n", of=other)
    order = [await claim(pool) for _ in range(3)]
    assert [each and each.job_id for each in order] == [first.job_id, third.job_id, second.job_id]


# Waking up


async def test_a_notification_wakes_a_worker(pool: headrace.Pool, submit: Submit) -> None:
    async with working(pool, poll=NEVER):
        async with asyncio.timeout(60):
            while not await pool.fetchval("SELECT true FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"):
                await asyncio.sleep(0.01)
        job = await submit("1\n", result_format=CSV)
        await until_ended(pool, job)


async def test_polling_finds_a_job_whose_notification_was_lost(pool: headrace.Pool, submit: Submit) -> None:
    job = await submit("1\n", result_format=CSV)
    await pool.execute("UPDATE job SET claimed_until = 'infinity'")
    async with working(pool, poll=0.01):
        await pool.execute("UPDATE job SET claimed_until = '-infinity'")
        await until_ended(pool, job)


# Fencing


async def test_a_worker_whose_claim_was_taken_over_adds_nothing(pool: headrace.Pool, submit: Submit) -> None:
    job = await submit("1\n2\n3\n", result_format=CSV)
    first = await claim(pool, "A")
    assert first is not None
    await store(pool, first, 1, last=1)
    await expire_claims(pool)
    second = await claim(pool, "B")
    assert second is not None
    assert (second.lines_done, second.parts, second.fence) == (1, 1, first.fence + 1)
    with pytest.raises(ClaimLostError):
        await store(pool, first, 2, last=2)
    with pytest.raises(ClaimLostError):
        await renew_claim(pool, first, lease=LEASE)
    await give_back(pool, first)
    await put_off(pool, first, "late", pause=KEEP)
    await store(pool, second, 2, 3, last=3)
    await check_complete(pool, job, "1\n2\n3\n")


async def test_a_claim_that_nobody_took_over_goes_on(pool: headrace.Pool, submit: Submit) -> None:
    job = await submit("1\n2\n", result_format=CSV)
    claimed = await claim(pool)
    assert claimed is not None
    await expire_claims(pool)
    await store(pool, claimed, 1, last=1)
    assert await claim(pool, "B") is None
    await store(pool, claimed, 2, last=2)
    await check_complete(pool, job, "1\n2\n")


async def test_a_part_is_not_stored_twice(pool: headrace.Pool, submit: Submit) -> None:
    await submit("1\n2\n", result_format=CSV)
    claimed = await claim(pool)
    assert claimed is not None
    twin = replace(claimed)
    await store(pool, claimed, 1, last=1)
    with pytest.raises(ClaimLostError):
        await store(pool, twin, 1, last=1)


@pytest.mark.parametrize("end", [cancel_job, delete_job])
async def test_nothing_is_added_to_a_job_that_was_ended(pool: headrace.Pool, submit: Submit, end: Any) -> None:
    job = await submit("1\n2\n", result_format=CSV)
    claimed = await claim(pool)
    assert claimed is not None
    await store(pool, claimed, 1, last=1)
    await end(pool, job.partner_id, job.job_id)
    with pytest.raises(ClaimLostError):
        await store(pool, claimed, 2, last=2)
    assert len(await list_parts(pool, job.job_id)) == (1 if end is cancel_job else 0)


async def test_heartbeats_keep_a_claim(shop: str, pool: headrace.Pool, submit: Submit) -> None:
    job = await submit("1\n", result_format=CSV)
    async with look_ups_held(shop):
        async with working(pool, heartbeat=0.01):
            await until_looking_up(pool)
            await expire_claims(pool)
            renewed = "SELECT claimed_until > now() FROM job"
            await until(lambda: pool.fetchval(renewed), "the claim is renewed")
            assert (await get_job(pool, job.partner_id, job.job_id)).state is JobState.RUNNING


@pytest.mark.parametrize("end", [cancel_job, delete_job])
@pytest.mark.parametrize("told", [True, False], ids=["notified", "heartbeat"])
async def test_a_worker_stops_at_a_job_that_is_ended(
    shop: str, pool: headrace.Pool, submit: Submit, end: Any, told: bool
) -> None:
    job = await submit("1\n", result_format=CSV)
    next_job = await submit("2\n", result_format=CSV)
    async with look_ups_held(shop), working(pool, heartbeat=NEVER if told else 0.01) as worker:
        await until_looking_up(pool)
        if not told:
            worker._drop = lambda job_id: None  # type: ignore[method-assign]  # a notification that is lost
        await end(pool, job.partner_id, job.job_id)

        async def dropped() -> bool:
            return job.job_id not in worker._running

        await until(dropped, "the worker stops")
        # It goes on with the next job, although look-ups still wait.
        await until_looking_up(pool)
    await Worker(pool, settings=PATIENT).run(until_idle=True)
    await check_complete(pool, next_job, "2\n")


async def test_the_jobs_of_a_revoked_partner_end(shop: str, pool: headrace.Pool, submit: Submit) -> None:
    other = (await add_partner(pool, "Boreas")).partner.partner_id
    running, waiting = await submit("1\n"), await submit("1\n")
    kept = await submit("1\n", of=other, result_format=CSV)
    async with look_ups_held(shop), working(pool) as worker:
        await until_looking_up(pool)
        await revoke_partner(pool, "Aurora")
        for job in (running, waiting):
            ended = await until_ended(pool, job)
            assert (ended.state, ended.error) == (JobState.CANCELLED, "the key of the partner was revoked")

        async def dropped() -> bool:
            return running.job_id not in worker._running

        await until(dropped, "the worker stops")
    await Worker(pool, settings=PATIENT).run(until_idle=True)
    await check_complete(pool, kept, "1\n")


@pytest.mark.parametrize("end", [cancel_job, delete_job, revoke_partner])
async def test_a_worker_that_begins_to_listen_finds_what_ended_before(
    shop: str, pool: headrace.Pool, submit: Submit, monkeypatch: pytest.MonkeyPatch, end: Any
) -> None:
    may_listen = asyncio.Event()
    listen = Worker._listen

    async def listen_late(worker: Worker) -> None:
        await may_listen.wait()
        await listen(worker)

    monkeypatch.setattr(Worker, "_listen", listen_late)
    job = await submit("1\n")
    async with look_ups_held(shop), working(pool) as worker:
        await until_looking_up(pool)
        if end is revoke_partner:
            await revoke_partner(pool, "Aurora")
        else:
            await end(pool, job.partner_id, job.job_id)
        may_listen.set()

        async def dropped() -> bool:
            return job.job_id not in worker._running

        await until(dropped, "the worker stops")


async def test_a_revocation_whose_notification_was_lost_is_found(pool: headrace.Pool, submit: Submit) -> None:
    job = await submit("1\n")
    await pool.execute("UPDATE job SET claimed_until = 'infinity'")
    async with working(pool, poll=0.01):
        await pool.execute("UPDATE partner SET revoked_at = now()")
        assert (await until_ended(pool, job)).state is JobState.CANCELLED


# Giving back


async def test_a_worker_that_is_stopped_gives_its_job_back_at_once(
    shop: str, pool: headrace.Pool, submit: Submit
) -> None:
    job = await submit(TEXT, result_format=CSV)
    async with look_ups_held(shop):
        async with working(pool):
            await until_looking_up(pool)
        given_back = await get_job(pool, job.partner_id, job.job_id)
        assert (given_back.state, given_back.attempts, given_back.error) == (JobState.QUEUED, 0, None)
    await Worker(pool, settings=PATIENT).run(until_idle=True)
    await check_complete(pool, job, TEXT)


async def test_a_worker_that_is_stopped_at_its_claim_gives_the_job_back(
    pool: headrace.Pool, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await submit("1\n")
    claimed, stop, arrives = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def late(*args: Any, **options: Any) -> Any:
        """Claim a job. The server has made the claim, and its answer is on the way until `arrives` is set."""
        made = await claim_job(*args, **options)
        claimed.set()
        await arrives.wait()
        return made

    monkeypatch.setattr(worker, "claim_job", late)
    task = asyncio.create_task(Worker(pool, settings=PATIENT).run(stop))
    await claimed.wait()
    stop.set()
    # The worker sees it, and waits for its claim.
    for _ in range(10):
        await asyncio.sleep(0)
    arrives.set()
    await task
    after = await get_job(pool, job.partner_id, job.job_id)
    assert (after.state, after.attempts) == (JobState.QUEUED, 0)


async def test_a_worker_that_is_cancelled_gives_its_job_back_too(
    shop: str, pool: headrace.Pool, submit: Submit
) -> None:
    job = await submit(TEXT, result_format=CSV)
    for until_idle in (False, True):
        async with look_ups_held(shop):
            task = asyncio.create_task(Worker(pool, settings=PATIENT).run(until_idle=until_idle))
            await until_looking_up(pool)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert (await get_job(pool, job.partner_id, job.job_id)).state is JobState.QUEUED
            assert (await get_job(pool, job.partner_id, job.job_id)).attempts == 0


# Failing


async def test_a_job_that_kills_its_worker_fails_in_the_end(pool: headrace.Pool, submit: Submit) -> None:
    job = await submit("1\n2\n3\n", result_format=CSV)
    first = await claim(pool)
    assert first is not None
    await store(pool, first, 1, last=1)
    await expire_claims(pool)
    for attempt in (1, 2, 3):
        again = await claim(pool)
        assert again is not None
        assert again.attempts == attempt
        assert (await get_job(pool, job.partner_id, job.job_id)).attempts == attempt
        await expire_claims(pool)
    assert await claim(pool) is None
    failed = await get_job(pool, job.partner_id, job.job_id)
    assert (failed.state, failed.error) == (JobState.FAILED, "its worker died 3 times at the lines from 2")
    # The parts that it had stored can be read.
    assert (failed.parts, failed.tally.lines, len(await list_parts(pool, job.job_id))) == (1, 1, 1)
    assert await pool.fetchval("SELECT count(*) FROM job_input") == 0


async def test_a_part_that_was_stored_begins_the_count_again(pool: headrace.Pool, submit: Submit) -> None:
    job = await submit("1\n2\n3\n4\n5\n", result_format=CSV)
    for line in (1, 2, 3, 4, 5):
        for _ in range(2):
            assert await claim(pool) is not None
            await expire_claims(pool)
        claimed = await claim(pool)
        assert claimed is not None
        await store(pool, claimed, line, last=line)
        await expire_claims(pool)
    await check_complete(pool, job, "1\n2\n3\n4\n5\n")


async def test_an_error_is_tried_again_and_told_in_the_end(pool: headrace.Pool, submit: Submit) -> None:
    job = await submit("1\n", result_format=CSV)
    await pool.execute("ALTER TABLE sku RENAME TO away")
    settings = replace(PATIENT, retry_pause=timedelta(hours=1))
    for attempt in (1, 2):
        await Worker(pool, settings=settings).run(until_idle=True)
        waiting = await get_job(pool, job.partner_id, job.job_id)
        assert (waiting.state, waiting.attempts) == (JobState.QUEUED, attempt)
        assert waiting.error == 'UndefinedTableError at the lines from 1: relation "sku" does not exist'
        await pool.execute("UPDATE job SET claimed_until = now()")
    await Worker(pool, settings=settings).run(until_idle=True)
    failed = await get_job(pool, job.partner_id, job.job_id)
    assert (failed.state, failed.error) == (JobState.FAILED, waiting.error)


async def test_a_long_error_is_cut(pool: headrace.Pool, submit: Submit) -> None:
    job = await submit("1\n")
    # A notification has 8,000 bytes at most.
    await pool.execute("""\
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '%', repeat('\u20ac"', 10000); END $$""")
    await pool.execute("CREATE TRIGGER refuse BEFORE INSERT ON job_part FOR EACH ROW EXECUTE FUNCTION refuse()")
    await Worker(pool, settings=replace(PATIENT, max_attempts=1)).run(until_idle=True)
    failed = await get_job(pool, job.partner_id, job.job_id)
    assert failed.state is JobState.FAILED
    assert failed.error is not None
    assert failed.error.startswith('RaiseError at the lines from 1: \u20ac"\u20ac"')
    assert len(failed.error) == 1_000


async def test_a_job_goes_on_after_an_error_has_passed(pool: headrace.Pool, submit: Submit) -> None:
    job = await submit(TEXT, result_format=CSV)
    await pool.execute("ALTER TABLE sku RENAME TO away")
    await Worker(pool, settings=replace(PATIENT, retry_pause=timedelta(hours=1))).run(until_idle=True)
    await pool.execute("ALTER TABLE away RENAME TO sku")
    await pool.execute("UPDATE job SET claimed_until = now()")
    await Worker(pool, settings=PATIENT).run(until_idle=True)
    await check_complete(pool, job, TEXT)


# The server goes away


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server that the tests may stop."""
    with EmbeddedServer(tmp_path_factory.mktemp("own")) as server:
        yield server


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
async def test_a_worker_goes_on_after_a_restart_of_the_server(own_server: EmbeddedServer, end: signal.Signals) -> None:
    async with open_connection(own_server.dsn()) as connection:
        await connection.execute(f"CREATE DATABASE shop_{end}")
        # The embedded server answers a COMMIT before it is written, and would forget it when it is killed.
        await connection.execute(f"ALTER DATABASE shop_{end} SET synchronous_commit = on")
    dsn = own_server.dsn(f"shop_{end}")
    async with open_connection(dsn) as connection:
        await create_schema(connection)
        await create_service_tables(connection)
        await connection.execute("INSERT INTO brand VALUES (1, 'a brand') ON CONFLICT DO NOTHING")
        await connection.execute("INSERT INTO product SELECT n, 'product ' || n, 1 FROM generate_series(1, 50) AS n")
        await connection.execute(
            "INSERT INTO sku SELECT n, n % 50 + 1, n % 3 + 1, n % 2 + 1 FROM generate_series(1, 500) AS n"
        )
    async with headrace.create_pool(dsn, min_size=1, max_size=3) as pool:
        partner = (await add_partner(pool, "Aurora")).partner.partner_id
        job = (await create_job(pool, partner, in_pieces(TEXT), result_format=CSV, input_lines=10)).job
        async with working(pool, retry_pause=timedelta(milliseconds=10)):
            async with look_ups_held_until_lost(dsn):
                await until_looking_up(pool)
                assert own_server.pid is not None
                os.kill(own_server.pid, end)
                own_server.stop()
                own_server.start()
            await until_ended(pool, job)
        await check_complete(pool, job, TEXT)


@asynccontextmanager
async def look_ups_held_until_lost(dsn: str) -> AsyncIterator[None]:
    """Let look-ups wait until the server ends the session that holds them."""
    connection = await headrace.connect(dsn)
    try:
        await connection.execute("BEGIN")
        await connection.execute("LOCK TABLE sku IN ACCESS EXCLUSIVE MODE")
        yield
    finally:
        connection.terminate()
