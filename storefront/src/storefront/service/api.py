"""The addresses below /v1, for partners' programs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel

from storefront.catalogue import MAX_ID, MAX_WHOLE_NUMBER, PAGE, first_page
from storefront.service.authentication import PartnerDependency
from storefront.service.problems import ProblemError
from storefront.service.service import ServiceDependency

router = APIRouter(prefix="/v1", tags=["partner"])


class Sku(BaseModel):
    """A stock keeping unit of a product."""

    sku_id: int
    product_color_name: str
    product_size_name: str


class ProductSkus(BaseModel):
    """A product with its SKUs, ordered by sku_id."""

    product_id: int
    product_name: str
    brand_id: int
    skus: list[Sku]


@router.get("/products/{product_id}/skus")
async def product_skus(
    product_id: Annotated[int, Path(ge=1, le=MAX_WHOLE_NUMBER)],
    service: ServiceDependency,
    partner: PartnerDependency,
) -> ProductSkus:
    """Return the SKUs of a product."""
    rows = await first_page(service.pool, product_id, page=PAGE) if product_id <= MAX_ID else []
    if not rows:
        raise ProblemError(404, "Unknown product", f"no product has the id {product_id}", product_id=product_id)
    first = rows[0]
    return ProductSkus(
        product_id=first[0],
        product_name=first[1],
        brand_id=first[2],
        skus=[
            Sku(sku_id=row[3], product_color_name=row[4], product_size_name=row[5])
            for row in rows
            if row[3] is not None
        ],
    )
