"""Fault 13: a certificate of server or client that is not to be trusted. At require and above nothing goes in clear."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

import headrace
from tests.peers.proxy import Proxy
from tests.secure import PASSWORD, Secure

pytestmark = pytest.mark.fault(number=13)

VERIFYING = ["verify-ca", "verify-full"]


@pytest.fixture
async def recorded(tls: Secure) -> AsyncIterator[Proxy]:
    """A proxy in front of the server that keeps what passes, and finds no startup message in it."""
    async with Proxy(tls.cluster.host(), tls.cluster.port, record=True) as proxy:
        yield proxy
        assert proxy.links
        for link in proxy.links:
            assert b"user\0" not in link.recorded("server")
            assert PASSWORD.encode() not in link.recorded("server")


@pytest.fixture
def via(tls: Secure, recorded: Proxy) -> dict[str, Any]:
    """Connect arguments that lead through the proxy."""
    return {**tls.to("scram"), "port": recorded.port, "sslrootcert": tls.pki.root, "timeout": 10}


async def test_the_wrong_host(tls: Secure, via: dict[str, Any]) -> None:
    with tls.presenting(tls.pki.wrong_host), pytest.raises(ssl.SSLCertVerificationError, match="(?i)mismatch"):
        await headrace.connect(**via, ssl="verify-full")


@pytest.mark.parametrize("mode", [*VERIFYING, "require"])
async def test_an_expired_certificate(tls: Secure, via: dict[str, Any], mode: str) -> None:
    """Also at require: as in libpq, authorities that are named are used."""
    with tls.presenting(tls.pki.expired), pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        await headrace.connect(**via, ssl=mode)


@pytest.mark.parametrize("mode", VERIFYING)
async def test_a_revoked_certificate(tls: Secure, via: dict[str, Any], mode: str) -> None:
    with tls.presenting(tls.pki.revoked):
        with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
            await headrace.connect(**via, ssl=mode, sslcrl=tls.pki.crl)


@pytest.mark.parametrize("mode", VERIFYING)
async def test_an_authority_that_is_not_trusted(tls: Secure, via: dict[str, Any], mode: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await headrace.connect(**{**via, "sslrootcert": tls.pki.ed25519_root}, ssl=mode)


async def test_the_authorities_of_the_system_do_not_vouch_for_it_either(via: dict[str, Any]) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await headrace.connect(**{**via, "sslrootcert": "system"}, ssl="verify-full")
    with pytest.raises(ssl.SSLCertVerificationError):
        await headrace.connect(**{**via, "sslrootcert": None}, ssl=True)


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca"])
async def test_the_authorities_of_the_system_need_the_name_verified(mode: str) -> None:
    with pytest.raises(headrace.ClientConfigurationError, match="sslrootcert=system needs sslmode=verify-full"):
        await headrace.connect("postgresql://127.0.0.1:1/?sslrootcert=system", ssl=mode)


@pytest.mark.parametrize("which", ["client_expired", "client_revoked"])
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
async def test_a_client_whose_certificate_is_not_to_be_trusted(tls: Secure, which: str, version: str) -> None:
    """In TLS 1.3 the server says so when the handshake is over for the client; a reset may overtake what it says."""
    issued = getattr(tls.pki, which)
    with pytest.raises((ssl.SSLError, headrace.ConnectionDoesNotExistError), match="(?i)certificate"):
        await headrace.connect(
            **tls.to("certified", password=None),
            ssl="verify-full",
            ssl_max_protocol_version=version,
            sslrootcert=tls.pki.root,
            sslcert=issued.certificate,
            sslkey=issued.key,
            timeout=10,
        )
