"""The query hook that makes spans and records durations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry import context
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer

from headrace._client.query_hooks import QueryHook
from headrace.opentelemetry.describing import (
    BATCHES,
    Description,
    QueryText,
    ServerDescriptions,
    batch_size,
    class_name,
    error_attributes,
    parameters,
)

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from headrace._client.query_hooks import Operation, Outcome, ServerInfo
    from headrace.opentelemetry.pool_metrics import Instruments, PoolMetrics

    Token = tuple[Span | None, Description | None]

SUPPRESSED: Final[str] = getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation")
"""The key of a context in which OpenTelemetry's own `suppress_instrumentation()` holds."""

MOST_SERVERS: Final = 256


class OpenTelemetryHook(QueryHook):
    """Makes a span for each operation by its start, and records the durations at its end."""

    def __init__(
        self,
        tracer: Tracer,
        instruments: Instruments,
        pool_metrics: PoolMetrics,
        *,
        capture_query_text: QueryText,
        capture_parameters: bool,
        connection_spans: bool,
    ) -> None:
        self._start_span = tracer.start_span
        self._record = instruments.duration.record
        self._pool_metrics = pool_metrics
        self._query_text: QueryText = capture_query_text
        self._captures_parameters = capture_parameters
        self._connection_spans = connection_spans
        self._servers: dict[int, ServerDescriptions] = {}

    def _of_server(self, server: ServerInfo | None) -> ServerDescriptions:
        # The record of a connection's server is the same object for all its operations, which is kept here.
        found = self._servers.get(id(server))
        if found is None:
            if len(self._servers) >= MOST_SERVERS:
                self._servers.clear()
            found = self._servers[id(server)] = ServerDescriptions(server, self._query_text)
        return found

    def start(self, operation: Operation) -> Token | None:
        """Start a span in the context of the caller."""
        if context.get_value(SUPPRESSED):
            return None
        kind = operation.kind
        if not operation.query:
            return self._start_of_pool(operation)
        size = batch_size(operation.args) if kind in BATCHES else 1
        described = self._of_server(operation.server).describe(operation, many=size != 1)
        span = self._start_span(described.name, kind=SpanKind.CLIENT, attributes=described.attributes)
        if not span.is_recording():
            return None, described
        if kind in BATCHES:
            if size is not None and size > 1:
                span.set_attribute("db.operation.batch.size", size)
        elif self._captures_parameters and operation.args:
            span.set_attributes(parameters(operation.args))
        return span, described

    def _start_of_pool(self, operation: Operation) -> Token | None:
        kind = operation.kind
        if not self._connection_spans or kind == "lease":
            return None, None
        attributes = self._of_server(operation.server).span_attributes
        if kind == "connect":
            span = self._start_span("connect", kind=SpanKind.CLIENT, attributes=attributes)
        else:
            span = self._start_span("pool.acquire", attributes=attributes)
        return (span if span.is_recording() else None), None

    def end(self, token: Token | None, outcome: Outcome) -> None:
        """End the span and record the duration."""
        if token is None:
            return
        span, described = token
        error = outcome.error
        operation = outcome.operation
        if span is not None:
            try:
                if outcome.server is not operation.server and outcome.server is not None:
                    span.set_attributes(self._of_server(outcome.server).span_attributes)
                if outcome.executions is not None and outcome.executions > 1:
                    span.set_attribute("db.operation.batch.size", outcome.executions)
                if error is not None:
                    self._fail(span, error)
            finally:
                span.end()
        if described is None:
            self._pool_metrics.record(operation, outcome)
            return
        attributes = described.metric_attributes
        if operation.server is None and outcome.server is not None:
            attributes = {**self._of_server(outcome.server).metric_attributes, **attributes}
        if error is not None:
            attributes = {**attributes, **error_attributes(error)}
        self._record(outcome.elapsed, attributes)

    def _fail(self, span: Span, error: BaseException) -> None:
        span.set_attributes(error_attributes(error))
        # The text of an error may contain values, as that of a unique violation does.
        description = str(error) if self._captures_parameters else class_name(error)
        span.set_status(Status(StatusCode.ERROR, description))
        if self._captures_parameters:
            span.record_exception(error)
