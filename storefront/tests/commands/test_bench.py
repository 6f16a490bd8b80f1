"""`storefront bench`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from storefront.benchmark import Way


def test_bench_shows_tables_and_writes_the_figures(run: Callable[..., Result], dsn: str, tmp_path: Path) -> None:
    result = run("bench", "-n", "50", "--rounds", "1", "--pool-sizes", "1,2", "--no-index", "--json", "f.json", dsn=dsn)
    assert result.exit_code == 0
    assert result.stdout.count("50 look-ups of") == 3
    measured = json.loads((tmp_path / "f.json").read_text())["measurements"]
    assert len(measured) == 3 * (2 + 2 * 6)
    assert {row["indexed"] for row in measured if row["query"] == "key"} == {True}


def test_bench_prints_one_json_document_on_standard_output(run: Callable[..., Result], dsn: str) -> None:
    args = ("bench", "-n", "5", "--rounds", "1", "--query", "key", "--json", "-")
    result = run(*args, dsn=dsn)
    assert len(json.loads(result.stdout)["measurements"]) == len(Way)
    assert "5 look-ups of" in result.stderr
    assert run(*args, "--quiet", dsn=dsn).stderr == ""


def test_peers_are_measured_beside_headrace(run: Callable[..., Result], dsn: str, tmp_path: Path) -> None:
    for module in ("asyncpg", "psycopg", "psycopg_pool", "matplotlib"):
        pytest.importorskip(module)
    args = "bench -n 20 --rounds 1 --query key --pool-sizes 2 --peers --json f.json --picture f.svg".split()
    result = run(*args, dsn=dsn)
    assert result.exit_code == 0
    assert result.stderr == ""
    document = json.loads((tmp_path / "f.json").read_text())
    assert list(document["drivers"]) == ["headrace", "asyncpg", "psycopg"]
    drivers = [row["driver"] for row in document["measurements"]]
    assert drivers == ["headrace"] * len(Way) + ["asyncpg"] * 5 + ["psycopg"] * 3
    facts = f"{document['date']}, {document['machine']['processor']}, {document['machine']['processors']} processor"
    assert "raises InterfaceError" in result.stdout
    assert facts in result.stdout
    assert facts in (tmp_path / "f.svg").read_text()


def test_a_peer_that_is_not_installed_is_named_with_its_pip_command(
    run: Callable[..., Result], dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("asyncpg", "psycopg"):
        monkeypatch.setitem(sys.modules, module, None)
    result = run(*"bench -n 5 --rounds 1 --query key --pool-sizes 1 --quiet --peers --json -".split(), dsn=dsn)
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "storefront: asyncpg is left out, because it is not installed: pip install asyncpg",
        "storefront: psycopg is left out, because it is not installed: pip install 'psycopg[binary,pool]'",
    ]
    assert list(json.loads(result.stdout)["drivers"]) == ["headrace"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["bench", "--pool-sizes", "1,x"], "'1,x': expected whole numbers and commas"),
        (["bench", "--pool-sizes", "0"], "pool sizes must be whole numbers of at least 1"),
        (["bench", "--json", "missing/figures.json"], "its directory does not exist"),
        (["bench", "--json", "."], "cannot write .: it is a directory"),
        (["bench", "--picture", "figures.bmp"], "cannot write figures.bmp: expected a name that ends in .png, .svg"),
    ],
)
def test_bad_usage_is_refused(fails: Callable[..., None], args: list[str], message: str) -> None:
    fails(*args, status=2, message=message)
