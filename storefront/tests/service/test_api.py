"""The addresses below /v1."""

from __future__ import annotations

from httpx import AsyncClient


async def test_a_product_is_looked_up(client: AsyncClient) -> None:
    answer = await client.get("/v1/products/1/skus")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["product_id"], len(body["product_name"].split()), body["brand_id"]) == (1, 10, body["brand_id"])
    assert {sku["product_color_name"] for sku in body["skus"]} == {"Blue", "Black"}


async def test_an_unknown_product_is_a_problem(client: AsyncClient) -> None:
    answer = await client.get("/v1/products/999/skus")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert answer.json() == {
        "type": "urn:storefront:problem:unknown-product",
        "title": "Unknown product",
        "status": 404,
        "detail": "no product has the id 999",
        "product_id": 999,
    }
