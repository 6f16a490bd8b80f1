"""Invariant 5: what is in flight is bounded by count and by bytes."""

from __future__ import annotations

import pytest

from tests.core.pipeline.script import DROPPED, ECHO, INT4, NUMBER, SIGNAL, TEXT, Conversation, echoing, rows
from tests.core.pipeline.test_cancel import CANCELLED

MEGABYTE = 1 << 20


@pytest.mark.parametrize("max_pipeline", [1, 2, 100])
def test_at_most_max_pipeline_requests_are_in_flight(max_pipeline: int) -> None:
    talk = echoing(max_pipeline=max_pipeline)
    calls = [talk.fetch(ECHO, i) for i in range(250)]
    answered = 0
    while answered < 250:
        talk.flush()
        in_flight = talk.session.sent.count
        assert in_flight == min(max_pipeline, 250 - answered)
        for i in range(in_flight):
            talk.reply(rows(answered + i))
        answered += in_flight
    assert [call.value for call in calls] == [[(i,)] for i in range(250)]


def test_each_reply_makes_room_for_one() -> None:
    talk = echoing(max_pipeline=2)
    for i in range(5):
        talk.fetch(ECHO, i)
    assert talk.flush() == "BES BES"
    for i in range(3):
        talk.reply(rows(i))
        assert talk.flush() == "BES"
        assert talk.values() == [i + 2]


def test_preparations_count_too() -> None:
    talk = Conversation(max_pipeline=1)
    talk.fetch(ECHO, 1, shared=True)
    talk.fetch("SELECT 2", shared=True)
    assert talk.flush() == "PDS"
    assert talk.session.sent.count == 1


def test_at_most_a_megabyte_is_in_flight_but_for_the_request_that_passes_it() -> None:
    talk = Conversation()
    talk.know("SELECT $1", [TEXT], [NUMBER])
    calls = [talk.fetch("SELECT $1", "x" * (MEGABYTE // 3)) for _ in range(8)]
    assert talk.flush() == "BES BES BES"
    talk.reply(rows(1))
    assert talk.flush() == "BES"
    talk.reply(rows(1), rows(1))
    assert talk.flush() == "BES BES"
    talk.reply(rows(1), rows(1), rows(1))
    assert talk.flush() == "BES BES"
    talk.reply(rows(1), rows(1))
    assert all(call.settled for call in calls)


def test_a_request_larger_than_the_bound_goes_alone() -> None:
    talk = Conversation()
    talk.know("SELECT $1", [TEXT], [NUMBER])
    talk.fetch("SELECT $1", "x" * (2 * MEGABYTE))
    talk.fetch("SELECT $1", "y")
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert talk.flush() == "BES"


def test_a_batch_is_handed_out_in_portions_so_that_its_owner_can_stop_between_them() -> None:
    talk = echoing()
    talk.batch(ECHO, [(i,) for i in range(50_000)])
    sizes = []
    while talk.session.wants_output():
        sizes.append(len(talk.session.take_output()))
    assert len(sizes) > 5
    assert max(sizes) < MEGABYTE // 2


def test_an_idle_session_wants_nothing_written() -> None:
    talk = echoing()
    assert not talk.session.wants_output()
    assert talk.session.take_output() == b""
    assert talk.session.count_pending() == 0


def test_dropped_requests_do_not_count_as_load_once_they_are_passed() -> None:
    """Nothing but them is left: no output would ever take them out of the queue."""
    talk = echoing(max_pipeline=1)
    running = talk.fetch(ECHO, 0)
    talk.flush()
    gone = [talk.fetch(ECHO, i) for i in range(3)]
    for call in gone:
        assert talk.cancel(call) == DROPPED
    talk.reply(rows(0))
    assert running.value == [(0,)]
    assert not talk.session.wants_output()
    assert talk.session.count_pending() == 0


def test_the_load_counts_what_waits_outside_the_queue() -> None:
    """A pool gives the next query to the connection with the least of it."""
    talk = Conversation()
    for i in range(10):
        talk.fetch(ECHO, i, shared=True)
    assert talk.session.count_pending() == 11


def test_what_is_counted_for_statistics() -> None:
    talk = echoing()
    before = talk.session.request_count
    talk.know("INSERT INTO t VALUES ($1)", [INT4], None)
    talk.execute("INSERT INTO t VALUES ($1)", 1)
    talk.script("SELECT 1")
    assert talk.session.request_count == before + 4, "the wait for the preparation, the preparation, and two requests"
    assert talk.session.statements.prepared == 2


def test_a_request_that_is_run_again_is_counted_once() -> None:
    """A pool tells by that what is done of what it had asked: all that was ever asked, less what is under way."""

    def done() -> int:
        count: int = talk.session.request_count - talk.session.count_pending()
        return count

    talk = echoing()
    before = done()
    calls = [talk.fetch(ECHO, n, shared=True) for n in range(3)]
    assert done() == before
    talk.flush()
    calls[0].waiter.settled = True
    assert talk.session.cancellation.give_up(calls[0].request) is SIGNAL
    talk.session.cancellation.delivered()
    talk.reply(CANCELLED, CANCELLED, CANCELLED)
    assert talk.flush() == "BES BES"
    assert done() == before + 1
    talk.answer(rows(1), rows(2))
    assert done() == before + 3
