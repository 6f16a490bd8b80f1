"""POST /v1/batches: the answer to a batch."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response

from storefront import open_connection
from storefront.checkpoint import Tally
from storefront.service.batches import CsvAnswer

PLAIN = {"Content-Type": "text/plain"}

BY_SQL = """\
SELECT p.product_id, p.product_name, p.brand_id, s.sku_id, c.product_color_name, z.product_size_name
FROM unnest($1::int[]) WITH ORDINALITY AS asked (product_id, number)
JOIN product AS p USING (product_id)
JOIN sku AS s USING (product_id)
JOIN product_color AS c USING (product_color_id)
JOIN product_size AS z USING (product_size_id)
ORDER BY asked.number, s.sku_id"""


def objects(answer: Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


async def send(client: AsyncClient, ids: str | bytes, **headers: str) -> Response:
    return await client.post("/v1/batches", content=ids, headers={**PLAIN, **headers})


async def test_every_sku_is_sent_in_the_partners_order(client: AsyncClient, dsn: str) -> None:
    ids = [(number * 17) % 50 + 1 for number in range(50)]
    *rows, end = objects(await send(client, "\n".join(map(str, ids))))
    async with open_connection(dsn) as connection:
        expected = [dict(row) for row in await connection.fetch(BY_SQL, ids)]
    assert rows == expected
    assert end == {
        "outcome": "complete",
        "lines": 50,
        "products": 50,
        "skus": 1_000,
        "without_skus": 0,
        "unknown": 0,
        "malformed": 0,
        "repeated": 0,
    }


async def test_an_id_without_rows_has_an_object_in_its_place(client: AsyncClient, dsn: str) -> None:
    async with open_connection(dsn) as connection:
        await connection.execute("DELETE FROM sku WHERE product_id = 2")
    *answers, end = objects(await send(client, "999\n1\nabc\n1\n2147483648\n2\n9223372036854775808\n"))
    assert [each for each in answers if "outcome" in each] == [
        {"outcome": "unknown", "line": 1, "product_id": 999},
        {"outcome": "malformed", "line": 3, "text": "abc"},
        {"outcome": "repeated", "line": 4, "product_id": 1},
        {"outcome": "unknown", "line": 5, "product_id": 2147483648},
        {"outcome": "without_skus", "line": 6, "product_id": 2},
        {"outcome": "malformed", "line": 7, "text": "9223372036854775808"},
    ]
    assert [each.get("product_id") for each in answers[:2]] == [999, 1]
    assert {name: end[name] for name in ("lines", "unknown", "malformed", "repeated", "without_skus", "products")} == {
        "lines": 7,
        "unknown": 2,
        "malformed": 2,
        "repeated": 1,
        "without_skus": 1,
        "products": 2,
    }


async def test_csv_has_the_outcomes_in_a_column_of_their_own(client: AsyncClient) -> None:
    answer = await send(client, "1\n999\nabc\n", Accept="text/csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    header, *rows = csv.reader(io.StringIO(answer.text))
    assert header[0] == "product_id"
    assert header[-1] == "outcome"
    assert {len(row) for row in rows} == {7}
    *skus, unknown, malformed, end = rows
    assert {(row[0], row[6]) for row in skus} == {("1", "")}
    assert (unknown[0], unknown[6]) == ("999", "unknown line=2")
    assert (malformed[0], malformed[6]) == ("abc", "malformed line=3")
    assert end[6] == (f"complete lines=3 products=1 skus={len(skus)} without_skus=0 unknown=1 malformed=1 repeated=0")


def test_csv_keeps_an_end_of_line_in_a_name() -> None:
    encoder = CsvAnswer()
    row = [1, 'two\nlines, "quoted"', 3, 4, "Blue", "Small"]
    text = (encoder.header() + encoder.product([row]) + encoder.end(Tally(), None)).decode()
    assert list(csv.reader(io.StringIO(text, newline="")))[1] == [*map(str, row), ""]


async def test_a_product_of_many_skus_is_sent_in_full(client: AsyncClient, application: FastAPI) -> None:
    pool = application.state.service.pool
    await pool.execute("INSERT INTO sku SELECT n, 3, 1, 1 FROM generate_series(100001, 100700) AS n")
    *rows, end = objects(await send(client, "3\n1\n"))
    third = [row["sku_id"] for row in rows if row["product_id"] == 3]
    assert third == sorted(third)
    assert len(third) == await pool.fetchval("SELECT count(*) FROM sku WHERE product_id = 3")
    assert rows[-1]["product_id"] == 1
    assert end["skus"] == len(rows)


async def test_names_with_quotes_and_markup_arrive_as_they_are(client: AsyncClient, application: FastAPI) -> None:
    name = 'a "quoted" \\ name, ünï©ode \x01 </script>\n'
    await application.state.service.pool.execute("UPDATE product SET product_name = $1 WHERE product_id = 1", name)
    assert {row["product_name"] for row in objects(await send(client, "1"))[:-1]} == {name}
    text = (await send(client, "1", Accept="text/csv")).text
    assert {row[1] for row in list(csv.reader(io.StringIO(text, newline="")))[1:-1]} == {name}


async def test_a_body_may_be_gzip(client: AsyncClient) -> None:
    # The members of a gzip file are joined, as RFC 1952 has it.
    body = gzip.compress(b"1\n2", mtime=0) + gzip.compress(b"\n3\n", mtime=0)
    answer = await send(client, body, **{"Content-Encoding": "gzip"})
    assert objects(answer)[-1]["products"] == 3


@pytest.mark.parametrize(
    ("body", "encoding", "status", "detail"),
    [
        (gzip.compress(b"1\n", mtime=0)[:-4], "gzip", 400, "ends too early"),
        (b"1\n2\n", "gzip", 400, "is not gzip"),
        (b"1\n2\n", "br", 415, "expected gzip, or none"),
        (zlib.compress(b"1\n"), "deflate", 415, "expected gzip, or none"),
        (gzip.compress(bytes(10**8), mtime=0), "gzip", 413, "larger than 8,388,608 bytes"),
        (gzip.compress(b"", mtime=0), "gzip", 422, "the batch has no ids"),
    ],
)
async def test_a_body_that_is_not_what_it_says_is_refused(
    client: AsyncClient, body: bytes, encoding: str, status: int, detail: str
) -> None:
    answer = await send(client, body, **{"Content-Encoding": encoding})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert detail in answer.json()["detail"]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "application/x-ndjson"),
        ("text/*", "text/csv"),
        ("text/csv;q=0.5, application/x-ndjson;q=0.9", "application/x-ndjson"),
        ("application/json, text/csv;q=0.1", "text/csv"),
        ("text/csv;q=0, */*;q=0.1", "application/x-ndjson"),
    ],
)
async def test_the_client_chooses_the_format(client: AsyncClient, accept: str, content_type: str) -> None:
    assert (await send(client, "1", Accept=accept)).headers["content-type"].split(";")[0] == content_type


async def test_a_format_that_is_not_on_offer_is_refused(client: AsyncClient) -> None:
    answer = await send(client, "1", Accept="application/json")
    assert (answer.status_code, answer.json()["detail"]) == (406, "the answer can be application/x-ndjson or text/csv")


@pytest.mark.parametrize(
    ("accept_encoding", "compressed"),
    [("gzip", True), ("br, *;q=0.5", True), ("identity", False), ("gzip;q=0", False), ("br", False)],
)
async def test_the_answer_is_gzip_if_the_client_takes_it(
    client: AsyncClient, accept_encoding: str, compressed: bool
) -> None:
    answer = await send(client, "1", **{"Accept-Encoding": accept_encoding})
    assert (answer.headers.get("content-encoding") == "gzip") is compressed
    assert objects(answer)[-1]["products"] == 1


@pytest.mark.parametrize(
    ("headers", "status", "challenge"),
    [
        ({}, 401, 'Bearer realm="storefront"'),
        ({"Authorization": "Bearer wrong"}, 401, 'Bearer realm="storefront", error="invalid_token"'),
        ({"Authorization": "Basic c2Y6c2Y="}, 401, 'Bearer realm="storefront"'),
    ],
)
async def test_a_batch_needs_a_key(open_client: Any, headers: dict[str, str], status: int, challenge: str) -> None:
    async with open_client() as client:
        answer = await send(client, "1", **headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (status, challenge)
