"""Invariant 2: executemany() is one request; its elements are streamed, and all or nothing of it is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headrace import exceptions
from tests.core.pipeline.script import (
    DRAINED,
    DROPPED,
    ECHO,
    INT4,
    SIGNAL,
    Conversation,
    described,
    echoing,
    failed,
    int4,
    rows,
    split,
)
from tests.peers import backend, frontend

INSERT = "INSERT INTO t VALUES ($1)"

# Elements enough for several portions: one takes 40 bytes or so, a portion 64 kB and more.
MANY = 10_000


def inserting(**limits: Any) -> Conversation:
    talk = echoing(**limits)
    talk.know(INSERT, [INT4], None)
    return talk


def inserted(count: int, *, status: str = "I") -> bytes:
    one = backend.bind_complete() + backend.command_complete("INSERT 0 1")
    return one * count + backend.ready_for_query(status)


def first_portion(talk: Conversation) -> list[frontend.Message]:
    """Take what is handed out at once, and make sure that it is not all of the batch."""
    messages = split(talk.session.take_output())
    assert not isinstance(messages[-1], frontend.Sync)
    return messages


def test_one_sync_ends_all_executions() -> None:
    talk = inserting()
    call = talk.batch(INSERT, [(1,), (2,), (3,)])
    assert talk.flush() == "BEBEBES"
    assert talk.values() == [1, 2, 3]
    talk.reply(inserted(3))
    assert call.value is None


def test_no_foreign_message_comes_between_the_portions_of_a_batch() -> None:
    talk = inserting()
    before = talk.fetch(ECHO, 0)
    call = talk.batch(INSERT, [(i,) for i in range(MANY)])
    after = talk.fetch(ECHO, 1)
    first_portion(talk)
    urgent = talk.script("SELECT 1")
    talk.reply(rows(0))
    assert before.value == [(0,)]
    words = talk.flush().split()
    assert [word[-3:] for word in words] == ["BES", "BES", "Q"]
    assert words[1:] == ["BES", "Q"]
    talk.reply(inserted(MANY), rows(1), backend.command_complete("SELECT 1"), backend.ready_for_query())
    assert (call.value, after.value, urgent.value) == (None, [(1,)], "SELECT 1")


def test_an_empty_batch_is_a_sync() -> None:
    talk = inserting()
    call = talk.batch(INSERT, [])
    assert talk.flush() == "S"
    talk.reply(backend.ready_for_query())
    assert call.value is None


def test_fetchmany_collects_the_rows_of_all_executions() -> None:
    talk = echoing()
    call = talk.batch(ECHO, [[1], (2,)], collects=True)
    talk.flush()
    for i in (1, 2):
        talk.reply(backend.bind_complete(), backend.data_row(int4(i)), backend.command_complete("SELECT 1"))
    talk.reply(backend.ready_for_query())
    assert call.value == [(1,), (2,)]


def test_the_elements_are_taken_as_they_are_sent() -> None:
    talk = inserting()
    taken = []

    def elements() -> Iterator[tuple[int]]:
        for i in range(MANY):
            taken.append(i)
            yield (i,)

    call = talk.batch(INSERT, elements())
    assert 0 < len(taken) < MANY
    talk.session.take_output()
    assert len(taken) < MANY
    talk.flush()
    assert len(taken) == MANY
    talk.reply(inserted(MANY))
    assert call.value is None


def test_a_bad_element_in_the_first_portion_fails_before_a_byte_of_the_batch_is_sent() -> None:
    """Also nothing of the good ones ahead of it is left behind, where the next request would send it."""
    talk = inserting()
    bad = talk.batch(INSERT, [(0,), (1,), ("two",)])
    assert talk.flush() == "PDS"
    talk.reply(described([INT4]))
    assert isinstance(bad.error, exceptions.ArgumentError)
    assert "$1 in element #2 of executemany() sequence: 'two'" in str(bad.error)
    assert talk.flush() == "CS"
    talk.reply(backend.close_complete(), backend.ready_for_query())
    with pytest.raises(exceptions.InterfaceError, match="2 were passed in element #1"):
        talk.batch(INSERT, [(0,), (1, 2)])
    with pytest.raises(exceptions.ArgumentError, match="element #1: expected a sequence, got str"):
        talk.batch(INSERT, [(0,), "1"])
    with pytest.raises(ZeroDivisionError):
        talk.batch(INSERT, ((1 // (1 - i),) for i in range(3)))
    assert talk.idle
    call = talk.fetch(ECHO, 7)
    assert talk.flush() == "BES"
    talk.reply(rows(7))
    assert call.value == [(7,)]


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (("one",), exceptions.ArgumentError),
        ((1, 2), exceptions.InterfaceError),
        (5, exceptions.ArgumentError),
        (None, ZeroDivisionError),
    ],
)
def test_a_bad_element_in_a_later_portion_has_the_server_roll_back(bad: Any, expected: type[Exception]) -> None:
    """The server sees an Execute that must fail, and Sync: nothing of what it has executed is kept."""
    talk = inserting()

    def elements() -> Iterator[Any]:
        for i in range(MANY):
            yield (i,)
        if bad is None:
            raise ZeroDivisionError("in the middle")
        yield bad

    call, after = talk.batch(INSERT, elements()), talk.fetch(ECHO, 1)
    sent = first_portion(talk)
    talk.flush()
    sent += talk.messages
    execute, sync = sent[-5:-3]
    assert isinstance(execute, frontend.Execute)
    assert execute.portal == "headrace: the rest of the batch could not be encoded"
    assert isinstance(sync, frontend.Sync)
    executed = sum(isinstance(message, frontend.Bind) for message in sent) - 1
    one = backend.bind_complete() + backend.command_complete("INSERT 0 1")
    talk.reply(one * executed, failed("34000", "portal does not exist"), rows(1))
    assert isinstance(call.error, expected)
    assert after.value == [(1,)]


def test_the_servers_error_ends_a_batch_that_is_still_being_sent() -> None:
    talk = inserting()
    call, after = talk.batch(INSERT, [(i,) for i in range(MANY)]), talk.fetch(ECHO, 1)
    first_portion(talk)
    talk.reply(backend.error_response("duplicate key", code="23505"))
    assert talk.flush() == "ES BES", "it is skipped: Sync alone would do, were it certain that the error came first"
    talk.reply(backend.ready_for_query(), rows(1))
    assert isinstance(call.error, exceptions.UniqueViolationError)
    assert after.value == [(1,)]


def test_inside_a_transaction_the_error_of_a_batch_is_the_root_cause() -> None:
    talk = inserting()
    elements: list[Any] = [(i,) for i in range(MANY)]
    call, after = talk.batch(INSERT, [*elements, ("bad",)]), talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(failed("34000", status="E"), failed("25P02", status="E"))
    assert isinstance(call.error, exceptions.ArgumentError)
    assert after.error.__cause__ is call.error


def test_a_cold_batch_waits_like_any_other_request() -> None:
    talk = Conversation()
    call = talk.batch(INSERT, [(1,), (2,)])
    assert talk.flush() == "PDS"
    talk.reply(described([INT4]))
    assert talk.flush() == "BEBES"
    talk.reply(inserted(2))
    assert call.value is None


def test_a_bad_element_of_a_cold_batch_settles_the_batch_alone() -> None:
    talk = Conversation()
    bad, good = talk.batch(INSERT, [(1,), ("two",)]), talk.batch(INSERT, [(3,)])
    talk.flush()
    talk.reply(described([INT4]))
    assert isinstance(bad.error, exceptions.ArgumentError)
    assert talk.flush() == "BES"
    assert talk.values() == [3]
    talk.reply(inserted(1))
    assert good.value is None


def test_a_server_that_answers_fewer_executions_than_it_was_asked_for_is_refused() -> None:
    talk = inserting()
    talk.batch(INSERT, [(1,), (2,), (3,)])
    talk.flush()
    with pytest.raises(exceptions.ProtocolError, match="after 2 of 3 executions"):
        talk.reply(inserted(2))


def test_a_server_that_is_ready_before_the_whole_batch_was_sent_is_refused() -> None:
    talk = inserting()
    talk.batch(INSERT, [(i,) for i in range(MANY)])
    first_portion(talk)
    with pytest.raises(exceptions.ProtocolError, match="before the whole request was sent"):
        talk.reply(inserted(1))


# Given up


@pytest.mark.parametrize("head", [True, False])
def test_a_batch_given_up_while_it_is_sent_is_ended_where_it_stands(head: bool) -> None:
    """Its Sync must come, or nothing behind it would ever be answered."""
    talk = inserting()
    before = None if head else talk.fetch(ECHO, 0)
    call = talk.batch(INSERT, [(i,) for i in range(MANY)])
    first_portion(talk)
    after = talk.fetch(ECHO, 1)
    assert talk.cancel(call) == (SIGNAL if head else DRAINED)
    assert split(talk.session.take_output())[-2:] == [
        frontend.Execute("headrace: the rest of the batch could not be encoded", 0), frontend.Sync(),
    ]  # fmt: skip
    if before is not None:
        talk.reply(rows(0))
        assert before.value == [(0,)]
    if head:
        assert talk.flush() == ""
        talk.session.cancellation.delivered()
    talk.reply(failed("57014"))
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert after.value == [(1,)]
    assert not call.settled or call.error is not None


def test_a_batch_given_up_before_it_was_sent_is_dropped() -> None:
    talk = inserting(max_pipeline=1)
    talk.fetch(ECHO, 0)
    talk.flush()
    call = talk.batch(INSERT, [(1,)])
    assert talk.cancel(call) == DROPPED
    talk.reply(rows(0))
    assert talk.flush() == ""


@pytest.mark.parametrize("how", ["close", "interrupt"])
def test_a_batch_that_is_being_sent_when_the_connection_closes_is_ended(how: str) -> None:
    talk = inserting()
    call = talk.batch(INSERT, [(i,) for i in range(MANY)])
    first_portion(talk)
    if how == "close":
        talk.session.close("closed by the user")
    assert talk.session.cancellation.interrupt() == SIGNAL
    assert talk.flush() == "ES"
    talk.reply(failed("57014"))
    assert call.settled


# What an iterable does to the session while it is iterated over


def elements_that(do: Callable[[], object], *, at: int) -> Iterator[tuple[int]]:
    for i in range(MANY):
        if i == at:
            do()
        yield (i,)


@pytest.mark.parametrize("at", [3, MANY - 3])
def test_an_iterable_that_asks_something_of_the_same_connection(at: int) -> None:
    """Its bytes are its own: they do not get into the batch that is being put together."""
    talk = inserting()
    asked = []
    call = talk.batch(INSERT, elements_that(lambda: asked.append(talk.fetch(ECHO, 77)), at=at))
    if at > 3:
        assert asked == []
    talk.flush()
    binds = [message for message in talk.messages if isinstance(message, frontend.Bind)]
    assert len(binds) == MANY + 1
    place = [int.from_bytes(bind.values[0] or b"") for bind in binds].index(77, 0 if at == 3 else 78)
    first = place == 0
    assert first == (at == 3), "asked before the batch was queued, it goes first"
    talk.reply(*([rows(77), inserted(MANY)] if first else [inserted(MANY), rows(77)]))
    assert (call.value, asked[0].value) == (None, [(77,)])


def test_an_iterable_that_gives_up_its_own_batch() -> None:
    talk = inserting()
    calls: list[Any] = []
    calls.append(talk.batch(INSERT, elements_that(lambda: talk.cancel(calls[0]), at=MANY - 3)))
    after = talk.fetch(ECHO, 1)
    talk.flush()
    kinds = [type(message) for message in talk.messages]
    assert kinds[-2:] == [frontend.Execute, frontend.Sync]
    assert kinds.count(frontend.Sync) == 1
    talk.session.cancellation.delivered()
    talk.reply(failed("57014"))
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert after.value == [(1,)]


def test_an_iterable_that_loses_the_connection() -> None:
    talk = inserting()
    call = talk.batch(INSERT, elements_that(lambda: talk.session.connection_lost("cut"), at=MANY - 3))
    after = talk.fetch(ECHO, 1)
    while talk.session.wants_output():
        talk.session.take_output()
    assert isinstance(call.error, exceptions.ConnectionDoesNotExistError)
    assert isinstance(after.error, exceptions.ConnectionDoesNotExistError)


def test_an_iterable_that_takes_output_gets_none() -> None:
    talk = inserting()
    taken = []
    talk.batch(INSERT, elements_that(lambda: taken.append(talk.session.take_output()), at=MANY - 3))
    talk.flush()
    assert taken == [b""]
