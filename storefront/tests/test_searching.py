"""Search products by name and brand, on every server: with the extension pg_trgm and without it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

import headrace
from storefront import UsageError, create_schema, search
from storefront.searching import COLUMNS, escape_like, parse_words
from tests.servers import Cluster

BRANDS = ["Aurora", "Boreal Kitchen", "50% Off"]
PRODUCTS = [
    ("Kitchen chair", 1),
    ("Garden chair", 1),
    ("Chair", 2),
    ("Table with a chair", 2),
    ("Lamp_1", 1),
    ("Lamp21", 1),
    ("100% wool blanket", 3),
    ("100 wool blankets", 1),
    ("Back\\slash", 1),
    ("O'Neill surfboard; DROP TABLE product", 1),
    ("<b>Bold</b> Ärmel", 1),
]


@pytest.fixture
async def shop(server: Cluster) -> AsyncIterator[headrace.Connection]:
    """A connection to a database with BRANDS and PRODUCTS. The first product has two SKUs, the others none."""
    with server.database() as database:
        connection = await headrace.connect(server.dsn(database))
        await create_schema(connection)
        await connection.insert_records("brand", [(name,) for name in BRANDS], columns=["brand_name"])
        await connection.insert_records("product", PRODUCTS, columns=["product_name", "brand_id"])
        await connection.execute(
            "INSERT INTO sku (product_id, product_size_id, product_color_id) VALUES (1, 1, 1), (1, 2, 1)"
        )
        yield connection
        await connection.close()


def names(records: Sequence[headrace.Record]) -> list[str]:
    return [record["product_name"] for record in records]


async def test_a_product_is_found_with_its_brand_and_number_of_skus(shop: headrace.Connection) -> None:
    (found,) = await search(shop, "kitchen aurora")
    assert tuple(found.keys()) == COLUMNS
    assert tuple(found) == (1, "Kitchen chair", 1, "Aurora", 2, False)


async def test_each_word_occurs_in_the_name_or_the_brand_in_any_case(shop: headrace.Connection) -> None:
    assert names(await search(shop, "CHAIR")) == ["Chair", "Garden chair", "Kitchen chair", "Table with a chair"]
    assert names(await search(shop, "chair boreal")) == ["Chair", "Table with a chair"]
    assert names(await search(shop, "hai den")) == ["Garden chair"]


async def test_the_best_comes_first(shop: headrace.Connection) -> None:
    # The name itself, names that begin with it, the brand of that name, names that contain it, and the others.
    await shop.insert_records("brand", [("chair",)], columns=["brand_name"])
    await shop.insert_records("product", [("Stool", 4), ("chair of oak", 1)], columns=["product_name", "brand_id"])
    assert names(await search(shop, "chair")) == [
        "Chair",
        "chair of oak",
        "Stool",
        "Garden chair",
        "Kitchen chair",
        "Table with a chair",
    ]


async def test_whole_words_come_before_parts_of_words(shop: headrace.Connection) -> None:
    await shop.insert_records(
        "product", [("armchair tent", 1), ("tent and a long chair", 1)], columns=["product_name", "brand_id"]
    )
    assert names(await search(shop, "tent chair")) == ["tent and a long chair", "armchair tent"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100%", ["100% wool blanket"]),
        ("%", ["100% wool blanket"]),
        ("Lamp_", ["Lamp_1"]),
        ("back\\slash", ["Back\\slash"]),
        ("'", ["O'Neill surfboard; DROP TABLE product"]),
        ("'; DROP TABLE product; --", []),
        ("<b>bold</b>", ["<b>Bold</b> Ärmel"]),
        ("$9", []),
        ("\0", []),
        ("\udcff", []),
        ("50% blanket", ["100% wool blanket"]),
    ],
)
async def test_nothing_in_the_text_has_a_meaning_of_its_own(
    shop: headrace.Connection, text: str, expected: list[str]
) -> None:
    assert names(await search(shop, text)) == expected


async def test_a_result_is_limited_and_continued(shop: headrace.Connection) -> None:
    everything = names(await search(shop, "a"))
    assert names(await search(shop, "a", limit=2)) == everything[:2]
    assert names(await search(shop, "a", limit=3, offset=2)) == everything[2:5]
    assert await search(shop, "a", offset=100) == []


async def test_a_word_with_a_mistake_is_found_by_similarity_if_the_server_can(shop: headrace.Connection) -> None:
    available = await shop.fetchval("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_trgm'")
    found = await search(shop, "surfbord")
    assert names(found) == (["O'Neill surfboard; DROP TABLE product"] if available else [])
    assert all(record["similar"] for record in found)


async def test_a_search_has_indexes_to_use_if_the_server_can(shop: headrace.Connection) -> None:
    if not await shop.fetchval("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_trgm'"):
        assert await shop.fetchval("SELECT count(*) FROM pg_class WHERE relname ~ 'trgm'") == 0
        return
    await shop.execute("SET enable_seqscan = off")
    plans: list[str] = []
    shop.add_query_logger(lambda query: plans.append(query.query))
    await search(shop, "garden chair")
    plan = await shop.fetch(f"EXPLAIN {plans[0]}", 20, 0, "x", "x", "%garden%", "%chair%", "% garden%", "% chair%")
    text = "\n".join(row[0] for row in plan)
    for index in ("product_product_name_trgm_idx", "brand_brand_name_trgm_idx", "product_brand_id"):
        assert index in text


async def test_a_word_without_a_trigram_does_not_read_an_index_of_trigrams(shop: headrace.Connection) -> None:
    await shop.execute("SET enable_seqscan = off")
    plans: list[str] = []
    shop.add_query_logger(lambda query: plans.append(query.query))
    assert len(await search(shop, "50% of")) == 1
    plan = await shop.fetch(f"EXPLAIN {plans[0]}", 20, 0, "x", "x", "%50\\%%", "%of%", "% 50\\%%", "% of%")
    assert "trgm" not in "\n".join(row[0] for row in plan)


async def test_a_pool_searches_too(server: Cluster, shop: headrace.Connection) -> None:
    database = await shop.fetchval("SELECT current_database()")
    async with headrace.create_pool(server.dsn(database), min_size=1, max_size=2) as pool:
        assert names(await search(pool, "garden")) == ["Garden chair"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing to search for"),
        (" \t\n", "nothing to search for"),
        ("x" * 201, "at most 200 characters, got 201"),
        (" ".join(map(str, range(17))), "at most 16 words, got 17"),
    ],
)
def test_a_text_without_words_or_with_too_many_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_words(text)


def test_a_pattern_matches_only_its_text() -> None:
    assert escape_like(r"50%_\x") == r"50\%\_\\x"
