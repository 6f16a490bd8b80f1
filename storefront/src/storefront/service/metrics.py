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

from storefront.checkpoint import Tally
from storefront.database import Database, host_address
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


CLUSTER_COUNTERS = {
    "checks": "Checks of the hosts.",
    "missed": "Checks of a host without an answer in time.",
    "primary_changes": "How often a host has become the primary, the first one included.",
    "moved": "Calls that went to another host because theirs was lost.",
    "fallbacks": "Reads that the primary answered because no replica could.",
    "reads_known": "Reads by a replica that was known to have the last change of the catalogue.",
    "reads_probed": "Reads by a replica that was asked whether it has it.",
    "reads_discarded": "Answers that were thrown away because the replica did not have it.",
    "reads_primary": "Reads by the primary because no replica had it.",
}


class PoolCollector(Collector):
    """Makes metrics of `pool.stats()` at each scrape. If there are several hosts, a label tells whose pool it is."""

    def __init__(self, database: Database, running: RunningStreams) -> None:
        self._database = database
        self._running = running

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        yield GaugeMetricFamily("storefront_streams_running", "Answers that are being streamed.", len(self._running))
        several = self._database.has_replicas
        names = ["host"] if several else []
        pools = [([host] if several else [], stats) for host, stats in self._database.pools().items()]
        for kind, described in ((GaugeMetricFamily, GAUGES), (CounterMetricFamily, COUNTERS)):
            for name, text in described.items():
                family = kind(f"storefront_pool_{name}", text, labels=names)
                for host, stats in pools:
                    family.add_metric(host, getattr(stats, name))
                yield family
        closed = CounterMetricFamily(
            "storefront_pool_closed", "Connections closed, by reason.", labels=[*names, "reason"]
        )
        waited = HistogramMetricFamily(
            "storefront_pool_wait_seconds", "Time that callers waited for a connection.", labels=names
        )
        for host, stats in pools:
            for reason, count in stats.closed.items():
                closed.add_metric([*host, reason], count)
            waits = stats.wait_time
            bounds = [*(repr(bound) for bound in waits.bounds), "+Inf"]
            buckets = list(zip(bounds, map(float, accumulate(waits.counts)), strict=True))
            waited.add_metric(host, buckets, waits.total)
        yield closed
        yield waited


class HostCollector(Collector):
    """Makes metrics of the hosts of the database and of the cluster's counters, if there are several hosts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; none with one host."""
        stats = self._database.cluster_stats()
        if stats is None:
            return
        up = GaugeMetricFamily(
            "storefront_host_up", "1 if the host is used for its role.", labels=["host", "role", "state"]
        )
        lag = GaugeMetricFamily("storefront_host_lag_seconds", "How far a replica is behind.", labels=["host"])
        for info in self._database.hosts():
            host = host_address(info)
            up.add_metric([host, info.role or "", info.state], float(info.state == "up"))
            if info.role == "replica" and info.lag is not None:
                lag.add_metric([host], info.lag)
        yield up
        yield lag
        for name, text in CLUSTER_COUNTERS.items():
            yield CounterMetricFamily(f"storefront_cluster_{name}", text, getattr(stats, name))


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

    def __init__(self, database: Database, running: RunningStreams) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(PoolCollector(database, running))
        self.registry.register(HostCollector(database))
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
