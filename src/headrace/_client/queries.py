"""The query methods of a connection: each is one request in its pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from headrace._client.base import ConnectionBase
from headrace._core.rows.record import Record
from headrace._io.driver import KIND_FIRST_ROW, KIND_ROWS, KIND_STATUS, KIND_VALUE
from headrace._sql.named_parameters import bound

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace._sql.named_parameters import AnyQuery

T = TypeVar("T")
R = TypeVar("R", bound=Record)


class QueryMethods(ConnectionBase):
    """`execute()`, `fetch()` and their like."""

    async def execute(self, query: AnyQuery, *args: object, timeout: float | None = None) -> str:
        """Run a query and return the last command tag, such as "INSERT 0 1".

        Without arguments the text may hold several statements, which run as one implicit transaction
        (protocol-flow-multi-statement); with arguments it holds one.
        """
        driver = self._driver
        seconds = self._timeout(timeout)
        if not isinstance(query, str):
            query, args = bound(query, args)
        if args:
            request = driver.query(query, args, KIND_STATUS, 0, 0, self._record_class)
            return await driver.reply(request, seconds)  # type: ignore[no-any-return]
        return await driver.reply(driver.simple_query(query), seconds)  # type: ignore[no-any-return]

    async def executemany(
        self,
        command: AnyQuery,
        args: Iterable[Sequence[object] | Mapping[str, object]],
        *,
        timeout: float | None = None,
    ) -> None:
        """Run a command once for each element of `args`: all of it, or nothing where any of it fails.

        An element is a sequence of arguments; for a `sql()` with named parameters, a mapping with a value for each
        name. They are encoded while the server works on those before; an element that cannot be encoded undoes all.
        """
        seconds = self._timeout(timeout)
        request = self._driver.batch(command, args, self._record_class, False)
        await self._driver.reply(request, seconds)

    @overload
    async def fetch(
        self, query: AnyQuery, *args: object, timeout: float | None = None, record_class: None = None, row: None = None
    ) -> list[Record]: ...

    @overload
    async def fetch(
        self, query: AnyQuery, *args: object, timeout: float | None = None, record_class: type[R], row: None = None
    ) -> list[R]: ...

    @overload
    async def fetch(
        self, query: AnyQuery, *args: object, timeout: float | None = None, record_class: None = None, row: type[T]
    ) -> list[T]: ...

    async def fetch(
        self,
        query: AnyQuery,
        *args: object,
        timeout: float | None = None,
        record_class: type[Record] | None = None,
        row: type[Any] | None = None,
    ) -> list[Any]:
        """Run a query and return all rows, as `Record`s or as what was asked for.

        `record_class` is a subclass of `Record`; `row` any dataclass, NamedTuple, TypedDict, attrs, msgspec or pydantic
        class, whose fields get the columns of their names. Where fields and columns differ InterfaceError names them,
        before the query runs.
        """
        seconds = self._timeout(timeout)
        request = self._driver.query(query, args, KIND_ROWS, 0, 0, self._rows_as(record_class, row))
        return await self._driver.reply(request, seconds)  # type: ignore[no-any-return]

    @overload
    async def fetchrow(
        self, query: AnyQuery, *args: object, timeout: float | None = None, record_class: None = None, row: None = None
    ) -> Record | None: ...

    @overload
    async def fetchrow(
        self, query: AnyQuery, *args: object, timeout: float | None = None, record_class: type[R], row: None = None
    ) -> R | None: ...

    @overload
    async def fetchrow(
        self, query: AnyQuery, *args: object, timeout: float | None = None, record_class: None = None, row: type[T]
    ) -> T | None: ...

    async def fetchrow(
        self,
        query: AnyQuery,
        *args: object,
        timeout: float | None = None,
        record_class: type[Record] | None = None,
        row: type[Any] | None = None,
    ) -> Any:
        """Run a query and return its first row, None where there is none. See `fetch()` for what a row can be."""
        seconds = self._timeout(timeout)
        request = self._driver.query(query, args, KIND_FIRST_ROW, 1, 0, self._rows_as(record_class, row))
        return await self._driver.reply(request, seconds)

    async def fetchval(
        self, query: AnyQuery, *args: object, column: int | str = 0, timeout: float | None = None
    ) -> Any:
        """Run a query and return one column (by index or name) of its first row, None where there is no row.

        Raises IndexError or KeyError where there is no such column.
        """
        seconds = self._timeout(timeout)
        request = self._driver.query(query, args, KIND_VALUE, 1, column, self._record_class)
        return await self._driver.reply(request, seconds)

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
        """Run a query once for each element of `args`, as one atomic request, and return the rows of all, in order.

        See `executemany()` for the elements, and `fetch()` for what a row can be.
        """
        seconds = self._timeout(timeout)
        request = self._driver.batch(query, args, self._rows_as(record_class, row), True)
        return await self._driver.reply(request, seconds)  # type: ignore[no-any-return]
