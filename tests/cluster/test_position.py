"""Positions in the write-ahead log: order, text, and positions of other clusters."""

from __future__ import annotations

import pickle

import pytest

from headrace.cluster.position import Position, checked_position, written_up_to
from headrace.exceptions import ForeignPositionError

SYSTEM = 7311552035842560000


def test_text() -> None:
    position = Position(SYSTEM, 2, 0x1_016B_3748)
    assert str(position) == "7311552035842560000-2-1/16B3748"
    assert Position.parse(str(position)) == position
    assert checked_position(str(position)) == position
    assert checked_position(position) is position
    assert pickle.loads(pickle.dumps(position)) == position


def test_order() -> None:
    first, second, third = Position(SYSTEM, 1, 500), Position(SYSTEM, 1, 501), Position(SYSTEM, 2, 100)
    assert sorted([third, second, first]) == [first, second, third]
    assert max(first, third) is third
    assert first <= first
    assert len({first, Position(SYSTEM, 1, 500)}) == 1


def test_positions_of_two_clusters_have_no_order() -> None:
    with pytest.raises(ForeignPositionError, match="its system identifier is 8, and that of this one is 7"):
        assert Position(7, 1, 1) < Position(8, 1, 1)
    assert Position(7, 1, 1) != Position(8, 1, 1)


@pytest.mark.parametrize("text", ["", "0/16B3748", "1-2-3", "1-2-0/1 ", "x-1-0/1", "1-1-0/123456789", "٣-1-0/1"])
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a position is expected to be a text such as"):
        Position.parse(text)


def test_anything_else_is_refused() -> None:
    with pytest.raises(TypeError, match="position is expected to be a Position or its text, got 16"):
        checked_position(16)


@pytest.mark.parametrize(
    ("inserted", "written"),
    [
        (0x3000028, 0x3000000),
        (0x3000018, 0x3000018),
        (0x3002018, 0x3002000),
        (0x3002028, 0x3002028),
        (0x3100028, 0x3100028),
        (0x3000030, 0x3000030),
        (0x3001FF8, 0x3001FF8),
    ],
)
def test_a_position_at_the_beginning_of_a_page_is_in_front_of_its_header(inserted: int, written: int) -> None:
    assert written_up_to(inserted, 8192, 2**24) == written
