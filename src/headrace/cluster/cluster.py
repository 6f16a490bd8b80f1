"""The cluster: the public class and the function that makes it.

A cluster has a pool for each host and a checker for each host. The checkers tell the topology what they see, the
topology decides (`topology`), and the cluster carries its decisions out: it opens and drops pools, and leads calls
to them (`view`).
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from headrace._client.timeouts import as_seconds, checked_command_timeout, checked_timeout
from headrace._connect.params.secret import HiddenArguments
from headrace._core.rows.record import Record
from headrace.cluster.after import AfterView, Session
from headrace.cluster.checker import Checker
from headrace.cluster.events import ClusterEvent, DiscoveryFailed, HostDown, PrimaryChanged, Split
from headrace.cluster.hosts import OWN, Host, checked_hosts, hosts_of
from headrace.cluster.position import Position, checked_position, written_up_to
from headrace.cluster.stats import ClusterStats, Counts, HostInfo
from headrace.cluster.topology import Observation, OnSplit, Topology
from headrace.cluster.view import View
from headrace.connection import Connection
from headrace.connection import connect as open_connection
from headrace.exceptions import InterfaceError, NoPrimaryError, NoReplicaError, is_transient
from headrace.exceptions._values import shown
from headrace.pool import Pool, create_pool
from headrace.pool.notifications import Listening
from headrace.pool.scheduler import Balancer, Reason
from headrace.rows.type_vars import RecordT, RecordT_co

if TYPE_CHECKING:
    from types import TracebackType

    from headrace._core.pipeline.requests import Request

log = logging.getLogger("headrace.cluster")

CLOSE_TIMEOUT: Final = 60.0
"""Seconds that the pool of a host that was removed may take to close."""

FIRST_LOOKS: Final = 4
"""Checks without an answer in time after which a cluster is opened without a host. A program is busy when it starts."""

POSITION_QUERY: Final = """
SELECT l, ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(l), 1, 8))::pg_catalog.bit(32)::pg_catalog.int4,
       s.system_identifier, i.wal_block_size, i.bytes_per_wal_segment
FROM pg_catalog.pg_current_wal_insert_lsn() AS l, pg_catalog.pg_control_system() AS s, pg_catalog.pg_control_init() AS i
"""

Discover = Callable[["Cluster[Any]"], Awaitable[Iterable[Any]]]
Listener = Callable[[ClusterEvent], Any]

POOL_ONLY: Final = frozenset(
    name for name, parameter in inspect.signature(create_pool).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
) - {"connect", "loop"}  # fmt: skip
"""The arguments of create_pool() that are not for a connection."""


class Member:
    """A host of the cluster with its pool and its checker, whose reports it passes on."""

    def __init__(self, cluster: Cluster[Any], host: Host) -> None:
        self._cluster = cluster
        self.host = host
        self.pool: Pool[Any] | None = None
        self.opening: asyncio.Task[None] | None = None
        """Opens the pool."""
        self.open_error: str = ""
        """Why the pool could not be opened."""
        self.open_again_at = 0.0
        """When it is to be tried again, by the event loop's clock."""
        self.error: Exception | None = None
        """The error of the last check; None if it was answered."""
        self.was_primary = False
        """Calls for the primary may be waiting in the pool."""
        self.task: asyncio.Task[None] | None = None
        self.checker = Checker(self._connect, self, interval=cluster._check_interval, timeout=cluster._check_timeout)

    async def _connect(self, timeout: float) -> Connection:
        return await self._cluster._connect_to(self.host, timeout)

    def observed(self, observation: Observation) -> None:
        """See `Report`."""
        self.error = None
        cluster = self._cluster
        cluster._topology.observed(self.host, observation, cluster._now())
        cluster._update()

    def missed(self, error: Exception, *, late: bool) -> None:
        """See `Report`."""
        self.error = error
        cluster = self._cluster
        cluster._counts.missed += not late
        cluster._topology.missed(self.host, _text(error), late=late)
        cluster._update()

    def failed(self, error: Exception) -> None:
        """See `Report`."""
        self.error = error
        cluster = self._cluster
        cluster._topology.failed(self.host, _text(error))
        cluster._update()


@dataclass(slots=True)
class Stray:
    """Calls that waited for a host that was lost."""

    requests: list[Request]
    pool: Pool[Any]
    """Theirs, until another one takes them."""
    for_primary: bool
    until: float
    """When they fail, by the event loop's clock."""


class PrimaryView(View[RecordT_co]):
    """The methods of a pool on the primary: `cluster.primary`, and the cluster itself."""

    _cluster: Cluster[RecordT_co]

    def _choose(self) -> Pool[RecordT_co] | None:
        return self._cluster._primary_pool

    def _missing(self) -> InterfaceError:
        return self._cluster._no_primary()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._cluster!r}>"

    def listen(self, *channels: str, max_queue: int = 1000, heartbeat: float | None = 30.0) -> Listening:
        """Return the notifications on some channels, from the primary. See `Pool.listen()`.

        If another host becomes the primary, the connection is replaced. Notifications may be missing then, so the
        iterator yields a `Gap`.
        """
        return Listening(self._cluster, channels, max_queue, heartbeat)


class ReplicaView(View[RecordT_co]):
    """The methods of a pool on the least loaded of the healthy replicas: `cluster.replicas`.

    While there is none, calls go to the primary, unless the cluster was made with `fallback=False`.
    """

    _cluster: Cluster[RecordT_co]

    def _choose(self) -> Pool[RecordT_co] | None:
        return self._cluster._replica()

    def _missing(self) -> InterfaceError:
        return self._cluster._no_replica()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._cluster!r}>"

    def after(self, position: Position | str, *, wait: float = 0.05) -> AfterView[RecordT_co]:
        """Return a view whose reads see everything up to a position: `cluster.replicas.after(position).fetch(...)`.

        A call goes to a replica that has replayed the position. If it is not known whether one has, a plain read is
        sent together with the question, and its answer is used only if the replica had. If none has after `wait`
        seconds, the call goes to the primary. With `fallback=False` it waits for a replica instead.

        Raises ForeignPositionError for a position of another cluster, and TypeError or ValueError for anything that is
        no position.
        """
        return AfterView(self._cluster, checked_position(position), _checked_seconds("wait", wait))


class Cluster(PrimaryView[RecordT_co]):
    """The servers of one database: a primary and its replicas. Made by `headrace.create_cluster()`.

    Its own query methods go to the primary, always. `primary` is the same, for programs that like to say so, and
    `replicas` is the view of the replicas. All of them have the methods of `Pool`.
    """

    def __init__(
        self,
        dsn: str | None,
        *,
        check_interval: float,
        check_timeout: float,
        max_lag: float | None,
        fallback: bool,
        failover_timeout: float,
        on_split: OnSplit,
        discover: Discover | None,
        discover_interval: float,
        discover_timeout: float,
        connect: Callable[..., Awaitable[Connection]] | None,
        record_class: type[RecordT_co],
        debug: bool,
        **arguments: Any,
    ) -> None:
        super().__init__(self)
        self._check_interval: float = _checked_seconds("check_interval", check_interval)
        self._check_timeout: float = _checked_seconds("check_timeout", check_timeout)
        self._failover_timeout = _checked_seconds("failover_timeout", failover_timeout)
        self._discover_interval = _checked_seconds("discover_interval", discover_interval)
        self._discover_timeout = _checked_seconds("discover_timeout", discover_timeout)
        max_lag = None if max_lag is None else _checked_seconds("max_lag", max_lag)
        for name, value in (("fallback", fallback), ("debug", debug)):
            if not isinstance(value, bool):
                raise ValueError(f"{name} is expected to be True or False, got {shown(value)}")
        if on_split not in ("newest", "refuse"):
            raise ValueError(f"on_split is expected to be 'newest' or 'refuse', got {shown(on_split)}")
        if discover is not None and not callable(discover):
            raise TypeError(f"discover is expected to be a coroutine function, got {shown(discover)}")
        self._command_timeout: float | None = checked_command_timeout(arguments.get("command_timeout"))
        self._repeats_reads: bool = arguments.get("repeat_reads", True)
        self._fallback = fallback
        self._debug = debug
        self._row_class = record_class
        self._discover = discover
        self._seeds = hosts_of(dsn, arguments)
        self._connect = connect
        pool_arguments = {name: value for name, value in arguments.items() if name not in OWN}
        connect_arguments = {name: value for name, value in pool_arguments.items() if name not in POOL_ONLY}
        connect_arguments.pop("timeout", None)
        self._pool_arguments = HiddenArguments(dsn, **pool_arguments)
        self._connect_arguments = HiddenArguments(dsn, **connect_arguments)
        del dsn, arguments, pool_arguments, connect_arguments
        # Bad arguments of pools raise now, and not when a host is found.
        self._make_pool(self._seeds[0])
        self._topology = Topology(
            self._seeds,
            interval=self._check_interval,
            timeout=self._check_timeout,
            max_lag=max_lag,
            on_split=on_split,
        )
        self._counts = Counts()
        self._members: dict[Host, Member] = {}
        self._pools: weakref.WeakSet[Pool[Any]] = weakref.WeakSet()
        self._primary_pool: Pool[RecordT_co] | None = None
        self._replica_pools: list[Pool[RecordT_co]] = []
        self._replica_balancer: Balancer[Pool[RecordT_co]] = Balancer([], [])
        self._strays: deque[Stray] = deque()
        self._stray_timer: asyncio.TimerHandle | None = None
        self._waiters: set[asyncio.Future[None]] = set()
        self._listeners: list[Listener] = []
        self._listenings: set[Listening] = set()
        self._tasks: set[asyncio.Future[Any]] = set()
        self._discovery: asyncio.Task[None] | None = None
        self._discovering: asyncio.Future[Any] | None = None
        """The call of `discover` that is under way."""
        self._discover_now: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._updating = False
        self._state: str = "new"
        self._primary_view: PrimaryView[RecordT_co] = PrimaryView(self)
        self._replica_view: ReplicaView[RecordT_co] = ReplicaView(self)

    # -- opening ---------------------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, Self]:
        return self._open().__await__()

    async def __aenter__(self) -> Self:
        return await self._open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _open(self) -> Self:
        if self._state == "open":
            return self
        if self._state != "new":
            raise InterfaceError(f"cluster is {self._state}")
        self._loop = asyncio.get_running_loop()
        self._state = "opening"
        self._discover_now = asyncio.Event()
        try:
            await self._first_look(self._seeds)
            if self._discover is not None:
                await self._discover_once()
                await self._first_look([host for host in self._topology.records if host not in self._members])
            if self._state != "opening":
                raise InterfaceError(f"cluster is {self._state}")
            self._raise_if_nothing_answers()
        except BaseException:
            self.terminate()
            for member in self._members.values():
                # It may have connected after the cluster was closed.
                member.checker.drop()
            raise
        self._state = "open"
        for member in self._members.values():
            member.task = self._loop.create_task(member.checker.run())
        if self._discover is not None:
            self._discovery = self._loop.create_task(self._discover_forever())
        return self

    async def _first_look(self, hosts: Iterable[Host]) -> None:
        """Check some hosts for the first time, and open their pools."""
        members = [Member(self, host) for host in hosts]
        self._members.update((member.host, member) for member in members)

        async def look(member: Member) -> None:
            for _ in range(FIRST_LOOKS):
                await member.checker.look()
                if not isinstance(member.error, TimeoutError):
                    break

        async with asyncio.TaskGroup() as group:
            for member in members:
                group.create_task(look(member))
        openings = [member.opening for member in members if member.opening is not None]
        if openings:
            await asyncio.wait(openings)

    def _raise_if_nothing_answers(self) -> None:
        """Raise an error that another attempt does not mend, or NoPrimaryError if no host answers at all."""
        errors = [member.error for member in self._members.values() if member.error is not None]
        for error in errors:
            if not is_transient(error):
                raise error
        if len(errors) == len(self._members):
            raise self._no_primary() from errors[0]

    def _make_pool(self, host: Host) -> Pool[Any]:
        return self._pool_arguments.call(
            create_pool,
            connect=self._connect,
            record_class=self._row_class,
            debug=self._debug,
            **host.arguments(),
        )

    async def _connect_to(self, host: Host, timeout: float) -> Connection:
        """Return a connection for the checks of a host."""
        arguments = {**host.arguments(), "timeout": timeout}
        if self._connect is not None:
            arguments |= {"loop": self._loop, "connection_class": Connection, "record_class": Record}
        connection = await self._connect_arguments.call(self._connect or open_connection, **arguments)
        if not isinstance(connection, Connection):
            raise InterfaceError(f"connect is expected to return a headrace.Connection, got {shown(connection)}")
        return connection

    # -- views -----------------------------------------------------------------------------------------------------

    @property
    def primary(self) -> PrimaryView[RecordT_co]:
        """The methods of a pool on the primary."""
        return self._primary_view

    @property
    def replicas(self) -> ReplicaView[RecordT_co]:
        """The methods of a pool on the replicas."""
        return self._replica_view

    def session(self, after: Position | str | None = None, *, wait: float = 0.05) -> Session[RecordT_co]:
        """Return a session, which remembers the position of its own writes: `session.replicas` reads what it has
        written.

        `after` is a position to begin with, such as `session.position` of an earlier session of the same user. `wait`
        is that of `replicas.after()`.
        """
        position = None if after is None else checked_position(after)
        return Session(self, position, _checked_seconds("wait", wait))

    async def position(self, *, timeout: float | None = None) -> Position:
        """Return the position of the primary: behind everything that was committed before this call.

        `replicas.after(position)` reads what was written up to it. Source: PostgreSQL documentation, "Backup Control
        Functions" (pg_current_wal_insert_lsn).
        """
        row: Any = await self.primary.fetchrow(POSITION_QUERY, timeout=timeout, record_class=Record)
        lsn, timeline, system, page, segment = row
        return Position(system % 2**64, timeline, written_up_to(lsn, page, segment))

    async def ready(self, *, primary: int = 1, replicas: int = 1, timeout: float | None = 10.0) -> None:
        """Wait until there are so many healthy hosts: `primary` is 0 or 1.

        Raises TimeoutError after `timeout` seconds, with the state of each host in its text.
        """
        for name, value, most in (("primary", primary, 1), ("replicas", replicas, None)):
            if not isinstance(value, int) or value < 0 or (most is not None and value > most):
                expected = "0 or 1" if most == 1 else "0 or more"
                raise ValueError(f"{name} is expected to be {expected}, got {shown(value)}")
        seconds = checked_timeout(timeout)
        deadline = None if seconds is None else self._now() + seconds
        while True:
            self._check()
            if (self._primary_pool is not None or not primary) and len(self._replica_pools) >= replicas:
                return
            try:
                await self._wait_for_change(deadline)
            except TimeoutError:
                raise TimeoutError(
                    f"the cluster was not ready within {seconds:g} seconds: expected {int(primary)} primary and "
                    f"{replicas} replicas\n{self._describe()}"
                ) from None

    # -- choices ---------------------------------------------------------------------------------------------------

    def _replica(self) -> Pool[RecordT_co] | None:
        """Return the pool of the least loaded replica, or of the primary; None if a call has to wait."""
        pool = self._replica_balancer.choose()
        if pool is not None:
            return pool
        if self._fallback and self._primary_pool is not None:
            self._counts.fallbacks += 1
            return self._primary_pool
        return None

    def _least_loaded(self, hosts: Iterable[Host]) -> Pool[RecordT_co] | None:
        """Return the pool of the least loaded of some hosts; None if none of them has one."""
        pools = [member.pool for host in hosts if (member := self._members.get(host)) and member.pool is not None]
        return min(pools, key=lambda pool: pool._scheduler.load(), default=None)

    def _host_of(self, pool: Pool[Any]) -> Host | None:
        return next((host for host, member in self._members.items() if member.pool is pool), None)

    def _owns(self, pool: object) -> bool:
        return pool in self._pools

    def _no_primary(self) -> NoPrimaryError:
        decision = self._topology.decision
        reason = decision.reason or f"{decision.primary} is the primary, but there is no connection to it yet"
        return NoPrimaryError(f"no primary was found: {reason}\n{self._describe()}")

    async def _wait_for_timeline(self, position: Position, timeout: float | None) -> None:
        """Wait for a primary on the timeline of a position, if the known one is on an older timeline.

        Another process has noticed a promotion first: the known primary does not have what was written since.
        """
        if not self._topology.is_behind(position):
            return
        if timeout is None:
            timeout = self._failover_timeout if self._command_timeout is None else self._command_timeout
        deadline = self._now() + timeout
        for member in self._members.values():
            member.checker.wake()
        while self._topology.is_behind(position):
            try:
                await self._wait_for_change(deadline)
            except TimeoutError:
                raise NoPrimaryError(
                    f"no primary was found on the timeline {position.timeline} of the position, which is newer than "
                    f"that of {self._topology.decision.primary}\n{self._describe()}"
                ) from None
            self._check()

    def _no_replica(self) -> NoReplicaError:
        other = ", nor a primary" if self._fallback else ", and fallback is False"
        return NoReplicaError(f"no replica was found that may answer{other}\n{self._describe()}")

    def _describe(self) -> str:
        """Return the state of each host, with the errors of pools that cannot be opened."""
        lines = [self._topology.describe()]
        lines += [f"  {member.host}: {member.open_error}" for member in self._members.values() if member.open_error]
        return "\n".join(lines)

    async def _wait_for_change(self, deadline: float | None) -> None:
        assert self._loop is not None
        waiter = self._loop.create_future()
        self._waiters.add(waiter)
        self._counts.waits += 1
        try:
            async with asyncio.timeout_at(deadline):
                await waiter
        finally:
            self._waiters.discard(waiter)

    # -- carrying out decisions ------------------------------------------------------------------------------------

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _update(self) -> None:
        """Decide anew, and carry the decision out."""
        if self._state not in ("opening", "open") or self._updating:
            return
        topology = self._topology
        self._updating = True
        try:
            events = topology.update(self._now())
            for host in [host for host in self._members if host not in topology.records]:
                self._remove(host)
            for host, member in self._members.items():
                state = topology.records[host].state
                if state in ("up", "lagging"):
                    self._open_pool(member)
                elif member.pool is not None or member.opening is not None:
                    self._drop_pool(member)
            self._set_pools()
        finally:
            self._updating = False
        for event in events:
            self._tell(event)
        if any(isinstance(event, (PrimaryChanged, Split)) for event in events):
            self._discover_soon()

    def _set_pools(self) -> None:
        """Lead calls to the pools of the hosts that were chosen."""
        decision = self._topology.decision
        primary = self._members.get(decision.primary) if decision.primary is not None else None
        before = self._primary_pool
        self._primary_pool = primary.pool if primary is not None else None
        if primary is not None:
            primary.was_primary = True
        members = [self._members[host] for host in decision.replicas if host in self._members]
        self._replica_pools = [member.pool for member in members if member.pool is not None]
        self._replica_balancer = Balancer([pool._scheduler for pool in self._replica_pools], self._replica_pools)
        self._set_shared_calls()
        if self._primary_pool is not before:
            for listening in list(self._listenings):
                # It reconnects to the present primary, and says that notifications may be missing.
                if listening._connection is not None:
                    listening._connection.terminate()
        self._lead_strays()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _set_shared_calls(self) -> None:
        """Let the views know the pools between which they have no choice."""
        primary, replicas = self._primary_pool, self._replica_pools
        self._shared_calls = self._primary_view._shared_calls = primary._shared_calls if primary is not None else None
        self._replica_view._shared_calls = replicas[0]._shared_calls if len(replicas) == 1 else None
        self._replica_view._balancer = Balancer(
            [pool._scheduler for pool in replicas], [pool._shared_calls for pool in replicas]
        )

    def _open_pool(self, member: Member) -> None:
        if member.pool is None and member.opening is None and self._now() >= member.open_again_at:
            assert self._loop is not None
            member.opening = self._loop.create_task(self._opened(member))

    async def _opened(self, member: Member) -> None:
        """Open the pool of a host that answers. If that fails, it is tried again after the next check."""
        pool = self._make_pool(member.host)
        try:
            await pool
        except Exception as error:
            member.open_error = f"its pool could not be opened: {_text(error)}"
            member.open_again_at = self._now() + self._check_interval
            if not is_transient(error):
                log.error("the pool of %s could not be opened: %r", member.host, error)
                member.error = error
            member.opening = None
            return
        member.opening = None
        member.open_error = ""
        member.pool, member.was_primary = pool, False
        self._pools.add(pool)
        self._set_pools()

    def _drop_pool(self, member: Member) -> None:
        """Drop the connections of a host at once. The calls that wait for it go to another host."""
        pool, member.pool = member.pool, None
        if member.opening is not None:
            member.opening.cancel()
            member.opening = None
        if pool is not None:
            self._stray(pool, retire_at_once(pool), member.was_primary)
            pool.terminate()

    def _remove(self, host: Host) -> None:
        """Close the pool of a host that does not belong to the cluster any more, after its work."""
        member = self._members.pop(host)
        if member.task is not None:
            member.task.cancel()
        self._spawn(member.checker.close())
        if member.opening is not None:
            member.opening.cancel()
        if member.pool is not None:
            self._stray(member.pool, member.pool._dispatcher.take_waiting(), member.was_primary)
            self._spawn(_closed(member.pool))

    # -- calls that waited for a lost host -------------------------------------------------------------------------

    def _stray(self, pool: Pool[Any], requests: list[Request], for_primary: bool) -> None:
        if requests:
            self._strays.append(Stray(requests, pool, for_primary, self._now() + self._failover_timeout))
            self._end_strays_later()

    def _lead_strays(self) -> None:
        """Give the calls that waited for a lost host to another one, if there is one."""
        waiting, self._strays = self._strays, deque()
        for stray in waiting:
            pool = self._primary_pool if stray.for_primary else self._replica()
            if pool is None or pool._dispatcher is stray.pool._dispatcher:
                self._strays.append(stray)
            else:
                self._counts.moved += pool._dispatcher.adopt(stray.requests)

    def _end_strays_later(self) -> None:
        assert self._loop is not None
        if self._stray_timer is None and self._strays:
            self._stray_timer = self._loop.call_at(self._strays[0].until, self._end_strays)

    def _end_strays(self) -> None:
        """Fail the calls that have waited for a host for too long."""
        self._stray_timer = None
        now = self._now()
        while self._strays and self._strays[0].until <= now:
            self._fail_stray(self._strays.popleft())
        self._end_strays_later()

    def _fail_stray(self, stray: Stray) -> None:
        for request in stray.requests:
            error: InterfaceError
            if self._state != "open":
                error = InterfaceError("cluster is closing", safe_to_retry=True)
            elif stray.for_primary:
                error = self._no_primary()
            else:
                error = self._no_replica()
            stray.pool._dispatcher.fail(request, error)

    # -- events ----------------------------------------------------------------------------------------------------

    def add_listener(self, callback: Listener) -> None:
        """Have a function or coroutine function called with each `ClusterEvent`.

        Functions are called in the event loop, in the order in which they were added. An error in one goes to the event
        loop's exception handler.
        """
        if not callable(callback):
            raise TypeError(f"a listener is expected to be callable, got {shown(callback)}")
        if callback not in self._listeners:
            self._listeners.append(callback)

    def remove_listener(self, callback: Listener) -> None:
        """Remove a listener, if it is there."""
        if callback in self._listeners:
            self._listeners.remove(callback)

    def _tell(self, event: ClusterEvent) -> None:
        # The first primary is no news.
        is_first = isinstance(event, PrimaryChanged) and self._counts.primary_changes == 0
        if isinstance(event, Split):
            log.error("no write is sent: %s", event.reason)
        elif isinstance(event, (HostDown, PrimaryChanged, DiscoveryFailed)) and not is_first:
            log.warning("%s", event)
        else:
            log.info("%s", event)
        if isinstance(event, PrimaryChanged) and event.after is not None:
            self._counts.primary_changes += 1
        assert self._loop is not None
        for callback in self._listeners:
            self._loop.call_soon(self._call, callback, event)

    def _call(self, callback: Listener, event: ClusterEvent) -> None:
        try:
            returned = callback(event)
        except Exception as error:
            self._report(error, callback)
            return
        if inspect.isawaitable(returned):
            self._spawn(self._awaited(returned, callback))

    async def _awaited(self, returned: Awaitable[Any], callback: Listener) -> None:
        try:
            await returned
        except Exception as error:
            self._report(error, callback)

    def _report(self, error: Exception, callback: Listener) -> None:
        assert self._loop is not None
        self._loop.call_exception_handler(
            {"message": f"Exception in the listener {callback!r} of a cluster", "exception": error}
        )

    def _spawn(self, work: Any) -> None:
        assert self._loop is not None
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- discovery -------------------------------------------------------------------------------------------------

    def _discover_soon(self) -> None:
        if self._discover_now is not None:
            self._discover_now.set()

    async def _discover_forever(self) -> None:
        assert self._discover_now is not None
        while True:
            try:
                async with asyncio.timeout(self._discover_interval):
                    await self._discover_now.wait()
            except TimeoutError:
                pass
            self._discover_now.clear()
            await self._discover_once()

    async def _discover_once(self) -> None:
        """Ask `discover` for the hosts. If it fails, the known ones stay."""
        assert self._discover is not None
        assert self._loop is not None
        asked_at = self._now()
        try:
            if self._discovering is not None:
                raise TimeoutError("the last call of discover has not ended yet")
            hosts = checked_hosts(await self._answer_of(self._discover))
        except Exception as error:
            self._counts.discovery_errors += 1
            self._tell(DiscoveryFailed(error))
            return
        self._topology.discovered(hosts, asked_at)
        self._update()
        if self._state == "open":
            for host in self._topology.records:
                if host not in self._members:
                    member = self._members[host] = Member(self, host)
                    member.task = self._loop.create_task(_look_and_run(member.checker))

    async def _answer_of(self, discover: Discover) -> Any:
        """Return the answer of `discover`. A function that does not end when it is cancelled holds up nothing."""
        task = self._discovering = asyncio.ensure_future(_answer(discover, self))
        task.add_done_callback(self._discovered)
        try:
            await asyncio.wait({task}, timeout=self._discover_timeout)
        finally:
            if not task.done():
                task.cancel()
        if not task.done():
            raise TimeoutError(f"discover did not return within {self._discover_timeout:g} seconds")
        if task.cancelled():
            raise InterfaceError("discover is expected to return hosts, but it raised CancelledError")
        return task.result()

    def _discovered(self, task: asyncio.Future[Any]) -> None:
        self._discovering = None
        if not task.cancelled():
            task.exception()

    # -- state -----------------------------------------------------------------------------------------------------

    def hosts(self) -> list[HostInfo]:
        """Return the state of each host."""
        now = asyncio.get_running_loop().time()
        found = []
        for host, record in self._topology.records.items():
            member = self._members.get(host)
            pool = member.pool if member is not None else None
            stats = pool.stats() if pool is not None else None
            seen = record.observation
            if host == self._topology.decision.primary:
                role: Any = "primary"
            else:
                role = "replica" if seen is not None and seen.in_recovery else None
            found.append(
                HostInfo(
                    host=host.host,
                    port=host.port,
                    hostaddr=host.hostaddr,
                    role=role,
                    state=record.state,
                    reason=record.why or (member.open_error if member is not None else ""),
                    lag=self._topology.lag_of(record, now),
                    position=None if seen is None else Position(seen.system_identifier, seen.timeline, seen.lsn),
                    in_flight=pool._scheduler.load() if pool is not None else 0,
                    pool=stats,
                )
            )
        return found

    def stats(self) -> ClusterStats:
        """Return the counters of the cluster. `hosts()` has those of each pool."""
        checks = sum(member.checker.checks for member in self._members.values())
        return self._counts.stats(checks, len(self._waiters), sum(len(stray.requests) for stray in self._strays))

    def is_closing(self) -> bool:
        """Return whether the cluster is closed or being closed."""
        return self._state in ("closing", "closed")

    async def expire_connections(self) -> None:
        """Replace all connections of all hosts. See `Pool.expire_connections()`."""
        self._check()
        # Hosts may be discovered meanwhile.
        for member in list(self._members.values()):
            if member.pool is not None:
                await member.pool.expire_connections()

    def _check(self) -> None:
        if self._state == "new":
            raise InterfaceError(
                "cluster is not open",
                hint="Write `cluster = await create_cluster(...)` or `async with create_cluster(...) as cluster`.",
            )
        if self._state in ("closing", "closed"):
            raise InterfaceError(f"cluster is {self._state}")
        if asyncio._get_running_loop() is not self._loop:
            raise InterfaceError(
                "cannot perform operation: the cluster belongs to another event loop",
                hint="Use a cluster only in the event loop that opened it.",
            )

    @property
    def _has_several_hosts(self) -> bool:
        return True

    def _choosing_host(self) -> AbstractContextManager[object]:
        # The cluster has chosen, and the pool of a host has no other.
        return nullcontext()

    async def _connect_one(self) -> Connection:
        """Return a new connection to the primary that its pool does not count, for listen()."""
        pool = await self._find(None)
        return await pool._connect_one()

    def __repr__(self) -> str:
        if not hasattr(self, "_state"):
            return f"<{type(self).__name__} {id(self):#x}>"
        hosts = ", ".join(map(str, self._topology.records))
        return f"<{type(self).__name__} {self._state} of {hosts} {id(self):#x}>"

    # -- closing ---------------------------------------------------------------------------------------------------

    def _stop(self) -> list[asyncio.Task[Any]]:
        """End all checks, and fail the calls that wait for a host. Returns the tasks that were cancelled."""
        tasks = [member.task for member in self._members.values() if member.task is not None]
        tasks += [member.opening for member in self._members.values() if member.opening is not None]
        tasks += [self._discovery] if self._discovery is not None else []
        for task in tasks:
            task.cancel()
        if self._discovering is not None:
            self._discovering.cancel()
        if self._stray_timer is not None:
            self._stray_timer.cancel()
        self._primary_pool, self._replica_pools, self._replica_balancer = None, [], Balancer([], [])
        self._set_shared_calls()
        while self._strays:
            self._fail_stray(self._strays.popleft())
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        return tasks

    async def close(self, *, timeout: float | None = None) -> None:
        """Close the pools of all hosts gracefully: wait until their work is done. See `Pool.close()`.

        Raises TimeoutError if that takes longer than `timeout` seconds. All connections are dropped then, and on
        cancellation.
        """
        timeout = checked_timeout(timeout)
        if self._state == "closed":
            return
        self._check()
        self._state = "closing"
        try:
            tasks = self._stop()
            if tasks:
                await asyncio.wait(tasks)
            async with asyncio.timeout(timeout):
                members = list(self._members.values())
                await asyncio.gather(*(listening.close() for listening in self._listenings))
                await asyncio.gather(
                    *(member.pool.close() for member in members if member.pool is not None),
                    *(member.checker.close() for member in members),
                )
                # A listener may close the cluster.
                while others := self._tasks - {asyncio.current_task()}:
                    await asyncio.wait(others)
        except BaseException:
            self.terminate()
            raise
        self._state = "closed"

    def terminate(self) -> None:
        """Drop all connections at once. Leases and queries in flight fail."""
        if self._state in ("new", "closed"):
            return
        self._state = "closed"
        self._stop()
        for task in list(self._tasks):
            task.cancel()
        for listening in list(self._listenings):
            listening.terminate()
        for member in self._members.values():
            member.checker.drop()
            if member.pool is not None:
                member.pool.terminate()


async def _answer(discover: Discover, cluster: Cluster[Any]) -> Any:
    returned = discover(cluster)
    if not inspect.isawaitable(returned):
        raise InterfaceError(f"discover is expected to be a coroutine function, but it returned {shown(returned)}")
    return await returned


async def _look_and_run(checker: Checker) -> None:
    await checker.look()
    await checker.run()


async def _closed(pool: Pool[Any]) -> None:
    try:
        await pool.close(timeout=CLOSE_TIMEOUT)
    except TimeoutError as error:
        log.warning("the pool of a host that was removed was not closed in time: %s", error)


def retire_at_once(pool: Pool[Any]) -> list[Request]:
    """Drop all connections of a pool whose host was lost; returns the calls that can be served by another host.

    They are those that wait, those that the server has not begun with, and plain reads.
    """
    scheduler, maintenance = pool._scheduler, pool._maintenance
    connections = list(scheduler.connections.values())
    for pooled in connections:
        # Nothing is assigned to the next one while one is dropped.
        pooled.blocked = True
    for pooled in connections:
        maintenance.retire(pooled, Reason.HOST_DOWN, at_once=True)
    for pooled in list(scheduler.draining.values()):
        # They were retired before, and have requests in flight.
        pooled.connection.terminate()
    return pool._dispatcher.take_waiting()


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _checked_seconds(name: str, value: object) -> float:
    """Return a number of seconds above 0; raises ValueError for anything else."""
    seconds = as_seconds(value)
    if seconds is None or not seconds > 0:
        raise ValueError(f"{name} is expected to be a number of seconds greater than zero, got {shown(value)}")
    return seconds


def create_cluster(
    dsn: str | None = None,
    *,
    min_size: int = 2,
    max_size: int = 10,
    check_interval: float = 1.0,
    check_timeout: float = 1.0,
    max_lag: float | None = None,
    fallback: bool = True,
    failover_timeout: float = 30.0,
    on_split: OnSplit = "newest",
    discover: Discover | None = None,
    discover_interval: float = 5.0,
    discover_timeout: float = 5.0,
    connect: Callable[..., Awaitable[Connection]] | None = None,
    timeout: float | None = 10.0,
    debug: bool = False,
    record_class: type[RecordT] = Record,  # type: ignore[assignment]
    **pool_arguments: Any,
) -> Cluster[RecordT]:
    """Return a cluster, to be awaited or used by `async with`: a primary and its replicas, with a pool for each host.

    The hosts are those of the DSN, or of `host=`, in any order. All other arguments are those of `create_pool()`,
    for the pool of each host: it has `min_size` to `max_size` connections, and `timeout` limits each attempt to
    connect. Awaiting it checks all hosts once, and opens the pools of those that answer.

    Every `check_interval` seconds each host is asked, on a connection of its own, whether it is the primary and how
    far it has come. A host that refuses is down at once; one that does not answer within `check_timeout` seconds is
    after the second time. Its connections are dropped then. Calls that wait for it go to another host.

    `max_lag` is the lag in seconds, as of the last check, with which a replica may answer (None: any). `fallback`
    leads the calls of `replicas` to the primary while no replica may answer. A call that has to wait for a host
    waits for its own `timeout`, or for the `command_timeout`, or for `failover_timeout` seconds.

    If several hosts say that they are the primary, the one on the highest timeline is it, or with
    `on_split="refuse"` none. If that does not decide, no write is sent, and there is an event. `discover` is a
    coroutine function that is called with the cluster, every `discover_interval` seconds and after changes, and
    returns all hosts: as `Host`, as "host:port" or as pairs. The primary that it names by a `role` is the primary,
    if it says so itself. `headrace.cluster.discover` has some. If it fails, or takes longer than `discover_timeout`
    seconds, the known hosts stay.

    Raises ClientConfigurationError for bad parameters and a host that appears twice, and ValueError for numbers
    that make no sense. Awaiting it raises NoPrimaryError if no host answers, and the error of a host that another
    attempt does not mend, such as a wrong password. Needs PostgreSQL 10 or newer with streaming replication.
    Source: PostgreSQL documentation, "High Availability, Load Balancing, and Replication".
    """
    try:
        return Cluster(
            dsn,
            min_size=min_size,
            max_size=max_size,
            check_interval=check_interval,
            check_timeout=check_timeout,
            max_lag=max_lag,
            fallback=fallback,
            failover_timeout=failover_timeout,
            on_split=on_split,
            discover=discover,
            discover_interval=discover_interval,
            discover_timeout=discover_timeout,
            connect=connect,
            timeout=timeout,
            debug=debug,
            record_class=record_class,
            **pool_arguments,
        )
    finally:
        del dsn, pool_arguments  # they may contain a password
