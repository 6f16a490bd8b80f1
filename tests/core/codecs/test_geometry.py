"""The geometric types: float8 coordinates to the last bit, in the classes of headrace.types."""

from __future__ import annotations

import math
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._core.codecs.testing import decode, encode
from headrace.types import Box, Circle, Line, LineSegment, Path, Point, Polygon

from .wire import check_both_ways, check_hostile, check_refused, decoded, encoded

POINT, LSEG, PATH, BOX, POLYGON, LINE, CIRCLE = 600, 601, 602, 603, 604, 628, 718

ONE_TO_FOUR = "3ff0000000000000400000000000000040080000000000004010000000000000"


@pytest.mark.parametrize(
    ("oid", "value", "wire"),
    [
        (POINT, Point(1, -2.5), "3ff0000000000000c004000000000000"),
        (LSEG, LineSegment((1, 2), (3, 4)), ONE_TO_FOUR),
        (BOX, Box((3, 4), (1, 2)), "400800000000000040100000000000003ff00000000000004000000000000000"),
        (PATH, Path((1, 2), (3, 4)), "0000000002" + ONE_TO_FOUR),
        (PATH, Path((1, 2), is_closed=True), "0100000001" + ONE_TO_FOUR[:32]),
        (POLYGON, Polygon((1, 2), (3, 4)), "00000002" + ONE_TO_FOUR),
        (LINE, Line(1, 2, 3), ONE_TO_FOUR[:48]),
        (CIRCLE, Circle((1, 2), 3), ONE_TO_FOUR[:48]),
    ],
)
def test_golden(oid: int, value: object, wire: str) -> None:
    check_both_ways(oid, wire, value)


@given(st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)))
def test_every_point_comes_back(value: tuple[float, float]) -> None:
    assert decode(POINT, encode(POINT, value)[4:]) == Point(*value)


def test_nan_is_a_coordinate() -> None:
    result = decoded(POINT, encoded(POINT, (math.nan, 0)))
    assert isinstance(result, Point)
    assert math.isnan(result.x)


def test_what_comes_has_the_attributes_of_its_class() -> None:
    circle = decoded(CIRCLE, ONE_TO_FOUR[:48])
    assert isinstance(circle, Circle)
    assert (circle.center.x, circle.center.y, circle.radius) == (1.0, 2.0, 3.0)
    path = decoded(PATH, "0100000001" + ONE_TO_FOUR[:32])
    assert isinstance(path, Path)
    assert path.is_closed
    assert path.points == (Point(1, 2),)
    assert hash(path) == hash(Path((1, 2), is_closed=True))


@pytest.mark.parametrize(
    ("oid", "value", "same"),
    [
        (POINT, [1, 2], Point(1, 2)),
        (LSEG, [[1, 2], [3, 4]], LineSegment((1, 2), (3, 4))),
        (CIRCLE, [(1, 2), 3], Circle((1, 2), 3)),
        (PATH, [(1, 2)], Path((1, 2))),
        (PATH, ((1, 2),), Path((1, 2), is_closed=True)),
        (PATH, Polygon((1, 2)), Path((1, 2), is_closed=True)),
        (POLYGON, [(1, 2)], Polygon((1, 2))),
        (POLYGON, Path((1, 2)), Polygon((1, 2))),
    ],
)
def test_plain_numbers_will_do(oid: int, value: object, same: object) -> None:
    assert encoded(oid, value) == encoded(oid, same)


@pytest.mark.parametrize(
    ("oid", "value", "error", "text"),
    [
        (POINT, 5, TypeError, "expected a point (x, y), got int"),
        (POINT, "12", TypeError, "expected a point (x, y), got str"),
        (POINT, {"x": 1, "y": 2}, TypeError, "expected a point (x, y), got dict"),
        (POINT, ip_network("::/0"), TypeError, "expected a point (x, y), got IPv6Network"),
        (POINT, (1,), ValueError, "expected a point (x, y), got 1 items"),
        (POINT, (1, 2, 3), ValueError, "got 3 items"),
        (POINT, ("a", "b"), TypeError, "must be real number, not str"),
        (LSEG, (1, 2, 3, 4), ValueError, "got 4 items"),
        (LINE, (1, 2), ValueError, "expected a line (A, B, C)"),
        (CIRCLE, ((1, 2), "r"), TypeError, "must be real number"),
        (PATH, 5, TypeError, "expected headrace.Path"),
        (PATH, "()", TypeError, "expected headrace.Path"),
        (POLYGON, [1, 2], TypeError, "expected a point"),
        (PATH, [], ValueError, "expected at least one point: there is no empty path"),
        (POLYGON, (), ValueError, "there is no empty polygon"),
    ],
)
def test_refused(oid: int, value: object, error: type[Exception], text: str) -> None:
    check_refused(oid, value, error, text)


def test_hostile() -> None:
    check_hostile(POINT, "", "00" * 15, "00" * 17)
    check_hostile(LINE, "00" * 16)
    check_hostile(LSEG, "00" * 31)
    check_hostile(BOX, "00" * 33)
    check_hostile(CIRCLE, "00" * 16)
    check_hostile(PATH, "", "01", "010000", "017fffffff", "01ffffffff", "0100000002" + "00" * 16)
    check_hostile(POLYGON, "", "7fffffff", "ffffffff", "00000001" + "00" * 15)
