from typing import final

@final
class ReadBuffer:
    """The received bytes that were not read yet."""

    def __len__(self) -> int: ...
    def writable(self) -> memoryview: ...
