"""The pages of the catalogue: search, brands, products, and pages for errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from urllib.parse import quote

import pytest
from httpx import AsyncClient

import headrace
from storefront import Sample, open_connection
from storefront.browse import BRANDS_A_PAGE, PRODUCTS_A_PAGE, SKUS_A_PAGE
from storefront.schema import COLORS, SIZES
from storefront.service.settings import ServiceSettings
from tools.html_page import Page, check_page

MARKUP = "<script>alert('x')</script> & \"quoted\""


async def show(browser: AsyncClient, address: str, status: int = 200) -> Page:
    """Return the page at an address, checked."""
    answer = await browser.get(address)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return check_page(answer.text)


def skus_of(sample: Sample, product_id: int) -> list[tuple[int, str, str]]:
    return [
        (sku_id, COLORS[color_id], SIZES[size_id])
        for sku_id, of_product, size_id, color_id in sample.skus()
        if of_product == product_id
    ]


async def test_the_first_page_has_a_search_and_the_brands(browser: AsyncClient, sample: Sample) -> None:
    page = await show(browser, "/")
    assert page.all("input", name="q", type="search")
    assert {f"/brands/{brand_id}" for brand_id, _ in sample.brands()} <= set(page.links())


async def test_an_empty_catalogue_says_how_to_fill_it(browser: AsyncClient, dsn: str) -> None:
    async with open_connection(dsn) as connection:
        await connection.execute("TRUNCATE brand CASCADE")
    assert "The catalogue is empty. storefront load fills it with a sample." in (await show(browser, "/")).text


async def test_a_search_finds_products_and_names_their_brands(browser: AsyncClient, sample: Sample) -> None:
    brands = dict(sample.brands())
    product_id, name, brand_id = next(iter(sample.products()))
    page = await show(browser, f"/search?q={quote(name)}")
    assert f"/products/{product_id}" in page.links()
    assert f"/brands/{brand_id}" in page.links()
    assert name in page.text
    assert f"by {brands[brand_id]} · id {product_id}" in page.text
    assert page.field("q") == name


async def test_a_search_for_a_number_finds_the_product_with_this_id(browser: AsyncClient, sample: Sample) -> None:
    page = await show(browser, "/search?q=17")
    assert "The product with this id" in page.text
    assert "/products/17" in page.links()
    assert "No product or brand has “99” in its name." in (await show(browser, "/search?q=99")).text


async def test_a_search_is_leafed_through(browser: AsyncClient, dsn: str) -> None:
    async with open_connection(dsn) as connection:
        await connection.execute(
            "INSERT INTO product (product_name, brand_id) SELECT 'zebra ' || n, 1 FROM generate_series(1, 45) AS n"
        )
    found: list[str] = []
    address: str | None = "/search?q=zebra"
    pages = 0
    while address is not None:
        page = await show(browser, address)
        pages += 1
        found += [link for link in page.links() if link.startswith("/products/")]
        address = next((each["href"] for each in page.all("a", rel="next")), None)
    assert pages == 3
    assert len(found) == len(set(found)) == 45
    back = page.all("a", rel="prev")[0]["href"]
    assert back == "/search?q=zebra&offset=20"
    assert "Products 21 to 40" in (await show(browser, back)).text


@pytest.mark.parametrize(
    "text", [MARKUP, "'; DROP TABLE sku; --", "100%_\\", "“ ” ü 漢字 \U0001f600", "a\0b", "{{ 7*7 }}"]
)
async def test_what_is_typed_into_the_search_is_shown_literally(browser: AsyncClient, dsn: str, text: str) -> None:
    page = await show(browser, f"/search?q={quote(text)}")
    assert page.field("q") == text.replace("\0", "\ufffd")
    assert page.all("script") == []
    async with open_connection(dsn) as connection:
        assert await connection.fetchval("SELECT count(*) FROM sku") == 1_000


@pytest.mark.parametrize("text", ["", "   ", "x" * 201, " ".join("abcdefghijklmnopq")])
async def test_a_search_that_cannot_be_made_says_why(browser: AsyncClient, text: str) -> None:
    page = await show(browser, f"/search?q={quote(text)}")
    assert len(page.all("p", class_="note warn")) == 1


async def test_names_in_the_catalogue_are_escaped(browser: AsyncClient, dsn: str) -> None:
    async with open_connection(dsn) as connection:
        brand_id = await connection.fetchval("INSERT INTO brand (brand_name) VALUES ($1) RETURNING brand_id", MARKUP)
        product_id = await connection.fetchval(
            "INSERT INTO product (product_name, brand_id) VALUES ($1, $2) RETURNING product_id", MARKUP, brand_id
        )
        await connection.execute("INSERT INTO product_color VALUES (7, $1)", MARKUP)
        await connection.execute("INSERT INTO product_size VALUES (7, $1)", MARKUP)
        await connection.execute(
            "INSERT INTO sku (product_id, product_size_id, product_color_id) VALUES ($1, 7, 7)", product_id
        )
    for address in (
        "/",
        "/brands",
        f"/brands/{brand_id}",
        f"/products/{product_id}",
        f"/products/{product_id}?color=7&size=7",
        "/search?q=alert",
    ):
        page = await show(browser, address)
        assert MARKUP in page.text, address
        assert page.all("script") == [], address


async def test_the_brands_are_leafed_through_both_ways(browser: AsyncClient, dsn: str) -> None:
    async with open_connection(dsn) as connection:
        await connection.execute("INSERT INTO brand (brand_name) SELECT 'n&m ' || n FROM generate_series(1, 100) AS n")
        names = [row[0] for row in await connection.fetch("SELECT brand_name FROM brand ORDER BY brand_name")]
    first = await show(browser, "/brands")
    second = await show(browser, first.all("a", rel="next")[0]["href"])
    tiles = [page.all("ul", class_="tiles") for page in (first, second)]
    assert [len(each) for each in tiles] == [1, 1]
    assert [name for name in names if f" {name} " in first.text] == names[:BRANDS_A_PAGE]
    assert [name for name in names if f" {name} " in second.text] == names[BRANDS_A_PAGE:]
    assert second.all("a", rel="next") == []
    back = await show(browser, second.all("a", rel="prev")[0]["href"])
    assert back.text == first.text
    assert "There are no brands on this page." in (await show(browser, "/brands?after=zzzzzz")).text


async def test_a_brand_shows_its_products_page_by_page(browser: AsyncClient, dsn: str) -> None:
    async with open_connection(dsn) as connection:
        await connection.execute("INSERT INTO brand VALUES (500, 'Aurora')")
        await connection.execute(
            "INSERT INTO product (product_id, product_name, brand_id)"
            " SELECT 1000 + n, 'lamp ' || n, 500 FROM generate_series(1, $1::int) AS n",
            PRODUCTS_A_PAGE + 5,
        )
    page = await show(browser, "/brands/500")
    assert [link for link in page.links() if link.startswith("/products/")] == [
        f"/products/{1000 + n}" for n in range(1, PRODUCTS_A_PAGE + 1)
    ]
    page = await show(browser, page.all("a", rel="next")[0]["href"])
    assert len([link for link in page.links() if link.startswith("/products/")]) == 5
    assert "Previous products" in page.text


async def test_a_product_shows_a_grid_of_colours_and_sizes(browser: AsyncClient, sample: Sample) -> None:
    skus = skus_of(sample, 1)
    counts = Counter((color, size) for _, color, size in skus)
    page = await show(browser, "/products/1")
    assert f"SKUs {len(skus)}" in page.text
    for color_id, color in COLORS.items():
        for size_id, size in SIZES.items():
            count = counts[color, size]
            assert (f"/products/1?color={color_id}&size={size_id}#skus" in page.links()) == bool(count)
            assert (f"{count} SKU{'' if count == 1 else 's'}, {color}, {size}" in page.text) == bool(count)
    for sku_id, _, _ in skus[:SKUS_A_PAGE]:
        assert f" {sku_id} " in page.text


async def test_a_cell_of_the_grid_leads_to_its_skus(browser: AsyncClient, sample: Sample) -> None:
    page = await show(browser, "/products/1?color=1&size=2")
    assert "SKUs in Blue, Medium" in page.text
    wanted = [sku_id for sku_id, color, size in skus_of(sample, 1) if (color, size) == ("Blue", "Medium")]
    others = [sku_id for sku_id, color, size in skus_of(sample, 1) if (color, size) != ("Blue", "Medium")]
    assert all(f" {sku_id} Blue Medium" in page.text for sku_id in wanted)
    assert not any(f" {sku_id} Bl" in page.text for sku_id in others)
    assert page.all("a", aria_current="true")


async def test_the_skus_of_a_product_are_leafed_through(browser: AsyncClient, dsn: str) -> None:
    async with open_connection(dsn) as connection:
        await connection.execute("DELETE FROM sku")
        await connection.execute(
            "INSERT INTO sku SELECT n, 1, 1, 1 FROM generate_series(1, $1::int) AS n", SKUS_A_PAGE + 2
        )
    page = await show(browser, "/products/1?color=1")
    page = await show(browser, page.all("a", rel="next")[0]["href"].removesuffix("#skus"))
    assert f"SKU Colour Size {SKUS_A_PAGE + 1} Blue Small {SKUS_A_PAGE + 2} Blue Small" in page.text
    assert page.all("a", rel="prev")[0]["href"] == f"/products/1?color=1&before={SKUS_A_PAGE + 1}#skus"


async def test_a_product_without_skus_says_so(browser: AsyncClient, dsn: str) -> None:
    async with open_connection(dsn) as connection:
        await connection.execute("DELETE FROM sku WHERE product_id = 1")
    page = await show(browser, "/products/1")
    assert "This product has no SKUs yet." in page.text
    assert page.all("table") == []


@pytest.mark.parametrize(
    "address",
    [
        "/nothing",
        "/brands/11",
        "/brands/x",
        "/brands/-1",
        f"/brands/{2**63}",
        "/products/51",
        f"/products/{2**31}",
        f"/products/{'9' * 5000}",
        "/products/1?after=x",
        "/products/1?color=%00",
        "/brands?after=a%00b",
        "/search?q=a&offset=x",
        "/static/0/nothing.css",
        "/static/0/..%2ftemplates%2fbase.html",
    ],
)
async def test_an_address_that_leads_nowhere_is_a_page_with_a_search(browser: AsyncClient, address: str) -> None:
    page = await show(browser, address, 404)
    assert "There is nothing here" in page.text
    assert page.all("form", action="/search")


async def test_a_program_gets_a_problem_instead_of_a_page(browser: AsyncClient) -> None:
    answer = await browser.get("/products/51", headers={"Accept": "*/*"})
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "no product has the id 51"


async def test_another_method_is_refused_by_a_page(browser: AsyncClient) -> None:
    answer = await browser.delete("/brands")
    assert answer.status_code == 405
    assert "This does not work that way" in check_page(answer.text).text


async def test_a_database_that_does_not_answer_is_a_page_that_offers_to_try_again(
    browser: AsyncClient, application: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*args: object, **kwargs: object) -> None:
        raise headrace.CannotConnectNowError("the database system is starting up")

    service = application.state.service  # type: ignore[attr-defined]
    monkeypatch.setattr(service.pool, "fetch", fail)
    answer = await browser.get("/brands?after=a")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    page = check_page(answer.text)
    assert "The shop is back in a moment" in page.text
    assert "/brands?after=a" in page.links()
    assert "starting up" not in page.text


async def test_a_service_that_is_ending_refuses_pages(browser: AsyncClient, application: object) -> None:
    application.state.service.draining = True  # type: ignore[attr-defined]
    assert "shutting down" in (await show(browser, "/", 503)).text


async def test_every_query_has_a_time_limit(
    changed: Callable[..., ServiceSettings], browser: AsyncClient, application: object, dsn: str
) -> None:
    service = application.state.service  # type: ignore[attr-defined]
    service.settings = changed(query_timeout=0.05)
    async with open_connection(dsn) as connection, connection.transaction():
        await connection.execute("LOCK TABLE brand")
        assert "The shop is back in a moment" in (await show(browser, "/brands", 503)).text
