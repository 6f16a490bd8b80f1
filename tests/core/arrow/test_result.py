"""Tables and record batches: how they are cut, and how libraries take them, also more than once and in part."""

from __future__ import annotations

import gc
import struct
import threading
from typing import Any

import pyarrow
import pytest

from headrace._core.arrow.result import ArrowTable, RecordBatch, RowBuilder
from headrace.exceptions import UnrepresentableValueError
from tests.core.arrow.columns import row, schema, table, taken
from tests.core.arrow.test_columns import INT4, INT4S, MOOD, NUMERICS, TEXT, array, enum, number
from tests.core.pipeline.growth import REPEATS, growth

COLUMNS = schema(("n", INT4, -1), ("t", TEXT, -1), ("l", INT4S, -1), ("m", MOOD, -1), types=[enum("a", "b")])


def one(i: int) -> bytes:
    return row(
        struct.pack("!i", i),
        str(i).encode() if i % 2 else None,
        array(INT4, struct.pack("!i", i), None),
        b"ab"[i % 2 :][:1],
    )


def rows(count: int) -> list[bytes]:
    return [one(i) for i in range(count)]


def numbers(found: Any) -> list[int]:
    return [value for batch in found.to_batches() for value in batch.column("n").to_pylist()]


def test_rows_are_cut_into_batches() -> None:
    found = table(COLUMNS, *rows(10), most_rows=4)
    assert [batch.num_rows for batch in found.batches()] == [4, 4, 2]
    assert (found.num_rows, len(found), found.num_columns, found.column_names) == (10, 10, 4, ["n", "t", "l", "m"])
    assert numbers(taken(found)) == list(range(10))
    assert repr(found) == "<headrace.arrow.ArrowTable of 10 rows and 4 columns>"
    assert repr(found.batches()[0]) == "<headrace.arrow.RecordBatch of 4 rows and 4 columns>"


def test_a_chunk_ends_before_its_messages_could_fill_a_column_beyond_its_offsets() -> None:
    size = len(one(1))
    found = table(COLUMNS, *[one(1)] * 10, most_bytes=3 * size + 1)
    assert [batch.num_rows for batch in found.batches()] == [3, 3, 3, 1]
    one_for_each = table(COLUMNS, *[one(1)] * 3, most_bytes=1)
    assert [batch.num_rows for batch in one_for_each.batches()] == [1, 1, 1]


def test_texts_that_are_longer_than_their_messages_do_not_overflow_a_column() -> None:
    columns = schema(("c", NUMERICS, -1))
    long = struct.pack("!Hhhh1h", 1, 32767, 0, 16383, 1)
    found = table(columns, *[row(array(1700, *[long] * 4))] * 5, most_bytes=1 << 20)
    assert [batch.num_rows for batch in found.batches()] == [1] * 5, "each row has 590,000 digits"


def test_an_error_names_the_row_among_all_chunks() -> None:
    builder = RowBuilder(schema(("n", INT4, -1), ("t", TEXT, -1)), most_rows=2)
    for _ in range(6):
        builder.add(row(None, b"x"))
    with pytest.raises(UnrepresentableValueError, match="row 7, column 't' of type text"):
        builder.add(row(None, b"\xff"))


def test_a_result_without_rows_has_its_columns() -> None:
    found = table(COLUMNS)
    assert found.batches() == []
    assert taken(found).schema == taken(table(COLUMNS, *rows(1))).schema
    assert taken(found).num_rows == 0


def test_a_result_without_columns_has_its_rows() -> None:
    found = table(schema(), row(), row())
    assert (len(found), found.num_columns) == (2, 0)
    assert taken(found).num_columns == 0
    assert [batch.num_rows for batch in pyarrow.RecordBatchReader.from_stream(found)] == [2]


def test_columns_of_one_name_stay_apart() -> None:
    found = taken(table(schema(("a", INT4, -1), ("a", TEXT, -1)), row(b"\0\0\0\1", b"x")))
    assert found.column_names == ["a", "a"]
    assert [found.column(i).to_pylist() for i in range(2)] == [[1], ["x"]]


def test_names_of_columns_may_have_any_character() -> None:
    assert taken(table(schema(("ä €", INT4, -1), ("", INT4, -1)))).column_names == ["ä €", ""]


def test_a_table_can_be_taken_any_number_of_times() -> None:
    found = table(COLUMNS, *rows(10), most_rows=4)
    first, second = taken(found), taken(found)
    assert first == second
    half = pyarrow.RecordBatchReader.from_stream(found)
    assert half.read_next_batch().num_rows == 4
    del found, half
    gc.collect()
    assert numbers(first) == numbers(second) == list(range(10))


def test_a_batch_is_taken_as_an_array_and_as_a_stream() -> None:
    batch = table(COLUMNS, *rows(3)).batches()[0]
    found = pyarrow.record_batch(batch)
    found.validate(full=True)
    assert found.column("n").to_pylist() == [0, 1, 2]
    assert numbers(pyarrow.table(batch)) == [0, 1, 2]
    assert pyarrow.schema(batch) == found.schema
    assert (len(batch), batch.num_rows, batch.num_columns, batch.column_names) == (3, 3, 4, ["n", "t", "l", "m"])


def test_what_was_taken_outlives_the_table() -> None:
    found = table(COLUMNS, *rows(1000))
    batch = found.batches()[0]
    column = pyarrow.record_batch(batch).column("l")
    schemas = pyarrow.schema(found)
    del found, batch
    gc.collect()
    assert column.to_pylist()[999] == [999, None]
    assert schemas.names == ["n", "t", "l", "m"]


def test_a_requested_schema_has_no_effect() -> None:
    found = table(COLUMNS, *rows(1))
    wanted = pyarrow.schema([("n", pyarrow.int64())]).__arrow_c_schema__()
    assert pyarrow.RecordBatchReader.from_stream(_Asked(found, wanted)).schema == pyarrow.schema(found)
    assert len(found.batches()[0].__arrow_c_array__(wanted)) == 2


class _Asked:
    def __init__(self, found: ArrowTable, wanted: object) -> None:
        self._found, self._wanted = found, wanted

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._found.__arrow_c_stream__(self._wanted)


def test_users_cannot_make_them() -> None:
    for made in (ArrowTable, RecordBatch):
        with pytest.raises(TypeError, match="is made by"):
            made()


def test_capsules_that_nobody_takes_free_what_they_have() -> None:
    found = table(COLUMNS, *rows(10), most_rows=4)

    def drop() -> None:
        found.__arrow_c_schema__()
        found.__arrow_c_stream__()
        found.batches()[0].__arrow_c_array__()
        found.batches()[0].__arrow_c_stream__()

    assert not growth(drop)


def test_tables_leave_nothing_behind() -> None:
    def use() -> None:
        columns = schema(("n", INT4, -1), ("t", TEXT, -1), ("l", INT4S, -1), ("m", MOOD, -1), types=[enum("a", "b")])
        found = table(columns, *rows(10), most_rows=4)
        reader = pyarrow.RecordBatchReader.from_stream(found)
        reader.read_next_batch()
        builder = RowBuilder(columns)
        builder.add(one(1))

    assert not growth(use)


def test_a_failed_row_leaves_nothing_behind() -> None:
    columns = schema(("n", INT4, -1), ("c", NUMERICS, -1), decimal=(4, 2))

    def fail() -> None:
        builder = RowBuilder(columns)
        builder.add(row(b"\0\0\0\1", array(1700, number("1"))))
        with pytest.raises(UnrepresentableValueError):
            builder.add(row(b"\0\0\0\1", array(1700, number("1"), number("12345"))))

    assert not growth(fail)


def test_any_thread_may_release_what_it_has_taken() -> None:
    found = table(COLUMNS, *rows(100), most_rows=3)
    totals = []

    def take() -> None:
        totals.append(sum(len(numbers(pyarrow.table(found))) for _ in range(REPEATS)))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert totals == [100 * REPEATS] * 4


def test_nbytes_counts_the_values() -> None:
    assert table(schema(("n", INT4, -1)), *[row(b"\0\0\0\1")] * 1000).nbytes == 4000
    assert table(schema(("n", INT4, -1)), *[row(None)] * 1000).nbytes == 4000 + 125
