"""The pool's own query methods: many callers share its connections."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar, overload

from headrace._client.timeouts import checked_timeout, returns_coroutine
from headrace._core.rows.record import Record
from headrace._io.driver import KIND_FIRST_ROW, KIND_ROWS, KIND_STATUS, KIND_VALUE
from headrace._sql.classify import classify
from headrace._sql.named_parameters import bound, bound_each
from headrace.exceptions import InterfaceError, PostgresSyntaxError
from headrace.pool.acquire import LeaseMethods
from headrace.rows import checked_record_class, rows_as

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace._core.pipeline.requests import Request
    from headrace._core.rows.row_plan import RowShape
    from headrace._sql.named_parameters import AnyQuery
    from headrace.connection import Connection

T = TypeVar("T")
R = TypeVar("R", bound=Record)

OTHER_SESSION = (
    "lastval() and currval() tell about an earlier statement of the same session, but each call of a pool's own method "
    "may go to another session: the value would be that of another caller"
)
OTHER_SESSION_HINT = (
    "Use RETURNING in the statement that takes the value from the sequence, or run both statements on one connection: "
    "async with pool.acquire() as connection"
)


class SharedMethods(LeaseMethods):
    """`fetch()`, `execute()` and the like, on connections that are shared.

    A statement sent by them runs on a session that others use too, so it must not change the session. A statement
    that does (BEGIN, SET, LISTEN, PREPARE, temporary tables ...) is recognised and gets a lease of its own with a
    reset after it; if a reset would not do (SET ROLE, temporary tables, PREPARE), the connection is replaced. The
    text of CALL and DO does not show what they do: the server is asked after the reset, and the connection is
    replaced if its session is not as `init` left it. A function that changes a setting which the server reports is
    noticed, too. Other effects of functions, such as an advisory lock for the session, are not: use `acquire()` for
    these. If the pool has a `setup` callback, each of these methods takes a lease, so that the callback prepares the
    connection. The same holds for a method whose namesake of Connection was replaced, by a `connection_class`, a
    tracing tool or a mock: that one is called.

    A plain read may be sent behind the work of others, as long as that is expected to end within a few milliseconds,
    and is asked again on another connection if it is stuck there. All else is sent on a connection with nothing in
    flight. A call whose connection ends before the server has begun with it is sent on another one, at most three
    times.
    """

    _connection_class: type[Connection]
    _record_class: type[Record] | RowShape
    _command_timeout: float | None
    _leases_always: bool

    # Some return the coroutine of _shared() instead of being coroutine functions around it: one frame less a query.

    async def execute(self, query: AnyQuery, *args: object, timeout: float | None = None) -> str:
        """Run a query on a shared connection and return its command tag. See `Connection.execute()`."""
        return await self._shared(query, args, KIND_STATUS, 0, 0, None, timeout, "execute")  # type: ignore[no-any-return]

    async def executemany(
        self,
        command: AnyQuery,
        args: Iterable[Sequence[object] | Mapping[str, object]],
        *,
        timeout: float | None = None,
    ) -> None:
        """Run a command for each element of `args`, all or nothing. See `Connection.executemany()`."""
        return await self._shared_batch("executemany", command, args, False, None, timeout)  # type: ignore[no-any-return]

    @overload
    def fetch(
        self, query: AnyQuery, *args: object, timeout: float | None = None, record_class: None = None, row: None = None
    ) -> Coroutine[Any, Any, list[Record]]: ...

    @overload
    def fetch(
        self, query: AnyQuery, *args: object, timeout: float | None = None, record_class: type[R], row: None = None
    ) -> Coroutine[Any, Any, list[R]]: ...

    @overload
    def fetch(
        self, query: AnyQuery, *args: object, timeout: float | None = None, record_class: None = None, row: type[T]
    ) -> Coroutine[Any, Any, list[T]]: ...

    @returns_coroutine
    def fetch(
        self,
        query: AnyQuery,
        *args: object,
        timeout: float | None = None,
        record_class: type[Record] | None = None,
        row: type[Any] | None = None,
    ) -> Coroutine[Any, Any, list[Any]]:
        """Run a query on a shared connection and return all rows. See `Connection.fetch()`."""
        rows = record_class if row is None else rows_as(row, record_class)
        return self._shared(query, args, KIND_ROWS, 0, 0, rows, timeout, "fetch")

    @overload
    def fetchrow(
        self, query: AnyQuery, *args: object, timeout: float | None = None, record_class: None = None, row: None = None
    ) -> Coroutine[Any, Any, Record | None]: ...

    @overload
    def fetchrow(
        self, query: AnyQuery, *args: object, timeout: float | None = None, record_class: type[R], row: None = None
    ) -> Coroutine[Any, Any, R | None]: ...

    @overload
    def fetchrow(
        self, query: AnyQuery, *args: object, timeout: float | None = None, record_class: None = None, row: type[T]
    ) -> Coroutine[Any, Any, T | None]: ...

    @returns_coroutine
    def fetchrow(
        self,
        query: AnyQuery,
        *args: object,
        timeout: float | None = None,
        record_class: type[Record] | None = None,
        row: type[Any] | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Run a query on a shared connection and return the first row or None. See `Connection.fetchrow()`."""
        rows = record_class if row is None else rows_as(row, record_class)
        return self._shared(query, args, KIND_FIRST_ROW, 1, 0, rows, timeout, "fetchrow")

    @returns_coroutine
    def fetchval(
        self, query: AnyQuery, *args: object, column: int | str = 0, timeout: float | None = None
    ) -> Coroutine[Any, Any, Any]:
        """Run a query on a shared connection and return one value. See `Connection.fetchval()`."""
        return self._shared(query, args, KIND_VALUE, 1, column, None, timeout, "fetchval")

    @overload
    async def fetchmany(
        self,
        query: AnyQuery,
        args: Iterable[Sequence[object] | Mapping[str, object]],
        *,
        timeout: float | None = None,
        record_class: None = None,
        row: None = None,
    ) -> list[Record]: ...

    @overload
    async def fetchmany(
        self,
        query: AnyQuery,
        args: Iterable[Sequence[object] | Mapping[str, object]],
        *,
        timeout: float | None = None,
        record_class: type[R],
        row: None = None,
    ) -> list[R]: ...

    @overload
    async def fetchmany(
        self,
        query: AnyQuery,
        args: Iterable[Sequence[object] | Mapping[str, object]],
        *,
        timeout: float | None = None,
        record_class: None = None,
        row: type[T],
    ) -> list[T]: ...

    async def fetchmany(
        self,
        query: AnyQuery,
        args: Iterable[Sequence[object] | Mapping[str, object]],
        *,
        timeout: float | None = None,
        record_class: type[Record] | None = None,
        row: type[Any] | None = None,
    ) -> list[Any]:
        """Run a query for each element of `args`, all or nothing, and return all rows. See `Connection.fetchmany()`."""
        rows = record_class if row is None else rows_as(row, record_class)
        return await self._shared_batch("fetchmany", query, args, True, rows, timeout)  # type: ignore[no-any-return]

    async def _shared(
        self,
        query: AnyQuery,
        args: tuple[object, ...],
        kind: int,
        limit: int,
        column: int | str,
        record_class: type[Record] | RowShape | None,
        timeout: float | None,
        method: str,
    ) -> Any:
        unseen = False
        if not isinstance(query, str):
            query, args = bound(query, args)
        if not self._leases_always and method not in self._connection_class._replaced:
            rows = self._record_class if record_class is None else checked_record_class(record_class)
            seconds = self._command_timeout if timeout is None else checked_timeout(timeout)
            request: Request | None
            if kind == KIND_STATUS and not args:
                request = self._dispatcher.direct(query, seconds)
            else:
                request = self._dispatcher.query(query, args, kind, limit, column, rows, seconds)
            if request is not None:
                try:
                    result = await request
                except BaseException as error:
                    if request.observer is not None:
                        request.observer.shared(request, seconds, error)
                    if kind != KIND_STATUS or not holds_several(error):
                        raise
                    # The server has counted more statements than the driver, which has not seen all of the text.
                    unseen = True
                else:
                    if request.observer is not None:
                        request.observer.shared(request, seconds, None)
                    return result
        kwargs: dict[str, Any] = {"timeout": timeout}
        if kind == KIND_VALUE:
            kwargs["column"] = column
        elif kind != KIND_STATUS:
            kwargs["record_class"] = record_class
        return await self._leased(method, query, (query, *args), kwargs, unseen)

    async def _shared_batch(
        self,
        method: str,
        query: AnyQuery,
        args: Iterable[Sequence[object] | Mapping[str, object]],
        collects: bool,
        record_class: type[Record] | RowShape | None,
        timeout: float | None,
    ) -> Any:
        if not isinstance(query, str):
            query, args = bound_each(query, args)
        if not self._leases_always and method not in self._connection_class._replaced:
            rows = self._record_class if record_class is None else checked_record_class(record_class)
            seconds = self._command_timeout if timeout is None else checked_timeout(timeout)
            request = self._dispatcher.batch(query, args, rows, collects, seconds)
            if request is not None:
                try:
                    result = await request
                except BaseException as error:
                    if request.observer is not None:
                        request.observer.shared(request, seconds, error)
                    raise
                if request.observer is not None:
                    request.observer.shared(request, seconds, None)
                return result
        kwargs: dict[str, Any] = {"timeout": timeout}
        if collects:
            kwargs["record_class"] = record_class
        return await self._leased(method, query, (query, args), kwargs)

    async def _leased(
        self, method: str, query: str, args: tuple[Any, ...], kwargs: dict[str, Any], unseen: bool = False
    ) -> Any:
        """Run a text on a lease of its own; `unseen` says that it may have effects that the text does not show."""
        connection: Any
        traits = classify(query)
        if traits.needs_own_session:
            raise InterfaceError(OTHER_SESSION, hint=OTHER_SESSION_HINT)
        async with self.acquire(timeout=kwargs.get("timeout")) as connection:
            # The holder of a lease may mean to keep a role; the caller of a shared method cannot.
            connection._pooled.not_resettable = traits.not_resettable
            connection._pooled.ran_code = traits.runs_code or unseen
            return await getattr(connection, method)(*args, **kwargs)


def holds_several(error: BaseException) -> bool:
    """Return whether the server has refused a text because it holds several statements: none of them was executed."""
    return isinstance(error, PostgresSyntaxError) and error.server_source_function == "exec_parse_message"
