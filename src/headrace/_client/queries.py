"""The query methods that `Connection` and `Pool` share: a description of each, and the interface that carries them out.

Each method is written once, in `Connection`, and `Pool` has the same function. A method describes its request to
`_request()`: the connection sends the request itself, and the pool chooses a connection for it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar

from headrace._client.timeouts import checked_timeout
from headrace._io.driver import KIND_ARROW, KIND_FIRST_ROW, KIND_ROWS, KIND_STATUS, KIND_VALUE
from headrace.rows.type_vars import RecordT_co

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from contextlib import AbstractAsyncContextManager

    from headrace._client.interface import ConnectionInterface
    from headrace._core.rows.record import Record
    from headrace._core.rows.row_plan import RowShape
    from headrace._sql.named_parameters import AnyQuery
    from headrace.stream import StreamLease

T_co = TypeVar("T_co", covariant=True)


class QueryMethod:
    """The description of a query method.

    `kind` is the kind of result (one of the driver's KIND_ constants), `limit` the number of rows to ask the server for
    (0: all). With `many` the arguments are an iterable, and the query is run once for each element. With `begins` that
    is done in a transaction of its own.
    """

    __slots__ = ("begins", "kind", "limit", "many", "name", "original")

    def __init__(self, name: str, kind: int, *, limit: int = 0, many: bool = False, begins: bool = False) -> None:
        self.name = name
        self.begins = begins
        self.kind = kind
        self.limit = limit
        self.many = many
        self.original: object = None
        """The function in `Connection`. A pool calls any other function that it finds under this name."""


EXECUTE: Final = QueryMethod("execute", KIND_STATUS)
EXECUTEMANY: Final = QueryMethod("executemany", KIND_STATUS, many=True)
EXECUTEMANY_BEGINNING: Final = QueryMethod("executemany", KIND_STATUS, many=True, begins=True)
FETCH: Final = QueryMethod("fetch", KIND_ROWS)
FETCH_ARROW: Final = QueryMethod("fetch_arrow", KIND_ARROW)
FETCHMANY: Final = QueryMethod("fetchmany", KIND_ROWS, many=True)
FETCHMANY_BEGINNING: Final = QueryMethod("fetchmany", KIND_ROWS, many=True, begins=True)
FETCHROW: Final = QueryMethod("fetchrow", KIND_FIRST_ROW, limit=1)
FETCHVAL: Final = QueryMethod("fetchval", KIND_VALUE, limit=1)

FETCH_EACH: Final = QueryMethod("fetch_each", KIND_ROWS)
FETCHROW_EACH: Final = QueryMethod("fetchrow_each", KIND_FIRST_ROW, limit=1)
FETCHVAL_EACH: Final = QueryMethod("fetchval_each", KIND_VALUE, limit=1)

EACH_METHODS: Final = (FETCH_EACH, FETCHROW_EACH, FETCHVAL_EACH)
QUERY_METHODS: Final = (EXECUTE, EXECUTEMANY, FETCH, FETCH_ARROW, FETCHMANY, FETCHROW, FETCHVAL, *EACH_METHODS)


class EachOptions(NamedTuple):
    """The options of fetch_each(), fetchrow_each() and fetchval_each()."""

    timeout: float | None
    return_errors: bool
    pipeline_writes: bool
    window: int

    def checked(self, command_timeout: float | None) -> EachOptions:
        """Return the options with the default time limit; raises ValueError for options that make no sense."""
        if isinstance(self.window, bool) or not isinstance(self.window, int) or self.window < 1:
            raise ValueError(f"window is expected to be a number of elements greater than zero, got {self.window!r}")
        seconds = command_timeout if self.timeout is None else checked_timeout(self.timeout)
        return self._replace(timeout=seconds, window=min(self.window, sys.maxsize))


def checked_elements(args: Any) -> Any:
    """Return the `args` of fetch_each() and its kin; raises TypeError if they cannot be iterated."""
    if isinstance(args, (str, bytes)) or not (hasattr(args, "__iter__") or hasattr(args, "__aiter__")):
        raise TypeError(
            "args is expected to be an iterable or asynchronous iterable that has a sequence of arguments for each "
            f"execution, got {type(args).__name__} {args!r:.100}"
        )
    return args


class ResultIterator(Protocol[T_co]):
    """The results of a query for each element of an iterable: an asynchronous iterator with `aclose()`.

    `async with contextlib.aclosing(pool.fetch_each(...)) as results` ends it at the end of the block.
    """

    def __aiter__(self) -> AsyncIterator[T_co]: ...

    def __anext__(self) -> Awaitable[T_co]: ...

    async def aclose(self) -> None:
        """End the iteration.

        Requests that were not sent are dropped, and plain reads outside of transaction blocks are cancelled. Other
        requests that were sent are waited for: `timeout` seconds at most, if there is a time limit; then they are
        cancelled.
        """


class Queryable(Protocol[RecordT_co]):
    """The common ground of `Connection` and `Pool`: their query methods and COPY methods need nothing else."""

    @property
    def _record_class(self) -> type[RecordT_co]:
        """The class that rows become by default."""

    def _request(
        self,
        method: QueryMethod,
        query: AnyQuery,
        args: Any,
        column: int | str,
        rows: type[Record] | RowShape | None,
        timeout: float | None,
    ) -> Awaitable[Any]:
        """Send the request of a query method; returns the awaitable of its result.

        `args` is the tuple of arguments, or the iterable of them for a method with `many`. `column` is for values,
        `rows` the class that rows become (None: the default).
        """

    def _each(
        self,
        method: QueryMethod,
        query: AnyQuery,
        args: Any,
        column: int | str,
        rows: type[Record] | RowShape | None,
        options: EachOptions,
    ) -> ResultIterator[Any]:
        """Return the results of a query for each element of `args`. Nothing is sent before the first is awaited."""

    def _for_copy(self, timeout: float | None = None) -> AbstractAsyncContextManager[ConnectionInterface]:
        """Return a context manager that provides the connection for a COPY. It waits `timeout` seconds at most."""

    def _for_stream(self, query: str) -> StreamLease:
        """Return what provides the connection for a stream of the rows of a query."""
