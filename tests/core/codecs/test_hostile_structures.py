"""Bytes that no server sends, for what is made of other types: no crash, no recursion without end, no memory."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._core.codecs.typemap import TypeMap
from headrace.exceptions import OutdatedSchemaCacheError, ProtocolError, UnsupportedClientFeatureError

from .types_known import (
    AGES,
    FLOATMULTIRANGE,
    FLOATRANGE,
    HSTORE,
    LISTINGS,
    NAMED,
    PAIR,
    PAIRS,
    PRICES,
    TAGGED,
    decoded,
    known,
)

DATES = [1082, 1083, 1114, 1184, 1186, 1266, 1182, 3912, 4535]
GEOMETRY = [600, 601, 602, 603, 604, 628, 718, 1019]
STRUCTURES = [22, 1007, 1009, 2211, 2249, 2287, 3904, 3905, 3906, 4451, 6150, 1231]
LEARNT = [AGES, FLOATMULTIRANGE, FLOATRANGE, HSTORE, LISTINGS, NAMED, PAIR, PAIRS, PRICES, TAGGED]

COUNTS = st.sampled_from([0, 1, 2, 3, 6, 7, 23, 25, 2**31 - 1, -1, -2, -(2**31), 16384])


def types() -> TypeMap:
    types = known()
    types.set_builtin(HSTORE, "pg_contrib.hstore")
    return types


TYPES = types()


@pytest.mark.parametrize("oid", DATES + GEOMETRY + STRUCTURES + LEARNT)
@given(
    data=st.binary(max_size=60)
    | st.lists(COUNTS.map(lambda number: struct.pack("!i", number)), max_size=16).map(b"".join)
    | st.text('{}[](),"\\=:1aNULempty ', max_size=20).map(str.encode)
)
def test_any_bytes(oid: int, data: bytes) -> None:
    try:
        decoded(TYPES, oid, data)
    except (ProtocolError, OutdatedSchemaCacheError, UnsupportedClientFeatureError):
        pass
    except (ValueError, OverflowError) as error:
        # What a value within may say: a date out of range, text that is no UTF-8 or no number.
        assert str(error)  # noqa: PT017


HUGE = struct.pack("!i", 2**31 - 1)


@pytest.mark.parametrize(
    ("oid", "data"),
    [
        pytest.param(1007, struct.pack("!iiiii", 1, 0, 23, 2**31 - 1, 1), id="array of 2**31 - 1 elements"),
        pytest.param(1007, struct.pack("!iii", 2**31 - 1, 0, 23), id="array of 2**31 - 1 dimensions"),
        pytest.param(1007, struct.pack("!iii12i", 6, 0, 23, *[1000, 1] * 6), id="array of 1000**6 elements"),
        pytest.param(1007, struct.pack("!iii4i", 2, 0, 23, 2**31 - 1, 1, 2**31 - 1, 1), id="product that overflows"),
        pytest.param(4451, HUGE, id="multirange of 2**31 - 1 ranges"),
        pytest.param(3904, b"\x12" + HUGE, id="range with a bound of 2**31 - 1 bytes"),
        pytest.param(2249, HUGE, id="record of 2**31 - 1 columns"),
        pytest.param(PAIR, HUGE, id="composite of 2**31 - 1 columns"),
        pytest.param(HSTORE, HUGE, id="hstore of 2**31 - 1 pairs"),
        pytest.param(602, b"\1" + HUGE, id="path of 2**31 - 1 points"),
        pytest.param(604, HUGE, id="polygon of 2**31 - 1 points"),
        pytest.param(2211, b"{" * 100_000, id="text of an array nested 100,000 deep"),
        pytest.param(2249, struct.pack("!iIi", 1, 2249, 12) * 50_000, id="records nested 50,000 deep"),
    ],
)
def test_what_is_promised_is_not_allocated(oid: int, data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            decoded(TYPES, oid, data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
