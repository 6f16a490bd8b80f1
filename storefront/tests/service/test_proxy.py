"""Forwarded headers, which anybody can send, are believed from a named proxy alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI, Request

from storefront.service import server
from storefront.service.application import create_application
from storefront.service.settings import ServiceSettings


@pytest.fixture(autouse=True)
def with_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    """The application has one more address, which answers with the client's address and the scheme of the request."""

    def create(settings: ServiceSettings) -> FastAPI:
        application = create_application(settings)

        @application.get("/echo")
        async def echo(request: Request) -> list[str]:
            return [request.client.host if request.client else "", request.url.scheme]

        return application

    monkeypatch.setattr(server, "create_application", create)


@pytest.mark.parametrize(
    ("proxies", "expected"),
    [
        ((), b'["127.0.0.1","http"]'),
        (("192.0.2.0/24",), b'["127.0.0.1","http"]'),
        (("127.0.0.1",), b'["198.51.100.7","https"]'),
        # The client has sent an address as well; the proxy's is the last.
        (("127.0.0.0/8",), b'["198.51.100.7","https"]'),
    ],
)
async def test_forwarded_headers_are_believed_from_a_named_proxy_alone(
    changed: Callable[..., ServiceSettings], open_server: Any, raw: Any, proxies: tuple[str, ...], expected: bytes
) -> None:
    async with open_server(changed(proxies=proxies)) as serving:
        client = await raw(serving)
        await client.send(
            b"GET /echo HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 203.0.113.1, 198.51.100.7\r\n"
            b"X-Forwarded-Proto: https\r\nConnection: close\r\n\r\n"
        )
        assert (await client.rest()).endswith(expected)
