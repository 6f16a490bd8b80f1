"""The effects that a text may have on search_path."""

from __future__ import annotations

import pytest

from headrace._sql.search_path import may_reset_search_path, may_set_search_path, may_undo_search_path

SETS = [
    "SET search_path TO one",
    "set local Search_Path = one, two",
    "SET SESSION SCHEMA 'one'",
    "set schema 'one'",
    "SELECT pg_catalog.set_config('search_path', $1, true)",
    "SELECT set_config($1, $2, false)",
    "DO $$BEGIN PERFORM 1; SET search_path = ''; END$$",
    "RESET search_path",
    "ALTER ROLE somebody SET search_path = one",
]
UNDOES = [
    "COMMIT",
    "end",
    "ROLLBACK",
    "rollback to savepoint s",
    "ABORT",
    "SELECT 1; COMMIT",
    "PREPARE TRANSACTION 'x'",
]
RESETS = ["RESET ALL", "discard all", "SELECT pg_advisory_unlock_all(); RESET ALL"]
KEEPS = [
    "SELECT 1",
    "BEGIN",
    "SAVEPOINT s",
    "SELECT CASE WHEN a THEN 1 END FROM t",
    "CREATE SCHEMA one",
    "UPDATE t SET schema_name = 'x'",
    "SELECT 'rollback', reset FROM t",
    "SET work_mem = '1MB'",
]


@pytest.mark.parametrize("text", SETS)
def test_what_may_set_it(text: str) -> None:
    assert may_set_search_path(text)


@pytest.mark.parametrize("text", UNDOES)
def test_what_may_undo_a_change(text: str) -> None:
    assert may_undo_search_path(text)
    assert not may_set_search_path(text)
    assert not may_reset_search_path(text)


@pytest.mark.parametrize("text", RESETS)
def test_what_may_reset_it(text: str) -> None:
    assert may_reset_search_path(text)
    assert not may_set_search_path(text)


@pytest.mark.parametrize("text", KEEPS)
def test_what_keeps_it(text: str) -> None:
    assert not may_set_search_path(text)
    assert not may_undo_search_path(text)
    assert not may_reset_search_path(text)
