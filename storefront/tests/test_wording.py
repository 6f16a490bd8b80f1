"""Numbers with a noun."""

from __future__ import annotations

import pytest

from storefront.wording import counted


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 SKUs"), (1, "1 SKU"), (2, "2 SKUs"), (1_234_567, "1,234,567 SKUs")]
)
def test_a_noun_agrees_with_its_number(count: int, expected: str) -> None:
    assert counted(count, "SKU") == expected


def test_a_plural_may_be_irregular_and_have_a_verb() -> None:
    assert counted(1, "line was", "lines were") == "1 line was"
    assert counted(2, "batch", "batches") == "2 batches"
