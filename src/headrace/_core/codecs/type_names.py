"""The SQL names of types that differ from their names in pg_type.

Source: PostgreSQL documentation, "Data Types", the table of names and aliases. "timezone" in one word is asyncpg's.
"""

from __future__ import annotations

from typing import Final

from headrace._core.codecs.base import builtin_codecs

__all__ = ["builtin_oid", "catalogue_name"]

ALIASES: Final = {
    "bigint": "int8",
    "bit varying": "varbit",
    "boolean": "bool",
    "char": "bpchar",
    "character": "bpchar",
    "character varying": "varchar",
    "decimal": "numeric",
    "double precision": "float8",
    "float": "float8",
    "int": "int4",
    "integer": "int4",
    "real": "float4",
    "smallint": "int2",
    "time with time zone": "timetz",
    "time with timezone": "timetz",
    "time without time zone": "time",
    "time without timezone": "time",
    "timestamp with time zone": "timestamptz",
    "timestamp with timezone": "timestamptz",
    "timestamp without time zone": "timestamp",
    "timestamp without timezone": "timestamp",
}


def catalogue_name(typename: str, schema: str) -> str:
    """Return the name in pg_type of a type given by name.

    Only types of pg_catalog have SQL names. These may be in any case, with any white space between their words. As in
    SQL, and in asyncpg, char is the type character; the type "char" of one byte is written with its quotes.
    """
    if schema != "pg_catalog":
        return typename
    if typename == '"char"':
        return "char"
    name = " ".join(typename.lower().split())
    return ALIASES.get(name, name)


_BY_NAME: Final[dict[str, int]] = {}


def builtin_oid(name: str) -> int | None:
    """Return the OID of a type of pg_catalog that has a codec of its own, or None."""
    if not _BY_NAME:
        for oid, codec in builtin_codecs().items():
            # The codec of an array is called int4[], which is no name in pg_type.
            _BY_NAME.setdefault(codec.name, oid)
    return _BY_NAME.get(catalogue_name(name, "pg_catalog"))
