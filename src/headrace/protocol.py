"""Names that programs take from `asyncpg.protocol`, and from the modules that are in it there."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from headrace._core.record import Record, make_record
from headrace.types import Attribute, BitString, Range, Type

__all__ = ["Attribute", "BitString", "Range", "Record", "Type"]

protocol = record = sys.modules[__name__]


def _create_record(mapping: Mapping[str, int] | None, elems: Sequence[Any]) -> Record:
    """Return a Record of these values, as tests of programs need one; `mapping` has the place of each name."""
    names = [""] * len(elems)
    for name, place in (mapping or {}).items():
        names[place] = name
    return make_record(Record, tuple(names), tuple(elems))
