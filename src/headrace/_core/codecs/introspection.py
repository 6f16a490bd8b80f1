"""The queries that look up unknown types and identify the server, and the rows that they return.

One query looks up any number of types and all their parts: element types, base types of domains, subtypes of ranges,
ranges of multiranges and attributes of composites, recursively. It works on PostgreSQL 12 and newer, changes no
setting, and its parameter and columns have built-in types only.

Source: PostgreSQL documentation, "System Catalogs", pg_type, pg_range and pg_attribute.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, NamedTuple

__all__ = [
    "COLUMNS",
    "IDENTITY",
    "IDENTITY_COLUMNS",
    "QUERY",
    "TYPE_BY_NAME",
    "ServerIdentity",
    "TypeInfo",
    "type_infos",
]

# pg_range.rngmultitypid came with PostgreSQL 14: taken from the row as JSON it may be missing. Length tells
# arrays from types such as point that can only be subscripted. The recursion ends, because no type contains itself.
# ARRAY(SELECT ...) is used twice instead of a join. With joins the planner's estimate of the cost grows tenfold with
# each step and exceeds jit_above_cost; compiling takes longer than the query.
QUERY: Final = """\
WITH RECURSIVE needed (oid) AS (
    SELECT given.oid FROM pg_catalog.pg_type AS given
    WHERE given.oid = ANY (ARRAY(SELECT pg_catalog.unnest($1::pg_catalog.oid[])))
  UNION
    SELECT part.oid
    FROM needed
    JOIN pg_catalog.pg_type AS whole ON whole.oid = needed.oid
    CROSS JOIN LATERAL (
        SELECT whole.typelem WHERE whole.typelem <> 0 AND whole.typlen = -1
        UNION ALL
        SELECT whole.typbasetype WHERE whole.typtype = 'd'
        UNION ALL
        SELECT r.rngsubtype FROM pg_catalog.pg_range AS r WHERE whole.typtype = 'r' AND r.rngtypid = whole.oid
        UNION ALL
        SELECT r.rngtypid FROM pg_catalog.pg_range AS r
        WHERE whole.typtype = 'm'
            AND (pg_catalog.to_jsonb(r) ->> 'rngmultitypid')::pg_catalog.oid = whole.oid
        UNION ALL
        SELECT a.atttypid FROM pg_catalog.pg_attribute AS a
        WHERE whole.typtype = 'c' AND a.attrelid = whole.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    ) AS part (oid)
)
SELECT
    t.oid,
    t.typname::pg_catalog.text AS name,
    n.nspname::pg_catalog.text AS schema,
    t.typtype::pg_catalog.text AS kind,
    CASE WHEN t.typlen = -1 THEN t.typelem ELSE 0::pg_catalog.oid END AS element,
    e.typdelim::pg_catalog.text AS delimiter,
    t.typbasetype AS base,
    (SELECT r.rngsubtype FROM pg_catalog.pg_range AS r WHERE r.rngtypid = t.oid) AS subtype,
    CASE WHEN t.typtype = 'm' THEN (
        SELECT r.rngtypid FROM pg_catalog.pg_range AS r
        WHERE (pg_catalog.to_jsonb(r) ->> 'rngmultitypid')::pg_catalog.oid = t.oid
    ) END AS range,
    CASE WHEN t.typtype = 'c' THEN ARRAY(
        SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
    ) END AS attribute_names,
    CASE WHEN t.typtype = 'c' THEN ARRAY(
        SELECT a.atttypid FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
    ) END AS attribute_types,
    t.typsend::pg_catalog.oid <> 0 AND t.typreceive::pg_catalog.oid <> 0 AS binary,
    f.proname::pg_catalog.text AS send,
    CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE -1 END AS modifier,
    CASE WHEN t.typtype = 'c' THEN ARRAY(
        SELECT a.atttypmod FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
    ) END AS attribute_modifiers,
    CASE WHEN t.typtype = 'e' THEN ARRAY(
        SELECT l.enumlabel::pg_catalog.text FROM pg_catalog.pg_enum AS l
        WHERE l.enumtypid = t.oid ORDER BY l.enumsortorder
    ) END AS labels
FROM pg_catalog.pg_type AS t
JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
LEFT JOIN pg_catalog.pg_type AS e ON e.oid = t.typelem
LEFT JOIN pg_catalog.pg_proc AS f ON f.oid = t.typsend
WHERE t.oid = ANY (ARRAY(SELECT needed.oid FROM needed))"""

_OID, _TEXT, _BOOL, _INT4, _TIMESTAMPTZ = 26, 25, 16, 23, 1184
_OID_ARRAY, _TEXT_ARRAY, _INT4_ARRAY = 1028, 1009, 1007

COLUMNS: Final = [
    ("oid", _OID),
    ("name", _TEXT),
    ("schema", _TEXT),
    ("kind", _TEXT),
    ("element", _OID),
    ("delimiter", _TEXT),
    ("base", _OID),
    ("subtype", _OID),
    ("range", _OID),
    ("attribute_names", _TEXT_ARRAY),
    ("attribute_types", _OID_ARRAY),
    ("binary", _BOOL),
    ("send", _TEXT),
    ("modifier", _INT4),
    ("attribute_modifiers", _INT4_ARRAY),
    ("labels", _TEXT_ARRAY),
]
"""Name and type OID of each column of QUERY, so that its RowDescription is not needed."""

# The query may run inside a transaction, which an error would abort. The server checks the right to execute a
# function that a query names even if the function is never called. ts_stat() calls the function by a text of SQL, so a
# role that may not execute pg_control_system(), or a server that lacks it, gets NULL instead of an error.
IDENTITY: Final = """\
SELECT
    CASE WHEN pg_catalog.has_function_privilege(
        pg_catalog.to_regprocedure('pg_catalog.pg_control_system()')::pg_catalog.oid, 'EXECUTE'
    ) THEN (
        SELECT found.word FROM pg_catalog.ts_stat(
            'SELECT pg_catalog.array_to_tsvector(ARRAY[system_identifier::pg_catalog.text])'
            ' FROM pg_catalog.pg_control_system()'
        ) AS found
    ) END AS system,
    pg_catalog.pg_postmaster_start_time() AS started,
    (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()) AS database,
    pg_catalog.pg_backend_pid() AS pid"""
"""The identity of the server, the database and the backend: one row.

`system` is the system identifier that initdb gave to the cluster; a standby and a restored backup share it with the
original, and `started` distinguishes them. It is NULL if the role may not read it.
Source: PostgreSQL documentation, "System Information Functions and Operators", pg_control_system().
"""

IDENTITY_COLUMNS: Final = [("system", _TEXT), ("started", _TIMESTAMPTZ), ("database", _OID), ("pid", _INT4)]
"""Name and type OID of each column of IDENTITY."""

TYPE_BY_NAME: Final = """\
SELECT t.oid
FROM pg_catalog.pg_type AS t
JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
WHERE t.typname = $1 AND n.nspname = $2"""
"""The OID of the type $1 in the schema $2, both of type name."""


class ServerIdentity(NamedTuple):
    """One database on one server between two restarts: the scope in which looked-up types are valid."""

    system: str
    """The system identifier of the cluster."""

    started: datetime
    """When the postmaster started."""

    database: int
    """The OID of the database. A database that is dropped and created again has another OID."""


class TypeInfo(NamedTuple):
    """One type as the server describes it."""

    oid: int
    name: str
    schema: str
    kind: str
    """pg_type.typtype: b base, c composite, d domain, e enum, p pseudo, r range, m multirange."""

    element: int
    """The type of an array's elements; 0 if this is no array."""

    delimiter: str
    base: int
    """The base type of a domain; 0 if this is none."""

    subtype: int
    """The type of a range's bounds; 0 if this is none."""

    range: int
    """The range type of a multirange; 0 if this is none."""

    attribute_names: tuple[str, ...]
    attribute_types: tuple[int, ...]
    binary: bool
    """True if values can be sent and received in binary."""

    send: str
    """The name of the function that makes the binary form; '' if there is none."""

    modifier: int = -1
    """The type modifier of a domain's base type; -1 if there is none."""

    attribute_modifiers: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
    """The labels of an enumerated type, in its order."""


def type_infos(rows: Iterable[Iterable[Any]]) -> list[TypeInfo]:
    """Make TypeInfos of the rows that QUERY returned."""
    infos = []
    for row in rows:
        (oid, name, schema, kind, element, delimiter, base, subtype, range_, names, types, binary, send, *more) = row
        modifier, modifiers, labels = more or (None, None, None)
        infos.append(
            TypeInfo(
                oid,
                name,
                schema,
                kind,
                element or 0,
                delimiter or ",",
                base or 0,
                subtype or 0,
                range_ or 0,
                tuple(names or ()),
                tuple(types or ()),
                bool(binary),
                send or "",
                -1 if modifier is None else modifier,
                tuple(modifiers or ()),
                tuple(labels or ()),
            )
        )
    return infos
