"""Taking the first items of an asynchronous iterable."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from storefront import open_connection, take


async def count_to(limit: int, given: list[int]) -> AsyncIterator[int]:
    """Yield 1, 2, 3 ... and append each number to `given`."""
    for number in range(1, limit + 1):
        given.append(number)
        yield number


@pytest.mark.parametrize(("n", "taken"), [(0, []), (2, [1, 2]), (5, [1, 2, 3, 4, 5]), (9, [1, 2, 3, 4, 5])])
async def test_take_yields_the_first(n: int, taken: list[int]) -> None:
    given: list[int] = []
    assert [item async for item in take(n, count_to(5, given))] == taken
    assert given == taken


async def test_the_remaining_items_can_be_read_after_take() -> None:
    numbers = count_to(5, [])
    assert [item async for item in take(2, numbers)] == [1, 2]
    assert [item async for item in numbers] == [3, 4, 5]


async def test_take_of_a_negative_number_is_an_error() -> None:
    with pytest.raises(ValueError, match="n must be 0 or more, got -1"):
        await anext(take(-1, count_to(5, [])))


async def test_take_works_on_a_cursor(dsn: str) -> None:
    async with open_connection(dsn) as connection, connection.transaction():
        cursor = connection.cursor("SELECT generate_series(1, 1000)", prefetch=10)
        assert [row[0] async for row in take(3, cursor)] == [1, 2, 3]
