"""`fetchval(type=...)`: a value of the class that the program expects, or an error that says what the query returns."""

from __future__ import annotations

import asyncio
import datetime
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NewType, Protocol, TypedDict, Union
from uuid import UUID

import pytest

import headrace
from headrace.rows.values import checked_value, value_class

if TYPE_CHECKING:
    from tests.fixtures import Connect, MakePool

Fetchval = Callable[..., Awaitable[Any]]

UserId = NewType("UserId", int)
AdminId = NewType("AdminId", UserId)


class Colour(StrEnum):
    RED = "red"


class Size(TypedDict):
    width: int


class HasClose(Protocol):
    def close(self) -> None: ...


@pytest.fixture(params=["connection", "pool", "lease"])
async def fetchval(request: pytest.FixtureRequest, connect: Connect, pool: MakePool) -> AsyncIterator[Fetchval]:
    """Yield `fetchval()` of a connection, of a pool, and of a connection that a pool gave out."""
    if request.param == "connection":
        yield (await connect()).fetchval
        return
    opened = await pool(min_size=1, max_size=2)
    if request.param == "pool":
        yield opened.fetchval
        return
    async with opened.acquire() as leased:
        yield leased.fetchval


@pytest.mark.parametrize(
    ("cls", "query", "value"),
    [
        (int, "SELECT 5", 5),
        (str, "SELECT 'five'", "five"),
        (float, "SELECT 0.5::float8", 0.5),
        (Decimal, "SELECT 0.5", Decimal("0.5")),
        (bool, "SELECT true", True),
        (bytes, "SELECT '\\x05'::bytea", b"\x05"),
        (datetime.date, "SELECT '2026-11-29'::date", datetime.date(2026, 11, 29)),
        (UUID, "SELECT '00000000-0000-0000-0000-000000000005'::uuid", UUID(int=5)),
        (list, "SELECT '{1,2}'::int[]", [1, 2]),
        (list[int], "SELECT '{1,2}'::int[]", [1, 2]),
        (headrace.Range[int], "SELECT '[1,5)'::int4range", headrace.Range(1, 5)),
        (UserId, "SELECT 5", 5),
        (object, "SELECT 5", 5),
    ],
)
@pytest.mark.any_server
async def test_a_value_of_the_class(conn: headrace.Connection, cls: Any, query: str, value: object) -> None:
    assert await conn.fetchval(query, type=cls) == value


async def test_connections_pools_and_leases_check_the_class(fetchval: Fetchval) -> None:
    assert await fetchval("SELECT $1::int", 5, type=int) == 5
    assert await fetchval("SELECT 1, 'two'", column=1, type=str) == "two"
    with pytest.raises(headrace.InterfaceError) as caught:
        await fetchval("SELECT '5'", type=int)
    assert caught.value.args == ("the value is expected to be of type int, got str '5'",)
    assert caught.value.hint == "Cast the column to bigint in the query, or pass type=str."
    # Both ways of the hint.
    assert await fetchval("SELECT '5'::bigint", type=int) == 5
    assert await fetchval("SELECT '5'", type=str) == "5"


async def test_a_prepared_statement_checks_the_class(conn: headrace.Connection) -> None:
    statement = await conn.prepare("SELECT $1::int, $2::text")
    assert await statement.fetchval(5, "x", type=int) == 5
    assert await statement.fetchval(5, "x", column="text", type=str) == "x"
    with pytest.raises(headrace.InterfaceError, match=re.escape("expected to be of type str, got int 5")):
        await statement.fetchval(5, "x", type=str)
    assert await statement.fetchval(None, "x", type=int) is None


async def test_null_and_no_row_are_none(fetchval: Fetchval) -> None:
    assert await fetchval("SELECT NULL::int", type=int) is None
    assert await fetchval("SELECT 1 WHERE false", type=int) is None


async def test_a_lease_for_the_call_checks_the_class(pool: MakePool) -> None:
    opened = await pool(min_size=1, max_size=1)
    setting = "SELECT set_config('work_mem', '5MB', false)"
    assert await opened.fetchval(setting, type=str) == "5MB"
    with pytest.raises(headrace.InterfaceError, match="expected to be of type int, got str '5MB'"):
        await opened.fetchval(setting, type=int)
    assert await opened.fetchval("SELECT current_setting('work_mem')", type=str) != "5MB"


async def test_a_value_of_another_class_fails_that_call_alone(conn: headrace.Connection) -> None:
    first, second, third = await asyncio.gather(
        conn.fetchval("SELECT 1", type=int),
        conn.fetchval("SELECT 2", type=str),
        conn.fetchval("SELECT 3", type=int),
        return_exceptions=True,
    )
    assert (first, third) == (1, 3)
    assert isinstance(second, headrace.InterfaceError)


async def test_a_class_that_cannot_be_checked_is_refused_before_the_query_runs(fetchval: Fetchval) -> None:
    await fetchval("SELECT 1")
    for wrong in (5, "int", int | str):
        with pytest.raises(headrace.InterfaceError, match="type is expected to be a class, such as int or list"):
            await fetchval("SELECT 1 / 0", type=wrong)


@pytest.mark.parametrize(
    "given",
    [5, "int", int | str, Union["int", str], Annotated[int, "id"], Any, HasClose, None],
)
def test_what_is_not_a_class_to_check(given: object) -> None:
    with pytest.raises(headrace.InterfaceError, match=re.escape(f"got {given!r:.100}")):
        value_class(given)


@pytest.mark.parametrize(
    ("given", "cls"), [(dict[str, int], dict), (Size, dict), (UserId, int), (AdminId, int), (Colour, Colour)]
)
def test_the_class_whose_instances_are_expected(given: object, cls: type) -> None:
    assert value_class(given) is cls


def test_the_hint_names_the_class_of_the_value() -> None:
    with pytest.raises(headrace.InterfaceError, match="expected to be of type Colour, got str 'red'") as caught:
        checked_value("red", Colour)
    assert caught.value.hint == "Pass type=str."
    with pytest.raises(headrace.InterfaceError) as caught:
        checked_value("x" * 1000, int)
    assert len(str(caught.value.args[0])) < 200
