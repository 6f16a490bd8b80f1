"""Names that programs import from `asyncpg.utils`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from headrace._sql.lexer import Kind, tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.connection import Connection


def _quote_ident(ident: str) -> str:
    """Return the identifier quoted for SQL."""
    return '"{}"'.format(ident.replace('"', '""'))


def _quote_literal(string: str) -> str:
    """Return the text as an SQL string constant that is right with standard_conforming_strings on or off."""
    quoted = "'{}'".format(re.sub(r"(['\\])", r"\1\1", string))
    return f" E{quoted}" if "\\" in string else quoted


async def _mogrify(conn: Connection, query: str, args: Sequence[Any]) -> str:
    """Return the query with a constant in place of each parameter, such as `'7'` for `$1`.

    The server is asked for the types of the parameters and for the text of each value. An error of these two queries is
    raised unchanged, as is the error for an argument that does not fit.
    """
    statement = await conn.prepare(query)
    columns = []
    for number, type_ in enumerate(statement.get_parameters(), 1):
        name = f"_{type_.name[:-2]}" if type_.name.endswith("[]") else type_.name
        cast = f"{_quote_ident(type_.schema)}.{_quote_ident(name)}"
        columns.append(f"pg_catalog.quote_nullable(${number}::{cast}::pg_catalog.text)")
    constants: Any = await conn.fetchrow(f"SELECT {', '.join(columns)}", *args)
    return "".join(
        constants[int(token.text[1:]) - 1] if token.kind is Kind.PARAMETER else token.text for token in tokens(query)
    )
