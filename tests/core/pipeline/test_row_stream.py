"""The request of a stream, driven by scripted bytes: rows are taken while they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

import headrace
from headrace._core.pipeline.row_stream import RowStream
from headrace._core.rows.record import Record
from headrace.rows import rows_as
from tests.core.pipeline.script import (
    DRAINED,
    DROPPED,
    ECHO,
    INT4,
    NUMBER,
    SIGNAL,
    TEXT,
    Conversation,
    Waiter,
    done,
    echoing,
    failed,
    int4,
    rows,
)  # fmt: skip
from tests.peers import backend
from tests.peers.backend import Field

READY = backend.ready_for_query()
BOUND = backend.bind_complete()
SERIES = "SELECT n FROM series"
LONG = "SELECT text FROM texts"
HELD = 1 << 18
"""Bytes that are held for a slow reader."""


def row(value: int) -> bytes:
    return backend.data_row(int4(value))


def knowing(**limits: Any) -> Conversation:
    talk = echoing(**limits)
    talk.know(SERIES, [], [NUMBER])
    talk.know(LONG, [], [Field("text", TEXT)])
    return talk


def ask(talk: Conversation, query: str = SERIES, *args: object, row: Any = Record, most_rows: int = 0) -> RowStream:
    request = RowStream(query, args, row, most_rows)
    talk.submit(request)
    return request


def opened(talk: Conversation, query: str = SERIES, **options: Any) -> RowStream:
    """A stream that the server has begun with."""
    request = ask(talk, query, **options)
    assert talk.flush() == "BES"
    talk.reply(BOUND)
    return request


def taken(request: RowStream) -> list[Any]:
    return [each[0] for each in request.take_rows()]


# Rows


def test_rows_are_taken_while_they_come() -> None:
    talk = knowing()
    request = opened(talk)
    assert request.take_rows() == []
    talk.reply(row(1), row(2))
    assert taken(request) == [1, 2]
    assert not request.is_over()
    talk.reply(row(3))
    talk.reply(backend.command_complete("SELECT 3"))
    assert not request.is_over(), "the server may still refuse to commit"
    talk.reply(READY)
    assert request.is_over()
    assert taken(request) == [3]
    assert request.take_rows() == []
    assert request.received == 30


def test_its_arguments_are_those_of_the_query() -> None:
    talk = knowing()
    ask(talk, ECHO, 7)
    assert talk.flush() == "BES"
    assert talk.values() == [7]


def test_a_new_text_is_prepared_first() -> None:
    talk = Conversation()
    request = ask(talk, "SELECT 1::int4 AS n")
    assert talk.flush() == "PDS"
    talk.reply(backend.parse_complete(), backend.parameter_description(), backend.row_description(NUMBER), READY)
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert request.is_over()
    assert taken(request) == [1]


def test_a_statement_without_rows_ends_at_once() -> None:
    talk = Conversation()
    talk.know("DELETE FROM t")
    request = ask(talk, "DELETE FROM t")
    assert talk.flush() == "BES"
    talk.reply(done("DELETE 3"))
    assert request.is_over()
    assert request.take_rows() == []
    assert request.status == "DELETE 3"


def test_the_reader_is_woken_by_a_row_and_by_the_end() -> None:
    talk = knowing()
    request = opened(talk)
    for messages, wakes in (([row(1)], True), ([backend.command_complete("SELECT 1")], False), ([READY], True)):
        arrival = request.arrival = Waiter()
        talk.reply(*messages)
        assert arrival.done() == wakes


@pytest.mark.parametrize("cut", range(len(rows(*range(5))) + 1))
def test_cut_anywhere_it_is_the_same(cut: int) -> None:
    talk = knowing()
    request = ask(talk)
    talk.flush()
    whole = rows(*range(5))
    found = []
    for part in (whole[:cut], whole[cut:]):
        talk.reply(part)
        found += taken(request)
    assert found == [0, 1, 2, 3, 4]
    assert request.is_over()


def test_a_row_handed_out_is_held_by_nobody_else() -> None:
    talk = knowing()
    request = opened(talk)
    talk.reply(row(1))
    first = request.take_rows()
    talk.reply(row(2))
    assert request.take_rows() is not first
    assert len(first) == 1


# A slow reader


def test_it_is_full_once_it_holds_many_bytes_and_no_longer_when_they_were_taken() -> None:
    talk = knowing()
    request = opened(talk, LONG)
    long = backend.data_row("x" * 1000)
    count = 0
    while not request.full:
        talk.reply(long)
        count += 1
    assert (count - 1) * len(long) <= HELD < count * len(long)
    assert request.backlog == count * len(long)
    assert len(request.take_rows()) == count
    assert not request.full
    assert request.backlog == 0


def test_rows_without_columns_count_too() -> None:
    talk = Conversation()
    talk.know("SELECT FROM series", [], [])
    request = opened(talk, "SELECT FROM series")
    empty = backend.data_row()
    talk.reply(empty * (HELD // len(empty)))
    assert not request.full
    talk.reply(empty * 2)
    assert request.full


def test_a_number_of_rows_may_be_the_limit() -> None:
    talk = knowing()
    request = opened(talk, most_rows=3)
    talk.reply(row(1), row(2))
    assert not request.full
    talk.reply(row(3))
    assert request.full
    request.take_rows()
    assert not request.full


def test_nothing_is_sent_behind_it_until_it_is_done() -> None:
    talk = knowing()
    request = ask(talk)
    behind = talk.fetch(ECHO, 7)
    assert talk.flush() == "BES"
    talk.reply(BOUND, row(1))
    assert talk.flush() == ""
    talk.reply(backend.command_complete("SELECT 1"), READY)
    assert talk.flush() == "BES"
    talk.reply(rows(7))
    assert behind.value == [(7,)]
    assert taken(request) == [1]


# Errors


def test_an_error_in_the_middle_comes_behind_the_rows_before_it() -> None:
    talk = knowing()
    request = opened(talk)
    talk.reply(row(1), row(2))
    talk.reply(backend.error_response("division by zero", code="22012"))
    assert not request.is_over(), "the connection is not free before ReadyForQuery"
    talk.reply(READY)
    assert taken(request) == [1, 2]
    with pytest.raises(headrace.DivisionByZeroError):
        request.is_over()
    assert talk.idle


def test_a_row_that_cannot_be_read_comes_behind_those_before_it() -> None:
    talk = knowing()
    request = opened(talk, LONG)
    talk.reply(backend.data_row("a"), backend.data_row(b"\xff"), backend.data_row("c"))
    assert taken(request) == ["a"]
    with pytest.raises(ValueError, match="utf-8"):
        request.is_over()
    assert talk.session.cancellation.give_up(request) is SIGNAL
    talk.reply(backend.data_row("d"))
    assert request.take_rows() == []
    talk.reply(failed("57014"))
    talk.session.cancellation.delivered()
    assert talk.idle


def test_a_row_with_too_few_columns_ends_the_session() -> None:
    talk = knowing()
    opened(talk)
    with pytest.raises(headrace.ProtocolError, match="0 fields"):
        talk.reply(backend.data_row())


def test_a_lost_connection_comes_behind_the_rows_before_it() -> None:
    talk = knowing()
    request = opened(talk)
    talk.reply(row(1))
    talk.session.connection_lost("the network is gone")
    assert taken(request) == [1]
    with pytest.raises(headrace.ConnectionDoesNotExistError, match="the network is gone"):
        request.is_over()


def lost(*, after: int) -> headrace.ConnectionDoesNotExistError:
    talk = knowing()
    request = opened(talk)
    talk.reply(row(1))
    for _ in range(after):
        request.take_rows()
    talk.session.connection_lost("the network is gone")
    with pytest.raises(headrace.ConnectionDoesNotExistError) as caught:
        request.is_over()
    return caught.value


def test_a_lost_plain_read_is_safe_to_repeat_as_long_as_nobody_has_seen_a_row() -> None:
    assert lost(after=0).safe_to_retry
    assert not lost(after=1).safe_to_retry


def test_a_statement_that_went_stale_is_prepared_again_unseen() -> None:
    talk = knowing()
    request = ask(talk)
    assert talk.flush() == "BES"
    talk.reply(failed("26000", routine="FetchPreparedStatement"))
    assert talk.flush() == "PDS"
    talk.reply(backend.parse_complete(), backend.parameter_description(), backend.row_description(NUMBER), READY)
    assert talk.flush() == "BES"
    talk.reply(rows(1, 2))
    assert taken(request) == [1, 2]
    assert request.is_over()


def test_what_a_server_may_not_send() -> None:
    for messages in (
        [row(1)],
        [BOUND, backend.portal_suspended()],
        [BOUND, READY],
        [BOUND, backend.command_complete("SELECT 0"), row(1)],
    ):
        talk = knowing()
        ask(talk)
        talk.flush()
        with pytest.raises(headrace.ProtocolError):
            talk.reply(*messages)


# Leaving early


def test_given_up_before_it_is_sent_it_never_is() -> None:
    talk = knowing()
    request = ask(talk)
    assert talk.session.cancellation.give_up(request) is DROPPED
    assert talk.flush() == ""
    assert talk.idle


def test_given_up_at_the_server_it_is_cancelled_at_once() -> None:
    talk = knowing()
    request = opened(talk)
    talk.reply(row(1))
    request.drop()
    assert talk.session.cancellation.give_up(request) is SIGNAL
    behind = talk.fetch(ECHO, 7)
    assert talk.flush() == ""
    talk.reply(row(2), row(3))
    assert not request.full
    assert request.take_rows() == []
    talk.reply(failed("57014"))
    assert talk.flush() == "", "the CancelRequest may still hit what comes next"
    talk.session.cancellation.delivered()
    assert talk.flush() == "BES"
    talk.reply(rows(7))
    assert behind.value == [(7,)]


def test_given_up_behind_another_request_it_is_cancelled_when_its_turn_has_come() -> None:
    talk = knowing()
    ahead = talk.fetch(ECHO, 1)
    request = ask(talk)
    assert talk.flush() == "BES BES"
    assert talk.session.cancellation.give_up(request) is DRAINED
    talk.reply(rows(1))
    assert ahead.value == [(1,)]
    assert talk.log.abandoned == 1
    assert talk.session.cancellation.time_is_up() is SIGNAL


def test_a_signal_for_a_request_ahead_of_it_is_not_sent_because_it_could_hit_the_stream() -> None:
    talk = knowing()
    ahead = talk.fetch(ECHO, 1)
    request = ask(talk)
    talk.flush()
    assert talk.cancel(ahead) is DRAINED
    talk.reply(rows(1))
    talk.reply(rows(1, 2))
    assert taken(request) == [1, 2]


def test_dropped_a_reader_that_waits_learns_why() -> None:
    talk = knowing()
    request = opened(talk)
    arrival = request.arrival = Waiter()
    request.drop(headrace.InterfaceError("released"))
    assert arrival.done()
    with pytest.raises(headrace.InterfaceError, match="released"):
        request.is_over()


# Objects with lists


@dataclass
class Item:
    number: int


@dataclass
class Parent:
    name: str
    items: list[Item]


NESTED = "SELECT name, number AS items__number FROM items"


def nesting() -> tuple[Conversation, RowStream]:
    talk = Conversation()
    talk.know(NESTED, [], [Field("name", TEXT), Field("items__number", INT4)])
    return talk, opened(talk, NESTED, row=rows_as(Parent))


def item(name: str, number: int) -> bytes:
    return backend.data_row(name.encode(), int4(number))


def test_an_object_is_there_when_its_rows_have_ended() -> None:
    talk, request = nesting()
    talk.reply(item("a", 1), item("a", 2))
    assert request.take_rows() == []
    talk.reply(item("b", 3))
    assert request.take_rows() == [Parent("a", [Item(1), Item(2)])]
    talk.reply(backend.command_complete("SELECT 3"), READY)
    assert request.take_rows() == [Parent("b", [Item(3)])]
    assert request.is_over()


def test_an_object_whose_rows_are_not_consecutive_comes_twice() -> None:
    talk, request = nesting()
    talk.reply(item("a", 1), item("b", 2), item("a", 3), backend.command_complete("SELECT 3"), READY)
    assert request.take_rows() == [Parent("a", [Item(1)]), Parent("b", [Item(2)]), Parent("a", [Item(3)])]


def test_the_rows_of_one_object_do_not_hold_up_the_server() -> None:
    """Its reader has nothing to take before the object is complete."""
    talk, request = nesting()
    one = item("a", 1)
    talk.reply(one * (2 * HELD // len(one)))
    assert not request.full
    talk.reply(item("b", 2))
    assert request.full


def test_an_error_in_the_middle_of_an_object_gives_no_half_of_it() -> None:
    talk, request = nesting()
    talk.reply(item("a", 1), failed("22012"))
    assert request.take_rows() == []
    with pytest.raises(headrace.DivisionByZeroError):
        request.is_over()
