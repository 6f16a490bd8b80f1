"""The catalogue: search, brands, and products with their colours and sizes. Everybody may see it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from storefront.browse import find_brand, find_product, list_brands, list_skus
from storefront.errors import UsageError
from storefront.searching import search
from storefront.service.pages.forms import id_of, in_time, name_of, not_found, number_of
from storefront.service.pages.rendering import address, render
from storefront.service.pages.session import VisitorDependency
from storefront.service.service import ServiceDependency

router = APIRouter()

HOME_BRANDS = 24
"""The number of brands on the first page."""

RESULTS_A_PAGE = 20
MOST_RESULTS = 1_000
"""The number of results that can be leafed through. A search for more words leads further."""


@router.get("/")
async def home(request: Request, service: ServiceDependency, visitor: VisitorDependency) -> Response:
    """Show the form for a search, and some brands."""
    async with in_time(service):
        brands = await list_brands(service.reads, limit=HOME_BRANDS)
    return render(request, "home.html", brands=brands.items, more_brands=brands.next is not None)


@router.get("/search")
async def results(
    request: Request, service: ServiceDependency, visitor: VisitorDependency, q: str = "", offset: str | None = None
) -> Response:
    """Show the products that match a text, and the product that has it as its id."""
    q = q.replace("\0", "\N{REPLACEMENT CHARACTER}")
    skipped = min(number_of(offset) or 0, MOST_RESULTS)
    found, problem, by_id = [], None, None
    text = q.strip()
    async with in_time(service):
        if text.isascii() and text.isdecimal() and len(text) <= 10 and not skipped:
            by_id = await find_product(service.reads, int(text))
        try:
            found = await search(service.reads, q, limit=RESULTS_A_PAGE + 1, offset=skipped)
        except UsageError as error:
            problem = str(error)[:1].upper() + str(error)[1:] + "."
    further = skipped + RESULTS_A_PAGE
    has_more = len(found) > RESULTS_A_PAGE and further < MOST_RESULTS
    back = max(skipped - RESULTS_A_PAGE, 0)
    return render(
        request,
        "search.html",
        section="/",
        text=q,
        problem=problem,
        by_id=by_id,
        found=found[:RESULTS_A_PAGE],
        similar=bool(found) and found[0]["similar"],
        offset=skipped,
        previous=address("/search", q=q, offset=back or None) if skipped else None,
        next=address("/search", q=q, offset=further) if has_more else None,
    )


@router.get("/brands")
async def brands(
    request: Request,
    service: ServiceDependency,
    visitor: VisitorDependency,
    after: str | None = None,
    before: str | None = None,
) -> Response:
    """Show a page of the brands, by name."""
    after, before = name_of(after), name_of(before)
    async with in_time(service):
        page = await list_brands(service.reads, after=None if before is not None else after, before=before)
    return render(
        request,
        "brands.html",
        brands=page.items,
        previous=None if page.previous is None else address("/brands", before=page.previous),
        next=None if page.next is None else address("/brands", after=page.next),
    )


@router.get("/brands/{brand}")
async def brand_page(
    request: Request,
    service: ServiceDependency,
    visitor: VisitorDependency,
    brand: str,
    after: str | None = None,
    before: str | None = None,
) -> Response:
    """Show a brand with a page of its products."""
    brand_id, start, end = id_of(brand), number_of(after), number_of(before)
    async with in_time(service):
        found = await find_brand(service.reads, brand_id, after=None if end is not None else start, before=end)
    if found is None:
        raise not_found(f"no brand has the id {brand_id}")
    path = f"/brands/{brand_id}"
    return render(
        request,
        "brand.html",
        section="/brands",
        brand=found[0],
        products=found[1].items,
        paged=start is not None or end is not None,
        previous=None if found[1].previous is None else address(path, before=found[1].previous),
        next=None if found[1].next is None else address(path, after=found[1].next),
    )


@router.get("/products/{product}")
async def product_page(
    request: Request,
    service: ServiceDependency,
    visitor: VisitorDependency,
    product: str,
    color: str | None = None,
    size: str | None = None,
    after: str | None = None,
    before: str | None = None,
) -> Response:
    """Show a product: how many SKUs it has of each colour and size, and a page of the SKUs."""
    product_id, color_id, size_id = id_of(product), number_of(color), number_of(size)
    start, end = number_of(after), number_of(before)
    async with in_time(service):
        found = await find_product(service.reads, product_id)
        if found is None:
            raise not_found(f"no product has the id {product_id}")
        page = await list_skus(
            service.reads,
            product_id,
            color_id=color_id,
            size_id=size_id,
            after=None if end is not None else start,
            before=end,
        )
    chosen = [found.colors.get(color_id or 0), found.sizes.get(size_id or 0)]
    path, same = f"/products/{product_id}", {"color": color_id, "size": size_id}
    return render(
        request,
        "product.html",
        section="/brands",
        product=found,
        skus=page.items,
        chosen=(color_id, size_id),
        selection=", ".join(name for name in chosen if name),
        previous=None if page.previous is None else address(path, **same, before=page.previous) + "#skus",
        next=None if page.next is None else address(path, **same, after=page.next) + "#skus",
    )
