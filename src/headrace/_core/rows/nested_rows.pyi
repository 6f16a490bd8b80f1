from typing import Self, final

from headrace._core.rows.row_plan import Columns, ObjectPlan, RowPlan

@final
class NestedPlan(RowPlan):
    """How consecutive rows become one object with a list of objects.

    `outer` and `inner` have the columns of the object and of the elements of its list, `key` those in which rows of one
    object agree, `required` those of which one at least is not NULL in an element.
    """

    def __new__(
        cls,
        columns: Columns,
        parent: ObjectPlan,
        element: ObjectPlan,
        outer: tuple[int, ...],
        inner: tuple[int, ...],
        key: tuple[int, ...],
        required: tuple[int, ...],
        name: str,
    ) -> Self: ...

@final
class NestedRows(RowPlan):
    """The rows of one execution, as objects with lists."""
