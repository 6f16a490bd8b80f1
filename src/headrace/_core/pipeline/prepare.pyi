from typing import Any, Self

from headrace._core.codecs.typemap import TypeMap
from headrace._core.pipeline.requests import ExtendedQuery, Query
from headrace._core.pipeline.statement_cache import Statement

class PrepareWaiter(ExtendedQuery):
    """Waits for a statement to be READY; nothing is sent for it."""

    def __new__(cls, waiter: Any, statement: Statement) -> Self: ...

class Introspection(Query):
    """Asks the server about types met for the first time, by a statement whose description is known beforehand."""

class Identification(Introspection):
    """Asks the server which one it is. A server that cannot say is not asked again."""

def own_statement(
    query: str,
    parameter_oids: tuple[int, ...],
    columns: list[tuple[str, int]],
    parameters: TypeMap | None = None,
) -> Statement:
    """Make a statement of the driver's own, READY at once and unnamed; `columns` are names and OIDs of built-in types.

    Codecs that were set play no part in its rows, and in its parameters only if `parameters` is the map they were
    set in.
    """
