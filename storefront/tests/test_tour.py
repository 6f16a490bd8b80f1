"""The chapters of the demo, on a database with a catalogue."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from storefront import Sample, demo, loading, open_connection, tour
from storefront.benchmark import Way


async def test_a_second_demo_keeps_the_data_and_adds_nothing(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tour, "SHORT_LOOK_UPS", 50)
    shown = io.StringIO()
    for _ in range(2):
        measured = await demo(dsn, Console(file=shown, width=100), short=True)
        assert [each.way for each in measured] == [*Way, *Way]
    assert "There are 10 brands, 50 products and 1,000 SKUs already, and they are kept" in shown.getvalue()
    async with open_connection(dsn) as connection:
        assert await loading.count_rows(connection) == loading.Loaded(10, 50, 1_000)


async def test_a_demo_can_load_the_data_anew(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tour, "SHORT_LOOK_UPS", 50)
    monkeypatch.setattr(tour, "SHORT_SKUS", 2_000)
    await demo(dsn, Console(file=io.StringIO()), short=True, replace=True)
    async with open_connection(dsn) as connection:
        assert await loading.count_rows(connection) == loading.Loaded(
            Sample().brand_count, Sample().product_count, 2_000
        )
