"""`storefront lookup`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

import pytest
from typer.testing import Result

from storefront import Sample
from storefront.catalogue import COLUMNS


def test_lookup_shows_a_table_for_each_product(run: Callable[..., Result], dsn: str, sample: Sample) -> None:
    result = run("lookup", "2", "1", dsn=dsn)
    assert result.exit_code == 0
    names = {product_id: name for product_id, name, _ in sample.products()}
    assert result.stdout.index("product 2 of brand") < result.stdout.index("product 1 of brand")
    assert names[1].split()[0] in result.stdout
    assert f"{sum(1 for sku in sample.skus() if sku[1] == 2)} SKUs" in result.stdout


def test_lookup_prints_csv_for_programs(run: Callable[..., Result], dsn: str, sample: Sample) -> None:
    header, *rows = csv.reader(io.StringIO(run("lookup", "2", "--csv", dsn=dsn).stdout))
    assert tuple(header) == COLUMNS
    assert [int(row[3]) for row in rows] == [sku[0] for sku in sample.skus() if sku[1] == 2]


def test_lookup_shows_known_products_and_names_unknown_ones(run: Callable[..., Result], dsn: str) -> None:
    result = run("lookup", "999", "1", "2147483648", dsn=dsn)
    assert result.exit_code == 1
    assert "product 1 of brand" in result.stdout
    assert result.stderr == "storefront: no product has the id 999; no product has the id 2147483648\n"


def test_lookup_prints_one_json_document(run: Callable[..., Result], dsn: str, sample: Sample) -> None:
    result = run("lookup", "2", "999", "--json", dsn=dsn)
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["unknown"] == [999]
    (product,) = document["products"]
    assert (product["product_id"], product["product_name"]) == (2, list(sample.products())[1][1])
    assert [sku["sku_id"] for sku in product["skus"]] == [sku[0] for sku in sample.skus() if sku[1] == 2]
    assert {sku["color"] for sku in product["skus"]} <= {"Blue", "Black"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["lookup"], "Missing argument"),
        (["lookup", "abc"], "'abc' is not a product id: expected a whole number from 1 to 9223372036854775807"),
        (["lookup", "1", "--csv", "--json"], "--csv and --json contradict each other"),
        (["lookup", "0"], "'0' is not a product id"),
        (["lookup", "9223372036854775808"], "is not a product id"),
    ],
)
def test_bad_usage_is_refused(fails: Callable[..., None], args: list[str], message: str) -> None:
    fails(*args, status=2, message=message)
