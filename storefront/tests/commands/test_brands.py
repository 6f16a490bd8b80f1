"""`storefront brands`."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import Result

from storefront import Sample


def test_brands_are_added(run: Callable[..., Result], dsn: str) -> None:
    result = run("brands", "add", "Aurora", "Boreal", dsn=dsn)
    assert result.stdout == "added: brand 11, Aurora\nadded: brand 12, Boreal\n"


def test_spaces_around_the_name_of_a_brand_are_removed(run: Callable[..., Result], dsn: str) -> None:
    assert run("brands", "add", " Aurora ", dsn=dsn).stdout == "added: brand 11, Aurora\n"
    assert run("brands", "rename", "Aurora", "Boreal ", dsn=dsn).stdout == "renamed: brand 11, Aurora, is now Boreal\n"


def test_brands_are_rolled_back_together_and_the_reason_is_shown(
    run: Callable[..., Result], fails: Callable[..., None], dsn: str
) -> None:
    run("brands", "add", "Aurora", dsn=dsn)
    fails(
        "brands", "add", "Boreal", "Aurora", status=1, message="none of the 2 brands was added: duplicate key", dsn=dsn
    )
    fails("brands", "add", "Boreal", "Aurora", status=1, message="(brand_name)=(Aurora) already exists.", dsn=dsn)
    assert run("brands", "add", "Boreal", dsn=dsn).exit_code == 0


def test_brands_are_added_by_hand_or_rolled_back(run: Callable[..., Result], dsn: str) -> None:
    assert "rolled back: brand 11" in run("brands", "add", "Aurora", "--by-hand", "--roll-back", dsn=dsn).stdout
    assert "added: brand 12" in run("brands", "add", "Aurora", "--by-hand", dsn=dsn).stdout


def test_a_brand_is_kept_if_its_colour_is_refused(run: Callable[..., Result], dsn: str) -> None:
    result = run("brands", "add-with-color", "Aurora", "1", "Green", dsn=dsn)
    assert (result.exit_code, result.stdout) == (0, "added: brand 11, Aurora\n")
    assert "rolled back to the savepoint, the brand 'Aurora' is kept" in result.stderr
    assert "added: colour 3, Green" in run("brands", "add-with-color", "Boreal", "3", "Green", dsn=dsn).stdout


def test_brands_are_listed_with_the_number_of_their_products(run: Callable[..., Result], dsn: str) -> None:
    run("brands", "add", "[b]Aurora[/b]", dsn=dsn)
    brands = json.loads(run("brands", "list", "--json", dsn=dsn).stdout)["brands"]
    assert len(brands) == 11
    assert sum(brand["products"] for brand in brands) == 50
    assert {"brand_id": 11, "brand_name": "[b]Aurora[/b]", "products": 0} in brands
    shown = run("brands", "list", dsn=dsn).stdout
    assert "[b]Aurora[/b]" in shown
    assert "11 brands" in shown


def test_a_brand_is_renamed(run: Callable[..., Result], fails: Callable[..., None], dsn: str) -> None:
    run("brands", "add", "Aurora", "Boreal", dsn=dsn)
    assert run("brands", "rename", "Aurora", "Dawn", dsn=dsn).stdout == "renamed: brand 11, Aurora, is now Dawn\n"
    fails("brands", "rename", "Aurora", "Dusk", status=1, message="no brand has the name 'Aurora'", dsn=dsn)
    fails("brands", "rename", "Dawn", "Boreal", status=1, message="another brand is named 'Boreal'", dsn=dsn)


def test_a_brand_without_products_is_removed(run: Callable[..., Result], fails: Callable[..., None], dsn: str) -> None:
    run("brands", "add", "Aurora", dsn=dsn)
    assert run("brands", "remove", "Aurora", dsn=dsn).stdout == "removed: Aurora\n"
    fails("brands", "remove", "Aurora", status=1, message="no brand has the name 'Aurora'", dsn=dsn)


def test_a_brand_with_products_is_removed_only_if_another_one_gets_them(
    run: Callable[..., Result], fails: Callable[..., None], dsn: str, sample: Sample
) -> None:
    run("brands", "add", "Aurora", dsn=dsn)
    name = dict(sample.brands())[1]
    count = sum(brand_id == 1 for _, _, brand_id in sample.products())
    message = f"the brand {name!r} has {count} products, so nothing was removed: --move-products-to BRAND gives them"
    fails("brands", "remove", name, status=1, message=message, dsn=dsn)
    missing = ("brands", "remove", name, "--move-products-to", "Nobody")
    fails(*missing, status=1, message="no brand has the name 'Nobody'", dsn=dsn)
    result = run("brands", "remove", name, "--move-products-to", "Aurora", dsn=dsn)
    assert result.stdout == f"removed: {name}; {count} products are now of Aurora\n"
    brands = json.loads(run("brands", "list", "--json", dsn=dsn).stdout)["brands"]
    assert {"brand_id": 11, "brand_name": "Aurora", "products": count} in brands


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["brands", "add"], "Missing argument"),
        (["brands", "add", " "], "a brand's name is empty"),
        (["brands", "add", "Aurora", "--roll-back"], "--roll-back requires --by-hand"),
        (["brands", "add", "x" * 501], "a brand's name has 501 characters, and at most 500 are allowed"),
        (["brands", "add", "Auro\tra"], "a brand's name contains the control character U+0009"),
        (["brands", "add", "Aurora\udcff"], "a brand's name contains the half of a surrogate pair U+DCFF"),
        (["brands", "rename", "Aurora", "Bore\nal"], "a brand's name contains the control character U+000A"),
        (
            ["brands", "add-with-color", "Aurora", "5", "R\x7fed"],
            "a colour's name contains the control character U+007F",
        ),
        (["brands", "add-with-color", "Aurora", "0", "Red"], "Invalid value"),
        (["brands", "add-with-color", "Aurora", "5", " "], "a colour's name is empty"),
        (["brands", "rename", "Aurora"], "Missing argument"),
        (["brands", "rename", "Aurora", ""], "a brand's name is empty"),
        (["brands", "remove", "Aurora", "--move-products-to", "Aurora"], "names the brand that is to be removed"),
    ],
)
def test_bad_usage_is_refused(fails: Callable[..., None], args: list[str], message: str) -> None:
    fails(*args, status=2, message=message)
