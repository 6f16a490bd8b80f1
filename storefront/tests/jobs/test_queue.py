"""Jobs as a partner sees them: created from a stream, limited, cancelled, deleted, expired."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

import headrace
from storefront import StorefrontError, UsageError
from storefront.formats import Format
from storefront.jobs import (
    PROGRESS_CHANNEL,
    JobConflictError,
    JobLimits,
    JobRefusedError,
    JobState,
    UnknownJobError,
    Worker,
    cancel_job,
    create_job,
    delete_job,
    get_job,
    job_channel,
    list_jobs,
    list_parts,
    read_report,
    sweep,
)
from storefront.partners import add_partner, revoke_partner

from .conftest import LIMITS, PATIENT, Submit, check_complete, in_pieces

CSV = Format.CSV


async def counts(pool: headrace.Pool) -> tuple[int, int, int]:
    """Return how many rows the tables of jobs have."""
    record = await pool.fetchrow(
        "SELECT (SELECT count(*) FROM job), (SELECT count(*) FROM job_input), (SELECT count(*) FROM job_part)"
    )
    return tuple(record)


async def test_the_lines_are_stored_in_parts(pool: headrace.Pool, partner: int, submit: Submit) -> None:
    job = await submit("".join(f"{number}\n" for number in range(1, 36)))
    assert (job.state, job.lines, job.tally.lines, job.parts, job.error) == (JobState.QUEUED, 35, 0, 0, None)
    assert await get_job(pool, partner, job.job_id) == job
    rows = await pool.fetch("SELECT first_line FROM job_input ORDER BY first_line")
    assert [row[0] for row in rows] == [1, 11, 21, 31]
    assert job.stored_bytes == await pool.fetchval("SELECT sum(octet_length(data)) FROM job_input")


async def test_a_body_of_many_lines_is_not_held_in_memory(pool: headrace.Pool, partner: int) -> None:
    async def lines() -> AsyncIterator[bytes]:
        for start in range(0, 200_000, 10_000):
            yield "".join(f"{number % 50 + 1}\n" for number in range(start, start + 10_000)).encode()

    tracemalloc.start()
    try:
        created = await create_job(pool, partner, lines())
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert created.job.lines == 200_000
    assert most < 8 * 2**20


async def test_a_job_without_lines_is_refused_and_leaves_nothing(pool: headrace.Pool, submit: Submit) -> None:
    with pytest.raises(UsageError, match="has no lines"):
        await submit("")
    assert await counts(pool) == (0, 0, 0)


async def test_a_body_that_breaks_off_leaves_nothing(pool: headrace.Pool, partner: int) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"".join(b"%d\n" % number for number in range(1, 50_000))
        raise ConnectionResetError("the client went away")

    with pytest.raises(ConnectionResetError):
        await create_job(pool, partner, broken(), input_lines=10)
    assert await counts(pool) == (0, 0, 0)


async def test_a_cancelled_request_leaves_nothing(pool: headrace.Pool, partner: int) -> None:
    arrived = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"1\n2\n"
        arrived.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(create_job(pool, partner, slow()))
    await arrived.wait()
    assert (await counts(pool))[0] == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await counts(pool) == (0, 0, 0)


async def test_lines_that_stop_arriving_because_the_program_was_killed_are_swept(
    pool: headrace.Pool, partner: int
) -> None:
    insert = (
        "INSERT INTO job (partner_id, result_format, state, claimed_until)"
        " VALUES ($1, 'csv', 'receiving', now() + $2) RETURNING job_id"
    )
    await pool.fetchval(insert, partner, timedelta(seconds=-1))
    arriving = await pool.fetchval(insert, partner, timedelta(hours=1))
    assert await sweep(pool) == 1
    assert [job.job_id for job in await list_jobs(pool, partner)] == [arriving]


# Idempotency keys


async def test_the_same_key_gives_the_same_job(pool: headrace.Pool, partner: int) -> None:
    first = await create_job(pool, partner, in_pieces("1\n2\n"), idempotency_key="order 1")
    again = await create_job(pool, partner, in_pieces("1\n2\n", 2), idempotency_key="order 1")
    assert (first.is_new, again.is_new, again.job) == (True, False, first.job)
    other = await create_job(pool, partner, in_pieces("1\n2\n"), idempotency_key="order 2")
    assert other.is_new
    assert (await counts(pool))[:2] == (2, 2)


@pytest.mark.parametrize(("lines", "result_format"), [("1\n3\n", CSV), ("1\n2\n", Format.NDJSON)])
async def test_the_same_key_with_another_request_is_refused(
    pool: headrace.Pool, partner: int, lines: str, result_format: Format
) -> None:
    await create_job(pool, partner, in_pieces("1\n2\n"), idempotency_key="order 1", result_format=CSV)
    with pytest.raises(JobConflictError, match="other lines") as caught:
        await create_job(pool, partner, in_pieces(lines), idempotency_key="order 1", result_format=result_format)
    assert not caught.value.arriving


async def test_the_same_key_of_another_partner_is_another_job(pool: headrace.Pool, partner: int) -> None:
    other = (await add_partner(pool, "Boreas")).partner.partner_id
    first = await create_job(pool, partner, in_pieces("1\n"), idempotency_key="order 1")
    second = await create_job(pool, other, in_pieces("1\n"), idempotency_key="order 1")
    assert second.is_new
    assert first.job.job_id != second.job.job_id


async def test_a_key_whose_lines_are_still_arriving_is_refused(pool: headrace.Pool, partner: int) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"1\n"
        arrived.set()
        await go_on.wait()

    task = asyncio.create_task(create_job(pool, partner, slow(), idempotency_key="order 1"))
    await arrived.wait()
    with pytest.raises(JobConflictError, match="still arriving") as caught:
        await create_job(pool, partner, in_pieces("1\n"), idempotency_key="order 1")
    assert caught.value.arriving
    # Ten minutes after its program was killed, the same key begins anew. The first request then finds its job gone.
    await pool.execute("UPDATE job SET claimed_until = now()")
    created = await create_job(pool, partner, in_pieces("1\n"), idempotency_key="order 1")
    assert created.is_new
    go_on.set()
    with pytest.raises(UnknownJobError):
        await task
    assert await list_jobs(pool, partner) == [created.job]


# Limits


async def test_a_partner_has_a_number_of_unfinished_jobs(pool: headrace.Pool, partner: int, submit: Submit) -> None:
    for _ in range(2):
        job = await submit("1\n", limits=LIMITS)
    with pytest.raises(JobRefusedError, match="2 are allowed at once") as caught:
        await submit("1\n", limits=LIMITS)
    assert caught.value.limit == "jobs_at_once"
    other = (await add_partner(pool, "Boreas")).partner.partner_id
    await submit("1\n", of=other, limits=LIMITS)
    await cancel_job(pool, partner, job.job_id)
    await submit("1\n", limits=LIMITS)


async def test_requests_at_once_do_not_exceed_the_limit_together(pool: headrace.Pool, submit: Submit) -> None:
    outcomes = await asyncio.gather(*(submit("1\n", limits=LIMITS) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(outcome, JobRefusedError) for outcome in outcomes) == 6
    assert (await counts(pool))[0] == 2


async def test_a_job_has_a_number_of_lines(pool: headrace.Pool, submit: Submit) -> None:
    await submit("1\n" * 100, limits=LIMITS)
    with pytest.raises(JobRefusedError, match="more than 100 lines") as caught:
        await submit("1\n" * 101, limits=LIMITS)
    assert caught.value.limit == "lines"
    assert (await counts(pool))[0] == 1


async def test_a_partner_has_a_number_of_stored_bytes(pool: headrace.Pool, partner: int) -> None:
    text = "".join(f"{number * 7919 % 1_000_003}\n" for number in range(1, 2_000))
    limits = JobLimits(stored_bytes=10_000)
    first = await create_job(pool, partner, in_pieces(text, 1_000), limits=limits)
    assert 5_000 < first.job.stored_bytes <= 10_000
    with pytest.raises(JobRefusedError, match="more than 10,000 bytes") as caught:
        await create_job(pool, partner, in_pieces(text, 1_000), limits=limits)
    assert caught.value.limit == "stored_bytes"
    assert (await counts(pool))[0] == 1
    await delete_job(pool, partner, first.job.job_id)
    await create_job(pool, partner, in_pieces(text, 1_000), limits=limits)


async def test_a_result_that_takes_too_many_bytes_fails_its_job(pool: headrace.Pool, submit: Submit) -> None:
    job = await submit("".join(f"{number}\n" for number in range(1, 51)), limits=JobLimits())
    limited = replace(PATIENT, limits=JobLimits(stored_bytes=1_000))
    await Worker(pool, settings=limited).run(until_idle=True)
    failed = await get_job(pool, job.partner_id, job.job_id)
    assert failed.state is JobState.FAILED
    assert failed.error == "the jobs of the partner would take more than 1,000 bytes: delete jobs that are not needed"
    assert failed.parts == len(await list_parts(pool, job.job_id)) > 0


async def test_an_unknown_or_revoked_partner_is_refused(pool: headrace.Pool, partner: int) -> None:
    await revoke_partner(pool, "Aurora")
    for partner_id in (99, partner):
        with pytest.raises(StorefrontError, match=f"there is no partner {partner_id} with a valid key"):
            await create_job(pool, partner_id, in_pieces("1\n"))


async def test_parquet_is_refused(pool: headrace.Pool, partner: int) -> None:
    with pytest.raises(UsageError, match="csv or ndjson, not parquet"):
        await create_job(pool, partner, in_pieces("1\n"), result_format=Format.PARQUET)


# Whose jobs


async def test_a_partner_sees_only_jobs_of_its_own(pool: headrace.Pool, partner: int, submit: Submit) -> None:
    other = (await add_partner(pool, "Boreas")).partner.partner_id
    job = await submit("1\n")
    assert await list_jobs(pool, other) == []
    for attempt in (get_job, cancel_job, delete_job):
        with pytest.raises(UnknownJobError):
            await attempt(pool, other, job.job_id)
    assert await get_job(pool, partner, job.job_id) == job


async def test_jobs_are_listed_from_the_newest_in_pages(pool: headrace.Pool, partner: int, submit: Submit) -> None:
    jobs = [await submit("1\n", limits=JobLimits(jobs_at_once=9)) for _ in range(5)]
    newest = list(reversed(jobs))
    assert await list_jobs(pool, partner) == newest
    assert await list_jobs(pool, partner, limit=2) == newest[:2]
    assert await list_jobs(pool, partner, limit=2, before=newest[1].job_id) == newest[2:4]
    assert await list_jobs(pool, partner, before=uuid4()) == []


# Ending


async def test_a_cancelled_job_is_not_worked_on(pool: headrace.Pool, partner: int, submit: Submit) -> None:
    job = await submit("1\n")
    cancelled = await cancel_job(pool, partner, job.job_id)
    assert (cancelled.state, cancelled.stored_bytes) == (JobState.CANCELLED, 0)
    assert cancelled.expires_at is not None
    await Worker(pool, settings=PATIENT).run(until_idle=True)
    assert await get_job(pool, partner, job.job_id) == cancelled
    assert await counts(pool) == (1, 0, 0)


async def test_a_job_that_has_ended_cannot_be_cancelled(pool: headrace.Pool, partner: int, submit: Submit) -> None:
    job = await submit("1\n")
    await Worker(pool, settings=PATIENT).run(until_idle=True)
    done = await get_job(pool, partner, job.job_id)
    assert await cancel_job(pool, partner, job.job_id) == done
    assert done.state is JobState.DONE


async def test_a_deleted_job_takes_its_input_and_its_result_with_it(
    pool: headrace.Pool, partner: int, submit: Submit
) -> None:
    done, waiting = await submit("1\n"), None
    await Worker(pool, settings=PATIENT).run(until_idle=True)
    waiting = await submit("2\n")
    assert await counts(pool) == (2, 1, 1)
    await delete_job(pool, partner, done.job_id)
    await delete_job(pool, partner, waiting.job_id)
    assert await counts(pool) == (0, 0, 0)
    with pytest.raises(UnknownJobError):
        await delete_job(pool, partner, done.job_id)


async def test_the_input_of_a_job_that_is_done_is_deleted(pool: headrace.Pool, submit: Submit) -> None:
    job = await submit("".join(f"{number}\n" for number in range(1, 31)))
    await Worker(pool, settings=PATIENT).run(until_idle=True)
    assert await counts(pool) == (1, 0, 3)
    done = await get_job(pool, job.partner_id, job.job_id)
    assert done.stored_bytes == await pool.fetchval(
        "SELECT sum(octet_length(data) + octet_length(report)) FROM job_part"
    )


async def test_an_expired_job_is_swept(pool: headrace.Pool, partner: int, submit: Submit) -> None:
    expired, kept, queued = [await submit("1\n") for _ in range(3)]
    await cancel_job(pool, partner, expired.job_id)
    await cancel_job(pool, partner, kept.job_id)
    await pool.execute("UPDATE job SET expires_at = now() WHERE job_id = $1", expired.job_id)
    assert await sweep(pool) == 1
    assert {job.job_id for job in await list_jobs(pool, partner)} == {kept.job_id, queued.job_id}


async def test_many_expired_jobs_are_swept_by_two_at_once(pool: headrace.Pool, partner: int) -> None:
    await pool.execute(
        "INSERT INTO job (partner_id, result_format, state, expires_at)"
        " SELECT $1, 'csv', 'done', now() FROM generate_series(1, 50)",
        partner,
    )
    assert sum(await asyncio.gather(sweep(pool, at_once=7), sweep(pool, at_once=7))) == 50
    assert await counts(pool) == (0, 0, 0)


# Notifications


@pytest.mark.parametrize("common", [False, True], ids=["of the job", "of all jobs"])
async def test_progress_is_notified_on_the_channel_of_the_job_and_on_the_common_one(
    pool: headrace.Pool, partner: int, submit: Submit, common: bool
) -> None:
    text = "".join(f"{number}\n" for number in range(1, 21))
    job = await submit(text, result_format=CSV)
    seen: list[dict[str, object]] = []
    async with pool.listen(PROGRESS_CHANNEL if common else job_channel(job.job_id)) as events:
        await Worker(pool, settings=PATIENT).run(until_idle=True)
        await delete_job(pool, partner, job.job_id)
        async for event in events:
            assert isinstance(event, headrace.Notification)
            seen.append(json.loads(event.payload))
            if seen[-1]["state"] == "deleted":
                break
    assert [(each["state"], each.get("lines_done"), each.get("parts")) for each in seen] == [
        ("running", 0, 0),
        ("running", 10, 1),
        ("done", 20, 2),
        ("deleted", None, None),
    ]
    assert {each["job_id"] for each in seen} == {str(job.job_id)}
    assert (seen[2]["lines"], seen[2]["error"]) == (20, None)


async def test_a_report_has_the_lines_that_gave_nothing(pool: headrace.Pool, submit: Submit) -> None:
    text = "".join(f"{number}\n" for number in range(1, 11)) + "abc\n999\n1\n"
    job = await submit(text, result_format=CSV)
    await Worker(pool, settings=PATIENT).run(until_idle=True)
    report = b"".join([gzip.decompress(each) async for each in read_report(pool, job.job_id)])
    assert [json.loads(line) for line in report.splitlines()] == [
        {
            "line": 11,
            "problem": "malformed",
            "product_id": None,
            "text": "'abc' is not a product id: expected a whole number from 1 to 9223372036854775807",
        },
        {"line": 12, "problem": "unknown", "product_id": 999, "text": "no product has the id 999"},
        {
            "line": 13,
            "problem": "repeated",
            "product_id": 1,
            "text": "product 1 is repeated: its SKUs are listed where it first appears",
        },
    ]
    await check_complete(pool, job, text)
