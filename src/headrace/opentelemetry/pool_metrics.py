"""The metrics of pools: `db.client.connection.*` of the semantic conventions."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from headrace.opentelemetry.describing import server_attributes

if TYPE_CHECKING:
    from headrace._client.query_hooks import Operation, Outcome, ServerInfo
    from headrace.pool import Pool

POOL_NAME: Final = "db.client.connection.pool.name"
BOUNDARIES: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
"""Those that the conventions advise for durations of operations."""


class Instruments:
    """The instruments of one meter. A meter takes the callbacks of an instrument once, and never drops them."""

    def __init__(self, meter: Meter) -> None:
        self.duration = meter.create_histogram(
            "db.client.operation.duration",
            "s",
            "Duration of database client operations.",
            explicit_bucket_boundaries_advisory=BOUNDARIES,
        )
        self.create_time, self.wait_time, self.use_time = (
            meter.create_histogram(
                f"db.client.connection.{name}", "s", description, explicit_bucket_boundaries_advisory=BOUNDARIES
            )
            for name, description in (
                ("create_time", "The time it took to create a new connection."),
                ("wait_time", "The time it took to obtain an open connection from the pool."),
                ("use_time", "The time between borrowing a connection and returning it to the pool."),
            )
        )
        self.timeouts = meter.create_counter(
            "db.client.connection.timeouts",
            "{timeout}",
            "The number of connection timeouts that have occurred trying to obtain a connection from the pool.",
        )
        for name, unit, description, observe in (
            ("count", "{connection}", "The number of connections that are currently in the given state.", _states),
            ("idle.max", "{connection}", "The maximum number of idle open connections allowed.", _maximum),
            ("idle.min", "{connection}", "The minimum number of idle open connections allowed.", _minimum),
            ("max", "{connection}", "The maximum number of open connections allowed.", _maximum),
            ("pending_requests", "{request}", "The number of callers that wait for a connection.", _waiting),
        ):
            meter.create_observable_up_down_counter(
                f"db.client.connection.{name}", [self._observing(observe)], unit, description
            )
        self._names: weakref.WeakKeyDictionary[Pool[Any], str] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()  # metrics are collected in a thread of their own
        self.sources: weakref.WeakSet[PoolMetrics] = weakref.WeakSet()

    def _observing(
        self, observe: Callable[[Pool[Any]], Iterator[tuple[int, dict[str, str]]]]
    ) -> Callable[[CallbackOptions], Iterator[Observation]]:
        def callback(options: CallbackOptions) -> Iterator[Observation]:
            for source in list(self.sources):
                for pool in source.pools():
                    name = source.name(pool, pool._hooks.server)
                    for value, attributes in observe(pool):
                        yield Observation(value, {POOL_NAME: name, **attributes})

        return callback

    def name(self, pool: Pool[Any], wanted: str) -> str:
        """Return the name of a pool: the wanted one, with a number if another pool has it."""
        with self._lock:
            taken = {name for other, name in self._names.items() if other is not pool}
            unique, number = wanted, 1
            while unique in taken:
                number += 1
                unique = f"{wanted}#{number}"
            self._names[pool] = unique
        return unique


class PoolMetrics:
    """The metrics of the pools that `pools()` returns. `name` is given if it is one pool."""

    def __init__(self, instruments: Instruments, pools: Callable[[], Iterable[Pool[Any]]], name: str | None) -> None:
        self._instruments = instruments
        self._given_name = name
        self._names: weakref.WeakKeyDictionary[Pool[Any], str] = weakref.WeakKeyDictionary()
        self.pools = pools

    def record(self, operation: Operation, outcome: Outcome) -> None:
        """Record the end of an operation of a pool: "connect", "acquire" or "lease"."""
        pool = operation.pool
        if pool is None:
            return
        instruments = self._instruments
        attributes = {POOL_NAME: self.name(pool, outcome.server)}
        if operation.kind == "lease":
            instruments.use_time.record(outcome.elapsed, attributes)
        elif outcome.error is None:
            instrument = instruments.wait_time if operation.kind == "acquire" else instruments.create_time
            instrument.record(outcome.elapsed, attributes)
        elif operation.kind == "acquire" and isinstance(outcome.error, TimeoutError):
            instruments.timeouts.add(1, attributes)

    def name(self, pool: Pool[Any], server: ServerInfo | None) -> str:
        """Return the name of a pool, by default `address:port/database`."""
        name = self._names.get(pool)
        if name is not None:
            return name
        wanted = self._given_name
        if wanted is None:
            if server is None:
                return "headrace"
            attributes = server_attributes(server)
            port = f":{attributes['server.port']}" if "server.port" in attributes else ""
            wanted = f"{attributes['server.address']}{port}/{attributes['db.namespace']}"
        name = self._names[pool] = self._instruments.name(pool, wanted)
        return name


def _states(pool: Pool[Any]) -> Iterator[tuple[int, dict[str, str]]]:
    idle, size = pool.get_idle_size(), pool.get_size()
    yield idle, {"db.client.connection.state": "idle"}
    yield max(size - idle, 0), {"db.client.connection.state": "used"}


def _maximum(pool: Pool[Any]) -> Iterator[tuple[int, dict[str, str]]]:
    yield pool.get_max_size(), {}


def _minimum(pool: Pool[Any]) -> Iterator[tuple[int, dict[str, str]]]:
    yield pool.get_min_size(), {}


def _waiting(pool: Pool[Any]) -> Iterator[tuple[int, dict[str, str]]]:
    yield pool._scheduler.waiting, {}
