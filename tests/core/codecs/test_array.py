"""Arrays are nested lists: rectangular, of up to six dimensions, with NULLs; lower bounds are dropped."""

from __future__ import annotations

import collections
import enum
import struct
from array import array
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from ipaddress import IPv4Address
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._core.codecs.container_oids import ARRAYS
from headrace._core.codecs.testing import decode, encode, format_of
from headrace._core.rows.record import Record, make_record
from headrace.exceptions import ProtocolError
from headrace.types import BitString, Path, Point, Range

from .wire import check_both_ways, check_hostile, check_refused, decoded, encoded

INT2, INT4, TEXT, JSON, BYTEA = 1005, 1007, 1009, 199, 1001
REGTYPE = 2211
INT2VECTOR, INT2VECTORS, OIDVECTOR = 22, 1006, 30

ONE_TO_THREE = "000000010000000000000017000000030000000100000004000000010000000400000002" + "0000000400000003"


@pytest.mark.parametrize(
    ("oid", "value", "wire"),
    [
        (INT4, [], "000000000000000000000017"),
        (INT4, [1, 2, 3], ONE_TO_THREE),
        (INT4, [1, None], "00000001000000010000001700000002000000010000000400000001ffffffff"),
        (
            INT4,
            [[1, 2], [3, 4]],
            "000000020000000000000017000000020000000100000002000000010000000400000001000000040000000200000004"
            "000000030000000400000004",
        ),
        (TEXT, ["a", None, ""], "00000001000000010000001900000003000000010000000161ffffffff00000000"),
        (
            INT2,
            [[[1]]],
            "000000030000000000000015000000010000000100000001000000010000000100000001000000020001",
        ),
        (INT2VECTOR, [1, 2], "0000000100000000000000150000000200000000000000020001000000020002"),
        (OIDVECTOR, [7], "00000001000000000000001a00000001000000000000000400000007"),
    ],
)
def test_golden(oid: int, value: list[Any], wire: str) -> None:
    check_both_ways(oid, wire, value)


def test_lower_bounds_are_dropped() -> None:
    wire = "000000010000000000000017000000020000000200000004000000070000000400000008"
    assert decoded(INT4, wire) == [7, 8]


def rectangular(element: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Lists of one to six dimensions."""

    def of_shape(shape: list[int]) -> st.SearchStrategy[Any]:
        whole = element
        for length in reversed(shape):
            whole = st.lists(whole, min_size=length, max_size=length)
        return whole

    return st.lists(st.integers(1, 3), min_size=1, max_size=6).flatmap(of_shape)


@given(rectangular(st.none() | st.integers(-(2**31), 2**31 - 1)))
def test_every_shape_comes_back(value: list[Any]) -> None:
    assert decode(INT4, encode(INT4, value)[4:]) == value


@pytest.mark.parametrize(
    ("oid", "value"),
    [
        (1000, [True, False]),
        (1016, [2**63 - 1]),
        (1022, [[0.5], [float("inf")]]),
        (1231, [Decimal("1.50"), None]),
        (2951, [UUID(int=1)]),
        (1182, [[date(2024, 2, 29)]]),
        (1041, [IPv4Address("10.0.0.1")]),
        (1017, [Point(1, 2), None]),
        (1019, [Path((0, 0), (1, 1))]),
        (3905, [Range(1, 5), Range(empty=True)]),
        (6150, [[Range(1, 5)], []]),
        (1561, [BitString("1"), BitString("01")]),
        (JSON, ["[1]", None]),
        (INT2VECTORS, [[1, 2], [3]]),
        (1010, [(1, 2)]),
    ],
)
def test_arrays_of_other_types(oid: int, value: list[Any]) -> None:
    result = decode(oid, encode(oid, value)[4:])
    assert result == value


def test_every_fixed_array_type_has_a_codec() -> None:
    for oid, name, element, _ in ARRAYS:
        assert format_of(oid) == format_of(element), name


@pytest.mark.parametrize(
    "value",
    [
        (1, 2, 3),
        range(1, 4),
        collections.deque([1, 2, 3]),
        array("i", [1, 2, 3]),
        {1: None, 2: None, 3: None}.keys(),
        {1: 1, 2: 2, 3: 3}.values(),
        {1, 2, 3},
    ],
)
def test_any_sized_iterable_is_a_dimension(value: Any) -> None:
    assert encoded(INT4, value) == ONE_TO_THREE
    assert encoded(INT4, [value]) == encoded(INT4, [[1, 2, 3]])


@pytest.mark.parametrize("value", ["123", b"123", bytearray(3), memoryview(b"123"), {1: 2}, 5, iter([1])])
def test_what_is_no_sized_iterable_is_refused(value: object) -> None:
    check_refused(INT4, value, TypeError, f"a sized iterable container expected (got type {type(value).__name__!r})")


@pytest.mark.parametrize("value", [[[]], [[], []], [[[]]], ((),)])
def test_empty_lists_in_lists_are_the_empty_array(value: object) -> None:
    assert encoded(INT4, value) == "000000000000000000000017"


@pytest.mark.parametrize(
    "value",
    [
        [[1, 2], [3]],
        [[1, 2], 3],
        [1, [2]],
        [[1], None],
        [None, [1]],
        [[1], []],
        [[], [1]],
        [[[1]], [1]],
        [["a"], "b"],
    ],
)
def test_ragged_lists_are_refused(value: object) -> None:
    for oid in (INT4, TEXT, REGTYPE):
        with pytest.raises((ValueError, TypeError), match="non-homogeneous|invalid array element"):
            encode(oid, value)


def test_more_than_six_dimensions_are_refused() -> None:
    value: list[Any] = [1]
    for _ in range(5):
        value = [value]
    assert decode(INT4, encode(INT4, value)[4:]) == value
    check_refused(INT4, [value], ValueError, "number of array dimensions (7) exceed the maximum expected (6)")


@pytest.mark.parametrize("value", [[], [1, None], [[1], [2]]])
def test_vectors_have_one_dimension_and_no_null(value: list[Any]) -> None:
    for oid in (22, 30):
        check_refused(oid, value, ValueError, "expected one or more numbers and no None: the binary form of")


def test_a_list_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    check_refused(INT4, value, ValueError, "number of array dimensions")


def test_the_bad_element_is_named() -> None:
    check_refused(INT4, [1, "x"], TypeError, "invalid array element at index 1: an integer is required: 'str' object")
    check_refused(INT4, [[1, 2], [3, 2**40]], OverflowError, "invalid array element at index [1][1]: ")
    check_refused(TEXT, ["a", "\ud800"], ValueError, "invalid array element at index 1: ")
    check_refused(TEXT, [b"a"], TypeError, "expected str, got bytes")


def test_a_tuple_is_a_value_where_it_can_be_one() -> None:
    assert encoded(INT4, [(1, 2)]) == encoded(INT4, [[1, 2]])
    assert encoded(1017, [(1, 2), (3, 4)]) == encoded(1017, [Point(1, 2), Point(3, 4)])
    assert encoded(3905, [(1, 2)]) == encoded(3905, [Range(1, 2, upper_inc=True)])


def test_a_member_of_an_enum_is_a_value() -> None:
    """Although its class is one that can be iterated over, and has a length."""

    class Colour(enum.Enum):
        RED = "red"
        BLUE = "blue"

    assert encode(TEXT, [Colour.RED, Colour.BLUE]) == encode(TEXT, ["red", "blue"])
    assert encode(TEXT, [["x"], [Colour.RED]]) == encode(TEXT, [["x"], ["red"]])


def test_a_record_is_a_value() -> None:
    check_refused(
        INT4, [make_record(Record, ("a",), (1,))], TypeError, "'Record' object cannot be interpreted as an integer"
    )


def test_a_list_that_changes_while_it_is_encoded() -> None:
    class Number:
        def __index__(self) -> int:
            value.clear()
            return 1

    value: list[Any] = [Number(), 2, 3]
    check_refused(INT4, value, ValueError, "changed its size")


class Sized:
    """A container that is no better than it needs to be."""

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[int]:
        return iter((1, 2, 3))


def test_the_elements_are_counted_not_asked_for() -> None:
    assert encoded(INT4, Sized()) == ONE_TO_THREE


# The text form: where the elements have no other


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([], "{}"),
        ([[], []], "{}"),
        (["int4", None], '{"int4",NULL}'),
        ([["a"], ['b"\\']], r'{{"a"},{"b\"\\"}}'),
        (["", "NULL", "ä,{}"], '{"","NULL","ä,{}"}'),
    ],
)
def test_text_is_quoted(value: list[Any], text: str) -> None:
    assert encode(REGTYPE, value)[4:].decode() == text
    if value != [[], []]:
        assert decode(REGTYPE, text.encode()) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{integer,NULL}", ["integer", None]),
        ("[2:3]={a,b}", ["a", "b"]),
        ("[0:1][-1:0]={{a,b},{c,d}}", [["a", "b"], ["c", "d"]]),
        ('{"timestamp without time zone","a\\"b"}', ["timestamp without time zone", 'a"b']),
        ('{"NULL",null}', ["NULL", None]),
    ],
)
def test_text_is_read(text: str, value: list[Any]) -> None:
    assert decode(REGTYPE, text.encode()) == value


@pytest.mark.parametrize(
    "text", ["", "{", "{a", "{a,", "{a,}", "{}x", "{a}}", "[1", "x", '{"a', "{a\\", "{{{{{{{a}}}}}}}"]
)
def test_malformed_text(text: str) -> None:
    with pytest.raises(ProtocolError, match="malformed"):
        decode(REGTYPE, text.encode())


def head(dimensions: int, *rest: int, flags: int = 0, element: int = 23) -> str:
    return struct.pack(f"!iii{len(rest)}i", dimensions, flags, element, *rest).hex()


def test_hostile() -> None:
    check_hostile(
        INT4,
        "",
        "00" * 11,
        head(1),
        head(-1),
        head(7, *[1] * 14),
        head(0, flags=2),
        head(0, element=25),
        head(1, 2**31 - 1, 1),
        head(1, -1, 1),
        head(2, 2**31 - 1, 1, 0, 1),
        head(2, 65536, 1, 65536, 1),
        head(6, *[2**31 - 1, 1] * 6),
        head(1, 1, 1, -2),
        head(1, 1, 1, 4),
        head(1, 1, 1, 2**31 - 1, 0),
        head(1, 2, 1, 4, 1),
        head(0, 0),
        head(1, 1, 1, 2, 0),
    )
