"""Spans and metrics of `headrace.opentelemetry`, as the SDK of OpenTelemetry gets them."""

from __future__ import annotations

import asyncio
import io
import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NoOpTracerProvider, SpanKind, StatusCode

import headrace
from headrace.opentelemetry import instrument, uninstrument


@dataclass
class Telemetry:
    """The providers of a test, and what they have got."""

    tracer_provider: TracerProvider
    meter_provider: MeterProvider
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader

    def instrument(self, target: Any = None, **options: Any) -> None:
        instrument(target, tracer_provider=self.tracer_provider, meter_provider=self.meter_provider, **options)

    @property
    def tracer(self) -> Any:
        return self.tracer_provider.get_tracer("test")

    def take(self) -> list[ReadableSpan]:
        spans = list(self.exporter.get_finished_spans())
        self.exporter.clear()
        return spans

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.exporter.get_finished_spans()]

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        metrics = [
            metric
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracer_provider, meter_provider = TracerProvider(), MeterProvider([reader])
    tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield Telemetry(tracer_provider, meter_provider, exporter, reader)
    uninstrument()
    meter_provider.shutdown()
    tracer_provider.shutdown()


def attributes_of(span: ReadableSpan) -> Mapping[str, Any]:
    return dict(span.attributes or {})


async def test_the_span_of_a_query(
    conn: headrace.Connection, telemetry: Telemetry, connect_kwargs: dict[str, Any]
) -> None:
    telemetry.instrument(conn)
    await conn.fetchval("SELECT $1::int FROM pg_class LIMIT 1", 1)
    (span,) = telemetry.take()
    assert span.name == "SELECT pg_class"
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    assert attributes_of(span) == {
        "db.system.name": "postgresql",
        "db.namespace": connect_kwargs["database"],
        "db.query.summary": "SELECT pg_class",
        "db.query.text": "SELECT $1::int FROM pg_class LIMIT 1",
        "server.address": connect_kwargs["host"],
        "server.port": connect_kwargs["port"],
        "network.peer.address": "127.0.0.1",
        "network.peer.port": connect_kwargs["port"],
    }
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "headrace"
    uninstrument(conn)
    await conn.fetchval("SELECT 1")
    assert telemetry.take() == []


async def test_every_kind_of_operation_on_a_connection(conn: headrace.Connection, telemetry: Telemetry) -> None:
    await conn.execute("CREATE TEMP TABLE t (a int)")
    telemetry.instrument(conn)
    await conn.executemany("INSERT INTO t VALUES ($1)", [(1,), (2,)])
    await conn.executemany("INSERT INTO t VALUES ($1)", [(3,)])  # one is no batch
    await conn.executemany("INSERT INTO t VALUES ($1)", ((n,) for n in range(3)))
    assert [row async for row in conn.fetch_each("SELECT $1::int", [(n,) for n in range(300)])]
    statement = await conn.prepare("SELECT a FROM t")
    await statement.fetch()
    async with conn.transaction():
        async for _ in conn.cursor("SELECT a FROM t"):
            pass
        async with conn.transaction():
            await conn.execute("DELETE FROM t")
    await conn.copy_to_table("t", source=b"9\n")
    await conn.copy_from_query("SELECT a FROM t WHERE a > $1", 5, output=io.BytesIO())
    spans = {span.name: attributes_of(span) for span in telemetry.take()}
    asked_for_the_copy = {"SELECT", "SELECT pg_catalog.unnest"}  # its argument becomes a constant
    assert set(spans) - asked_for_the_copy == {
        "BATCH INSERT t",
        "INSERT t",
        "BATCH SELECT",
        "PREPARE SELECT t",
        "SELECT t",
        "BEGIN",
        "SAVEPOINT",
        "DELETE t",
        "COMMIT",
        "COPY t",
        "COPY SELECT t",
    }
    assert spans["BATCH INSERT t"]["db.operation.batch.size"] == 3
    assert spans["BATCH SELECT"]["db.operation.batch.size"] == 300
    assert "db.operation.batch.size" not in spans["INSERT t"]
    copied = spans["COPY t"]
    assert (copied["db.operation.name"], copied["db.collection.name"]) == ("COPY", "t")
    assert copied["db.query.summary"] == "COPY t"
    assert "db.collection.name" not in spans["SELECT t"]
    # The arguments of a COPY are constants in its text.
    assert "WHERE a > (?::integer)" in spans["COPY SELECT t"]["db.query.text"]
    assert "5" not in spans["COPY SELECT t"]["db.query.text"]


async def test_query_texts_and_parameters(connect: Any, telemetry: Telemetry) -> None:
    async def text_and_parameters(query: str, *args: Any, **options: Any) -> tuple[Any, dict[str, Any]]:
        conn = await connect()
        telemetry.instrument(conn, **options)
        await conn.execute(query, *args)
        (span,) = telemetry.take()
        found = attributes_of(span)
        return found.get("db.query.text"), {key: value for key, value in found.items() if "parameter" in key}

    plain, parametrised = "SELECT 1, 'secret'", "SELECT 1, $1::text, $2::int"
    assert await text_and_parameters(plain) == ("SELECT ?, ?", {})
    assert await text_and_parameters(parametrised, "secret", 5) == (parametrised, {})
    assert await text_and_parameters(plain, capture_query_text="raw") == (plain, {})
    assert await text_and_parameters(parametrised, "secret", 5, capture_query_text=False) == (None, {})
    assert await text_and_parameters(parametrised, "secret", 5, capture_parameters=True) == (
        parametrised,
        {"db.query.parameter.0": "secret", "db.query.parameter.1": "5"},
    )


async def test_an_argument_without_a_text(conn: headrace.Connection, telemetry: Telemetry) -> None:
    class Unprintable(int):
        def __str__(self) -> str:
            raise LookupError

    telemetry.instrument(conn, capture_parameters=True)
    await conn.fetchval("SELECT $1::int, $2::int", Unprintable(1), 2)
    (span,) = telemetry.take()
    found = attributes_of(span)
    assert "db.query.parameter.0" not in found
    assert found["db.query.parameter.1"] == "2"


async def test_errors(conn: headrace.Connection, telemetry: Telemetry) -> None:
    telemetry.instrument(conn)
    await conn.execute("CREATE TEMP TABLE t (a text PRIMARY KEY)")
    await conn.execute("INSERT INTO t VALUES ($1)", "secret")
    telemetry.take()
    with pytest.raises(headrace.UniqueViolationError):
        await conn.execute("INSERT INTO t VALUES ($1)", "secret")
    (span,) = telemetry.take()
    found = attributes_of(span)
    assert (found["db.response.status_code"], found["error.type"]) == ("23505", "23505")
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "headrace.exceptions.UniqueViolationError"
    assert "secret" not in span.to_json()
    with pytest.raises(headrace.DataError):
        await conn.fetch("SELECT $1::int", "x")
    (span,) = telemetry.take()
    found = attributes_of(span)
    assert found["error.type"] == "headrace.exceptions.ArgumentError"
    assert "db.response.status_code" not in found
    uninstrument(conn)
    telemetry.instrument(conn, capture_parameters=True)
    with pytest.raises(headrace.UniqueViolationError):
        await conn.execute("INSERT INTO t VALUES ($1)", "secret")
    (span,) = telemetry.take()
    assert span.status.description is not None
    assert "secret" in span.status.description
    assert [event.name for event in span.events] == ["exception"]


async def test_an_error_without_a_text_ends_the_span_too(conn: headrace.Connection, telemetry: Telemetry) -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise AssertionError

    def rows() -> Any:
        raise Unprintable
        yield

    await conn.execute("CREATE TEMPORARY TABLE t (a int)")
    telemetry.instrument(conn, capture_parameters=True)
    with pytest.raises(Unprintable):
        await conn.copy_records_to_table("t", records=rows())
    assert [span.name for span in telemetry.take()][-1] == "COPY t"


async def test_time_outs_and_cancellations(conn: headrace.Connection, pool: Any, telemetry: Telemetry) -> None:
    shared = await pool(min_size=1, max_size=1)
    for target in (conn, shared):
        telemetry.instrument(target)
        with pytest.raises(TimeoutError):
            await target.fetch("SELECT pg_sleep(60)", timeout=0.05)
        (span,) = telemetry.take()
        assert (span.status.status_code, attributes_of(span)["error.type"]) == (StatusCode.ERROR, "TimeoutError")
        task = asyncio.create_task(target.fetch("SELECT pg_sleep(60)"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (span,) = telemetry.take()
        assert span.status.status_code is StatusCode.ERROR
        assert attributes_of(span)["error.type"] == "asyncio.exceptions.CancelledError"


async def test_spans_of_calls_that_share_connections_are_children_of_their_callers(
    pool: Any, telemetry: Telemetry
) -> None:
    shared = await pool(min_size=1, max_size=1)
    telemetry.instrument(shared, capture_parameters=True)

    async def caller(number: int) -> None:
        with telemetry.tracer.start_as_current_span(f"caller {number}"):
            await shared.fetchval("SELECT $1::int", number)
            async for _ in shared.fetchval_each("SELECT $1::int", [(number,), (number,)]):
                pass
            async with shared.acquire() as leased, leased.transaction():
                await asyncio.gather(*(leased.fetchval("SELECT $1::int", number) for _ in range(3)))

    await asyncio.gather(*(caller(number) for number in range(20)))
    spans = telemetry.take()
    callers = {span.context.span_id: span.name for span in spans if span.name.startswith("caller")}
    assert len(callers) == 20
    for name in callers.values():
        children = [span for span in spans if span.parent is not None and callers.get(span.parent.span_id) == name]
        assert sorted(span.name for span in children) == ["BATCH SELECT", "BEGIN", "COMMIT", *["SELECT"] * 4]
        numbers = {attributes_of(span).get("db.query.parameter.0") for span in children if span.name == "SELECT"}
        assert numbers == {name.split()[1]}


async def test_a_loader_has_a_span_for_each_statement(pool: Any, telemetry: Telemetry) -> None:
    shared = await pool(min_size=1, max_size=1)
    telemetry.instrument(shared)
    loader = headrace.Loader(shared, "SELECT n FROM unnest($1::int[]) AS t (n)", key="n")

    async def caller(number: int) -> None:
        with telemetry.tracer.start_as_current_span(f"caller {number}"):
            await loader.load(number)

    await asyncio.gather(*(caller(number) for number in range(10)))
    spans = telemetry.take()
    (statement,) = [span for span in spans if span.name == "SELECT unnest"]
    (first,) = [span for span in spans if span.name == "caller 0"]
    assert statement.parent is not None
    assert statement.parent.span_id == first.context.span_id


async def test_a_global_instrumentation_holds_for_open_and_later_ones(
    connect: Any, pool: Any, telemetry: Telemetry
) -> None:
    before, shared = await connect(), await pool(min_size=1, max_size=1)
    telemetry.instrument()
    after = await connect()
    await before.fetchval("SELECT 1")
    await after.fetchval("SELECT 2")
    await shared.fetchval("SELECT 3")
    assert telemetry.names == ["SELECT", "SELECT", "SELECT"]
    uninstrument()
    telemetry.take()
    for each in (before, after, shared):
        await each.fetchval("SELECT 4")
    assert telemetry.names == []


async def test_spans_of_connections_are_an_option(telemetry: Telemetry, connect_kwargs: dict[str, Any]) -> None:
    shared = headrace.create_pool(**connect_kwargs, min_size=0, max_size=1)
    telemetry.instrument(shared, connection_spans=True)
    async with shared, shared.acquire() as leased:
        await leased.execute("SELECT 1")
    spans = {span.name: attributes_of(span) for span in telemetry.take()}
    assert set(spans) == {"connect", "pool.acquire", "SELECT"}
    assert spans["pool.acquire"]["server.port"] == connect_kwargs["port"]
    assert spans["connect"]["network.peer.address"] == "127.0.0.1"


async def test_the_schema_that_a_connection_asks_for_is_in_the_namespace(
    connect: Any, telemetry: Telemetry, connect_kwargs: dict[str, Any]
) -> None:
    conn = await connect(server_settings={"search_path": "shop, public"})
    telemetry.instrument(conn)
    await conn.execute("SELECT 1")
    (span,) = telemetry.take()
    assert attributes_of(span)["db.namespace"] == f"{connect_kwargs['database']}|shop"


async def test_a_sampler_that_drops_spans(pool: Any, telemetry: Telemetry) -> None:
    shared = await pool(min_size=1, max_size=1)
    provider = TracerProvider(sampler=ALWAYS_OFF)
    provider.add_span_processor(SimpleSpanProcessor(telemetry.exporter))
    instrument(shared, tracer_provider=provider, meter_provider=telemetry.meter_provider, capture_parameters=True)

    class Unprintable(str):
        def __str__(self) -> str:
            raise AssertionError("the arguments of a span that is not recorded are not read")

    await shared.fetchval("SELECT $1::text", Unprintable("a"))
    assert telemetry.take() == []
    (point,) = telemetry.points("db.client.operation.duration")
    assert point.count == 1


async def test_a_required_parent(conn: headrace.Connection, telemetry: Telemetry) -> None:
    telemetry.instrument(conn, parent_required=True)
    dropping = TracerProvider(sampler=ALWAYS_OFF).get_tracer("test")
    await conn.execute("SELECT 1")
    with dropping.start_as_current_span("request that is not sampled"):
        await conn.execute("SELECT 2")
    assert telemetry.take() == []
    with telemetry.tracer.start_as_current_span("request"):
        await conn.execute("SELECT 3")
    query, request = telemetry.take()
    assert (query.name, request.name) == ("SELECT", "request")
    assert query.parent is not None
    assert query.parent.span_id == request.context.span_id
    (point,) = telemetry.points("db.client.operation.duration")
    assert point.count == 3  # metrics are of all calls


async def test_a_required_parent_holds_for_spans_of_connections(
    telemetry: Telemetry, connect_kwargs: dict[str, Any]
) -> None:
    telemetry.instrument(connection_spans=True, parent_required=True)
    await (await headrace.connect(**connect_kwargs)).close()
    assert telemetry.take() == []
    with telemetry.tracer.start_as_current_span("request"):
        await (await headrace.connect(**connect_kwargs)).close()
    assert [span.name for span in telemetry.take()] == ["connect", "request"]


async def test_providers_that_do_nothing_cost_nothing(conn: headrace.Connection, telemetry: Telemetry) -> None:
    instrument(conn, tracer_provider=NoOpTracerProvider(), meter_provider=NoOpMeterProvider())
    assert conn._driver.observer is None
    with pytest.raises(headrace.InterfaceError, match="instrumented already"):
        telemetry.instrument(conn)
    uninstrument(conn)
    telemetry.instrument(conn)
    await conn.execute("SELECT 1")
    assert telemetry.names == ["SELECT"]


async def test_metrics_without_spans_and_spans_without_metrics(conn: headrace.Connection, telemetry: Telemetry) -> None:
    instrument(conn, tracer_provider=NoOpTracerProvider(), meter_provider=telemetry.meter_provider)
    await conn.execute("SELECT 1")
    uninstrument(conn)
    instrument(conn, tracer_provider=telemetry.tracer_provider, meter_provider=NoOpMeterProvider())
    await conn.execute("SELECT 2")
    with pytest.raises(headrace.DivisionByZeroError):
        await conn.execute("SELECT 1 / 0")
    assert [span.status.status_code for span in telemetry.take()] == [StatusCode.UNSET, StatusCode.ERROR]
    (point,) = telemetry.points("db.client.operation.duration")
    assert point.count == 1


async def test_suppressed_instrumentation(conn: headrace.Connection, telemetry: Telemetry) -> None:
    telemetry.instrument(conn)
    with suppress_instrumentation():
        await conn.execute("SELECT 1")
    assert telemetry.take() == []
    assert telemetry.points("db.client.operation.duration") == []


async def test_the_durations_of_operations(pool: Any, telemetry: Telemetry, connect_kwargs: dict[str, Any]) -> None:
    shared = await pool(min_size=1, max_size=1)
    telemetry.instrument(shared)
    for number in range(3):
        await shared.fetchval("SELECT $1::int FROM pg_class LIMIT 1", number)
    with pytest.raises(headrace.UndefinedTableError):
        await shared.fetch("SELECT 1 FROM missing")
    points = {point.attributes["db.query.summary"]: point for point in telemetry.points("db.client.operation.duration")}
    point = points["SELECT pg_class"]
    assert point.count == 3
    assert tuple(point.explicit_bounds) == (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
    assert dict(point.attributes) == {
        "db.system.name": "postgresql",
        "db.namespace": connect_kwargs["database"],
        "db.query.summary": "SELECT pg_class",
        "server.address": connect_kwargs["host"],
        "server.port": connect_kwargs["port"],
    }
    failed = dict(points["SELECT missing"].attributes)
    assert (failed["error.type"], failed["db.response.status_code"]) == ("42P01", "42P01")


async def test_the_metrics_of_a_pool(telemetry: Telemetry, connect_kwargs: dict[str, Any]) -> None:
    shared = headrace.create_pool(**connect_kwargs, min_size=1, max_size=2)
    telemetry.instrument(shared)
    name = f"{connect_kwargs['host']}:{connect_kwargs['port']}/{connect_kwargs['database']}"

    def values(metric: str) -> dict[str, int]:
        points = telemetry.points(f"db.client.connection.{metric}")
        assert {point.attributes["db.client.connection.pool.name"] for point in points} <= {name}
        return {point.attributes.get("db.client.connection.state", ""): point.value for point in points}

    def count(metric: str) -> int:
        return sum(point.count for point in telemetry.points(f"db.client.connection.{metric}"))

    async with shared:
        assert values("count") == {"idle": 1, "used": 0}
        assert (values("max"), values("idle.max"), values("idle.min")) == ({"": 2}, {"": 2}, {"": 1})
        async with shared.acquire(), shared.acquire():
            assert values("count") == {"idle": 0, "used": 2}
            waiting = asyncio.create_task(shared.acquire(timeout=0.1)._acquire())  # type: ignore[arg-type]
            await asyncio.sleep(0)
            assert values("pending_requests") == {"": 1}
            with pytest.raises(TimeoutError):
                await waiting
        assert values("timeouts") == {"": 1}
        assert (count("create_time"), count("wait_time"), count("use_time")) == (2, 2, 2)
    assert values("count") == {}  # the pool is closed


async def test_two_pools_of_one_database_have_names_of_their_own(pool: Any, telemetry: Telemetry) -> None:
    first, second, third = [await pool(min_size=1, max_size=1) for _ in range(3)]
    telemetry.instrument()
    points = telemetry.points("db.client.connection.max")
    names = {point.attributes["db.client.connection.pool.name"] for point in points}
    assert len(names) == 3
    assert len([name for name in names if "#" in name]) == 2
    uninstrument()
    del first, second
    telemetry.instrument(third, pool_name="orders")
    points = telemetry.points("db.client.connection.max")
    assert [point.attributes["db.client.connection.pool.name"] for point in points] == ["orders"]


async def test_a_target_is_instrumented_once(conn: headrace.Connection, pool: Any, telemetry: Telemetry) -> None:
    shared = await pool(min_size=1, max_size=1)
    telemetry.instrument(shared)
    with pytest.raises(headrace.InterfaceError, match="is instrumented already"):
        telemetry.instrument(shared)
    async with shared.acquire() as leased:
        with pytest.raises(headrace.InterfaceError, match="is instrumented already, by its pool"):
            telemetry.instrument(leased)
    with pytest.raises(headrace.InterfaceError, match="some connections or pools are instrumented already"):
        telemetry.instrument()
    uninstrument(shared)
    uninstrument(shared)
    telemetry.instrument()
    with pytest.raises(headrace.InterfaceError, match="every connection and pool is instrumented already"):
        telemetry.instrument(conn)


@pytest.mark.parametrize(
    ("target", "options", "error", "match"),
    [
        ("postgresql://", {}, headrace.InterfaceError, "target is expected to be a pool, a connection or None"),
        (None, {"capture_query_text": "all"}, ValueError, "capture_query_text is expected to be True, False or"),
        (None, {"pool_name": "orders"}, ValueError, "pool_name is expected to be a str, and the name of one pool"),
    ],
)
def test_bad_arguments(target: Any, options: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        instrument(target, **options)


async def test_the_instrumentor_for_automatic_instrumentation(conn: headrace.Connection, telemetry: Telemetry) -> None:
    from importlib.metadata import EntryPoint

    point = EntryPoint(
        "headrace", "headrace.opentelemetry.instrumentor:HeadraceInstrumentor", "opentelemetry_instrumentor"
    )
    instrumentor = point.load()()
    instrumentor.instrument(tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)
    await conn.execute("SELECT 1")
    instrumentor.uninstrument()
    await conn.execute("SELECT 2")
    assert telemetry.names == ["SELECT"]


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)


def test_nothing_is_imported_without_it() -> None:
    done = run("import headrace, sys; print([name for name in sys.modules if 'opentelemetry' in name])")
    assert done.stdout == "[]\n", done.stderr


def test_the_missing_extra_is_named() -> None:
    done = run("import sys; sys.modules['opentelemetry'] = None\nimport headrace.opentelemetry")
    assert (
        "ImportError: headrace.opentelemetry needs the API of OpenTelemetry: pip install 'headrace[opentelemetry]'"
        in (done.stderr)
    )


async def test_without_an_sdk_spans_go_nowhere_and_the_log_says_so(
    conn: headrace.Connection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "opentelemetry.sdk" else find(name))
    with caplog.at_level(logging.WARNING, "headrace.opentelemetry"):
        instrument(conn)
    try:
        assert await conn.fetchval("SELECT 1") == 1
    finally:
        uninstrument(conn)
    (record,) = caplog.records
    assert "pip install opentelemetry-sdk" in record.getMessage()


def test_no_warning_if_another_provider_than_the_sdks_is_set(
    telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", lambda: telemetry.tracer_provider)
    instrument()
    assert caplog.records == []
