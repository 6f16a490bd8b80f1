"""Types by name: their OIDs, which the server is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
from headrace.exceptions import PostgresError, UnsupportedServerFeatureError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headrace._core.pipeline.requests import Request
    from headrace._io.driver import Driver

BOOL, NAME, NAMES, OID, OIDS = 16, 19, 1003, 26, 1028

SCHEMAS = """\
SELECT n.nspname FROM pg_catalog.pg_type AS t JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
WHERE t.typname = $1 ORDER BY n.nspname LIMIT 3"""
"""The schemas that have a type of a name."""

EXTENSION_TYPES = """\
SELECT t.typname, t.oid
FROM pg_catalog.pg_extension AS e
LEFT JOIN pg_catalog.pg_depend AS d ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
    AND d.refobjid = e.oid AND d.deptype = 'e' AND d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass
LEFT JOIN pg_catalog.pg_type AS t ON t.oid = d.objid AND t.typname = ANY ($2)
WHERE e.extname = $1"""
"""The types $2 of the extension $1 with their OIDs, whatever schema they are in; no row if it is not installed.

Source: PostgreSQL documentation, "System Catalogs", pg_extension and pg_depend.
"""

IS_AVAILABLE = """\
SELECT pg_catalog.current_database(), pg_catalog.count(*) > 0
FROM pg_catalog.pg_available_extensions AS a WHERE a.name = $1"""
"""The name of the database, and whether the server has the files of the extension $1."""


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
    oid = await _answer(driver, driver.execute_statement(question, names, KIND_VALUE, 1, 0, Record), timeout)
    if oid is None:
        raise ValueError(f"unknown type: {schema}.{typename}{await _elsewhere(driver, typename, timeout)}")
    await learn_types(driver, [oid], timeout)
    return oid  # type: ignore[no-any-return]


async def _answer(driver: Driver, request: Request, timeout: float | None) -> Any:
    """Return the result of a question that has just been asked. The server is identified first, if that is due."""
    types = driver.session.types
    if not types.unidentified:
        return await driver.reply(request, timeout)
    # Both questions are sent together.
    question = own_statement(IDENTITY_QUERY, (), IDENTITY_COLUMNS)
    identity = driver.execute_statement(question, (), KIND_ROWS, 0, 0, Record)
    result = await driver.reply(request, timeout)
    try:
        types.identify(await driver.reply(identity, timeout))
    except PostgresError:
        types.stay_alone()
    return result


async def learn_types(driver: Driver, oids: Sequence[int], timeout: float | None) -> None:
    """Have the session's type map know these types. The server is asked for those that are not known yet."""
    types = driver.session.types
    missing = types.missing(oids)
    if missing:
        question = own_statement(INTROSPECTION_QUERY, (OIDS,), INTROSPECTION_COLUMNS)
        request = driver.execute_statement(question, (missing,), KIND_ROWS, 0, 0, Record)
        types.learn(missing, await driver.reply(request, timeout))


async def extension_types(
    driver: Driver, extension: str, typenames: Iterable[str], timeout: float | None
) -> dict[str, int]:
    """Return the OIDs of those types that the extension has, and have the session's type map know them.

    Each question to the server may take `timeout` seconds. Raises UnsupportedServerFeatureError if the extension is not
    installed in the database.
    """
    question = own_statement(EXTENSION_TYPES, (NAME, NAMES), [("typname", NAME), ("oid", OID)])
    request = driver.execute_statement(question, (extension, list(typenames)), KIND_ROWS, 0, 0, Record)
    rows = await _answer(driver, request, timeout)
    if not rows:
        raise await _not_installed(driver, extension, timeout)
    found = {name: oid for name, oid in rows if name is not None}
    await learn_types(driver, list(found.values()), timeout)
    return found


async def _not_installed(driver: Driver, extension: str, timeout: float | None) -> UnsupportedServerFeatureError:
    """Return the error for an extension that a database does not have."""
    question = own_statement(IS_AVAILABLE, (NAME,), [("database", NAME), ("available", BOOL)])
    request = driver.execute_statement(question, (extension,), KIND_ROWS, 0, 0, Record)
    ((database, is_available),) = await driver.reply(request, timeout)
    create = f"run CREATE EXTENSION {extension} in it, as a role that may"
    hint = (
        f"{create[0].upper()}{create[1:]}."
        if is_available
        else f"The server does not have its files: install its package on the server's machine, and {create}."
    )
    return UnsupportedServerFeatureError(
        f"the extension {extension} is not installed in the database {database}", hint=hint
    )


async def _elsewhere(driver: Driver, typename: str, timeout: float | None) -> str:
    """Return where a type is that is not in the schema that was named, for the text of an error; "" if nowhere."""
    if builtin_oid(typename) is not None:
        schemas = ["pg_catalog"]
    else:
        question = own_statement(SCHEMAS, (NAME,), [("schema", NAME)])
        request = driver.execute_statement(question, (typename,), KIND_ROWS, 0, 0, Record)
        schemas = [schema for (schema,) in await driver.reply(request, timeout)]
    return "".join(f"; there is {schema}.{typename}: pass schema={schema!r}" for schema in schemas)
