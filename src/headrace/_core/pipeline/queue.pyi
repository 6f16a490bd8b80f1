from collections.abc import Iterator
from typing import final

from headrace._core.pipeline.requests import Request

@final
class Queue:
    """Requests in order, linked through their `next`."""

    @property
    def count(self) -> int: ...
    @property
    def total(self) -> int: ...
    def __iter__(self) -> Iterator[Request]: ...
