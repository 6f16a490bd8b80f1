"""Read the catalogue page by page: brands, the products of a brand, a product with its colours and sizes, its SKUs.

Each page is one query, and it begins after a key instead of skipping rows, so the last page costs no more than the
first. Rows become objects by `row=`: the products of a brand and the cells of a product's grid are lists of objects.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from storefront.catalogue import MAX_ID, Executor
from storefront.errors import UsageError

T = TypeVar("T")
K = TypeVar("K")

BRANDS_A_PAGE = 60
PRODUCTS_A_PAGE = 50
SKUS_A_PAGE = 60

MOST_COUNTED = 1_000
"""The products of a brand are counted up to this number, so that a page of brands stays cheap in a large catalogue."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T, K]):
    """Some rows in order, and the keys that lead to the pages beside it."""

    items: list[T]
    previous: K | None
    """The key for `before=`, or None on the first page."""
    next: K | None
    """The key for `after=`, or None on the last page."""


@dataclass(frozen=True, slots=True)
class BrandEntry:
    """A brand in the list of brands."""

    brand_id: int
    brand_name: str
    product_count: int
    """The number of its products, or MOST_COUNTED + 1 if it has more than MOST_COUNTED."""

    @property
    def has_more(self) -> bool:
        """True if the brand has more products than were counted."""
        return self.product_count > MOST_COUNTED


@dataclass(frozen=True, slots=True)
class ProductEntry:
    """A product in the list of a brand."""

    product_id: int
    product_name: str


@dataclass(frozen=True, slots=True)
class Brand:
    """A brand with some of its products."""

    brand_id: int
    brand_name: str
    products: list[ProductEntry]


@dataclass(frozen=True, slots=True)
class Cell:
    """The SKUs of a product that share a colour and a size."""

    color_id: int
    color_name: str
    size_id: int
    size_name: str
    sku_count: int
    first_sku_id: int


@dataclass(frozen=True, slots=True)
class Product:
    """A product with the colours and sizes that it comes in."""

    product_id: int
    product_name: str
    brand_id: int
    brand_name: str
    cells: list[Cell]
    """The combinations that have SKUs, ordered by colour and size."""
    _by_ids: dict[tuple[int, int], Cell] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_ids", {(cell.color_id, cell.size_id): cell for cell in self.cells})

    @property
    def colors(self) -> dict[int, str]:
        """The colours that have SKUs: their names by id, ordered by id."""
        return {cell.color_id: cell.color_name for cell in self.cells}

    @property
    def sizes(self) -> dict[int, str]:
        """The sizes that have SKUs: their names by id, ordered by id."""
        return dict(sorted((cell.size_id, cell.size_name) for cell in self.cells))

    @property
    def sku_count(self) -> int:
        """The number of all SKUs of the product."""
        return sum(cell.sku_count for cell in self.cells)

    def cell(self, color_id: int, size_id: int) -> Cell | None:
        """Return the cell of a colour and a size, or None if there is no such SKU."""
        return self._by_ids.get((color_id, size_id))


@dataclass(frozen=True, slots=True)
class Sku:
    """A stock keeping unit with its colour and size by name."""

    sku_id: int
    color_name: str
    size_name: str


_BRANDS = """\
SELECT b.brand_id, b.brand_name, (
    SELECT count(*) FROM (
        SELECT FROM product AS p WHERE p.brand_id = b.brand_id LIMIT {most}
    ) AS counted
) AS product_count
FROM brand AS b
WHERE b.brand_name {beyond} $2
ORDER BY b.brand_name {direction}
LIMIT $1"""

_BRAND = """\
SELECT b.brand_id, b.brand_name, p.product_id AS products__product_id, p.product_name AS products__product_name
FROM brand AS b
LEFT JOIN LATERAL (
    SELECT product_id, product_name
    FROM product
    WHERE product.brand_id = b.brand_id AND product_id {beyond} $2
    ORDER BY product_id {direction}
    LIMIT $3
) AS p ON true
WHERE b.brand_id = $1
ORDER BY p.product_id {direction}"""

_PRODUCT = """\
SELECT p.product_id, p.product_name, p.brand_id, b.brand_name,
    c.product_color_id AS cells__color_id, c.product_color_name AS cells__color_name,
    z.product_size_id AS cells__size_id, z.product_size_name AS cells__size_name,
    s.sku_count AS cells__sku_count, s.first_sku_id AS cells__first_sku_id
FROM product AS p
JOIN brand AS b ON b.brand_id = p.brand_id
LEFT JOIN (
    SELECT product_color_id, product_size_id, count(*) AS sku_count, min(sku_id) AS first_sku_id
    FROM sku
    WHERE product_id = $1
    GROUP BY product_color_id, product_size_id
) AS s ON true
LEFT JOIN product_color AS c ON c.product_color_id = s.product_color_id
LEFT JOIN product_size AS z ON z.product_size_id = s.product_size_id
WHERE p.product_id = $1
ORDER BY c.product_color_id, z.product_size_id"""

_SKUS = """\
SELECT s.sku_id, c.product_color_name AS color_name, z.product_size_name AS size_name
FROM sku AS s
JOIN product_color AS c ON c.product_color_id = s.product_color_id
JOIN product_size AS z ON z.product_size_id = s.product_size_id
WHERE s.product_id = $1 AND s.sku_id {beyond} $2
    AND ($3::integer IS NULL OR s.product_color_id = $3) AND ($4::integer IS NULL OR s.product_size_id = $4)
ORDER BY s.sku_id {direction}
LIMIT $5"""


def _both_ways(query: str, **values: object) -> tuple[str, str]:
    """Return the query for the page after a key, and the one for the page before it, whose rows come backwards."""
    return (
        query.format(beyond=">", direction="ASC", **values),
        query.format(beyond="<", direction="DESC", **values),
    )


_BRANDS_AFTER, _BRANDS_BEFORE = _both_ways(_BRANDS, most=MOST_COUNTED + 1)
_BRANDS_FIRST = _BRANDS_AFTER.replace("WHERE b.brand_name > $2\n", "")
_BRAND_AFTER, _BRAND_BEFORE = _both_ways(_BRAND)
_SKUS_AFTER, _SKUS_BEFORE = _both_ways(_SKUS)


async def list_brands(
    executor: Executor, *, after: str | None = None, before: str | None = None, limit: int = BRANDS_A_PAGE
) -> Page[BrandEntry, str]:
    """Return a page of the brands in the order of their names: after a name, before a name, or the first.

    Raises UsageError if both names are given, or if the limit is less than 1.
    """
    _check(after, before, limit)
    if before is not None:
        rows = await executor.fetch(_BRANDS_BEFORE, limit + 1, before, row=BrandEntry)
    elif after is not None:
        rows = await executor.fetch(_BRANDS_AFTER, limit + 1, after, row=BrandEntry)
    else:
        rows = await executor.fetch(_BRANDS_FIRST, limit + 1, row=BrandEntry)
    items, more = _in_order(rows, limit, backwards=before is not None)
    has_previous, has_next = _neighbours(after, before, more=more)
    return Page(
        items,
        previous=items[0].brand_name if items and has_previous else None,
        next=items[-1].brand_name if items and has_next else None,
    )


async def find_brand(
    executor: Executor,
    brand_id: int,
    *,
    after: int | None = None,
    before: int | None = None,
    limit: int = PRODUCTS_A_PAGE,
) -> tuple[Brand, Page[ProductEntry, int]] | None:
    """Return a brand and a page of its products in the order of their ids, or None if there is no such brand.

    Raises UsageError if both `after` and `before` are given, or if the limit is less than 1.
    """
    _check(after, before, limit)
    if not 1 <= brand_id <= MAX_ID:
        return None
    query, key = _query_and_key(_BRAND_AFTER, _BRAND_BEFORE, after, before)
    brand = await executor.fetchrow(query, brand_id, key, limit + 1, row=Brand)
    if brand is None:
        return None
    items, more = _in_order(brand.products, limit, backwards=before is not None)
    has_previous, has_next = _neighbours(after, before, more=more)
    return brand, Page(
        items,
        previous=items[0].product_id if items and has_previous else None,
        next=items[-1].product_id if items and has_next else None,
    )


async def find_product(executor: Executor, product_id: int) -> Product | None:
    """Return a product with the number of its SKUs by colour and size, or None if there is no such product."""
    if not 1 <= product_id <= MAX_ID:
        return None
    return await executor.fetchrow(_PRODUCT, product_id, row=Product)


async def list_skus(
    executor: Executor,
    product_id: int,
    *,
    color_id: int | None = None,
    size_id: int | None = None,
    after: int | None = None,
    before: int | None = None,
    limit: int = SKUS_A_PAGE,
) -> Page[Sku, int]:
    """Return a page of the SKUs of a product in the order of their ids, all or those of a colour and a size.

    The page of an unknown product is empty. Raises UsageError if both `after` and `before` are given, or if the limit
    is less than 1.
    """
    _check(after, before, limit)
    if not all(each is None or 1 <= each <= MAX_ID for each in (product_id, color_id, size_id)):
        return Page([], previous=None, next=None)
    query, key = _query_and_key(_SKUS_AFTER, _SKUS_BEFORE, after, before)
    rows = await executor.fetch(query, product_id, key, color_id, size_id, limit + 1, row=Sku)
    items, more = _in_order(rows, limit, backwards=before is not None)
    has_previous, has_next = _neighbours(after, before, more=more)
    return Page(
        items,
        previous=items[0].sku_id if items and has_previous else None,
        next=items[-1].sku_id if items and has_next else None,
    )


def _check(after: object, before: object, limit: int) -> None:
    if after is not None and before is not None:
        raise UsageError(f"a page begins after a key or ends before one: got after={after!r} and before={before!r}")
    if limit < 1:
        raise UsageError(f"a page has at least 1 row, got limit={limit}")


def _query_and_key(ascending: str, descending: str, after: int | None, before: int | None) -> tuple[str, int]:
    """Return the query for a page and its key, which is brought into the range of the column."""
    if before is not None:
        return descending, max(0, min(before, MAX_ID))
    return ascending, max(0, min(after or 0, MAX_ID))


def _in_order(rows: list[T], limit: int, *, backwards: bool) -> tuple[list[T], bool]:
    """Return the rows of a page in their order, and whether there are more in the direction that was asked for.

    One row more than the page has is fetched to know that.
    """
    items = rows[:limit]
    return (items[::-1] if backwards else items), len(rows) > limit


def _neighbours(after: object, before: object, *, more: bool) -> tuple[bool, bool]:
    """Return whether a page has a previous one, and whether it has a next one."""
    if before is not None:
        return more, True
    return after is not None, more
