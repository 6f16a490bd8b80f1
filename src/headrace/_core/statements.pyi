from typing import Self, final

from headrace._core.codecs.typemap import TypeMap
from headrace._core.outbox import Outbox
from headrace._core.request import Query
from headrace._core.statement import StatementCache

@final
class Statements:
    """The cache, and the life of what is in it and of what is not."""

    def __new__(cls, types: TypeMap, outbox: Outbox, cache: StatementCache, unnamed: bool) -> Self: ...
    def not_asked(self, request: Query) -> list[int]: ...
