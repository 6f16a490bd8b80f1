"""Fault 18: a NUL in a field of the startup message would end it early and smuggle another field in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import headrace
from headrace._connect.params.resolve import ConnectArguments

if TYPE_CHECKING:
    from tests.fixtures import Fake

pytestmark = pytest.mark.fault(number=18)

TEXTS = sorted(
    name
    for name in ConnectArguments.__annotations__
    if name not in ("server_settings", "ssl", "direct_tls", "port", "replication")
)


@pytest.mark.parametrize("name", TEXTS)
async def test_in_any_keyword_argument(fake: Fake, name: str) -> None:
    server = await fake()
    arguments: dict[str, Any] = {"host": server.host, "port": server.port, "user": "me", name: "a\0b"}
    if name == "dbname":
        arguments.pop("database", None)
    with pytest.raises(headrace.ClientConfigurationError, match="NUL"):
        await headrace.connect(**arguments)
    assert server.peers == []


@pytest.mark.parametrize(
    "settings",
    [
        {"application_name": "shop\0user\0postgres"},
        {"application_name\0user": "postgres"},
        {"": "x"},
        {"user": "postgres"},
    ],
)
async def test_in_server_settings(fake: Fake, settings: dict[str, str]) -> None:
    server = await fake()
    with pytest.raises(headrace.ClientConfigurationError):
        await headrace.connect(server.dsn(), server_settings=settings)
    assert server.peers == []


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://me@{}:{}/shop\0user",
        "postgresql://me@{}:{}/shop%00user",
        "postgresql://me%00you@{}:{}/",
        "postgresql://me@{}:{}/?options=-cgeqo%3Doff%00",
        "host={} port={} dbname='shop\0user'",
    ],
)
async def test_in_a_dsn(fake: Fake, dsn: str) -> None:
    server = await fake()
    with pytest.raises(headrace.ClientConfigurationError, match="NUL"):
        await headrace.connect(dsn.format(server.host, server.port))
    assert server.peers == []


async def test_in_what_a_callable_returns(fake: Fake) -> None:
    """The connection is there by then, but nothing has been sent on it."""
    server = await fake(every=lambda peer: peer.hold())
    with pytest.raises(headrace.ClientConfigurationError, match="NUL"):
        await headrace.connect(server.dsn(), ssl="disable", password=lambda: "a\0b")
    assert all(peer.received == b"" for peer in server.peers)
