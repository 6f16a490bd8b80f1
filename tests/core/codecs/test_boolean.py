"""bool is one byte, and only what is true or false is one."""

from __future__ import annotations

from enum import Enum

import pytest

from headrace._core.codecs.testing import decode

from .wire import check_both_ways, check_hostile, check_refused, encoded

BOOL = 16


class Answer(Enum):
    YES = True
    NO = False


class bool_:  # noqa: N801
    """A stand-in for numpy.bool_, which headrace must know without importing numpy."""

    __module__ = "numpy"

    def __init__(self, value: bool) -> None:
        self.value = value

    def __bool__(self) -> bool:
        return self.value


@pytest.mark.parametrize(("wire", "value"), [("01", True), ("00", False)])
def test_true_and_false(wire: str, value: bool) -> None:
    check_both_ways(BOOL, wire, value)


def test_any_byte_but_zero_is_true() -> None:
    assert decode(BOOL, b"\xff") is True


def test_members_of_an_enum_of_booleans_are_taken() -> None:
    assert encoded(BOOL, Answer.YES) == "01"
    assert encoded(BOOL, Answer.NO) == "00"


def test_numpy_booleans_are_taken() -> None:
    assert encoded(BOOL, bool_(True)) == "01"
    assert encoded(BOOL, bool_(False)) == "00"


@pytest.mark.parametrize("value", [0, 1, 1.0, "t", "", [], b"\x01"])
def test_nothing_is_judged_by_its_truth(value: object) -> None:
    check_refused(BOOL, value, TypeError, f"a boolean is required (got type {type(value).__name__})")


def test_other_lengths_are_refused() -> None:
    check_hostile(BOOL, "", "0100")
