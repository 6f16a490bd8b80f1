"""Anonymous rows are tuples, whose columns' types are known only when they come."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from headrace._core.codecs.testing import decode, encode
from headrace._core.codecs.typemap import TypeMap
from headrace.exceptions import ProtocolError, UnsupportedClientFeatureError

from .types_known import MOOD, PAIR, TYPES, decoded, known
from .wire import check_hostile
from .wire import decoded as plainly_decoded

RECORD, RECORDS = 2249, 2287


def row(*columns: tuple[int, bytes | None]) -> bytes:
    """Return what record_send() makes of columns given by type and bytes."""
    data = struct.pack("!i", len(columns))
    for oid, value in columns:
        data += struct.pack("!Ii", oid, -1 if value is None else len(value)) + (value or b"")
    return data


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        ("00000000", ()),
        ("00000002000000170000000400000001000000190000000161", (1, "a")),
        (
            "0000000300000017ffffffff000003ef0000001c0000000100000000000000170000000100000001000000040000"
            "0001000008c90000000d00000001000000100000000101",
            (None, [1], (True,)),
        ),
    ],
)
def test_golden(wire: str, value: tuple[Any, ...]) -> None:
    assert plainly_decoded(RECORD, wire) == value


def test_arrays_of_rows() -> None:
    each = row((23, b"\0\0\0\1"))
    data = struct.pack("!iiIii", 1, 0, RECORD, 1, 1) + struct.pack("!i", len(each)) + each
    assert decode(RECORDS, data) == [(1,)]
    assert decoded(known(), RECORDS, data) == [(1,)]


def test_columns_of_types_that_were_looked_up() -> None:
    pair = row((23, b"\0\0\0\1"), (25, b"a"))
    mood, record = decoded(known(), RECORD, row((MOOD, b"happy"), (PAIR, pair)))
    assert mood == "happy"
    assert dict(record) == {"a": 1, "b": "a"}


def test_a_column_of_an_unknown_type_is_looked_up_next_time() -> None:
    types = TypeMap()
    data = row((MOOD, b"happy"))
    with pytest.raises(UnsupportedClientFeatureError, match=f"column 0 of a record.*OID {MOOD}"):
        decoded(types, RECORD, data)
    assert types.missing([]) == [MOOD]
    types.learn([MOOD], [each for each in TYPES if each.oid == MOOD])
    assert types.missing([]) == []
    assert decoded(types, RECORD, data) == ("happy",)
    assert decoded(types, RECORD, row((MOOD + 1, None))) == (None,)


def test_columns_whose_codecs_work_in_text() -> None:
    types = known()
    # regtype, xml: an OID, and text in binary too.
    assert decoded(types, RECORD, row((2206, b"\0\0\0\x17"), (142, b"<a/>"))) == ("23", "<a/>")
    # tsvector, and an array of them: known as text alone, so the bytes of the binary form are all there is.
    assert decoded(types, RECORD, row((3614, bytes(4)))) == (bytes(4),)
    array = struct.pack("!iiIiii", 1, 0, 3614, 1, 1, 4) + bytes(4)
    assert decoded(types, RECORD, row((3643, array))) == ([bytes(4)],)


def test_a_column_with_a_codec_set_for_its_text() -> None:
    types = known()
    types.set_codec(3614, "text", str, str)
    with pytest.raises(UnsupportedClientFeatureError, match="codec set for type pg_catalog.tsvector works on text"):
        decoded(types, RECORD, row((3614, bytes(4))))


def test_rows_are_no_input() -> None:
    with pytest.raises(UnsupportedClientFeatureError, match="input of anonymous composite types"):
        encode(RECORD, (1,))


def test_nesting_is_bounded() -> None:
    def nested(depth: int) -> bytes:
        data = row()
        for _ in range(depth):
            data = row((RECORD, data))
        return data

    assert decode(RECORD, nested(99))
    with pytest.raises(ProtocolError, match="nested more than 100 deep"):
        decode(RECORD, nested(100))
    assert decode(RECORD, nested(99))


def test_hostile() -> None:
    check_hostile(
        RECORD,
        "",
        "000000",
        "7fffffff",
        "ffffffff",
        "00000001" + "00000017",
        "00000001" + "00000017fffffffe",
        "00000001" + "0000001700000004000000",
        "00000000" + "00",
        "7fffffff" + "00000017ffffffff" * 4,
    )
