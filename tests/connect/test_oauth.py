"""OAUTHBEARER with a real server: PostgreSQL 18, and a validator module of the tests' own, compiled for it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import headrace
from tests.servers import Cluster

SOURCE = Path(__file__).resolve().parents[1] / "peers" / "oauth_validator.c"

GOOD = "good-alice"
"""The token that the module takes from alice."""


@pytest.fixture(scope="module")
def issuing(server: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A server of the same version as `server` that lets alice in by a bearer token alone."""
    if server.version < 18:
        pytest.skip(f"{server.name} knows no OAuth")
    headers = server.postmaster.installation.bin.parent / "include" / "postgresql" / "server"
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or not (headers / "libpq" / "oauth.h").exists():
        pytest.skip(f"a validator module takes a C compiler and the headers of {server.name}")
    module = tmp_path_factory.mktemp("oauth") / "oauth_validator.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-I", headers, "-o", module, SOURCE], check=True)
    with Cluster(server.postmaster.installation) as cluster:
        library = str(shutil.copy(module, cluster.directory))
        os.chmod(library, 0o755)
        cluster.sql("CREATE ROLE alice LOGIN")
        method = 'oauth issuer="https://issuer.example" scope="openid"'
        with (
            cluster.settings(oauth_validator_libraries=library),
            cluster.hba(f"host all alice 127.0.0.1/32 {method}", f"local all alice {method}"),
        ):
            yield cluster


@asynccontextmanager
async def alice(cluster: Cluster, *, unix: bool = True, **kwargs: Any) -> AsyncIterator[headrace.Connection]:
    """Connect as alice for the length of a block."""
    where = {"host": cluster.host(unix=unix), "port": cluster.port, "user": "alice", "database": "postgres"}
    connection = await headrace.connect(**{"timeout": 30, **where, **kwargs})
    try:
        yield connection
    finally:
        await connection.close()


async def test_a_token_lets_in(issuing: Cluster) -> None:
    async with alice(issuing, oauth_token=GOOD, require_auth="oauth") as connection:
        assert await connection.fetchval("SELECT current_user") == "alice"
        assert await connection.fetchval("SELECT system_user") == "oauth:alice"


async def test_a_callable_is_asked_for_each_connection(issuing: Cluster) -> None:
    asked = []

    async def token() -> str:
        asked.append(True)
        return GOOD

    for _ in range(2):
        async with alice(issuing, oauth_token=token) as connection:
            assert await connection.fetchval("SELECT system_user") == "oauth:alice"
    assert len(asked) == 2


async def test_what_goes_with_the_token_may_be_said(issuing: Cluster) -> None:
    """The options of libpq's own flow, in a DSN: they do nothing, but a program that has them need not drop them."""
    dsn = "oauth_issuer=https://issuer.example oauth_client_id=shop oauth_scope=openid"
    async with alice(issuing, dsn=dsn, oauth_token=GOOD) as connection:
        assert await connection.fetchval("SELECT current_user") == "alice"


async def test_a_token_of_somebody_else(issuing: Cluster) -> None:
    with pytest.raises(headrace.InvalidAuthorizationSpecificationError, match="alice") as caught:
        async with alice(issuing, oauth_token="good-mallory"):
            pass
    assert "mallory" not in f"{caught.value!r} {caught.value}"


async def test_a_token_is_not_sent_where_others_can_read_it(issuing: Cluster) -> None:
    with pytest.raises(headrace.InterfaceError, match="allow_cleartext_password"):
        async with alice(issuing, unix=False, oauth_token=GOOD):
            pass
    async with alice(issuing, unix=False, oauth_token=GOOD, allow_cleartext_password=True) as connection:
        assert await connection.fetchval("SELECT system_user") == "oauth:alice"


async def test_no_token(issuing: Cluster) -> None:
    with pytest.raises(headrace.ClientConfigurationError, match="oauth_token="):
        async with alice(issuing):
            pass
