"""Names and texts that were mixed up, and other slips in the text of a query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from headrace._sql.hints.tokens import Refused, keyword
from headrace._sql.lexer import Kind, Token

_COMPARISONS: Final = frozenset(("=", "<>", "!=", "<", ">", "<=", ">="))
_TABLE_WORDS: Final = frozenset("INTO UPDATE TABLE FROM JOIN".split())
_RESERVED: Final = frozenset("USER ORDER GROUP CHECK COLUMN DEFAULT END GRANT PRIMARY REFERENCES".split())
_AFTER_LISTS: Final = frozenset("FROM WHERE ORDER GROUP RETURNING VALUES LIMIT".split())


def column(refused: Refused) -> str | None:
    """Return a hint for a column that does not exist because a value is meant, or None."""
    found, at = refused.found, refused.at
    if at is None or at == len(found):
        return None
    token = found[at]
    before, after = found[at - 1].text if at else "", found[at + 1].text if at + 1 < len(found) else ""
    if after in (".", "(") or before == ".":
        return None
    if token.kind is Kind.QUOTED and token.text.startswith('"') and len(token.text) < 100:
        text = token.text[1:-1].replace('""', '"').replace("'", "''")
        return (
            f"Double quotes enclose names. If {token.text} is not a column but a text, write '{text}', "
            "or better $1, and pass the text as an argument."
        )
    if token.kind is Kind.WORD and before in _COMPARISONS:
        return f"If {token.text} is not a column but a value, write $1 in its place and pass the value as an argument."
    return None


def table(refused: Refused) -> str | None:
    """Return a hint for a table whose schema is inside its quotes, or None."""
    found, at = refused.found, refused.at
    if at is None or at == len(found) or found[at].kind is not Kind.QUOTED or "." not in found[at].text:
        return None
    each = found[at].text.replace(".", '"."', 1)
    return f"A quoted name is one name. Quote the schema and the table each: {each}."


def copied(refused: Refused) -> str | None:
    """Return a hint for the table of a COPY that does not exist, or None. The server tells no place for it."""
    words = {keyword(refused.found, at) for at in range(len(refused.found))}
    return copied_table(refused.found[1:4]) if refused.command == "COPY" and words & {"STDIN", "STDOUT"} else None


def copied_table(found: Sequence[Token]) -> str | None:
    """Return a hint for a table that does not exist, as the methods for COPY have quoted it, or None."""
    if not found or found[0].kind is not Kind.QUOTED or [token.text for token in found[1:2]] == ["."]:
        return None
    name = found[0].text[1:-1]
    schema, dot, rest = name.partition(".")
    if dot and schema and rest:
        return f'Pass the schema separately: table_name="{rest}", schema_name="{schema}".'
    if name != name.lower():
        return f'Names are taken as they stand. A table that was created without quotes is called "{name.lower()}".'
    return None


def syntax(refused: Refused) -> str | None:
    """Return a hint for a reserved word as a name, a comma too many, or quotes of MySQL; None otherwise."""
    found, at = refused.found, refused.at
    if at is None:
        return None
    if any(token.kind is Kind.OPERATOR and token.text.startswith("`") for token in found[max(at - 2, 0) : at + 1]):
        return 'Names are quoted by double quotes: "name" and not `name`.'
    if at == len(found):
        return None
    word = keyword(found, at)
    if word in _RESERVED and keyword(found, at - 1) in _TABLE_WORDS and keyword(found, at + 1) != "BY":
        return f'{found[at].text} is a reserved word. As a name it needs double quotes: "{found[at].text}".'
    if at and found[at - 1].text == "," and (word in _AFTER_LISTS or found[at].text == ")"):
        return f"Remove the comma before {found[at].text}."
    return None
