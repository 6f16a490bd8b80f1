"""The last chapter of the demo: the service, a partner's batch and a page for a browser."""

from __future__ import annotations

import asyncio
from typing import Final

import headrace
from storefront import partners, service, visit
from storefront.database import open_connection
from storefront.service_schema import create_service_tables
from storefront.tour import Tour
from storefront.wording import counted

PARTNER: Final = "Fir & Fern (demo)"
"""The partner whose batch is sent. It is removed at the end, and at the start in case a demo was interrupted."""

BATCH_IDS: Final = 1_000


async def visit_service(tour: Tour) -> None:
    """Run the service for a moment, send a batch as a partner does, and fetch a page as a browser does.

    Without the libraries of the service the chapter says so, and does nothing. The service is stopped at the end, also
    after an error or a cancellation. Raises the driver's errors, and StorefrontError if the service cannot be reached.
    """
    tour.heading("The service", "`storefront serve` runs for a moment, for a partner's program and a browser.")
    if missing := service.missing_library():
        tour.quote(f"It needs {missing}, which is not installed: pip install 'storefront[serve]'")
        return
    from storefront.service.server import running
    from storefront.service.settings import ServiceSettings

    async with open_connection(tour.dsn) as connection:
        await create_service_tables(connection)
        await partners.remove_partner(connection, PARTNER)
        try:
            # Without workers, the jobs of other partners are left alone.
            async with running(ServiceSettings(tour.dsn, port=0, workers=0)) as address:
                tour.say(f"It listens on {address}.")
                await _send_batch(tour, connection, address)
                await _fetch_page(tour, connection, address)
        finally:
            if not connection.is_closed():
                await partners.remove_partner(connection, PARTNER)
    tour.say("The service is stopped, and the partner and its key are removed.")


async def _send_batch(tour: Tour, connection: headrace.Connection, address: str) -> None:
    key = (await partners.add_partner(connection, PARTNER)).key
    first = await _first_product(connection) or 1
    last = first + BATCH_IDS - 1
    tour.say(f"The partner {PARTNER} has got a key, and sends a batch of {BATCH_IDS:,} ids:")
    tour.quote("", f"KEY={key}", *visit.batch_command(address, first, last), "")
    answer = await asyncio.to_thread(visit.send_batch, address, key, first, last)
    tour.say("It is answered by a line for each SKU, and the counts (names are shortened):")
    tour.quote("")
    for line in answer.lines[:2]:
        tour.quote(*visit.pretty(line))
    tour.quote("...", *visit.pretty(answer.last), "")
    skus, products = answer.counts["skus"], answer.counts["products"]
    tour.say(f"{counted(skus, 'SKU')} of {counted(products, 'product')} came in {answer.seconds:.2f} s.")


async def _fetch_page(tour: Tour, connection: headrace.Connection, address: str) -> None:
    product_id = await _first_product(connection)
    path = "/" if product_id is None else f"/products/{product_id}"
    title = await asyncio.to_thread(visit.page_title, address, path)
    tour.say(f"A browser gets pages. {address}{path} has the title:")
    # The title of a page has letters that an older terminal may lack.
    encoding = tour.console.encoding
    tour.say(f'"{title}"'.encode(encoding, "replace").decode(encoding))


async def _first_product(connection: headrace.Connection) -> int | None:
    first: int | None = await connection.fetchval("SELECT min(product_id) FROM product")
    return first
