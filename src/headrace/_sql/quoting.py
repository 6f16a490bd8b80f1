"""Quoting of names and text inside SQL.

Source: PostgreSQL documentation, "Identifiers and Key Words" and "String Constants" (sql-syntax-lexical).
"""

from __future__ import annotations

from headrace.exceptions import InterfaceError
from headrace.exceptions._values import shown


def quote_identifier(name: object, what: str = "name") -> str:
    """Return the name as a quoted identifier; raises InterfaceError, which calls it `what`, if it cannot be one."""
    return '"{}"'.format(checked_text(name, what).replace('"', '""'))


def quote_literal(text: object, what: str = "text") -> str:
    """Return the text as a string constant that is right with standard_conforming_strings on or off.

    Raises InterfaceError, which calls it `what`, for a text that cannot be sent.
    """
    quoted = checked_text(text, what).replace("'", "''")
    return f"E'{quoted}'".replace("\\", "\\\\") if "\\" in quoted else f"'{quoted}'"


def checked_text(text: object, what: str) -> str:
    """Return the text; raises InterfaceError if it is not a str or cannot be sent."""
    if not isinstance(text, str):
        raise InterfaceError(f"{what} is expected to be a str, got {type(text).__name__} {shown(text)}")
    if "\0" in text:
        raise InterfaceError(f"{what} must not contain a NUL character: {shown(text)}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InterfaceError(f"{what} must not contain a lone surrogate: {shown(text)}") from None
    return text
