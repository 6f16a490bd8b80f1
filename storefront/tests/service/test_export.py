"""GET /v1/export: the catalogue as a stream."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pyarrow.parquet
import pytest
from httpx import AsyncClient

import headrace
from storefront import formats, open_connection
from storefront.service import export
from storefront.service.server import GracefulServer
from storefront.stream import CATALOGUE_SINCE, COLUMNS


@pytest.fixture(params=[7, 1_000, 5_000], ids=lambda size: f"pages of {size}")
def page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The number of SKUs in a page: not a divisor of their number, exactly their number, and more."""
    size: int = request.param
    monkeypatch.setattr(export, "PAGE", size)
    return size


async def catalogue(dsn: str) -> list[dict[str, Any]]:
    async with open_connection(dsn) as connection:
        return [dict(row) for row in await connection.fetch(CATALOGUE_SINCE, 0)]


async def test_every_sku_is_exported_in_order(client: AsyncClient, dsn: str, page: int) -> None:
    *rows, end = [json.loads(line) for line in (await client.get("/v1/export")).text.splitlines()]
    assert rows == await catalogue(dsn)
    assert end == {"outcome": "complete", "skus": 1_000, "last": 1_000}


async def test_an_export_may_be_csv(client: AsyncClient, dsn: str, page: int) -> None:
    answer = await client.get("/v1/export", headers={"Accept": "text/csv"})
    header, *rows, end = csv.reader(io.StringIO(answer.text))
    assert tuple(header) == COLUMNS
    assert rows == [[str(value) for value in row.values()] for row in await catalogue(dsn)]
    assert end == ["complete skus=1000 last=1000", *[""] * 6]


PARQUET = {"Accept": "application/vnd.apache.parquet"}


async def test_an_export_may_be_parquet(client: AsyncClient, dsn: str, page: int) -> None:
    answer = await client.get("/v1/export", headers={**PARQUET, "Accept-Encoding": "gzip"})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, PARQUET["Accept"])
    assert "Content-Encoding" not in answer.headers
    table = pyarrow.parquet.read_table(io.BytesIO(answer.content))
    assert table.to_pylist() == await catalogue(dsn)


async def test_a_parquet_export_of_no_skus_has_the_columns(client: AsyncClient) -> None:
    answer = await client.get("/v1/export?after=1000", headers=PARQUET)
    table = pyarrow.parquet.read_table(io.BytesIO(answer.content))
    assert (table.num_rows, tuple(table.column_names)) == (0, COLUMNS)


async def test_a_parquet_export_that_fails_cannot_be_read(
    serving: GracefulServer, new_partner: Any, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no footer, and the response has no last chunk."""
    monkeypatch.setattr(export, "PAGE", 7)
    monkeypatch.setattr(formats, "ROW_GROUP", 7)
    whole = export.ParquetExport.page

    async def fail(self: export.ParquetExport, *args: Any) -> tuple[int, bytes]:
        if args[1] >= 500:
            raise headrace.InterfaceError("the database has gone")
        return await whole(self, *args)

    monkeypatch.setattr(export.ParquetExport, "page", fail)
    key = (await new_partner()).key
    client = await raw(serving)
    await client.send(
        f"GET /v1/export HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Accept: {PARQUET['Accept']}\r\n\r\n".encode()
    )
    received = await client.rest()
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.count(b"PAR1") == 1
    assert not received.endswith(b"0\r\n\r\n")


async def test_parquet_is_not_offered_without_its_library(client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    answer = await client.get("/v1/export", headers=PARQUET)
    assert answer.status_code == 406
    assert answer.json()["detail"] == "the answer can be application/x-ndjson or text/csv"


async def test_an_export_continues_after_a_sku(client: AsyncClient, page: int) -> None:
    *rows, end = [json.loads(line) for line in (await client.get("/v1/export?after=990")).text.splitlines()]
    assert [row["sku_id"] for row in rows] == list(range(991, 1_001))
    assert end == {"outcome": "complete", "skus": 10, "last": 1_000}
    after_all = (await client.get("/v1/export?after=1000")).text
    assert json.loads(after_all) == {"outcome": "complete", "skus": 0, "last": 1_000}


async def test_gaps_between_ids_lose_nothing(client: AsyncClient, dsn: str, page: int) -> None:
    async with open_connection(dsn) as connection:
        await connection.execute("DELETE FROM sku WHERE sku_id BETWEEN 3 AND 900")
        await connection.execute("INSERT INTO sku VALUES (2147483647, 1, 1, 1)")
    *rows, end = [json.loads(line) for line in (await client.get("/v1/export")).text.splitlines()]
    assert rows == await catalogue(dsn)
    assert end["last"] == 2147483647


async def test_a_client_that_goes_away_frees_its_connection_at_once(
    serving: GracefulServer, new_partner: Any, raw: Any, locked: headrace.Connection, until: Any
) -> None:
    key = (await new_partner()).key
    pool = serving.service.pool
    client = await raw(serving)
    await client.send(f"GET /v1/export HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
    await until(lambda: locked.fetchval("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"))
    client.abort()
    await until(lambda: locked.fetchval("SELECT count(*) = 0 FROM pg_locks WHERE NOT granted"))
    await until(lambda: len(serving.service.running_batches) == 0)
    await until(lambda: pool.stats().idle == pool.stats().size)
