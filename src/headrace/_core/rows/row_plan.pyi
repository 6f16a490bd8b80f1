from collections.abc import Callable
from typing import Self, final

@final
class Columns:
    """The columns of a statement's rows: their names, and how each is read."""

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

@final
class RecordPlan(RowPlan):
    """Rows are records, of Record or a subclass of it."""

    def __new__(cls, columns: Columns, record_class: type) -> Self: ...

class ObjectPlan(RowPlan):
    """Rows are objects of a class of the caller's own."""

@final
class AttributePlan(ObjectPlan):
    """Objects whose attributes are set from outside: for an `__init__` that would do the same and nothing else."""

    def __new__(cls, columns: Columns, row_class: type, names: tuple[str, ...], order: tuple[int, ...]) -> Self: ...

@final
class TuplePlan(ObjectPlan):
    """Tuples of a class that adds names alone: `order` has the column of each field, and takes all of them."""

    def __new__(cls, columns: Columns, row_class: type, order: tuple[int, ...]) -> Self: ...

@final
class DictPlan(ObjectPlan):
    """Dictionaries with a key for each column."""

    def __new__(cls, columns: Columns, keys: tuple[str, ...]) -> Self: ...

@final
class CallPlan(ObjectPlan):
    """Objects made by calling their class."""

    def __new__(
        cls,
        columns: Columns,
        row_class: type,
        order: tuple[int, ...],
        keywords: tuple[str, ...],
        init: Callable[..., object] | None = None,
    ) -> Self: ...

class RowShape:
    """What rows are to become: the base of what headrace.rows knows of a class."""

    def plan(self, columns: Columns) -> RowPlan: ...
