"""Types by name: their OIDs, which the server is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace._core.codecs.type_names import builtin_oid, catalogue_name
from headrace._core.codecs.typemap import (
    IDENTITY_COLUMNS,
    IDENTITY_QUERY,
    INTROSPECTION_COLUMNS,
    INTROSPECTION_QUERY,
    TYPE_BY_NAME,
)
from headrace._core.pipeline.prepare import own_statement
from headrace._core.rows.record import Record
from headrace._io.driver import KIND_ROWS, KIND_VALUE
from headrace.exceptions import PostgresError

if TYPE_CHECKING:
    from headrace._io.driver import Driver

NAME, OID, OIDS = 19, 26, 1028

SCHEMAS = """\
SELECT n.nspname FROM pg_catalog.pg_type AS t JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
WHERE t.typname = $1 ORDER BY n.nspname LIMIT 3"""
"""The schemas that have a type of a name."""


async def type_oid(driver: Driver, typename: str, schema: str, timeout: float | None) -> int:
    """Return the OID of a type, and have the session's type map know the type.

    The server is asked only for types that are not built in; each question may take `timeout` seconds. Raises
    ValueError for an unknown type.
    """
    known = builtin_oid(typename) if schema == "pg_catalog" else None
    if known is not None:
        return known
    question = own_statement(TYPE_BY_NAME, (NAME, NAME), [("oid", OID)])
    names = (catalogue_name(typename, schema), schema)
    request = driver.execute_statement(question, names, KIND_VALUE, 1, 0, Record)
    types = driver.session.types
    if types.unidentified:
        # Both questions are sent together.
        question = own_statement(IDENTITY_QUERY, (), IDENTITY_COLUMNS)
        identity = driver.execute_statement(question, (), KIND_ROWS, 0, 0, Record)
        oid = await driver.reply(request, timeout)
        try:
            types.identify(await driver.reply(identity, timeout))
        except PostgresError:
            types.stay_alone()
    else:
        oid = await driver.reply(request, timeout)
    if oid is None:
        raise ValueError(f"unknown type: {schema}.{typename}{await _elsewhere(driver, typename, timeout)}")
    missing = types.missing([oid])
    if missing:
        question = own_statement(INTROSPECTION_QUERY, (OIDS,), INTROSPECTION_COLUMNS)
        request = driver.execute_statement(question, (missing,), KIND_ROWS, 0, 0, Record)
        types.learn(missing, await driver.reply(request, timeout))
    return oid  # type: ignore[no-any-return]


async def _elsewhere(driver: Driver, typename: str, timeout: float | None) -> str:
    """Return where a type is that is not in the schema that was named, for the text of an error; "" if nowhere."""
    if builtin_oid(typename) is not None:
        schemas = ["pg_catalog"]
    else:
        question = own_statement(SCHEMAS, (NAME,), [("schema", NAME)])
        request = driver.execute_statement(question, (typename,), KIND_ROWS, 0, 0, Record)
        schemas = [schema for (schema,) in await driver.reply(request, timeout)]
    return "".join(f"; there is {schema}.{typename}: pass schema={schema!r}" for schema in schemas)
