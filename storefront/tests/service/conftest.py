"""The service for tests: in this process without a socket, or as a program on a port of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, TypeAlias

import httpx
import pytest
from fastapi import FastAPI

from storefront import open_connection
from storefront.partners import NewPartner, add_partner
from storefront.service.application import create_application
from storefront.service.settings import ServiceSettings
from storefront.service_schema import create_service_tables

Client: TypeAlias = httpx.AsyncClient


@asynccontextmanager
async def client_of(application: FastAPI, key: str | None = None) -> AsyncIterator[Client]:
    """Open a client of an application in this process. `key` is sent with each request."""
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with Client(transport=transport, base_url="http://localhost", headers=headers) as client:
        yield client


@pytest.fixture
def settings(dsn: str) -> ServiceSettings:
    """The settings of a service on the small catalogue."""
    return ServiceSettings(dsn, pool_size=4, cookie_secret="a secret of the tests", workers=0)


@pytest.fixture
async def application(settings: ServiceSettings) -> AsyncIterator[FastAPI]:
    """The application on the small catalogue, open."""
    application = create_application(settings)
    async with application.router.lifespan_context(application):
        yield application


@pytest.fixture
def open_client(application: FastAPI) -> Callable[..., AbstractAsyncContextManager[Client]]:
    """A function that opens a client of the application: `async with open_client(key) as client`."""
    return lambda key=None: client_of(application, key)


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
