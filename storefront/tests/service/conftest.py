"""The service for tests: in this process without a socket, or as a program on a port of its own."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, TypeAlias

import httpx
import pytest
from fastapi import FastAPI

import headrace
from storefront import open_connection
from storefront.partners import NewPartner, add_partner
from storefront.service.application import create_application
from storefront.service.server import GracefulServer, serve
from storefront.service.settings import ServiceSettings
from storefront.service_schema import create_service_tables
from tools.html_page import check_page

Client: TypeAlias = httpx.AsyncClient


@asynccontextmanager
async def client_of(application: FastAPI, key: str | None = None) -> AsyncIterator[Client]:
    """Open a client of an application in this process. `key` is sent with each request."""
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with Client(transport=transport, base_url="http://localhost", headers=headers) as client:
        yield client


@asynccontextmanager
async def browser_of(application: FastAPI) -> AsyncIterator[Client]:
    """Open a client that sends what a browser sends, and keeps cookies. It does not follow redirects by itself."""
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    headers = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Sec-Fetch-Site": "same-origin"}
    async with Client(transport=transport, base_url="http://localhost", headers=headers) as browser:
        yield browser


async def sign_in(browser: Client, key: str) -> None:
    """Sign a partner in by the form, as a browser does."""
    form = check_page((await browser.get("/login")).text)
    answer = await browser.post("/login", data={"key": key, "token": form.field("token")})
    assert answer.status_code == 303, answer.text


@pytest.fixture
def open_browser(application: FastAPI) -> Callable[[], AbstractAsyncContextManager[Client]]:
    """A function that opens a browser with no cookies."""
    return lambda: browser_of(application)


@pytest.fixture
async def browser(application: FastAPI) -> AsyncIterator[Client]:
    """A browser that has not signed in."""
    async with browser_of(application) as browser:
        yield browser


@pytest.fixture
async def signed_in(application: FastAPI, new_partner: Callable[..., Any]) -> AsyncIterator[Callable[..., Any]]:
    """A function that adds a partner and opens a browser in which it has signed in: `await signed_in("Aurora")`."""
    async with AsyncExitStack() as stack:

        async def open_signed_in(name: str = "Aurora", **limits: int) -> Client:
            browser = await stack.enter_async_context(browser_of(application))
            await sign_in(browser, (await new_partner(name, **limits)).key)
            return browser

        yield open_signed_in


@pytest.fixture
async def partner_browser(signed_in: Callable[..., Any]) -> Client:
    """A browser in which the partner Aurora has signed in."""
    browser: Client = await signed_in()
    return browser


@pytest.fixture
def settings(dsn: str) -> ServiceSettings:
    """The settings of a service on the small catalogue. No time limit ends what another cause is to end."""
    return ServiceSettings(
        dsn,
        pool_size=4,
        cookie_secret="a secret of the tests",
        workers=0,
        query_timeout=3_600.0,
        send_timeout=3_600.0,
        header_timeout=3_600.0,
        body_timeout=3_600.0,
    )


@pytest.fixture
async def application(settings: ServiceSettings) -> AsyncIterator[FastAPI]:
    """The application on the small catalogue, open."""
    application = create_application(settings)
    async with application.router.lifespan_context(application):
        yield application


@pytest.fixture
def open_client(application: FastAPI) -> Callable[..., AbstractAsyncContextManager[Client]]:
    """A function that opens a client of the application: `async with open_client(key) as client`."""
    return lambda key=None, another=None: client_of(another or application, key)


@pytest.fixture
def new_partner(dsn: str) -> Callable[..., Any]:
    """A function that adds a partner: `await new_partner("Aurora", batch_ids=5)`."""

    async def add(name: str = "Aurora", **limits: int) -> NewPartner:
        async with open_connection(dsn) as connection:
            await create_service_tables(connection)
            return await add_partner(connection, name, **limits)

    return add


@pytest.fixture
async def client(application: FastAPI, new_partner: Callable[..., Any]) -> AsyncIterator[Client]:
    """A client with the key of a partner called Aurora."""
    new = await new_partner()
    async with client_of(application, new.key) as client:
        yield client


@pytest.fixture
def changed(settings: ServiceSettings) -> Callable[..., ServiceSettings]:
    """A function that returns the settings with some changes."""
    return lambda **changes: replace(settings, **changes)


@asynccontextmanager
async def served(settings: ServiceSettings) -> AsyncIterator[GracefulServer]:
    """Serve on a real socket, in this process. The address is `server.address`."""
    started: asyncio.Future[GracefulServer] = asyncio.get_running_loop().create_future()

    def ready(address: str, server: GracefulServer) -> None:
        server.address = address  # type: ignore[attr-defined]
        started.set_result(server)

    serving = asyncio.create_task(serve(replace(settings, port=0), ready))
    await asyncio.wait([serving, started], return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        await serving
    server = await started
    try:
        yield server
    finally:
        server.end()
        server.end()
        await serving


@pytest.fixture
async def serving(settings: ServiceSettings) -> AsyncIterator[GracefulServer]:
    """The service on a real socket."""
    async with served(settings) as server:
        yield server


@pytest.fixture
def open_server() -> Callable[[ServiceSettings], AbstractAsyncContextManager[GracefulServer]]:
    """A function that serves with other settings: `async with open_server(changed(grace=0)) as server`."""
    return served


class RawClient:
    """A client on a real socket, which reads when the test says so."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def rest(self) -> bytes:
        """Return what comes until the server closes or resets the connection."""
        received = bytearray()
        with suppress(ConnectionError):
            while data := await self.reader.read(2**16):
                received += data
        return bytes(received)

    def abort(self) -> None:
        """Go away."""
        self.writer.transport.abort()


@pytest.fixture
async def raw() -> AsyncIterator[Callable[..., Any]]:
    """A function that opens a raw client: `await raw(server)`. The kernel has a `small_buffer` for it, or its own."""
    opened: list[RawClient] = []

    async def open_raw(server: GracefulServer, *, small_buffer: bool = False) -> RawClient:
        host, port = server.address.removeprefix("http://").rsplit(":", 1)  # type: ignore[attr-defined]
        connected = socket.socket()
        if small_buffer:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connected.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connected, (host, int(port)))
        reader, writer = await asyncio.open_connection(sock=connected, limit=4_096)
        opened.append(RawClient(reader, writer))
        return opened[-1]

    yield open_raw
    for client in opened:
        client.abort()
    await asyncio.sleep(0)


def batch_request(key: str, body: bytes, *headers: str) -> bytes:
    """Return the HTTP request for a batch of plain ids. The connection is closed after the answer."""
    head = [
        "POST /v1/batches HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {key}",
        "Content-Type: text/plain",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


@pytest.fixture
def request_for() -> Callable[..., bytes]:
    """A function that returns the bytes of a request: `request_for(key, b"1\\n2\\n")`."""
    return batch_request


@pytest.fixture
async def locked(dsn: str) -> AsyncIterator[headrace.Connection]:
    """A connection that has locked the table sku, so that every look-up waits. Its transaction can be rolled back."""
    async with open_connection(dsn) as connection:
        await connection.execute("BEGIN; LOCK TABLE sku IN ACCESS EXCLUSIVE MODE")
        yield connection


@pytest.fixture
def until() -> Callable[..., Any]:
    """A function that waits until a condition, or what it returns when awaited, is true."""

    async def until(condition: Callable[[], Any]) -> None:
        while True:
            found = condition()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(0.01)

    return until
