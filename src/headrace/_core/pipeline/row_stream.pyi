import asyncio
from collections.abc import Callable
from typing import Any, Self

from headrace._core.pipeline.requests import ExtendedQuery
from headrace._core.pipeline.statement_cache import Statement

class RowStream(ExtendedQuery):
    """One execution of a statement, whose rows are held until they are taken."""

    task: Callable[[], asyncio.Task[Any] | None] | None
    arrival: Any
    def __new__(
        cls,
        statement: str | Statement,
        args: tuple[object, ...],
        record_class: Any,
        most_rows: int = 0,
    ) -> Self: ...
    @property
    def received(self) -> int: ...
    @property
    def backlog(self) -> int: ...
    @property
    def handed_out(self) -> bool: ...
    @property
    def full(self) -> bool: ...
    def take_rows(self) -> list[Any]: ...
    def is_over(self) -> bool: ...
    def drop(self, error: BaseException | None = None) -> None: ...
    def pass_over(self) -> None: ...
