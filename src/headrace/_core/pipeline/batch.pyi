from asyncio import Future
from typing import Any, Self

from headrace._core.pipeline.requests import ExtendedQuery
from headrace._core.pipeline.statement_cache import Statement

class Batch(ExtendedQuery):
    """One statement executed for each element of a sequence, as one implicit transaction."""

    def __new__(
        cls,
        waiter: Any,
        statement: Statement | str,
        elements: Any,
        record_class: Any,
        collects: bool,
        shared: bool = False,
    ) -> Self: ...
    @property
    def executions(self) -> int: ...

class StreamedBatch(Batch):
    """A batch whose elements come from an asynchronous source."""

    waiter: Future[Any]
    room: Future[None] | None

    def open(self, source: Any) -> None: ...
    def add(self, args: Any) -> None: ...
    def finish(self) -> None: ...
    def failed(self, error: BaseException) -> None: ...
    @property
    def is_full(self) -> bool: ...
