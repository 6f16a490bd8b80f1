"""GSSAPI with a real key distribution centre: Debian's krb5-kdc and krb5-admin-server, and the package gssapi."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import headrace
from tests.peers.kdc import REALM, Kdc, missing
from tests.servers import Cluster

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=f"not installed: {', '.join(missing())} (krb5-kdc, krb5-admin-server)"),
    pytest.mark.skipif(importlib.util.find_spec("gssapi") is None, reason="not installed: gssapi"),
]


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kdc]:
    """A realm in which postgres@localhost is a service, and alice one of its users."""
    directory = tmp_path_factory.mktemp("kdc")
    with Kdc(directory) as kdc:
        kdc.add("postgres/localhost", directory / "server.keytab")
        kdc.add("shop/localhost", directory / "server.keytab")
        kdc.add("alice", directory / "alice.keytab")
        kdc.add("mallory", directory / "mallory.keytab")
        yield kdc


@pytest.fixture(scope="module")
def kerberized(server: Cluster, realm: Kdc) -> Iterator[Cluster]:
    """A server of the same version as `server` that lets alice in by her ticket alone."""
    ((configured,),) = server.sql("SELECT setting FROM pg_config() WHERE name = 'CONFIGURE'")
    if "--with-gssapi" not in configured:
        pytest.skip(f"{server.name} is built without GSSAPI")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KRB5_CONFIG", _readable(server, realm.directory / "krb5.conf"))
        with Cluster(server.postmaster.installation) as cluster:
            keytab = cluster.directory / "server.keytab"
            shutil.copyfile(realm.directory / "server.keytab", keytab)
            keytab.chmod(0o600)
            owner = cluster.directory.stat()
            os.chown(keytab, owner.st_uid, owner.st_gid)
            cluster.sql("CREATE ROLE alice LOGIN")
            with (
                cluster.settings(krb_server_keyfile=str(keytab)),
                cluster.hba(f"host all alice 127.0.0.1/32 gss include_realm=0 krb_realm={REALM}"),
            ):
                yield cluster


def _readable(server: Cluster, path: Path) -> str:
    """Copy a file to where the server's user can read it."""
    target = server.directory / path.name
    shutil.copyfile(path, target)
    target.chmod(0o644)
    return str(target)


@pytest.fixture
def arguments(kerberized: Cluster, realm: Kdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Connect as alice, who has a keytab in place of a password to get a ticket with."""
    monkeypatch.setenv("KRB5_CONFIG", str(realm.directory / "krb5.conf"))
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path}/tickets")
    monkeypatch.setenv("KRB5_CLIENT_KTNAME", str(realm.directory / "alice.keytab"))
    return {"host": "localhost", "port": kerberized.port, "user": "alice", "database": "postgres", "timeout": 30}


async def test_a_ticket_lets_in(arguments: dict[str, Any]) -> None:
    connection = await headrace.connect(**arguments, require_auth="gss")
    assert await connection.fetchval("SELECT current_user") == "alice"
    assert await connection.fetchval(
        "SELECT principal FROM pg_stat_gssapi WHERE pid = pg_backend_pid() AND gss_authenticated"
    ) == f"alice@{REALM}"  # fmt: skip
    await connection.close()


async def test_the_service_has_a_name(arguments: dict[str, Any]) -> None:
    connection = await headrace.connect(**arguments, krbsrvname="shop")
    await connection.close()
    with pytest.raises(headrace.InterfaceError, match="GSSAPI authentication with nobody@localhost failed"):
        await headrace.connect(**arguments, krbsrvname="nobody")


async def test_somebody_elses_ticket(arguments: dict[str, Any], realm: Kdc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRB5_CLIENT_KTNAME", str(realm.directory / "mallory.keytab"))
    with pytest.raises(headrace.InvalidAuthorizationSpecificationError, match="alice"):
        await headrace.connect(**arguments)


async def test_no_ticket(arguments: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRB5_CLIENT_KTNAME", str(tmp_path / "nothing"))
    with pytest.raises(headrace.InterfaceError, match="klist shows whether there is a ticket"):
        await headrace.connect(**arguments)


async def test_a_method_that_require_auth_forbids(arguments: dict[str, Any]) -> None:
    with pytest.raises(headrace.InterfaceError, match="gss, which require_auth=!gss forbids"):
        await headrace.connect(**arguments, require_auth="!gss")
