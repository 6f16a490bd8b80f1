from typing import Self, final

@final
class SocketState:
    """The socket of one connection."""

    def __new__(cls, descriptor: int) -> Self: ...
