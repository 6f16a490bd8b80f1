import re
from collections.abc import Callable
from typing import Any, Self

from headrace._core.arrow.result import Schema
from headrace._core.pipeline.future import Future
from headrace._core.pipeline.statement_cache import Statement

COPY_REFUSED: str
COPY_HINT: str
DEALLOCATES: Callable[[str], re.Match[str] | None]

class Request(Future):
    """The base of all requests. A request is awaitable; the driver's reply() sets the time limit."""

    @property
    def query(self) -> str: ...
    @property
    def state(self) -> int: ...
    @property
    def abandoned(self) -> bool: ...
    @property
    def error(self) -> BaseException | None: ...
    @property
    def status(self) -> str | None: ...
    @property
    def arguments(self) -> Any: ...
    observer: Any
    pinned: bool
    def elapsed(self) -> float: ...

class Command(Request):
    """BEGIN, SAVEPOINT or RELEASE, put off until a request is sent behind it, which takes it along."""

    def __new__(cls, query: str, begins: Any = None) -> Self: ...
    @property
    def is_refused(self) -> bool: ...

class Ahead:
    """The commands that a request has taken along."""

class Opening(Request):
    """A Sync for commands whose follower cannot take them along."""

    def __new__(cls, follower: Request) -> Self: ...

class Prepare(Request):
    """Parse and Describe of one statement."""

    def __new__(cls, statement: Statement) -> Self: ...

class ExtendedQuery(Request):
    """A request that binds a prepared statement."""

    @property
    def statement(self) -> Statement: ...
    @property
    def schema(self) -> Schema | None: ...

class Query(ExtendedQuery):
    """Bind and Execute of one statement, whose rows are decoded as they come."""

    def __new__(
        cls,
        waiter: Any,
        statement: Statement | str,
        args: Any,
        kind: int,
        limit: int,
        column: int | str,
        record_class: Any,
        shared: bool = False,
        portal: bytes = b"",
        opener: Query | None = None,
    ) -> Self: ...
    @property
    def suspended(self) -> bool: ...
    @property
    def grouped(self) -> bool: ...
    @property
    def is_repetition(self) -> bool: ...

class UnpreparedQuery(Request):
    """One statement without arguments, parsed and executed in one flight; the command tag is the result."""

    def __new__(cls, waiter: Any, query: str) -> Self: ...

class SimpleQuery(Request):
    """A simple Query message: any number of statements, no arguments, the last command tag as the result."""

    def __new__(cls, waiter: Any, query: str, uncancellable: bool = False) -> Self: ...

class Closing(Request):
    """Close of prepared statements or portals that are no longer needed."""

    def __new__(cls, waiter: Any, what: str, names: list[bytes]) -> Self: ...

def repetition_of(original: Query) -> Query: ...
