"""Sample data: random, repeatable, and of the requested size."""

from __future__ import annotations

from pathlib import Path

import pytest

from storefront import Sample, UsageError, read_words

WORDS = read_words()


def test_the_word_list_is_a_thousand_different_words() -> None:
    assert len(WORDS) == len(set(WORDS)) == 1_000
    assert all(word.isalpha() and word == word.strip() for word in WORDS)


def test_the_same_seed_gives_the_same_rows() -> None:
    first, second = Sample(seed=3), Sample(seed=3)
    assert list(first.skus()) == list(second.skus())
    assert list(second.brands()) == list(first.brands())
    assert list(first.products()) == list(second.products())


def test_another_seed_gives_other_rows() -> None:
    assert list(Sample(seed=3).products()) != list(Sample(seed=4).products())


def test_the_rows_of_a_seed_are_the_same_on_every_machine() -> None:
    sample = Sample(brand_count=3, product_count=2, sku_count=3, seed=1, words=["red", "green", "blue", "white"])
    assert list(sample.brands()) == [(1, "red"), (2, "blue"), (3, "green")]
    assert list(sample.products()) == [
        (1, "green red white blue green red white blue white blue", 2),
        (2, "green blue white red blue red red white blue white", 2),
    ]
    assert list(sample.skus()) == [(1, 2, 2, 2), (2, 1, 1, 1), (3, 1, 1, 1)]


def test_counts_are_as_requested_and_references_are_valid() -> None:
    sample = Sample(brand_count=7, product_count=30, sku_count=500)
    brands, products, skus = list(sample.brands()), list(sample.products()), list(sample.skus())
    assert [row[0] for row in brands] == list(range(1, 8))
    assert [row[0] for row in products] == list(range(1, 31))
    assert [row[0] for row in skus] == list(range(1, 501))
    assert {row[2] for row in products} <= set(range(1, 8))
    assert {row[1] for row in skus} <= set(range(1, 31))
    assert {row[2] for row in skus} == {1, 2, 3}
    assert {row[3] for row in skus} == {1, 2}


def test_the_defaults_are_the_shop_of_the_demo() -> None:
    sample = Sample()
    assert (sample.brand_count, sample.product_count, sample.sku_count) == (100, 1_000, 100_000)


@pytest.mark.parametrize("count", [1, 100, 1_000, 1_001, 2_500])
def test_brand_names_are_distinct_even_if_words_run_out(count: int) -> None:
    names = [name for _, name in Sample(brand_count=count).brands()]
    assert len(set(names)) == len(names) == count
    assert {len(name.split()) for name in names} == ({1} if count <= 1_000 else {2})


def test_a_product_is_named_by_ten_words_without_a_line_end() -> None:
    known = set(WORDS)
    for _, name, _ in Sample(product_count=50).products():
        assert len(name.split(" ")) == 10
        assert set(name.split(" ")) <= known


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"brand_count": -1}, "number of brands must be from 0 to 2147483647, got -1"),
        ({"sku_count": 2**31}, "number of SKUs must be from 0 to 2147483647, got 2147483648"),
        ({"brand_count": 0}, "1,000 products need at least one brand"),
        ({"product_count": 0}, "100,000 SKUs need at least one product"),
        ({"words": ["one"]}, "100 distinct brand names need at least two words"),
    ],
)
def test_impossible_counts_are_refused(counts: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Sample(**counts)  # type: ignore[arg-type]


def test_an_empty_catalogue_is_a_catalogue() -> None:
    nothing = Sample(brand_count=0, product_count=0, sku_count=0)
    assert [*nothing.brands(), *nothing.products(), *nothing.skus()] == []


def test_a_word_list_is_read_from_a_file(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("naïve\r\n\n  green \nblue\nblue\n", encoding="utf-8")
    assert read_words(words) == ["naïve", "green", "blue"]


def test_an_unusable_word_list_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"word list .*missing.txt: No such file"):
        read_words(tmp_path / "missing.txt")
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(UsageError, match="empty.txt holds no words"):
        read_words(tmp_path / "empty.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(UsageError, match=r"not text in UTF-8 \(byte 3\)"):
        read_words(tmp_path / "latin.txt")
