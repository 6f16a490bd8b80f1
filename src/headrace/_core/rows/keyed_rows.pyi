from typing import Any, Self, final

from headrace._core.rows.row_plan import Columns, RowPlan, RowShape

@final
class KeyedShape(RowShape):
    """The shape of rows as pairs: the value of one column, which is the key, and the row."""

    def __init__(self, rows: Any, column: str, positions: bool = False) -> None: ...
    @property
    def rows(self) -> Any: ...
    @property
    def column(self) -> str: ...
    @property
    def positions(self) -> bool: ...

@final
class KeyedPlan(RowPlan):
    """How rows become pairs of a key and an object."""

    def __new__(cls, columns: Columns, inner: RowPlan, at: int, whole: bool, records: bool) -> Self: ...
