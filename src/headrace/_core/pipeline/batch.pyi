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
