"""The types of a table's columns, as far as the binary forms of their values depend on them.

A codec says how Python values are written. Here no Python values are involved, so codecs that a program has set play no
part: the types are taken from the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from headrace._core.codecs import builtin as _registered  # noqa: F401  registers the codecs
from headrace._core.codecs.base import builtin_codecs
from headrace._core.codecs.container_oids import ARRAYS, RANGES

if TYPE_CHECKING:
    from headrace._core.codecs.introspection import TypeInfo

__all__ = ["Target", "target"]

TEXT_SENDERS: Final = frozenset({"textsend", "varcharsend", "bpcharsend", "citextsend"})
VERSIONED_SENDERS: Final = frozenset({"ltree_send", "lquery_send", "ltxtq_send"})

_CODECS: Final = builtin_codecs()
_ELEMENTS: Final = {oid: element for oid, _, element, _ in ARRAYS}
_VECTORS: Final = {oid for oid, name, _, _ in ARRAYS if not name.startswith("_")}
_SUBTYPES: Final = {oid: subtype for oid, _, subtype, _, _ in RANGES}
_RANGES: Final = {multirange: oid for oid, _, _, multirange, _ in RANGES}

MAX_DEPTH: Final = 64
"""No type contains itself. This limit protects against a server that says otherwise."""


@dataclass(frozen=True)
class Target:
    """A type of PostgreSQL."""

    oid: int
    """Its OID; of a domain that of the domain."""

    name: str
    kind: str
    """scalar, enum, array, composite, range, multirange, text (a type whose binary form is its text), versioned (the
    same behind a byte), binary (another type with a binary form, which headrace does not know), or unknown."""

    base: int
    """The OID of the type; of a domain that of its base type."""

    element: Target | None = None
    """The type of the elements of an array, of the bounds of a range, or of the ranges of a multirange."""

    lower: int = 1
    """The lower bound of an array."""

    names: tuple[str, ...] = ()
    attributes: tuple[Target, ...] = ()


def target(oid: int, find: Callable[[int], TypeInfo | None], depth: int = 0) -> Target:
    """Return the type of an OID; `find` returns the description of a type that was looked up."""

    def part(oid: int) -> Target:
        return target(oid, find, depth + 1)

    codec = _CODECS.get(oid)
    if codec is not None:
        if oid in _ELEMENTS:
            return Target(oid, codec.name, "array", oid, part(_ELEMENTS[oid]), 0 if oid in _VECTORS else 1)
        if oid in _SUBTYPES:
            return Target(oid, codec.name, "range", oid, part(_SUBTYPES[oid]))
        if oid in _RANGES:
            return Target(oid, codec.name, "multirange", oid, part(_RANGES[oid]))
        return Target(oid, codec.name, "scalar" if codec.kind == "scalar" else "unknown", oid)
    info = find(oid)
    if info is None or depth > MAX_DEPTH:
        return Target(oid, f"type with OID {oid}", "unknown", oid)
    if info.element:
        element = part(info.element)
        return Target(oid, f"{element.name}[]", "array", oid, element)
    if info.kind == "d" and info.base:
        base = part(info.base)
        return Target(oid, info.name, base.kind, base.base, base.element, base.lower, base.names, base.attributes)
    if info.kind == "c":
        attributes = tuple(part(attribute) for attribute in info.attribute_types)
        return Target(oid, info.name, "composite", oid, names=info.attribute_names, attributes=attributes)
    if info.kind == "r" and info.subtype:
        return Target(oid, info.name, "range", oid, part(info.subtype))
    if info.kind == "m" and info.range:
        return Target(oid, info.name, "multirange", oid, part(info.range))
    if info.kind == "e":
        return Target(oid, info.name, "enum", oid)
    kind = "unknown"
    if info.kind == "b" and info.binary:
        kind = "text" if info.send in TEXT_SENDERS else "versioned" if info.send in VERSIONED_SENDERS else "binary"
    return Target(oid, info.name, kind, oid)
