from typing import final

from headrace._io.each_sender import SETTINGS_QUERY as SETTINGS_QUERY
from headrace._io.each_sender import EachSender
from headrace.pool.dispatcher import Dispatcher

@final
class PoolSender(EachSender):
    """Sends the requests of one iteration to the connections of a pool."""

    def __init__(self, dispatcher: Dispatcher, query: str) -> None: ...
