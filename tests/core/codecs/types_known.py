"""A few types of a database, as the introspection query would describe them, and codecs for them."""

from __future__ import annotations

from typing import Any

from headrace._core.codecs.base import Codec
from headrace._core.codecs.introspection import TypeInfo
from headrace._core.codecs.testing import decode_with, encode_with
from headrace._core.codecs.typemap import TypeCatalogue, TypeMap

PAIR, PAIRS, MOOD, MOODS, AGE, AGES, NAMED, TAGGED, PRICES, EMPTY, LINE_ITEM = range(16384, 16395)
CITEXT, LTREE, HSTORE, VECTOR, FLOATRANGE, FLOATMULTIRANGE, LISTING, LISTINGS = range(16395, 16403)

INT4, FLOAT8, TEXT, NUMERIC, REGTYPE, INT4S = 23, 701, 25, 1700, 2206, 1007


def info(oid: int, name: str, kind: str = "b", **fields: Any) -> TypeInfo:
    """Describe a type of the schema public; `fields` are those that are not as for a base type."""
    plain: dict[str, Any] = {
        "element": 0,
        "delimiter": ",",
        "base": 0,
        "subtype": 0,
        "range": 0,
        "attribute_names": (),
        "attribute_types": (),
        "binary": True,
        "send": "",
    }
    return TypeInfo(oid=oid, name=name, schema="public", kind=kind, **(plain | fields))


def row(oid: int, name: str, **attributes: int) -> TypeInfo:
    """Describe a composite type by its attributes' names and types."""
    return info(oid, name, "c", attribute_names=tuple(attributes), attribute_types=tuple(attributes.values()))


TYPES = [
    row(PAIR, "pair", a=INT4, b=TEXT),
    info(PAIRS, "_pair", element=PAIR),
    info(MOOD, "mood", "e", send="enum_send"),
    info(MOODS, "_mood", element=MOOD),
    info(AGE, "age", "d", base=INT4),
    info(AGES, "_age", element=AGE),
    row(NAMED, "named", kind=REGTYPE, count=INT4, prices=1231),
    row(TAGGED, "tagged", age=AGE, mood=MOOD, pair=PAIR, pairs=PAIRS),
    row(PRICES, "prices", net=NUMERIC, all=1231),
    row(EMPTY, "empty"),
    row(LINE_ITEM, "line_item", listing=LISTING),
    info(CITEXT, "citext", send="citextsend"),
    info(LTREE, "ltree", send="ltree_send"),
    info(HSTORE, "hstore", send="hstore_send"),
    info(VECTOR, "vector", send="vector_send"),
    info(FLOATRANGE, "floatrange", "r", subtype=FLOAT8),
    info(FLOATMULTIRANGE, "floatmultirange", "m", range=FLOATRANGE),
    info(LISTING, "listing", "d", base=INT4S),
    info(LISTINGS, "_listing", element=LISTING),
]


def known(**kwargs: Any) -> TypeMap:
    """Return a TypeMap that has learnt TYPES."""
    catalogue = TypeCatalogue()
    catalogue.learn(TYPES)
    return TypeMap(catalogue, **kwargs)


def codec(types: TypeMap, oid: int) -> Codec:
    """Return the codec for a type that must be known."""
    found = types.codec(oid)
    assert found is not None
    return found


def encoded(types: TypeMap, oid: int, value: object) -> bytes:
    """Return the bytes of a value, without the length word."""
    data = encode_with(codec(types, oid), value)
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    return data[4:]


def decoded(types: TypeMap, oid: int, data: bytes) -> Any:
    """Return the object for a value's bytes."""
    return decode_with(codec(types, oid), data)


def back(types: TypeMap, oid: int, value: object) -> Any:
    """Return what becomes of a value that is sent and comes back."""
    return decoded(types, oid, encoded(types, oid, value))
