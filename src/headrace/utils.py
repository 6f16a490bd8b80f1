"""Names that programs import from `asyncpg.utils`."""

from __future__ import annotations

import re


def _quote_ident(ident: str) -> str:
    """Return the identifier quoted for SQL."""
    return '"{}"'.format(ident.replace('"', '""'))


def _quote_literal(string: str) -> str:
    """Return the text as an SQL string constant that is right with standard_conforming_strings on or off."""
    quoted = "'{}'".format(re.sub(r"(['\\])", r"\1\1", string))
    return f" E{quoted}" if "\\" in string else quoted
