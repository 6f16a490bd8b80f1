"""Records as tuples with a value for each column, one by one and in chunks."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any

from headrace._core.codecs.typemap import TypeMap
from headrace._core.pipeline.copy import RowEncoder
from headrace.exceptions import ArgumentError, InterfaceError
from headrace.insert.table import Table

CHUNK_ROWS = 2000
"""Records sent in one statement."""

CHUNK_BYTES = 1 << 18
"""Bytes of values of varying size after which a chunk is full."""

PROGRESS_ROWS = 1000
"""Records between two calls of the progress callback during a COPY."""

# Types whose values have no size worth measuring, by OID: numbers, dates and times, bool, uuid.
SMALL = frozenset((16, 18, 20, 21, 23, 26, 700, 701, 790, 1082, 1083, 1114, 1184, 1186, 1266, 1700, 2950))

Progress = Callable[[int], object]
_NOTHING: Any = object()


class Records:
    """Records from an iterable or asynchronous iterable. Raises TypeError if it is neither.

    `first` is the first of them once `begin()` has read it. `table` and `columns` are set then.
    """

    def __init__(self, records: Iterable[Any] | AsyncIterable[Any], progress: Progress | None) -> None:
        if isinstance(records, (str, bytes, bytearray, memoryview, Mapping)) or not isinstance(
            records, (Iterable, AsyncIterable)
        ):
            raise TypeError(
                "records is expected to be an iterable or asynchronous iterable of records, not "
                f"{type(records).__name__}"
            )
        if progress is not None and not callable(progress):
            raise InterfaceError(f"progress is expected to be a function, got {type(progress).__name__}")
        self._source: Iterator[Any] | AsyncIterator[Any] = (
            aiter(records) if isinstance(records, AsyncIterable) else iter(records)
        )
        self._first: Any = _NOTHING
        self._progress = progress
        self._reported = 0
        self._nulls: tuple[None, ...] = ()
        self.taken = 0
        """The number of records taken so far."""

    @property
    def is_asynchronous(self) -> bool:
        """True if the records come from an asynchronous iterable."""
        return isinstance(self._source, AsyncIterator)

    async def begin(self) -> tuple[str, ...] | None:
        """Read the first record; returns its keys if it is a mapping."""
        if isinstance(self._source, AsyncIterator):
            self._first = await anext(self._source, _NOTHING)
        else:
            self._first = next(self._source, _NOTHING)
        return tuple(self._first) if isinstance(self._first, Mapping) else None

    def into(self, table: Table, columns: Sequence[str], types: TypeMap) -> None:
        """Set the table and the columns that the values are for."""
        self.table = table
        self.columns = columns
        self._types = types
        self._width = len(columns)
        self._measured = [i for i, name in enumerate(columns) if table.columns[name].type not in SMALL]

    def report(self, count: int) -> None:
        """Tell the progress callback that so many records are inserted."""
        if self._progress is not None and count > self._reported:
            self._reported = count
            self._progress(count)

    # -- one by one: for COPY --------------------------------------------------------------------------------------

    def one_by_one(self, nulls: int = 0) -> Iterator[Any] | AsyncGenerator[Any, None]:
        """Return an iterator over sequences of values, asynchronous if the records are.

        Each has `nulls` times None behind its own values. Without any, the width is not checked.
        """
        self._nulls = (None,) * nulls
        return self._each_later() if self.is_asynchronous else self._each()

    def _each(self) -> Iterator[Any]:
        assert isinstance(self._source, Iterator)
        if self._first is not _NOTHING:
            yield self._taken(self._first)
            for record in self._source:
                yield self._taken(record)

    async def _each_later(self) -> AsyncGenerator[Any, None]:
        assert isinstance(self._source, AsyncIterator)
        if self._first is not _NOTHING:
            yield self._taken(self._first)
            async for record in self._source:
                yield self._taken(record)

    def _taken(self, record: Any) -> Any:
        if self._progress is not None and self.taken % PROGRESS_ROWS == 0:
            self.report(self.taken)
        self.taken += 1
        if self._nulls:
            return self._checked(record) + self._nulls
        return self._values(record) if isinstance(record, Mapping) else record

    # -- in chunks: for INSERT -------------------------------------------------------------------------------------

    async def chunks(self, limit: int) -> AsyncGenerator[list[tuple[Any, ...]], None]:
        """Yield lists of at most `limit` tuples. They are shorter if the values are long.

        Raises ArgumentError for a record that does not fit, naming its number.
        """
        source = self._source
        chunk: list[tuple[Any, ...]] = []
        if self._first is _NOTHING:
            return
        size = self._add(chunk, self._first)
        self._first = None
        if isinstance(source, AsyncIterator):
            if len(chunk) >= limit or size >= CHUNK_BYTES:
                yield chunk
                chunk, size = [], 0
            async for record in source:
                size += self._add(chunk, record)
                if len(chunk) >= limit or size >= CHUNK_BYTES:
                    yield chunk
                    chunk, size = [], 0
            if chunk:
                yield chunk
            return
        while self._fill(chunk, size, source, limit):
            yield chunk
            chunk, size = [], 0

    def _fill(self, chunk: list[tuple[Any, ...]], size: int, source: Iterator[Any], limit: int) -> bool:
        """Add records to a chunk until it is full; returns whether it has any."""
        if len(chunk) < limit and size < CHUNK_BYTES:
            for record in source:
                size += self._add(chunk, record)
                if len(chunk) >= limit or size >= CHUNK_BYTES:
                    break
        return bool(chunk)

    def _add(self, chunk: list[tuple[Any, ...]], record: Any) -> int:
        """Add a record to a chunk; returns about how many bytes its values have."""
        self.taken += 1
        if type(record) is not tuple or len(record) != self._width:
            record = self._checked(record)
        chunk.append(record)
        size = 0
        for i in self._measured:
            value = record[i]
            size += len(value) if type(value) is str or type(value) is bytes else _size(value)
        return size

    def _checked(self, record: Any) -> tuple[Any, ...]:
        """Return a record as a tuple; raises ArgumentError if it has not one value for each column."""
        if type(record) is not tuple:
            record = self._tuple(record)
        if len(record) != self._width:
            raise self.error_of([record], self.taken - 1) or ArgumentError(f"record {self.taken} has another width")
        return record  # type: ignore[no-any-return]

    def _tuple(self, record: Any) -> tuple[Any, ...]:
        if isinstance(record, Mapping):
            return self._values(record)
        if isinstance(record, (str, bytes, bytearray, memoryview, set, frozenset)) or not (
            hasattr(record, "__getitem__") and hasattr(record, "__len__")
        ):
            raise self.error_of([record], self.taken - 1) or ArgumentError(f"record {self.taken} is no sequence")
        return tuple(record)

    def _values(self, record: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the values of a mapping in the order of the columns."""
        try:
            if len(record) == len(self.columns):
                return tuple([record[name] for name in self.columns])
        except KeyError:
            pass
        missing = [name for name in self.columns if name not in record]
        extra = [name for name in record if name not in self.columns]
        wrong = [f"{what} {', '.join(map(str, names))}" for what, names in (("no", missing), ("also", extra)) if names]
        raise ArgumentError(
            f"invalid input for row {self.taken}: the mapping has {' and '.join(wrong)}",
            hint=f"Pass a value for each of ({', '.join(self.columns)}), or name others by columns=.",
        )

    # -- errors ----------------------------------------------------------------------------------------------------

    def error_of(self, records: Sequence[Any], before: int) -> Exception | None:
        """Return the error of the first record that does not fit, None if all do; `before` is the number before them.

        It names row, column and type, as that of a COPY does.
        """
        columns = list(self.columns)
        try:
            encoder = RowEncoder(self._types, columns, self.table.types_of(columns), self.table.quoted)
        except InterfaceError:
            return None
        encoder.rows = before
        try:
            for record in records:
                encoder.add(record)
        except Exception as error:
            return error
        return None


def _size(value: Any) -> int:
    if isinstance(value, (str, bytes, bytearray, memoryview)):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_size(key) + _size(item) for key, item in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return sum(map(_size, value)) + 4 * len(value)
    return 16
