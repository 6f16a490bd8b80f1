"""Columns in Arrow's format from arbitrary rows: of each type alone, and of several columns.

The first two bytes of an input choose the columns, and what becomes of values without a place. For a single column the
rest are its values, each behind its length in two bytes; for several it is DataRows as they are, in the same way.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow

from headrace import exceptions
from headrace._core.arrow.result import RecordBatch, RowBuilder, Schema
from headrace._core.arrow.schema import columns_of
from headrace._core.codecs.base import builtin_codecs
from headrace._core.codecs.testing import encode_with
from tests.arrow_streams import check_array
from tests.core.arrow.columns import Column, modifier, row
from tests.core.codecs.types_known import TYPES, codec, known
from tests.fuzz.mutation import Mutation
from tests.fuzz.target import Target
from tests.fuzz.targets.codecs import VALUES

NULL = 0xFFFF
"""The length that stands for NULL."""

ROWS = 3
"""Rows of a batch."""

POLICIES = ("error", "null", "saturate")
DECIMALS = (None, (38, 4), (76, 30), (5, 2))
SEVERAL: tuple[tuple[Column, ...], ...] = (
    (),
    (("a", 23, -1), ("b", 25, -1)),
    (("a", 1700, modifier(9, 2)), ("b", 1231, -1), ("c", 17, -1), ("d", 16, -1), ("e", 3904, -1)),
)
LABELS = ("sad", "ok", "happy")


@dataclass
class Columns:
    """Columns of which rows are made."""

    schema: Schema
    is_single: bool


def all_columns() -> list[Columns]:
    """Return the columns that are fuzzed, always in the same order."""
    types = {info.oid: info._replace(labels=LABELS) if info.kind == "e" else info for info in TYPES}

    def made(*columns: Column, policy: str, decimal: tuple[int, int] | None) -> Schema:
        source = types.get
        return Schema(columns_of(columns, source, decimal), policy)

    oids = [*sorted(oid for oid, each in builtin_codecs().items() if each.kind != "pseudo"), *types]
    found = []
    for policy, decimal in zip((*POLICIES, "null"), DECIMALS, strict=True):
        found += [Columns(made(("c", oid, -1), policy=policy, decimal=decimal), True) for oid in oids]
        found += [Columns(made(*columns, policy=policy, decimal=decimal), False) for columns in SEVERAL]
    return found


def split(data: bytes) -> Iterable[bytes | None]:
    """Cut bytes into values; what is missing at the end is left out."""
    at = 0
    while at + 2 <= len(data):
        (size,) = struct.unpack_from("!H", data, at)
        at += 2
        if size == NULL:
            yield None
        else:
            yield data[at : at + size]
            at += size


def joined(*values: bytes | None) -> bytes:
    """Return values as `split()` reads them."""
    return b"".join(
        struct.pack("!H", NULL) if value is None else struct.pack("!H", len(value)) + value for value in values
    )


class ArrowColumns(Target):
    """See above."""

    name = "arrow_columns"
    # The last one is for a composite type that seems to have been altered since it was looked up.
    allowed = (exceptions.ProtocolError, exceptions.UnrepresentableValueError, exceptions.OutdatedSchemaCacheError)
    words = (
        *(oid.to_bytes(4, "big") for oid in (16, 17, 20, 21, 23, 25, 701, 1082, 1700, 16384, 16386, 16388)),
        *(
            b"\xff\xff",
            b"\0\4",
            b"\0\0",
            b"\0\1",
            b"\x01",
            b"\xc0\0",
            b"\xd0\0",
            b"\xf0\0",
            b"sad",
            b"\xff\xff\xff\xff",
        ),
        b"\0\0\0\1\0\0\0\0\0\0\0\x17\0\0\0\2\0\0\0\1",
    )
    share = 4.0

    def __init__(self) -> None:
        self._columns = all_columns()

    def seeds(self) -> Iterable[bytes]:
        types = known()
        for number, columns in enumerate(self._columns):
            choice = number.to_bytes(2, "big")
            yield choice
            if not columns.is_single:
                yield choice + joined(row(*[None] * len(columns.schema.names)))
                continue
            (field,) = columns.schema.fields
            encoder = codec(types, field.oid)
            if field.wire != encoder.format:
                yield choice + joined(b"text", None, "größer".encode())
                continue
            for value in VALUES:
                for given in (value, [value], [[value, value], [value, None]]):
                    try:
                        encoded = encode_with(encoder, given)[4:]
                    except Exception:
                        continue  # not a value of this type
                    yield choice + joined(encoded, None, encoded, encoded)

    def run(self, data: bytes) -> object:
        columns = self._columns[int.from_bytes(data[:2], "big") % len(self._columns)]
        builder = RowBuilder(columns.schema, most_rows=ROWS)
        batches: list[RecordBatch] = []
        number = 0
        try:
            for value in split(data[2:]):
                number += 1
                made = builder.add(row(value) if columns.is_single else value or b"")
                assert (made is None) == (number % ROWS > 0)
                if made is not None:
                    batches.append(made)
        except exceptions.UnrepresentableValueError as error:
            check_place(str(error), number, columns.schema.names)
            raise
        finally:
            # The batches that were complete before an error hold as well.
            for batch in batches:
                check(batch)
        rest = builder.end()
        if rest is not None:
            check(rest)
            batches.append(rest)
        table = builder.table(batches)
        assert len(table) == number
        pyarrow.table(table).validate(full=True)
        return int.from_bytes(data[:2], "big") % len(self._columns), min(number, ROWS + 1)

    def mutate(self, mutation: Mutation, data: bytes) -> bytes:
        if mutation.below(16) == 0:
            # The bytes of one type read as those of another.
            return mutation.below(len(self._columns)).to_bytes(2, "big") + data[2:]
        kind = mutation.below(4)
        if kind < 3:
            # Lengths stay true, so that the values get through to their column.
            values = list(split(data[2:]))
            if values:
                at = mutation.below(len(values))
                value = values[at]
                values[at] = mutation.changed(value or b"") if mutation.below(8) else None
                return data[:2] + joined(*(value and value[:NULL] for value in values))
        return data[:2] + mutation.changed(data[2:])


def check(batch: RecordBatch) -> None:
    """Check the arrays of a batch, here and by pyarrow."""
    _, array = batch.__arrow_c_array__()
    check_array(array, len(batch))
    pyarrow.record_batch(batch).validate(full=True)


def check_place(message: str, row: int, names: tuple[str, ...]) -> None:
    """Check that an error names the row and the column."""
    place = re.match(r"row ([0-9]+), column '(\w+)' of type ", message)
    assert place, f"no row and column: {message}"
    assert int(place[1]) == row, message
    assert place[2] in names, message
