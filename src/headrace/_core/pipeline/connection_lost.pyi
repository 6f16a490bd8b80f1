from typing import final

@final
class Ending:
    """The end of one connection, as its requests are settled."""

def transaction_control(query: str) -> tuple[bool, bool, bool, bool | None]: ...
