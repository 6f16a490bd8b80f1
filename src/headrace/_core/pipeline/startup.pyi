from collections.abc import Callable
from typing import Any, Self

from headrace._core.pipeline.requests import Request

class Startup(Request):
    """From the startup message to the first ReadyForQuery (protocol-flow-start-up)."""

    def __new__(
        cls, waiter: Any, message: bytes, on_authentication: Callable[[int, bytes], None], minimum: int = ...
    ) -> Self: ...
    @property
    def protocol(self) -> int: ...
