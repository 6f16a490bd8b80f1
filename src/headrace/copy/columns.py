"""The columns that rows are copied into, with their types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace._core.pipeline.copy import RowEncoder
from headrace._core.pipeline.prepare import own_statement
from headrace._core.rows.record import Record
from headrace._io.driver import KIND_ROWS
from headrace._sql.hints.names import copied_table
from headrace._sql.hints.tokens import significant
from headrace.copy.command import Names, column_list
from headrace.exceptions import UndefinedTableError

if TYPE_CHECKING:
    from headrace._core.pipeline.statement_cache import Statement
    from headrace._io.driver import Driver

ATTRIBUTES = """\
SELECT a.attname::pg_catalog.text, a.atttypid, a.attgenerated <> '' FROM pg_catalog.pg_attribute AS a
WHERE a.attrelid = pg_catalog.to_regclass($1::pg_catalog.text) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum"""
BOOL, TEXT, OID = 16, 25, 26


async def encoder(driver: Driver, table: str, columns: Names, timeout: float | None) -> tuple[RowEncoder, Names]:
    """Return an encoder of rows for columns of a table, and the columns to name in the COPY.

    If `columns` is None or empty, these are all columns except the generated ones, which nothing can be copied into.
    The server is asked for each COPY: if a table was altered, binary values of one type could pass for another's.
    """
    if columns is not None:
        columns = list(columns) or None
    wanted = "" if columns is None else column_list(columns)
    question = own_statement(ATTRIBUTES, (TEXT,), [("name", TEXT), ("type", OID), ("computed", BOOL)])
    request = driver.execute_statement(question, (table,), KIND_ROWS, 0, 0, Record)
    types = {}
    computed = False
    for name, oid, is_computed in await driver.reply(request, timeout):
        computed = computed or is_computed
        if columns is not None or not is_computed:
            types[name] = oid
    if columns is None:
        names = list(types)
        if computed:
            columns = names
        wanted = column_list(names) if names else ""
    else:
        names = columns
    if not types or any(name not in types for name in names) or driver.session.types.missing(list(types.values())):
        # The server reports what is wrong with a name. Preparing also looks up types that are not known yet.
        try:
            await prepared(driver, f"SELECT {wanted or '*'} FROM {table}", timeout)
        except UndefinedTableError as error:
            error.hint = copied_table(significant(table)) or error.hint
            raise
    return RowEncoder(driver.session.types, names, [types[name] for name in names], table), columns


async def prepared(driver: Driver, query: str, timeout: float | None) -> Statement:
    """Return a statement for the query, described by the server and not shared."""
    # It is unnamed, so it takes no place in the cache, and nothing has to be closed.
    statement = driver.session.statement(query, named=False)
    await driver.reply(driver.prepare(statement), timeout)
    return statement
