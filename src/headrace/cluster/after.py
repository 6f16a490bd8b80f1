"""Reads that see a write: views of the replicas that have replayed a position, and sessions that remember their own
writes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from headrace._client.queries import EachOptions, QueryMethod, ResultIterator
from headrace._client.timeouts import checked_timeout
from headrace._sql.named_parameters import bound
from headrace.cluster.view import Hosts, View, ViewStreamLease
from headrace.exceptions import ConnectionDoesNotExistError, InterfaceError, PostgresError
from headrace.pool.dispatcher import in_order
from headrace.pool.proxy import CallSite, PoolConnectionProxy
from headrace.pool.scheduler import SHUTDOWN
from headrace.rows import checked_record_class
from headrace.rows.type_vars import RecordT_co

if TYPE_CHECKING:
    from types import TracebackType

    from headrace._client.interface import ConnectionInterface
    from headrace._core.pipeline.requests import Request
    from headrace._core.rows.record import Record
    from headrace._core.rows.row_plan import RowShape
    from headrace._sql.named_parameters import AnyQuery
    from headrace.cluster.hosts import Host
    from headrace.cluster.position import Position
    from headrace.cluster.stats import Counts
    from headrace.cluster.topology import Topology
    from headrace.pool import Pool

PROBE: Final = "SELECT pg_catalog.pg_last_wal_replay_lsn()"
"""How far a standby has replayed."""

FIRST_PAUSE: Final = 0.002
LONGEST_PAUSE: Final = 0.02
"""Seconds between two questions whether a replica has replayed a position. Each pause is twice as long as the one
before."""


class PositionedHosts(Hosts, Protocol):
    """The cluster, as views that have to see a position use it."""

    _topology: Topology
    _counts: Counts
    _fallback: bool
    _primary_pool: Pool[Any] | None

    @property
    def primary(self) -> View[Any]:
        """The view of the primary."""

    @property
    def replicas(self) -> View[Any]:
        """The view of the replicas."""

    def _least_loaded(self, hosts: Any) -> Pool[Any] | None:
        """Return the pool of the least loaded of some hosts; None if none of them has one."""

    def _host_of(self, pool: Pool[Any]) -> Host | None:
        """Return the host of a pool; None if it was lost."""

    def _no_replica(self) -> InterfaceError:
        """Return the error of a call for which there is no replica."""

    async def _wait_for_timeline(self, position: Position, timeout: float | None) -> None:
        """Wait for a primary that is not on an older timeline than a position."""

    async def position(self) -> Position:
        """Return the position of the primary."""


class AfterView(View[RecordT_co]):
    """The methods of a pool on the replicas that have replayed a position: `cluster.replicas.after(position)`."""

    _cluster: PositionedHosts

    def __init__(self, cluster: PositionedHosts, position: Position, wait: float) -> None:
        super().__init__(cluster)
        self._position = position
        self._wait = wait
        cluster._topology.routes(position)  # raises for a position of another cluster

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._position} of {self._cluster!r}>"

    async def _target(self) -> Position | None:
        """Return the position that reads have to see; None for none. Raises _OnlyPrimaryError if it is not known."""
        return self._position

    def _choose(self) -> Pool[RecordT_co] | None:
        return None

    def _missing(self) -> InterfaceError:
        return self._cluster._no_replica()

    async def _find(self, timeout: float | None) -> Pool[RecordT_co]:
        """Return the pool of a host that has the position. It is waited for first."""
        with suppress(_OnlyPrimaryError):
            position = await self._target()
            if position is None:
                return await self._cluster.replicas._find(timeout)
            await self._cluster._wait_for_timeline(position, timeout)
            pool: Pool[RecordT_co] | None = await self._find_replica(position, timeout, None)
            if pool is not None:
                return pool
        self._cluster._counts.reads_primary += 1
        return await self._cluster.primary._find(timeout)

    async def _find_replica(
        self, position: Position, timeout: float | None, read: Callable[[Pool[RecordT_co]], Awaitable[Any]] | None
    ) -> Any:
        """Return the pool of a replica that has replayed the position; None if the primary has to answer.

        `read` sends a plain read together with the probe. Its result is returned in place of the pool.
        """
        cluster, loop = self._cluster, asyncio.get_running_loop()
        begun = loop.time()
        patience = self._wait
        if not cluster._fallback:
            patience = cluster._failover_timeout if timeout is None else timeout
        pause = FIRST_PAUSE
        while True:
            cluster._check()
            routes = cluster._topology.routes(position)
            pool = cluster._least_loaded(routes.known)
            if pool is not None:
                cluster._counts.reads_known += 1
                return pool
            pool = cluster._least_loaded(routes.possible)
            if pool is None and cluster._fallback:
                return None
            if pool is not None:
                try:
                    found = await (read(pool) if read is not None else self._probe(pool, position))
                except _NotYet:
                    pass
                else:
                    return found
            left = begun + patience - loop.time()
            if left <= 0:
                if cluster._fallback:
                    return None
                raise self._missing()
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _probe(self, pool: Pool[RecordT_co], position: Position) -> Pool[RecordT_co]:
        """Return the pool if its host has replayed the position; raises _NotYet otherwise."""
        try:
            replayed = await pool.fetchval(PROBE, timeout=self._wait)
        except (OSError, PostgresError, InterfaceError):
            # It is being lost, or too busy to answer in time.
            raise _NotYet from None
        self._note(pool, replayed, position)
        self._cluster._counts.reads_probed += 1
        return pool

    def _note(self, pool: Pool[RecordT_co], replayed: int | None, position: Position) -> None:
        """Remember how far a host has come; raises _NotYet if the position is beyond that."""
        host = self._cluster._host_of(pool)
        if host is None or replayed is None:
            raise _NotYet
        self._cluster._topology.replayed(host, replayed)
        if replayed < position.lsn:
            raise _NotYet

    # -- queries -----------------------------------------------------------------------------------------------------

    def _request(
        self,
        method: QueryMethod,
        query: AnyQuery,
        args: Any,
        column: int | str,
        rows: type[Record] | RowShape | None,
        timeout: float | None,
    ) -> Awaitable[Any]:
        return self._read(method, query, args, column, rows, timeout)

    async def _read(
        self,
        method: QueryMethod,
        query: AnyQuery,
        args: Any,
        column: int | str,
        rows: type[Record] | RowShape | None,
        timeout: float | None,
    ) -> Any:
        cluster, loop = self._cluster, asyncio.get_running_loop()
        seconds = checked_timeout(timeout)
        deadline = None if seconds is None else loop.time() + seconds
        row_class = cluster._row_class if rows is None else checked_record_class(rows)

        def left() -> float | None:
            return None if deadline is None else max(deadline - loop.time(), 0.0)

        position = None
        with suppress(_OnlyPrimaryError):
            position = await self._target()
            if position is None:
                return await cluster.replicas._request(method, query, args, column, rows, left())
        suspicions = _Suspicions()
        while position is not None:
            await cluster._wait_for_timeline(position, left())
            read = None
            if not method.many:
                if not isinstance(query, str):
                    query, args = bound(query, args)
                read = partial(
                    self._read_behind_probe, suspicions, position, method, query, args, column, row_class, left
                )
            found = await self._find_replica(position, left(), read)
            if found is None:
                break
            if isinstance(found, _Answer):
                return found.value
            try:
                return await self._read_pinned(found, suspicions, method, query, args, column, rows, left())
            except _NotYet:
                # Its host was lost. Nothing was written there, so another one is asked.
                continue
        cluster._counts.reads_primary += 1
        return await cluster.primary._request(method, query, args, column, rows, left())

    async def _read_pinned(
        self,
        pool: Pool[RecordT_co],
        suspicions: _Suspicions,
        method: QueryMethod,
        query: AnyQuery,
        args: Any,
        column: int | str,
        rows: type[Record] | RowShape | None,
        timeout: float | None,
    ) -> Any:
        """Send a request to a host that has the position, and to no other one."""
        request: Any = pool._request(method, query, args, column, rows, timeout)
        plain = not method.many and isinstance(query, str) and pool._is_plain_read(query)
        if plain and hasattr(request, "pinned"):
            request.pinned = True
        try:
            return await request
        except (ConnectionDoesNotExistError, InterfaceError) as error:
            if not (plain and pool.is_closing()):
                raise
            self._cluster._check()
            suspicions.add(error, getattr(request, "suspected", 0))
            raise _NotYet from None

    async def _read_behind_probe(
        self,
        suspicions: _Suspicions,
        position: Position,
        method: QueryMethod,
        query: str,
        args: tuple[object, ...],
        column: int | str,
        row_class: Any,
        left: Callable[[], float | None],
        pool: Pool[RecordT_co],
    ) -> Any:
        """Send the probe and a plain read in one flight; returns the answer, or raises _NotYet if it is not to be used.

        Returns the pool if the read has to be sent by itself, because it is no plain read or no connection is free for
        both. The replica has the position then.
        """
        shared = pool._shared_calls
        timeout = left()
        limit = self._cluster._command_timeout if timeout is None else timeout
        pair = None
        if shared.takes(method) and pool._is_plain_read(query) and (limit is None or limit > 0):
            pair = pool._dispatcher.pair(PROBE, (), query, args, method.kind, method.limit, column, row_class, limit)
        if pair is None:
            return await self._probe(pool, position)
        probe, request = pair
        counts = self._cluster._counts
        # A host that does not answer must not keep the read from the primary.
        limit_of_probe = asyncio.timeout(self._wait if self._cluster._fallback else None)
        try:
            async with limit_of_probe:
                replayed: Any = await probe
            self._note(pool, replayed, position)
        except BaseException as error:
            _abandon(request)
            counts.reads_discarded += 1
            if isinstance(error, TimeoutError) and not limit_of_probe.expired():
                raise
            if isinstance(error, (OSError, PostgresError, InterfaceError)):
                raise _NotYet from None
            raise
        try:
            value = await request
        except ConnectionDoesNotExistError as error:
            # A server that says why it ends a connection is not suspected of having crashed.
            suspicions.add(error, int(error.sqlstate not in SHUTDOWN))
            raise _NotYet from None
        if not in_order(probe, request):
            # The probe was sent again, behind the read.
            counts.reads_discarded += 1
            raise _NotYet
        counts.reads_probed += 1
        return _Answer(value)


class _NotYet(Exception):
    """A replica has not replayed the position yet, or was lost."""


class _OnlyPrimaryError(Exception):
    """The position that a read has to see is not known, so only the primary may answer."""


class _Suspicions:
    """Counts how often a read may itself have ended its connection, so that it does not go on from host to host."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, error: Exception, times: int) -> None:
        """Count the loss of connections that worked on the read. Raises ConnectionDoesNotExistError at the second."""
        self._count += times
        if self._count > 1:
            raise ConnectionDoesNotExistError(
                "connection was closed in the middle of operation: two servers in turn have ended it while they worked "
                "on this query, so it is not sent to another one; it only reads, so nothing is lost",
                safe_to_retry=True,
            ) from error


class _Answer:
    """The answer of a read that was sent together with its probe."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def _abandon(request: Request) -> None:
    """Give up a request that nobody waits for."""
    request.close()


class SessionReplicas(AfterView[RecordT_co]):
    """The methods of a pool on replicas that have replayed the writes of a session: `session.replicas`."""

    def __init__(self, session: Session[RecordT_co], wait: float) -> None:
        View.__init__(self, session._cluster)
        self._session = session
        self._wait = wait

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._session!r}>"

    async def _target(self) -> Position | None:
        try:
            return await self._session.position()
        except (OSError, PostgresError, InterfaceError):
            # The primary is away. A read waits for one, because nothing else is certain.
            raise _OnlyPrimaryError from None


class Session(View[RecordT_co]):
    """A session of a user, or of a request: it remembers the position of its writes, and its replicas have replayed
    them.

    `async with cluster.session() as session`, or without a block: there is nothing to close. Its own methods go to the
    primary, as those of the cluster. `session.replicas` reads from replicas that have replayed all that the session has
    written. A session holds no connection.
    """

    _cluster: PositionedHosts

    def __init__(self, cluster: PositionedHosts, position: Position | None, wait: float) -> None:
        super().__init__(cluster)
        self._position = position
        self._writes = 0
        """Requests and leases that may have written and have ended."""
        self._noted = 0
        """Those of them that its position is behind."""
        self._leases = 0
        """Leases that may be writing now."""
        if position is not None:
            cluster._topology.routes(position)
        self._replicas: SessionReplicas[RecordT_co] = SessionReplicas(self, wait)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._position} of {self._cluster!r}>"

    @property
    def replicas(self) -> SessionReplicas[RecordT_co]:
        """The methods of a pool on replicas that have replayed the writes of this session."""
        return self._replicas

    async def position(self) -> Position | None:
        """Return the position behind the last write of the session; None if it has not written and began with none.

        It is asked of the primary after each write, once if reads come one after another. Its text is for a cookie or a
        header, for `cluster.session(after=...)` at the user's next request.
        """
        if self._noted != self._writes or self._leases:
            # Other tasks may read meanwhile. Until there is an answer, they have to ask as well.
            writes = self._writes
            found = await self._cluster.position()
            # A primary that has lost a position of an older timeline counts on from its own.
            if self._position is None or self._position < found:
                self._position = found
            self._noted = max(self._noted, writes)
        return self._position

    def _choose(self) -> Pool[RecordT_co] | None:
        return self._cluster._primary_pool

    def _missing(self) -> InterfaceError:
        return self._cluster.primary._missing()

    def _request(
        self,
        method: QueryMethod,
        query: AnyQuery,
        args: Any,
        column: int | str,
        rows: type[Record] | RowShape | None,
        timeout: float | None,
    ) -> Awaitable[Any]:
        request = super()._request(method, query, args, column, rows, timeout)
        pool = self._choose()
        if pool is not None and isinstance(query, str) and not method.many and pool._is_plain_read(query):
            return request
        return self._noting(request)

    async def _noting(self, request: Awaitable[Any]) -> Any:
        """Wait for a request that may write."""
        try:
            return await request
        finally:
            # Also after an error: the outcome of a request may be unknown.
            self._writes += 1

    def _each(
        self,
        method: QueryMethod,
        query: AnyQuery,
        args: Any,
        column: int | str,
        rows: type[Record] | RowShape | None,
        options: EachOptions,
    ) -> ResultIterator[Any]:
        return _NotingIterator(super()._each(method, query, args, column, rows, options), self)

    def _for_stream(self, query: str) -> ViewStreamLease:
        pool = self._choose()
        if pool is not None and pool._is_plain_read(query):
            return super()._for_stream(query)
        return _NotingStreamLease(self, query)

    async def _acquire(
        self, timeout: float | None, call_site: CallSite, may_be_lazy: bool
    ) -> PoolConnectionProxy[RecordT_co]:
        connection = await super()._acquire(timeout, call_site, may_be_lazy)
        self._leases += 1
        return connection

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:
        """Give a leased connection back. See `Pool.release()`."""
        is_leased = isinstance(connection, PoolConnectionProxy) and connection._connection is not None
        await super().release(connection, timeout=timeout)
        self._writes += 1
        if is_leased:
            self._leases = max(self._leases - 1, 0)


class _NotingIterator:
    """The results of fetch_each() of a session, whose statement may write."""

    def __init__(self, results: ResultIterator[Any], session: Session[Any]) -> None:
        self._results = results
        self._session = session

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[Any]:
        self._session._writes += 1
        return self._results.__anext__()

    async def aclose(self) -> None:
        """End the iteration."""
        await self._results.aclose()
        self._session._writes += 1


class _NotingStreamLease(ViewStreamLease):
    """The lease of a stream of a session, whose statement may write."""

    def __init__(self, session: Session[Any], query: str) -> None:
        super().__init__(session._find, query)
        self._session = session
        self._is_taken = False

    async def take(self, timeout: float | None) -> ConnectionInterface:
        """See `ViewStreamLease`."""
        connection = await super().take(timeout)
        self._is_taken = True
        self._session._leases += 1
        return connection

    async def give_back(self) -> None:
        """See `ViewStreamLease`."""
        try:
            await super().give_back()
        finally:
            self._end()

    def abandon(self) -> None:
        """See `ViewStreamLease`."""
        super().abandon()
        self._end()

    def _end(self) -> None:
        if self._is_taken:
            self._is_taken = False
            self._session._leases -= 1
            self._session._writes += 1
