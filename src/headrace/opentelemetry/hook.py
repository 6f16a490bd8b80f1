"""The query hook that makes spans and records durations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry import context
from opentelemetry.context import get_current
from opentelemetry.metrics import NoOpHistogram
from opentelemetry.trace import NoOpTracer, SpanKind, Status, StatusCode, Tracer, get_current_span

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
    from opentelemetry.context import Context
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
        parent_required: bool,
    ) -> None:
        # Those of a provider that does nothing are not called at all.
        self._start_span = None if isinstance(tracer, NoOpTracer) else tracer.start_span
        self._record = None if isinstance(instruments.duration, NoOpHistogram) else instruments.duration.record
        self._pool_metrics = pool_metrics
        self._query_text: QueryText = capture_query_text
        self._captures_parameters = capture_parameters
        self._connection_spans = connection_spans
        self._parent_required = parent_required
        self._servers: dict[int, ServerDescriptions] = {}

    @property
    def does_nothing(self) -> bool:
        """True if both providers do nothing, so that there is no need for the hook."""
        return self._start_span is None and self._record is None

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
        current = get_current()
        if current.get(SUPPRESSED):
            return None
        kind, query, args, _, server, _ = operation
        if not query:
            return self._start_of_pool(operation, current)
        size = batch_size(args) if kind in BATCHES else 1
        of_server = self._servers.get(id(server)) or self._of_server(server)
        described = of_server.known.get((kind, query, bool(args))) if kind == "query" else None
        if described is None:
            described = of_server.describe(operation, many=size != 1)
        start_span = self._start_span
        if start_span is None or (self._parent_required and not get_current_span(current).is_recording()):
            return None, described
        span = start_span(described.name, current, SpanKind.CLIENT, described.attributes)
        if not span.is_recording():
            return None if self._record is None else (None, described)
        if size != 1:
            if size is not None and size > 1:
                span.set_attribute("db.operation.batch.size", size)
        elif self._captures_parameters and args and kind not in BATCHES:
            span.set_attributes(parameters(args))
        return span, described

    def _start_of_pool(self, operation: Operation, current: Context) -> Token | None:
        kind = operation.kind
        if (
            not self._connection_spans
            or kind == "lease"
            or self._start_span is None
            or (self._parent_required and not get_current_span(current).is_recording())
        ):
            return None if self._record is None else (None, None)
        attributes = self._of_server(operation.server).span_attributes
        if kind == "connect":
            span = self._start_span("connect", current, SpanKind.CLIENT, attributes)
        else:
            span = self._start_span("pool.acquire", current, SpanKind.INTERNAL, attributes)
        return (span if span.is_recording() else None), None

    def end(self, token: Token | None, outcome: Outcome) -> None:
        """End the span and record the duration."""
        if token is None:
            return
        span, described = token
        operation, elapsed, error, _, executions, server = outcome
        if span is not None:
            try:
                if server is not operation.server and server is not None:
                    span.set_attributes(self._of_server(server).span_attributes)
                if executions is not None and executions > 1:
                    span.set_attribute("db.operation.batch.size", executions)
                if error is not None:
                    self._fail(span, error)
            finally:
                span.end()
        record = self._record
        if record is None:
            return
        if described is None:
            self._pool_metrics.record(operation, outcome)
            return
        attributes = described.metric_attributes
        if operation.server is None and server is not None:
            attributes = {**self._of_server(server).metric_attributes, **attributes}
        if error is not None:
            attributes = {**attributes, **error_attributes(error)}
        record(elapsed, attributes)

    def _fail(self, span: Span, error: BaseException) -> None:
        span.set_attributes(error_attributes(error))
        # The text of an error may contain values, as that of a unique violation does.
        description = str(error) if self._captures_parameters else class_name(error)
        span.set_status(Status(StatusCode.ERROR, description))
        if self._captures_parameters:
            span.record_exception(error)
