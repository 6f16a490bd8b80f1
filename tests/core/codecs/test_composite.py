"""Composite types are Records: by name or by place, nested, altered, and as text where they must be."""

from __future__ import annotations

import struct
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from headrace._core.rows.record import Record, make_record
from headrace.exceptions import OutdatedSchemaCacheError, ProtocolError

from .types_known import (
    EMPTY,
    LINE_ITEM,
    LISTINGS,
    NAMED,
    PAIR,
    PAIRS,
    PRICES,
    TAGGED,
    back,
    codec,
    decoded,
    encoded,
    known,
)


class Pair(NamedTuple):
    a: int
    b: str


ONE_A = bytes.fromhex("00000002000000170000000400000001000000190000000161")
"""record_send(row(1, 'a'::text))"""


def test_golden() -> None:
    types = known()
    assert encoded(types, PAIR, (1, "a")) == ONE_A
    record = decoded(types, PAIR, ONE_A)
    assert type(record) is Record
    assert dict(record) == {"a": 1, "b": "a"}
    assert record["b"] == record[1] == "a"


@pytest.mark.parametrize(
    "value",
    [
        [1, "a"],
        Pair(1, "a"),
        {"b": "a", "a": 1},
        make_record(Record, ("x", "y"), (1, "a")),
        {1: 0, "a": 0}.keys(),
    ],
)
def test_any_sequence_or_mapping_will_do(value: object) -> None:
    assert encoded(known(), PAIR, value) == ONE_A


def test_null() -> None:
    types = known()
    assert tuple(back(types, PAIR, (None, None))) == (None, None)
    assert tuple(back(types, PAIR, {"b": "x"})) == (None, "x")


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ((1,), ValueError, r"expected 2 elements for composite type pair \(a, b\), got 1"),
        ((1, "a", 2), ValueError, "got 3"),
        ({"c": 1}, ValueError, "'c' is not a valid element of composite type pair: expected a, b"),
        ("1a", TypeError, "a mapping or a sequence of the 2 attributes of composite type pair, got str"),
        (5, TypeError, "got int"),
        ((1, 5), TypeError, "invalid attribute 'b' of composite type pair: expected str, got int"),
        ((2**40, "a"), OverflowError, "invalid attribute 'a'"),
    ],
)
def test_refused(value: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        encoded(known(), PAIR, value)


def test_nested() -> None:
    types = known()
    value = (7, "happy", (1, "a"), [(2, "b"), None])
    assert plain(back(types, TAGGED, value)) == (7, "happy", (1, "a"), [(2, "b"), None])
    assert plain(back(types, PAIRS, [[(1, "a")], [{"a": 2}]])) == [[(1, "a")], [(2, None)]]
    assert plain(back(types, LINE_ITEM, ([1, 2],))) == ([1, 2],)
    assert back(types, LISTINGS, [[1], [2, 3]]) == [[1], [2, 3]]
    with pytest.raises(TypeError, match=r"index 1: invalid attribute 'b' of composite type pair: expected str"):
        encoded(types, PAIRS, [(1, "a"), (2, 3)])


def plain(value: Any) -> Any:
    """Return Records as tuples, however deep."""
    if isinstance(value, Record):
        return tuple(plain(item) for item in value.values())
    return [plain(item) for item in value] if isinstance(value, list) else value


def test_a_type_without_attributes() -> None:
    types = known()
    assert encoded(types, EMPTY, ()) == bytes(4)
    assert len(decoded(types, EMPTY, bytes(4))) == 0


def test_an_altered_type_is_outdated() -> None:
    types = known()
    added = struct.pack("!i", 3) + ONE_A[4:] + struct.pack("!Ii", 23, -1)
    with pytest.raises(OutdatedSchemaCacheError, match="expected 2 attributes, the server sent 3") as caught:
        decoded(types, PAIR, added)
    assert (caught.value.schema_name, caught.value.data_type_name) == ("public", "pair")
    retyped = ONE_A.replace(b"\0\0\0\x19", b"\0\0\0\x11")
    with pytest.raises(OutdatedSchemaCacheError, match="attribute 'b' is now of the type with OID 17"):
        decoded(types, PAIR, retyped)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0",
        b"\x7f\xff\xff\xff" + ONE_A[4:],
        b"\xff\xff\xff\xff" + ONE_A[4:],
        ONE_A[:-1],
        ONE_A + b"x",
        ONE_A[:8] + b"\xff\xff\xff\xfe" + ONE_A[12:],
        ONE_A[:8] + b"\x7f\xff\xff\xff" + ONE_A[12:],
    ],
)
def test_hostile(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decoded(known(), PAIR, data)


# A regtype says more as text: so does what holds one


def test_a_composite_travels_as_text_where_an_attribute_must() -> None:
    types = known()
    assert codec(types, NAMED).format == 0
    assert encoded(types, NAMED, ("int4", 2, [Decimal("1.50"), None])) == b'("int4","2","{""1.50"",NULL}")'
    record = decoded(types, NAMED, b'(integer,2,"{1.50,NULL}")')
    assert tuple(record) == ("integer", 2, [Decimal("1.50"), None])
    assert tuple(decoded(types, NAMED, b'(,,"{}")')) == (None, None, [])
    assert tuple(decoded(types, NAMED, b'("",2,)')) == ("", 2, None)


def test_quotes_in_the_text_of_a_composite() -> None:
    types = known()
    assert encoded(types, NAMED, {"kind": 'a"\\,('}) == b'("a""\\\\,(",,)'
    assert decoded(types, NAMED, b'("a""\\\\,(",,)')["kind"] == 'a"\\,('
    assert decoded(types, NAMED, b"(a\\,b,,)")["kind"] == "a,b"


@pytest.mark.parametrize("data", [b"", b"(", b"(a,1,{}", b'("a,1,{})', b"(a,1,{})x", b"a,1,{})", b"(a\\"])
def test_malformed_text(data: bytes) -> None:
    with pytest.raises((ProtocolError, OutdatedSchemaCacheError)):
        decoded(known(), NAMED, data)


@pytest.mark.parametrize("data", [b"(a,1)", b"(a,1,{},2)"])
def test_an_altered_type_is_outdated_as_text_too(data: bytes) -> None:
    with pytest.raises(OutdatedSchemaCacheError, match="expected 3 attributes"):
        decoded(known(), NAMED, data)


def test_binary_where_it_can_be() -> None:
    assert codec(known(), PRICES).format == 1
