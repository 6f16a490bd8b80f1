"""Fault 19: passfiles and keys that others can read, or that are no files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import headrace
from tests.secure import PASSWORD, Secure

pytestmark = pytest.mark.fault(number=19)

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, secure: Secure) -> Write:
    """Write a passfile with a line for the role `scram`, under a name with a colon in it, and a mode."""

    def write(mode: int = 0o600) -> Path:
        path = tmp_path / "pass:file"
        password = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
        path.write_text(
            "# servers\n"
            f"{secure.cluster.host()}:{secure.cluster.port}:an\\:other:scram:wrong\n"
            f"{secure.cluster.host()}:{secure.cluster.port}:postgres:scram:{password}\n"
        )
        path.chmod(mode)
        return path

    return write


async def test_a_passfile_of_ones_own_is_read(secure: Secure, write: Write) -> None:
    connection = await headrace.connect(**secure.to("scram", password=None), passfile=write())
    await connection.close()


async def test_colons_are_escaped_in_it(secure: Secure, tmp_path: Path) -> None:
    secure.cluster.sql("CREATE ROLE colons LOGIN PASSWORD 'with:colons\\and\\:'")
    path = tmp_path / "passfile"
    path.write_text("*:*:*:colons:with\\:colons\\\\and\\\\\\:\n")
    path.chmod(0o600)
    try:
        with secure.cluster.hba(f"host all colons {secure.cluster.host()}/32 scram-sha-256"):
            connection = await headrace.connect(**secure.to("colons", password=None), passfile=path)
            await connection.close()
    finally:
        secure.cluster.sql("DROP ROLE colons")


@pytest.mark.parametrize("mode", [0o640, 0o644, 0o604, 0o622])
async def test_one_that_others_can_use_is_ignored_with_a_warning(secure: Secure, write: Write, mode: int) -> None:
    with pytest.warns(headrace.InterfaceWarning, match=f"mode {mode:04o}") as warned:
        with pytest.raises(headrace.ClientConfigurationError, match="none is given"):
            await headrace.connect(**secure.to("scram", password=None), passfile=write(mode), ssl="disable")
    assert PASSWORD not in "".join(str(each.message) for each in warned)


@pytest.mark.parametrize("kind", ["directory", "pipe"])
async def test_what_is_no_plain_file_is_ignored_with_a_warning(secure: Secure, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "passfile"
    if kind == "pipe":
        os.mkfifo(path, 0o600)
    else:
        path.mkdir(0o700)
    with pytest.warns(headrace.InterfaceWarning, match="plain file"):
        with pytest.raises(headrace.ClientConfigurationError, match="none is given"):
            await headrace.connect(**secure.to("scram", password=None), passfile=path, ssl="disable")


async def test_a_key_that_others_can_use_is_refused_before_anything_is_sent(tls: Secure, tmp_path: Path) -> None:
    issued = tls.pki.client
    key = tmp_path / "client.key"
    key.write_bytes(issued.key.read_bytes())
    arguments = {
        **tls.to("certified", password=None),
        "ssl": "verify-full",
        "sslrootcert": tls.pki.root,
        "sslcert": issued.certificate,
        "sslkey": key,
    }
    key.chmod(0o644)
    with pytest.raises(headrace.ClientConfigurationError, match="mode 0644"):
        await headrace.connect(**arguments)
    key.chmod(0o600)
    connection = await headrace.connect(**arguments)
    assert await connection.fetchval("SELECT current_user") == "certified"
    await connection.close()
