"""Results in Arrow's format: the `ArrowTable` of `fetch_arrow()`, the `ArrowStream` of `stream_arrow()`.

Libraries for data frames take them by the Arrow PyCapsule interface, without a copy. headrace needs none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from headrace._core.arrow.result import ArrowShape, ArrowTable, RecordBatch
from headrace._io.stream import Stream
from headrace.exceptions import InterfaceError
from headrace.exceptions._values import shown

if TYPE_CHECKING:
    from headrace._core.arrow.result import Schema
    from headrace.stream import Rows

__all__ = ["ArrowStream", "ArrowTable", "OutOfRange", "RecordBatch"]

BATCH_ROWS = 65536
"""The rows of a record batch of stream_arrow(), if the caller does not say."""

MOST_BATCH_ROWS = 0x7FFFFFFF
"""Execute counts rows in 32 bits."""

OutOfRange = Literal["error", "null", "saturate"]
"""The treatment of values that the Arrow type of their column cannot hold."""


def batches(rows: object, decimal: tuple[int, int] | None, out_of_range: OutOfRange) -> ArrowShape:
    """Return the shape of batches of so many rows; raises ValueError if that is no number of rows."""
    if isinstance(rows, bool) or not isinstance(rows, int) or not 0 < rows <= MOST_BATCH_ROWS:
        raise ValueError(
            f"batch_rows is expected to be a number of rows from 1 to {MOST_BATCH_ROWS}, got {shown(rows)}"
        )
    return ArrowShape(decimal, out_of_range, rows)


class ArrowStream(Stream[RecordBatch]):
    """The rows of a query as record batches: `async for batch in connection.stream_arrow(...)`.

    In an `async with` block it is open from the start of the block, so that its schema is known before the first batch,
    and it ends with the block at the latest. Without a block it is opened by the first batch; call `aclose()` if you do
    not take all batches. In all else it is a stream of rows: see `headrace.Stream` and `Connection.stream()`.
    """

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows)
        self._rows = rows

    async def __anext__(self) -> RecordBatch:
        # A coroutine costs little beside a batch, and may be made a task.
        return await super().__anext__()

    @property
    def column_names(self) -> list[str]:
        """The names of the columns. InterfaceError is raised before the stream is open."""
        return list(self._schema.names)

    def __arrow_c_schema__(self) -> object:
        """Return the schema as a capsule of an ArrowSchema. InterfaceError is raised before the stream is open."""
        return self._schema.__arrow_c_schema__()

    @property
    def _schema(self) -> Schema:
        schema = self._rows.schema
        if schema is None:
            raise InterfaceError(
                "the schema of a stream is known once it is open",
                hint="Use `async with connection.stream_arrow(...) as stream`.",
            )
        return schema
