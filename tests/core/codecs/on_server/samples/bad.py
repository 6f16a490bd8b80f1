"""Values that a type cannot hold, or not without loss: each is to be refused before anything is sent."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from ipaddress import IPv6Address, ip_interface
from typing import Any
from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from headrace import Range
from tests.core.codecs.on_server.samples.characters import TEXT
from tests.core.codecs.on_server.samples.times import MAX_OFFSET

INFINITY, NAN = float("inf"), float("nan")

NOT_A_VALUE = st.sampled_from((object(), 1 + 2j, type))
"""What no type takes."""

NOT_UTF8 = st.tuples(TEXT, st.sampled_from(("\0", "\ud800", "\udfff")), TEXT).map("".join)
"""Text with a NUL, or with half a character: no text of PostgreSQL has either."""

FRACTIONS = st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: number != int(number))

NAIVE_TIMES, AWARE_TIMES = st.times(), st.times(timezones=st.just(dt.UTC))
AWARE = st.datetimes(timezones=st.just(dt.UTC))
TOO_FAR = st.sampled_from((MAX_OFFSET + dt.timedelta(seconds=1), -MAX_OFFSET - dt.timedelta(seconds=1)))
SPLIT_SECOND = st.just(dt.timedelta(seconds=1, microseconds=1))


def others(*values: object) -> SearchStrategy[Any]:
    return st.sampled_from(values)


def beyond(low: int, high: int) -> SearchStrategy[Any]:
    """Numbers outside of the range of an integer type, some of them far outside, and what is no integer."""
    return (
        st.integers(max_value=low - 1)
        | st.integers(min_value=high + 1)
        | st.sampled_from((10**40, -(10**400), 1 << 20000))
        | FRACTIONS
        | others(INFINITY, NAN, Decimal("1.5"), "1", b"1", [1], dt.date(2024, 1, 1))
    )


def is_no_number(text: str) -> bool:
    """Tell that a text has no digit in it, and is no NaN or infinity either."""
    return "n" not in text.lower() and not any(map(str.isdecimal, text))


NOT_TEXT = NOT_UTF8 | others(1, 1.5, b"a", True, ["a"], {}, dt.date(2024, 1, 1), uuid4())

POINTLESS = others("(1,2)", b"", 5, {}, (1,), (1, 2, 3, 4), ("a", 2), (None, 1), [[1, 2]])
PATHLESS = others("((1,2))", 5, {}, [], (), [1, 2], [(1,)], [("a", 1)], [None])

BAD: dict[str, SearchStrategy[Any]] = {
    "bool": st.integers() | others("true", 0.0, [], {}),
    "int2": beyond(-(2**15), 2**15 - 1),
    "int4": beyond(-(2**31), 2**31 - 1),
    "int8": beyond(-(2**63), 2**63 - 1),
    "float4": st.floats(min_value=3.5e38, allow_infinity=False) | others("1.5", b"1", 10**400, [1.0], -1e300),
    "float8": others("1.5", b"1", 10**400, [1.0], dt.timedelta(1)),
    "numeric": TEXT.filter(is_no_number)
    | others(Decimal("1E-16384"), Decimal("1E+131072"), Decimal("-1E+999999"), 1 << 500_001, b"1", [1], {}),
    **dict.fromkeys(
        (
            *("money", "text", "varchar", "bpchar", "name", "refcursor", "json", "jsonb", "jsonpath", "xml"),
            *("tsvector", "tsquery", "aclitem", "regproc", "regprocedure", "regoper", "regoperator", "regclass"),
            *("regtype", "regrole", "regnamespace", "regconfig", "regdictionary", "regcollation"),
        ),
        NOT_TEXT,
    ),
    "bytea": st.text() | st.integers() | others([1], {}),
    "char": st.binary(min_size=2) | st.text(min_size=2) | st.characters(min_codepoint=128) | others(1, [b"a"]),
    **dict.fromkeys(("bit", "varbit"), st.text() | st.integers() | others([1, 0], {})),
    "date": st.text() | st.times() | others(1, 1.5, b"", dt.timedelta(1)),
    "time": st.text() | AWARE_TIMES | AWARE | others(1, dt.date(2024, 1, 1)),
    "timetz": st.text()
    | NAIVE_TIMES
    | st.builds(lambda time, offset: time.replace(tzinfo=dt.timezone(offset)), st.times(), TOO_FAR | SPLIT_SECOND)
    | others(1, dt.date(2024, 1, 1)),
    "timestamp": st.text() | AWARE | st.times() | others(1, 1.5),
    "timestamptz": st.text() | st.times() | others(1, 1.5, b""),
    "interval": st.text() | st.integers() | st.times() | others(1.5),
    "inet": st.text(st.characters(exclude_characters=".:"))
    | others("1.2.3", "1.2.3.4/33", "::1/129", "1.2.3.4.5", "::1/", IPv6Address("fe80::1%eth0"), b"1234", 1.5),
    "cidr": others(
        "1.2.3.4/8", "::1/64", "10.0.0.0/33", "", ip_interface("1.2.3.4/8"), IPv6Address("fe80::%1"), b"", 1
    ),
    "macaddr": others("", "08:00:2b:01:02", "08:00:2b:01:02:0g", "08:00:2b-01:02:03", b"\0" * 6, 1)
    | st.binary(min_size=7).map(bytes.hex),
    "macaddr8": others("", "08:00:2b:01:02", "08:00:2b:01:02:03:04:0g", b"\0" * 8, 1)
    | st.binary(min_size=9).map(bytes.hex),
    "uuid": st.binary().filter(lambda data: len(data) != 16).map(bytes.hex) | st.binary() | others(1, "x" * 32, {}),
    "point": POINTLESS | others((1, 2, 3)),
    "line": POINTLESS | others((1, 2), "{1,2,3}", (1, 2, "x")),
    **dict.fromkeys(("lseg", "box"), POINTLESS | others((1, 2), ((1, 2),), ((1, 2), (3, "x")))),
    **dict.fromkeys(("path", "polygon"), PATHLESS),
    "circle": POINTLESS | others((1, 2), ((1, 2), "x"), ((1, 2, 3), 4)),
    **dict.fromkeys(("oid", "xid", "cid"), beyond(0, 2**32 - 1)),
    **dict.fromkeys(("xid8", "pg_lsn"), beyond(0, 2**64 - 1)),
    "tid": others((-1, 0), (0, 2**16), (2**32, 0), (0,), (0, 0, 0), ("0", 0), "(0,0)", 5, {}),
    **dict.fromkeys(
        ("pg_snapshot", "txid_snapshot"),
        others((1, 2), (1, 2, 3), (-1, 2, ()), (1, 2**63, ()), (1, 5, (-1,)), (1, 5, ("2",)), "1:2:", 5),
    ),
    **dict.fromkeys(
        ("int2vector", "oidvector"), others([], [-(2**40)], [2**40], [1, None], [[1]], ["1"], [1.5], "1 2", 5, {})
    ),
}

RANGELESS = others((1, 2, 3), "[1,2)", 5, {}, {1, 2}, Range("a", None), Range(None, b"a"))

BAD_RANGES: dict[str, SearchStrategy[Any]] = {
    **{f"{name}range": RANGELESS for name in ("int4", "int8", "num", "date", "ts", "tstz")},
    **{
        f"{name}multirange": others(5, "{}", b"", {}, [5], [None], [(1, 2, 3)], [Range("a", None)])
        for name in ("int4", "int8", "num", "date", "ts", "tstz")
    },
}
