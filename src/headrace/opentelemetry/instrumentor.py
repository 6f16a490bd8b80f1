"""The entry point for OpenTelemetry's automatic instrumentation: the command `opentelemetry-instrument`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from headrace.opentelemetry import instrument, uninstrument


class HeadraceInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # it has no types
    """Instruments all connections and pools of the process: `HeadraceInstrumentor().instrument()`.

    It takes the keyword arguments of `headrace.opentelemetry.instrument()`. It needs the package
    opentelemetry-instrumentation.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return no packages: this class comes with headrace itself."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        instrument(**kwargs)

    def _uninstrument(self, **kwargs: Any) -> None:
        uninstrument()
