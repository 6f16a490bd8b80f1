import asyncio
from collections.abc import Callable
from typing import final

from headrace._io.driver import Driver

SETTINGS_QUERY: str

class EachSender:
    """How the requests of one iteration reach the server."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def width(self) -> int: ...

@final
class ConnectionSender(EachSender):
    """Sends the requests of one iteration on a connection."""

    def __init__(
        self, driver: Driver, query: str, still_valid: Callable[[], None], *, pipeline_writes: bool = False
    ) -> None: ...
