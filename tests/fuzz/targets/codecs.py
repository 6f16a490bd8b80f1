"""Every decoder: of the types with fixed OIDs, of learnt ones, lenient ones, ones that users set, and none at all.

The first two bytes of an input choose the decoder, the rest is the value.
"""

from __future__ import annotations

import datetime
import decimal
import ipaddress
import struct
import uuid
from collections.abc import Iterable
from typing import Any

import headrace._core.codecs.builtin  # noqa: F401  registers the codecs of all built-in types
from headrace import exceptions, types
from headrace._core.codecs.base import Codec, builtin_codecs
from headrace._core.codecs.testing import decode_with, encode_with
from headrace._core.codecs.typemap import TypeMap
from tests.core.codecs.types_known import HSTORE, MOOD, TYPES, codec, known
from tests.fuzz.mutation import Mutation
from tests.fuzz.target import VALUE_ERRORS, Target

VALUES: tuple[Any, ...] = (
    True, 0, 1, -1, 32767, 2**31 - 1, -(2**63), 1.5, float("nan"), decimal.Decimal("12.340"), decimal.Decimal("-1e30"),
    "", "a", "sad", "1", "1.5", "2026-02-28", "00:00", "{}", '{"a": [1, null]}', "(1,a)", "[1,2)", "$.a", "a.b",
    "a & b",
    "int4", "0/16B3748", "10:20:10,15", "127.0.0.1", "08:00:2b:01:02:03", "<a/>", b"", b"\0\xff\x80",
    datetime.date(2026, 2, 28), datetime.time(1, 2, 3, 4), datetime.time(1, 2, tzinfo=datetime.UTC),
    datetime.datetime(2026, 2, 28, 1, 2, 3), datetime.datetime(2026, 2, 28, tzinfo=datetime.UTC),
    datetime.timedelta(days=1, seconds=2, microseconds=3), uuid.UUID(int=1), ipaddress.ip_address("::1"),
    ipaddress.ip_network("10.0.0.0/24"), types.BitString("0101"), types.Point(1, 2), types.Line(1, 2, 3),
    types.LineSegment((1, 2), (3, 4)), types.Box((3, 4), (1, 2)), types.Path((1, 2), (3, 4)), types.Circle((1, 2), 3),
    types.Polygon((1, 2), (3, 4), (5, 6)), types.Range(1, 2), types.Range(), types.Range(empty=True),
    {"a": "1", "b": None}, (), (1, "two"), (1,), (0, 0), (1, 2, ()), (1, 2, 3), (1, None),
    ("int4", 1, [decimal.Decimal(1)]), (1, "sad", (1, "two"), [(1, "two")]),
)  # fmt: skip
"""The values of the seeds: every type takes some of these, alone, in a list or in a list of lists.

A codec may iterate over a value, so each has few elements; a network has all its addresses.
"""

RECORD = 2249
SET_BY_USERS = (25, 1082, 1083, 1114, 1184, 1186, 1266, 3802, 600)


def codecs() -> list[Codec]:
    """Return all decoders, always in the same order."""
    own, lenient, custom = known(), known(lenient=True), known()
    own.set_builtin(HSTORE, "pg_contrib.hstore")
    for form in ("text", "binary", "tuple"):
        for oid in (MOOD, *SET_BY_USERS):
            _set(custom, oid, form)
    fixed = sorted(builtin_codecs())
    learnt = [info.oid for info in TYPES]
    found = [codec(own, oid) for oid in [*fixed, *learnt]]
    found += [codec(lenient, oid) for oid in fixed if codec(lenient, oid) is not found[fixed.index(oid)]]
    found += [codec(custom, oid) for oid in [*custom.customised, *(info.oid for info in TYPES)]]
    return found


def _set(custom: TypeMap, oid: int, form: str) -> None:
    try:
        custom.set_codec(oid, form, lambda value: value, lambda value: value)
    except exceptions.InterfaceError:
        return  # the type does not take a codec of that form


class Codecs(Target):
    """See above."""

    name = "codecs"
    # The second and third are for what a server may well send: a composite type altered since it was looked up, and
    # an anonymous record with a type that was never looked up.
    allowed = (
        exceptions.ProtocolError,
        exceptions.DataError,
        exceptions.OutdatedSchemaCacheError,
        exceptions.UnsupportedClientFeatureError,
        *VALUE_ERRORS,
    )
    words = (
        *(oid.to_bytes(4, "big") for oid in (16, 17, 20, 21, 23, 25, 700, 701, 1043, 1082, 1114, 1700, 2249, 3802,
        16384)),
        *(b"{", b"}", b",", b'"', b"(", b")", b"[", b"]", b"\\", b"NULL", b"=>", b":", b"empty", b"\x01",
        b"\xc0\0\xe0"),
        *(b"infinity", b"-infinity", b"NaN", b"1e999999", b"BC", b"\0\0\0\x01\0\0\0\0\0\0\0\x17", b"\xff\xff\xff\xff"),
    )  # fmt: skip
    share = 14.0

    def __init__(self) -> None:
        self._codecs = codecs()

    def seeds(self) -> Iterable[bytes]:
        for number, each in enumerate(self._codecs):
            choice = number.to_bytes(2, "big")
            yield choice
            if each.oid == RECORD:
                yield choice + struct.pack("!iIiiIi", 2, 23, 4, 7, 25, 1) + b"t"
            for value in VALUES:
                for given in (value, [value], [[value, value], [value, None]]):
                    try:
                        yield choice + encode_with(each, given)[4:]
                    except Exception:
                        continue  # not a value of this type

    def run(self, data: bytes) -> object:
        each = self._codecs[int.from_bytes(data[:2], "big") % len(self._codecs)]
        value = decode_with(each, data[2:])
        repr(value)
        return each.oid, type(value).__name__

    def mutate(self, mutation: Mutation, data: bytes) -> bytes:
        if mutation.below(16) == 0:
            # The bytes of one type read as those of another.
            return mutation.below(len(self._codecs)).to_bytes(2, "big") + data[2:]
        return data[:2] + mutation.changed(data[2:])
