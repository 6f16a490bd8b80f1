"""Work off jobs: claim one, answer its lines part by part, store each part, and claim the next.

A worker shares a pool with whatever else uses it. It can be killed at any moment. Another worker, or the same program
when it runs again, then continues behind the last stored part.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import headrace
from storefront.batch import WINDOW, Strategy, choose_strategy
from storefront.database import Database
from storefront.errors import reason
from storefront.jobs.claims import (
    Claim,
    ClaimLostError,
    claim_job,
    end_revoked,
    fail_job,
    give_back,
    put_off,
    renew_claim,
    resume_claim,
    store_part,
)
from storefront.jobs.lines import unpack_lines
from storefront.jobs.parts import PART_SIZE, answer_parts
from storefront.jobs.queue import WORKER_CHANNEL, JobLimits, sweep
from storefront.partners import REVOKED_CHANNEL

logger = logging.getLogger(__name__)

LONGEST_ERROR = 1_000
"""The number of characters of an error that are kept with its job."""

GIVE_BACK_TIME = 5.0
"""How many seconds a worker that ends waits for the database to take a job back. Its claim ends by itself, too."""

_SERVER_GONE = (
    headrace.PostgresConnectionError,
    headrace.InterfaceError,
    headrace.OperatorInterventionError,
    OSError,
)
"""Errors that say nothing about the job: the connection was lost, or the server is shutting down or starting."""


@dataclass(frozen=True)
class WorkerSettings:
    """How workers share jobs. All workers of a database should have the same settings.

    `lease` is how long a claim lasts without being renewed, and so how long a job waits after its worker was killed.
    `poll` is the interval at which jobs are looked for whose notification was missed.
    """

    lease: timedelta = timedelta(seconds=30)
    heartbeat: float = 4.0
    poll: float = 4.0
    sweep: float = 60.0
    retry_pause: timedelta = timedelta(seconds=5)
    max_attempts: int = 3
    window: int = WINDOW
    part_size: int = PART_SIZE
    limits: JobLimits = field(default_factory=JobLimits)


class Worker:
    """Works off `count` jobs at a time, on the connections of a pool, or of the servers of a database.

        await Worker(pool, count=2).run(stop)

    `name` tells operators which process has claimed a job.
    """

    def __init__(
        self,
        database: Database | headrace.Pool,
        *,
        count: int = 1,
        name: str | None = None,
        settings: WorkerSettings = WorkerSettings(),
    ) -> None:
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        self._database = database if isinstance(database, Database) else Database(database)
        self._pool = self._database.primary
        self._count = count
        self._settings = settings
        self._wake = asyncio.Condition()
        self._signals = 0
        self._running: dict[UUID, tuple[Claim, asyncio.Task[None]]] = {}
        self.parts_stored = 0

    @property
    def running(self) -> int:
        """The number of jobs that are being worked on."""
        return len(self._running)

    async def run(self, stop: asyncio.Event | None = None, *, until_idle: bool = False) -> None:
        """Work until `stop` is set, this is cancelled or, with `until_idle`, no job waits for a worker.

        At the end, parts that are being answered are dropped, and their jobs are given back at once. Errors of the
        database are logged, and the work goes on when it is back. With `until_idle` they are raised.
        """
        if until_idle:
            tasks = [asyncio.create_task(self._work_until_idle())]
        else:
            tasks = [asyncio.create_task(self._work()) for _ in range(self._count)]
            tasks += [asyncio.create_task(each) for each in (self._listen(), self._poll(), self._sweep())]
        stopping = asyncio.create_task((stop or asyncio.Event()).wait())
        try:
            done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stopping, *tasks):
                task.cancel()
            await asyncio.gather(stopping, *tasks, return_exceptions=True)
        for task in done:
            task.result()

    async def _work_until_idle(self) -> None:
        await end_revoked(self._pool, keep=self._settings.limits.keep)

        async def work() -> None:
            while (claim := await self._claim()) is not None:
                await self._carry(claim)

        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._count):
                    tasks.create_task(work())
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    # The loops

    async def _work(self) -> None:
        while True:
            # A signal that comes while no job is found is not missed.
            seen = self._signals
            claim = None
            with _logged_errors("no job could be claimed"):
                claim = await self._claim()
            if claim is None:
                async with self._wake:
                    while self._signals == seen:
                        await self._wake.wait()
            else:
                await self._carry(claim)

    async def _wake_all(self) -> None:
        async with self._wake:
            self._signals += 1
            self._wake.notify_all()

    async def _listen(self) -> None:
        while True:
            with _logged_errors("notifications of jobs are not heard"):
                async with self._pool.listen(WORKER_CHANNEL, REVOKED_CHANNEL) as events:
                    await self._catch_up()
                    async for event in events:
                        await self._hear(event)
            await asyncio.sleep(self._settings.poll)

    async def _hear(self, event: headrace.Notification | headrace.Gap) -> None:
        match event:
            case headrace.Notification(channel, _) if channel == REVOKED_CHANNEL:
                await self._end_revoked()
            case headrace.Notification(_, payload) if payload.startswith("ended "):
                self._drop(payload.removeprefix("ended "))
            case headrace.Gap():
                await self._catch_up()
            case _:
                await self._wake_all()

    async def _catch_up(self) -> None:
        """Look for all that may have been notified while this worker did not listen."""
        await self._end_revoked()
        await asyncio.gather(*(self._renew(claim, task) for claim, task in self._running.values()))
        await self._wake_all()

    async def _end_revoked(self) -> None:
        with _logged_errors("the jobs of revoked partners are not ended"):
            await end_revoked(self._pool, keep=self._settings.limits.keep)

    async def _poll(self) -> None:
        while True:
            await self._end_revoked()
            await asyncio.sleep(self._settings.poll)
            await self._wake_all()

    async def _sweep(self) -> None:
        while True:
            with _logged_errors("expired jobs are not deleted"):
                if count := await sweep(self._pool):
                    logger.info("%d expired jobs were deleted", count)
            await asyncio.sleep(self._settings.sweep)

    def _drop(self, job_id: str) -> None:
        """Stop working at a job that has ended in another way."""
        with suppress(ValueError):
            if found := self._running.get(UUID(job_id)):
                found[1].cancel()

    # One job

    async def _claim(self) -> Claim | None:
        """Claim a job. If cancelled meanwhile, give it back, because the server may have made the claim already."""
        settings = self._settings
        claiming = asyncio.create_task(
            claim_job(
                self._pool,
                self.name,
                lease=settings.lease,
                max_attempts=settings.max_attempts,
                keep=settings.limits.keep,
            )
        )
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            with _logged_errors("a claim may have been left behind, which ends by itself"):
                if claim := await asyncio.wait_for(claiming, GIVE_BACK_TIME):
                    await give_back(self._pool, claim, timeout=GIVE_BACK_TIME)
            raise

    async def _carry(self, claim: Claim) -> None:
        """Work at a claimed job until it is done or the claim is lost. If cancelled, give the claim back."""
        task = asyncio.create_task(self._persist(claim))
        self._running[claim.job_id] = (claim, task)
        beat = asyncio.create_task(self._keep(claim, task))
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            with _logged_errors(f"job {claim.job_id} was not given back"):
                await give_back(self._pool, claim, timeout=GIVE_BACK_TIME)
            raise
        finally:
            beat.cancel()
            del self._running[claim.job_id]
            await asyncio.wait([beat])
        if task.cancelled():
            logger.info("job %s is no longer this worker's", claim.job_id)
        elif error := task.exception():
            await self._after(claim, error)

    async def _after(self, claim: Claim, error: BaseException) -> None:
        """Settle a job whose work has failed."""
        if isinstance(error, ClaimLostError):
            logger.warning("%s: nothing was added to it", error)
            return
        if not isinstance(error, Exception):
            raise error
        settings = self._settings
        why = reason(error) if isinstance(error, headrace.PostgresError) else str(error)
        message = f"{type(error).__name__} at the lines from {claim.lines_done + 1}: {why}"[:LONGEST_ERROR]
        logger.warning("job %s, attempt %d: %s", claim.job_id, claim.attempts, message, exc_info=error)
        with _logged_errors(f"job {claim.job_id} was not given back"):
            if claim.attempts >= settings.max_attempts:
                await fail_job(self._pool, claim, message, keep=settings.limits.keep)
            else:
                await put_off(self._pool, claim, message, pause=settings.retry_pause)

    async def _keep(self, claim: Claim, task: asyncio.Task[None]) -> None:
        """Renew the claim again and again, until this is cancelled because the work has ended."""
        while True:
            await asyncio.sleep(self._settings.heartbeat)
            await self._renew(claim, task)

    async def _renew(self, claim: Claim, task: asyncio.Task[None]) -> None:
        """Renew a claim. If it is lost, cancel the task that works at the job."""
        try:
            await renew_claim(self._pool, claim, lease=self._settings.lease)
        except ClaimLostError:
            task.cancel()
        except (headrace.PostgresError, headrace.InterfaceError, OSError) as error:
            logger.warning("the claim of job %s was not renewed: %s", claim.job_id, error)

    async def _persist(self, claim: Claim) -> None:
        """Answer the lines of a job. If the server goes away, keep the claim and go on when it is back."""
        settings = self._settings
        failures, parts = 0, claim.parts
        while True:
            try:
                return await self._answer_job(claim)
            except _SERVER_GONE as error:
                failures, parts = failures + 1 if claim.parts == parts else 1, claim.parts
                if failures == settings.max_attempts:
                    raise
                logger.warning("job %s waits for the server: %s", claim.job_id, error)
            while True:
                await asyncio.sleep(settings.retry_pause.total_seconds())
                with _logged_errors(f"job {claim.job_id} waits for the server"):
                    await resume_claim(self._pool, claim, lease=settings.lease)
                    break

    async def _answer_job(self, claim: Claim) -> None:
        settings = self._settings
        # A replica answers only if it has all that was committed when the job was posted.
        await self._database.catch_up()
        reads = self._database.reads
        strategy = await choose_strategy(reads)
        if strategy is Strategy.GROUPED:
            # A temporary table is faster for many lines, but its rows come in larger parts. So it is not taken for
            # products of many SKUs.
            strategy = await choose_strategy(reads, claim.lines)
        while claim.lines_done < claim.lines:
            stored = await self._pool.fetchrow(
                "SELECT first_line, data FROM job_input WHERE job_id = $1 AND first_line <= $2"
                " ORDER BY first_line DESC LIMIT 1",
                claim.job_id,
                claim.lines_done + 1,
            )
            if stored is None:
                raise ClaimLostError(claim.job_id)
            parts = answer_parts(
                reads,
                unpack_lines(stored["data"], stored["first_line"], start=claim.lines_done + 1),
                claim.result_format,
                header=claim.parts == 0,
                skipped_lines=claim.skipped_lines,
                strategy=strategy,
                window=settings.window,
                part_size=settings.part_size,
            )
            async with aclosing(parts):
                async for part in parts:
                    await store_part(
                        self._pool,
                        claim,
                        part,
                        lease=settings.lease,
                        keep=settings.limits.keep,
                        stored_bytes=settings.limits.stored_bytes,
                    )
                    self.parts_stored += 1


class _logged_errors:  # noqa: N801 - it is used as a function
    """Logs an error of the database or the network instead of raising it."""

    def __init__(self, consequence: str) -> None:
        self._consequence = consequence

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if isinstance(error, (headrace.PostgresError, headrace.InterfaceError, OSError)):
            logger.warning("%s: %s", self._consequence, error)
            return True
        return False
