"""How workers share the jobs: claims, which expire, and fencing numbers.

A worker claims a job in one short statement. The claim lasts until `claimed_until`, by the clock of the database, and
is renewed as long as the worker lives. If a worker dies, another one claims the job when the time is over. Each claim
gives the job a higher fencing number (`fence`). Everything that a worker changes later, it changes on condition that
the number is still its own. So a worker that was stopped and wakes up after its claim was taken over adds nothing.

`attempts` counts the claims since the last part was stored. A job whose worker dies at each attempt, or that fails each
time, ends as `failed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from storefront.checkpoint import Tally
from storefront.database import AnyPool
from storefront.errors import StorefrontError
from storefront.formats import Format
from storefront.jobs.queue import ENDED, PROGRESS, QUEUED


class ClaimLostError(StorefrontError):
    """The job is no longer this worker's: it was cancelled, deleted, or taken over when the claim was over."""

    def __init__(self, job_id: UUID) -> None:
        super().__init__(f"job {job_id} is no longer this worker's")
        self.job_id = job_id


@dataclass
class Claim:
    """A worker's hold of a job, and how far the job has come.

    `skipped_lines` is the number of lines of the input before the first one, for the numbers in the report.
    """

    job_id: UUID
    fence: int
    result_format: Format
    attempts: int
    lines: int
    lines_done: int
    parts: int
    skipped_lines: int


@dataclass(frozen=True)
class Part:
    """A part of a result that is to be stored: the answer to the lines up to `last_line` that are not stored yet.

    `data` and `report` are gzip members. `size` is the number of bytes of `data` before compression.
    """

    last_line: int
    tally: Tally
    size: int
    data: bytes
    report: bytes


async def claim_job(
    pool: AnyPool, worker: str, *, lease: timedelta, max_attempts: int, keep: timedelta
) -> Claim | None:
    """Claim a job that waits, or whose claim is over. Return None if there is none.

    Partners with fewer running jobs come first, then older jobs. Jobs that have had `max_attempts` without a new part
    fail first, with the reason.
    """
    await pool.execute(
        f"""\
WITH worn AS (
    SELECT job_id FROM job
    WHERE state IN ('queued', 'running') AND claimed_until <= now() AND attempts >= $1
    FOR UPDATE SKIP LOCKED
), failed AS (
    UPDATE job SET state = 'failed', fence = fence + 1, worker = NULL, finished_at = now(), expires_at = now() + $2,
        input_bytes = 0,
        error = CASE WHEN job.state = 'running'
            THEN format('its worker died %s times at the lines from %s', attempts, lines_done + 1)
            ELSE error END
    FROM worn WHERE job.job_id = worn.job_id
    RETURNING job.*
), input AS (
    DELETE FROM job_input USING failed WHERE job_input.job_id = failed.job_id
)
SELECT {PROGRESS} FROM failed""",
        max_attempts,
        keep,
    )
    record = await pool.fetchrow(
        f"""\
WITH next AS (
    SELECT job_id FROM job
    WHERE state IN ('queued', 'running') AND claimed_until <= now() AND attempts < $3
    ORDER BY (
        SELECT count(*) FROM job AS other
        WHERE other.partner_id = job.partner_id AND other.state = 'running' AND other.claimed_until > now()
    ), created_at, job_id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE job SET state = 'running', worker = $1, fence = fence + 1, attempts = attempts + 1,
        claimed_until = now() + $2, started_at = coalesce(started_at, now())
    FROM next WHERE job.job_id = next.job_id
    RETURNING job.*
)
SELECT job_id, fence, result_format, attempts, lines, lines_done, parts, skipped_lines, {PROGRESS} FROM claimed""",
        worker,
        lease,
        max_attempts,
    )
    if record is None:
        return None
    return Claim(
        UUID(int=record["job_id"].int),
        record["fence"],
        Format(record["result_format"]),
        record["attempts"],
        record["lines"],
        record["lines_done"],
        record["parts"],
        record["skipped_lines"],
    )


async def renew_claim(pool: AnyPool, claim: Claim, *, lease: timedelta) -> None:
    """Prolong a claim. A claim that is over can be renewed while nobody has taken it over.

    Raises ClaimLostError if it was lost.
    """
    await _renew(pool, claim, lease)


async def resume_claim(pool: AnyPool, claim: Claim, *, lease: timedelta) -> None:
    """Prolong a claim after an error, and find out how far the job has come. Raises ClaimLostError if it was lost."""
    claim.lines_done, claim.parts = await _renew(pool, claim, lease)


async def _renew(pool: AnyPool, claim: Claim, lease: timedelta) -> tuple[int, int]:
    record = await pool.fetchrow(
        "UPDATE job SET claimed_until = now() + $3 WHERE job_id = $1 AND fence = $2 AND state = 'running'"
        " RETURNING lines_done, parts",
        claim.job_id,
        claim.fence,
        lease,
    )
    if record is None:
        raise ClaimLostError(claim.job_id)
    lines_done, parts = record
    return lines_done, parts


async def store_part(
    pool: AnyPool, claim: Claim, part: Part, *, lease: timedelta, keep: timedelta, stored_bytes: int
) -> None:
    """Store the next part of a job's result, and count its lines. The last part ends the job.

    It is one statement, so all of it is done or nothing. After a lost connection it is unknown which; `resume_claim`
    tells. If the jobs of the partner take more than `stored_bytes`, the job fails. Raises ClaimLostError if the claim
    was lost; then nothing is stored.
    """
    tally = part.tally
    stored = await pool.fetchval(
        f"""\
WITH stored AS (
    UPDATE job SET
        parts = parts + 1, lines_done = $4, attempts = 0, error = NULL,
        products = products + $5, skus = skus + $6, without_skus = without_skus + $7,
        unknown = unknown + $8, malformed = malformed + $9, repeated = repeated + $10,
        result_size = result_size + $11,
        result_bytes = result_bytes + octet_length($12::bytea) + octet_length($13::bytea),
        claimed_until = now() + $14,
        state = CASE WHEN lines = $4 THEN 'done' ELSE state END,
        worker = CASE WHEN lines = $4 THEN NULL ELSE worker END,
        finished_at = CASE WHEN lines = $4 THEN now() END,
        expires_at = CASE WHEN lines = $4 THEN now() + $15 END,
        input_bytes = CASE WHEN lines = $4 THEN 0 ELSE input_bytes END
    WHERE job_id = $1 AND fence = $2 AND state = 'running' AND parts = $3 - 1
    RETURNING *
), part AS (
    INSERT INTO job_part (job_id, part, last_line, row_count, size, data, report)
    SELECT job_id, parts, $4, $6, $11, $12, $13 FROM stored
), input AS (
    DELETE FROM job_input USING stored WHERE job_input.job_id = stored.job_id AND stored.state = 'done'
)
SELECT {PROGRESS},
    (SELECT sum(job.input_bytes + job.result_bytes)::bigint FROM job WHERE job.partner_id = stored.partner_id)
FROM stored""",
        claim.job_id,
        claim.fence,
        claim.parts + 1,
        part.last_line,
        tally.products,
        tally.skus,
        tally.without_skus,
        tally.unknown,
        tally.malformed,
        tally.repeated,
        part.size,
        part.data,
        part.report,
        lease,
        keep,
        column=1,
    )
    if stored is None:
        raise ClaimLostError(claim.job_id)
    claim.parts += 1
    claim.attempts = 0
    claim.lines_done = part.last_line
    if stored > stored_bytes and claim.lines_done < claim.lines:
        await fail_job(
            pool,
            claim,
            f"the jobs of the partner would take more than {stored_bytes:,} bytes: delete jobs that are not needed",
            keep=keep,
        )
        raise ClaimLostError(claim.job_id)


async def fail_job(pool: AnyPool, claim: Claim, error: str, *, keep: timedelta) -> None:
    """End a job as failed, with a reason. Nothing happens if the claim was lost."""
    await pool.execute(
        f"""\
WITH failed AS (
    UPDATE job SET state = 'failed', fence = fence + 1, worker = NULL, error = $3, finished_at = now(),
        expires_at = now() + $4, input_bytes = 0
    WHERE job_id = $1 AND fence = $2 AND state = 'running'
    RETURNING *
), input AS (
    DELETE FROM job_input USING failed WHERE job_input.job_id = failed.job_id
)
SELECT {PROGRESS} FROM failed""",
        claim.job_id,
        claim.fence,
        error,
        keep,
    )


async def give_back(pool: AnyPool, claim: Claim, *, timeout: float | None = None) -> None:
    """Release a claim, so that another worker takes the job at once. It does not count as an attempt.

    Nothing happens if the claim was lost.
    """
    await pool.execute(
        f"""\
WITH released AS (
    UPDATE job SET state = 'queued', fence = fence + 1, worker = NULL, claimed_until = '-infinity',
        attempts = greatest(attempts - 1, 0)
    WHERE job_id = $1 AND fence = $2 AND state = 'running'
    RETURNING *
)
SELECT {PROGRESS}, {QUEUED} FROM released""",
        claim.job_id,
        claim.fence,
        timeout=timeout,
    )


async def put_off(pool: AnyPool, claim: Claim, error: str, *, pause: timedelta) -> None:
    """Release a claim after an error. The job is tried again after a pause. Nothing happens if the claim was lost."""
    await pool.execute(
        f"""\
WITH released AS (
    UPDATE job SET state = 'queued', fence = fence + 1, worker = NULL, error = $3, claimed_until = now() + $4
    WHERE job_id = $1 AND fence = $2 AND state = 'running'
    RETURNING *
)
SELECT {PROGRESS} FROM released""",
        claim.job_id,
        claim.fence,
        error,
        pause,
    )


async def end_revoked(pool: AnyPool, *, keep: timedelta) -> int:
    """Cancel the unfinished jobs of revoked partners. Return how many."""
    ended = await pool.fetch(
        f"""\
WITH ended AS (
    UPDATE job SET state = 'cancelled', fence = fence + 1, worker = NULL, finished_at = now(), expires_at = now() + $1,
        input_bytes = 0, error = 'the key of the partner was revoked'
    FROM partner
    WHERE partner.partner_id = job.partner_id AND partner.revoked_at IS NOT NULL
    AND state IN ('receiving', 'queued', 'running')
    RETURNING job.*
), input AS (
    DELETE FROM job_input USING ended WHERE job_input.job_id = ended.job_id
)
SELECT {PROGRESS}, {ENDED} FROM ended""",
        keep,
    )
    return len(ended)
