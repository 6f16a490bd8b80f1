"""Sample data for a catalogue: random, and the same for the same seed on every machine.

Names are made of common English words. Rows include their ids, so a seed determines whole rows. Rows are generated
when they are needed, so a large catalogue takes no more memory than a small one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from random import Random

from storefront.errors import UsageError
from storefront.schema import COLORS, SIZES
from storefront.wording import counted

WORDS_IN_A_PRODUCT_NAME = 10

DEFAULT_SEED = 2026

MAX_ROWS = 2**31 - 1
"""The largest number of rows in a table, because ids are 32-bit serials."""


def read_words(path: Path | None = None) -> list[str]:
    """Read a word list with one word per line. Without a path, return the 1,000 English words of the package.

    Raises UsageError if the file cannot be read, is not UTF-8, or holds no word.
    """
    try:
        source = path if path is not None else resources.files("storefront") / "words.txt"
        lines = source.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"cannot read the word list {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the word list {path} is not text in UTF-8 (byte {error.start})") from error
    words = list(dict.fromkeys(stripped for line in lines if (stripped := line.strip())))
    if not words:
        raise UsageError(f"the word list {path} holds no words: expected one per line")
    return words


@dataclass(frozen=True)
class Sample:
    """The size of the sample data, its seed and its words. A method for each table generates the rows.

    Raises UsageError for impossible counts: below zero, products without a brand, or SKUs without a product.
    """

    brand_count: int = 100
    product_count: int = 1_000
    sku_count: int = 100_000
    seed: int = DEFAULT_SEED
    words: Sequence[str] = field(default_factory=read_words, repr=False)

    def __post_init__(self) -> None:
        counts = {"brands": self.brand_count, "products": self.product_count, "SKUs": self.sku_count}
        for name, count in counts.items():
            if not 0 <= count <= MAX_ROWS:
                raise UsageError(f"the number of {name} must be from 0 to {MAX_ROWS}, got {count}")
        if self.product_count and not self.brand_count:
            raise UsageError(f"{counted(self.product_count, 'product needs', 'products need')} at least one brand")
        if self.sku_count and not self.product_count:
            raise UsageError(f"{counted(self.sku_count, 'SKU needs', 'SKUs need')} at least one product")
        if self.brand_count > 1 and len(self.words) < 2:
            raise UsageError(f"{self.brand_count} distinct brand names need at least two words, the list has one")

    def brands(self) -> Iterator[tuple[int, str]]:
        """Yield (brand_id, brand_name). Names are distinct, and of one word each if there are enough words."""
        random = self._random("brands")
        length = 1
        while len(self.words) ** length < self.brand_count:
            length += 1
        numbers = _distinct(random, len(self.words) ** length, self.brand_count)
        for brand_id, number in enumerate(numbers, start=1):
            name = []
            for _ in range(length):
                number, digit = divmod(number, len(self.words))
                name.append(self.words[digit])
            yield brand_id, " ".join(name)

    def products(self) -> Iterator[tuple[int, str, int]]:
        """Yield (product_id, product_name, brand_id). A name has ten random words; the brand is random."""
        random = self._random("products")
        for product_id in range(1, self.product_count + 1):
            name = " ".join(self.words[_below(random, len(self.words))] for _ in range(WORDS_IN_A_PRODUCT_NAME))
            yield product_id, name, 1 + _below(random, self.brand_count)

    def skus(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield (sku_id, product_id, product_size_id, product_color_id). Everything but sku_id is random."""
        random = self._random("skus")
        sizes, colors = list(SIZES), list(COLORS)
        for sku_id in range(1, self.sku_count + 1):
            product_id = 1 + _below(random, self.product_count)
            yield sku_id, product_id, sizes[_below(random, len(sizes))], colors[_below(random, len(colors))]

    def _random(self, table: str) -> Random:
        """Return the generator for a table. Its rows do not depend on whether other tables were generated."""
        return Random(f"{self.seed} {table}")


def _below(random: Random, limit: int) -> int:
    """Return a number from 0 to limit - 1. random() is the only method whose sequence Python promises to keep."""
    return int(random.random() * limit)


def _distinct(random: Random, limit: int, count: int) -> Iterator[int]:
    """Yield `count` different numbers below `limit`, by a shuffle that stores only the numbers it has moved."""
    moved: dict[int, int] = {}
    for last in range(limit - 1, limit - 1 - count, -1):
        index = _below(random, last + 1)
        yield moved.get(index, index)
        moved[index] = moved.pop(last, last)
