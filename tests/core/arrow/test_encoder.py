"""Arrow arrays as rows of binary COPY: arrays of pyarrow, arrays made by hand, and arrays that lie about themselves."""

from __future__ import annotations

import ctypes
import decimal
import struct
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

import headrace
from headrace._core.arrow.encoder import BatchEncoder
from headrace._core.arrow.matching import Mismatch, writer_for
from headrace._core.arrow.reader import BatchReader
from headrace._core.arrow.targets import target
from headrace._core.codecs.testing import decode
from tests.arrow_streams import ArrowArray, ArrowSchema, capsule

BOOL, BYTEA, INT8, INT4, TEXT, INTERVAL, NUMERIC, INT4_ARRAY, INT4RANGE = 16, 17, 20, 23, 25, 1186, 1700, 1007, 3904


def encoded(data: Any, *oids: int) -> bytes:
    """Return all rows of the data in COPY's binary format, for columns of these types."""
    reader = BatchReader(data)
    fields = reader.field.children
    writers = [writer_for(field, target(oid, lambda oid: None)) for field, oid in zip(fields, oids, strict=True)]
    names = tuple(field.name for field in fields)
    encoder = BatchEncoder(names, fields, tuple(range(len(fields))), tuple(writers))
    while (batch := reader.next()) is not None:
        encoder.start(batch)
        while encoder.fill(1 << 20):
            pass
    return encoder.end()


def rows(data: Any, *oids: int) -> list[tuple[Any, ...]]:
    """Return the rows that COPY would store."""
    message = encoded(data, *oids)
    assert message[:1] == b"d"
    assert struct.unpack("!i", message[1:5])[0] == len(message) - 1
    assert message[5:24] == b"PGCOPY\n\xff\r\n\0" + bytes(8)
    at, found = 24, []
    while (width := struct.unpack_from("!h", message, at)[0]) != -1:
        at += 2
        row: list[Any] = []
        for oid in oids[:width]:
            (size,) = struct.unpack_from("!i", message, at)
            at += 4 + max(size, 0)
            row.append(None if size < 0 else decode(oid, message[at - size : at]))
        found.append(tuple(row))
    assert at + 2 == len(message)
    return found


class Made:
    """An object with `__arrow_c_array__`: a batch of one column `c` from buffers that the test lays out."""

    def __init__(self, format: str, length: int, *buffers: bytes | None, **fields: Any) -> None:
        self._kept: list[Any] = []
        self.field = self._new_schema(format, "c", fields.pop("schemas", []))
        self._schema = self._new_schema("+s", "", [self.field])
        self.column = self._new_array(length, buffers, **fields)
        self.array = self._new_array(length, [None], children=[self.column])

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[Any, Any]:
        return capsule(self._schema, b"arrow_schema"), capsule(self.array, b"arrow_array")

    def schema(self, format: str, name: str = "", children: Sequence[ArrowSchema] = ()) -> ArrowSchema:
        return self._new_schema(format, name, children)

    def _new_schema(self, format: str, name: str, children: Sequence[ArrowSchema]) -> ArrowSchema:
        made = ArrowSchema(format=format.encode(), name=name.encode(), n_children=len(children), release=NOTHING)
        made.children = self._pointers(ArrowSchema, children)
        return made

    def _new_array(
        self,
        length: int,
        buffers: Sequence[bytes | None],
        *,
        offset: int = 0,
        null_count: int = -1,
        children: Sequence[ArrowArray] = (),
        dictionary: ArrowArray | None = None,
    ) -> ArrowArray:
        kept = [None if data is None else ctypes.create_string_buffer(data, max(len(data), 1)) for data in buffers]
        addresses = (ctypes.c_void_p * max(len(kept), 1))(
            *(None if data is None else ctypes.addressof(data) for data in kept)
        )
        self._kept += [kept, addresses]
        made = ArrowArray(length=length, null_count=null_count, offset=offset, n_buffers=len(kept), release=NOTHING)
        made.buffers = ctypes.cast(addresses, ctypes.POINTER(ctypes.c_void_p))
        made.n_children = len(children)
        made.children = self._pointers(ArrowArray, children)
        if dictionary is not None:
            made.dictionary = ctypes.pointer(dictionary)
        return made

    def _pointers(self, kind: Any, parts: Sequence[Any]) -> Any:
        pointers = (ctypes.POINTER(kind) * max(len(parts), 1))(*(ctypes.pointer(part) for part in parts))
        self._kept += [parts, pointers]
        return ctypes.cast(pointers, ctypes.POINTER(ctypes.POINTER(kind)))


RELEASE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@RELEASE
def nothing(address: int) -> None:
    """Release nothing: Python owns the memory."""


NOTHING = ctypes.cast(nothing, ctypes.c_void_p).value


def ints(*values: int) -> bytes:
    return struct.pack(f"={len(values)}i", *values)


def test_rows_of_several_columns_and_batches() -> None:
    table = pa.table({"a": pa.chunked_array([[1, 2], [], [3]]), "b": pa.chunked_array([["x", None], [], ["z"]])})
    assert rows(table, INT4, TEXT) == [(1, "x"), (2, None), (3, "z")]


def test_no_rows() -> None:
    assert rows(pa.table({"a": pa.array([], pa.int32())}), INT4) == []


@pytest.mark.parametrize("null_count", [-1, 0])
def test_a_validity_buffer_may_be_missing(null_count: int) -> None:
    assert rows(Made("i", 2, None, ints(5, 6), null_count=null_count), INT4) == [(5,), (6,)]


def test_nulls_that_nobody_has_counted() -> None:
    assert rows(Made("i", 2, b"\x02", ints(5, 6)), INT4) == [(None,), (6,)]


def test_an_offset_counts_for_values_and_validity() -> None:
    column = Made("i", 2, b"\x08", ints(1, 2, 3, 4), offset=2)
    assert rows(column, INT4) == [(None,), (4,)]


def test_buffers_may_be_missing_if_there_are_no_values() -> None:
    assert rows(Made("u", 0, None, None, None), TEXT) == []
    assert rows(Made("u", 1, None, ints(0, 0), None), TEXT) == [("",)]


def test_intervals_of_days_and_of_months() -> None:
    assert rows(Made("tiD", 1, None, ints(2, 1500)), INTERVAL)[0][0].total_seconds() == 2 * 86400 + 1.5
    assert rows(Made("tiM", 1, None, ints(13)), INTERVAL)[0][0].days == 365 + 30


@pytest.mark.parametrize("scale", range(-9, 40))
def test_decimals_of_every_scale(scale: int) -> None:
    for digits in (0, 1, -1, 10**5, 9999, -123456789, 10**18, 2**63, -(10**38) + 1):
        data = digits.to_bytes(16, "little", signed=True)
        (found,) = rows(Made(f"d:38,{scale}", 1, None, data), NUMERIC)[0]
        assert found.scaleb(scale, decimal.Context(prec=200)) == digits
        assert -found.as_tuple().exponent == max(scale, 0)


def test_views_point_into_several_buffers() -> None:
    long = b"more than twelve bytes"
    view = struct.pack("=i4sii", len(long), long[:4], 1, 3)
    short = struct.pack("=i12s", 2, b"ab")
    column = Made("vu", 2, None, short + view, b"", b"xxx" + long, struct.pack("=qq", 0, 3 + len(long)))
    assert rows(column, TEXT) == [("ab",), (long.decode(),)]
    lying = Made("vu", 1, None, view, b"", b"xxx" + long, struct.pack("=qq", 0, 2 + len(long)))
    with pytest.raises(headrace.InterfaceError, match="a view lies outside of its buffer"):
        rows(lying, TEXT)


def test_runs_are_found_from_any_position() -> None:
    array = pa.RunEndEncodedArray.from_arrays(pa.array(range(1, 1001), pa.int32()), pa.array(range(1000), pa.int32()))
    for start in (0, 1, 500, 999):
        data = pa.table({"c": array.slice(start)})
        assert rows(data, INT4) == [(number,) for number in range(start, 1000)]


def test_a_list_of_runs() -> None:
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([2, 4], pa.int32()), pa.array([7, 8], pa.int32()))
    lists = pa.ListArray.from_arrays(pa.array([0, 3, 4], pa.int32()), runs)
    assert rows(pa.table({"c": lists}), INT4_ARRAY) == [([7, 7, 8],), ([8],)]
    views = pa.ListViewArray.from_arrays(pa.array([2, 0], pa.int32()), pa.array([2, 2], pa.int32()), runs)
    assert rows(pa.table({"c": views}), INT4_ARRAY) == [([8, 8],), ([7, 7],)]


LIES = {
    "an array has 1 buffers": lambda: Made("i", 1, None),
    "the values of an array are missing": lambda: Made("i", 1, None, None),
    "an array has NULLs, and no validity bitmap": lambda: Made("i", 1, None, ints(1), null_count=1),
    "a length or an offset is negative": lambda: Made("i", 1, None, ints(1), offset=-1),
    "an offset is less than the one before it": lambda: Made("u", 2, None, ints(0, 2, 1), b"abc"),
    "the offsets of an array are missing": lambda: Made("u", 1, None, None, b"abc"),
}


@pytest.mark.parametrize("message", LIES)
def test_an_array_that_lies(message: str) -> None:
    data = LIES[message]()
    with pytest.raises(headrace.InterfaceError, match="the data is not laid out as Arrow prescribes: " + message):
        rows(data, TEXT if "offset" in message and "negative" not in message else INT4)


def test_positions_that_would_overflow() -> None:
    data = Made("i", 1, None, ints(1))
    data.column.offset = data.column.length = 2**62
    with pytest.raises(headrace.InterfaceError, match="a length or an offset is negative or too large"):
        rows(data, INT4)
    data = Made("w:99999999", 1, None, ints(1))
    data.column.length = 2**50
    with pytest.raises(headrace.InterfaceError, match="a length or an offset is too large"):
        rows(data, BYTEA)


def test_a_batch_that_lies() -> None:
    for fields in ({"offset": 2**63 - 1}, {"length": -1}, {"length": 2**63 - 1}):
        data = Made("i", 1, None, ints(1))
        for name, value in fields.items():
            setattr(data.array, name, value)
        with pytest.raises(
            headrace.InterfaceError, match="the length or the offset of a batch is negative or too large"
        ):
            rows(data, INT4)
    data = Made("i", 1, None, ints(1))
    data.array.buffers, data.array.null_count = None, 1
    with pytest.raises(headrace.InterfaceError, match="an array has NULLs, and no validity bitmap"):
        rows(data, INT4)


def test_runs_that_lie() -> None:
    for fields in ({"offset": -1}, {"offset": 2**62}, {"length": -1}):
        ends, values = Made("i", 1, None, ints(1)).column, Made("i", 1, None, ints(7)).column
        for name, value in fields.items():
            setattr(ends, name, value)
        parts = [ArrowSchema(format=b"i", name=name, release=NOTHING) for name in (b"run_ends", b"values")]
        data = Made("+r", 1, children=[ends, values], schemas=parts)
        with pytest.raises(headrace.InterfaceError, match="a length or an offset is negative or too large"):
            rows(data, INT4)


@pytest.mark.parametrize("format", ["w:-1", "w:", "w:x", "+w:-1", "d:", "d:x,y", "tsx:", "ts", "tt", "tDx", "q", ""])
def test_a_format_that_is_none(format: str) -> None:
    for oid in (INT4, TEXT, BYTEA, NUMERIC, INTERVAL):
        with pytest.raises(Mismatch, match=f"a type with the format '{format.replace('+', '.')}'"):
            rows(Made(format, 1, None, ints(1)), oid)


def test_metadata_of_a_negative_size() -> None:
    for metadata in (struct.pack("=ii", 1, -1), struct.pack("=iii", 1, 0, -5)):
        data = Made("i", 1, None, ints(1))
        data.field.metadata = metadata
        with pytest.raises(headrace.InterfaceError, match="the schema of the data is malformed"):
            rows(data, INT4)


def test_a_dictionary_whose_indexes_are_no_integers() -> None:
    data = Made("f", 1, None, ints(0))
    values = data.schema("u")
    data.field.dictionary = ctypes.pointer(values)
    with pytest.raises(Mismatch, match="the indexes of its dictionary are not integers"):
        rows(data, TEXT)


def test_an_index_outside_of_its_dictionary() -> None:
    array = pa.DictionaryArray.from_arrays(pa.array([0, 5], pa.int8()), pa.array(["a"]), safe=False)
    with pytest.raises(headrace.InterfaceError, match="an index lies outside of its dictionary"):
        rows(pa.table({"c": array}), TEXT)


def test_a_list_outside_of_its_values() -> None:
    values = Made("i", 1, None, ints(7))
    item = ArrowSchema(format=b"i", name=b"item", release=NOTHING)
    lists = Made("+l", 1, None, ints(0, 5), children=[values.column], schemas=[item])
    with pytest.raises(headrace.InterfaceError, match="a list lies outside of the values"):
        rows(lists, INT4_ARRAY)


def test_a_null_row() -> None:
    struct_array = pa.StructArray.from_arrays([pa.array([1, 2])], ["a"], mask=pa.array([False, True]))
    with pytest.raises(headrace.InterfaceError, match="row 2 of a batch is NULL"):
        rows(struct_array, INT8)


UNKNOWN = {
    "union": pa.UnionArray.from_dense(pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])]),
    "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int32())),
    "struct<a: int64>": pa.array([{"a": 1}]),
    "list<int64>": pa.array([[1]]),
}


@pytest.mark.parametrize("name", UNKNOWN)
@pytest.mark.parametrize("oid", [INT4, TEXT, BYTEA, BOOL])
def test_types_that_go_nowhere(name: str, oid: int) -> None:
    reader = BatchReader(pa.table({"c": UNKNOWN[name]}))
    with pytest.raises(Mismatch) as caught:
        writer_for(reader.field.children[0], target(oid, lambda oid: None))
    assert str(caught.value).startswith(f"Arrow type {name}")


def test_parts_of_other_types_are_named() -> None:
    reader = BatchReader(pa.table({"c": pa.array([{"lower": "x", "upper": "y", "other": 1}])}))
    with pytest.raises(Mismatch, match="it is expected to be a struct with lower and upper"):
        writer_for(reader.field.children[0], target(INT4RANGE, lambda oid: None))
    reader = BatchReader(pa.table({"c": pa.array([[1.5]])}))
    with pytest.raises(Mismatch, match=r"list<float64> for type int4\[\]: float64 for int4: cast it to int32"):
        writer_for(reader.field.children[0], target(INT4_ARRAY, lambda oid: None))
