"""macaddr and macaddr8 are read in every notation the documentation shows, and given back in the server's."""

from __future__ import annotations

from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._core.codecs.testing import decode, encode

from .wire import check_both_ways, check_hostile, check_refused, encoded

MACADDR8, MACADDR = 774, 829


class Card(Enum):
    FIRST = "08:00:2b:01:02:03"


@pytest.mark.parametrize(
    ("oid", "wire", "value"),
    [
        (MACADDR, "08002b010203", "08:00:2b:01:02:03"),
        (MACADDR, "ffffffffffff", "ff:ff:ff:ff:ff:ff"),
        (MACADDR8, "08002b0102030405", "08:00:2b:01:02:03:04:05"),
        (MACADDR8, "08002bfffe010203", "08:00:2b:ff:fe:01:02:03"),
    ],
)
def test_golden(oid: int, wire: str, value: str) -> None:
    check_both_ways(oid, wire, value)


@given(st.sampled_from([(MACADDR, 6), (MACADDR8, 8)]), st.data())
def test_every_value_comes_back(kind: tuple[int, int], data: st.DataObject) -> None:
    oid, size = kind
    address = data.draw(st.binary(min_size=size, max_size=size))
    text = decode(oid, address)
    assert text == address.hex(":")
    assert encode(oid, text)[4:] == address


@pytest.mark.parametrize(
    "value",
    [
        "08:00:2b:01:02:03",
        "08-00-2b-01-02-03",
        "08002b:010203",
        "08002b-010203",
        "0800.2b01.0203",
        "0800-2b01-0203",
        "08002b010203",
        "08:00:2B:01:02:03",
        "8:0:2b:1:2:3",
        " 08:00:2b:01:02:03\n",
        Card.FIRST,
    ],
)
def test_notations(value: object) -> None:
    assert encoded(MACADDR, value) == "08002b010203"
    assert encoded(MACADDR8, value) == "08002bfffe010203"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "08:00:2b:01:02",
        "08:00:2b:01:02:03:04",
        "08:00:2b:01:02:03:04:05:06",
        "08:00-2b:01:02:03",
        "08::00:2b:01:02:03",
        ":08:00:2b:01:02:03",
        "08:00:2b:01:02:03:",
        "8002b010203",
        "08 00 2b 01 02 03",
        "08:00:2b:01:02:é3",
    ],
)
def test_other_text_is_refused(value: str) -> None:
    check_refused(
        MACADDR,
        value,
        ValueError,
        f"expected a MAC address of 6 bytes such as 08:00:2b:01:02:03, got {value!r}",
    )
    check_refused(
        MACADDR8,
        value,
        ValueError,
        f"expected a MAC address of 8 or 6 bytes such as 08:00:2b:01:02:03:04:05, got {value!r}",
    )


def test_eight_bytes_are_no_macaddr() -> None:
    check_refused(MACADDR, "08:00:2b:01:02:03:04:05", ValueError, "expected a MAC address of 6 bytes")


@pytest.mark.parametrize("oid", [MACADDR, MACADDR8])
@pytest.mark.parametrize("value", [1, b"\x08\x00\x2b\x01\x02\x03"])
def test_other_types_are_refused(oid: int, value: object) -> None:
    check_refused(oid, value, TypeError, f"expected str, got {type(value).__name__}")


def test_other_lengths_are_refused() -> None:
    check_hostile(MACADDR, "", "08002b0102", "08002b01020304")
    check_hostile(MACADDR8, "", "08002b010203", "08002b010203040506")
