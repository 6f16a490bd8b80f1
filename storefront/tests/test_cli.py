"""The program as a whole: help, exit status, and errors as one line on stderr."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable

import pytest
from typer.testing import Result

from storefront import UsageError, __version__, cli
from storefront.database import with_database


def test_the_version(run: Callable[..., Result]) -> None:
    assert run("--version").stdout.startswith(f"storefront {__version__}, headrace ")


def test_every_command_has_help(run: Callable[..., Result]) -> None:
    listed = run("--help").stdout
    for command in ("init", "load", "lookup", "batch", "export", "bench", "demo", "brands"):
        assert f" {command} " in listed
        assert run(command, "--help").exit_code == 0


def test_a_missing_server_is_reported_without_the_password(
    run: Callable[..., Result], fails: Callable[..., None], needs_catalogue: list[str]
) -> None:
    dsn = "postgresql://someone:secret@127.0.0.1:1/products"
    fails(*needs_catalogue, status=1, message="", dsn=dsn)
    assert "secret" not in run(*needs_catalogue, dsn=dsn).stderr


def test_a_missing_database_says_what_to_do(fails: Callable[..., None], needs_catalogue: list[str], bare: str) -> None:
    fails(*needs_catalogue, status=1, message="does not exist: run `storefront init` first", dsn=bare)


def test_a_missing_schema_says_what_to_do(
    fails: Callable[..., None], needs_catalogue: list[str], postgres: str
) -> None:
    template = with_database(postgres, "template1")
    fails(*needs_catalogue, status=1, message="run `storefront init` first", dsn=template)


def test_the_text_of_an_error_becomes_one_line() -> None:
    assert cli.explain(UsageError("two\nlines")) == ("two lines", 2)


def test_an_unexpected_error_is_raised_again() -> None:
    with pytest.raises(ZeroDivisionError):
        cli.explain(ZeroDivisionError())


def test_an_interrupt_is_one_line_and_rolls_back(program: Callable[..., subprocess.Popen[str]], empty: str) -> None:
    process = program("load", "--skus", "50000000", "--verbose", dsn=empty)
    assert process.stderr is not None
    assert "load starts" in process.stderr.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.splitlines()[-1] == "storefront: interrupted"
    retried = program("load", "--skus", "10", dsn=empty)
    assert "loaded 100 brands, 1,000 products and 10 SKUs" in retried.communicate(timeout=60)[0]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["lookup", "1", "--nonsense"], "No such option"),
        (["nonsense"], "No such command 'nonsense'"),
    ],
)
def test_an_unknown_name_is_refused(fails: Callable[..., None], args: list[str], message: str) -> None:
    fails(*args, status=2, message=message)
