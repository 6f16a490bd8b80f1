from typing import final

@final
class CancelWindow:
    """Whether a CancelRequest is under way, and at what it was aimed."""

    @property
    def is_open(self) -> bool: ...
