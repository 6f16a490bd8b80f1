"""The activity of the service, second by second: throughput, latency and the state of the pool.

Each process takes a sample every second and notifies it on a channel of the database while it is busy, and once when
it has become idle. So every process knows the activity of all, and the operator's page can be asked of any of them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Final, Protocol

from prometheus_client import Histogram

import headrace
from storefront.checkpoint import Tally
from storefront.database import AnyPool, Database
from storefront.service.events import ACTIVITY_CHANNEL, EventHub
from storefront.service.metrics import Metrics
from storefront.service.running import RunningStreams

log = logging.getLogger(__name__)

INTERVAL: Final = 1.0
"""Seconds between two samples."""

KEPT: Final = 90
"""The number of samples of a process that are kept."""

MOST_JOBS: Final = 1_000
"""The number of jobs whose progress is remembered, and of the steps of their progress."""

MOST_PROCESSES: Final = 32
"""The number of processes whose samples are kept. The one that was silent for longest makes room."""

STALE: Final = 3_600.0
"""Seconds of silence after which a process is not shown any more."""


@dataclass(frozen=True, slots=True)
class PoolState:
    """The state of a pool, as `pool.stats()` gives it."""

    size: int
    max_size: int
    idle: int
    leased: int
    in_flight: int
    queued: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Sample:
    """The work of a process since the sample before, and the state of its pool."""

    process: str
    number: int
    """The number of the sample in its process, from 1."""
    at: float
    """The time in seconds since 1970."""
    requests: float
    """Requests answered in a second."""
    ids: float
    """Ids of batches answered in a second."""
    skus: float
    """SKUs sent in a second."""
    running: int
    """Answers that are being streamed."""
    request_ms: float | None
    """The mean time of the requests answered since the sample before, or None if there was none."""
    database_ms: float | None
    """The time that a small statement took through the pool, the wait for a connection included."""
    pool: PoolState

    @property
    def is_idle(self) -> bool:
        """True if nothing was done and nothing is running."""
        return not (self.requests or self.ids or self.skus or self.running)

    @property
    def event_id(self) -> str:
        """The id of the event that has this sample."""
        return f"{self.process}/{self.number}"

    def encoded(self) -> str:
        """Return the sample as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def decoded(cls, text: str) -> Sample | None:
        """Return the sample in a notification, or None if there is none in it.

        Anybody who may connect to the database can send a notification, so nothing in it is trusted.
        """
        try:
            members = json.loads(text)
            pool = {name: int(members["pool"][name]) for name in PoolState.__slots__}
            process = str(members["process"])
            # It becomes a part of the id of an event, which must not have a line break.
            if not process.isprintable() or len(process) > 100:
                return None
            return cls(
                process=process,
                number=int(members["number"]),
                at=_finite(members["at"]),
                requests=_finite(members["requests"]),
                ids=_finite(members["ids"]),
                skus=_finite(members["skus"]),
                running=int(members["running"]),
                request_ms=_finite_or_none(members["request_ms"]),
                database_ms=_finite_or_none(members["database_ms"]),
                pool=PoolState(**pool),
            )
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return None


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("a sample has finite numbers")
    return float(value)


def _finite_or_none(value: float | None) -> float | None:
    return None if value is None else _finite(value)


class Throughput:
    """Counts the ids that are answered and the SKUs that are sent, while batches run."""

    def __init__(self) -> None:
        self._past = Tally()
        self._running: list[Tally] = []

    @contextmanager
    def count(self, tally: Tally) -> Iterator[None]:
        """Count what is added to a tally, from the beginning of the block and after it."""
        self._running.append(tally)
        try:
            yield
        finally:
            # Tallies with the same counts are equal.
            self._running = [each for each in self._running if each is not tally]
            self._past.lines += tally.lines
            self._past.skus += tally.skus

    @property
    def ids(self) -> int:
        """The ids answered so far."""
        return self._past.lines + sum(tally.lines for tally in self._running)

    @property
    def skus(self) -> int:
        """The SKUs sent so far."""
        return self._past.skus + sum(tally.skus for tally in self._running)


@dataclass(frozen=True, slots=True)
class _Counts:
    """The counters of a process at one moment."""

    at: float
    requests: float
    seconds: float
    ids: float
    skus: float


class Sampler:
    """Makes samples of the counters of this process."""

    def __init__(self, metrics: Metrics, database: Database, running: RunningStreams, throughput: Throughput) -> None:
        self.process = f"{socket.gethostname()}:{os.getpid()}"
        self._metrics = metrics
        self._database = database
        self._running = running
        self._throughput = throughput
        self._number = 0
        self._before = self._counts(time.monotonic())

    def sample(self, database_ms: float | None = None, *, now: float | None = None) -> Sample:
        """Return what was done since the last sample. `now` is the time of a monotonic clock."""
        before = self._before
        counts = self._before = self._counts(time.monotonic() if now is None else now)
        seconds = max(counts.at - before.at, 0.001)
        requests = counts.requests - before.requests
        self._number += 1
        return Sample(
            process=self.process,
            number=self._number,
            at=time.time(),
            requests=requests / seconds,
            ids=(counts.ids - before.ids) / seconds,
            skus=(counts.skus - before.skus) / seconds,
            running=len(self._running),
            request_ms=(counts.seconds - before.seconds) / requests * 1_000 if requests else None,
            database_ms=database_ms,
            pool=self.pool_state(),
        )

    def pool_state(self) -> PoolState:
        """Return the present state of the pool, or of the pools of all hosts together."""
        pools = self._database.pools().values()
        return PoolState(**{name: sum(getattr(stats, name) for stats in pools) for name in PoolState.__slots__})

    def _counts(self, at: float) -> _Counts:
        seconds = self._metrics.request_seconds
        return _Counts(
            at,
            requests=_total(seconds, "_count"),
            seconds=_total(seconds, "_sum"),
            ids=self._throughput.ids,
            skus=self._throughput.skus,
        )


def _total(seconds: Histogram, ending: str) -> float:
    """Return the sum of a histogram's samples whose names have this ending, without those of event streams.

    A stream lasts as long as its page is open.
    """
    return sum(
        sample.value
        for family in seconds.collect()
        for sample in family.samples
        if sample.name.endswith(ending) and not sample.labels["route"].endswith("/events")
    )


@dataclass(frozen=True, slots=True)
class JobStep:
    """A part of a job that was answered, by any worker."""

    at: float
    """The time in seconds since 1970 at which it was heard of."""
    ids: int
    skus: int


class ActivityLog:
    """The last samples of all processes of the service, and the last parts of jobs that workers have answered."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[Sample]] = {}
        self._latest_id: str | None = None
        self._jobs: dict[str, tuple[int, int]] = {}
        self.job_steps: deque[JobStep] = deque(maxlen=MOST_JOBS)

    def add(self, payload: str) -> None:
        """Add the sample in a notification, if there is one in it."""
        sample = Sample.decoded(payload)
        if sample is None:
            return
        if sample.process not in self._samples and len(self._samples) >= MOST_PROCESSES:
            del self._samples[min(self._samples, key=lambda process: self._samples[process][-1].at)]
        self._samples.setdefault(sample.process, deque(maxlen=KEPT)).append(sample)
        self._latest_id = sample.event_id

    def by_process(self) -> dict[str, list[Sample]]:
        """Return the samples of each process, ordered by time. A process that has long been silent is left out."""
        shown = {process: list(samples) for process, samples in sorted(self._samples.items())}
        last = max((samples[-1].at for samples in shown.values()), default=0.0)
        return {process: samples for process, samples in shown.items() if last - samples[-1].at < STALE}

    def add_progress(self, payload: str, now: float | None = None) -> None:
        """Add what a job has gained since it was last heard of. `now` is the time in seconds since 1970."""
        try:
            members = json.loads(payload)
            job, state = str(members["job_id"]), str(members["state"])
            ids, skus = int(members.get("lines_done", 0)), int(members.get("skus", 0))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return
        known = self._jobs.pop(job, None)
        # A job that was begun before this process is counted from here on.
        if known is not None and ids > known[0]:
            at = time.time() if now is None else now
            self.job_steps.append(JobStep(at, ids - known[0], max(skus - known[1], 0)))
        if state in ("queued", "running"):
            self._jobs[job] = (ids, skus)
            if len(self._jobs) > MOST_JOBS:
                del self._jobs[next(iter(self._jobs))]

    @property
    def latest_id(self) -> str | None:
        """The id of the event with the sample that came last, or None before the first."""
        return self._latest_id


class Reporting(Protocol):
    """The part of a service that its activity is reported with."""

    sampler: Sampler
    events: EventHub

    @property
    def pool(self) -> AnyPool:
        """It is notified."""


async def report_activity(service: Reporting, pause: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
    """Notify a sample every second while the process is busy, until the task is cancelled."""
    was_idle, database_ms = False, None
    while True:
        await pause(INTERVAL)
        sample = service.sampler.sample(database_ms)
        if not (sample.is_idle and was_idle):
            database_ms = await notify_sample(service.pool, sample, service.events)
        was_idle = sample.is_idle


async def notify_sample(pool: AnyPool, sample: Sample, hub: EventHub) -> float | None:
    """Notify a sample to all processes. Return how many milliseconds that took, or None if it has failed.

    If the database does not answer, the pages of this process get the sample all the same.
    """
    began = time.perf_counter()
    try:
        await pool.execute("SELECT pg_notify($1, $2)", ACTIVITY_CHANNEL, sample.encoded(), timeout=INTERVAL * 10)
    except (headrace.PostgresError, headrace.InterfaceError, OSError) as error:
        log.warning("the activity was not notified: %s: %s", type(error).__name__, error)
        hub.publish(ACTIVITY_CHANNEL, sample.encoded())
        return None
    return (time.perf_counter() - began) * 1_000
