"""Time limits as callers give them."""

from __future__ import annotations

from math import inf


def checked_timeout(timeout: object, default: float | None) -> float | None:
    """Return the seconds to wait, the default for None; raises ValueError for anything but a number.

    To be called before anything is sent: what is refused here must not have happened.
    """
    if timeout is None:
        return default
    # Of all numbers NaN alone differs from itself.
    if isinstance(timeout, (int, float)) and not isinstance(timeout, bool) and timeout == timeout:
        return timeout if timeout != inf else None
    raise ValueError(f"invalid timeout value: expected a number of seconds or None, got {timeout!r}")
