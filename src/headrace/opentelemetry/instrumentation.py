"""`instrument()` and `uninstrument()`."""

from __future__ import annotations

import importlib.util
import logging
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import metrics, trace

from headrace._client.query_hooks import EVERYWHERE, Hooks
from headrace._version import __version__
from headrace.connection import Connection
from headrace.exceptions import InterfaceError
from headrace.exceptions._values import shown
from headrace.opentelemetry.describing import QueryText
from headrace.opentelemetry.hook import OpenTelemetryHook
from headrace.opentelemetry.pool_metrics import Instruments, PoolMetrics
from headrace.pool import Pool

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    Target = Connection[Any] | Pool[Any]

log = logging.getLogger("headrace.opentelemetry")

SCHEMA: Final = "https://opentelemetry.io/schemas/1.33.0"

_everywhere: _Instrumentation | None = None
_instruments: weakref.WeakKeyDictionary[MeterProvider, Instruments] = weakref.WeakKeyDictionary()
_default_instruments: Instruments | None = None
"""Those of the provider that is set globally, or will be."""
_instrumented: weakref.WeakKeyDictionary[Any, _Instrumentation] = weakref.WeakKeyDictionary()


class _Instrumentation:
    """The hook and the metrics that one `instrument()` has made."""

    def __init__(
        self,
        pools: Callable[[], Iterable[Pool[Any]]],
        *,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
        pool_name: str | None,
        capture_query_text: QueryText,
        capture_parameters: bool,
        connection_spans: bool,
        parent_required: bool,
    ) -> None:
        self._pools = pools
        tracer = trace.get_tracer("headrace", __version__, tracer_provider, SCHEMA)
        self._instruments = _instruments_of(meter_provider)
        self._metrics = PoolMetrics(self._instruments, self._open_pools, pool_name)
        self._instruments.sources.add(self._metrics)
        self.hook = OpenTelemetryHook(
            tracer,
            self._instruments,
            self._metrics,
            capture_query_text=capture_query_text,
            capture_parameters=capture_parameters,
            connection_spans=connection_spans,
            parent_required=parent_required,
        )

    def _open_pools(self) -> Iterable[Pool[Any]]:
        return [pool for pool in self._pools() if pool._initialized and not pool._closed]

    def end(self) -> None:
        """Observe pools no longer."""
        self._instruments.sources.discard(self._metrics)


def instrument(
    target: Target | None = None,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    capture_query_text: QueryText = True,
    capture_parameters: bool = False,
    connection_spans: bool = False,
    parent_required: bool = False,
    pool_name: str | None = None,
) -> None:
    """Make spans and record metrics for a pool or a connection; for all of the process if `target` is None.

    Spans and metrics go to the given providers, or to those that the program has set or will set globally. Without a
    provider they go nowhere.

    `capture_query_text`: True for the text of queries with parameters as it is, and for others with "?" in place of
    each constant; "raw" for every text as it is; False for none. With `capture_parameters` spans have the arguments of
    queries as `db.query.parameter.<number from 0>`, and the texts of errors, which may contain values.
    `connection_spans` makes spans for connections that are opened and for waits for a lease. With `parent_required`
    there are spans only below one that is recorded, so a query costs little if the request that makes it was not
    sampled. `pool_name` is the pool's name in metrics, by default `address:port/database`.

    Raises InterfaceError for another target, and if the target, or everything, is instrumented already. Source:
    OpenTelemetry, "Semantic conventions for database calls and systems".
    """
    global _everywhere
    _check(target, capture_query_text, pool_name)
    if _everywhere is not None or target in _instrumented or (target is None and len(_instrumented)):
        raise InterfaceError(
            "every connection and pool is instrumented already"
            if _everywhere is not None
            else f"{target!r} is instrumented already"
            if target is not None
            else "some connections or pools are instrumented already, so they would have two spans for a query",
            hint="Call uninstrument() for them first, or instrument() once for all.",
        )
    # A lazily acquired lease may have no connection yet.
    hooks: Hooks | None = getattr(target, "_hooks", None)
    if hooks is not None and any(isinstance(each.given, OpenTelemetryHook) for each in hooks.all):
        raise InterfaceError(
            f"{target!r} is instrumented already, by its pool or by an earlier lease of it",
            hint="Instrument either the pool or connections of it, so that a query has one span.",
        )
    if (
        tracer_provider is None
        and meter_provider is None
        and importlib.util.find_spec("opentelemetry.sdk") is None
        and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)  # other tools have providers too
    ):
        log.warning(
            "the SDK of OpenTelemetry is not installed, so spans and metrics go nowhere unless another provider is "
            "set: pip install opentelemetry-sdk"
        )
    made = _Instrumentation(
        _pools_of(target),
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        pool_name=pool_name,
        capture_query_text=capture_query_text,
        capture_parameters=capture_parameters,
        connection_spans=connection_spans,
        parent_required=parent_required,
    )
    if target is None:
        _everywhere = made
    else:
        _instrumented[target] = made
    if not made.hook.does_nothing:
        (EVERYWHERE.add if target is None else target.add_query_hook)(made.hook)


def uninstrument(target: Target | None = None) -> None:
    """Undo `instrument()` of a pool or a connection; without a target, all that was instrumented.

    Operations under way still end their spans. Does nothing if it was not instrumented.
    """
    global _everywhere
    if target is not None:
        made = _instrumented.pop(target, None)
        if made is not None:
            target.remove_query_hook(made.hook)
            made.end()
        return
    for each in list(_instrumented):
        uninstrument(each)
    made, _everywhere = _everywhere, None
    if made is not None:
        EVERYWHERE.remove(made.hook)
        made.end()


def _instruments_of(provider: MeterProvider | None) -> Instruments:
    global _default_instruments
    if provider is None:
        if _default_instruments is None:
            _default_instruments = Instruments(metrics.get_meter("headrace", __version__, None, SCHEMA))
        return _default_instruments
    found = _instruments.get(provider)
    if found is None:
        found = _instruments[provider] = Instruments(metrics.get_meter("headrace", __version__, provider, SCHEMA))
    return found


def _check(target: object, capture_query_text: object, pool_name: object) -> None:
    if target is not None and not isinstance(target, Pool | Connection):
        raise InterfaceError(
            f"target is expected to be a pool, a connection or None for all of them, got {shown(target)}",
            hint="Pass the pool itself: `instrument(pool)`.",
        )
    if capture_query_text not in (True, False, "raw"):
        raise ValueError(f'capture_query_text is expected to be True, False or "raw", got {shown(capture_query_text)}')
    if pool_name is not None and (not isinstance(pool_name, str) or not isinstance(target, Pool)):
        raise ValueError(f"pool_name is expected to be a str, and the name of one pool, got {shown(pool_name)}")


def _pools_of(target: Target | None) -> Callable[[], Iterable[Pool[Any]]]:
    if target is None:
        return lambda: [child.pool for child in EVERYWHERE.children() if child.pool is not None]
    if not isinstance(target, Pool):
        return tuple
    reference = weakref.ref(target)
    return lambda: [pool for pool in (reference(),) if pool is not None]
