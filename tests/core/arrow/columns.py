"""Rows as the server sends them, and the columns that are made of them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow

import headrace._core.codecs.builtin  # noqa: F401  registers the codecs, which have the names of the types
from headrace._core.arrow.result import ArrowTable, RowBuilder, Schema
from headrace._core.arrow.schema import Decimal, columns_of
from headrace._core.codecs.introspection import TypeInfo

Column = tuple[str, int, int]
"""Name, OID of the type, type modifier."""


def modifier(precision: int, scale: int) -> int:
    """Return the type modifier of numeric(precision, scale)."""
    return (precision << 16 | scale & 0x7FF) + 4


def row(*values: bytes | None) -> bytes:
    """Return the body of a DataRow."""
    return struct.pack("!H", len(values)) + b"".join(map(part, values))


def part(value: bytes | None) -> bytes:
    """Return a value with its length in front, as in DataRows, arrays, composites and ranges."""
    return struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value


def schema(
    *columns: Column,
    types: Iterable[TypeInfo] = (),
    decimal: Decimal = None,
    out_of_range: str = "error",
) -> Schema:
    """Return the schema of columns; `types` are those of the database's own."""
    source: Callable[[int], TypeInfo | None] = {info.oid: info for info in types}.get
    return Schema(columns_of(columns, source, decimal), out_of_range)


def table(schema: Schema, *rows: bytes, most_rows: int = 0, most_bytes: int = 0) -> ArrowTable:
    """Return the table of these rows."""
    builder = RowBuilder(schema, most_rows=most_rows, most_bytes=most_bytes)
    batches = [builder.add(data) for data in rows]
    return builder.table([batch for batch in (*batches, builder.end()) if batch is not None])


def taken(table: ArrowTable) -> pyarrow.Table:
    """Return the table as pyarrow takes it, every buffer checked."""
    found = pyarrow.table(table)
    found.validate(full=True)
    return found


def values(oid: int, *data: bytes | None, typmod: int = -1, **options: Any) -> list[Any]:
    """Return what becomes of the values of one column."""
    found = taken(table(schema(("c", oid, typmod), **options), *map(row, data)))
    made: list[Any] = found.column(0).to_pylist()
    return made
