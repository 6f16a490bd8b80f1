"""The passfile: which line's password is taken, and which files are not read at all (fault 19)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace._connect.params.passfile import find_password
from headrace._connect.params.resolve import resolve
from headrace.exceptions import InterfaceWarning

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a passfile and return its path."""

    def write(*lines: str | bytes, mode: int = 0o600) -> str:
        path = tmp_path / "passfile"
        path.write_bytes(b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines))
        path.chmod(mode)
        return str(path)

    return write


def found(path: str, *hosts: str, port: int = 5432, database: str = "db", user: str = "me") -> str | None:
    """Return the password for a server, as text."""
    password = find_password(path, hosts or ("host",), port, database, user)
    return None if password is None else password.reveal()


@pytest.mark.parametrize(
    ("line", "password"),
    [
        ("host:5432:db:me:secret", "secret"),
        ("*:*:*:*:secret", "secret"),
        ("host:*:db:*:secret", "secret"),
        ("Host:5432:db:me:secret", None),
        ("other:5432:db:me:secret", None),
        ("host:5433:db:me:secret", None),
        ("host:5432:dbs:me:secret", None),
        ("host:5432:d:me:secret", None),
        ("host:5432:db:you:secret", None),
        ("h*:5432:db:me:secret", None),
        ("host:5432:db:me", None),
        ("host:5432:db:me:", None),
        ("#host:5432:db:me:secret", None),
        ("", None),
        ("host:5432:db:me:se\\:cr\\\\et", "se:cr\\et"),
        ("host:5432:db:me:secret:more", "secret"),
        ("host:5432:db:me:secret ", "secret "),
        ("host:5432:db:me:secret\r", "secret"),
        ("host:5432:db:me:\\s", "s"),
        ("host:5432:db:me:end\\", "end\\"),
    ],
)
def test_a_line_is_for_the_server_it_names(write: Write, line: str, password: str | None) -> None:
    assert found(write(line)) == password


def test_the_first_line_that_matches_counts(write: Write) -> None:
    path = write("host:5432:other:me:one", "host:*:*:me:two", "host:5432:db:me:three")
    assert found(path) == "two"


def test_fields_may_hold_escaped_colons(write: Write) -> None:
    path = write("\\:\\:1:5432:a\\:b:c\\\\d:secret")
    assert found(path, "::1", database="a:b", user="c\\d") == "secret"


def test_an_ipv6_address_needs_no_escapes(write: Write) -> None:
    path = write("::1:5432:db:me:secret")
    assert found(path, "::1") == "secret"
    assert found(path, "") is None


def test_a_password_may_be_no_utf_8(write: Write) -> None:
    path = write(b"host:5432:db:me:\xff\xe9")
    password = find_password(path, ("host",), 5432, "db", "me")
    assert password is not None
    assert password.to_bytes() == b"\xff\xe9"


def test_a_file_without_a_newline_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "passfile"
    path.write_text("host:5432:db:me:secret")
    path.chmod(0o400)
    assert found(str(path)) == "secret"


# ---- which file, for which server


async def test_a_server_is_looked_up_by_the_name_the_user_gave(write: Write) -> None:
    path = write("10.0.0.1:*:*:*:by address", "name:*:*:*:by name")
    params = resolve("host=name hostaddr=10.0.0.1", passfile=path, environ={})
    password = await params.password_for(params.addresses[0])
    assert password is not None
    assert password.reveal() == "by name"


async def test_each_server_has_its_own_password(write: Write) -> None:
    path = write("a:1:*:*:one", "b:2:*:*:two")
    params = resolve("postgres://me@a:1,b:2,c:3/db", passfile=path, environ={})
    passwords = [await params.password_for(address) for address in params.addresses]
    assert [password and password.reveal() for password in passwords] == ["one", "two", None]


@pytest.mark.parametrize("name", ["localhost", "/run/postgresql"])
async def test_a_unix_socket_goes_by_its_directory_and_by_localhost(write: Write, name: str) -> None:
    path = write(f"{name}:*:*:*:secret")
    params = resolve("host=/run/postgresql", passfile=path, environ={})
    password = await params.password_for(params.addresses[0])
    assert password is not None
    assert password.reveal() == "secret"


async def test_a_password_that_is_given_goes_before_the_passfile(write: Write) -> None:
    params = resolve("host=h password=given", passfile=write("*:*:*:*:from file"), environ={})
    password = await params.password_for(params.addresses[0])
    assert password is not None
    assert password.reveal() == "given"


async def test_the_file_is_read_again_for_each_connection(write: Write) -> None:
    params = resolve("host=h", passfile=write("*:*:*:*:old"), environ={})
    address = params.addresses[0]
    assert (await params.password_for(address)) is not None
    write("*:*:*:*:new")
    password = await params.password_for(address)
    assert password is not None
    assert password.reveal() == "new"


@pytest.mark.parametrize("how", ["keyword", "DSN", "variable", "home"])
def test_the_file_is_named_or_in_the_home_directory(how: str) -> None:
    environ = {"HOME": "/home/me"}
    if how == "keyword":
        assert resolve("passfile=/b", passfile=Path("/a"), environ={**environ, "PGPASSFILE": "/c"}).passfile == "/a"
    elif how == "DSN":
        assert resolve("passfile=/b", environ={**environ, "PGPASSFILE": "/c"}).passfile == "/b"
    elif how == "variable":
        assert resolve("", environ={**environ, "PGPASSFILE": "/c"}).passfile == "/c"
    else:
        assert resolve("", environ=environ).passfile == "/home/me/.pgpass"


# ---- files that are not to be trusted


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o604, 0o601])
def test_a_file_that_others_can_use_is_ignored_with_a_warning(write: Write, mode: int) -> None:
    path = write("*:*:*:*:secret", mode=mode)
    with pytest.warns(InterfaceWarning, match=f"mode {mode:04o}") as caught:
        assert found(path) is None
    assert "chmod 600" in str(caught[0].message)
    assert "secret" not in str(caught[0].message)


@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_what_is_no_plain_file_is_ignored_with_a_warning(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "passfile"
    if kind == "directory":
        path.mkdir(mode=0o700)
    else:
        os.mkfifo(path, mode=0o600)
    with pytest.warns(InterfaceWarning, match="not a plain file|Is a directory"):
        assert found(str(path)) is None


def test_a_file_that_does_not_exist_says_nothing(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found(str(tmp_path / "none")) is None
        assert found(str(tmp_path / "none" / "none")) is None
