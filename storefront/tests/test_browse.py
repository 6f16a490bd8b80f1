"""Reading the catalogue page by page."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

import headrace
from storefront import Sample, UsageError, open_connection
from storefront.browse import MOST_COUNTED, Cell, Sku, find_brand, find_product, list_brands, list_skus
from storefront.schema import COLORS, SIZES


def products_by_brand(sample: Sample) -> dict[int, list[int]]:
    """Return the ids of the products of each brand of a sample."""
    found: dict[int, list[int]] = defaultdict(list)
    for product_id, _, brand_id in sample.products():
        found[brand_id].append(product_id)
    return found


def skus_of(sample: Sample, product_id: int) -> list[Sku]:
    """Return the SKUs of a product of a sample."""
    return [
        Sku(sku_id, COLORS[color_id], SIZES[size_id])
        for sku_id, of_product, size_id, color_id in sample.skus()
        if of_product == product_id
    ]


async def test_the_pages_of_brands_are_complete_and_in_the_order_of_the_names(dsn: str, sample: Sample) -> None:
    counts = {brand_id: len(products) for brand_id, products in products_by_brand(sample).items()}
    async with open_connection(dsn) as connection:
        names = [row[0] for row in await connection.fetch("SELECT brand_name FROM brand ORDER BY brand_name")]
        pages = [await list_brands(connection, limit=4)]
        while (after := pages[-1].next) is not None:
            pages.append(await list_brands(connection, after=after, limit=4))
        assert [len(page.items) for page in pages] == [4, 4, 2]
        found = [entry for page in pages for entry in page.items]
        assert [entry.brand_name for entry in found] == names
        assert {entry.brand_id: entry.product_count for entry in found if entry.product_count} == counts
        assert pages[0].previous is None

        # Going back gives the same pages.
        assert await list_brands(connection, before=pages[2].previous, limit=4) == pages[1]
        back = await list_brands(connection, before=pages[1].previous, limit=4)
        assert (back.items, back.previous, back.next) == (pages[0].items, None, pages[0].next)


async def test_a_page_of_brands_counts_their_products_up_to_a_limit(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        await connection.execute("INSERT INTO brand (brand_name) VALUES ('Aurora'), ('Boreal')")
        add = "INSERT INTO product (product_name, brand_id) SELECT 'x', 11 FROM generate_series(1, $1)"
        await connection.execute(add, MOST_COUNTED)
        entries = {entry.brand_name: entry for entry in (await list_brands(connection)).items}
        assert (entries["Aurora"].product_count, entries["Aurora"].has_more) == (MOST_COUNTED, False)
        assert (entries["Boreal"].product_count, entries["Boreal"].has_more) == (0, False)
        await connection.execute(add, 500)
        entries = {entry.brand_name: entry for entry in (await list_brands(connection)).items}
        assert entries["Aurora"].has_more


async def test_the_pages_of_a_brand_hold_its_products_in_the_order_of_their_ids(dsn: str, sample: Sample) -> None:
    names = dict(sample.brands())
    titles = {product_id: name for product_id, name, _ in sample.products()}
    async with open_connection(dsn) as connection:
        for brand_id, products in products_by_brand(sample).items():
            found = []
            after = None
            while True:
                result = await find_brand(connection, brand_id, after=after, limit=3)
                assert result is not None
                brand, page = result
                assert (brand.brand_id, brand.brand_name) == (brand_id, names[brand_id])
                found += page.items
                if (after := page.next) is None:
                    break
            assert [(entry.product_id, entry.product_name) for entry in found] == [
                (product_id, titles[product_id]) for product_id in products
            ]


async def test_a_page_before_a_key_is_the_one_that_was_left(dsn: str, sample: Sample) -> None:
    brand_id = max(products_by_brand(sample).items(), key=lambda item: len(item[1]))[0]
    async with open_connection(dsn) as connection:
        first = await find_brand(connection, brand_id, limit=2)
        assert first is not None
        second = await find_brand(connection, brand_id, after=first[1].next, limit=2)
        assert second is not None
        back = await find_brand(connection, brand_id, before=second[1].previous, limit=2)
        assert back is not None
        assert (back[1].items, back[1].previous, back[1].next) == (first[1].items, None, first[1].next)


async def test_a_brand_without_products_has_an_empty_page(empty: str) -> None:
    async with open_connection(empty) as connection:
        await connection.execute("INSERT INTO brand (brand_name) VALUES ('Aurora')")
        result = await find_brand(connection, 1)
    assert result is not None
    assert (result[0].brand_name, result[0].products, result[1].items) == ("Aurora", [], [])
    assert (result[1].previous, result[1].next) == (None, None)


async def test_a_product_has_a_cell_for_each_colour_and_size_that_it_comes_in(dsn: str, sample: Sample) -> None:
    brands = dict(sample.brands())
    async with headrace.create_pool(dsn, min_size=1, max_size=2) as pool:
        for product_id, name, brand_id in list(sample.products())[:10]:
            product = await find_product(pool, product_id)
            assert product is not None
            assert (product.product_name, product.brand_id, product.brand_name) == (name, brand_id, brands[brand_id])
            skus = skus_of(sample, product_id)
            counts = Counter((sku.color_name, sku.size_name) for sku in skus)
            assert {(cell.color_name, cell.size_name): cell.sku_count for cell in product.cells} == counts
            assert product.sku_count == len(skus)
            for cell in product.cells:
                assert product.cell(cell.color_id, cell.size_id) is cell
                assert cell.first_sku_id == min(
                    sku.sku_id for sku in skus if (sku.color_name, sku.size_name) == (cell.color_name, cell.size_name)
                )


async def test_the_grid_has_the_colours_and_sizes_that_occur_and_holes_in_between(empty: str) -> None:
    async with open_connection(empty) as connection:
        await connection.execute("INSERT INTO brand (brand_name) VALUES ('Aurora')")
        await connection.execute("INSERT INTO product (product_name, brand_id) VALUES ('lamp', 1)")
        await connection.execute(
            "INSERT INTO sku (product_id, product_size_id, product_color_id) VALUES (1, 3, 1), (1, 1, 2), (1, 1, 2)"
        )
        product = await find_product(connection, 1)
    assert product is not None
    assert product.colors == {1: "Blue", 2: "Black"}
    assert list(product.sizes.items()) == [(1, "Small"), (3, "Large")]
    assert product.cells == [Cell(1, "Blue", 3, "Large", 1, 1), Cell(2, "Black", 1, "Small", 2, 2)]
    assert product.cell(1, 1) is None


async def test_a_product_without_skus_has_no_cells(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        product_id = await connection.fetchval(
            "INSERT INTO product (product_name, brand_id) VALUES ('bare', 1) RETURNING product_id"
        )
        product = await find_product(connection, product_id)
        assert product is not None
        assert (product.cells, product.colors, product.sizes, product.sku_count) == ([], {}, {}, 0)
        assert (await list_skus(connection, product_id)).items == []


@pytest.mark.parametrize("limit", [1, 7, 1_000])
async def test_the_pages_of_skus_are_complete(dsn: str, sample: Sample, limit: int) -> None:
    async with open_connection(dsn) as connection:
        pages = [await list_skus(connection, 2, limit=limit)]
        while (after := pages[-1].next) is not None:
            pages.append(await list_skus(connection, 2, after=after, limit=limit))
        assert [sku for page in pages for sku in page.items] == skus_of(sample, 2)
        if len(pages) > 1:
            assert (await list_skus(connection, 2, before=pages[1].previous, limit=limit)).items == pages[0].items


async def test_skus_can_be_limited_to_a_colour_and_a_size(dsn: str, sample: Sample) -> None:
    async with open_connection(dsn) as connection:
        page = await list_skus(connection, 2, color_id=1, size_id=3)
        assert page.items == [sku for sku in skus_of(sample, 2) if (sku.color_name, sku.size_name) == ("Blue", "Large")]
        page = await list_skus(connection, 2, color_id=2)
        assert page.items == [sku for sku in skus_of(sample, 2) if sku.color_name == "Black"]


@pytest.mark.parametrize("unknown", [0, -1, 51, 2**31 - 1, 2**31, 2**63, 10**30])
async def test_an_id_that_no_row_has_is_no_error(dsn: str, unknown: int) -> None:
    async with open_connection(dsn) as connection:
        assert await find_brand(connection, unknown) is None
        assert await find_product(connection, unknown) is None
        assert (await list_skus(connection, unknown)).items == []
        assert (await list_skus(connection, 1, color_id=unknown)).items == []


@pytest.mark.parametrize("key", [-(10**30), 10**30])
async def test_a_key_outside_of_the_ids_gives_the_page_at_that_end(dsn: str, sample: Sample, key: int) -> None:
    async with open_connection(dsn) as connection:
        found = skus_of(sample, 2)
        assert (await list_skus(connection, 2, after=key)).items == (found if key < 0 else [])
        assert (await list_skus(connection, 2, before=key)).items == (found if key > 0 else [])


async def test_a_page_has_one_key_and_at_least_one_row(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        with pytest.raises(UsageError, match="after a key or ends before one: got after='a' and before='b'"):
            await list_brands(connection, after="a", before="b")
        with pytest.raises(UsageError, match="at least 1 row, got limit=0"):
            await list_skus(connection, 1, limit=0)


async def test_a_page_of_a_brand_has_an_index_to_use(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        await connection.execute("SET enable_seqscan = off")
        plan = await connection.fetch(
            "EXPLAIN SELECT product_id FROM product WHERE brand_id = 1 AND product_id > 5 ORDER BY product_id LIMIT 5"
        )
    text = "\n".join(row[0] for row in plan)
    assert "product_brand_id_product_id_idx" in text
    assert "Sort" not in text
