from typing import Any, Final, Self, final

from headrace._core.arrow.schema import Decimal, Field
from headrace._core.rows.row_plan import RowPlan, RowShape

MOST_DIGITS: Final = 76

@final
class ArrowShape(RowShape):
    """Rows as columns in Arrow's format."""

    def __init__(self, decimal: Decimal = None, out_of_range: str = "error", batch_rows: int = 0) -> None: ...
    @property
    def decimal(self) -> Decimal: ...
    @property
    def out_of_range(self) -> str: ...
    @property
    def batch_rows(self) -> int: ...
    @property
    def key(self) -> tuple[Decimal, str]: ...

@final
class Schema:
    """The columns of a result; `fields` are those of schema.py."""

    def __new__(cls, fields: tuple[Field, ...], out_of_range: str = "error") -> Self: ...
    @property
    def fields(self) -> tuple[Field, ...]: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def formats(self) -> tuple[int, ...]: ...
    def __arrow_c_schema__(self) -> object:
        """Return the schema as a capsule of an ArrowSchema."""

def has_numeric_text(field: Field) -> bool: ...

@final
class RowBuilder(RowPlan):
    """Makes record batches of at most `most_rows` rows, and of DataRows of at most `most_bytes` bytes."""

    def __new__(cls, schema: Schema, *, most_rows: int = 0, most_bytes: int = 0) -> Self: ...
    @property
    def schema(self) -> Schema: ...
    @property
    def rows(self) -> int: ...
    def add(self, row: bytes) -> RecordBatch | None: ...
    def end(self) -> RecordBatch | None: ...
    def table(self, batches: list[RecordBatch]) -> ArrowTable: ...

@final
class RecordBatch:
    """Some consecutive rows of a result, as columns in Arrow's format.

    `pyarrow.record_batch(batch)`, `polars.DataFrame(batch)` and others take it without a copy, any number of times.
    """

    def __init__(self, *args: Any) -> None: ...
    @property
    def schema(self) -> Schema: ...
    @property
    def num_rows(self) -> int:
        """The number of rows."""

    @property
    def num_columns(self) -> int:
        """The number of columns."""

    @property
    def column_names(self) -> list[str]:
        """The names of the columns."""

    @property
    def nbytes(self) -> int:
        """The bytes that the values take."""

    def __len__(self) -> int: ...
    def __arrow_c_schema__(self) -> object:
        """Return the schema as a capsule of an ArrowSchema."""

    def __arrow_c_array__(self, requested_schema: Any = None) -> tuple[object, object]:
        """Return capsules of an ArrowSchema and an ArrowArray. A `requested_schema` has no effect."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> object:
        """Return a capsule of an ArrowArrayStream with this batch alone. A `requested_schema` has no effect."""

@final
class ArrowTable:
    """The result of a query as columns in Arrow's format; `fetch_arrow()` returns it.

    `pyarrow.table(result)`, `polars.DataFrame(result)`, DuckDB, pandas and others take it without a copy, any number of
    times and in any thread. The memory is freed when nothing refers to it any more, here and there.
    """

    def __init__(self, *args: Any) -> None: ...
    @property
    def schema(self) -> Schema: ...
    @property
    def num_rows(self) -> int:
        """The number of rows."""

    @property
    def num_columns(self) -> int:
        """The number of columns."""

    @property
    def column_names(self) -> list[str]:
        """The names of the columns."""

    @property
    def nbytes(self) -> int:
        """The bytes that the values take."""

    def batches(self) -> list[RecordBatch]:
        """Return the record batches. There is one, unless a column takes more than 2 GB; none if there are no rows."""

    def __len__(self) -> int: ...
    def __arrow_c_schema__(self) -> object:
        """Return the schema as a capsule of an ArrowSchema."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> object:
        """Return a capsule of an ArrowArrayStream of the record batches. A `requested_schema` has no effect."""
