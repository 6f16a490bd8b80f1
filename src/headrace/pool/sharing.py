"""The pool's own query methods: many callers on the same connections, each query in the pipeline with least to do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar, overload

from headrace._core.record import Record
from headrace.driver import KIND_FIRST_ROW, KIND_ROWS, KIND_STATUS, KIND_VALUE
from headrace.errors import PostgresError
from headrace.lexer import classify
from headrace.pool.leasing import LeaseMethods
from headrace.pool.routing import Reason
from headrace.query import bound, bound_each
from headrace.rows import checked_record_class, rows_as
from headrace.waiting import checked_timeout, returns_coroutine

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace._core.request import Request
    from headrace._core.rowplan import RowShape
    from headrace.connection import Connection
    from headrace.driver import Driver
    from headrace.query import AnyQuery

T = TypeVar("T")
R = TypeVar("R", bound=Record)

log = logging.getLogger("headrace.pool")


class SharedMethods(LeaseMethods):
    """`fetch()`, `execute()` and the like, on connections that are shared.

    A statement sent by them runs beside others on the same session, so it must not change the session. What does
    (BEGIN, SET, LISTEN, PREPARE, temporary tables ...) is recognised and given a lease of its own with a reset after
    it; where a reset would not do (SET ROLE, temporary tables, PREPARE) the connection is replaced. What cannot be
    seen in the text, a function that calls set_config() or takes a session-level advisory lock, needs `acquire()`.
    Where the pool has a `setup` callback each of these methods takes a lease, for the callback to prepare the
    connection. So does a method whose namesake of Connection was replaced, by a `connection_class` of the program's,
    a tool that traces queries or a test that mocks it; it calls that one then.

    A query that had not been sent when its connection was lost is sent on another one, and so is one whose statement
    the server has refused as stale while a transaction of somebody's lease was begun behind it.
    """

    _connection_class: type[Connection]
    _record_class: type[Record] | RowShape
    _command_timeout: float | None
    _leases_always: bool

    # Some return the coroutine of _shared() instead of being coroutine functions around it: one frame less a query.

    async def execute(self, query: AnyQuery, *args: object, timeout: float | None = None) -> str:
        """Run a query on a shared connection and return its command tag. See `Connection.execute()`."""
        if not isinstance(query, str):
            query, args = bound(query, args)
        if not args and classify(query).statements != 1:
            # Several statements are one implicit transaction; they get a connection of their own.
            return await self._leased("execute", query, (query,), {"timeout": timeout})  # type: ignore[no-any-return]
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
        if not isinstance(query, str):
            query, args = bound(query, args)
        if self._leases_always or method in self._connection_class._replaced or classify(query).session_state:
            kwargs: dict[str, Any] = {"timeout": timeout}
            if kind == KIND_VALUE:
                kwargs["column"] = column
            elif kind != KIND_STATUS:
                kwargs["record_class"] = record_class
            return await self._leased(method, query, (query, *args), kwargs)
        rows = self._record_class if record_class is None else checked_record_class(record_class)
        timeout = self._command_timeout if timeout is None else checked_timeout(timeout)
        deadline: float | None = None
        while True:
            driver = self._router.share()
            if driver is None:
                if timeout is not None and deadline is None:
                    deadline = self._deadline(timeout)
                driver = await self._wait_to_share(deadline)
            elif self._router.relief and driver.load:
                self._upkeep.relieve()
            if deadline is not None:
                timeout = max(deadline - self._upkeep.now(), 0)
            request: Request
            if kind == KIND_STATUS and not args:
                request = driver.script(query)
            else:
                request = driver.query(query, args, kind, limit, column, rows, True)
            began = self._upkeep.now() if timeout is not None and deadline is None else 0.0
            try:
                return await driver.reply(request, timeout)
            except PostgresError as error:
                if not error.safe_to_retry or not self._upkeep.is_running:
                    raise
                if timeout is not None and deadline is None:
                    deadline = began + timeout
            finally:
                if not driver.pristine:
                    self._quarantine(driver)

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
        if self._leases_always or method in self._connection_class._replaced or classify(query).session_state:
            kwargs: dict[str, Any] = {"timeout": timeout}
            if collects:
                kwargs["record_class"] = record_class
            return await self._leased(method, query, (query, args), kwargs)
        rows = self._record_class if record_class is None else checked_record_class(record_class)
        timeout = self._command_timeout if timeout is None else checked_timeout(timeout)
        deadline = None if timeout is None else self._deadline(timeout)
        while True:
            driver = self._router.share()
            if driver is None:
                driver = await self._wait_to_share(deadline)
            elif self._router.relief and driver.load:
                self._upkeep.relieve()
            if deadline is not None:
                timeout = max(deadline - self._upkeep.now(), 0)
            request: Request = driver.batch(query, args, rows, collects, shared=True)
            try:
                return await driver.reply(request, timeout)
            except PostgresError as error:
                # The elements of an iterator are gone.
                if not error.safe_to_retry or not self._upkeep.is_running or iter(args) is args:
                    raise
            finally:
                if not driver.pristine:
                    self._quarantine(driver)

    def _deadline(self, timeout: float) -> float:
        self._check()
        return self._upkeep.now() + timeout

    async def _wait_to_share(self, deadline: float | None) -> Driver:
        """Return a connection to share, when there is one. Raises TimeoutError past the deadline."""
        self._check()
        driver = self._upkeep.wake()
        limit = asyncio.timeout_at(deadline)
        try:
            async with limit:
                # Between its being given and this task's turn somebody may have leased it, and begun a transaction.
                while driver is None or driver not in self._router.free:
                    driver = await self._stand_in_line(False)
        except TimeoutError as error:
            # An attempt to connect may have timed out as well, which says nothing of the others.
            if limit.expired():
                error.add_note(self._occupation())
            raise
        return driver

    async def _leased(self, method: str, query: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        connection: Any
        async with self.acquire(timeout=kwargs.get("timeout")) as connection:
            # Whoever leases a connection may mean to keep a role; through a shared method nobody can.
            connection._member.lasting = classify(query).lasting
            return await getattr(connection, method)(*args, **kwargs)

    def _quarantine(self, driver: Driver) -> None:
        """A shared connection is inside a transaction: nobody else gets it."""
        member = self._router.members.get(driver)
        if member is not None and not member.leased and member.is_reset:
            log.warning("a shared connection was left inside a transaction: it is closed, not reused")
            self._upkeep.retire(member, Reason.QUARANTINED)
