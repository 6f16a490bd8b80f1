"""The tables of jobs: batches that are stored in the database and worked off by workers.

A job's input is in `job_input`, some thousand lines a row. Its result is in `job_part`, which grows by a row each time
a worker has answered some lines. The row in `job` has the state, the claim of a worker and the counts. It changes in
the same statement that adds a part, so the counts always agree with the parts. Deleting a job deletes its input and its
parts.
"""

from __future__ import annotations

JOB_TABLES = (
    """\
CREATE TABLE IF NOT EXISTS job (
    job_id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    partner_id INTEGER NOT NULL REFERENCES partner (partner_id) ON DELETE CASCADE,
    idempotency_key TEXT,
    input_digest BYTEA,
    result_format TEXT NOT NULL CHECK (result_format IN ('csv', 'ndjson')),
    state TEXT NOT NULL CHECK (state IN ('receiving', 'queued', 'running', 'done', 'failed', 'cancelled')),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    started_at TIMESTAMPTZ,
    finished_at TIMESTAMPTZ,
    expires_at TIMESTAMPTZ,
    worker TEXT,
    claimed_until TIMESTAMPTZ NOT NULL DEFAULT '-infinity',
    fence BIGINT NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    lines BIGINT NOT NULL DEFAULT 0,
    skipped_lines SMALLINT NOT NULL DEFAULT 0,
    lines_done BIGINT NOT NULL DEFAULT 0,
    products BIGINT NOT NULL DEFAULT 0,
    skus BIGINT NOT NULL DEFAULT 0,
    without_skus BIGINT NOT NULL DEFAULT 0,
    unknown BIGINT NOT NULL DEFAULT 0,
    malformed BIGINT NOT NULL DEFAULT 0,
    repeated BIGINT NOT NULL DEFAULT 0,
    parts INTEGER NOT NULL DEFAULT 0,
    result_size BIGINT NOT NULL DEFAULT 0,
    input_bytes BIGINT NOT NULL DEFAULT 0,
    result_bytes BIGINT NOT NULL DEFAULT 0,
    UNIQUE (partner_id, idempotency_key)
)""",
    """\
CREATE TABLE IF NOT EXISTS job_input (
    job_id UUID NOT NULL REFERENCES job (job_id) ON DELETE CASCADE,
    first_line BIGINT NOT NULL,
    data BYTEA NOT NULL,
    PRIMARY KEY (job_id, first_line)
)""",
    """\
CREATE TABLE IF NOT EXISTS job_part (
    job_id UUID NOT NULL REFERENCES job (job_id) ON DELETE CASCADE,
    part INTEGER NOT NULL,
    last_line BIGINT NOT NULL,
    row_count BIGINT NOT NULL,
    size BIGINT NOT NULL,
    data BYTEA NOT NULL,
    report BYTEA NOT NULL,
    PRIMARY KEY (job_id, part)
)""",
    # Workers look for jobs to claim, and partners for their own.
    """\
CREATE INDEX IF NOT EXISTS job_claimed_until_idx ON job (claimed_until)
WHERE state IN ('receiving', 'queued', 'running')""",
    "CREATE INDEX IF NOT EXISTS job_partner_id_idx ON job (partner_id, created_at)",
    "CREATE INDEX IF NOT EXISTS job_expires_at_idx ON job (expires_at) WHERE expires_at IS NOT NULL",
)
"""The statements that create the tables of jobs. They refer to the table `partner`. Running them again does no harm."""
