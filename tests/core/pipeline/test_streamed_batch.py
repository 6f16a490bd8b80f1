"""A batch whose elements come from an asynchronous source: it keeps the wire to itself and holds two chunks at most."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import Record, exceptions
from headrace._core.pipeline.batch import StreamedBatch
from headrace._core.pipeline.statement_cache import Statement
from tests.core.pipeline.script import DROPPED, ECHO, INT4, SIGNAL, Call, Conversation, Waiter, echoing, failed, rows
from tests.peers import backend

INSERT = "INSERT INTO t VALUES ($1)"

CHUNK = 1 << 16


class Room(Waiter):
    """The future that the owner of the batch awaits while it is full."""


def inserting(**limits: Any) -> tuple[Conversation, Statement]:
    talk = echoing(**limits)
    talk.know(INSERT, [INT4], None)
    return talk, talk.session.statements.hold(INSERT)


def opened(statement: Statement, *, collects: bool = False) -> tuple[StreamedBatch, Call]:
    waiter = Waiter()
    request = StreamedBatch(waiter, statement, (), Record, collects)
    request.open(())
    return request, Call(request, waiter)


def fill(request: StreamedBatch) -> int:
    """Add elements until the batch is full; returns how many."""
    count = 0
    while not request.is_full:
        request.add((count,))
        count += 1
    return count


def inserted(count: int) -> bytes:
    return (backend.bind_complete() + backend.command_complete("INSERT 0 1")) * count


def test_a_batch_that_is_complete_is_one_message() -> None:
    talk, statement = inserting()
    request, call = opened(statement)
    request.add((1,))
    request.add([2])
    request.finish()
    talk.session.submit(request)
    assert talk.flush() == "BEBES"
    talk.reply(inserted(2) + backend.ready_for_query())
    assert call.value is None
    assert request.status == "INSERT 0 1"


def test_a_batch_without_elements_is_a_sync() -> None:
    talk, statement = inserting()
    request, call = opened(statement)
    request.finish()
    talk.session.submit(request)
    assert talk.flush() == "S"
    talk.reply(backend.ready_for_query())
    assert call.value is None


def test_while_the_source_waits_nothing_is_sent_and_nobody_else_gets_the_wire() -> None:
    talk, statement = inserting()
    request, call = opened(statement)
    count = fill(request)
    talk.session.submit(request)
    later = talk.fetch(ECHO, 5)
    assert talk.flush() == "BE" * count
    assert not talk.session.wants_output()
    request.add((1,))
    assert talk.session.wants_output()
    assert talk.flush() == "BE"
    request.finish()
    assert talk.flush() == "S BES"
    talk.reply(inserted(count + 1) + backend.ready_for_query(), rows(5))
    assert call.value is None
    assert later.value == [(5,)]


def test_two_chunks_are_held_until_the_first_is_sent() -> None:
    talk, statement = inserting()
    ahead = talk.fetch(ECHO, 1)
    talk.flush()
    request, call = opened(statement)
    first = fill(request)
    talk.session.submit(request)
    assert not request.is_full
    second = fill(request)
    room = Room()
    request.room = room  # type: ignore[assignment]
    assert not room.done()
    # asyncio's transport is paused: only what is urgent is taken.
    assert talk.session.take_output(True) == b""
    assert request.is_full
    assert talk.flush() == "BE" * (first + second)
    assert room.done()
    assert not request.is_full
    request.finish()
    assert talk.flush() == "S"
    talk.reply(rows(1), inserted(first + second) + backend.ready_for_query())
    assert ahead.value == [(1,)]
    assert call.value is None


def test_an_error_of_the_server_ends_the_batch_though_the_source_waits() -> None:
    talk, statement = inserting()
    request, call = opened(statement)
    count = fill(request)
    talk.session.submit(request)
    talk.flush()
    assert not talk.session.wants_output()
    talk.reply(inserted(3) + failed("23505")[: -len(backend.ready_for_query())])
    assert talk.flush() == "ES"
    talk.reply(backend.ready_for_query())
    assert isinstance(call.error, exceptions.UniqueViolationError)
    assert count > 3


def test_a_row_that_a_decoder_refuses_ends_it_too() -> None:
    def refuse(text: str) -> None:
        raise LookupError(text)

    talk = echoing()
    talk.session.types.set_codec(INT4, "text", str, refuse)
    request, call = opened(talk.session.statements.hold(ECHO), collects=True)
    fill(request)
    talk.session.submit(request)
    talk.flush()
    talk.reply(backend.bind_complete() + backend.data_row(b"5"))
    assert talk.flush() == "ES"
    talk.reply(backend.command_complete("SELECT 1") + failed("34000"))
    assert isinstance(call.error, LookupError)


def test_a_source_that_fails_undoes_what_was_sent() -> None:
    talk, statement = inserting()
    request, call = opened(statement)
    count = fill(request)
    talk.session.submit(request)
    talk.flush()
    error = LookupError("the source")
    request.failed(error)
    assert talk.cancel(call) == SIGNAL
    assert talk.flush() == "ES"
    talk.session.cancellation.delivered()
    talk.reply(inserted(count) + failed("34000", status="E"))
    later = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(failed("25P02", status="E"))
    assert later.error is not None
    assert later.error.__cause__ is error


def test_a_batch_that_was_not_sent_is_dropped() -> None:
    talk, statement = inserting()
    request, call = opened(statement)
    fill(request)
    talk.session.submit(request)
    assert talk.cancel(call) == DROPPED
    assert talk.flush() == ""


def test_closing_ends_a_batch_that_waits_for_its_source() -> None:
    talk, statement = inserting()
    request, call = opened(statement)
    count = fill(request)
    talk.session.submit(request)
    talk.flush()
    talk.session.close("connection is closed")
    assert talk.flush() == "ES"
    talk.reply(inserted(count) + failed("34000"))
    assert "connection is closed" in str(call.error)


def test_a_lost_connection_fails_it() -> None:
    talk, statement = inserting()
    request, call = opened(statement)
    fill(request)
    talk.session.submit(request)
    talk.flush()
    talk.session.connection_lost("the server closed the connection")
    assert isinstance(call.error, exceptions.ConnectionDoesNotExistError)


def test_an_element_that_does_not_fit_is_left_out() -> None:
    talk, statement = inserting()
    request, _call = opened(statement)
    request.add((1,))
    with pytest.raises(exceptions.ArgumentError, match="element #1 of executemany"):
        request.add(("no number",))
    with pytest.raises(exceptions.ArgumentError, match="element #1: expected a sequence"):
        request.add("text")
    request.finish()
    talk.session.submit(request)
    assert talk.flush() == "BES"


def test_an_unnamed_statement_is_parsed_once() -> None:
    talk = echoing(unnamed_statements=True)
    talk.session.statements.hold(INSERT)
    statement = talk.session.statements.hold(INSERT, named=False)
    talk.prepare(statement)
    talk.flush()
    talk.reply(
        backend.parse_complete(), backend.parameter_description(INT4), backend.no_data(), backend.ready_for_query()
    )
    request, _call = opened(statement)
    request.add((1,))
    request.add((2,))
    request.finish()
    talk.session.submit(request)
    assert talk.flush() == "PBDEBES"


def test_a_statement_that_was_forgotten_meanwhile_is_the_servers_error() -> None:
    talk, statement = inserting()
    request, call = opened(statement)
    request.add((1,))
    talk.script("DEALLOCATE ALL")
    request.finish()
    talk.session.submit(request)
    talk.flush()
    talk.reply(backend.command_complete("DEALLOCATE ALL") + backend.ready_for_query())
    talk.reply(backend.close_complete() + backend.ready_for_query())
    talk.reply(failed("26000"))
    assert isinstance(call.error, exceptions.InvalidSQLStatementNameError)
