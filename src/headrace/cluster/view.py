"""Views of a cluster: the methods of a pool, on the pool of a host that the cluster chooses for each call.

A view is no pool. It has the query methods that connections and pools share, and describes their requests to the
pool of one host (see `_client/queries.py`). A call for which there is no host waits for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, TypeVarTuple

from headrace._client.queries import EXECUTE, EachOptions, QueryMethod, ResultIterator, checked_elements
from headrace._client.streamed_batch import is_asynchronous
from headrace._client.timeouts import checked_timeout
from headrace._sql.named_parameters import bound, bound_each
from headrace.connection import Connection
from headrace.exceptions import InterfaceError
from headrace.pool.pool import beginning
from headrace.pool.proxy import CallSite, PoolAcquireContext, PoolConnectionProxy
from headrace.pool.queries import execute_text, run_on_lease
from headrace.pool.transactions import PoolTransaction, checked_attempts, run_in_transaction
from headrace.rows.type_vars import RecordT_co

if TYPE_CHECKING:
    from headrace._client.interface import ConnectionInterface
    from headrace._core.rows.record import Record
    from headrace._core.rows.row_plan import RowShape
    from headrace._sql.named_parameters import AnyQuery
    from headrace.pool import Pool
    from headrace.pool.dispatcher import SharedCalls
    from headrace.pool.scheduler import Balancer
    from headrace.stream import StreamLease

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Hosts(Protocol):
    """The cluster, as its views use it."""

    _row_class: type[Any]
    _repeats_reads: bool
    _debug: bool
    _failover_timeout: float
    _command_timeout: float | None

    def _check(self) -> None:
        """Raise InterfaceError unless the cluster is open, on this event loop."""

    async def _wait_for_change(self, deadline: float) -> None:
        """Wait until something has changed at a host; raises TimeoutError at the deadline, in the loop's time."""

    def _owns(self, pool: object) -> bool:
        """Return whether a pool is, or was, that of one of the hosts."""


class View(Generic[RecordT_co]):
    """The methods of a pool on the hosts of a cluster: `cluster.primary`, `cluster.replicas` and their like.

    They are those of `Pool`: see there. A call for which there is no host waits until there is one: until its
    `timeout`, or the pools' `command_timeout`, and for `failover_timeout` seconds if it has neither. Then it raises
    NoPrimaryError or NoReplicaError, which are safe to retry. A call that waits for a connection of a host that is
    lost goes to the next host, and so does a plain read that was sent there.
    """

    def __init__(self, cluster: Hosts) -> None:
        self._cluster = cluster
        self._shared_calls: SharedCalls | None = None
        """Those of the only host that may be chosen; None if there is no such host or a choice."""
        self._balancer: Balancer[SharedCalls] | None = None
        """Chooses among those of several hosts; None if the view has no choice."""

    # -- hosts -----------------------------------------------------------------------------------------------------

    def _choose(self) -> Pool[RecordT_co] | None:
        """Return the pool for a call that is made now; None if it has to wait."""
        raise NotImplementedError

    def _missing(self) -> InterfaceError:
        """Return the error of a call that has waited in vain."""
        raise NotImplementedError

    async def _find(self, timeout: float | None) -> Pool[RecordT_co]:
        """Return the pool for a call, as soon as there is one."""
        cluster = self._cluster
        loop = asyncio.get_running_loop()
        if timeout is None:
            timeout = cluster._command_timeout if cluster._command_timeout is not None else cluster._failover_timeout
        deadline = loop.time() + timeout
        while True:
            cluster._check()
            pool = self._choose()
            if pool is not None:
                return pool
            try:
                await cluster._wait_for_change(deadline)
            except TimeoutError:
                raise self._missing() from None

    @property
    def _record_class(self) -> type[RecordT_co]:
        return self._cluster._row_class

    @property
    def _repeat_reads(self) -> bool:
        return self._cluster._repeats_reads

    # -- queries and COPY: the methods of Connection, as in Pool -----------------------------------------------------

    execute = Connection.execute
    """Run a query and return its command tag. See `Pool.execute()`."""
    executemany = Connection.executemany
    """Run a command for each element of `args`, or for none. See `Pool.executemany()`."""
    fetch = Connection[RecordT_co].fetch
    """Run a query and return all rows. See `Pool.fetch()`."""
    fetchmany = Connection[RecordT_co].fetchmany
    """Run a query for each element of `args`, or for none, and return all rows. See `Pool.fetchmany()`."""
    fetchrow = Connection[RecordT_co].fetchrow
    """Run a query and return the first row or None. See `Pool.fetchrow()`."""
    fetchval = Connection.fetchval
    """Run a query and return one value. See `Pool.fetchval()`."""

    fetch_each = Connection[RecordT_co].fetch_each
    """Run a query for each element of `args`, on the host of the first. See `Pool.fetch_each()`."""
    fetchrow_each = Connection[RecordT_co].fetchrow_each
    """Return the first row, or None, for each element of `args`. See `fetch_each()`."""
    fetchval_each = Connection.fetchval_each
    """Return one value for each element of `args`. See `fetch_each()`."""

    stream = Connection[RecordT_co].stream
    """Return the rows of a query as an asynchronous iterator. See `Pool.stream()`."""

    fetch_arrow = Connection.fetch_arrow
    """Run a query and return columns in Arrow's format. See `Pool.fetch_arrow()`."""
    stream_arrow = Connection.stream_arrow
    """Return the rows of a query as record batches. See `Pool.stream_arrow()`."""

    copy_from_table = Connection.copy_from_table
    """Copy a table to a path, a file-like object or a function. See `Pool.copy_from_table()`."""
    copy_from_query = Connection.copy_from_query
    """Copy the rows of a query. See `Pool.copy_from_query()`."""
    copy_to_table = Connection.copy_to_table
    """Copy data in one of COPY's formats into a table. See `Pool.copy_to_table()`."""
    copy_records_to_table = Connection.copy_records_to_table
    """Copy rows of Python values into a table. See `Pool.copy_records_to_table()`."""
    copy_arrow_to_table = Connection.copy_arrow_to_table
    """Copy columns in Arrow's format into a table. See `Pool.copy_arrow_to_table()`."""
    copy_in = Connection.copy_in
    """Return a COPY into a table to write to. See `Pool.copy_in()`."""
    copy_out = Connection[RecordT_co].copy_out
    """Return the rows of a query by way of COPY. See `Pool.copy_out()`."""

    insert_records = Connection.insert_records
    """Insert many records into a table, or none. See `Pool.insert_records()`."""

    def _request(
        self,
        method: QueryMethod,
        query: AnyQuery,
        args: Any,
        column: int | str,
        rows: type[Record] | RowShape | None,
        timeout: float | None,
    ) -> Awaitable[Any]:
        # This runs for every call, in place of Pool._request(): a call of that would cost more than the choice.
        shared_calls = self._shared_calls
        if shared_calls is None and self._balancer is not None:
            shared_calls = self._balancer.choose()
        if shared_calls is None:
            pool = self._choose()
            if pool is None:
                return self._request_later(method, query, args, column, rows, timeout)
            shared_calls = pool._shared_calls
        if not isinstance(query, str):
            query, args = bound_each(query, args) if method.many else bound(query, args)
        if method.many and (method.begins or is_asynchronous(args)):
            return run_on_lease(self._for_copy, method, query, args, column, rows, timeout)
        request = shared_calls.request(method, query, args, column, rows, timeout)
        if request is None:
            return run_on_lease(self._for_copy, method, query, args, column, rows, timeout)
        if method is EXECUTE and not args:
            return execute_text(request, self._for_copy, query, timeout)
        return request

    async def _request_later(
        self,
        method: QueryMethod,
        query: AnyQuery,
        args: Any,
        column: int | str,
        rows: type[Record] | RowShape | None,
        timeout: float | None,
    ) -> Any:
        timeout = checked_timeout(timeout)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        pool = await self._find(timeout)
        if timeout is not None:
            timeout = max(timeout - (loop.time() - begun), 0.0)
        return await pool._request(method, query, args, column, rows, timeout)

    def _each(
        self,
        method: QueryMethod,
        query: AnyQuery,
        args: Any,
        column: int | str,
        rows: type[Record] | RowShape | None,
        options: EachOptions,
    ) -> ResultIterator[Any]:
        self._cluster._check()
        pool = self._choose()
        if pool is not None:
            return pool._each(method, query, args, column, rows, options)
        options.checked(None)
        return self._each_later(method, query, checked_elements(args), column, rows, options)

    async def _each_later(
        self,
        method: QueryMethod,
        query: AnyQuery,
        args: Any,
        column: int | str,
        rows: type[Record] | RowShape | None,
        options: EachOptions,
    ) -> AsyncGenerator[Any, None]:
        pool = await self._find(checked_timeout(options.timeout))
        async with aclosing(pool._each(method, query, args, column, rows, options)) as results:
            async for result in results:
                yield result

    # -- leases ----------------------------------------------------------------------------------------------------

    def acquire(self, *, timeout: float | None = None) -> PoolAcquireContext[RecordT_co]:
        """Lease a connection, as `Pool.acquire()` does. `timeout` covers the wait for a host as well.

        The lease stays with its host. If the host is lost, or is no longer the primary, its calls fail.
        """
        return PoolAcquireContext(
            partial(self._acquire, checked_timeout(timeout), CallSite(self._cluster._debug), True), self.release
        )

    def _for_copy(self, timeout: float | None = None) -> PoolAcquireContext[RecordT_co]:
        """Return a lease for one call, which takes a connection at once also with `lazy_acquire`."""
        return PoolAcquireContext(
            partial(self._acquire, checked_timeout(timeout), CallSite(self._cluster._debug), False), self.release
        )

    def _for_stream(self, query: str) -> ViewStreamLease:
        """Return the lease of one stream."""
        return ViewStreamLease(self._find, query)

    async def _acquire(
        self, timeout: float | None, call_site: CallSite, may_be_lazy: bool
    ) -> PoolConnectionProxy[RecordT_co]:
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while True:
            left = None if deadline is None else max(deadline - loop.time(), 0.0)
            pool = self._choose() or await self._find(left)
            left = None if deadline is None else max(deadline - loop.time(), 0.0)
            try:
                if may_be_lazy and pool._lazy_acquire:
                    return await pool.acquire(timeout=left)
                return await pool._leases.acquire(pool, left, call_site)
            except InterfaceError:
                # Nothing was leased. If the host was lost meanwhile, the next one is chosen.
                if not pool.is_closing():
                    raise

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:
        """Give a leased connection back. See `Pool.release()`."""
        if not isinstance(connection, PoolConnectionProxy) or not self._cluster._owns(connection._pool):
            raise InterfaceError(f"release() received invalid connection: {connection!r} is not one of this cluster")
        pool: Any = connection._pool
        await pool.release(connection, timeout=timeout)

    def transaction(
        self,
        *,
        isolation: str | None = None,
        readonly: bool = False,
        deferrable: bool = False,
        timeout: float | None = None,
    ) -> PoolTransaction[RecordT_co]:
        """Lease a connection for one transaction. See `Pool.transaction()`."""
        return PoolTransaction(self.acquire(timeout=timeout), beginning(isolation, readonly, deferrable))

    async def run(
        self,
        function: Callable[[PoolConnectionProxy[RecordT_co], *Ts], Awaitable[T]],
        *args: *Ts,
        isolation: str | None = None,
        readonly: bool = False,
        deferrable: bool = False,
        attempts: int = 5,
        timeout: float | None = None,
    ) -> T:
        """Call `function(connection, *args)` in a transaction, again if it can be repeated. See `Pool.run()`.

        An attempt that ends with its host is repeated on the next one.
        """
        return await run_in_transaction(
            partial(self.acquire, timeout=timeout),
            beginning(isolation, readonly, deferrable),
            function,
            args,
            checked_attempts(attempts),
        )


class ViewStreamLease:
    """Leases the connection of one stream, from the pool of the host that is chosen when the stream begins."""

    origin = None
    """Nobody else has the connection."""

    def __init__(self, find: Callable[[float | None], Awaitable[Pool[Any]]], query: str) -> None:
        self._find = find
        self._query = query
        self._lease: StreamLease | None = None

    async def take(self, timeout: float | None) -> ConnectionInterface:
        """Lease the connection; `timeout` covers the wait for a host as well."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        lease = (await self._find(timeout))._for_stream(self._query)
        connection = await lease.take(None if deadline is None else max(deadline - loop.time(), 0.0))
        self._lease = lease
        return connection

    async def give_back(self) -> None:
        """End the lease, if there is one."""
        if self._lease is not None:
            await self._lease.give_back()

    def abandon(self) -> None:
        """End the lease in the background."""
        if self._lease is not None:
            self._lease.abandon()
