"""Workers that are processes of their own: killed, stopped, continued, and told to end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import AsyncExitStack

import headrace
from storefront.formats import Format
from storefront.jobs import JobLimits, JobState, Worker, get_job, list_parts

from .conftest import (
    PATIENT,
    TEXT,
    Submit,
    check_complete,
    claim,
    expire_claims,
    look_ups_held,
    store,
    until,
    until_ended,
    until_looking_up,
)

Program = Callable[..., "subprocess.Popen[str]"]

LONG = "".join(f"{number % 60 + 1}\n" for number in range(600))
"""600 lines, which are stored in 60 parts."""


async def line_with(process: subprocess.Popen[str], text: str) -> str:
    """Read what a process writes on stderr up to a line with this text, and return that line."""
    assert process.stderr is not None
    async with asyncio.timeout(60):
        while True:
            line = await asyncio.to_thread(process.stderr.readline)
            if text in line:
                return line
            assert line, f"the process has ended with status {process.wait()}"


async def ended(process: subprocess.Popen[str]) -> int:
    """Wait for the end of a process, and return its status."""
    return await asyncio.to_thread(process.wait, 60)


async def test_a_worker_that_is_killed_in_the_middle_loses_nothing(
    shop: str, pool: headrace.Pool, submit: Submit, program: Program
) -> None:
    job = await submit("7\n3\n50\n1\n999\n", result_format=Format.CSV)
    earlier = await claim(pool)
    assert earlier is not None
    await store(pool, earlier, 7, 3, last=2)
    await expire_claims(pool)
    async with look_ups_held(shop):
        process = program("work", dsn=shop)
        await until_looking_up(pool)
        process.kill()
        await ended(process)
        running = await get_job(pool, job.partner_id, job.job_id)
        assert (running.state, running.tally.lines, running.attempts) == (JobState.RUNNING, 2, 1)
        # Nobody can know yet that it was killed.
        await Worker(pool, settings=PATIENT).run(until_idle=True)
        assert await get_job(pool, job.partner_id, job.job_id) == running
    await expire_claims(pool)
    await Worker(pool, settings=PATIENT).run(until_idle=True)
    await check_complete(pool, job, "7\n3\n50\n1\n999\n")


async def test_workers_that_are_killed_again_and_again_double_nothing(
    shop: str, pool: headrace.Pool, submit: Submit, program: Program
) -> None:
    job = await submit(LONG, result_format=Format.CSV)
    for _ in range(3):
        before = len(await list_parts(pool, job.job_id))
        process = program("work", dsn=shop)

        async def is_further(before: int = before) -> bool:
            now = await get_job(pool, job.partner_id, job.job_id)
            return now.parts > before or now.state.has_ended

        await until(is_further, "a part is stored")
        process.kill()
        await ended(process)
        await expire_claims(pool)

    async def is_done() -> bool:
        # A statement of a killed worker may still be under way. It stores its part and prolongs the claim.
        await expire_claims(pool)
        await Worker(pool, settings=PATIENT).run(until_idle=True)
        return (await get_job(pool, job.partner_id, job.job_id)).state.has_ended

    await until(is_done, "the job is done")
    await check_complete(pool, job, LONG)


async def test_a_worker_that_was_stopped_and_continues_adds_nothing(
    shop: str, pool: headrace.Pool, submit: Submit, program: Program
) -> None:
    job = await submit(TEXT, result_format=Format.CSV)
    async with look_ups_held(shop):
        process = program("work", "--verbose", dsn=shop)
        await until_looking_up(pool)
        os.kill(process.pid, signal.SIGSTOP)
    await expire_claims(pool)
    await Worker(pool, settings=PATIENT).run(until_idle=True)
    await check_complete(pool, job, TEXT)
    os.kill(process.pid, signal.SIGCONT)
    await line_with(process, f"job {job.job_id} is no longer this worker's")
    await check_complete(pool, job, TEXT)
    # It goes on with other jobs.
    other = await submit(TEXT, result_format=Format.CSV)
    await until_ended(pool, other)
    await check_complete(pool, other, TEXT)
    process.terminate()
    assert await ended(process) == 0


async def test_a_worker_that_is_told_to_end_gives_its_jobs_back(
    shop: str, pool: headrace.Pool, submit: Submit, program: Program
) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        jobs = [await submit(TEXT, result_format=Format.CSV, limits=JobLimits(jobs_at_once=9)) for _ in range(2)]
        async with look_ups_held(shop):
            process = program("work", "--workers", "2", dsn=shop)
            await until_looking_up(pool, 2)
            process.send_signal(number)
            assert await ended(process) == 0
            for job in jobs:
                given_back = await get_job(pool, job.partner_id, job.job_id)
                assert (given_back.state, given_back.attempts) == (JobState.QUEUED, 0)
        await Worker(pool, settings=PATIENT).run(until_idle=True)
        for job in jobs:
            await check_complete(pool, job, TEXT)


async def test_processes_share_the_parts_of_many_jobs(
    shop: str, pool: headrace.Pool, submit: Submit, program: Program
) -> None:
    jobs = [await submit(TEXT, result_format=Format.CSV, limits=JobLimits(jobs_at_once=99)) for _ in range(8)]
    async with AsyncExitStack() as stack:
        # Both processes are there before either can be done.
        held = await stack.enter_async_context(AsyncExitStack())
        await held.enter_async_context(look_ups_held(shop))
        processes = [program("work", "--until-idle", dsn=shop) for _ in range(2)]
        await until_looking_up(pool, 2)
        await held.aclose()
        assert [await ended(process) for process in processes] == [0, 0]
    for job in jobs:
        await check_complete(pool, job, TEXT)
