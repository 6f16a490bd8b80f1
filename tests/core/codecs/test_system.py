"""tid and the snapshots are tuples of numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._core.codecs.testing import decode, encode

from .wire import check_both_ways, check_hostile, check_refused, encoded

TID, TXID_SNAPSHOT, PG_SNAPSHOT = 27, 2970, 5038
xids = st.integers(0, 2**63 - 1)


@pytest.mark.parametrize(
    ("oid", "wire", "value"),
    [
        (TID, "000000000000", (0, 0)),
        (TID, "000000010002", (1, 2)),
        (TID, "ffffffffffff", (4294967295, 65535)),
        (PG_SNAPSHOT, "00000000000000000000000a000000000000000a", (10, 10, ())),
        (
            PG_SNAPSHOT,
            "00000002000000000000000a0000000000000014000000000000000a000000000000000e",
            (10, 20, (10, 14)),
        ),
        (
            TXID_SNAPSHOT,
            "00000002000000000000000a0000000000000014000000000000000a000000000000000e",
            (10, 20, (10, 14)),
        ),
    ],
)
def test_golden(oid: int, wire: str, value: tuple[object, ...]) -> None:
    check_both_ways(oid, wire, value)


@given(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1)))
def test_every_tid_comes_back(value: tuple[int, int]) -> None:
    assert decode(TID, encode(TID, value)[4:]) == value


@given(st.tuples(xids, xids, st.lists(xids, max_size=5).map(tuple)))
def test_every_snapshot_comes_back(value: tuple[int, int, tuple[int, ...]]) -> None:
    assert decode(PG_SNAPSHOT, encode(PG_SNAPSHOT, value)[4:]) == value


def test_lists_are_taken_for_tuples() -> None:
    assert encoded(TID, [1, 2]) == "000000010002"
    assert encode(PG_SNAPSHOT, [10, 20, [10, 14]]) == encode(PG_SNAPSHOT, (10, 20, (10, 14)))


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ("(1,2)", TypeError, "list or tuple expected (got type <class 'str'>)"),
        ((1,), ValueError, "invalid number of elements in tid tuple, expecting 2, got 1"),
        ((1, 2, 3), ValueError, "invalid number of elements in tid tuple, expecting 2, got 3"),
        ((-1, 2), OverflowError, "tuple id block value out of uint32 range: expected 0 to 4294967295, got -1"),
        ((2**32, 2), OverflowError, "tuple id block value out of uint32 range: expected 0 to 4294967295"),
        ((1, 65536), OverflowError, "tuple id offset value out of uint16 range: expected 0 to 65535, got 65536"),
        ((1, "2"), TypeError, "an integer is required"),
    ],
)
def test_what_is_no_tid(value: object, error: type[Exception], text: str) -> None:
    check_refused(TID, value, error, text)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ("10:20:", TypeError, "list or tuple expected (got type <class 'str'>)"),
        ((10, 20), ValueError, "expected a tuple (xmin, xmax, (xid, ...))"),
        ((10, 20, 15), ValueError, "expected a tuple (xmin, xmax, (xid, ...))"),
        ((-1, 20, ()), OverflowError, "xmin value out of int64 range: expected 0 to 9223372036854775807, got -1"),
        ((10, 2**63, ()), OverflowError, "xmax value out of int64 range"),
        ((10, 20, (2**64,)), OverflowError, "transaction id value out of int64 range"),
        ((10, 20, (None,)), TypeError, "an integer is required"),
    ],
)
def test_what_is_no_snapshot(value: object, error: type[Exception], text: str) -> None:
    check_refused(PG_SNAPSHOT, value, error, text)


def test_hostile_values() -> None:
    check_hostile(TID, "", "00000001", "00000001000200")
    for oid in (PG_SNAPSHOT, TXID_SNAPSHOT):
        check_hostile(
            oid,
            "",
            "00000000" + "00" * 15,
            "00000001" + "00" * 16,  # one transaction promised, none there
            "00000000" + "00" * 24,  # one there, none promised
            "ffffffff" + "00" * 16,
            "7fffffff" + "00" * 16,
        )
