"""Values in the texts of errors."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.exceptions._values import LONGEST, shown


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError


class Endless(list[object]):
    """A list that must not be read to its end."""

    def __repr__(self) -> str:
        return "x" * 1000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("short", "'short'"),
        (12, "12"),
        (dt.date(2020, 1, 2), "datetime.date(2020, 1, 2)"),
        ([1, "a", None], "[1, 'a', None]"),
        ("x" * 57, "'" + "x" * 57 + "'"),
        ("x" * 59, "'" + "x" * 56 + "..."),
        (b"x" * 10**6, "b'" + "x" * 55 + "..."),
        (Broken(), "<Broken instance at 0x"),
        (Endless(), "x" * 57 + "..."),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_the_start_of_a_value_is_shown(value: object, text: str) -> None:
    found = shown(value)
    assert found.startswith(text.removesuffix("..."))
    assert len(found) <= LONGEST
    assert found.endswith("...") == text.endswith("...")


def test_a_long_list_is_not_read_to_its_end() -> None:
    class Element:
        read = 0

        def __repr__(self) -> str:
            Element.read += 1
            return "e"

    shown([Element() for _ in range(1000)])
    assert Element.read <= LONGEST


def test_a_number_too_long_for_a_text_has_one_all_the_same() -> None:
    assert len(shown(10**10_000)) <= LONGEST


@given(st.recursive(st.none() | st.text() | st.binary() | st.integers() | st.floats(), st.lists))
def test_every_value_has_a_short_text(value: object) -> None:
    assert 0 < len(shown(value)) <= LONGEST
