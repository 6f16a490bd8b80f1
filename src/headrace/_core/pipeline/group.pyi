from typing import Any, Self, final

from headrace._core.pipeline.requests import Query
from headrace._core.pipeline.statement_cache import Statement
from headrace._core.pipeline.workload import Cost

@final
class Failure:
    """The error of one element, in the place of its result."""

    def __new__(cls, error: BaseException, alone: bool = False) -> Self: ...
    @property
    def error(self) -> BaseException: ...
    @property
    def alone(self) -> bool: ...

@final
class GroupCost(Cost):
    """The cost of a group, learnt and expected for each execution alike."""

    def __new__(cls, element: Cost, count: int) -> Self: ...

class MeasuredQuery(Query):
    """A query that knows the bytes of its rows, and how long its outcome was in coming."""

    @property
    def received(self) -> int: ...

@final
class Group(MeasuredQuery):
    """Bind and Execute of one statement for each element, and one Sync."""

    def __new__(
        cls,
        waiter: Any,
        statement: Statement | str,
        elements: list[Any],
        kind: int,
        limit: int,
        column: int | str,
        record_class: Any,
        shared: bool = False,
    ) -> Self: ...
