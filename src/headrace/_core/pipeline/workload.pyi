from collections.abc import Iterator
from typing import Any

class Cost:
    """How long the server takes for one text, learnt from its executions."""

    @property
    def mean(self) -> float: ...
    @property
    def slowest(self) -> float: ...
    @property
    def measured(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    def note(self, seconds: float) -> None: ...

class Claim:
    """One caller's claim to a connection: it waits for one, or is in flight on one."""

    cost: Cost | None
    pipelined: bool
    movable: bool
    asked_twice: bool
    limited: bool
    unprepared: bool
    waits: bool
    since: float
    ticket: int
    @property
    def work(self) -> Workload | None: ...
    @property
    def expected(self) -> float: ...
    @property
    def moves(self) -> int: ...
    @property
    def starts(self) -> int: ...
    @property
    def suspected(self) -> int: ...
    def finish(self) -> None: ...

class Workload:
    """The claims that one connection has in flight; the oldest first."""

    now: float
    arrived: float
    replied_at: float
    head_since: float
    head_cost: float
    overrun: bool
    preparing: int
    pooled: Any
    @property
    def count(self) -> int: ...
    @property
    def unmeasured(self) -> int: ...
    @property
    def expected(self) -> float: ...
    def __iter__(self) -> Iterator[Claim]: ...
