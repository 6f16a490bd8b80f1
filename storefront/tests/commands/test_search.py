"""`storefront search`."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import Result

from storefront import Sample


def test_search_shows_products_with_their_brands(run: Callable[..., Result], dsn: str, sample: Sample) -> None:
    product_id, name, _ = next(iter(sample.products()))
    result = run("search", *name.split()[:3], dsn=dsn)
    assert result.exit_code == 0
    assert f" {product_id} │" in result.stdout
    assert name.split()[0] in result.stdout


def test_search_prints_one_json_document(run: Callable[..., Result], dsn: str, sample: Sample) -> None:
    product_id, name, brand_id = next(iter(sample.products()))
    (found,) = json.loads(run("search", name, "--json", dsn=dsn).stdout)["products"]
    assert found == {
        "product_id": product_id,
        "product_name": name,
        "brand_id": brand_id,
        "brand_name": dict(sample.brands())[brand_id],
        "skus": sum(sku[1] == product_id for sku in sample.skus()),
        "similar": False,
    }
    assert len(json.loads(run("search", "e", "--json", "--limit", "7", dsn=dsn).stdout)["products"]) == 7


def test_a_search_without_a_result_is_told_by_the_exit_status(run: Callable[..., Result], dsn: str) -> None:
    result = run("search", "%", dsn=dsn)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "storefront: no product matches\n")
    result = run("search", "%", "--json", dsn=dsn)
    assert (result.exit_code, json.loads(result.stdout)) == (1, {"products": []})


def test_a_name_is_shown_as_it_is(run: Callable[..., Result], empty: str) -> None:
    run("brands", "add", "[red]Aurora[/red]", dsn=empty)
    document = json.loads(run("brands", "list", "--json", dsn=empty).stdout)
    assert document["brands"][0]["brand_name"] == "[red]Aurora[/red]"
    assert "[red]Aurora[/red]" in run("brands", "list", dsn=empty).stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["search"], "Missing argument"),
        (["search", " "], "nothing to search for"),
        (["search", "a", "--limit", "0"], "limit"),
        (["search", "x" * 201], "at most 200 characters"),
    ],
)
def test_bad_usage_is_refused(fails: Callable[..., None], args: list[str], message: str) -> None:
    fails(*args, status=2, message=message)
