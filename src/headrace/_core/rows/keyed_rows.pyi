from typing import Any, final

from headrace._core.rows.row_plan import RowShape

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
