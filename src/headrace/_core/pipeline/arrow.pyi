from asyncio import Future, Task
from typing import Any

from headrace._core.arrow.result import RecordBatch, Schema
from headrace._core.pipeline.plan import Plan
from headrace._core.pipeline.requests import Query

COPY_REFUSED: str
COPY_HINT: str

class ArrowPlan(Plan):
    """The plan of a statement whose columns come in the formats that Arrow's are made of."""

class ArrowQuery(Query):
    """Bind and Execute of one statement; its result is an ArrowTable. The record class is an ArrowShape."""

    @property
    def schema(self) -> Schema: ...

class ArrowStream(ArrowQuery):
    """All rows of one statement, as record batches for a reader that takes them as they come."""

    task: Task[Any] | None
    arrival: Any
    @property
    def waiter(self) -> Future[Any]: ...
    @property
    def unreadable(self) -> BaseException | None: ...
    def arrived(self) -> None: ...
    def drop(self) -> None: ...
    def next_batch(self) -> RecordBatch | None: ...
