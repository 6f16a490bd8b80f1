"""``python -m bench.opentelemetry``: the cost of spans and metrics, beside the same program without OpenTelemetry.

All configurations run the same programs in one process, by turns. The figures are the processor time of the client,
with that of the thread that exports. Medians over the rounds are shown.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import process_time
from typing import Annotated, Any

import typer
from opentelemetry.metrics import MeterProvider as AnyMeterProvider
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import NoOpTracerProvider, SpanKind, Tracer
from opentelemetry.trace import TracerProvider as AnyTracerProvider
from rich.console import Console
from rich.table import Table

import headrace
from bench.server import embedded_server
from headrace.opentelemetry import instrument, uninstrument

QUERY = "SELECT $1::int AS number, 'a text' AS label"
CALLS_OF_A_GATHER = 1_000


class NoExporter(SpanExporter):
    """Drops spans."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Do nothing."""
        return SpanExportResult.SUCCESS


class EmptyHook(headrace.QueryHook):
    """A query hook that does nothing: headrace's own part."""


# -- the configurations ---------------------------------------------------------------------------------------------


@dataclass
class Configuration:
    """A way to observe a program: `on()` and `off()`."""

    name: str
    on: Callable[[], None]
    off: Callable[[], None]


def _nothing() -> None:
    pass


def _instrumented(
    name: str, tracers: AnyTracerProvider | None, meters: AnyMeterProvider | None, *, parent_required: bool = False
) -> Configuration:
    def on() -> None:
        instrument(tracer_provider=tracers, meter_provider=meters, parent_required=parent_required)

    return Configuration(name, on, uninstrument)


def _tracers(processor: type[BatchSpanProcessor | SimpleSpanProcessor], sampler: Sampler | None) -> TracerProvider:
    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(processor(NoExporter()))
    return provider


def configurations() -> list[Configuration]:
    """Return the configurations; the first one is that without OpenTelemetry."""
    empty = EmptyHook()
    no_tracers, no_meters = NoOpTracerProvider(), NoOpMeterProvider()
    meters = MeterProvider([InMemoryMetricReader()])
    batched = _tracers(BatchSpanProcessor, None)
    hundredth = _tracers(BatchSpanProcessor, ParentBased(TraceIdRatioBased(0.01)))
    return [
        Configuration("off", _nothing, _nothing),
        Configuration(
            "an empty query hook",
            lambda: headrace.add_query_hook(empty),
            lambda: headrace.remove_query_hook(empty),
        ),
        _instrumented("the API's providers that do nothing", no_tracers, no_meters),
        _instrumented("the API without an SDK", None, None),
        _instrumented("metrics", no_tracers, meters),
        _instrumented("spans, parent_required, no parent", batched, no_meters, parent_required=True),
        _instrumented("spans, none sampled", _tracers(BatchSpanProcessor, ParentBased(ALWAYS_OFF)), no_meters),
        _instrumented("spans, 1 % sampled", hundredth, no_meters),
        _instrumented("spans, all, BatchSpanProcessor", batched, no_meters),
        _instrumented("spans, all, SimpleSpanProcessor", _tracers(SimpleSpanProcessor, None), no_meters),
        _instrumented("spans, 1 % sampled, and metrics", hundredth, meters),
        _instrumented("spans, all, and metrics", batched, meters),
    ]


# -- the programs ---------------------------------------------------------------------------------------------------


@dataclass
class Program:
    """A program that makes `times` calls."""

    name: str
    run: Callable[[headrace.Pool[Any], headrace.Connection[Any], int], Awaitable[None]]
    times: int


async def pool_fetchrow(pool: headrace.Pool[Any], connection: headrace.Connection[Any], times: int) -> None:
    """Select a row on a pool, one call after the other."""
    for number in range(times):
        await pool.fetchrow(QUERY, number)


async def connection_fetchrow(pool: headrace.Pool[Any], connection: headrace.Connection[Any], times: int) -> None:
    """Select a row on a connection, one call after the other."""
    for number in range(times):
        await connection.fetchrow(QUERY, number)


async def gather(pool: headrace.Pool[Any], connection: headrace.Connection[Any], times: int) -> None:
    """Select a row on a pool, many at once."""
    for _ in range(times // CALLS_OF_A_GATHER):
        await asyncio.gather(*[pool.fetchrow(QUERY, number) for number in range(CALLS_OF_A_GATHER)])


async def fetch_each(pool: headrace.Pool[Any], connection: headrace.Connection[Any], times: int) -> None:
    """Execute a query for each of 1,000 elements; they are one operation."""
    for _ in range(times // CALLS_OF_A_GATHER):
        async for _rows in pool.fetch_each(QUERY, [(number,) for number in range(CALLS_OF_A_GATHER)]):
            pass


def programs() -> list[Program]:
    """Return the programs."""
    return [
        Program("pool.fetchrow", pool_fetchrow, 500),
        Program("connection.fetchrow", connection_fetchrow, 500),
        Program("gather of 1,000", gather, 2_000),
        Program("fetch_each of 1,000", fetch_each, 5_000),
    ]


# -- the SDK alone --------------------------------------------------------------------------------------------------


def sdk_alone(rounds: int) -> list[tuple[str, float]]:
    """Return the microseconds of the SDK's own calls, with the attributes that a look-up has here."""
    attributes = {
        "db.system.name": "postgresql",
        "db.namespace": "postgres",
        "server.address": "/tmp/server",
        "network.peer.address": "/tmp/server",
        "db.query.summary": "SELECT",
        "db.query.text": QUERY,
    }
    sampled = _tracers(BatchSpanProcessor, None).get_tracer("bench")
    dropped = _tracers(BatchSpanProcessor, ParentBased(ALWAYS_OFF)).get_tracer("bench")
    histogram = MeterProvider([InMemoryMetricReader()]).get_meter("bench").create_histogram("duration", "s")

    def with_span() -> None:
        with sampled.start_as_current_span("SELECT", kind=SpanKind.CLIENT) as span:
            for name, value in attributes.items():
                span.set_attribute(name, value)

    def started(tracer: Tracer) -> Callable[[], None]:
        return lambda: tracer.start_span("SELECT", kind=SpanKind.CLIENT, attributes=attributes).end()

    calls: list[tuple[str, Callable[[], object]]] = [
        ("start_as_current_span(), set_attribute() for each", with_span),
        ("start_span(attributes=...), end()", started(sampled)),
        ("the same, not sampled", started(dropped)),
        ("record() of a histogram", lambda: histogram.record(0.001, attributes)),
    ]
    samples: dict[str, list[float]] = {name: [] for name, _ in calls}
    for _ in range(rounds):
        for name, call in calls:
            gc.collect()
            began = process_time()
            for _ in range(2_000):
                call()
            samples[name].append((process_time() - began) / 2_000 * 1e6)
    return [(name, median(each)) for name, each in samples.items()]


# -- measuring ------------------------------------------------------------------------------------------------------


async def measure(dsn: str, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Run everything; returns the microseconds of a call by program and configuration."""
    logging.getLogger("headrace.opentelemetry").setLevel(logging.ERROR)  # it warns of providers that do nothing
    found: dict[str, dict[str, list[float]]] = {}
    ways = configurations()
    connection = await headrace.connect(dsn)
    async with headrace.create_pool(dsn, min_size=1, max_size=1) as pool:
        for program in programs():
            samples = found[program.name] = {each.name: [] for each in ways}
            for way in ways * (rounds + 1):
                way.on()
                try:
                    gc.collect()
                    began = process_time()
                    await program.run(pool, connection, program.times)
                    samples[way.name].append((process_time() - began) / program.times * 1e6)
                finally:
                    way.off()
            for each in samples.values():
                del each[0]  # statements were prepared in it
    await connection.close()
    return found


def main(rounds: Annotated[int, typer.Option(min=1, help="Samples of each configuration.")] = 15) -> None:
    """Measure the cost of spans and metrics on one server."""
    with embedded_server() as server:
        found = asyncio.run(measure(server.dsn, rounds))
    table = Table(title="microseconds of a call without OpenTelemetry, and what is added to them")
    table.add_column("configuration")
    for name in (*found, "query of 1 ms"):
        table.add_column(name, justify="right")
    for name in found["pool.fetchrow"]:
        cells, added = [], []
        for samples in found.values():
            off = median(samples["off"])
            more = median(each - without for each, without in zip(samples[name], samples["off"], strict=True))
            added.append(more)
            cells.append(f"{off:.2f}" if name == "off" else f"{more:+.2f} ({more / off:+.0%})")
        # The part of the caller's time, if the call takes 1 ms in all.
        cells.append("" if name == "off" else f"{added[0] / 1_000:+.1%}")
        table.add_row(name, *cells)
    console = Console(width=160)
    console.print(table)
    table = Table("the SDK alone", "microseconds")
    for name, microseconds in sdk_alone(rounds):
        table.add_row(name, f"{microseconds:.1f}")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
