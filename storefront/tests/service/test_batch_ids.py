"""The ids in the body of a batch."""

from __future__ import annotations

import json

import pytest

from storefront.service.batch_ids import BatchIds, BodyFormat, body_format, read_ids
from storefront.service.problems import ProblemError

PLAIN, CSV, NDJSON, JSON = BodyFormat.PLAIN, BodyFormat.CSV, BodyFormat.NDJSON, BodyFormat.JSON


async def read(body: bytes, chosen: BodyFormat, limit: int = 1_000) -> BatchIds:
    return await read_ids(bytearray(body), chosen, limit)


@pytest.mark.parametrize(
    ("chosen", "body"),
    [
        (PLAIN, b"1\n22\n333\n"),
        (PLAIN, b"1\r\n22\r\n333"),
        (PLAIN, b"\xef\xbb\xbf1\n 22\n333\t\n"),
        (PLAIN, "1\n\xa022\n333\xa0\n".encode()),
        (CSV, b"1\n22,a\n333\n"),
        (CSV, b"1\n22\n333\n"),
        (CSV, b"product_id\r\n1\r\n22\r\n333\r\n"),
        (CSV, b"name;id\na;1\nb;22\nc;333\n"),
        (CSV, b"1\ta\n22\tb\n333\tc\n"),
        (CSV, b'id,name\n1,"a\n22,b\n333,c\n'),
        (CSV, b'\xef\xbb\xbfname,"Product_ID"\n"a\nb",1\n"c,d","22"\ne,333\n'),
        (NDJSON, b'1\n{"product_id": 22, "name": "a"}\n"333"\n'),
        (JSON, b'[1, {"product_id": 22}, "333"]'),
        (JSON, b"\xef\xbb\xbf [1,22,333]\n"),
    ],
)
async def test_ids_are_read_in_order(chosen: BodyFormat, body: bytes) -> None:
    batch = await read(body, chosen)
    assert (list(batch.ids), batch.malformed) == ([1, 22, 333], {})


@pytest.mark.parametrize(
    ("chosen", "body", "malformed"),
    [
        (
            PLAIN,
            b"1\n\n0\n-5\n1.0\n9223372036854775808\nabc\n7\n",
            ["", "0", "-5", "1.0", "9223372036854775808", "abc"],
        ),
        (PLAIN, "1\n\uff11\n\x00\n7\n".encode(), ["\uff11", "\x00"]),
        (PLAIN, b"1\n\xff\xfe\n7", ["��"]),
        (CSV, b"id\n1\n\nabc\n7\n", ["", "abc"]),
        (CSV, b"a,id\nx,1\nalone\ny,7\n", ["alone"]),
        (CSV, b"a,id\nx,1\n5\n\xff\ny,7\n", ["5", "\ufffd"]),
        (NDJSON, b'1\n{"id": 2}\n{"product_id": true}\n{"pro\n7\n', ['{"id": 2}', "true", '{"pro']),
        (NDJSON, b"1\n" + b"[" * 10_000 + b"\n7\n", ["[" * 80]),
        (JSON, b'[1, null, true, 1.5, -1, "x", [2], 7]', ["null", "true", "1.5", "-1", "x", "[2]"]),
        (JSON, b"[1, 9223372036854775808, 7]", ["9223372036854775808"]),
        (JSON, b"[1, " + b"9" * 10_000 + b", 7]", ["9" * 80]),
    ],
)
async def test_a_malformed_id_does_not_fail_its_batch(chosen: BodyFormat, body: bytes, malformed: list[str]) -> None:
    batch = await read(body, chosen)
    assert list(batch.ids) == [1, *[0] * len(malformed), 7]
    assert batch.malformed == dict(enumerate(malformed, 1))


async def test_an_id_beyond_the_tables_but_within_int8_is_an_id() -> None:
    assert list((await read(b"2147483648\n9223372036854775807\n", PLAIN)).ids) == [2**31, 2**63 - 1]


async def test_lines_are_those_of_the_file() -> None:
    assert (await read(b"product_id\n1\n", CSV)).first_line == 2
    assert (await read(b"1\n2\n", CSV)).first_line == 1


@pytest.mark.parametrize(
    ("chosen", "body", "status", "detail"),
    [
        (PLAIN, b"", 422, "the batch has no ids"),
        (CSV, b"product_id\n", 422, "the batch has no ids"),
        (JSON, b"[]", 422, "the batch has no ids"),
        (JSON, b'{"ids": [1]}', 422, "expected to be a JSON array"),
        (JSON, b"[1, 2", 400, "the body is not JSON: "),
        (JSON, b"", 400, "the body is not JSON: "),
        (JSON, b'["\xff"]', 400, "the body is not UTF-8"),
        (JSON, b"[" * 100_000, 400, "nested too deeply"),
        (CSV, b'1,a\n2,"' + b"x" * 200_000, 400, "the body is not CSV: line 2: "),
        (CSV, b"sku,name\n1,x\n", 422, "the CSV has no column product_id or id: its header is 'sku,name'"),
        (PLAIN, "1\n2\n".encode("utf-16"), 400, "the body is UTF-16"),
        (PLAIN, b"1\n2\n3\n4\n5\n6\n", 413, "more than 5 ids"),
        (JSON, json.dumps(list(range(1, 7))).encode(), 413, "more than 5 ids"),
    ],
)
async def test_a_body_that_is_no_batch_is_refused(chosen: BodyFormat, body: bytes, status: int, detail: str) -> None:
    with pytest.raises(ProblemError) as caught:
        await read(body, chosen, limit=5)
    assert caught.value.status == status
    assert detail in caught.value.detail


@pytest.mark.parametrize(
    ("content_type", "chosen"),
    [
        ("text/plain", PLAIN),
        ("Text/CSV; charset=UTF-8; header=present", CSV),
        ("application/x-ndjson", NDJSON),
        ("application/jsonl", NDJSON),
        ("application/json; charset=utf-8", JSON),
    ],
)
def test_the_content_type_chooses_the_format(content_type: str, chosen: BodyFormat) -> None:
    assert body_format(content_type) is chosen


@pytest.mark.parametrize(
    "content_type",
    ["", "application/x-www-form-urlencoded", "text/plain; charset=utf-16", "application/xml", "text", ";"],
)
def test_any_other_content_type_is_refused(content_type: str) -> None:
    with pytest.raises(ProblemError) as caught:
        body_format(content_type)
    assert caught.value.status == 415
    assert "text/plain, text/csv, application/x-ndjson, application/json" in caught.value.detail
    assert "Accept-Post" in caught.value.headers
