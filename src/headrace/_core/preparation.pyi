from typing import Any, Self

from headrace._core.request import Bound, Query
from headrace._core.statement import Statement

class Preparation(Bound):
    """Waits for a statement to be READY; nothing is sent for it."""

    def __new__(cls, waiter: Any, statement: Statement) -> Self: ...

class Introspection(Query):
    """Asks the server about types met for the first time, by a statement whose description is known beforehand."""
