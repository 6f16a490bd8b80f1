"""Codecs set by users: in three forms, and followed by arrays, composites, ranges and domains of the type."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from headrace._core.codecs.typemap import TypeMap
from headrace._core.rows.record import Record
from headrace.exceptions import InterfaceError, UnsupportedClientFeatureError
from headrace.types import Range

from .types_known import (
    AGE,
    AGES,
    FLOATMULTIRANGE,
    FLOATRANGE,
    MOOD,
    MOODS,
    NAMED,
    PAIR,
    PAIRS,
    PRICES,
    VECTOR,
    back,
    codec,
    decoded,
    encoded,
    known,
)

INT4, INT4S, FLOAT8, TEXT, NUMERIC, NUMERICS, NUMRANGE, NUMMULTIRANGE = (
    23,
    1007,
    701,
    25,
    1700,
    1231,
    3906,
    4532,
)
FLOAT8S = 1022
JSONB, JSONBS, RECORD, INTERVAL, DATE, TIMETZ = 3802, 3807, 2249, 1186, 1082, 1266


def same(value: Any) -> Any:
    return value


def with_codec(
    oid: int, form: str, encoder: Callable[[Any], Any] = same, decoder: Callable[[Any], Any] = same
) -> TypeMap:
    types = known()
    types.set_codec(oid, form, encoder, decoder)
    return types


def test_a_codec_may_take_lists_that_are_no_dimensions_of_an_array() -> None:
    types = known()
    types.set_codec(FLOAT8, "text", json.dumps, json.loads, takes_lists=True)
    types.set_codec(NUMERIC, "text", json.dumps, json.loads)
    assert encoded(types, FLOAT8S, [[1, 2], None, [3]]) == b'{"[1, 2]",NULL,"[3]"}'
    assert encoded(types, NUMERICS, [[1, 2], [3, 4]]) == b'{{"1","2"},{"3","4"}}'


# text


def test_a_json_codec_is_one_line() -> None:
    types = known()
    types.set_codec(JSONB, "text", json.dumps, json.loads)
    assert encoded(types, JSONB, {"a": [1]}) == b'\1{"a": [1]}'
    assert decoded(types, JSONB, b'\1{"a": [1]}') == {"a": [1]}
    assert back(types, JSONBS, [{"a": 1}, None, "x"]) == [{"a": 1}, None, "x"]
    assert decoded(types, RECORD, struct.pack("!iIi", 1, JSONB, 5) + b"\1true") == (True,)


def test_text_in_arrays_and_ranges() -> None:
    types = with_codec(NUMERIC, "text", str, float)
    assert codec(types, NUMERIC).format == 0
    assert encoded(types, NUMERIC, 1.5) == b"1.5"
    assert decoded(types, NUMERIC, b"1.50") == 1.5
    assert decoded(types, NUMERICS, b"{{1.5,NULL},{2,3}}") == [[1.5, None], [2.0, 3.0]]
    assert encoded(types, NUMERICS, [1.5, None]) == b'{"1.5",NULL}'
    assert encoded(types, NUMRANGE, Range(1.5, 2.0)) == b'["1.5","2.0")'
    assert decoded(types, NUMRANGE, b"(1.5,]") == Range(1.5, None, lower_inc=False)
    assert decoded(types, NUMRANGE, b"empty") == Range(empty=True)
    assert decoded(types, NUMMULTIRANGE, b"{[1.5,2),(,)}") == [Range(1.5, 2.0), Range()]
    assert encoded(types, NUMMULTIRANGE, [(1.5,), ()]) == b'{["1.5",),empty}'
    assert back(types, NUMMULTIRANGE, []) == []


def test_text_in_composites() -> None:
    # There numbers come in binary, and the codec gets the text that the server would have sent.
    seen: list[str] = []

    def read(text: str) -> float:
        seen.append(text)
        return float(text)

    types = with_codec(NUMERIC, "text", str, read)
    assert codec(types, PRICES).format == 1
    record = back(types, PRICES, (1.5, [2.0, None]))
    assert tuple(record) == (1.5, [2.0, None])
    assert seen == ["1.5", "2.0"]
    # And a row with a regtype comes as text altogether.
    assert decoded(types, NAMED, b"(integer,1,{1.50})")["prices"] == [1.5]
    assert seen[-1] == "1.50"


def test_text_over_an_enum() -> None:
    types = with_codec(MOOD, "text", str.lower, str.upper)
    assert back(types, MOOD, "Happy") == "HAPPY"
    assert back(types, MOODS, ["Happy"]) == ["HAPPY"]
    assert codec(types, MOODS).format == 1


def test_text_for_a_type_nothing_is_known_of() -> None:
    types = with_codec(VECTOR, "text", str, json.loads)
    assert encoded(types, VECTOR, [1, 2]) == b"[1, 2]"
    assert decoded(types, VECTOR, b"[1,2]") == [1, 2]


# binary


def test_binary() -> None:
    types = with_codec(INT4, "binary", lambda n: struct.pack("!i", n - 1), lambda b: int.from_bytes(b) + 1)
    assert encoded(types, INT4, 3) == b"\0\0\0\2"
    assert back(types, INT4, 3) == 3
    assert back(types, INT4S, [3, None]) == [3, None]
    assert tuple(back(types, PAIR, (3, "a"))) == (3, "a")
    assert decoded(types, AGE, b"\0\0\0\2") == 3
    assert back(types, AGES, [3]) == [3]


def test_buffers_are_bytes() -> None:
    for make in (bytes, bytearray, memoryview):
        assert encoded(with_codec(INT4, "binary", make), INT4, b"abcd") == b"abcd"


# tuple


@pytest.mark.parametrize(
    ("oid", "numbers", "wire"),
    [
        (DATE, (8825,), "00002279"),
        (DATE, (2**31 - 1,), "7fffffff"),
        (DATE, (-(2**31),), "80000000"),
        (1083, (14706789000,), "000000036c97ca88"),
        (TIMETZ, (36000000000, -19800), "0000000861c46800ffffb2a8"),
        (1114, (-(2**63),), "8000000000000000"),
        (1184, (1,), "0000000000000001"),
        (INTERVAL, (14, 3, 14706700000), "000000036c966ee0000000030000000e"),
    ],
)
def test_tuples_of_dates_and_times(oid: int, numbers: tuple[int, ...], wire: str) -> None:
    types = with_codec(oid, "tuple")
    assert encoded(types, oid, numbers).hex() == wire
    assert encoded(types, oid, list(numbers)).hex() == wire
    assert decoded(types, oid, bytes.fromhex(wire)) == numbers


@pytest.mark.parametrize(
    ("oid", "value", "error", "text"),
    [
        (DATE, (1, 2), ValueError, "date tuple encoder: expecting 1 element in tuple, got 2"),
        (INTERVAL, (1,), ValueError, "interval tuple encoder: expecting 3 elements in tuple, got 1"),
        (DATE, 5, TypeError, "date tuple encoder: expected a tuple, got int"),
        (DATE, ("x",), TypeError, "expected int from the tuple encoder, got str"),
        (DATE, (2**31,), OverflowError, "expected a number from -2147483648 to 2147483647"),
        (1114, (2**63,), OverflowError, "expected a number from"),
    ],
)
def test_bad_tuples(oid: int, value: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        encoded(with_codec(oid, "tuple"), oid, value)


def test_tuples_of_composites() -> None:
    types = with_codec(PAIR, "tuple", lambda c: (int(c.real), str(c.imag)), lambda pair: pair)
    record = back(types, PAIR, 1 + 2j)
    assert isinstance(record, Record)
    assert dict(record) == {"a": 1, "b": "2.0"}
    assert [tuple(each) for each in back(types, PAIRS, [1 + 2j])] == [(1, "2.0")]


def test_tuples_of_composites_whose_attributes_have_codecs() -> None:
    types = with_codec(PAIR, "tuple", same, tuple)
    types.set_codec(TEXT, "text", str.lower, str.upper)
    assert back(types, PAIR, (1, "a")) == (1, "A")
    assert back(types, PAIRS, [(1, "a")]) == [(1, "A")]


# what goes wrong


@pytest.mark.parametrize(
    ("form", "encoder", "text"),
    [
        ("text", len, "expected str, got int"),
        ("text", lambda _: None, "expected str from the encoder, got NoneType"),
        ("binary", str, "expected bytes from the encoder, got 'str'"),
        ("binary", lambda _: None, "expected bytes from the encoder, got 'NoneType'"),
    ],
)
def test_what_an_encoder_must_not_return(form: str, encoder: Callable[[Any], Any], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        encoded(with_codec(INT4, form, encoder), INT4, "abc")


def test_what_a_codec_raises_is_raised() -> None:
    def fail(_: object) -> None:
        raise KeyError("mine")

    types = with_codec(INT4, "text", fail, fail)
    with pytest.raises(KeyError, match="mine"):
        encoded(types, INT4, 1)
    with pytest.raises(KeyError, match="mine"):
        decoded(types, INT4, b"1")
    with pytest.raises(KeyError, match="mine"):
        decoded(types, INT4S, b"{1}")


@pytest.mark.parametrize(
    ("oid", "form", "error", "text"),
    [
        (INT4, "csv", InterfaceError, "expected 'text', 'binary' or 'tuple', got 'csv'"),
        (INT4, "tuple", InterfaceError, "int4 type does not support the 'tuple' exchange format"),
        (INT4S, "binary", InterfaceError, "it is neither a scalar type nor a composite type"),
        (NUMRANGE, "text", InterfaceError, "it is neither a scalar type nor a composite type"),
        (AGE, "text", UnsupportedClientFeatureError, "custom codecs on domain types are not supported"),
        (PAIR, "text", UnsupportedClientFeatureError, "only tuple-format codecs"),
        (999999, "text", InterfaceError, "nothing is known of a type with OID 999999"),
    ],
)
def test_types_that_take_no_such_codec(oid: int, form: str, error: type[Exception], text: str) -> None:
    types = known()
    with pytest.raises(error, match=text):
        types.set_codec(oid, form, same, same)
    assert types.customised == []


# as another type


def test_as_a_builtin_type() -> None:
    types = known()
    types.set_builtin(VECTOR, "int4")
    assert encoded(types, VECTOR, 1) == b"\0\0\0\1"
    types.set_builtin(VECTOR, "double precision", "binary")
    assert back(types, VECTOR, 0.5) == 0.5
    types.set_builtin(VECTOR, "varchar", "text")
    assert codec(types, VECTOR).format == 0
    types.set_builtin(VECTOR, "json")
    assert back(types, VECTOR, "[]") == "[]"


def test_a_domain_as_a_builtin_type() -> None:
    # In results the server names the type that a domain is based on: parameters alone are written by the codec.
    types = known()
    types.set_builtin(AGE, "text")
    assert encoded(types, AGE, "17") == b"17"
    types.set_builtin(AGE, "pg_contrib.hstore")
    assert back(types, AGE, {"a": None}) == {"a": None}
    types.reset_codec(AGE)
    assert encoded(types, AGE, 17) == b"\0\0\0\x11"
    with pytest.raises(InterfaceError, match="cannot alias non-scalar type public.pair"):
        types.set_builtin(PAIR, "int4")


@pytest.mark.parametrize(
    ("name", "format", "text"),
    [
        ("nosuch", None, "cannot alias vector to nosuch: there is no text codec for nosuch"),
        ("pg_contrib.hstore", "text", "there is no text codec for pg_contrib.hstore"),
        ("regtype", "binary", "there is no binary codec for regtype"),
        ("int4[]", None, "there is no text codec for"),
        ("int4", "tuple", "expected None, 'text' or 'binary', got 'tuple'"),
    ],
)
def test_no_such_builtin_codec(name: str, format: Any, text: str) -> None:
    types = known()
    with pytest.raises(InterfaceError, match=text.replace("[", r"\[")):
        types.set_builtin(VECTOR, name, format)


def test_ranges_over_a_type_with_a_codec() -> None:
    types = with_codec(FLOAT8, "text", str, Decimal)
    assert decoded(types, FLOATRANGE, b"[1.50,)") == Range(Decimal("1.50"))
    assert decoded(types, FLOATMULTIRANGE, b"{[1.50,)}") == [Range(Decimal("1.50"))]
