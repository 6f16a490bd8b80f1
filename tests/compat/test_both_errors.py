"""Exceptions: made by the server, by a program, by hand; with both drivers."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import headrace
from headrace.exceptions import _base
from tests.compat.test_both_drivers import Run, check_both, without_place
from tests.servers import Cluster

NAMES = sorted(name for name in dir(asyncpg.exceptions) if not name.startswith("_"))
BOTH = pytest.mark.parametrize("driver", [asyncpg, headrace], ids=["asyncpg", "headrace"])
FIELDS = {"S": "ERROR", "V": "ERROR", "C": "23505", "M": "dup", "D": "det", "H": "hint", "n": "con", "t": "tab"}


@pytest.mark.parametrize("name", NAMES)
def test_every_class_is_there_and_caught_by_the_same(name: str) -> None:
    theirs, ours = getattr(asyncpg.exceptions, name), getattr(headrace.exceptions, name)
    assert getattr(ours, "sqlstate", None) == getattr(theirs, "sqlstate", None)
    assert {each.__name__ for each in theirs.__mro__} <= {each.__name__ for each in ours.__mro__}


@BOTH
def test_made_from_the_fields_of_a_message(driver: Any) -> None:
    error = driver.PostgresError.new(FIELDS, query="INSERT")
    assert type(error) is driver.UniqueViolationError
    assert (error.sqlstate, error.detail, error.constraint_name, error.table_name) == ("23505", "det", "con", "tab")
    assert (error.schema_name, error.query, error.args) == (None, "INSERT", ("dup",))
    assert str(error) == "dup\nDETAIL:  det\nHINT:  hint"
    assert error.as_dict()["constraint_name"] == "con"
    assert pickle.loads(pickle.dumps(error)).as_dict() == copy.copy(error).as_dict() == error.as_dict()
    for code in ({"C": "99999", "M": "q"}, {"M": "q"}, {}):
        assert type(driver.PostgresError.new(code)) is driver.exceptions.UnknownPostgresError
    stale = {"C": "0A000", "M": "cached plan must not change result type", "R": "RevalidateCachedQuery"}
    assert type(driver.PostgresError.new(stale)) is driver.InvalidCachedStatementError


@BOTH
def test_log_messages_made_from_the_fields_of_a_message(driver: Any) -> None:
    notice = driver.PostgresLogMessage.new({"C": "00000", "M": "x", "S": "NOTICE"})
    assert type(notice) is driver.PostgresLogMessage
    assert (str(notice), notice.message, notice.severity) == ("PostgresLogMessage: x", "x", "NOTICE")
    assert notice.as_dict() == {"severity": "NOTICE", "sqlstate": "00000", "message": "x"}
    warning = driver.PostgresLogMessage.new({"C": "01004", "M": "x", "S": "WARNING"})
    assert type(warning) is driver.exceptions.StringDataRightTruncation
    assert isinstance(warning, Warning)
    with pytest.raises(TypeError, match="immutable"):
        notice.message = "y"


@BOTH
def test_made_by_hand(driver: Any) -> None:
    error = driver.InterfaceError("x", detail="d", hint="h")
    assert (error.args, error.detail, error.hint) == (("x",), "d", "h")
    assert str(error) == "x\nDETAIL:  d\nHINT:  h"
    other = error.with_msg("y")
    assert (type(other), str(other)) == (driver.InterfaceError, "y\nDETAIL:  d\nHINT:  h")
    assert pickle.loads(pickle.dumps(error)).detail == "d"
    assert str(driver.InterfaceWarning("x", hint="h")) == "x\nHINT:  h"
    assert str(driver.PostgresError("a", "b")) == "a"
    assert driver.UniqueViolationError("x").detail is None
    outdated = driver.exceptions.OutdatedSchemaCacheError("x", schema="s", data_type="d", position=5)
    assert (outdated.schema_name, outdated.data_type_name, outdated.position) == ("s", "d", 5)


@BOTH
async def test_a_class_of_the_programs_own_for_a_sqlstate_of_its_own(driver: Any, server: Cluster) -> None:
    # Another one for each server: asyncpg has no way to forget a class.
    code = f"ZA{'AH'[driver is headrace]}{server.version}"

    class OutOfStockError(driver.PostgresError):  # type: ignore[misc]
        sqlstate = code

    try:
        assert driver.PostgresError.get_message_class_for_sqlstate(code) is OutOfStockError
        assert driver.PostgresError.get_message_class_for_sqlstate("23505") is driver.UniqueViolationError
        with pytest.raises(TypeError, match="duplicate SQLSTATE"):
            type("Twice", (driver.PostgresError,), {"sqlstate": "23505"})
        connection = await driver.connect(server.dsn())
        try:
            with pytest.raises(OutOfStockError) as caught:
                await connection.execute(f"DO $$ BEGIN RAISE 'none left' USING ERRCODE = '{code}', HINT = 'h'; END $$")
            assert (caught.value.message, caught.value.hint, caught.value.sqlstate) == ("none left", "h", code)
        finally:
            await connection.close()
    finally:
        _base.BY_SQLSTATE.pop(code, None)


def test_a_class_that_cannot_be_made_of_a_message_does_not_lose_the_message() -> None:
    class StubbornError(headrace.PostgresError):
        sqlstate = "ZA003"

        def __init__(self) -> None:
            raise RuntimeError

    try:
        error = headrace.PostgresError.new({"C": "ZA003", "M": "said"})
        assert (str(error), error.sqlstate) == ("said", "ZA003")
    finally:
        _base.BY_SQLSTATE.pop("ZA003", None)


async def raised(run: Run) -> None:
    """What the server raises, field by field."""
    using = "DETAIL='d', HINT='h', COLUMN='c', CONSTRAINT='q', TABLE='t', SCHEMA='s', DATATYPE='dt'"
    queries = [
        "SELECT zz FROM pg_class",
        "SELECT 1/0",
        f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE='ZZ999', {using}; END $$",
        f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE='23001', {using}; END $$",
        "DO $$ BEGIN RAISE EXCEPTION ''; END $$",
    ]
    for query in queries:
        with pytest.raises(run.driver.PostgresError) as caught:
            await run.connection.fetch(query)
        error = caught.value
        run.note(type(error).__name__, error.as_dict(), error.args, without_place(str(error)), repr(error), error.query)
        run.note(pickle.loads(pickle.dumps(error)).as_dict(), error.position, error.internal_query)


async def test_errors_of_the_server(server: Cluster, tmp_path: Path) -> None:
    await check_both(raised, server, tmp_path)
