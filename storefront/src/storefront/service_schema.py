"""The tables that the web service needs beside those of the catalogue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import headrace
from storefront.jobs import JOB_TABLES
from storefront.partners import PARTNER_TABLES

SERVICE_TABLES: Final = (*PARTNER_TABLES, *JOB_TABLES)

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('storefront service tables'))"


async def create_service_tables(
    connection: headrace.Connection, report: Callable[[str, str], None] = lambda statement, status: None
) -> None:
    """Create the tables of the service that are missing, all or none. Two programs may do so at the same time.

    `report` is called with each statement and its status as soon as the statement is done.
    """
    async with connection.transaction():
        # CREATE TABLE IF NOT EXISTS of two sessions at once may fail: both find no table, and one of them is late.
        await connection.execute(_LOCK)
        for statement in SERVICE_TABLES:
            report(statement, await connection.execute(statement))
