import asyncio
from collections.abc import Iterable
from typing import Any, final

from headrace._client.queries import QueryMethod
from headrace._client.query_hooks import Hooks, Watched
from headrace._core.pipeline.requests import Request
from headrace._core.pipeline.workload import Claim, Cost
from headrace._core.rows.record import Record
from headrace._core.rows.row_plan import RowShape
from headrace._io.driver import PoolCallbacks
from headrace._sql.classify import Traits
from headrace.connection import Connection
from headrace.pool.scheduler import PooledConnection, Scheduler

PING_TIMEOUT: float
MOST_PROFILES: int
LONGEST_TEXT: int
STARVATION: float
WRITES: frozenset[str]
BOUNDS: tuple[float, ...]

@final
class LeaseClaim(Claim):
    """A claim to a connection until it is released."""

    def __init__(self, waiter: asyncio.Future[PooledConnection]) -> None: ...
    @property
    def waiter(self) -> asyncio.Future[PooledConnection]: ...

@final
class QueryProfile:
    """The profile of a query text: its effects on the session, and its cost."""

    def __init__(self, traits: Traits, pipelined: bool, movable: bool) -> None: ...
    @property
    def traits(self) -> Traits: ...
    @property
    def cost(self) -> Cost: ...
    @property
    def leases(self) -> bool: ...

@final
class Dispatcher(PoolCallbacks):
    """The shared calls of one pool: from the call to the reply."""

    def __init__(
        self, scheduler: Scheduler, maintenance: Any, *, repeat_reads: bool = True, pipeline_writes: bool = False
    ) -> None: ...
    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def scheduler(self) -> Scheduler: ...
    @property
    def running(self) -> bool: ...
    def start(self, loop: asyncio.AbstractEventLoop) -> None: ...
    def open(self) -> None: ...
    def stop(self) -> None: ...
    def is_plain_read(self, query: str) -> bool: ...
    def leases(self, query: str) -> bool: ...
    def query(
        self,
        query: str,
        args: tuple[object, ...],
        kind: int,
        limit: int,
        column: int | str,
        record_class: Any,
        timeout: float | None,
        watched: Watched | None = None,
    ) -> Request | None: ...
    def direct(self, query: str, timeout: float | None, watched: Watched | None = None) -> Request | None: ...
    def batch(
        self,
        query: str,
        elements: Iterable[Any],
        record_class: Any,
        collects: bool,
        timeout: float | None,
        watched: Watched | None = None,
    ) -> Request | None: ...
    def pair(
        self,
        probe: str,
        probe_args: tuple[object, ...],
        query: str,
        args: tuple[object, ...],
        kind: int,
        limit: int,
        column: int | str,
        record_class: Any,
        timeout: float | None,
    ) -> tuple[Request, Request] | None: ...
    def take_waiting(self) -> list[Request]: ...
    def adopt(self, requests: Iterable[Request]) -> int: ...
    def serve(self) -> None: ...
    def preempt(self) -> int: ...
    def lease_now(self) -> PooledConnection | None: ...
    def wait_to_lease(self, limited: bool) -> LeaseClaim: ...
    def withdraw(self, claim: Claim) -> None: ...
    def time_out(self, request: Request) -> None: ...
    def give_up(self, request: Request) -> None: ...
    def take_unsent(self, pooled: PooledConnection) -> None: ...
    def unblock(self, pooled: PooledConnection) -> None: ...
    def join(self, pooled: PooledConnection) -> None: ...
    def wait_counts(self) -> tuple[int, ...]: ...
    @property
    def seconds_waited(self) -> float: ...
    def fail(self, claim: Claim, error: BaseException) -> None: ...

def in_order(first: Request, second: Request) -> bool: ...

@final
class SharedCalls:
    """The query methods of a pool as shared calls, with the pool's defaults."""

    command_timeout: float | None
    hooks: Hooks | None
    def __init__(
        self,
        dispatcher: Dispatcher,
        connection_class: type[Connection],
        record_class: type[Record],
        command_timeout: float | None,
        off: bool,
    ) -> None: ...
    def takes(self, method: QueryMethod) -> bool: ...
    def request(
        self,
        method: QueryMethod,
        query: str,
        args: Any,
        column: int | str,
        rows: type[Record] | RowShape | None,
        timeout: float | None,
    ) -> Request | None: ...
