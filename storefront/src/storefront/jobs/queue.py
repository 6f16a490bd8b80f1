"""Jobs as a partner sees them: create, get, list, cancel and delete them, and read their results.

A job is created from a stream of bytes with a product id on each line. Its lines are stored in parts while they arrive,
each in a transaction of its own, so a slow partner holds no connection and memory holds only a few thousand lines.

States: `receiving` while the lines arrive, `queued`, `running` while a worker has claimed the job, at the end `done`,
`failed` or `cancelled`. A job that has ended is deleted some days later, with its result.

Notifications (LISTEN) only say that something has changed; the tables have the truth:

- Workers listen on `storefront_jobs`. The payload is `queued` or `ended`, a space, and the job's id.
- Each job has the channel `storefront_job_` and the 32 hexadecimal digits of its id. Its payload is a JSON object with
  the members job_id, state, lines, lines_done, skus, parts and error. It is sent when the state changes, and after each
  part. When the job is deleted, the payload has the members job_id and state only, and the state is `deleted`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

import headrace
from storefront.catalogue import Executor
from storefront.checkpoint import Tally
from storefront.database import AnyPool
from storefront.errors import StorefrontError, UsageError
from storefront.formats import Format
from storefront.jobs.lines import JobInput, LineReader, pack_lines
from storefront.timing import timed
from storefront.wording import counted

WORKER_CHANNEL = "storefront_jobs"
"""The channel on which workers are told that a job was queued, or that one has ended that they may be running."""

INPUT_LINES = 10_000
"""The number of lines in a stored part of the input. A worker answers at most so many lines at a time."""

INPUT_BUFFER = 2**20
"""The number of bytes of stored input that are sent to the server at once."""

RECEIVING_LEASE = timedelta(minutes=10)
"""The time after which a job whose lines have stopped arriving is taken for abandoned."""

FORMATS = (Format.CSV, Format.NDJSON)
"""The formats of a result. Both can be made in parts that are joined."""


class JobState(StrEnum):
    """The state of a job."""

    RECEIVING = "receiving"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def has_ended(self) -> bool:
        """True if the job will not change any more."""
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True)
class JobLimits:
    """The limits of each partner, and how long results are kept.

    `stored_bytes` limits the compressed input and results of all jobs of a partner.
    """

    jobs_at_once: int = 4
    lines: int = 20_000_000
    stored_bytes: int = 2 * 2**30
    keep: timedelta = timedelta(days=7)


class JobRefusedError(StorefrontError):
    """A partner's limit does not admit the job. `limit` is the name of a field of JobLimits."""

    def __init__(self, limit: str, message: str) -> None:
        super().__init__(message)
        self.limit = limit


class JobConflictError(StorefrontError):
    """The idempotency key belongs to another request, or to one that is still arriving (`arriving`)."""

    def __init__(self, message: str, *, arriving: bool) -> None:
        super().__init__(message)
        self.arriving = arriving


class UnknownJobError(StorefrontError):
    """The partner has no job with this id."""

    def __init__(self, job_id: UUID) -> None:
        super().__init__(f"there is no job {job_id}")
        self.job_id = job_id


@dataclass(frozen=True)
class Job:
    """A job: its state, the counts of its lines, and the size of its result in bytes before compression.

    `attempts` counts how often a worker has begun at the present part. `parts` is the number of stored parts of the
    result.
    """

    job_id: UUID
    partner_id: int
    result_format: Format
    state: JobState
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    attempts: int
    error: str | None
    lines: int
    tally: Tally
    parts: int
    result_size: int
    stored_bytes: int

    @property
    def channel(self) -> str:
        """The channel on which the job's progress is notified."""
        return job_channel(self.job_id)


class CreatedJob(NamedTuple):
    """A job, and whether it is new. It is not if the idempotency key had been used for it before."""

    job: Job
    is_new: bool


class PartInfo(NamedTuple):
    """A part of a result: its number from 1, its rows, and its bytes before and after compression.

    `trailer` is the end of the gzip member, which has the checksum.
    """

    part: int
    row_count: int
    size: int
    stored_size: int
    trailer: bytes


@dataclass(frozen=True)
class StateStatistics:
    """The jobs in one state. `oldest` is the number of seconds since the first of them was created, 0 without any."""

    jobs: int = 0
    oldest: float = 0.0
    lines_waiting: int = 0
    """Lines that are not answered yet."""
    parts: int = 0
    stored_bytes: int = 0


_JOB = """\
job_id, partner_id, result_format, state, created_at, started_at, finished_at, expires_at, attempts, error, lines,
lines_done, products, skus, without_skus, unknown, malformed, repeated, parts, result_size,
input_bytes, result_bytes"""

UNFINISHED = "('receiving', 'queued', 'running')"

PROGRESS_CHANNEL = "storefront_job_progress"
"""The channel on which the progress of all jobs is notified."""


def _notified(members: str) -> str:
    """Return the SQL expression that notifies members of a job, on the job's own channel and on the common one."""
    payload = f"json_build_object({members})::text"
    return (
        f"concat(pg_notify('storefront_job_' || replace(job_id::text, '-', ''), {payload}), "
        f"pg_notify('{PROGRESS_CHANNEL}', {payload}))"
    )


PROGRESS = _notified(
    "'job_id', job_id, 'state', state, 'lines', lines, 'lines_done', lines_done, 'skus', skus, 'parts', parts,"
    " 'error', left(error, 500)"
)
"""The SQL expression that notifies a job's progress. It is used on a row of `job`."""

ENDED = f"pg_notify('{WORKER_CHANNEL}', 'ended ' || job_id)"
QUEUED = f"pg_notify('{WORKER_CHANNEL}', 'queued ' || job_id)"


def job_channel(job_id: UUID) -> str:
    """Return the channel on which a job's progress is notified."""
    return f"storefront_job_{job_id.hex}"


def job_of(record: Any) -> Job:
    """Return the job in a record of the columns _JOB."""
    return Job(
        job_id=UUID(int=record["job_id"].int),
        partner_id=record["partner_id"],
        result_format=Format(record["result_format"]),
        state=JobState(record["state"]),
        created_at=record["created_at"],
        started_at=record["started_at"],
        finished_at=record["finished_at"],
        expires_at=record["expires_at"],
        attempts=record["attempts"],
        error=record["error"],
        lines=record["lines"],
        tally=Tally(
            lines=record["lines_done"],
            products=record["products"],
            skus=record["skus"],
            without_skus=record["without_skus"],
            unknown=record["unknown"],
            malformed=record["malformed"],
            repeated=record["repeated"],
        ),
        parts=record["parts"],
        result_size=record["result_size"],
        stored_bytes=record["input_bytes"] + record["result_bytes"],
    )


# ---------------------------------------------------------------------------------------------------------------------
# Creating


@timed
async def create_job(
    pool: AnyPool,
    partner_id: int,
    body: AsyncIterable[bytes],
    *,
    job_input: JobInput = JobInput.IDS,
    result_format: Format = Format.NDJSON,
    idempotency_key: str | None = None,
    limits: JobLimits = JobLimits(),
    input_lines: int = INPUT_LINES,
) -> CreatedJob:
    """Store the lines of `body` as a new job, and queue it.

    If the partner has created a job with this idempotency key before, that job is returned. Raises JobConflictError if
    it was created from other lines, or if its lines are still arriving. Raises JobRefusedError if a limit is reached,
    and UsageError if there are no lines. After an error or a cancellation nothing of the job is left.
    """
    if result_format not in FORMATS:
        raise UsageError(f"the result of a job can be {' or '.join(FORMATS)}, not {result_format}")
    digest = hashlib.sha256(f"{job_input} {result_format} ".encode())
    record = await _begin(pool, partner_id, result_format, idempotency_key, limits)
    job = job_of(record)
    if record["input_digest"] is not None:
        async for piece in body:
            digest.update(piece)
        if record["input_digest"] != digest.digest():
            raise JobConflictError(
                f"the idempotency key {idempotency_key!r} was used for job {job.job_id}, which has other lines "
                "or another format",
                arriving=False,
            )
        return CreatedJob(job, is_new=False)
    try:
        receiver = _Receiver(pool, job.job_id, job_input, limits, input_lines, record["others_bytes"])
        async for piece in body:
            digest.update(piece)
            await receiver.feed(piece)
        await receiver.end()
        if not receiver.lines:
            raise UsageError("the job has no lines: expected a product id on each line")
        queued = await pool.fetchrow(
            f"""\
WITH queued AS (
    UPDATE job SET state = 'queued', claimed_until = '-infinity', lines = $2, skipped_lines = $3, input_digest = $4
    WHERE job_id = $1 AND state = 'receiving'
    RETURNING *
)
SELECT {_JOB}, {PROGRESS}, {QUEUED} FROM queued""",
            job.job_id,
            receiver.lines,
            receiver.skipped,
            digest.digest(),
        )
        if queued is None:
            raise UnknownJobError(job.job_id)
        return CreatedJob(job_of(queued), is_new=True)
    except BaseException:
        # If this fails too, or the program ends, the sweeper removes the job.
        with suppress(headrace.PostgresError, headrace.InterfaceError, OSError):
            await asyncio.shield(
                pool.execute("DELETE FROM job WHERE job_id = $1 AND state = 'receiving'", job.job_id, timeout=10)
            )
        raise


async def _begin(
    pool: AnyPool, partner_id: int, result_format: Format, idempotency_key: str | None, limits: JobLimits
) -> Any:
    """Insert a job whose lines are about to arrive, or return the one that has the key and is complete already.

    `input_digest` of a new job is null. `others_bytes` is the number of bytes that the partner's other jobs take.
    """
    async with pool.acquire() as connection, connection.transaction():
        # Requests of the same partner take turns, so that together they do not exceed a limit.
        if not await connection.fetchval(
            "SELECT true FROM partner WHERE partner_id = $1 AND revoked_at IS NULL FOR NO KEY UPDATE", partner_id
        ):
            raise StorefrontError(f"there is no partner {partner_id} with a valid key")
        if idempotency_key is not None:
            await connection.execute(
                "DELETE FROM job WHERE partner_id = $1 AND idempotency_key = $2"
                " AND state = 'receiving' AND claimed_until <= now()",
                partner_id,
                idempotency_key,
            )
            existing = await connection.fetchrow(
                f"SELECT {_JOB}, input_digest FROM job WHERE partner_id = $1 AND idempotency_key = $2",
                partner_id,
                idempotency_key,
            )
            if existing is not None:
                if existing["state"] == JobState.RECEIVING:
                    raise JobConflictError(
                        f"the lines of job {existing['job_id']}, which has this idempotency key, are still arriving",
                        arriving=True,
                    )
                return existing
        usage = await connection.fetchrow(
            f"""\
SELECT count(*) FILTER (WHERE state IN {UNFINISHED} AND NOT (state = 'receiving' AND claimed_until <= now())),
       coalesce(sum(input_bytes + result_bytes), 0)::bigint
FROM job WHERE partner_id = $1""",
            partner_id,
        )
        assert usage is not None
        unfinished, stored = usage
        if unfinished >= limits.jobs_at_once:
            raise JobRefusedError(
                "jobs_at_once",
                f"{counted(unfinished, 'job is', 'jobs are')} unfinished, and "
                f"{counted(limits.jobs_at_once, 'is', 'are')} allowed at once: "
                "wait until one has ended, or cancel one",
            )
        if stored >= limits.stored_bytes:
            raise _too_much_stored(limits)
        return await connection.fetchrow(
            f"""\
INSERT INTO job (partner_id, result_format, idempotency_key, state, claimed_until)
VALUES ($1, $2, $3, 'receiving', now() + $4)
RETURNING {_JOB}, input_digest, $5::bigint AS others_bytes""",
            partner_id,
            result_format.value,
            idempotency_key,
            RECEIVING_LEASE,
            stored,
        )


def _too_much_stored(limits: JobLimits) -> JobRefusedError:
    return JobRefusedError(
        "stored_bytes",
        f"the jobs of the partner would take more than {limits.stored_bytes:,} bytes: delete jobs that are not needed",
    )


class _Receiver:
    """Stores the lines of one job as they arrive."""

    def __init__(
        self,
        pool: AnyPool,
        job_id: UUID,
        job_input: JobInput,
        limits: JobLimits,
        input_lines: int,
        others_bytes: int,
    ) -> None:
        self._pool = pool
        self._job_id = job_id
        self._limits = limits
        self._input_lines = input_lines
        self._others_bytes = others_bytes
        self._reader = LineReader(job_input)
        self._first_line = 1
        self._waiting: list[tuple[UUID, int, bytes]] = []
        self._waiting_bytes = 0
        self._stored_bytes = 0

    @property
    def lines(self) -> int:
        """The number of lines so far."""
        return self._reader.count

    @property
    def skipped(self) -> int:
        """The number of lines before the first, which is 1 if there is a header."""
        return self._reader.skipped

    async def feed(self, piece: bytes) -> None:
        """Read a piece of the body, and store lines if enough are complete."""
        reader = self._reader
        reader.feed(piece)
        if reader.count > self._limits.lines:
            raise JobRefusedError("lines", f"the job has more than {counted(self._limits.lines, 'line')}: divide it")
        while len(reader.stored) >= self._input_lines:
            self._pack(reader.take(self._input_lines))
        if self._waiting_bytes >= INPUT_BUFFER:
            await self._store()

    async def end(self) -> None:
        """Store the rest of the lines."""
        self._reader.end()
        while self._reader.stored:
            self._pack(self._reader.take(self._input_lines))
        await self._store()

    def _pack(self, lines: list[str]) -> None:
        data = pack_lines(lines)
        self._waiting.append((self._job_id, self._first_line, data))
        self._waiting_bytes += len(data)
        self._first_line += len(lines)

    async def _store(self) -> None:
        if not self._waiting:
            return
        self._stored_bytes += self._waiting_bytes
        if self._others_bytes + self._stored_bytes > self._limits.stored_bytes:
            raise _too_much_stored(self._limits)
        async with self._pool.acquire() as connection, connection.transaction():
            # The row is locked, so the job cannot be deleted between the two statements.
            kept = await connection.fetchval(
                "UPDATE job SET input_bytes = $2, claimed_until = now() + $3"
                " WHERE job_id = $1 AND state = 'receiving' RETURNING true",
                self._job_id,
                self._stored_bytes,
                RECEIVING_LEASE,
            )
            if not kept:
                raise UnknownJobError(self._job_id)
            await connection.copy_records_to_table(
                "job_input", records=self._waiting, columns=("job_id", "first_line", "data")
            )
        self._waiting, self._waiting_bytes = [], 0


# ---------------------------------------------------------------------------------------------------------------------
# Reading


async def get_job(executor: Executor, partner_id: int, job_id: UUID) -> Job:
    """Return a partner's job. Raises UnknownJobError if the partner has no such job."""
    record = await executor.fetchrow(
        f"SELECT {_JOB} FROM job WHERE job_id = $1 AND partner_id = $2", job_id, partner_id
    )
    if record is None:
        raise UnknownJobError(job_id)
    return job_of(record)


async def list_jobs(executor: Executor, partner_id: int, *, limit: int = 100, before: UUID | None = None) -> list[Job]:
    """Return a partner's jobs, the newest first: at most `limit`. With `before` they are older than that job."""
    records = await executor.fetch(
        f"""\
SELECT {_JOB} FROM job
WHERE partner_id = $1
AND ($3::uuid IS NULL OR (created_at, job_id) < (
    SELECT created_at, job_id FROM job WHERE job_id = $3 AND partner_id = $1))
ORDER BY created_at DESC, job_id DESC
LIMIT $2""",
        partner_id,
        limit,
        before,
    )
    return [job_of(record) for record in records]


async def list_parts(executor: Executor, job_id: UUID, *, part: int | None = None) -> list[PartInfo]:
    """Return the stored parts of a job's result, in their order, or only the one with a number."""
    records = await executor.fetch(
        "SELECT part, row_count, size, octet_length(data), substring(data FROM octet_length(data) - 7) FROM job_part"
        " WHERE job_id = $1 AND ($2::int IS NULL OR part = $2) ORDER BY part",
        job_id,
        part,
    )
    return [PartInfo(*record) for record in records]


async def read_part(executor: Executor, job_id: UUID, part: int) -> bytes | None:
    """Return a part of a job's result as a gzip member, or None if there is no such part (any more)."""
    data: bytes | None = await executor.fetchval(
        "SELECT data FROM job_part WHERE job_id = $1 AND part = $2", job_id, part
    )
    return data


async def read_report(executor: Executor, job_id: UUID) -> AsyncIterator[bytes]:
    """Yield, as gzip members of NDJSON, the lines that gave no SKUs or repeat an earlier id, and their problems."""
    part = 0
    while record := await executor.fetchrow(
        "SELECT part, report FROM job_part WHERE job_id = $1 AND part > $2 ORDER BY part LIMIT 1", job_id, part
    ):
        part = record["part"]
        if record["report"]:
            yield record["report"]


async def job_statistics(executor: Executor, *, timeout: float | None = None) -> dict[JobState, StateStatistics]:
    """Return figures of the jobs of all partners, for each state, also if no job is in it.

    Jobs that have ended count until they expire or are deleted.
    """
    records = await executor.fetch(
        """\
SELECT state, count(*), greatest(extract(epoch FROM now() - min(created_at)), 0)::float8,
       sum(lines - lines_done)::bigint, sum(parts)::bigint, sum(input_bytes + result_bytes)::bigint
FROM job GROUP BY state""",
        timeout=timeout,
    )
    found = {state: StateStatistics(*figures) for state, *figures in records}
    return {state: found.get(state, StateStatistics()) for state in JobState}


# ---------------------------------------------------------------------------------------------------------------------
# Ending


@timed
async def cancel_job(executor: Executor, partner_id: int, job_id: UUID, *, keep: timedelta = JobLimits.keep) -> Job:
    """Cancel a job that has not ended. Parts of its result that are stored are kept until it expires.

    A worker that is at it adds nothing more. A job that has ended is not changed. Raises UnknownJobError if the partner
    has no such job.
    """
    await executor.execute(
        f"""\
WITH cancelled AS (
    UPDATE job SET state = 'cancelled', fence = fence + 1, worker = NULL, finished_at = now(), expires_at = now() + $3,
        input_bytes = 0
    WHERE job_id = $1 AND partner_id = $2 AND state IN {UNFINISHED}
    RETURNING *
), input AS (
    DELETE FROM job_input USING cancelled WHERE job_input.job_id = cancelled.job_id
)
SELECT {PROGRESS}, {ENDED} FROM cancelled""",
        job_id,
        partner_id,
        keep,
    )
    return await get_job(executor, partner_id, job_id)


@timed
async def delete_job(executor: Executor, partner_id: int, job_id: UUID) -> None:
    """Delete a job with its input and its result, whatever its state. A worker that is at it adds nothing more.

    Raises UnknownJobError if the partner has no such job.
    """
    deleted = await executor.fetch(
        f"""\
WITH deleted AS (DELETE FROM job WHERE job_id = $1 AND partner_id = $2 RETURNING *)
SELECT {_DELETED}, {ENDED} FROM deleted""",
        job_id,
        partner_id,
    )
    if not deleted:
        raise UnknownJobError(job_id)


_DELETED = _notified("'job_id', job_id, 'state', 'deleted'")


async def sweep(executor: Executor, *, at_once: int = 20) -> int:
    """Delete jobs that have expired, and jobs whose lines have stopped arriving. Return how many.

    `at_once` jobs are deleted in a transaction. Several programs may sweep at once.
    """
    count = 0
    while True:
        deleted = await executor.fetch(
            f"""\
WITH old AS (
    SELECT job_id FROM job
    WHERE expires_at <= now() OR (state = 'receiving' AND claimed_until <= now())
    LIMIT $1
    FOR UPDATE SKIP LOCKED
), deleted AS (
    DELETE FROM job USING old WHERE job.job_id = old.job_id RETURNING job.job_id
)
SELECT {_DELETED} FROM deleted""",
            at_once,
        )
        count += len(deleted)
        if len(deleted) < at_once:
            return count
