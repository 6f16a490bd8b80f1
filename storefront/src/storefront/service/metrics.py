"""Metrics of the service in Prometheus's text format: the pool's statistics, and the service's own counters."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import headrace
from storefront.checkpoint import Tally
from storefront.jobs import JobState, StateStatistics
from storefront.service.running import RunningStreams

GAUGES = {
    "size": "Connections that can be used.",
    "idle": "Connections with nothing in flight that are not leased.",
    "leased": "Connections that are acquired now.",
    "opening": "Connections that are being opened.",
    "draining": "Connections that close once their requests are done.",
    "in_flight": "Queries that were sent and have not been answered.",
    "queued": "Queries that were given to a connection and have not been sent.",
    "waiting": "Callers that wait for a connection.",
}
COUNTERS = {
    "opened": "Connections opened.",
    "connect_errors": "Failed attempts to open a connection.",
    "acquire_count": "Leases of a connection.",
    "leaked": "Leases that were never given back.",
}


class PoolCollector(Collector):
    """Makes metrics of `pool.stats()` at each scrape."""

    def __init__(self, pool: headrace.Pool, running: RunningStreams) -> None:
        self._pool = pool
        self._running = running

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        stats = self._pool.stats()
        yield GaugeMetricFamily("storefront_streams_running", "Answers that are being streamed.", len(self._running))
        for name, text in GAUGES.items():
            yield GaugeMetricFamily(f"storefront_pool_{name}", text, getattr(stats, name))
        for name, text in COUNTERS.items():
            yield CounterMetricFamily(f"storefront_pool_{name}", text, getattr(stats, name))
        closed = CounterMetricFamily("storefront_pool_closed", "Connections closed, by reason.", labels=["reason"])
        for reason, count in stats.closed.items():
            closed.add_metric([reason], count)
        yield closed
        waits = stats.wait_time
        bounds = [*(repr(bound) for bound in waits.bounds), "+Inf"]
        buckets = list(zip(bounds, map(float, accumulate(waits.counts)), strict=True))
        yield HistogramMetricFamily(
            "storefront_pool_wait_seconds", "Time that callers waited for a connection.", buckets, waits.total
        )


class JobCollector(Collector):
    """Makes metrics of the statistics of jobs. All processes on the same database have the same."""

    def __init__(self, jobs: Mapping[JobState, StateStatistics] | None) -> None:
        self._jobs = jobs

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics. If the database has not answered, there is only the one that says so."""
        yield GaugeMetricFamily("storefront_database_up", "1 if the database answers.", float(self._jobs is not None))
        if self._jobs is None:
            return
        count = GaugeMetricFamily("storefront_jobs", "Jobs in the database, by state.", labels=["state"])
        oldest = GaugeMetricFamily(
            "storefront_job_oldest_seconds",
            "Time since the oldest unfinished job was created, by state; 0 if there is none.",
            labels=["state"],
        )
        for state, figures in self._jobs.items():
            count.add_metric([state], figures.jobs)
            if not state.has_ended:
                oldest.add_metric([state], figures.oldest)
        yield count
        yield oldest
        unfinished = [figures for state, figures in self._jobs.items() if not state.has_ended]
        for name, text, value in (
            (
                "lines_waiting",
                "Lines of unfinished jobs without an answer.",
                sum(each.lines_waiting for each in unfinished),
            ),
            ("parts", "Parts of results in the database.", sum(each.parts for each in self._jobs.values())),
            (
                "stored_bytes",
                "Bytes of compressed input and results in the database.",
                sum(each.stored_bytes for each in self._jobs.values()),
            ),
        ):
            yield GaugeMetricFamily(f"storefront_job_{name}", text, value)


class Metrics:
    """The counters of one process of the service."""

    def __init__(self, pool: headrace.Pool, running: RunningStreams) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(PoolCollector(pool, running))
        self.requests = Counter(
            "storefront_requests",
            "Requests answered, by route and status.",
            ["route", "status"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "storefront_request_seconds",
            "Time until the last byte of an answer.",
            ["route"],
            registry=self.registry,
        )
        self.batches = Counter("storefront_batches", "Batches, by outcome.", ["outcome"], registry=self.registry)
        self.batch_ids = Counter(
            "storefront_batch_ids", "Ids in batches, by outcome.", ["outcome"], registry=self.registry
        )
        self.skus = Counter("storefront_skus", "SKUs sent.", registry=self.registry)

    def count_batch(self, tally: Tally, outcome: str) -> None:
        """Count a batch that has ended."""
        self.batches.labels(outcome).inc()
        self.skus.inc(tally.skus)
        for name in ("products", "without_skus", "unknown", "malformed", "repeated"):
            self.batch_ids.labels("found" if name == "products" else name).inc(getattr(tally, name))

    def text(self, jobs: Mapping[JobState, StateStatistics] | None) -> bytes:
        """Return all metrics in Prometheus's text format. `jobs` is None if the database does not answer."""
        of_jobs = CollectorRegistry()
        of_jobs.register(JobCollector(jobs))
        return generate_latest(self.registry) + generate_latest(of_jobs)


class RequestMetrics:
    """ASGI middleware that counts requests, by route and status, and measures how long they take."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application and count the request, also if the client went away."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = "none"

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        started = time.perf_counter()
        try:
            await self._app(scope, receive, note_status)
        finally:
            metrics: Metrics = scope["app"].state.service.metrics
            # A path that is no route must not become a label, because there is no end to them.
            route = getattr(scope.get("route"), "path", "none")
            metrics.requests.labels(route, status).inc()
            metrics.request_seconds.labels(route).observe(time.perf_counter() - started)
