"""Arguments of a query that COPY runs: COPY takes no parameters, so they become constants in its text.

The server writes the constants. It receives the arguments as parameters of the types that the query needs, and returns
the text form of each, quoted. So nothing depends on how this driver would write a value, and a value is always a
constant, whatever text surrounds the parameter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace._core.pipeline.prepare import own_statement
from headrace._core.rows.record import Record
from headrace._io.driver import KIND_FIRST_ROW, KIND_ROWS
from headrace._sql.lexer import Kind, tokens
from headrace.exceptions import InterfaceError

if TYPE_CHECKING:
    from headrace._client.interface import ConnectionInterface
    from headrace._core.pipeline.statement_cache import Statement

# With a modifier of -1 the names are exact: without one, "character" and "bit" would mean one character or bit.
TYPE_NAMES = """\
SELECT pg_catalog.format_type(t.oid, -1)
FROM pg_catalog.unnest($1::pg_catalog.oid[]) WITH ORDINALITY AS t (oid, n) ORDER BY t.n"""
TEXT, OIDS = 25, 1028


async def with_constants(
    connection: ConnectionInterface, query: str, statement: Statement, args: tuple[Any, ...], timeout: float | None
) -> str:
    """Return the query with its parameters replaced by constants; `statement` is the prepared query.

    Raises InterfaceError for a wrong number of arguments, ArgumentError for one of a wrong type.
    """
    oids = statement.parameter_oids
    if len(args) != len(oids):
        raise InterfaceError(
            f"the server expects {len(oids)} argument{'' if len(oids) == 1 else 's'} for this query, "
            f"{len(args)} {'was' if len(args) == 1 else 'were'} passed",
            hint="Pass one argument for each of $1, $2, ... in the query.",
        )
    if not oids:
        return query
    driver = connection._driver
    question = own_statement(TYPE_NAMES, (OIDS,), [("name", TEXT)])
    request = driver.execute_statement(question, (list(oids),), KIND_ROWS, 0, 0, Record)
    types = [name for (name,) in await driver.reply(request, timeout)]
    columns = ", ".join(f"pg_catalog.format('%L', ${i}::{name})" for i, name in enumerate(types, 1))
    question = own_statement(f"SELECT {columns}", oids, [("constant", TEXT) for _ in oids], driver.session.types)
    request = driver.execute_statement(question, args, KIND_FIRST_ROW, 1, 0, Record)
    texts = await driver.reply(request, timeout)
    # The parentheses protect a constant from a minus before it or a subscript after it.
    constants = [f"({text}::{name})" for text, name in zip(texts, types, strict=True)]
    return "".join(
        constants[int(token.text[1:]) - 1] if token.kind is Kind.PARAMETER else token.text
        for token in tokens(query, standard_conforming_strings=standard_strings(connection))
    )


def standard_strings(connection: ConnectionInterface) -> bool:
    """Return the session's standard_conforming_strings, which the server reports whenever it changes."""
    return connection._driver.session.parameters.get("standard_conforming_strings", "on") == "on"
