"""Connections, pools and what they make are generic in the class of their rows, also at run time."""

from __future__ import annotations

import importlib
import typing
from typing import TYPE_CHECKING, Any, get_args, get_origin

import pytest

import headrace
from headrace.cursor import Cursor, CursorFactory
from headrace.pool import PoolAcquireContext, PoolConnectionProxy
from headrace.prepared_stmt import PreparedStatement

if TYPE_CHECKING:
    from tests.fixtures import Connect, MakePool

GENERIC: list[Any] = [
    headrace.Connection,
    headrace.Pool,
    PoolConnectionProxy,
    PoolAcquireContext,
    PreparedStatement,
    CursorFactory,
    Cursor,
    headrace.CopyReader,
]


class Row(headrace.Record):
    pass


@pytest.mark.parametrize("cls", GENERIC)
def test_an_annotation_may_name_the_class_of_the_rows(cls: Any) -> None:
    assert get_origin(cls[Row]) is cls
    assert get_args(cls[headrace.Record]) == (headrace.Record,)
    assert get_args(cls[Any] | None) == (cls[Any], type(None))
    assert type(cls) is type


def test_annotations_of_a_program_for_asyncpg_stubs_can_be_evaluated() -> None:
    program: Any = importlib.import_module("tests.typing.asyncpg_users")
    hints = typing.get_type_hints(program.Runtime)
    assert hints["pool"] == headrace.Pool[Any]
    assert hints["connection"] == headrace.Connection[headrace.Record] | None
    assert typing.get_type_hints(program.setup)["conn"] == PoolConnectionProxy[headrace.Record]


@pytest.mark.parametrize("base", [headrace.Connection, headrace.Connection[Row]])
async def test_a_subclass_with_and_without_the_class_of_its_rows(connect: Connect, base: Any) -> None:
    class Own(base):  # type: ignore[misc]
        pass

    connection = await connect(connection_class=Own, record_class=Row)
    assert type(connection) is Own
    assert isinstance(connection, headrace.Connection)
    assert type(await connection.fetchrow("SELECT 1")) is Row


async def test_a_proxy_is_the_connection_that_it_stands_for(pool: MakePool) -> None:
    rows = await pool(record_class=Row)
    async with rows.acquire() as connection:
        assert isinstance(connection, headrace.Connection)
        assert type(connection) is PoolConnectionProxy
        assert type(await connection.fetchrow("SELECT 1")) is Row
