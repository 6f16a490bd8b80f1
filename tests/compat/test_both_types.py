"""Range, BitString, the geometric classes and the descriptions of types, with both drivers."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

import headrace
from tests.compat.test_both_drivers import shown

ALIKE: list[Callable[[Any], Any]] = [
    lambda d: (d.Range(1, 5), d.Range(), d.Range(None, 1), d.Range("a", "b"), d.Range(5, 1), d.Range(0)),
    lambda d: (d.Range(1, 5) == d.Range(1, 5), d.Range(1, 5) == (1, 5), d.Range(1, 5) != d.Range(1, 5, upper_inc=True)),
    lambda d: (bool(d.Range()), bool(d.Range(empty=True)), bool(d.Range(1, 1)), d.Range(1, 1).isempty),
    lambda d: (d.Range(None, 5).lower_inc, d.Range(5, None, upper_inc=True).upper_inc, d.Range(empty=True).lower_inf),
    lambda d: (d.Range(1, 5).issubset(d.Range(1, 6)), d.Range().issubset(d.Range(1, 2))),
    lambda d: (d.Range(empty=True).issubset(d.Range(1, 2)), d.Range(1, 2).issuperset(d.Range(empty=True))),
    lambda d: (pickle.loads(pickle.dumps(d.Range(1, 5))), copy.deepcopy(d.Range([1], 5)), {d.Range(1): 2}[d.Range(1)]),
    lambda d: d.Range(1, 5) < d.Range(2, 5),
    lambda d: d.Range(1, 5, True),
    lambda d: setattr(d.Range(1, 5), "lower", 3),
    lambda d: setattr(d.Range(1, 5), "other", 3),
    lambda d: hash(d.Range([1], 2)),
    lambda d: 3 in d.Range(1, 5),
    lambda d: (d.Range[int].__origin__ is d.Range, type("Sub", (d.Range,), {})(1, 2) == d.Range(1, 2)),
    lambda d: (d.BitString("10101"), d.BitString(), d.BitString([True, False]), d.BitString("1 0 1").as_string()),
    lambda d: (d.BitString("10") == d.BitString("10"), d.BitString("10") == "10", len(d.BitString("10101"))),
    lambda d: (list(d.BitString("101")), d.BitString("101")[2], 1 in d.BitString("101"), d.BitString("101").bytes),
    lambda d: (d.BitString.frombytes(b"\xa0", bitlength=3), d.BitString.frombytes(b"\xa0"), d.BitString.frombytes()),
    lambda d: (
        d.BitString.from_int(5, 8),
        d.BitString.from_int(5, 8, "little"),
        d.BitString.from_int(-1, 4, signed=True),
    ),
    lambda d: (
        d.BitString("1000").to_int(),
        d.BitString("1000").to_int(signed=True),
        d.BitString("01").to_int("little"),
    ),
    lambda d: (pickle.loads(pickle.dumps(d.BitString("101"))), bool(d.BitString("")), bool(d.BitString("0"))),
    lambda d: setattr(d.BitString("1"), "bytes", b""),
    lambda d: d.BitString("1") < d.BitString("0"),
    lambda d: (d.Point(1, 2).x, d.Point(1, 2)[1], d.Point(1, 2) == (1, 2), d.Point(x=1, y=2), d.Point("1", "2")),
    lambda d: (
        d.Point(1, 2) < d.Point(1, 3),
        hash(d.Point(1, 2)) == hash((1.0, 2.0)),
        isinstance(d.Point(1, 2), tuple),
    ),
    lambda d: d.Point(1),
    lambda d: d.Point("a", "b"),
    lambda d: setattr(d.Point(1, 2), "x", 3),
    lambda d: (
        d.Box((1, 2), (3, 4)).high.x,
        d.Box(high=(1, 2), low=(3, 4)).low == (3, 4),
        list(d.Line(1, 2, 3)) == [1, 2, 3],
    ),
    lambda d: d.Box(1, 2),
    lambda d: d.Box((1, 2, 3), (3, 4)),
    lambda d: d.Line(1, 2),
    lambda d: (
        d.LineSegment((1, 2), (3, 4)).p2.x,
        d.Circle((1, 2), 3).center == (1, 2),
        d.Circle((1, 2), 3).radius == 3,
    ),
    lambda d: (
        d.Path((1, 2)).points == ((1, 2),),
        d.Path((1, 2)).is_closed,
        len(d.Path((1, 2))),
        (1, 2) in d.Path((1, 2)),
    ),
    lambda d: (
        d.Path((1, 2)) == d.Path((1, 2)),
        d.Path((1, 2)) == d.Path((1, 2), is_closed=True),
        d.Path((1, 2))[0] == (1, 2),
    ),
    lambda d: (d.Polygon((1, 2)).is_closed, isinstance(d.Polygon((1, 2)), d.Path)),
    lambda d: d.Polygon((1, 2), is_closed=False),
    lambda d: d.Path(1, 2),
    lambda d: d.Path((1,)),
    lambda d: (d.Type(1, "a", "b", "c")._asdict(), d.Type(oid=1, name="a", kind="b", schema="c")._replace(oid=2)),
    lambda d: (d.Attribute("a", 5).type, d.ServerVersion(1, 2, 3, "final", 0) > (1, 2), d.ServerVersion._fields),
    lambda d: (d.utils._quote_ident('a"b'), d.utils._quote_literal("a'b")),
]


@pytest.mark.parametrize("call", ALIKE)
def test_alike(call: Callable[[Any], Any]) -> None:
    try:
        theirs = shown(call(asyncpg))
    except Exception as error:
        with pytest.raises(type(error)):
            call(headrace)
    else:
        assert shown(call(headrace)) == theirs


@pytest.mark.parametrize("driver", [asyncpg, headrace])
@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda d: d.BitString("12"), ValueError, "invalid bit value at position 1"),
        (lambda d: d.BitString("101")[3], IndexError, "index out of range"),
        (lambda d: d.BitString.frombytes(b"a", bitlength=9), ValueError, "invalid bit length specified"),
        (lambda d: d.BitString.from_int(5, 2), OverflowError, "int too big to convert"),
        (lambda d: d.BitString.from_int(-5, 8), OverflowError, "can't convert negative int to unsigned"),
        (lambda d: d.BitString.from_int(5, -1), ValueError, "length argument must be non-negative"),
        (lambda d: d.BitString("1").to_int("x"), ValueError, "bitorder must be either 'big' or 'little'"),
    ],
)
def test_the_words_of_errors(driver: Any, call: Callable[[Any], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call(driver)
