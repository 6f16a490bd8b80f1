"""The options that every command takes."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from storefront import create_database, hints
from storefront.options import default_data_dir, run_on_server


def test_without_a_catalogue_no_server_is_made(
    fails: Callable[..., None], needs_catalogue: list[str], home: Path
) -> None:
    message = f"there is no catalogue in {default_data_dir()} yet: run `storefront init` first"
    fails(*needs_catalogue, status=1, message=message)
    assert list(home.iterdir()) == []


def suggested(text: str) -> list[str]:
    """Return the arguments of the command line that a message suggests."""
    found = re.search(r"`storefront (.*?)`", text)
    assert found is not None, text
    return shlex.split(found[1])


def test_the_data_do_not_depend_on_the_working_directory(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path
) -> None:
    assert run("init").exit_code == 0
    assert default_data_dir().is_relative_to(home)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "1 brand, 1 product and 1 SKU" in run("load", "--brands", "1", "--products", "1", "--skus", "1").stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere"]


def test_a_catalogue_in_the_working_directory_is_not_ignored_silently(run: Callable[..., Result], home: Path) -> None:
    (Path(".storefront") / "data").mkdir(parents=True)
    refused = run("lookup", "1")
    assert refused.exit_code == 1
    assert "but there is one in .storefront, which --data-dir .storefront uses" in refused.stderr
    (default_data_dir() / "data").mkdir(parents=True)
    assert ".storefront holds another catalogue, which --data-dir .storefront uses" in run("lookup", "1").stderr
    assert ".storefront holds another" not in run("lookup", "1", "--data-dir", ".storefront").stderr


def test_an_ephemeral_server_leaves_nothing(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    during: list[str] = []

    async def work(target: str) -> str | None:
        during.extend(os.listdir(tmp_path))
        return await create_database(target)

    assert run_on_server(None, None, work, ephemeral=True) == "CREATE DATABASE"
    assert len(during) == 1
    assert os.listdir(tmp_path) == os.listdir(home) == []


@pytest.mark.parametrize("where", [[], ["--data-dir", "my catalogue"]])
def test_suggested_command_lines_use_the_same_embedded_server(run: Callable[..., Result], where: list[str]) -> None:
    # The whole sample would take longer than all the rest.
    for expected, smaller in (("init", []), ("load", ["--products", "10", "--skus", "100"])):
        refused = run("bench", "-n", "5", *where)
        assert refused.exit_code == 1, refused.output
        assert suggested(refused.stderr)[0] == expected
        done = run(*suggested(refused.stderr), *smaller)
        assert done.exit_code == 0, done.output
    found = run("lookup", "5", *where)
    assert found.exit_code == 0, found.output


def test_suggested_command_lines_about_partners_work(run: Callable[..., Result], dsn: str) -> None:
    run("partners", "add", "Aurora & Sons", "--dsn", dsn)
    refused = run("partners", "add", "Aurora & Sons", "--dsn", dsn)
    assert run(*suggested(refused.stderr)).stdout == "revoked: the key of Aurora & Sons\n"
    refused = run("partners", "revoke", "Boreal", "--dsn", dsn)
    assert "Aurora & Sons" in run(*suggested(refused.stderr)).stdout


def test_suggested_command_lines_use_the_same_dsn(run: Callable[..., Result], bare: str) -> None:
    refused = run("lookup", "1", "--dsn", bare)
    assert run(*suggested(refused.stderr)).exit_code == 0
    assert run("load", "--dsn", bare).exit_code == 0


def test_a_suggested_command_line_has_no_option_that_the_environment_gives(
    run: Callable[..., Result], bare: str
) -> None:
    assert "run `storefront init` first" in run("lookup", "1", dsn=bare).stderr


def test_a_suggested_command_line_has_no_password(run: Callable[..., Result], bare: str) -> None:
    dsn = f"{bare}&password=secret"
    refused = run("lookup", "1", "--dsn", dsn)
    assert "run `storefront init` with the same --dsn first" in refused.stderr
    assert run(*suggested(refused.stderr), "--dsn", dsn).exit_code == 0


@pytest.mark.parametrize(
    ("argv", "found", "expected"),
    [
        ("/venv/bin/storefront", "/venv/bin/storefront", "storefront"),
        ("/venv/bin/storefront", None, "/venv/bin/storefront"),
        ("/venv/bin/storefront", "/usr/bin/storefront", "/venv/bin/storefront"),
        (".venv/bin/storefront", None, ".venv/bin/storefront"),
        ("/site-packages/storefront/__main__.py", "/usr/bin/python3", "/usr/bin/python3 -m storefront"),
        ("/usr/bin/pytest", None, "storefront"),
        ("", None, "storefront"),
    ],
)
def test_a_suggestion_names_the_program_as_it_was_started(
    monkeypatch: pytest.MonkeyPatch, argv: str, found: str | None, expected: str
) -> None:
    monkeypatch.setattr(sys, "argv", [argv])
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    monkeypatch.setattr("shutil.which", lambda name: found if name == "storefront" else None)
    hints.on_server()
    assert hints.suggest("lookup", "5") == f"`{expected} lookup 5`"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["lookup", "1", "--dsn", "localhost"], "expects a URI such as postgresql://"),
        (["lookup", "1", "--dsn", "postgresql://[::1"], "is not a URI"),
    ],
)
def test_a_bad_dsn_is_refused(fails: Callable[..., None], args: list[str], message: str) -> None:
    fails(*args, status=2, message=message)
