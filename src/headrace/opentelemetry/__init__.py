"""OpenTelemetry for headrace: spans and metrics by the stable semantic conventions for databases.

`headrace.opentelemetry.instrument()` instruments all connections and pools of the process, and `instrument(pool)` one
of them. It needs the API of OpenTelemetry: `pip install 'headrace[opentelemetry]'`. Nothing else in headrace imports
it.
"""

from __future__ import annotations

try:
    import opentelemetry.metrics
    import opentelemetry.trace  # noqa: F401
except ImportError as error:
    raise ImportError(
        "headrace.opentelemetry needs the API of OpenTelemetry: pip install 'headrace[opentelemetry]'"
    ) from error

from headrace.opentelemetry.instrumentation import (  # it imports what was looked for above
    instrument,
    uninstrument,
)

__all__ = ["instrument", "uninstrument"]
