"""Names that programs import from `asyncpg.protocol.protocol`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace._core.rows.record import Record, make_record
from headrace.types import Attribute, BitString, Range, Type

__all__ = ["Attribute", "BitString", "Range", "Record", "Type"]


def _create_record(mapping: Mapping[str, int] | None, elems: Sequence[Any]) -> Record:
    """Return a Record of these values, for tests of programs. `mapping` has the position of each name."""
    names = [""] * len(elems)
    for name, position in (mapping or {}).items():
        names[position] = name
    return make_record(Record, tuple(names), tuple(elems))
