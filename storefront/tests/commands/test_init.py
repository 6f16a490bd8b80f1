"""`storefront init`."""

from __future__ import annotations

import json
from collections.abc import Callable

from typer.testing import Result


def test_init_prints_each_statements_status(run: Callable[..., Result], bare: str) -> None:
    first, second = run("init", "--dsn", bare), run("init", "--dsn", bare)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.stdout.splitlines()[:2] == ["CREATE DATABASE", "CREATE TABLE     CREATE TABLE brand"]
    assert first.stdout.count("INSERT 0 1 ") == second.stdout.count("INSERT 0 0 ") == 5
    assert "CREATE DATABASE" not in second.stdout


def test_init_prints_one_json_document_or_nothing(run: Callable[..., Result], bare: str) -> None:
    document = json.loads(run("init", "--json", dsn=bare).stdout)
    assert document["database_created"] is True
    assert document["statements"][0] == {"statement": "CREATE TABLE brand", "status": "CREATE TABLE"}
    assert json.loads(run("init", "--json", dsn=bare).stdout)["database_created"] is False
    assert run("init", "--quiet", dsn=bare).output == ""
