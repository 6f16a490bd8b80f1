"""Words of messages that depend on a number."""

from __future__ import annotations


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return a number with a noun, which may have a verb with it: `1 SKU`, `2,000 SKUs`, `1 line was`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
