"""The command `headrace ping`."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.__main__ import main
from tests.peers.blackhole import BlackHole
from tests.secure import PASSWORD, Secure
from tests.servers import SUPERUSER, Cluster

Capture = pytest.CaptureFixture[str]


def said(capsys: Capture) -> dict[str, str]:
    """Return what was printed, by the name that each line starts with."""
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = [re.split(r"  +", line, maxsplit=1)[:2] for line in printed.out.splitlines()]
    return dict(lines)


def complaint(capsys: Capture) -> str:
    """Return the one line on stderr."""
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("headrace: ")
    return line


def test_it_says_how_it_connected(server: Cluster, capsys: Capture) -> None:
    assert main(["ping", server.dsn()]) == 0
    report = said(capsys)
    assert report["host"] == f"127.0.0.1:{server.port}"
    assert report["database"] == f"{SUPERUSER}, as {SUPERUSER}"
    assert report["TLS"] == "no"
    assert report["authentication"] == "none: the server trusts the client"
    assert report["channel binding"] == "no"
    assert report["protocol"] == "3.0"
    assert report["server"].startswith(f"PostgreSQL {server.version}")
    assert report["mode"] == "read-write"
    assert re.fullmatch(r"[0-9.]+ ms", report["connected in"])
    assert re.fullmatch(r"[0-9.]+ ms, the fastest of 10", report["round trip"])


def test_a_unix_socket(server: Cluster, capsys: Capture) -> None:
    assert main(["ping", server.dsn(unix=True)]) == 0
    assert said(capsys)["host"] == f"{server.host(unix=True)}/.s.PGSQL.{server.port}"


def test_tls_scram_and_channel_binding(tls: Secure, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    dsn = f"postgresql://scram@localhost:{tls.cluster.port}/postgres?sslrootcert={tls.pki.root}"
    assert main(["ping", f"{dsn}&sslmode=verify-full"]) == 0
    report = said(capsys)
    assert report["host"] == f"localhost:{tls.cluster.port} (127.0.0.1)"
    assert re.fullmatch(r"TLSv1\.3, TLS_\w+", report["TLS"])
    assert report["certificate"] == "verified, and the name in it"
    assert report["authentication"] == "scram-sha-256"
    assert report["channel binding"] == "yes, tls-server-end-point"
    assert main(["ping", f"{dsn}&sslmode=verify-ca&channel_binding=disable"]) == 0
    report = said(capsys)
    assert "not the name" in report["certificate"]
    assert report["channel binding"] == "no"
    assert main(["ping", f"postgresql://scram@127.0.0.1:{tls.cluster.port}/postgres?sslmode=require"]) == 0
    assert said(capsys)["certificate"].startswith("not verified")


def test_everything_may_come_from_the_environment(
    secure: Secure, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOST", "127.0.0.1")
    monkeypatch.setenv("PGPORT", str(secure.cluster.port))
    monkeypatch.setenv("PGUSER", "hashed")
    monkeypatch.setenv("PGDATABASE", "postgres")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    monkeypatch.setenv("PGOPTIONS", "-c default_transaction_read_only=on")
    assert main(["ping"]) == 0
    report = said(capsys)
    assert report["authentication"] == "md5"
    assert report["mode"] == "read-only: default_transaction_read_only is on"


@pytest.mark.parametrize(
    ("user", "options", "reason"),
    [
        ("scram", "password=wrong", 'password authentication failed for user "scram"'),
        ("scram", "passfile=/nonexistent", "asks for a password"),
        ("rejected", "", "rejects connection"),
        ("trusted", "dbname=nowhere", 'database "nowhere" does not exist'),
    ],
)
def test_a_failure_is_one_line_and_status_1(
    secure: Secure, capsys: Capture, user: str, options: str, reason: str
) -> None:
    dsn = f"host=127.0.0.1 port={secure.cluster.port} dbname=postgres sslmode=disable user={user} {options}"
    assert main(["ping", dsn]) == 1
    assert reason in complaint(capsys)


def test_nobody_there(capsys: Capture) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        assert main(["ping", f"postgresql://me@127.0.0.1:{port},127.0.0.1:{port}/"]) == 1
    line = complaint(capsys)
    assert f"no server among 127.0.0.1:{port} (refused)" in line
    assert "Connection refused" in line
    assert "Is a server running there" in line


def test_nobody_who_answers(capsys: Capture) -> None:
    with BlackHole() as hole:
        assert main(["ping", "--timeout", "0.05", f"postgresql://me@{hole.host}:{hole.port}/"]) == 1
    assert "no connection within 0.05 s" in complaint(capsys)


@pytest.mark.parametrize(
    "dsn", ["mysql://me@host/", "host=localhost port=many", "postgresql://me:secret@pa@host/", "hots=localhost"]
)
def test_a_dsn_that_makes_no_sense_is_bad_usage(capsys: Capture, dsn: str) -> None:
    assert main(["ping", dsn]) == 2
    assert "secret" not in complaint(capsys)


@pytest.mark.parametrize(
    "arguments", [[], ["pong"], ["ping", "a=b", "c"], ["ping", "--timeout", "soon"], ["ping", "--timeout", "-1"]]
)
def test_bad_usage(capsys: Capture, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: headrace" in capsys.readouterr().err


def test_a_passfile_that_others_can_read_is_told_of(secure: Secure, capsys: Capture, tmp_path: Path) -> None:
    passfile = tmp_path / "passfile"
    passfile.write_text("*:*:*:*:whatever\n")
    passfile.chmod(0o644)
    dsn = f"host=127.0.0.1 port={secure.cluster.port} dbname=postgres user=trusted passfile={passfile}"
    assert main(["ping", dsn]) == 0
    assert f"headrace: warning: the passfile {str(passfile)!r} is ignored" in capsys.readouterr().err


def test_it_is_a_command(server: Cluster) -> None:
    """Without a traceback, whatever happens."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "headrace", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)

    assert run("--version").stdout.startswith("headrace ")
    good, bad = run("ping", server.dsn()), run("ping", "host=127.0.0.1 port=1 user=me")
    assert (good.returncode, good.stderr) == (0, "")
    assert (bad.returncode, bad.stdout) == (1, "")
    assert len(bad.stderr.splitlines()) == 1
