from typing import Self, final

from headrace._core.codecs.typemap import TypeMap
from headrace._core.pipeline.requests import Query
from headrace._core.pipeline.send_queue import SendQueue
from headrace._core.pipeline.statement_cache import StatementCache

CONFIRMED_SECONDS: float

@final
class Statements:
    """The cache, and the life of what is in it and of what is not."""

    def __new__(cls, types: TypeMap, send_queue: SendQueue, cache: StatementCache, unnamed: bool) -> Self: ...
    def not_asked(self, request: Query) -> list[int]: ...
