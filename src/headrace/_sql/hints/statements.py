"""Parameters where a statement takes none, and statements that cannot run where they are sent.

Only SELECT, INSERT, UPDATE, DELETE, MERGE and VALUES take parameters, and only in place of values (PostgreSQL
documentation, "PREPARE" and "Positional Parameters").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from headrace._sql.hints.tokens import Refused, keyword
from headrace._sql.lexer import Kind, Token

MISSING_ARGUMENTS: Final = "Pass a value for each of $1, $2, ... behind the query: execute(query, value)."

_TAKE_PARAMETERS: Final = frozenset("SELECT INSERT UPDATE DELETE MERGE VALUES WITH TABLE".split())
_BEFORE_NAMES: Final = frozenset(
    "FROM INTO UPDATE JOIN TABLE DATABASE SCHEMA ROLE USER VIEW INDEX SEQUENCE TYPE EXTENSION COLUMN TRUNCATE ONLY "
    "EXISTS FUNCTION".split()
)
_LITERAL_TYPES: Final = frozenset("DATE TIME TIMETZ TIMESTAMP TIMESTAMPTZ INTERVAL".split())
_PARAMETER: Final = re.compile(r"\$[1-9][0-9]*")
_LONGEST_TEMPLATE: Final = 300


def syntax(refused: Refused) -> str | None:
    """Return a hint for a syntax error at a parameter, or None."""
    found, at = refused.found, refused.at
    if at is None or at == len(found) or found[at].kind is not Kind.PARAMETER:
        return None
    parameter, before, command = found[at].text, keyword(found, at - 1), refused.command
    if command == "SET":
        return _setting(found, at)
    if command == "NOTIFY":
        channel, payload = parameter, "''"
        if at > 1:
            payload, channel = parameter, found[1].text
            channel = f"'{channel.lower()}'" if found[1].kind is Kind.WORD else channel.replace('"', "'")
        return f"NOTIFY takes no parameters. Use the function: SELECT pg_notify({channel}, {payload})."
    if command in ("LISTEN", "UNLISTEN"):
        return "LISTEN takes no parameters. Use connection.add_listener(channel, callback)."
    if command in _TAKE_PARAMETERS:
        if before in _BEFORE_NAMES:
            return (
                "A parameter stands for a value, not for a name. Put the name into the text: "
                f'headrace.sql("... {before} :name", name=headrace.identifier(name)).'
            )
        if before == "VALUES":
            return f"Write one parameter for each value, in parentheses: VALUES ({parameter}, ...)."
        if before in _LITERAL_TYPES:
            return f"Write {parameter}::{before.lower()} in place of {before.lower()} {parameter}."
        return None
    return in_text(refused.query, found, at if before in _BEFORE_NAMES else None)


def _setting(found: Sequence[Token], at: int) -> str | None:
    """Return the hint for a parameter in SET: the function that sets a setting."""
    words = [keyword(found, index) for index in range(1, at)]
    local = words[:1] == ["LOCAL"]
    if words[:1] in (["LOCAL"], ["SESSION"]):
        words = words[1:]
    if words == ["TIME", "ZONE"]:
        name = "TimeZone"
    elif words == ["ROLE"]:
        name = "role"
    else:
        texts = [token.text for token in found[1 + local : at]]
        if texts[:1] and texts[0].upper() == "SESSION":
            texts = texts[1:]
        if texts[-1:] not in (["="], ["TO"], ["to"]) or '"' in "".join(texts):
            return None
        name = "".join(texts[:-1])
    return (
        "SET takes no parameters. Use the function, which takes the value as a str: "
        f"SELECT set_config('{name}', {found[at].text}, {str(local).lower()})."
    )


def missing(refused: Refused) -> str | None:
    """Return a hint for a parameter that the server does not know ("there is no parameter $1"), or None."""
    if refused.at is not None and refused.at < len(refused.found) and refused.found[refused.at].text == "$0":
        return "Parameters are numbered from $1."
    if refused.command in _TAKE_PARAMETERS:
        return MISSING_ARGUMENTS
    return in_text(refused.query, refused.found)


def in_text(query: str, found: Sequence[Token], name_at: int | None = None) -> str | None:
    """Return a hint for a command that takes no parameters: the server writes the values into its text.

    `name_at` is the index of a parameter that stands for a name.
    """
    command = keyword(found, 0)
    if not command:
        return None
    pieces, parameters = [], []
    end = 0
    for at, token in enumerate(found):
        if token.kind is Kind.PARAMETER:
            pieces += [query[end : token.start].replace("%", "%%"), "%I" if at == name_at else "%L"]
            parameters.append(f"{token.text}::text")
            end = token.start + len(token.text)
    template = ("".join(pieces) + query[end:].replace("%", "%%")).strip().replace("'", "''")
    if not parameters:
        return None
    if len(template) > _LONGEST_TEMPLATE or "\\" in template or '"' in template or "\n" in template:
        return (
            f"{command} takes no parameters. Have the server write the values into the text, by SELECT format() with "
            "%L for values and %I for names, and run the text that it returns."
        )
    return (
        f"{command} takes no parameters. Have the server write the value into the text: "
        f"text = await connection.fetchval(\"SELECT format('{template}', {', '.join(parameters)})\", value), "
        "and run that: await connection.execute(text)."
    )


def several(refused: Refused) -> str | None:
    """Return a hint for several statements in one text where one is taken, or None."""
    found = refused.found
    ends = [at for at, token in enumerate(found) if token.text == ";"]
    if "P" in refused.fields or not ends or ends[0] == len(found) - 1:
        return None
    return "Run the statements one by one. Only execute() without arguments takes several in one text."


def undetermined(refused: Refused) -> str | None:
    """Return a hint for a parameter whose type the query does not show, or None."""
    named = _PARAMETER.search(refused.fields.get("M", ""))
    if named is None:
        return None
    parameter = named[0]
    if all(token.text != parameter for token in refused.found):
        return f"The query does not have {parameter}. Number the parameters from $1, without a gap."
    return f"Name the type of the parameter in the query: {parameter}::text for a str, {parameter}::int8 for an int."


def inconsistent(refused: Refused) -> str | None:
    """Return a hint for a parameter that is used as two types, or None."""
    at = refused.at
    if at is None or at == len(refused.found) or refused.found[at].kind is not Kind.PARAMETER:
        return None
    parameter = refused.found[at].text
    detail = refused.fields.get("D", "")
    types = detail.partition(" versus ")
    wider = next((name for name in ("text", "numeric", "bigint", "timestamp with time zone") if name in types), "text")
    return f"Name one type for the parameter wherever it stands in the query: {parameter}::{wider}."


def in_block(refused: Refused) -> str | None:
    """Return a hint for a command that cannot run inside a transaction, or None."""
    if "cannot run inside a transaction block" not in refused.fields.get("M", ""):
        return None
    return "Run it by execute(), as the only statement of its text, outside of `async with connection.transaction()`."


def after_failure(refused: Refused) -> str | None:
    """Return a hint for a statement in a transaction in which one has failed."""
    return (
        "An earlier statement of the transaction has failed. To go on after an error that is expected, put the "
        "statement into a transaction of its own inside this one: `async with connection.transaction()` is a savepoint."
    )
