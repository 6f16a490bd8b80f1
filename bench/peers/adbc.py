"""ADBC's driver for PostgreSQL: columns alone, and synchronous."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, NoReturn, cast

from adbc_driver_postgresql import dbapi

from bench.peers.peer import PeerConnection, PeerPool, Table, Unsupported

COLUMNS_ALONE = "measured on columns alone"


class AdbcConnection:
    """A connection. It raises Unsupported for everything but COPY of columns."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> NoReturn:
        raise Unsupported(COLUMNS_ALONE)

    async def execute(self, sql: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(sql)

    async def copy_in_columns(self, table: Table, rows: object, columns: Any) -> None:
        with self._connection.cursor() as cursor:
            cursor.adbc_ingest(table.name, columns, mode="append", db_schema_name=table.schema)


class Adbc:
    """The driver."""

    name = "adbc"
    overlapping = False
    only_at_once = False

    def version(self) -> str:
        return version("adbc-driver-postgresql")

    @asynccontextmanager
    async def connection(self, dsn: str) -> AsyncIterator[PeerConnection]:
        connection = dbapi.connect(dsn, autocommit=True)
        try:
            yield cast(PeerConnection, AdbcConnection(connection))
        finally:
            connection.close()

    @asynccontextmanager
    async def pool(self, dsn: str, size: int, *, lazy: bool = False) -> AsyncIterator[PeerPool]:
        raise Unsupported(COLUMNS_ALONE)
        yield

    async def connect_each(self, dsn: str, count: int) -> None:
        raise Unsupported(COLUMNS_ALONE)

    def json(self, document: str) -> object:
        return document

    def range(self, lower: object, upper: object) -> object:
        raise Unsupported(COLUMNS_ALONE)
