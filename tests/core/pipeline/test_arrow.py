"""Requests whose rows become columns: the formats they ask for, and how their replies are read."""

from __future__ import annotations

from typing import Any

import pyarrow
import pytest

from headrace._core.arrow.result import ArrowShape
from headrace._core.pipeline.requests import Query
from headrace._core.pipeline.row_stream import RowStream
from headrace._io.driver import KIND_ARROW
from headrace.exceptions import InterfaceError, ProtocolError, UnrepresentableValueError
from tests.core.pipeline.growth import malloc_bytes
from tests.core.pipeline.script import Call, Conversation, Waiter, described, failed, int4
from tests.peers import backend, frontend
from tests.peers.backend import Field

QUERY = "SELECT number, address, price, day FROM t"
NUMBER, ADDRESS = Field("number", 23), Field("address", 869)
PRICE, DAY = Field("price", 1700, modifier=(9 << 16 | 2) + 4), Field("day", 1082)
BIND, DONE = backend.bind_complete(), backend.command_complete("SELECT 2") + backend.ready_for_query()
ROW = backend.data_row(int4(1), b"10.0.0.1", None, int4(0))
BAD_ROW = backend.data_row(int4(1), None, None, int4(2**31 - 1))


def known() -> Conversation:
    talk = Conversation()
    talk.know(QUERY, [], [NUMBER, ADDRESS, PRICE, DAY])
    return talk


def ask(talk: Conversation, query: str = QUERY, **options: Any) -> Call:
    waiter = Waiter()
    return talk.submit(Query(waiter, query, (), KIND_ARROW, 0, 0, ArrowShape(**options)), waiter)


def bound(talk: Conversation) -> tuple[int, ...]:
    (bind,) = (message for message in talk.messages if isinstance(message, frontend.Bind))
    return bind.result_formats


def test_each_column_is_asked_for_in_the_format_that_its_arrow_type_is_made_of() -> None:
    talk = known()
    call = ask(talk)
    assert talk.flush() == "BES"
    assert bound(talk) == (1, 0, 1, 1)
    talk.reply(BIND, ROW, ROW, DONE)
    assert pyarrow.table(call.value).column("address").to_pylist() == ["10.0.0.1"] * 2
    rows = talk.fetch(QUERY)
    talk.flush()
    assert bound(talk) == (1,), "the rows of fetch() come as before"
    talk.reply(BIND, DONE)
    assert rows.value == []


def test_a_new_statement_is_described_before_it_is_executed() -> None:
    talk = Conversation()
    call = ask(talk)
    assert talk.flush() == "PDS"
    talk.reply(described([], [NUMBER]))
    assert talk.flush() == "BES"
    talk.reply(BIND, backend.data_row(int4(5)), DONE)
    assert pyarrow.table(call.value).to_pylist() == [{"number": 5}]


def test_a_value_without_a_place_fails_its_query_alone() -> None:
    talk = known()
    call, behind = ask(talk), ask(talk, out_of_range="null")
    talk.flush()
    talk.reply(BIND, ROW, BAD_ROW, ROW, DONE)
    assert isinstance(call.error, UnrepresentableValueError)
    assert "row 2, column 'day' of type date" in str(call.error)
    talk.reply(BIND, ROW, BAD_ROW, DONE)
    assert pyarrow.table(behind.value).column("day").null_count == 1


def test_an_error_of_the_server_between_rows() -> None:
    talk = known()
    call, again = ask(talk), ask(talk)
    talk.flush()
    talk.reply(BIND, ROW, failed("22012", "division by zero"))
    assert call.error.sqlstate == "22012"
    talk.reply(BIND, ROW, DONE)
    assert again.value.num_rows == 1


def test_a_malformed_row_ends_the_session() -> None:
    talk = known()
    ask(talk)
    talk.flush()
    talk.reply(BIND)
    with pytest.raises(ProtocolError, match="DataRow from the server with 1 fields"):
        talk.reply(backend.data_row(int4(1)))


def test_a_statement_that_returns_no_rows_is_a_table_of_no_columns_and_no_stream() -> None:
    talk = Conversation()
    talk.know("DELETE FROM t")
    call = ask(talk, "DELETE FROM t")
    talk.flush()
    talk.reply(BIND, backend.command_complete("DELETE 5"), backend.ready_for_query())
    assert (call.value.num_rows, call.value.num_columns) == (0, 0)
    with pytest.raises(InterfaceError, match="query is expected to return rows"):
        talk.submit(RowStream("DELETE FROM t", (), ArrowShape(batch_rows=2)))


# Streams, which are those of rows but for what they give: see test_row_stream.py.


def stream(talk: Conversation, batch_rows: int = 2, **options: Any) -> RowStream:
    request = RowStream(QUERY, (), ArrowShape(batch_rows=batch_rows, **options))
    talk.submit(request)
    return request


def sizes(request: RowStream) -> list[int]:
    return [batch.num_rows for batch in request.take_rows()]


def test_a_batch_of_a_stream_comes_with_its_last_row() -> None:
    talk = known()
    request = stream(talk)
    behind = talk.fetch(QUERY)
    assert talk.flush() == "BES"
    assert bound(talk) == (1, 0, 1, 1)
    talk.reply(BIND, ROW)
    assert sizes(request) == []
    talk.reply(ROW)
    assert sizes(request) == [2]
    talk.reply(ROW * 3)
    assert sizes(request) == [2]
    assert not request.is_over()
    assert talk.flush() == "", "nothing is sent behind a stream"
    talk.reply(DONE)
    assert sizes(request) == [1]
    assert request.is_over()
    assert talk.flush() == "BES"
    talk.reply(BIND, DONE)
    assert behind.value == []


def test_the_columns_of_a_stream_are_known_once_its_statement_is() -> None:
    talk = Conversation()
    request = stream(talk)
    arrival = request.arrival = Waiter()
    assert talk.flush() == "PDS"
    assert request.schema is None
    talk.reply(described([], [NUMBER]))
    assert arrival.settled
    assert request.schema is not None
    assert request.schema.names == ("number",)


def test_the_socket_is_left_unread_for_two_large_batches_or_many_small_ones() -> None:
    row = backend.data_row(int4(1), b"x" * 100_000, None, None)
    large, small = known(), known()
    one, many = stream(large, 10), stream(small, 1)
    large.flush()
    small.flush()
    large.reply(BIND, row * 19)
    assert not one.full
    large.reply(row)
    assert one.full
    assert sizes(one) == [10]
    assert not one.full
    large.reply(row * 10)
    assert one.full
    assert (sizes(one), sizes(one), sizes(one)) == ([10], [10], [])
    small.reply(BIND, row * 2)
    assert not many.full
    small.reply(row)
    assert many.full
    assert sizes(many) == [1, 1, 1]
    assert not many.full


def test_batches_before_a_value_without_a_place_are_given_out() -> None:
    talk = known()
    request = stream(talk)
    talk.flush()
    talk.reply(BIND, ROW * 5, BAD_ROW, ROW * 4)
    assert sizes(request) == [2, 2]
    with pytest.raises(UnrepresentableValueError, match="row 6, column 'day'"):
        request.is_over()


@pytest.mark.skipif(not malloc_bytes(), reason="the C library does not tell how much is held")
@pytest.mark.parametrize("how", ["dropped", "failed", "query failed", "query abandoned"])
def test_the_memory_of_rows_that_nobody_wants_is_free_before_the_rest_has_come(how: str) -> None:
    large = backend.data_row(int4(1), b"x" * 1_000_000, None, int4(0))
    bad = backend.data_row(int4(1), None, None, int4(2**31 - 1))
    before = malloc_bytes()
    talk = known()
    call = None
    if how.startswith("query"):
        call = ask(talk)
    else:
        request = stream(talk, 1000)
    talk.flush()
    talk.reply(BIND)
    for _ in range(32):
        talk.reply(large)
    assert malloc_bytes() - before > 30_000_000
    if how == "dropped":
        request.drop()
    elif call is not None and how == "query abandoned":
        talk.cancel(call)
        talk.reply(ROW)
    else:
        talk.reply(bad, ROW)
    assert malloc_bytes() - before < 10_000_000
