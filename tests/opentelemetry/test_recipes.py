"""The hooks of docs/howto/tracing.md do what the page says. That they run at all is tested with all other pages."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import sentry_sdk
import structlog
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

import headrace
from tests.test_docs import PYTHON

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "tracing.md"


def hook_of_the_page(name: str, **names: Any) -> Any:
    """Return a class that the page defines."""
    for found in PYTHON.finditer(PAGE.read_text(encoding="utf-8")):
        for statement in ast.parse(found[1]).body:
            if isinstance(statement, ast.ClassDef) and statement.name == name:
                names["headrace"] = headrace
                exec(compile(ast.Module([statement], []), str(PAGE), "exec"), names)
                return names[name]
    raise LookupError(f"{PAGE} does not define {name}")


class Kept(Transport):
    """A transport that sends nothing."""

    def __init__(self, options: dict[str, Any] | None = None) -> None:
        super().__init__(options)
        self.envelopes: list[Envelope] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.envelopes.append(envelope)


@pytest.fixture
def sentry() -> Iterator[Kept]:
    kept = Kept()
    scope = sentry_sdk.get_global_scope()
    before = scope.client
    scope.set_client(
        sentry_sdk.Client(
            dsn="https://key@sentry.example.com/1",
            transport=kept,
            traces_sample_rate=1.0,
            default_integrations=False,
            auto_enabling_integrations=False,
            enable_backpressure_handling=False,
        )
    )
    yield kept
    scope.set_client(before)


async def test_sentry(pool: Any, sentry: Kept) -> None:
    shared = await pool(min_size=1, max_size=1)
    shared.add_query_hook(hook_of_the_page("SentryHook", sentry_sdk=sentry_sdk)())
    await shared.fetchval("SELECT 'outside of a transaction'")
    with sentry_sdk.start_transaction(name="checkout"):
        await shared.fetchval("SELECT $1::int", 5)
        with pytest.raises(headrace.DivisionByZeroError):
            await shared.fetchval("SELECT 1/0")
    (event,) = [item.payload.json for envelope in sentry.envelopes for item in envelope.items]
    assert event is not None
    assert event["transaction"] == "checkout"
    assert [(span["op"], span["description"], span["status"]) for span in event["spans"]] == [
        ("db", "SELECT $1::int", "ok"),
        ("db", "SELECT 1/0", "internal_error"),
    ]
    root = event["contexts"]["trace"]["span_id"]
    assert {span["parent_span_id"] for span in event["spans"]} == {root}
    assert event["spans"][0]["data"]["db.system"] == "postgresql"


async def test_prometheus(pool: Any) -> None:
    shared = await pool(min_size=1, max_size=1)
    registry = prometheus_client.CollectorRegistry()
    durations = prometheus_client.Histogram("db_operation_seconds", "...", ["kind", "error"], registry=registry)
    shared.add_query_hook(hook_of_the_page("PrometheusHook", DURATIONS=durations)())
    await shared.fetchval("SELECT 1")
    await shared.executemany("SELECT $1::int", [(1,), (2,)])
    with pytest.raises(headrace.DivisionByZeroError):
        await shared.fetchval("SELECT 1/0")
    for kind, error in (("query", ""), ("batch", ""), ("query", "DivisionByZeroError")):
        assert registry.get_sample_value("db_operation_seconds_count", {"kind": kind, "error": error}) == 1


async def test_structlog(pool: Any) -> None:
    shared = await pool(min_size=1, max_size=1)
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        shared.add_query_hook(hook_of_the_page("SlowQueries", log=structlog.get_logger())(0.05))
        await shared.fetchval("SELECT 1 AS quick")
        with structlog.contextvars.bound_contextvars(request=4711):
            await shared.fetch("SELECT pg_sleep(0.06)")
            with pytest.raises(headrace.DivisionByZeroError):
                await shared.fetchval("SELECT 1/0")
    told = [entry for entry in logs if entry["query"] != "SELECT 1 AS quick"]  # the machine may have been busy
    assert [(entry["request"], entry["query"], entry["error"] is None) for entry in told] == [
        (4711, "SELECT pg_sleep(0.06)", True),
        (4711, "SELECT 1/0", False),
    ]
    json.dumps(told)
