"""The pool's query methods on a lease: the calls that must not share a connection with others.

A pool sends most calls on connections that several callers share (`dispatcher`). A statement that changes its session
must not run there. `run_on_lease()` gives it a connection of its own for the time of the call, with a reset after it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, aclosing
from typing import TYPE_CHECKING, Any

from headrace._client.queries import EXECUTE, EachOptions, QueryMethod
from headrace._core.arrow.result import ArrowShape
from headrace._io.driver import KIND_ARROW, KIND_STATUS, KIND_VALUE
from headrace._sql.classify import classify
from headrace.exceptions import InterfaceError, PostgresSyntaxError

if TYPE_CHECKING:
    from headrace._core.rows.record import Record
    from headrace._core.rows.row_plan import RowShape
    from headrace.connection import Connection

    Acquire = Callable[..., AbstractAsyncContextManager[Any]]

log = logging.getLogger("headrace.pool")

OTHER_SESSION = (
    "lastval() and currval() tell about an earlier statement of the same session, but each call of a pool's own method "
    "may go to another session: the value would be that of another caller"
)
OTHER_SESSION_HINT = (
    "Use RETURNING in the statement that takes the value from the sequence, or run both statements on one connection: "
    "async with pool.acquire() as connection"
)


async def run_on_lease(
    acquire: Acquire,
    method: QueryMethod,
    query: str,
    args: Any,
    column: int | str,
    rows: type[Record] | RowShape | None,
    timeout: float | None,
    *,
    has_hidden_effects: bool = False,
) -> Any:
    """Call a query method of a leased connection: Connection's, or the one that a program has put in its place.

    `has_hidden_effects` says that the query may have effects that its text does not show. Raises InterfaceError for a
    query about an earlier statement of its session, because that session would be another caller's.
    """
    traits = classify(query)
    if traits.needs_own_session:
        raise InterfaceError(OTHER_SESSION, hint=OTHER_SESSION_HINT)
    kwargs: dict[str, Any] = {"timeout": timeout}
    if method.kind == KIND_VALUE:
        kwargs["column"] = column
    elif method.kind == KIND_ARROW:
        assert isinstance(rows, ArrowShape)
        kwargs["decimal"], kwargs["out_of_range"] = rows.decimal, rows.out_of_range
    elif method.kind != KIND_STATUS:
        kwargs["record_class"] = rows
    if method.begins:
        kwargs["transaction"] = True
    async with acquire(timeout=timeout) as connection:
        # The holder of a lease may want to keep a role. The caller of a shared method cannot use it any further.
        connection._pooled.not_resettable = traits.not_resettable
        connection._pooled.ran_code = traits.runs_code or has_hidden_effects
        call = getattr(connection, method.name)
        return await (call(query, args, **kwargs) if method.many else call(query, *args, **kwargs))


async def each_on_lease(
    acquire: Acquire,
    method: QueryMethod,
    query: str,
    args: Any,
    column: int | str,
    rows: type[Record] | RowShape | None,
    options: EachOptions,
) -> AsyncGenerator[Any, None]:
    """Yield the results of fetch_each() or its kin of a leased connection."""
    traits = classify(query)
    if traits.needs_own_session:
        raise InterfaceError(OTHER_SESSION, hint=OTHER_SESSION_HINT)
    kwargs = options._asdict()
    if method.kind == KIND_VALUE:
        kwargs["column"] = column
    else:
        kwargs["record_class"] = rows
    async with acquire(timeout=options.timeout) as connection:
        connection._pooled.not_resettable = traits.not_resettable
        connection._pooled.ran_code = traits.runs_code
        async with aclosing(getattr(connection, method.name)(query, args, **kwargs)) as results:
            async for result in results:
                yield result


async def execute_text(request: Awaitable[str], acquire: Acquire, query: str, timeout: float | None) -> str:
    """Wait for a shared execute() of a text without arguments; returns the command tag.

    If the server counts several statements in the text, although the driver has counted one, none of them has run. They
    run on a lease then.
    """
    try:
        return await request
    except PostgresSyntaxError as error:
        if error.server_source_function != "exec_parse_message":
            raise
    return await run_on_lease(  # type: ignore[no-any-return]
        acquire, EXECUTE, query, (), 0, None, timeout, has_hidden_effects=True
    )


class OpenStreams:
    """The streams that are open on the leases of one pool, which has at most `limit` connections."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0
        self._warned = False

    def begin(self) -> None:
        """Count one more. The first time that no connection is left for anything else, the log says so."""
        self._count += 1
        if self._count >= self._limit and not self._warned:
            self._warned = True
            log.warning(
                "all %d connections of a pool are leased to streams: a query of the pool inside the loops that read "
                "them would wait for ever. Make the pool larger than the number of streams that are open at the same "
                "time (max_size=), or read the rows first",
                self._limit,
            )

    def end(self) -> None:
        """Count one less."""
        self._count -= 1


class PoolStreamLease:
    """Leases the connection of one stream; `spawn` runs a coroutine in the background."""

    origin = None
    """Nobody else has the connection."""

    def __init__(
        self, acquire: Acquire, query: str, streams: OpenStreams, spawn: Callable[[Coroutine[Any, Any, Any]], object]
    ) -> None:
        self._acquire = acquire
        self._query = query
        self._streams = streams
        self._spawn = spawn
        self._context: AbstractAsyncContextManager[Any] | None = None

    async def take(self, timeout: float | None) -> Connection[Any]:
        """Lease the connection. Raises InterfaceError for a query about an earlier statement of its session."""
        traits = classify(self._query)
        if traits.needs_own_session:
            raise InterfaceError(OTHER_SESSION, hint=OTHER_SESSION_HINT)
        context = self._acquire(timeout=timeout)
        proxy = await context.__aenter__()
        self._context = context
        self._streams.begin()
        proxy._pooled.not_resettable = traits.not_resettable
        proxy._pooled.ran_code = traits.runs_code
        connection: Connection[Any] = proxy._con
        return connection

    async def give_back(self) -> None:
        """End the lease, if there is one."""
        context, self._context = self._context, None
        if context is not None:
            self._streams.end()
            await context.__aexit__(None, None, None)

    def abandon(self) -> None:
        """End the lease in the background."""
        if self._context is not None:
            self._spawn(self.give_back())
