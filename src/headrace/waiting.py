"""Time limits as callers give them."""

from __future__ import annotations


def checked_timeout(timeout: object, default: float | None) -> float | None:
    """Return the seconds to wait, the default for None; raises ValueError for anything but a number."""
    if timeout is None:
        return default
    if isinstance(timeout, (int, float)) and not isinstance(timeout, bool):
        return timeout
    raise ValueError(f"invalid timeout value: expected a number of seconds or None, got {timeout!r}")
