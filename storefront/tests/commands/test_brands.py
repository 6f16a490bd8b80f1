"""`storefront brands`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from typer.testing import Result


def test_brands_are_added(run: Callable[..., Result], dsn: str) -> None:
    result = run("brands", "add", "Aurora", "Boreal", dsn=dsn)
    assert result.stdout == "added: brand 11, Aurora\nadded: brand 12, Boreal\n"


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


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["brands", "add"], "Missing argument"),
        (["brands", "add", " "], "a brand's name is empty"),
        (["brands", "add", "Aurora", "--roll-back"], "--roll-back requires --by-hand"),
        (["brands", "add-with-color", "Aurora", "0", "Red"], "Invalid value"),
    ],
)
def test_bad_usage_is_refused(fails: Callable[..., None], args: list[str], message: str) -> None:
    fails(*args, status=2, message=message)
