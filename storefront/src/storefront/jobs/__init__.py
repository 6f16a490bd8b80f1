"""Jobs: batches too large for one request, stored in the database and worked off by workers.

`queue` has what a partner does with jobs, `worker` and `claims` what workers do. `lines` and `parts` read the input and
make the result, and `tables` has the tables.
"""

from storefront.jobs.lines import JobInput
from storefront.jobs.queue import (
    PROGRESS_CHANNEL,
    CreatedJob,
    Job,
    JobConflictError,
    JobLimits,
    JobRefusedError,
    JobState,
    PartInfo,
    StateStatistics,
    UnknownJobError,
    cancel_job,
    create_job,
    delete_job,
    get_job,
    job_channel,
    job_statistics,
    list_jobs,
    list_parts,
    read_part,
    read_report,
    sweep,
)
from storefront.jobs.tables import JOB_TABLES
from storefront.jobs.worker import Worker, WorkerSettings

__all__ = [
    "JOB_TABLES",
    "PROGRESS_CHANNEL",
    "CreatedJob",
    "Job",
    "JobConflictError",
    "JobInput",
    "JobLimits",
    "JobRefusedError",
    "JobState",
    "PartInfo",
    "StateStatistics",
    "UnknownJobError",
    "Worker",
    "WorkerSettings",
    "cancel_job",
    "create_job",
    "delete_job",
    "get_job",
    "job_channel",
    "job_statistics",
    "list_jobs",
    "list_parts",
    "read_part",
    "read_report",
    "sweep",
]
