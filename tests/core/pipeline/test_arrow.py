"""Requests whose rows become columns: the formats they ask for, and how their replies are read."""

from __future__ import annotations

from typing import Any

import pyarrow
import pytest

from headrace._core.arrow.result import ArrowShape
from headrace._core.pipeline.arrow import ArrowQuery, ArrowStream
from headrace._io.driver import KIND_ARROW
from headrace.exceptions import ProtocolError, UnrepresentableValueError
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


def ask(talk: Conversation, kind: type[ArrowQuery] = ArrowQuery, query: str = QUERY, **options: Any) -> Call:
    waiter = Waiter()
    return talk.submit(kind(waiter, query, (), KIND_ARROW, 0, 0, ArrowShape(**options)), waiter)


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


def test_a_stream_gives_batches_before_its_end_and_lets_nothing_behind_it() -> None:
    talk = known()
    call = ask(talk, ArrowStream)
    behind = talk.fetch(QUERY)
    assert talk.flush() == "BES"
    stream: ArrowStream = call.request
    talk.reply(BIND, *[ROW] * 65_536)
    assert stream.next_batch() is None, "the next row might belong to it"
    talk.reply(ROW)
    batch = stream.next_batch()
    assert batch is not None
    assert batch.num_rows == 65_536
    assert not call.settled
    assert talk.flush() == ""
    talk.reply(DONE)
    last = stream.next_batch()
    assert last is not None
    assert last.num_rows == 1
    assert call.value is None
    assert talk.flush() == "BES"
    talk.reply(BIND, DONE)
    assert behind.value == []
