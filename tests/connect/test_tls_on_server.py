"""TLS on real servers: what each sslmode does, certificates of both sides, cancelling, and direct negotiation."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from tests.peers import backend
from tests.peers.frontend import Query
from tests.peers.proxy import Proxy
from tests.peers.tls import server_context
from tests.secure import Secure

if TYPE_CHECKING:
    from tests.fixtures import Fake
    from tests.peers.fakeserver import Peer
    from tests.secure import Pki

IS_ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@asynccontextmanager
async def connected(**kwargs: Any) -> AsyncIterator[headrace.Connection]:
    """Connect for the length of a block."""
    connection = await headrace.connect(**{"timeout": 20, **kwargs})
    try:
        yield connection
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("mode", "encrypted"),
    [("disable", False), ("allow", False), ("prefer", True), ("require", True)],
)
async def test_what_each_mode_comes_to(tls: Secure, mode: str, encrypted: bool) -> None:
    async with connected(**tls.to("scram"), ssl=mode) as connection:
        assert await connection.fetchval(IS_ENCRYPTED) is encrypted


async def test_the_default_is_prefer(tls: Secure) -> None:
    async with connected(**tls.to("scram")) as connection:
        assert await connection.fetchval(IS_ENCRYPTED) is True


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_the_right_server_is_verified(tls: Secure, mode: str, host: str) -> None:
    where = {**tls.to("scram"), "host": host}
    async with connected(**where, ssl=mode, sslrootcert=tls.pki.root, sslcrl=tls.pki.crl) as connection:
        assert await connection.fetchval(IS_ENCRYPTED) is True


async def test_the_name_is_verified_and_the_address_connected_to(tls: Secure) -> None:
    where = {**tls.to("scram"), "host": "elsewhere.example", "hostaddr": "127.0.0.1", "sslrootcert": tls.pki.root}
    with tls.presenting(tls.pki.wrong_host):
        async with connected(**where, ssl="verify-full") as connection:
            assert await connection.fetchval(IS_ENCRYPTED) is True
    with pytest.raises(ssl.SSLCertVerificationError):
        await headrace.connect(**where, ssl="verify-full")


async def test_a_context_of_ones_own(tls: Secure) -> None:
    context = ssl.create_default_context(cafile=tls.pki.root)
    async with connected(**tls.to("scram"), ssl=context) as connection:
        assert await connection.fetchval(IS_ENCRYPTED) is True
    with pytest.raises(ssl.SSLCertVerificationError):
        await headrace.connect(**tls.to("scram"), ssl=ssl.create_default_context())


@pytest.mark.parametrize(
    ("role", "mode", "encrypted"),
    [
        ("over_tls", "allow", True),
        ("over_tls", "prefer", True),
        ("without_tls", "allow", False),
        ("without_tls", "prefer", False),
    ],
)
async def test_the_other_way_is_tried_where_pg_hba_refuses_the_first(
    tls: Secure, role: str, mode: str, encrypted: bool
) -> None:
    async with connected(**tls.to(role), ssl=mode) as connection:
        assert await connection.fetchval(IS_ENCRYPTED) is encrypted


async def test_no_other_way_is_tried_where_the_mode_leaves_none(tls: Secure) -> None:
    with pytest.raises(headrace.InvalidAuthorizationSpecificationError):
        await headrace.connect(**tls.to("over_tls"), ssl="disable")
    with pytest.raises(headrace.InvalidAuthorizationSpecificationError):
        await headrace.connect(**tls.to("without_tls"), ssl="require")


@pytest.mark.parametrize(("role", "mode"), [("over_tls", "prefer"), ("over_tls", "allow"), ("without_tls", "prefer")])
async def test_of_two_refusals_the_one_that_got_further_is_raised(tls: Secure, role: str, mode: str) -> None:
    """A wrong password says more than a line that pg_hba.conf does not have; a note tells of the other attempt."""
    with pytest.raises(headrace.InvalidPasswordError) as caught:
        await headrace.connect(**tls.to(role, password="wrong"), ssl=mode)
    assert "the other attempt failed with InvalidAuthorizationSpecificationError" in caught.value.__notes__[0]


async def test_a_database_that_does_not_exist_is_not_looked_for_twice(tls: Secure) -> None:
    """Once the server has let the user in, TLS makes no difference."""
    async with Proxy(tls.cluster.host(), tls.cluster.port) as proxy:
        with pytest.raises(headrace.InvalidCatalogNameError):
            await headrace.connect(**{**tls.to("scram"), "port": proxy.port, "database": "nowhere"}, ssl="prefer")
        assert len(proxy.links) == 1


async def test_a_server_without_tls(secure: Secure) -> None:
    if secure.has_tls:
        pytest.skip("this server speaks TLS")
    for mode in ("disable", "allow", "prefer"):
        async with connected(**secure.to("scram"), ssl=mode) as connection:
            assert await connection.fetchval("SELECT current_user") == "scram"
    with pytest.raises(ConnectionError, match="does not support TLS, which sslmode=require requires"):
        await headrace.connect(**secure.to("scram"), ssl="require")


# Certificates of clients


async def test_a_certificate_in_place_of_a_password(tls: Secure) -> None:
    issued = tls.pki.client
    files: dict[str, Any] = {"sslrootcert": tls.pki.root, "sslcert": issued.certificate, "sslkey": issued.key}
    async with connected(**tls.to("certified", password=None), ssl="verify-full", **files) as connection:
        assert await connection.fetchval("SELECT current_user") == "certified"
        assert await connection.fetchval("SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == (
            "/CN=certified"
        )
    with pytest.raises(headrace.InvalidAuthorizationSpecificationError):
        await headrace.connect(**tls.to("certified", password=None), ssl="require", sslrootcert=tls.pki.root)


async def test_a_certificate_that_must_be_sent(tls: Secure) -> None:
    issued = tls.pki.client
    files: dict[str, Any] = {"sslrootcert": tls.pki.root, "sslcert": issued.certificate, "sslkey": issued.key}
    async with connected(**tls.to("certified", password=None), ssl="verify-full", **files, sslcertmode="require"):
        pass
    with tls.cluster.settings(ssl_ca_file="", ssl_crl_file=""):
        # A server without authorities of its own asks nobody for a certificate.
        with pytest.raises(headrace.InterfaceError, match="did not ask for the client's certificate"):
            await headrace.connect(**tls.to("scram"), ssl="verify-full", **files, sslcertmode="require")


# TLS versions


async def test_versions(tls: Secure) -> None:
    version = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    async with connected(**tls.to("scram"), ssl="require") as connection:
        assert await connection.fetchval(version) == "TLSv1.3"
    async with connected(**tls.to("scram"), ssl="require", ssl_max_protocol_version="TLSv1.2") as connection:
        assert await connection.fetchval(version) == "TLSv1.2"


# Traffic


async def test_much_goes_both_ways_at_once(tls: Secure) -> None:
    async with connected(**tls.to("scram"), ssl="require") as connection:
        texts = ["x" * 300_000 + str(i) for i in range(20)]
        assert await asyncio.gather(*(connection.fetchval("SELECT $1::text", each) for each in texts)) == texts


# Cancelling


async def test_a_tls_connection_is_cancelled_over_tls(tls: Secure) -> None:
    async with Proxy(tls.cluster.host(), tls.cluster.port, record=True) as proxy:
        where = {**tls.to("scram"), "port": proxy.port}
        async with connected(**where, ssl="verify-full", sslrootcert=tls.pki.root) as connection:
            with pytest.raises(TimeoutError):
                await connection.execute("SELECT pg_sleep(600)", timeout=0.1)
            assert await connection.fetchval("SELECT 1") == 1
        assert len(proxy.links) == 2
        key = connection._driver.session.cancellation.key
        assert key is not None
        secret = key[1]
        assert secret
        for link in proxy.links:
            assert secret not in link.recorded("server")
            assert secret not in link.recorded("client")


async def test_a_connection_that_went_on_without_tls_is_cancelled_without(fake: Fake) -> None:
    async def session(peer: Peer) -> None:
        await peer.expect_ssl_request(b"N")
        await peer.greet()
        await peer.expect(Query)
        running.set()
        await cancelled.wait()
        await peer.send(backend.error_response("cancelled", code="57014"), backend.ready_for_query())
        await peer.expect_end()

    async def cancellation(peer: Peer) -> None:
        await peer.expect_cancel_request()
        assert peer.received.startswith(b"\0\0\0\x10"), "at once, without an SSLRequest"
        cancelled.set()

    running, cancelled = asyncio.Event(), asyncio.Event()
    server = await fake(session, cancellation)
    async with connected(dsn=server.dsn(), ssl="prefer") as connection:
        query = asyncio.create_task(connection.execute("SELECT pg_sleep(600)"))
        await running.wait()
        query.cancel()
        with pytest.raises(asyncio.CancelledError):
            await query
        await cancelled.wait()


# sslnegotiation=direct: PostgreSQL 17 and newer


async def test_direct_tls_with_a_real_server(direct_tls: Secure) -> None:
    """The handshake is the first thing sent, and all that was said about certificates and SCRAM holds as well."""
    async with Proxy(direct_tls.cluster.host(), direct_tls.cluster.port, record=True) as proxy:
        where = {**direct_tls.to("scram"), "port": proxy.port, "sslrootcert": direct_tls.pki.root}
        async with connected(
            **where, ssl="verify-full", sslnegotiation="direct", channel_binding="require"
        ) as connection:
            assert await connection.fetchval(IS_ENCRYPTED) is True
            with pytest.raises(TimeoutError):
                await connection.execute("SELECT pg_sleep(600)", timeout=0.1)
            assert await connection.fetchval("SELECT 1") == 1
        assert len(proxy.links) == 2
        for link in proxy.links:
            assert link.recorded("server").startswith(b"\x16\x03"), "a TLS record of the handshake, no SSLRequest"


async def test_asyncpgs_word_for_it(direct_tls: Secure) -> None:
    async with connected(**direct_tls.to("scram"), ssl="require", direct_tls=True) as connection:
        assert await connection.fetchval(IS_ENCRYPTED) is True


async def test_direct_tls_verifies_certificates(direct_tls: Secure) -> None:
    where: dict[str, Any] = {**direct_tls.to("scram"), "sslnegotiation": "direct", "sslrootcert": direct_tls.pki.root}
    with direct_tls.presenting(direct_tls.pki.wrong_host), pytest.raises(ssl.SSLCertVerificationError):
        await headrace.connect(**where, ssl="verify-full")


async def test_direct_tls_with_a_certificate_in_place_of_a_password(direct_tls: Secure) -> None:
    issued = direct_tls.pki.client
    files: dict[str, Any] = {"sslrootcert": direct_tls.pki.root, "sslcert": issued.certificate, "sslkey": issued.key}
    where = direct_tls.to("certified", password=None)
    async with connected(**where, ssl="verify-full", sslnegotiation="direct", **files) as connection:
        assert await connection.fetchval("SELECT current_user") == "certified"


async def test_direct_tls_starts_with_the_handshake_and_selects_postgresql(fake: Fake, pki: Pki) -> None:
    context = server_context(pki.server, alpn="postgresql")

    async def session(peer: Peer) -> None:
        await peer.start_tls(context)
        await peer.greet()
        await peer.expect(Query)
        running.set()
        await cancelled.wait()
        await peer.send(backend.error_response("cancelled", code="57014"), backend.ready_for_query())
        await peer.expect_end()

    async def cancellation(peer: Peer) -> None:
        await peer.start_tls(context)
        await peer.expect_cancel_request()
        cancelled.set()

    running, cancelled = asyncio.Event(), asyncio.Event()
    server = await fake(session, cancellation)
    async with connected(
        dsn=server.dsn(), ssl="verify-full", sslrootcert=pki.root, sslnegotiation="direct"
    ) as connection:
        query = asyncio.create_task(connection.execute("SELECT pg_sleep(600)"))
        await running.wait()
        query.cancel()
        with pytest.raises(asyncio.CancelledError):
            await query
        await cancelled.wait()


async def test_direct_tls_needs_a_server_that_selects_postgresql(fake: Fake, pki: Pki) -> None:
    async def session(peer: Peer) -> None:
        with suppress(ConnectionError):
            await peer.start_tls(server_context(pki.server))
            await peer.hold()

    server = await fake(session)
    with pytest.raises(headrace.ProtocolError, match="did not select the protocol by ALPN"):
        await headrace.connect(server.dsn(), ssl="require", sslnegotiation="direct", timeout=10)
    assert server.peers[0].received == b""


async def test_direct_tls_with_a_server_that_does_not_know_it(tls: Secure) -> None:
    if tls.cluster.version >= 17:
        pytest.skip("this server knows it")
    with pytest.raises(OSError):
        await headrace.connect(**tls.to("scram"), ssl="require", sslnegotiation="direct", timeout=10)
