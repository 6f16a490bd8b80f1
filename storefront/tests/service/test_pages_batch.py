"""A batch that is sent by a form, and answered on a page, as CSV or as a job."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response

from storefront import Sample, open_connection
from storefront.catalogue import COLUMNS
from storefront.schema import COLORS, SIZES
from storefront.service.pages.batch_pages import MOST_ROWS, MOST_SHOWN
from tools.html_page import Page, check_page

SignedIn = Callable[..., Any]


async def send(
    browser: AsyncClient, ids: str = "", *, answer: str = "auto", file: bytes | None = None, **changes: str
) -> Response:
    """Fill in the form for a batch, and send it."""
    form = check_page((await browser.get("/batch")).text)
    data = {"ids": ids, "answer": answer, "token": form.field("token"), **changes}
    # A browser sends a file without a name if none was chosen.
    files = {"file": ("ids.txt" if file is not None else "", file or b"", "text/plain")}
    return await browser.post("/batch", data=data, files=files)


def shown(answer: Response) -> Page:
    """Return the page with the answer."""
    assert answer.status_code == 200, answer.text
    return check_page(answer.text)


def expected(sample: Sample, *ids: int) -> list[tuple[str, ...]]:
    """Return the rows of CSV for products of a sample."""
    products = {product_id: (name, brand_id) for product_id, name, brand_id in sample.products()}
    return [
        (str(wanted), products[wanted][0], str(products[wanted][1]), str(sku_id), COLORS[color_id], SIZES[size_id])
        for wanted in ids
        for sku_id, product_id, size_id, color_id in sample.skus()
        if product_id == wanted
    ]


async def test_a_small_batch_is_answered_on_a_page_in_its_order(partner_browser: AsyncClient, sample: Sample) -> None:
    page = shown(await send(partner_browser, "17\r\n4\r\n"))
    rows = expected(sample, 17, 4)
    assert f"{len(rows)} SKUs of 2 products" in page.text
    assert [link for link in page.links() if link.startswith("/products/")] == ["/products/17", "/products/4"]
    table = " ".join(f"{sku_id} {color} {size}" for _, _, _, sku_id, color, size in expected(sample, 17))
    assert table in page.text


async def test_lines_without_skus_are_told_and_escaped(partner_browser: AsyncClient) -> None:
    page = shown(await send(partner_browser, "1\n<b>x</b>\n\n999\n1\n99999999999\n9223372036854775808"))
    assert page.all("b") == []
    for line in (
        "Line 2: “<b>x</b>” is not a product id",
        "Line 3: “” is not a product id",
        "Line 4: no product has the id 999",
        "Line 5: product 1 is repeated",
        "Line 6: no product has the id 99999999999",
        "Line 7: “9223372036854775808” is not a product id",
    ):
        assert line in page.text
    assert "Lines 7 Without SKUs 0 Unknown 2 Malformed 3 Repeated 1" in page.text


async def test_a_product_without_skus_is_told(partner_browser: AsyncClient, dsn: str) -> None:
    async with open_connection(dsn) as connection:
        await connection.execute("DELETE FROM sku WHERE product_id = 3")
    page = shown(await send(partner_browser, "3"))
    assert "Line 1: product 3 has no SKUs" in page.text
    assert "0 SKUs of 1 product" in page.text


@pytest.mark.parametrize(
    "file", [b'name,product_id\r\n"a, b",2\r\nc,3\r\n', b'\xef\xbb\xbf{"product_id": 2}\n{"product_id": "3"}\n']
)
async def test_a_file_may_be_csv_or_ndjson(partner_browser: AsyncClient, file: bytes) -> None:
    page = shown(await send(partner_browser, file=file))
    assert [link for link in page.links() if link.startswith("/products/")] == ["/products/2", "/products/3"]
    assert "Malformed 0" in page.text
    job = await send(partner_browser, file=file, answer="job")
    assert "Lines answered: 0 of 2" in check_page((await partner_browser.get(job.headers["location"])).text).text


async def test_a_file_is_used_if_nothing_was_typed(partner_browser: AsyncClient) -> None:
    page = shown(await send(partner_browser, file=b"\xef\xbb\xbf2\r\n3\r\n"))
    assert "of 2 products" in page.text
    page = shown(await send(partner_browser, "1", file=b"2\n3\n"))
    assert "of 1 product" in page.text


async def test_a_page_shows_a_limited_number_of_skus_and_offers_all_as_csv(
    partner_browser: AsyncClient, dsn: str
) -> None:
    async with open_connection(dsn) as connection:
        await connection.execute(
            "INSERT INTO sku (product_id, product_size_id, product_color_id)"
            " SELECT 1, 1, 1 FROM generate_series(1, $1::int)",
            MOST_ROWS + 500,
        )
    page = shown(await send(partner_browser, "1\n2"))
    assert f"The first {MOST_ROWS:,} SKUs are shown." in page.text
    (form,) = page.all("form", action="/batch")
    assert form["enctype"] == "multipart/form-data"
    ids = page.all("input", name="ids")[0]["value"]
    data = {"ids": ids, "answer": "csv", "token": page.field("token")}
    answer = await partner_browser.post("/batch", data=data, files={"x": b""})
    assert answer.text.count("\n") > MOST_ROWS + 500


async def test_a_larger_batch_is_downloaded_as_csv(partner_browser: AsyncClient, sample: Sample) -> None:
    ids = [number % 60 + 1 for number in range(MOST_SHOWN + 1)]
    answer = await send(partner_browser, "\n".join(map(str, ids)))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="skus.csv"'
    header, *rows = csv.reader(io.StringIO(answer.text))
    assert header == [*COLUMNS, "outcome"]
    assert [tuple(row[:-1]) for row in rows if not row[-1]] == expected(sample, *range(1, 51))
    assert rows[-1][-1].startswith("complete lines=201 products=50 skus=1000")


async def test_a_still_larger_batch_becomes_a_job(signed_in: SignedIn) -> None:
    browser = await signed_in(batch_ids=300)
    answer = await send(browser, "\n".join(map(str, range(1, 302))))
    assert answer.status_code == 303
    page = check_page((await browser.get(answer.headers["location"])).text)
    assert "Lines answered: 0 of 301" in page.text
    assert "It waits for a worker." in page.text


async def test_an_answer_can_be_chosen(partner_browser: AsyncClient) -> None:
    assert (await send(partner_browser, "1", answer="csv")).headers["content-type"].startswith("text/csv")
    assert (await send(partner_browser, "1", answer="job")).status_code == 303
    assert "of 1 product" in shown(await send(partner_browser, "1", answer="page")).text
    assert "of 1 product" in shown(await send(partner_browser, "1", answer="nonsense")).text
    page = check_page((await partner_browser.get("/batch?answer=job")).text)
    assert page.all("input", name="answer", value="job", checked="")


@pytest.mark.parametrize(("answer", "limit"), [("page", MOST_SHOWN), ("csv", 300)])
async def test_an_answer_that_is_too_small_says_so_and_keeps_what_was_typed(
    signed_in: SignedIn, answer: str, limit: int
) -> None:
    browser = await signed_in(batch_ids=300)
    ids = "\n".join(["<1>", *map(str, range(1, limit + 1))])
    response = await send(browser, ids, answer=answer)
    assert response.status_code == 422
    page = check_page(response.text)
    assert f"This answer is for {limit:,} ids at most, and there are {limit + 1:,}." in page.text
    assert "".join(page.pieces).replace("\r\n", "\n").count(ids) == 1


@pytest.mark.parametrize("ids", ["", "  \r\n \n"])
async def test_an_empty_batch_says_what_is_missing(partner_browser: AsyncClient, ids: str) -> None:
    page = shown(await send(partner_browser, ids))
    assert "Type some ids, or choose a file with them." in page.text


@pytest.mark.parametrize("file", [b"\xff\xfe1\x00\n\x00", b"\x00\x01\x02", b"\xff" * 1000, "1\u2028٣\n".encode()])
async def test_a_file_that_is_no_list_of_ids_is_an_answer_or_a_page_that_says_so(
    partner_browser: AsyncClient, file: bytes
) -> None:
    answer = await send(partner_browser, file=file)
    assert answer.status_code in (200, 400)
    check_page(answer.text)


async def test_the_limits_of_a_partner_hold_for_the_form(signed_in: SignedIn, application: FastAPI, dsn: str) -> None:
    browser = await signed_in(requests_per_minute=2)
    for _ in range(2):
        assert (await send(browser, "1")).status_code == 200
    answer = await send(browser, "1")
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    page = check_page(answer.text)
    assert "Too many requests" in page.text
    assert "/batch" in page.links()


async def test_batches_at_once_are_limited_for_the_form(signed_in: SignedIn, application: FastAPI) -> None:
    browser = await signed_in(batches_at_once=1)
    service = application.state.service
    partner = next(partner for _, partner in service.partners._found.values())
    async with service.limits.batch(partner):
        answer = await send(browser, "1")
        assert answer.status_code == 429
        check_page(answer.text)
    assert (await send(browser, "1")).status_code == 200


async def test_a_job_that_is_refused_says_why(signed_in: SignedIn) -> None:
    browser = await signed_in()
    for _ in range(4):
        assert (await send(browser, "1", answer="job")).status_code == 303
    answer = await send(browser, "1", answer="job")
    assert answer.status_code == 429
    assert "The job was not accepted: 4 jobs are unfinished" in check_page(answer.text).text


async def test_nobody_sends_a_batch_without_signing_in(browser: AsyncClient) -> None:
    answer = await browser.post("/batch", data={"ids": "1"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2Fbatch")


async def test_batches_of_the_form_are_counted(partner_browser: AsyncClient, application: FastAPI) -> None:
    service = application.state.service
    before = service.throughput.ids, service.throughput.skus
    await send(partner_browser, "1\n2\n999")
    assert service.throughput.ids == before[0] + 3
    assert service.throughput.skus > before[1]
    assert 'storefront_batches_total{outcome="complete"} 1.0' in service.metrics.text(None).decode()
