"""Importing a catalogue: what is new is added, what has changed is changed, all in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import headrace
from storefront import (
    CatalogueLine,
    ImportReport,
    RefusedLine,
    StorefrontError,
    import_catalogue,
    importing,
    open_connection,
    stream_catalogue,
)


def line(number: int, brand: str, product: str, color: str | None, size: str | None, **ids: int) -> CatalogueLine:
    text = f"line {number}"
    return CatalogueLine(
        number, brand, product, color, size, ids.get("brand_id"), ids.get("product_id"), ids.get("sku_id"), text
    )


CHAIRS = [
    line(2, "Aurora", "Chair", "Blue", "Small"),
    line(3, "Aurora", "Chair", "Red", "Small"),
    line(4, "Boreal", "Chair", "Blue", "Huge"),
    line(5, "Boreal", "Lamp", None, None),
    line(6, "Aurora", "Chair", "Blue", "Small"),
]


@pytest.fixture
async def shop(empty: str) -> AsyncIterator[headrace.Connection]:
    async with open_connection(empty) as connection:
        yield connection


async def catalogue(connection: headrace.Connection) -> list[tuple[Any, ...]]:
    """Return every SKU: its id, and the ids and names of the rest."""
    return [tuple(record) async for record in stream_catalogue(connection)]


async def test_names_that_are_new_get_rows(shop: headrace.Connection) -> None:
    report = await import_catalogue(shop, CHAIRS)
    assert report == ImportReport(
        lines=5,
        brands_added=2,
        products_added=3,
        skus_added=3,
        skus_unchanged=1,
        colors_added=1,
        sizes_added=1,
        new_colors=["Red"],
        new_sizes=["Huge"],
    )
    assert await catalogue(shop) == [
        (1, 1, "Chair", 1, "Aurora", "Blue", "Small"),
        (2, 1, "Chair", 1, "Aurora", "Red", "Small"),
        (3, 2, "Chair", 2, "Boreal", "Blue", "Huge"),
    ]
    assert await shop.fetchval("SELECT product_id FROM product WHERE product_name = 'Lamp'") == 3


@pytest.mark.parametrize("chunk", [1, 2, 100])
async def test_a_second_import_changes_nothing(
    shop: headrace.Connection, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "CHUNK", chunk)
    await import_catalogue(shop, CHAIRS)
    before = await catalogue(shop)
    assert await import_catalogue(shop, CHAIRS) == ImportReport(lines=5, skus_unchanged=4)
    assert await catalogue(shop) == before


async def test_an_export_is_imported_into_another_catalogue_with_its_ids(dsn: str, shop: headrace.Connection) -> None:
    async with open_connection(dsn) as connection:
        exported = await catalogue(connection)
    lines = [
        line(number, brand, product, color, size, brand_id=brand_id, product_id=product_id, sku_id=sku_id)
        for number, (sku_id, product_id, product, brand_id, brand, color, size) in enumerate(exported, start=2)
    ]
    report = await import_catalogue(shop, lines)
    assert (report.skus_added, report.skus_unchanged) == (1_000, 0)
    assert await catalogue(shop) == exported


async def test_a_row_of_a_known_id_is_changed(shop: headrace.Connection) -> None:
    await import_catalogue(shop, [line(2, "Aurora", "Chair", "Blue", "Small", product_id=70, sku_id=700)])
    changed = [line(2, "Boreal", "Armchair", "Black", "Small", product_id=70, sku_id=700)]
    report = await import_catalogue(shop, changed)
    assert (report.products_changed, report.skus_changed, report.skus_added) == (1, 1, 0)
    assert await catalogue(shop) == [(700, 70, "Armchair", 2, "Boreal", "Black", "Small")]


async def test_the_last_line_of_an_id_counts(shop: headrace.Connection) -> None:
    lines = [line(2, "Aurora", "Chair", None, None, product_id=7), line(3, "Aurora", "Stool", None, None, product_id=7)]
    await import_catalogue(shop, lines)
    assert await shop.fetchval("SELECT product_name FROM product WHERE product_id = 7") == "Stool"


async def test_later_rows_get_ids_after_the_imported_ones(shop: headrace.Connection) -> None:
    lines = [
        line(2, "Aurora", "Chair", "Blue", "Small", brand_id=50, product_id=70, sku_id=700),
        line(3, "Boreal", "Chair", "Blue", "Small"),
    ]
    await import_catalogue(shop, lines)
    assert await shop.fetchval("SELECT brand_id FROM brand WHERE brand_name = 'Boreal'") == 51
    insert = "INSERT INTO brand (brand_name) VALUES ('Cirrus') RETURNING brand_id"
    assert await shop.fetchval(insert) == 52
    insert = "INSERT INTO product (product_name, brand_id) VALUES ('Lamp', 50) RETURNING product_id"
    assert await shop.fetchval(insert) == 72


async def test_a_sku_with_an_id_and_the_same_one_without_are_one(shop: headrace.Connection) -> None:
    lines = [
        line(2, "Aurora", "Chair", "Blue", "Small"),
        line(3, "Aurora", "Chair", "Blue", "Small", sku_id=9),
    ]
    await import_catalogue(shop, lines)
    assert [row[0] for row in await catalogue(shop)] == [9]


@pytest.mark.parametrize("chunk", [1, 100])
async def test_lines_that_contradict_the_catalogue_are_refused(
    shop: headrace.Connection, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "CHUNK", chunk)
    lines: list[CatalogueLine | RefusedLine] = [
        line(2, "Aurora", "Chair", "Blue", "Small", brand_id=5),
        line(3, "Aurora", "Table", "Blue", "Small", brand_id=6),
        RefusedLine(4, "brand_name is missing", "line 4"),
        line(5, "Boreal", "Table", "Blue", "Small", brand_id=5),
        line(6, "Cirrus", "Lamp", "Blue", "Small"),
        line(7, "Dune", "Lamp", "Blue", "Small", brand_id=7),
    ]
    refused: list[RefusedLine] = []
    report = await import_catalogue(shop, lines, refuse=refused.append)
    assert refused == [
        RefusedLine(3, "the brand 'Aurora' has the id 5, not 6", "line 3"),
        RefusedLine(4, "brand_name is missing", "line 4"),
        RefusedLine(5, "the brand_id 5 is that of the brand 'Aurora', not 'Boreal'", "line 5"),
    ]
    assert (report.lines, report.refused, report.skus_added) == (6, 3, 3)


async def test_an_id_that_the_import_itself_has_chosen_is_not_taken_over(
    shop: headrace.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "CHUNK", 1)
    lines = [
        line(2, "Aurora", "Chair", "Blue", "Small"),
        line(3, "Aurora", "Stool", "Blue", "Small", product_id=5),
        line(4, "Aurora", "Lamp", "Blue", "Small"),
        line(5, "Aurora", "Table", "Blue", "Small", product_id=1),
        line(6, "Aurora", "Table", "Blue", "Small", product_id=6),
        line(7, "Aurora", "Stool", "Red", "Small", product_id=5),
        line(8, "Aurora", "Bench", "Red", "Small", sku_id=1),
    ]
    refused: list[RefusedLine] = []
    await import_catalogue(shop, lines, refuse=refused.append)
    assert [each.line for each in refused] == [5, 6, 8]
    assert refused[0].reason == (
        "the product_id 1 was given to a line above that has none: "
        "a file should have a product_id on every line or on none"
    )


async def test_strict_imports_nothing_if_a_line_is_refused(shop: headrace.Connection) -> None:
    refused: list[RefusedLine] = []
    lines = [*CHAIRS, RefusedLine(9, "brand_name is missing", "")]
    with pytest.raises(StorefrontError, match="nothing was imported, because 1 line was refused"):
        await import_catalogue(shop, lines, strict=True, refuse=refused.append)
    assert len(refused) == 1
    assert await shop.fetchval("SELECT count(*) FROM brand") == 0


async def test_a_dry_run_reports_everything_and_changes_nothing(shop: headrace.Connection) -> None:
    assert (await import_catalogue(shop, CHAIRS, dry_run=True)).skus_added == 3
    assert await shop.fetchval("SELECT count(*) FROM brand") == 0
    assert await shop.fetchval("INSERT INTO brand (brand_name) VALUES ('A') RETURNING brand_id") == 1


async def test_an_error_in_the_lines_leaves_the_catalogue_unchanged(
    shop: headrace.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "CHUNK", 1)

    def lines() -> Iterator[CatalogueLine]:
        yield from CHAIRS
        raise LookupError("damaged")

    with pytest.raises(LookupError):
        await import_catalogue(shop, lines())
    assert await shop.fetchval("SELECT count(*) FROM brand") == 0


async def test_a_cancelled_import_leaves_the_catalogue_unchanged(
    shop: headrace.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "CHUNK", 1)

    def cancel(_: int) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    task = asyncio.create_task(import_catalogue(shop, CHAIRS, progress=cancel))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await shop.fetchval("SELECT count(*) FROM brand") == 0


async def test_two_imports_at_once_add_each_product_once(empty: str, shop: headrace.Connection) -> None:
    async with open_connection(empty) as other:
        await asyncio.gather(import_catalogue(shop, CHAIRS), import_catalogue(other, CHAIRS))
    assert len(await catalogue(shop)) == 3


async def test_there_may_be_no_id_left(shop: headrace.Connection) -> None:
    lines = [
        line(2, "Aurora", "Chair", "Blue", "Small", product_id=2_147_483_647),
        line(3, "Aurora", "Lamp", "Blue", "Small"),
    ]
    with pytest.raises(StorefrontError, match="there is no id left for another product: nothing was imported"):
        await import_catalogue(shop, lines)


async def test_progress_is_reported_with_the_number_of_lines(
    shop: headrace.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "CHUNK", 2)
    done: list[int] = []
    await import_catalogue(shop, CHAIRS, progress=done.append)
    assert done == [2, 4, 5]
    assert await shop.fetchval("SHOW enable_seqscan") == "on"
