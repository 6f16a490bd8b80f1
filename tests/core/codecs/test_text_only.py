"""Types without a useful binary form travel as text in both directions; void has no values."""

from __future__ import annotations

import pytest

from headrace._core.codecs.testing import decode, encode, format_of

from .wire import check_hostile, check_refused

VOID = 2278
TYPES = {
    "money": 790,
    "xml": 142,
    "tsvector": 3614,
    "tsquery": 3615,
    "aclitem": 1033,
    "regproc": 24,
    "regprocedure": 2202,
    "regoper": 2203,
    "regoperator": 2204,
    "regclass": 2205,
    "regtype": 2206,
    "regrole": 4096,
    "regnamespace": 4089,
    "regconfig": 3734,
    "regdictionary": 3769,
    "regcollation": 4191,
    "regdatabase": 6490,
    "pg_node_tree": 194,
    "anyarray": 2277,
    "trigger": 2279,
}


@pytest.mark.parametrize("oid", TYPES.values(), ids=TYPES)
def test_the_text_is_passed(oid: int) -> None:
    assert format_of(oid) == 0
    assert encode(oid, "é: 1") == b"\0\0\0\5\xc3\xa9: 1"
    assert decode(oid, b"\xc3\xa9: 1") == "é: 1"


@pytest.mark.parametrize("oid", TYPES.values(), ids=TYPES)
@pytest.mark.parametrize("value", [1, b"1", None])
def test_only_str_is_taken(oid: int, value: object) -> None:
    check_refused(oid, value, TypeError, f"expected str, got {type(value).__name__}")


def test_void_is_none() -> None:
    assert decode(VOID, b"") is None
    check_hostile(VOID, "00")
    check_refused(VOID, "", TypeError, "void has no values: expected None, got str")
