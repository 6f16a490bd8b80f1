"""The value types: what they take, how they compare, and that nothing is lost in a pickle or a copy."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.types import (
    Attribute,
    BitString,
    Box,
    Circle,
    Line,
    LineSegment,
    Path,
    Point,
    Polygon,
    Range,
    ServerVersion,
    Type,
    parse_server_version,
)

EVERY_KIND = [
    Type(23, "int4", "scalar", "pg_catalog"),
    Attribute("id", Type(23, "int4", "scalar", "pg_catalog")),
    ServerVersion(15, 0, 18, "final", 0),
    Range(1, 5),
    Range(date(2024, 1, 1), None, lower_inc=False),
    Range(empty=True),
    BitString("1010 1"),
    Point(1, 2),
    Line(1, 2, 3),
    LineSegment((1, 2), (3, 4)),
    Box((3, 4), (1, 2)),
    Circle((1, 2), 3),
    Path((1, 2), (3, 4)),
    Path((1, 2), (3, 4), is_closed=True),
    Polygon((1, 2), (3, 4)),
]


@pytest.mark.parametrize("value", EVERY_KIND, ids=repr)
@pytest.mark.parametrize("again", [lambda v: pickle.loads(pickle.dumps(v)), copy.copy, copy.deepcopy])
def test_a_pickle_or_a_copy_is_equal_and_of_the_same_class(value: object, again: Callable[[Any], Any]) -> None:
    twin = again(value)
    assert twin == value
    assert hash(twin) == hash(value)
    assert type(twin) is type(value)


@pytest.mark.parametrize(
    ("value", "attribute"),
    [
        (Range(1, 5), "lower"),
        (BitString("1"), "bytes"),
        (Point(1, 2), "x"),
        (Path((1, 2)), "points"),
        (Polygon((1, 2)), "is_closed"),
        (Range(1, 5), "colour"),
        (Box((3, 4), (1, 2)), "colour"),
    ],
)
def test_a_value_cannot_be_changed(value: object, attribute: str) -> None:
    with pytest.raises(AttributeError):
        setattr(value, attribute, None)


@pytest.mark.parametrize(
    ("reported", "version"),
    [
        ("17", (17, 0, 0, "final", 0)),
        ("15.18", (15, 0, 18, "final", 0)),
        ("15.18 (Debian 15.18-0+deb12u1)", (15, 0, 18, "final", 0)),
        ("9.6.24", (9, 6, 24, "final", 0)),
        ("9.6beta2", (9, 6, 0, "beta", 2)),
        ("18beta1", (18, 0, 0, "beta", 1)),
        ("16rc1", (16, 0, 0, "rc", 1)),
        ("19devel", (19, 0, 0, "devel", 0)),
        ("PostgreSQL 14.2-YB-2.21.0.0-b0 on x86_64-pc-linux-gnu", (14, 0, 2, "final", 0)),
        ("8.0.2 on i686-pc-linux-gnu, Redshift 1.0.77", (8, 0, 2, "final", 0)),
    ],
)
def test_a_server_version_is_read_as_servers_and_vendors_write_it(
    reported: str, version: tuple[int, int, int, str, int]
) -> None:
    assert parse_server_version(reported) == version


@pytest.mark.parametrize("reported", ["", "unknown"])
def test_a_server_version_without_a_number_is_an_error(reported: str) -> None:
    with pytest.raises(ValueError, match=f"expected a PostgreSQL version .*got {reported!r}"):
        parse_server_version(reported)


def test_server_versions_compare_by_age() -> None:
    assert parse_server_version("9.6.24") < parse_server_version("15.2") < parse_server_version("15.18")


class TestRange:
    def test_the_lower_bound_belongs_to_it_and_the_upper_does_not(self) -> None:
        assert repr(Range(1, 5)) == "<Range [1, 5)>"
        assert repr(Range("a", "b", lower_inc=False, upper_inc=True)) == "<Range ('a', 'b']>"

    def test_a_bound_of_none_is_infinite_and_never_inclusive(self) -> None:
        everything: Range[int] = Range(upper_inc=True)
        assert everything.lower_inf
        assert everything.upper_inf
        assert not everything.lower_inc
        assert not everything.upper_inc
        assert repr(everything) == "<Range (, )>"

    def test_the_empty_range_has_no_bounds_of_any_kind(self) -> None:
        empty = Range(1, 5, empty=True)
        assert (empty.lower, empty.upper) == (None, None)
        assert not any([empty.lower_inc, empty.upper_inc, empty.lower_inf, empty.upper_inf])
        assert empty.isempty
        assert not empty
        assert empty == Range(empty=True)
        assert repr(empty) == "<Range empty>"

    def test_bounds_are_kept_as_given(self) -> None:
        assert not Range(1, 1).isempty
        assert Range(2, 1).lower == 2

    def test_equality_is_by_bounds_alone(self) -> None:
        assert Range(1, 5) == Range(Decimal(1), 5.0)
        assert hash(Range(1, 5)) == hash(Range(Decimal(1), 5.0))
        assert Range(1, 5) != Range(1, 5, upper_inc=True)
        assert Range(1, 5) != (1, 5)

    @pytest.mark.parametrize(
        ("inner", "outer"),
        [
            (Range(2, 3), Range(1, 5)),
            (Range(1, 5), Range(1, 5)),
            (Range(1, 5), Range(1, 5, upper_inc=True)),
            (Range(1, 5, lower_inc=False), Range(1, 5)),
            (Range(1, 5), Range(None, 5)),
            (Range(None, 5), Range()),
            (Range(empty=True), Range(1, 5)),
            (Range(empty=True), Range(empty=True)),
        ],
    )
    def test_a_subset(self, inner: Range[int], outer: Range[int]) -> None:
        assert inner.issubset(outer)
        assert outer.issuperset(inner)

    @pytest.mark.parametrize(
        ("inner", "outer"),
        [
            (Range(0, 3), Range(1, 5)),
            (Range(2, 6), Range(1, 5)),
            (Range(1, 5, upper_inc=True), Range(1, 5)),
            (Range(1, 5), Range(1, 5, lower_inc=False)),
            (Range(None, 5), Range(1, 5)),
            (Range(1, None), Range(1, 5)),
            (Range(1, 5), Range(empty=True)),
        ],
    )
    def test_no_subset(self, inner: Range[int], outer: Range[int]) -> None:
        assert not inner.issubset(outer)
        assert not outer.issuperset(inner)

    def test_only_ranges_are_compared(self) -> None:
        with pytest.raises(TypeError, match="expected a Range, got int"):
            Range(1, 5).issubset(3)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="expected a Range, got int"):
            Range(1, 5).issuperset(3)  # type: ignore[arg-type]


class TestBitString:
    @pytest.mark.parametrize(
        "source", ["10100000111", "1010 0000 111", b"10100000111", [1, 0, 1, 0, 0, 0, 0, 0, 1, 1, 1]]
    )
    def test_it_is_made_of_text_or_bits(self, source: Any) -> None:
        bits = BitString(source)
        assert bits.as_string() == "1010 0000 111"
        assert repr(bits) == "<BitString 1010 0000 111>"
        assert bits.bytes == b"\xa0\xe0"
        assert len(bits) == 11

    def test_it_may_be_empty(self) -> None:
        assert BitString() == BitString(None) == BitString("")
        assert BitString().bytes == b""
        assert BitString().as_string() == ""

    @pytest.mark.parametrize("source", ["10 2", b"10 x", [1, 0, 0, 5], [1, 0, 0, None]])
    def test_what_is_no_bit_is_named_with_its_place(self, source: Any) -> None:
        with pytest.raises(ValueError, match="invalid bit value at position 3: expected 0 or 1"):
            BitString(source)

    def test_it_is_a_sequence_of_bits(self) -> None:
        bits = BitString("1001 1")
        assert list(bits) == [1, 0, 0, 1, 1]
        assert [bits[at] for at in range(-5, 5)] == [1, 0, 0, 1, 1] * 2
        assert bits[1:4] == BitString("001")
        for at in (-6, 5):
            with pytest.raises(IndexError, match=f"index out of range: {at} is not within the 5 bits"):
                bits[at]

    def test_leading_and_trailing_zeros_count(self) -> None:
        assert len({BitString("1"), BitString("01"), BitString("10"), BitString("1")}) == 3
        assert BitString("1") != "1"

    def test_bits_of_bytes_beyond_the_length_are_dropped(self) -> None:
        assert BitString.frombytes(b"\xff", 3) == BitString("111")
        assert BitString.frombytes(b"\xff", 3).bytes == b"\xe0"
        assert BitString.frombytes(b"\xa0\x01") == BitString("1010000000000001")
        assert BitString.frombytes() == BitString("")

    @pytest.mark.parametrize(("data", "length"), [(b"\xff", 9), (b"\xff\xff", 8), (b"\xff", 0), (b"", -1)])
    def test_a_bit_length_that_does_not_fit_the_bytes_is_an_error(self, data: bytes, length: int) -> None:
        with pytest.raises(ValueError, match=f"invalid bit length specified: .* {len(data)} bytes, got {length}"):
            BitString.frombytes(data, length)

    def test_integers_in_both_orders(self) -> None:
        assert BitString.from_int(5, 8) == BitString("00000101")
        assert BitString.from_int(5, 8, "little") == BitString("10100000")
        assert BitString.from_int(-3, 4, signed=True) == BitString("1101")
        assert BitString("1101").to_int() == 13
        assert BitString("1101").to_int(signed=True) == -3
        assert BitString("1101").to_int("little", signed=True) == -5

    @pytest.mark.parametrize(
        ("x", "length", "signed"),
        [(4, 2, False), (-1, 4, False), (8, 4, True), (-9, 4, True), (1, 0, True), (-1, 0, True)],
    )
    def test_an_integer_too_big_for_its_bits_is_an_error(self, x: int, length: int, signed: bool) -> None:
        with pytest.raises(OverflowError, match=str(x)):
            BitString.from_int(x, length, signed=signed)

    def test_bad_lengths_and_orders_are_errors(self) -> None:
        with pytest.raises(ValueError, match="length argument must be non-negative, got -1"):
            BitString.from_int(0, -1)
        with pytest.raises(ValueError, match="bitorder must be either 'big' or 'little', got 'middle'"):
            BitString.from_int(0, 1, "middle")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="bitorder must be either 'big' or 'little', got 'middle'"):
            BitString("1").to_int("middle")  # type: ignore[arg-type]

    @given(st.text("01"))
    def test_text_and_bytes_give_the_bits_back(self, digits: str) -> None:
        bits = BitString(digits)
        assert bits.as_string().replace(" ", "") == digits
        assert BitString.frombytes(bits.bytes, len(bits)) == bits

    @given(st.integers(-(2**70), 2**70), st.sampled_from(["big", "little"]))
    def test_an_integer_comes_back(self, x: int, order: Any) -> None:
        assert BitString.from_int(x, 72, order, signed=True).to_int(order, signed=True) == x
        assert BitString.from_int(abs(x), 72, order).to_int(order) == abs(x)


class TestGeometry:
    def test_each_is_a_tuple_of_its_parts_by_name(self) -> None:
        assert Point(1, "2") == (1.0, 2.0)
        assert Line(1, 2, 3) == (1.0, 2.0, 3.0)
        assert LineSegment((1, 2), (3, 4)) == ((1, 2), (3, 4))
        assert Box((3, 4), (1, 2)) == ((3, 4), (1, 2))
        assert Circle((1, 2), 3) == ((1, 2), 3)
        assert (Point(1, 2).x, Point(1, 2).y) == (1.0, 2.0)
        assert (Line(1, 2, 3).A, Line(1, 2, 3).B, Line(1, 2, 3).C) == (1.0, 2.0, 3.0)

    @pytest.mark.parametrize(
        "part",
        [
            LineSegment((1, 2), (3, 4)).p1,
            LineSegment((1, 2), (3, 4)).p2,
            Box((3, 4), (1, 2)).high,
            Box((3, 4), (1, 2)).low,
            Circle((1, 2), 3).center,
            Path((1, 2))[0],
            *Polygon((1, 2)),
        ],
    )
    def test_whatever_has_two_coordinates_becomes_a_point(self, part: object) -> None:
        assert type(part) is Point

    def test_a_path_is_a_sequence_of_points(self) -> None:
        path = Path((1, 2), [3, 4], Point(5, 6))
        assert list(path) == list(path.points) == [(1, 2), (3, 4), (5, 6)]
        assert list(path[1:]) == [(3, 4), (5, 6)]
        assert len(path) == 3
        assert (3, 4) in path
        assert (4, 3) not in path
        assert repr(path) == "Path((1.0, 2.0), (3.0, 4.0), (5.0, 6.0), is_closed=False)"

    def test_open_and_closed_paths_differ(self) -> None:
        assert Path((1, 2), (3, 4)) != Path((1, 2), (3, 4), is_closed=True)
        assert Path((1, 2)) != [(1, 2)]

    def test_a_polygon_is_a_closed_path(self) -> None:
        polygon = Polygon((1, 2), (3, 4))
        assert isinstance(polygon, Path)
        assert polygon == Path((1, 2), (3, 4), is_closed=True)
        assert hash(polygon) == hash(Path((1, 2), (3, 4), is_closed=True))
        assert repr(polygon) == "Polygon((1.0, 2.0), (3.0, 4.0))"

    @pytest.mark.parametrize("wrong", [1, None, (1, 2, 3), (1,), ("a", 1), [(1, 2), (3, 4)]], ids=repr)
    def test_what_is_no_point_is_named(self, wrong: Any) -> None:
        for make in (
            Path,
            Polygon,
            lambda p: Box((0, 0), p),
            lambda p: LineSegment(p, (0, 0)),
            lambda p: Circle(p, 1),
        ):
            with pytest.raises((TypeError, ValueError), match="expected a point, two numbers such as"):
                make(wrong)
