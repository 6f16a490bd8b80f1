"""The types of a table's columns, as far as the binary forms of their values depend on them.

A codec says how Python values are written. Here no Python values are involved, so codecs that a program has set play no
part: the types are taken from the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from headrace._core.codecs import builtin as _registered  # noqa: F401  registers the codecs
from headrace._core.codecs.base import builtin_codecs
from headrace._core.codecs.container_oids import ARRAYS, RANGES

if TYPE_CHECKING:
    from headrace._core.codecs.base import Codec
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

    send: str = ""
    """The function that makes the binary form, of a type of an extension."""

    codec: Codec | None = field(default=None, compare=False)
    """The codec of a type that is made of others, which can read its text form."""


def target(
    oid: int,
    find: Callable[[int], TypeInfo | None],
    codec_of: Callable[[int], Codec | None] = lambda oid: None,
    depth: int = 0,
) -> Target:
    """Return the type of an OID.

    `find` returns the description of a type that was looked up, and `codec_of` its codec, if no other was set.
    """

    def part(oid: int) -> Target:
        return target(oid, find, codec_of, depth + 1)

    codec = _CODECS.get(oid)
    if codec is not None:
        if oid in _ELEMENTS:
            element, lower = part(_ELEMENTS[oid]), 0 if oid in _VECTORS else 1
            return Target(oid, codec.name, "array", oid, element, lower, codec=codec)
        if oid in _SUBTYPES:
            return Target(oid, codec.name, "range", oid, part(_SUBTYPES[oid]), codec=codec)
        if oid in _RANGES:
            return Target(oid, codec.name, "multirange", oid, part(_RANGES[oid]), codec=codec)
        return Target(oid, codec.name, "scalar" if codec.kind == "scalar" else "unknown", oid)
    info = find(oid)
    if info is None or depth > MAX_DEPTH:
        return Target(oid, f"type with OID {oid}", "unknown", oid)
    if info.element:
        element = part(info.element)
        return Target(oid, f"{element.name}[]", "array", oid, element, codec=codec_of(oid))
    if info.kind == "d" and info.base:
        return replace(part(info.base), oid=oid, name=info.name)
    if info.kind == "c":
        attributes = tuple(part(attribute) for attribute in info.attribute_types)
        return Target(
            oid, info.name, "composite", oid, names=info.attribute_names, attributes=attributes, codec=codec_of(oid)
        )
    if info.kind == "r" and info.subtype:
        return Target(oid, info.name, "range", oid, part(info.subtype), codec=codec_of(oid))
    if info.kind == "m" and info.range:
        return Target(oid, info.name, "multirange", oid, part(info.range), codec=codec_of(oid))
    if info.kind == "e":
        return Target(oid, info.name, "enum", oid)
    kind = "unknown"
    if info.kind == "b" and info.binary:
        kind = "text" if info.send in TEXT_SENDERS else "versioned" if info.send in VERSIONED_SENDERS else "binary"
    return Target(oid, info.name, kind, oid, send=info.send)
