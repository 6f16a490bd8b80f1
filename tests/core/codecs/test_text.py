"""str is sent as UTF-8, and nothing but str is."""

from __future__ import annotations

from enum import Enum, StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._core.codecs.testing import decode, decode_unknown_type, encode, encode_unknown_type, format_of

from .wire import check_both_ways, check_refused, encoded

NAME, TEXT, UNKNOWN, BPCHAR, VARCHAR, REFCURSOR, CSTRING = 19, 25, 705, 1042, 1043, 1790, 2275
STRINGS = [NAME, TEXT, UNKNOWN, BPCHAR, VARCHAR, REFCURSOR, CSTRING]


class Shade(StrEnum):
    RED = "red"


class Colour(Enum):
    RED = "red"
    NUMBER = 4


class Subclass(str):
    def __str__(self) -> str:
        return "what it says is not what it is"


@pytest.mark.parametrize("oid", STRINGS)
@pytest.mark.parametrize(
    ("wire", "value"),
    [
        ("", ""),
        ("706c61696e", "plain"),
        ("616220", "ab "),
        ("6e61c3af7665206661c3a7616465", "naïve façade"),
        ("e697a5e69cace8aa9e20f09f9098", "日本語 🐘"),
    ],
)
def test_golden(oid: int, wire: str, value: str) -> None:
    check_both_ways(oid, wire, value)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_every_text_comes_back(value: str) -> None:
    assert decode(TEXT, encode(TEXT, value)[4:]) == value


@pytest.mark.parametrize("value", [Shade.RED, Colour.RED, Subclass("red")])
def test_subclasses_and_enums_of_str_are_taken(value: object) -> None:
    assert encoded(TEXT, value) == b"red".hex()


@pytest.mark.parametrize("value", [b"red", 1, ["red"], Colour.NUMBER, object()])
def test_nothing_is_turned_into_str(value: object) -> None:
    check_refused(TEXT, value, TypeError, "expected str, got ")


def test_a_nul_is_refused_and_found() -> None:
    check_refused(TEXT, "é\0", ValueError, "cannot hold the NUL character (found at position 1)")


def test_a_lone_surrogate_is_refused() -> None:
    check_refused(TEXT, "\ud800", ValueError, "surrogates not allowed")


def test_bytes_that_are_not_utf8_are_an_error_of_the_value() -> None:
    """A SQL_ASCII database may hold anything, so this is no fault of the server's."""
    with pytest.raises(UnicodeDecodeError, match=r"0xff in position 2.*the text value is not UTF-8.*bytea"):
        decode(TEXT, b"ab\xff")


def test_an_unlearnt_type_travels_as_text() -> None:
    assert encode_unknown_type(70000, "mood", "public", "happy") == b"\0\0\0\x05happy"
    assert encode_unknown_type(70000, "mood", "public", Colour.RED) == b"\0\0\0\x03red"
    assert decode_unknown_type(70000, "mood", "public", b"happy") == "happy"


def test_an_unlearnt_type_says_how_to_send_it() -> None:
    with pytest.raises(TypeError, match=r"expected str, got int: .* public\.mood.* set_type_codec\(\)"):
        encode_unknown_type(70000, "mood", "public", 1)


def test_an_unlearnt_type_is_not_entered_among_the_fixed_ones() -> None:
    encode_unknown_type(70000, "mood", "public", "happy")
    with pytest.raises(LookupError):
        format_of(70000)
