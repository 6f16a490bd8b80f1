"""The loader: rows by key, asked for one by one and fetched together."""

from __future__ import annotations

import asyncio
from asyncio import _get_running_loop
from collections.abc import Iterable, MutableMapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar, overload

from headrace._client.timeouts import checked_timeout
from headrace._core.pipeline.key_batch import KeyBatch
from headrace._core.pipeline.key_future import Wakeups
from headrace._core.rows.keyed_rows import KeyedShape
from headrace._core.rows.record import Record
from headrace._sql.classify import classify
from headrace._sql.lexer import highest_parameter
from headrace._sql.named_parameters import unbound_text
from headrace.cluster.view import View
from headrace.connection import Connection
from headrace.exceptions import ArgumentError, InterfaceError, PostgresError
from headrace.exceptions._values import shown
from headrace.pool import Pool
from headrace.rows import checked_record_class, rows_as

if TYPE_CHECKING:
    from headrace._core.rows.row_plan import RowShape

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")
R = TypeVar("R", bound=Record)

MAX_BATCH_SIZE: Final = 1000
"""The most keys of a statement, unless the program says otherwise."""

_MISSING: Final[Any] = object()


class Loader(Generic[K, V]):
    """Fetches rows by key: the keys that are asked for at about the same time travel in one statement, each once.

    `Loader[K, V]` takes keys of type K; V is the type that `load()` gives: `Product | None`, or `list[Product]` with
    `many=True`. Type checkers derive V from the arguments.

    A loader belongs to the event loop of its first call. The keys that are asked for in one turn of the loop are sent
    together, and so are those that are asked for while a statement is under way. A key that is asked for again while
    its statement is under way joins the next one, because the caller may have changed its row in the meantime.

    Keys are encoded one by one, as the array's elements, when their statement is sent. A key that does not fit raises
    ArgumentError for itself alone. Keys with equal bytes are the same key, such as 1, True and Decimal(1) for an int
    column, and so are those that are one value of the type, such as 1.0 and 1.00 for numeric. A row belongs to the keys
    that its key column is equal to.

    Every future of a statement raises the statement's error. If the statement is a plain read of a pool with
    `repeat_reads`, and a value makes it fail (a SQLSTATE of class 22, or the check of a domain), the keys are
    divided and asked again, so that only the keys that cause the error raise it.
    """

    # -- making one: the overloads say what load() gives ------------------------------------------------------------

    @overload
    def __init__(
        self: Loader[Any, Record | None],
        source: Pool | View | Connection,
        query: str,
        *,
        key: str | None = None,
        position: str | None = None,
        args: Sequence[object] = (),
        many: Literal[False] = False,
        max_batch_size: int = MAX_BATCH_SIZE,
        cache: bool | MutableMapping[Any, Any] = False,
        row: None = None,
        record_class: None = None,
        timeout: float | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self: Loader[Any, list[Record]],
        source: Pool | View | Connection,
        query: str,
        *,
        key: str | None = None,
        position: str | None = None,
        args: Sequence[object] = (),
        many: Literal[True],
        max_batch_size: int = MAX_BATCH_SIZE,
        cache: bool | MutableMapping[Any, Any] = False,
        row: None = None,
        record_class: None = None,
        timeout: float | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self: Loader[Any, R | None],
        source: Pool | View | Connection,
        query: str,
        *,
        key: str | None = None,
        position: str | None = None,
        args: Sequence[object] = (),
        many: Literal[False] = False,
        max_batch_size: int = MAX_BATCH_SIZE,
        cache: bool | MutableMapping[Any, Any] = False,
        row: None = None,
        record_class: type[R],
        timeout: float | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self: Loader[Any, list[R]],
        source: Pool | View | Connection,
        query: str,
        *,
        key: str | None = None,
        position: str | None = None,
        args: Sequence[object] = (),
        many: Literal[True],
        max_batch_size: int = MAX_BATCH_SIZE,
        cache: bool | MutableMapping[Any, Any] = False,
        row: None = None,
        record_class: type[R],
        timeout: float | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self: Loader[Any, T | None],
        source: Pool | View | Connection,
        query: str,
        *,
        key: str | None = None,
        position: str | None = None,
        args: Sequence[object] = (),
        many: Literal[False] = False,
        max_batch_size: int = MAX_BATCH_SIZE,
        cache: bool | MutableMapping[Any, Any] = False,
        row: type[T],
        record_class: None = None,
        timeout: float | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self: Loader[Any, list[T]],
        source: Pool | View | Connection,
        query: str,
        *,
        key: str | None = None,
        position: str | None = None,
        args: Sequence[object] = (),
        many: Literal[True],
        max_batch_size: int = MAX_BATCH_SIZE,
        cache: bool | MutableMapping[Any, Any] = False,
        row: type[T],
        record_class: None = None,
        timeout: float | None = None,
    ) -> None: ...

    def __init__(
        self,
        source: Pool | View | Connection,
        query: str,
        *,
        key: str | None = None,
        position: str | None = None,
        args: Sequence[object] = (),
        many: bool = False,
        max_batch_size: int = MAX_BATCH_SIZE,
        cache: bool | MutableMapping[Any, Any] = False,
        row: type[Any] | None = None,
        record_class: type[Record] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Make a loader for a query whose parameter $1 is the array of keys, such as `... WHERE id = ANY($1)`.

        `source` is a pool, a view of a cluster, or a connection inside of a transaction. `key` is the column of the
        result that has the key of each row. `position` is used instead if only the server can compare keys, as for
        citext, jsonb and collations: the column that has the position of the key in $1, from
        `unnest($1::citext[]) WITH ORDINALITY`. A class for rows needs no field for that column. `args` are the values
        of $2, $3, ... in every statement.

        `many` gives a list of rows for each key. A statement has at most `max_batch_size` distinct keys, and takes at
        most `timeout` seconds, by default the `command_timeout`. `cache=True`, or a mapping, keeps what was loaded.
        `row` and `record_class` are the class of the rows: see `Connection.fetch()`.

        Raises InterfaceError or ValueError for arguments that do not make sense. A wrong column is noticed when the
        first keys are sent, and raised for these.
        """
        if not isinstance(source, (Pool, View, Connection)):
            raise InterfaceError(f"a loader is expected to get a Pool or a Connection, got {type(source).__name__}")
        self._source = source
        self._query = unbound_text(query, "Loader()")
        self._args = _checked_args(self._query, args)
        if (key is None) == (position is None):
            raise InterfaceError(
                f"a loader is expected to get either key= or position=, got {'neither' if key is None else 'both'}",
                hint="key is the name of the column that has the key of each row.",
            )
        column = position if key is None else key
        if not isinstance(column, str):
            name = "position" if key is None else "key"
            raise InterfaceError(f"{name} is expected to be the name of a column, got {shown(column)}")
        rows: type[Record] | RowShape
        if record_class is None and row is None:
            rows = source._record_class
        else:
            rows = checked_record_class(record_class) if row is None else rows_as(row, record_class)
        self._shape = KeyedShape(rows, column, key is None)
        if not isinstance(many, bool):
            raise ValueError(f"many is expected to be True or False, got {shown(many)}")
        self._many = many
        if isinstance(max_batch_size, bool) or not isinstance(max_batch_size, int) or max_batch_size < 1:
            raise ValueError(f"max_batch_size is expected to be greater than zero, got {shown(max_batch_size)}")
        self._max_batch_size = max_batch_size
        self._timeout = checked_timeout(timeout)
        self._cache = _checked_cache(cache)
        self._turn = 0
        """Counts the times that collected keys were sent."""
        self._outdated: dict[Any, int] = {}
        """Keys that were cleared or primed, with the last turn whose rows must not be cached for them."""
        self._all_outdated = 0
        """The same for all keys."""
        traits = classify(self._query)
        self._divides = (
            isinstance(source, (Pool, View)) and source._repeat_reads and traits.plain_read and not traits.reads_session
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wakeups: Wakeups | None = None
        self._pending: KeyBatch | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        waiting = len(self._pending) if self._pending is not None else 0
        return f"<{type(self).__name__} {self._shape.column} waiting:{waiting} under_way:{len(self._under_way)}>"

    # -- loading -----------------------------------------------------------------------------------------------------

    def load(self, key: K) -> asyncio.Future[V]:
        """Ask for the row of a key; returns the future of it at once: None, or [] with `many`, if there is no row.

        The future may be awaited, or passed to gather(), wait_for(), shield() and the like. Cancelling it affects no
        other future, not even one for the same key; the statement is cancelled if all of its futures are.

        Raises InterfaceError for None, for a key that a cache cannot hold, and in another event loop than that of the
        first call. The future raises ArgumentError for a key that the parameter does not take, LoaderKeyError if a
        row belongs to no key and may be missing for this one, InterfaceError for several rows without `many`,
        TimeoutError, and the errors of `Pool.fetch()`. A pool that is closed lets the statements end that are under
        way; keys that were not sent raise InterfaceError.
        """
        if key is None:
            raise InterfaceError(_NO_KEY, hint=_NO_KEY_HINT)
        batch = self._pending
        if batch is None or _get_running_loop() is not self._loop:
            batch = self._begin()
        if self._cache is not None:
            found = self._cached(key)
            if found is not _MISSING:
                assert self._wakeups is not None
                return self._wakeups.done(found)
        return batch.ask(key)

    @overload
    def load_many(self, keys: Iterable[K], *, return_errors: Literal[False] = False) -> asyncio.Future[list[V]]: ...

    @overload
    def load_many(self, keys: Iterable[K], *, return_errors: bool) -> asyncio.Future[list[V | Exception]]: ...

    def load_many(self, keys: Iterable[K], *, return_errors: bool = False) -> asyncio.Future[Any]:
        """Ask for the rows of several keys; returns the future of a list with the result of each, in order.

        This costs less than `load()` for each key. The future raises the error of the first key that fails, after all
        have been answered. With `return_errors` each error is returned in the place of its key.
        """
        asked = list(keys)
        for at, key in enumerate(asked):
            if key is None:
                raise InterfaceError(f"{_NO_KEY} at position {at}", hint=_NO_KEY_HINT)
        batch = self._pending
        if batch is None or _get_running_loop() is not self._loop:
            batch = self._begin()
        if self._cache is None:
            return batch.ask_all(asked, None, [None] * len(asked), return_errors)
        results = [self._cached(key) for key in asked]
        positions = [at for at, result in enumerate(results) if result is _MISSING]
        return batch.ask_all([asked[at] for at in positions], positions, results, return_errors)

    # -- the cache ---------------------------------------------------------------------------------------------------

    def prime(self, key: K, value: V) -> None:
        """Put a result into the cache, in place of any other. Raises InterfaceError if the loader has no cache."""
        cache = self._checked_cache("prime()")
        self._cached(key)
        cache[key] = value
        if self._pending or self._under_way:
            # Keys that were not sent yet belong to the next turn.
            self._outdated[key] = self._turn + bool(self._pending)

    def clear(self, key: K = _MISSING) -> None:
        """Remove a key, or all keys, from the cache. A statement that is under way does not bring it back.

        Raises InterfaceError if the loader has no cache.
        """
        cache = self._checked_cache("clear()")
        if key is _MISSING:
            cache.clear()
            self._all_outdated = self._turn
        else:
            self._cached(key)
            cache.pop(key, None)
            self._outdated[key] = self._turn

    def _checked_cache(self, method: str) -> MutableMapping[Any, Any]:
        if self._cache is None:
            raise InterfaceError(f"{method} needs a cache, which this loader does not have", hint="Pass cache=True.")
        return self._cache

    def _cached(self, key: Any) -> Any:
        """Return the cached result of a key, or _MISSING."""
        assert self._cache is not None
        try:
            found = self._cache.get(key, _MISSING)
        except TypeError as error:
            raise InterfaceError(
                f"a key of a loader with a cache is expected to be hashable, got {shown(key)}: {error}",
                hint="Pass the key in another form, such as a tuple or a text, or use no cache.",
            ) from error
        # Each caller may change the list that it gets.
        return list(found) if self._many and found is not _MISSING else found

    def _remember(self, answered: list[tuple[Any, Any]], turn: int) -> None:
        """Cache what the statements of a turn have returned."""
        assert self._cache is not None
        if turn > self._all_outdated:
            for key, result in answered:
                if turn > self._outdated.get(key, 0):
                    self._cache[key] = list(result) if self._many else result

    # -- statements --------------------------------------------------------------------------------------------------

    def _begin(self) -> KeyBatch:
        """Return the batch that collects keys. The first key of a batch has it sent in the next turn of the loop."""
        loop = _get_running_loop()
        if loop is None:
            raise InterfaceError(
                "a loader is expected to be called in a running event loop, and none is running",
                hint="Call load() in a coroutine.",
            )
        if self._loop is None:
            self._loop = loop
            self._wakeups = Wakeups(loop, asyncio.Future, asyncio.CancelledError, asyncio.InvalidStateError)
        elif loop is not self._loop:
            raise InterfaceError(
                "cannot load: the loader belongs to another event loop",
                hint="Make a loader in each event loop, with a pool of that loop.",
            )
        if self._pending is None:
            assert self._wakeups is not None
            self._pending = KeyBatch(self._wakeups, self._shape, self._many)
            if not self._under_way:
                loop.call_soon(self._send)
        return self._pending

    def _send(self) -> None:
        """Send the keys that were collected."""
        collected, self._pending = self._pending, None
        if collected is not None:
            self._turn += 1
            # All statements of earlier turns have ended.
            self._outdated = {key: turn for key, turn in self._outdated.items() if turn >= self._turn}
            for batch in collected.divide(self._max_batch_size):
                if batch.wanted:
                    self._start(batch, self._turn)

    def _start(self, batch: KeyBatch, turn: int) -> None:
        assert self._loop is not None
        task = batch.task = self._loop.create_task(self._run(batch, turn))
        self._under_way.add(task)
        task.add_done_callback(partial(self._ended, batch))

    async def _run(self, batch: KeyBatch, turn: int) -> None:
        """Run the statement for a batch of keys, and hand out its rows."""
        answered: list[tuple[Any, Any]] | None = [] if self._cache is not None else None
        try:
            rows = await self._source.fetch(
                self._query,
                batch,
                *self._args,
                timeout=self._timeout,
                record_class=self._shape,  # type: ignore[call-overload]
            )
            batch.hand_out(rows, answered)
            if answered:
                self._remember(answered, turn)
        except Exception as error:
            if self._divides and batch.distinct_count > 1 and _is_data_error(error):
                for half in batch.halves():
                    self._start(half, turn)
            else:
                batch.fail(_explained(error, batch))

    def _ended(self, batch: KeyBatch, task: asyncio.Task[None]) -> None:
        """Send the keys that were asked for meanwhile, once all statements have ended."""
        self._under_way.discard(task)
        # Without an effect unless the task was cancelled, or stopped by SystemExit.
        batch.cancel()
        if not task.cancelled():
            task.exception()
        if not self._under_way and self._pending is not None:
            self._send()


_NO_KEY: Final = "a key of a loader is expected to be a value, got None"
_NO_KEY_HINT: Final = "NULL is equal to no key. Leave out keys that are None."


def _checked_args(query: str, args: object) -> tuple[object, ...]:
    """Return the arguments behind the keys; raises InterfaceError if their number does not suit the query."""
    if not isinstance(args, Sequence) or isinstance(args, (str, bytes, bytearray)):
        raise InterfaceError(f"args is expected to be a sequence of the values of $2, $3, ..., got {shown(args)}")
    count = highest_parameter(query)
    if count == 0:
        raise InterfaceError(
            "the query of a loader is expected to have the array of keys as $1, but has no parameter",
            hint="For example: SELECT * FROM product WHERE product_id = ANY($1).",
        )
    if count != len(args) + 1:
        raise InterfaceError(
            f"the query of the loader has {count} parameters: $1 for the keys and {count - 1} more, "
            f"but args has {len(args)} values",
            hint="Pass the values of $2, $3, ... as args=(...). They are the same for all keys.",
        )
    return tuple(args)


def _checked_cache(cache: object) -> MutableMapping[Any, Any] | None:
    if cache is None or cache is False:
        return None
    if cache is True:
        return {}
    if not isinstance(cache, MutableMapping):
        raise InterfaceError(f"cache is expected to be True, False or a mutable mapping, got {shown(cache)}")
    return cache


def _is_data_error(error: Exception) -> bool:
    """Return whether a value does not suit the query, such as a zero in a division (22012), or the type of its row.

    In a plain read it is a domain whose check a value does not pass (23514).
    """
    if not isinstance(error, PostgresError) or isinstance(error, ArgumentError):
        return False
    sqlstate = error.sqlstate or ""
    return sqlstate[:2] == "22" or sqlstate == "23514"


def _explained(error: Exception, batch: KeyBatch) -> Exception:
    """Return the error that the futures raise."""
    if isinstance(error, ArgumentError) and not batch.sent:
        made = InterfaceError(
            f"the parameter $1 of a loader's query is expected to be an array, for the keys: {error.args[0]}",
            hint="Write = ANY($1) instead of = $1, or unnest($1::int[]).",
        )
        made.__cause__ = error
        return made
    return error
