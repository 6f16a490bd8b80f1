"""What tells two values apart that Python calls equal: 1.0 and 1.00, 0.0 and -0.0, noon here and noon in UTC."""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import headrace
from headrace import Path, Range


def exactly(value: Any) -> Any:
    """Return something that is equal for two values only where nothing tells these apart.

    Types count, and so do the sign of zero, a Decimal's zeros behind the point, a time's offset, and the names of a
    Record. One NaN is as good as another: which bits it has is not for a program to see.
    """
    kind = type(value)
    if isinstance(value, float):
        return kind, "NaN" if value != value else struct.pack("!d", value)
    if isinstance(value, Decimal):
        return kind, str(value)
    if isinstance(value, dt.datetime | dt.time):
        return kind, value.isoformat(), value.utcoffset()
    if isinstance(value, Range):
        bounds = exactly(value.lower), exactly(value.upper)
        return kind, bounds, value.lower_inc, value.upper_inc, value.isempty
    if isinstance(value, Path):
        return kind, value.is_closed, [exactly(point) for point in value]
    if isinstance(value, headrace.Record):
        return kind, [(name, exactly(item)) for name, item in value.items()]
    if isinstance(value, list | tuple):
        return kind, [exactly(item) for item in value]
    if isinstance(value, Mapping):
        return kind, {name: exactly(item) for name, item in value.items()}
    return kind, value


def as_tuples(value: Any) -> Any:
    """Return the value with each Record in it, however deep, as a tuple, which is how composites are sent."""
    if isinstance(value, headrace.Record):
        return tuple(as_tuples(item) for item in value.values())
    if type(value) is list:
        return [as_tuples(item) for item in value]
    if type(value) is tuple:
        return tuple(as_tuples(item) for item in value)
    if isinstance(value, Range):
        return Range(
            as_tuples(value.lower),
            as_tuples(value.upper),
            lower_inc=value.lower_inc,
            upper_inc=value.upper_inc,
            empty=value.isempty,
        )
    return value
