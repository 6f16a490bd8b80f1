from collections.abc import Callable
from typing import Self, final

@final
class Columns:
    """The columns of a statement's rows: their names and codecs."""

    def __new__(cls, names: tuple[str, ...], codecs: tuple[object, ...]) -> Self: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def count(self) -> int: ...
    @property
    def codecs(self) -> tuple[object, ...]: ...

class RowPlan:
    """How rows of these columns become objects."""

    @property
    def columns(self) -> Columns: ...
    @property
    def grouped(self) -> bool: ...

@final
class RecordPlan(RowPlan):
    """Rows are records, of Record or a subclass of it."""

    def __new__(cls, columns: Columns, record_class: type) -> Self: ...

class ObjectPlan(RowPlan):
    """Rows are objects of a user's class."""

@final
class AttributePlan(ObjectPlan):
    """Objects whose attributes are set without calling an `__init__` that would only do the same."""

    def __new__(cls, columns: Columns, row_class: type, names: tuple[str, ...], order: tuple[int, ...]) -> Self: ...

@final
class TuplePlan(ObjectPlan):
    """Objects of a tuple class that only adds names. `order` has the column of each field, and contains all columns."""

    def __new__(cls, columns: Columns, row_class: type, order: tuple[int, ...]) -> Self: ...

@final
class DictPlan(ObjectPlan):
    """Dictionaries with a key for each column."""

    def __new__(cls, columns: Columns, keys: tuple[str, ...]) -> Self: ...

@final
class CallPlan(ObjectPlan):
    """Objects that are made by calling their class."""

    def __new__(
        cls,
        columns: Columns,
        row_class: type,
        order: tuple[int, ...],
        keywords: tuple[str, ...],
        init: Callable[..., object] | None = None,
    ) -> Self: ...

class RowShape:
    """The base of the class shapes in headrace.rows: makes the row plans for a class."""

    def plan(self, columns: Columns) -> RowPlan: ...
