from typing import final

@final
class ReadBuffer:
    """The bytes received and not yet read."""

    def __len__(self) -> int: ...
