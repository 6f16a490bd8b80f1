"""The columns that rows are copied into, with their types.

The server is asked for each COPY: if a table was altered, binary values of one type could pass for another's. The
question costs no round trip if the COPY can be sent along with it, see `begin_at_once()`.

The question locks the table, so it waits for an ALTER TABLE that another session has under way, and in a transaction
block nobody can alter the table before the COPY.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from headrace._client.introspection import learn_types
from headrace._core.pipeline.prepare import own_statement
from headrace._core.rows.record import Record
from headrace._io.driver import KIND_ROWS
from headrace._sql.hints.names import copied_table
from headrace._sql.hints.tokens import significant
from headrace.copy import command
from headrace.copy.arguments import standard_strings
from headrace.copy.transfer import Upload
from headrace.exceptions import PostgresError, UndefinedColumnError, UndefinedTableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from headrace._client.interface import ConnectionInterface
    from headrace._core.codecs.typemap import TypeMap
    from headrace._core.pipeline.requests import Query
    from headrace._core.pipeline.statement_cache import Statement
    from headrace._io.driver import Driver

LOCKED = "WITH locked AS (SELECT 1 FROM {})\n"
"""A part of the question: it locks the table (ACCESS SHARE) when it is parsed.

Nothing refers to it, so it is not planned, and no right to read the table is needed.
"""

ATTRIBUTES = """\
SELECT a.attname::pg_catalog.text, a.atttypid, a.attgenerated <> '' FROM pg_catalog.pg_attribute AS a
WHERE a.attrelid = pg_catalog.to_regclass($1::pg_catalog.text) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum"""
BOOL, TEXT, OID = 16, 25, 26

BINARY: dict[str, object] = {"format": "binary"}
AS_TEXT: dict[str, object] = {"format": "text"}


class Encoder(Protocol):
    """An encoder of the rows of a COPY."""

    @property
    def binary(self) -> bool:
        """True if the rows are in COPY's binary format, False if they are in its text format."""


E = TypeVar("E", bound=Encoder)
if TYPE_CHECKING:
    MakeEncoder = Callable[[TypeMap, list[str], list[int], str], E]

MOST_SHOWN = 50
"""Columns that a hint lists."""

MOST_KNOWN = 1000
"""The COPYs that a connection remembers to have run in the text format."""


async def encoder(
    driver: Driver, table: str, columns: list[str] | None, timeout: float | None, make: MakeEncoder[E]
) -> tuple[E, list[str] | None]:
    """Return an encoder for columns of a table, and the columns to name in the COPY.

    If `columns` is None, these are all columns except the generated ones, which nothing can be copied into. `make` is
    called with the types of the connection, the names and types of the columns, and the table.
    """
    try:
        with explaining_names(table, []):
            attributes = await driver.reply(_question(driver, table), timeout, False)
    except PostgresError as error:
        if driver.observer is not None:
            driver.observer.refused(command.from_stdin(table, columns, {}, None, True), (), error, "copy")
        raise
    types = _types(attributes, columns)
    wanted = "" if columns is None else command.column_list(columns)
    if columns is None:
        names = list(types)
        if len(types) < len(attributes):
            columns = names
        wanted = command.column_list(names) if names else ""
    else:
        names = columns
    oids = [types[name] for name in names if name in types]
    if not types or len(oids) < len(names) or driver.session.types.missing(oids):
        # The server reports what is wrong with a name. Preparing also looks up types that are not known yet.
        try:
            with explaining_names(table, list(types)):
                await prepared(driver, f"SELECT {wanted or '*'} FROM {table}", timeout)
        except PostgresError as error:
            if driver.observer is not None:
                driver.observer.refused(command.from_stdin(table, columns, {}, None, True), (), error, "copy")
            raise
        # A description has the base type of a domain, so domains are still missing.
        await learn_types(driver, oids, timeout)
    return make(driver.session.types, names, [types[name] for name in names], table), columns


async def begin_at_once(
    connection: ConnectionInterface, table: str, columns: list[str] | None, where: str | None, make: MakeEncoder[E]
) -> tuple[Upload, E] | None:
    """Send the question about the columns and the COPY together; return the COPY, which has begun, and the encoder.

    Return None if they must not be sent together, or if the COPY cannot be used: a name is wrong, types were not looked
    up yet, or values need the other format. The COPY was ended then. In a transaction block that would fail the
    transaction, and so would an error in the first rows. Behind a pooler each may reach another backend.
    """
    driver = connection._driver
    session = driver.session
    if connection._transactions or connection.is_in_transaction():
        return None
    if session.statements.unnamed or session.types.pooled:
        return None
    strings = standard_strings(connection)
    text = command.from_stdin(table, columns, BINARY, where, strings)
    options = AS_TEXT if text in connection._copied_as_text else BINARY
    question = _question(driver, table)
    try:
        request = driver.copy_in(command.from_stdin(table, columns, options, where, strings))
    except BaseException:
        driver.give_up(question)
        raise
    transfer = Upload(driver, request, None)
    try:
        try:
            types = _types(await driver.reply(question, None, False), columns)
        except PostgresError as error:
            if not _is_about_names(error):
                raise
            types = {}
        names = list(types) if columns is None else columns
        oids = [types[name] for name in names if name in types]
        if oids and len(oids) == len(names) and not session.types.missing(oids):
            found = make(session.types, names, oids, table)
            if encoded_as(found) == options:
                await transfer.begin()
                return transfer, found
            if len(connection._copied_as_text) >= MOST_KNOWN:
                connection._copied_as_text.clear()
            connection._copied_as_text.symmetric_difference_update((text,))
    except BaseException as error:
        transfer.withdraw(error)
        raise
    transfer.discard()
    return None


def listed(columns: command.Names) -> list[str] | None:
    """Return the names as a list; None for no names, which stand for all columns. Raises InterfaceError."""
    if columns is None:
        return None
    names = columns if isinstance(columns, (str, bytes)) else list(columns)
    command.column_list(names)
    return list(names) or None


@contextmanager
def explaining_names(table: str, columns: Sequence[str]) -> Iterator[None]:
    """Add hints to the server's errors about names of a text that the program has not written.

    `table` is a quoted name; `columns` are those that the table has.
    """
    try:
        yield
    except UndefinedTableError as error:
        error.hint = copied_table(significant(table)) or error.hint
        raise
    except UndefinedColumnError as error:
        if columns:
            names = ", ".join(map(repr, columns[:MOST_SHOWN])) + (", ..." if len(columns) > MOST_SHOWN else "")
            error.hint = f"Names are taken as they are, upper and lower case too. The columns are {names}."
        raise


def encoded_as(encoder: Encoder) -> dict[str, object]:
    """Return the options of the COPY for the format of the encoder."""
    return BINARY if encoder.binary else AS_TEXT


def _question(driver: Driver, table: str) -> Query:
    """Queue the question about the columns of a table."""
    text = LOCKED.format(table) + ATTRIBUTES
    question = own_statement(text, (TEXT,), [("name", TEXT), ("type", OID), ("computed", BOOL)])
    return driver.execute_statement(question, (table,), KIND_ROWS, 0, 0, Record)


def _is_about_names(error: PostgresError) -> bool:
    """Return whether the server refuses the name of the table: it is unknown, or the name of something else."""
    return (error.sqlstate or "")[:2] in ("42", "3F")


def _types(attributes: list[Any], columns: list[str] | None) -> dict[str, int]:
    """Return the OIDs of the columns' types by name, without the generated columns unless columns were named."""
    return {name: oid for name, oid, is_computed in attributes if columns is not None or not is_computed}


async def prepared(driver: Driver, query: str, timeout: float | None) -> Statement:
    """Return a statement for the query, described by the server and not shared."""
    # It is unnamed, so it takes no place in the cache, and nothing has to be closed.
    statement = driver.hold(query, named=False)
    await driver.reply(driver.prepare(statement), timeout)
    return statement
