"""`storefront load`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result


def test_load_reports_the_rows_it_loaded(run: Callable[..., Result], empty: str) -> None:
    result = run("load", "--brands", "3", "--products", "4", "--skus", "50", "--seed", "9", dsn=empty)
    assert result.exit_code == 0
    assert result.stdout == "loaded 3 brands, 4 products and 50 SKUs by copy, seed 9, in one transaction\n"


def test_load_prints_json_or_nothing(run: Callable[..., Result], empty: str) -> None:
    args = ("load", "--brands", "3", "--products", "4", "--skus", "50", "--replace")
    document = json.loads(run(*args, "--json", dsn=empty).stdout)
    assert document == {"brands": 3, "products": 4, "skus": 50, "method": "copy", "seed": 2026}
    assert run(*args, "--quiet", dsn=empty).output == ""


def test_load_takes_a_word_list(run: Callable[..., Result], empty: str, tmp_path: Path) -> None:
    (tmp_path / "words").write_text("alpha\nbeta\n")
    assert run("load", "--words", "words", "--brands", "2", "--products", "1", "--skus", "1", dsn=empty).exit_code == 0
    product = run("lookup", "1", "--csv", dsn=empty).stdout.splitlines()[1].split(",")[1]
    assert set(product.split()) <= {"alpha", "beta"}


def test_a_full_catalogue_is_not_loaded_twice(fails: Callable[..., None], dsn: str) -> None:
    message = "already holds 10 brands, 50 products and 1,000 SKUs: nothing was loaded"
    fails("load", status=1, message=message, dsn=dsn)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["load", "--words", "missing"], "cannot read the word list missing: No such file or directory"),
        (["load", "--brands", "-1"], "number of brands must be from 0"),
        (["load", "--products", "many"], "'--products'"),
        (["load", "--method", "carrier-pigeon"], "carrier-pigeon"),
    ],
)
def test_bad_usage_is_refused(fails: Callable[..., None], args: list[str], message: str) -> None:
    fails(*args, status=2, message=message)
