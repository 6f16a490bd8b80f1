"""Find the database that a DSN names, connect to it, and create it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import headrace
from storefront.errors import UsageError

DATABASE = "products"
"""The database that is used if a DSN names none."""

MAINTENANCE_DATABASE = "postgres"
"""The database that every server has. It is connected to in order to create another one."""

POOL_SIZE = 6
"""The number of connections in a pool, unless the user asks for another."""

_DATABASE_PARAMETERS = ("dbname", "database")


def named_database(dsn: str) -> str | None:
    """Return the database that a DSN names in its path or as a parameter, or None if it names none.

    Raises UsageError if the DSN is not a postgresql:// URI. The message does not repeat the DSN, which may contain a
    password.
    """
    try:
        parts = urlsplit(dsn)
    except ValueError as error:
        raise UsageError(f"--dsn is not a URI: {error}") from error
    if parts.scheme not in ("postgresql", "postgres"):
        raise UsageError("--dsn expects a URI such as postgresql://user@host:5432/products")
    if name := unquote(parts.path.removeprefix("/")):
        return name
    given = dict(parameters(dsn))
    return next((given[key] for key in _DATABASE_PARAMETERS if given.get(key)), None)


def parameters(dsn: str) -> list[tuple[str, str]]:
    """Return the parameters of a DSN. A plus sign is itself, and not a space as in a web form."""
    return parse_qsl(urlsplit(dsn).query.replace("+", "%2B"))


def with_database(dsn: str, database: str) -> str:
    """Return the DSN with `database` in place of the database that it names."""
    parts = urlsplit(dsn)
    query = [(key, value) for key, value in parameters(dsn) if key not in _DATABASE_PARAMETERS]
    rebuilt = f"{parts.scheme}://{parts.netloc}/{quote(database, safe='')}"
    return f"{rebuilt}?{urlencode(query, quote_via=quote)}" if query else rebuilt


def complete(dsn: str) -> str:
    """Return the DSN, with the storefront's database added if it names none."""
    return dsn if named_database(dsn) else with_database(dsn, DATABASE)


@asynccontextmanager
async def open_connection(dsn: str) -> AsyncIterator[headrace.Connection]:
    """Open a connection for the time of a `with` block. It is closed at the end, or terminated if the block fails."""
    connection = await headrace.connect(dsn)
    try:
        yield connection
    except BaseException:
        connection.terminate()
        raise
    await connection.close()


async def create_database(dsn: str) -> str | None:
    """Create the database that `dsn` names. Return the status of the statement, or None if the database exists."""
    try:
        existing = await headrace.connect(dsn)
    except headrace.InvalidCatalogNameError:
        pass
    else:
        await existing.close()
        return None
    name = (named_database(dsn) or DATABASE).replace('"', '""')
    async with open_connection(with_database(dsn, MAINTENANCE_DATABASE)) as maintenance:
        try:
            status: str = await maintenance.execute(f'CREATE DATABASE "{name}"')
        except (headrace.DuplicateDatabaseError, headrace.UniqueViolationError):
            # Another program has just created it. If both do so at once, the name is found to be taken in the index.
            return None
    return status
