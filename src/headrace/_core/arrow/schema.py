"""Which Arrow type each PostgreSQL type becomes.

A field describes one column, and the parts of its type. It is found by the OID and the type modifier of RowDescription,
and by what is known of the database's own types. Codecs that a user has set play no part.

A type has a form of its own if it can be read from the server's binary form. All others are text, which the server
makes. If a part of a type has no form of its own, the whole type is text: the server sends the parts of a binary value
in binary.

Source: Apache Arrow, "The Arrow C data interface" (format strings), "Canonical Extension Types".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Final

from headrace._core.codecs.base import builtin_codecs
from headrace._core.codecs.container_oids import ARRAYS, RANGES

if TYPE_CHECKING:
    from headrace._core.codecs.introspection import TypeInfo

__all__ = ["MOST_DIGITS", "Decimal", "Field", "TypeSource", "columns_of", "field_of"]

MOST_DIGITS: Final = 76
"""The digits of the widest decimal, decimal256."""

_MOST_DEPTH: Final = 64
"""No type contains itself. This limit protects against a server that says otherwise."""

_NUMERIC: Final = 1700
_NO_MODIFIER: Final = -1

_TEXT_SENDERS: Final = frozenset(("textsend", "varcharsend", "bpcharsend", "citextsend"))
"""Types of extensions whose binary form is their text."""


@dataclass(frozen=True)
class Field:
    """One column, or a part of its type."""

    name: str
    kind: str
    """The kind of column that its values are added to (columns.pyx)."""

    format: str
    """Arrow's format string of the type, or of the indexes if there is a dictionary."""

    arrow_name: str
    """The type as people write it."""

    type_name: str = ""
    """PostgreSQL's name of the type."""

    oid: int = 0
    wire: int = 1
    """The format in which the server is asked for it: 1 binary, 0 text."""

    children: tuple[Field, ...] = ()
    precision: int = 0
    scale: int = 0
    labels: tuple[str, ...] = ()
    """Of an enumerated type, in its order."""

    extension: str = ""
    """The name of the extension type; '' for none."""


Decimal = tuple[int, int] | None
"""Precision and scale of numerics that have none declared; None: these are text."""

TypeSource = Callable[[int], "TypeInfo | None"]
"""A function that returns what is known of a type of the database's own."""

# kind, format, name, extension
_SCALARS: Final[dict[int, tuple[str, str, str, str]]] = {
    16: ("bool", "b", "bool", ""),
    21: ("fixed2", "s", "int16", ""),
    23: ("fixed4", "i", "int32", ""),
    20: ("fixed8", "l", "int64", ""),
    26: ("fixed4", "I", "uint32", ""),
    28: ("fixed4", "I", "uint32", ""),
    29: ("fixed4", "I", "uint32", ""),
    5069: ("fixed8", "L", "uint64", ""),
    6437: ("fixed8", "L", "uint64", ""),
    700: ("fixed4", "f", "float32", ""),
    701: ("fixed8", "g", "float64", ""),
    25: ("text", "u", "utf8", ""),
    1043: ("text", "u", "utf8", ""),
    1042: ("text", "u", "utf8", ""),
    19: ("text", "u", "utf8", ""),
    705: ("text", "u", "utf8", ""),
    2275: ("text", "u", "utf8", ""),
    1790: ("text", "u", "utf8", ""),
    18: ("char", "u", "utf8", ""),
    17: ("bytes", "z", "binary", ""),
    114: ("text", "u", "utf8", "arrow.json"),
    3802: ("jsonb", "u", "utf8", "arrow.json"),
    2950: ("uuid", "w:16", "fixed_size_binary(16)", "arrow.uuid"),
    1082: ("date", "tdD", "date32", ""),
    1083: ("time", "ttu", "time64[us]", ""),
    1114: ("timestamp", "tsu:", "timestamp[us]", ""),
    1184: ("timestamp", "tsu:UTC", "timestamp[us, UTC]", ""),
    1186: ("interval", "tin", "month_day_nano_interval", ""),
}

_ELEMENTS: Final = {oid: element for oid, _, element, _ in ARRAYS}
_SUBTYPES: Final = {oid: subtype for oid, _, subtype, _, _ in RANGES}
_RANGES: Final = {multirange: oid for oid, _, _, multirange, _ in RANGES}


def columns_of(columns: Iterable[tuple[str, int, int]], source: TypeSource, decimal: Decimal) -> tuple[Field, ...]:
    """Return the fields of columns: of each the name, the OID of its type and the type modifier."""
    return tuple(field_of(name, oid, modifier, source, decimal) for name, oid, modifier in columns)


def field_of(name: str, oid: int, modifier: int, source: TypeSource, decimal: Decimal) -> Field:
    """Return the field of one column."""
    field = _Resolver(source, decimal).field(name, oid, modifier, 0)
    if field.kind == "numeric":
        # On its own it can be asked for as text.
        return replace(field, kind="text", wire=0)
    return field


class _Resolver:
    def __init__(self, source: TypeSource, decimal: Decimal) -> None:
        self._source = source
        self._decimal = decimal

    def field(self, name: str, oid: int, modifier: int, depth: int) -> Field:
        scalar = _SCALARS.get(oid)
        if scalar is not None:
            kind, arrow_format, arrow_name, extension = scalar
            return Field(name, kind, arrow_format, arrow_name, _names()[oid], oid, extension=extension)
        if oid == _NUMERIC:
            return self._numeric(name, oid, modifier)
        if depth >= _MOST_DEPTH:
            return _text(name, oid, f"type with OID {oid}")
        if oid in _ELEMENTS:
            return self._list(name, oid, _names()[oid], "array", _ELEMENTS[oid], modifier, depth)
        if oid in _SUBTYPES:
            return self._range(name, oid, _names()[oid], _SUBTYPES[oid], depth)
        if oid in _RANGES:
            return self._list(name, oid, _names()[oid], "multirange", _RANGES[oid], _NO_MODIFIER, depth)
        if oid in _names():
            return _text(name, oid, _names()[oid])
        info = self._source(oid)
        if info is None:
            return _text(name, oid, f"type with OID {oid}")
        return self._looked_up(name, info, modifier, depth)

    def _looked_up(self, name: str, info: TypeInfo, modifier: int, depth: int) -> Field:
        if info.element:
            return self._list(name, info.oid, info.name, "array", info.element, modifier, depth)
        if info.kind == "d" and info.base:
            base = self.field(name, info.base, info.modifier if info.modifier >= 0 else modifier, depth + 1)
            return replace(base, oid=info.oid, type_name=info.name)
        if info.kind == "e":
            return Field(
                name, "enum", "i", "dictionary<int32, utf8>", info.name, info.oid, labels=info.labels
            )  # fmt: skip
        if info.kind == "c":
            return self._composite(name, info, depth)
        if info.kind == "r" and info.subtype:
            return self._range(name, info.oid, info.name, info.subtype, depth)
        if info.kind == "m" and info.range:
            return self._list(name, info.oid, info.name, "multirange", info.range, _NO_MODIFIER, depth)
        if info.kind == "b" and info.binary and info.send in _TEXT_SENDERS:
            return Field(name, "text", "u", "utf8", info.name, info.oid)
        return _text(name, info.oid, info.name)

    def _numeric(self, name: str, oid: int, modifier: int) -> Field:
        declared = _declared(modifier)
        decimal = self._decimal if declared is None else declared
        if decimal is None or not 0 <= decimal[1] <= MOST_DIGITS or not decimal[0] <= MOST_DIGITS:
            return Field(name, "numeric", "u", "utf8", "numeric", oid)
        # Since PostgreSQL 15 the scale may be larger than the precision. Libraries expect it not to be.
        precision, scale = max(decimal), decimal[1]
        width = 128 if precision <= 38 else 256
        return Field(
            name,
            f"decimal{width}",
            f"d:{precision},{scale}" if width == 128 else f"d:{precision},{scale},256",
            f"decimal{width}({precision}, {scale})",
            "numeric",
            oid,
            precision=precision,
            scale=scale,
        )

    def _list(
        self, name: str, oid: int, type_name: str, kind: str, element: int, modifier: int, depth: int
    ) -> Field:  # fmt: skip
        item = self.field("item", element, modifier, depth + 1)
        if not item.wire:
            return _text(name, oid, type_name)
        return Field(name, kind, "+l", f"list<{item.arrow_name}>", type_name, oid, children=(item,))

    def _range(self, name: str, oid: int, type_name: str, subtype: int, depth: int) -> Field:
        lower = self.field("lower", subtype, _NO_MODIFIER, depth + 1)
        if not lower.wire:
            return _text(name, oid, type_name)
        flags = [Field(flag, "bool", "b", "bool", "bool", 16) for flag in ("lower_inc", "upper_inc", "empty")]
        return _struct(name, oid, type_name, "range", (lower, replace(lower, name="upper"), *flags))

    def _composite(self, name: str, info: TypeInfo, depth: int) -> Field:
        modifiers = info.attribute_modifiers or (_NO_MODIFIER,) * len(info.attribute_types)
        attributes = tuple(
            self.field(*attribute, depth + 1)
            for attribute in zip(info.attribute_names, info.attribute_types, modifiers, strict=True)
        )
        if not all(attribute.wire for attribute in attributes):
            return _text(name, info.oid, info.name)
        return _struct(name, info.oid, info.name, "composite", attributes)


def _text(name: str, oid: int, type_name: str) -> Field:
    return Field(name, "text", "u", "utf8", type_name, oid, wire=0)


def _struct(name: str, oid: int, type_name: str, kind: str, children: tuple[Field, ...]) -> Field:
    parts = ", ".join(f"{child.name}: {child.arrow_name}" for child in children)
    return Field(name, kind, "+s", f"struct<{parts}>", type_name, oid, children=children)


def _declared(modifier: int) -> Decimal:
    """Return precision and scale of a numeric's type modifier (numeric.c: numeric_typmod_scale())."""
    if modifier < 4:
        return None
    modifier -= 4
    return modifier >> 16 & 0xFFFF, ((modifier & 0x7FF) ^ 0x400) - 0x400


@cache
def _names() -> dict[int, str]:
    """Return the names of the types with fixed OIDs."""
    return {oid: codec.name for oid, codec in builtin_codecs().items()}
