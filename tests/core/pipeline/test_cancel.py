"""Giving up: what was not sent is dropped, what was is drained, and a signal never hurts a neighbour."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import exceptions
from headrace._core.pipeline.cancel import CANCEL_TIMEOUT
from tests.core.pipeline.script import (
    DRAINED,
    DROPPED,
    ECHO,
    FAIL,
    INT4,
    NUMBER,
    SIGNAL,
    Call,
    Conversation,
    described,
    echoing,
    failed,
    int4,
    rows,
    simple,
)
from tests.peers import backend

CANCELLED = failed("57014", "canceling statement due to user request")


def pipelined(count: int, **limits: Any) -> tuple[Conversation, list[Call]]:
    talk = echoing(**limits)
    calls = [talk.fetch(ECHO, i) for i in range(count)]
    talk.flush()
    return talk, calls


# Dropped


def test_a_request_that_was_not_sent_never_is() -> None:
    talk = echoing()
    first, gone, last = talk.fetch(ECHO, 1), talk.fetch(ECHO, 2), talk.fetch(ECHO, 3)
    assert talk.cancel(gone) == DROPPED
    assert talk.flush() == "BES BES"
    assert talk.values() == [1, 3]
    talk.reply(rows(1), rows(3))
    assert (first.value, last.value) == ([(1,)], [(3,)])
    assert not gone.settled


def test_a_request_is_dropped_at_any_place_of_the_queue() -> None:
    for at in range(5):
        talk = echoing()
        calls = [talk.fetch(ECHO, i) for i in range(5)]
        assert talk.cancel(calls[at]) == DROPPED
        assert talk.flush() == "BES BES BES BES"
        assert talk.values() == [i for i in range(5) if i != at]


def test_what_is_done_or_was_given_up_before_is_left_alone() -> None:
    talk, (call, other) = pipelined(2)
    talk.reply(rows(0))
    assert talk.cancel(call) == DRAINED
    assert call.value == [(0,)]
    queued = talk.fetch(ECHO, 5)
    assert talk.cancel(queued) == DROPPED
    assert talk.cancel(queued) == DRAINED
    talk.reply(rows(1))
    assert other.value == [(1,)]


# Drained


def test_a_request_behind_others_is_drained_and_no_signal_is_sent() -> None:
    """Fault 26."""
    talk, (head, gone, last) = pipelined(3)
    assert talk.cancel(gone) == DRAINED
    assert not talk.session.cancellation.is_open
    talk.reply(rows(0), rows(1, 1, 1), rows(2))
    assert (head.value, last.value) == ([(0,)], [(2,)])
    assert not gone.settled or gone.value == [], "nobody waits for it"


def test_the_postgres_js_regression_a_cancelled_query_never_shifts_its_neighbours_replies() -> None:
    for at in range(6):
        talk, calls = pipelined(6)
        talk.cancel(calls[at])
        if talk.session.cancellation.is_open:
            talk.session.cancellation.delivered()
        for i in range(6):
            talk.reply(CANCELLED if i == at == 0 else rows(i))
        assert [call.value for i, call in enumerate(calls) if i != at] == [[(i,)] for i in range(6) if i != at]


def test_a_drained_reply_of_any_shape_keeps_the_line() -> None:
    replies = [rows(), rows(*range(100)), failed("22012"), backend.bind_complete() + failed("XX000")]
    for reply in replies:
        talk, (head, gone, last) = pipelined(3)
        talk.cancel(gone)
        talk.reply(rows(0), reply, rows(2))
        assert (head.value, last.value) == ([(0,)], [(2,)])


# The head is cancelled on the server


def test_the_head_alone_is_signalled_and_nothing_is_written_meanwhile() -> None:
    talk, (call,) = pipelined(1)
    assert talk.cancel(call) == SIGNAL
    after = talk.fetch(ECHO, 1)
    assert talk.session.cancellation.is_open
    assert talk.flush() == ""
    talk.reply(CANCELLED)
    assert talk.flush() == "", "the signal may still be on its way: it would hit what is written now"
    talk.session.cancellation.delivered()
    assert not talk.session.cancellation.is_open
    assert talk.log.reopened == 1
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert after.value == [(1,)]


def test_delivery_known_before_the_reply_keeps_the_window_open_until_the_reply() -> None:
    talk, (call,) = pipelined(1)
    assert talk.cancel(call) == SIGNAL
    talk.session.cancellation.delivered()
    assert talk.session.cancellation.is_open
    talk.fetch(ECHO, 1)
    assert talk.flush() == ""
    talk.reply(CANCELLED)
    assert talk.flush() == "BES"


def test_the_running_head_among_50_is_signalled_and_the_others_get_their_rows() -> None:
    """Fault 25."""
    talk, calls = pipelined(50)
    assert talk.cancel(calls[0]) == SIGNAL
    talk.session.cancellation.delivered()
    talk.reply(CANCELLED, *[rows(i) for i in range(1, 50)])
    assert [call.value for call in calls[1:]] == [[(i,)] for i in range(1, 50)]
    assert not talk.session.cancellation.is_open


@pytest.mark.parametrize("hit", [1, 2, 3])
def test_a_late_signal_that_hits_a_neighbour_is_unseen(hit: int) -> None:
    """Fault 27: it is run again, the server having rolled it back."""
    talk, calls = pipelined(4)
    assert talk.cancel(calls[0]) == SIGNAL
    talk.reply(rows(0))
    for i in range(1, 4):
        talk.reply(CANCELLED if i == hit else rows(i))
    assert not calls[hit].settled
    assert talk.flush() == ""
    talk.session.cancellation.delivered()
    assert talk.flush() == "BES"
    assert talk.values() == [hit]
    talk.reply(rows(hit))
    assert [call.value for call in calls[1:]] == [[(i,)] for i in range(1, 4)]


def test_a_neighbour_is_run_again_ahead_of_what_was_not_sent() -> None:
    talk, calls = pipelined(2, max_pipeline=2)
    later = talk.fetch(ECHO, 2)
    assert talk.cancel(calls[0]) == SIGNAL
    talk.session.cancellation.delivered()
    talk.reply(rows(0), CANCELLED)
    assert talk.flush() == "BES BES"
    assert talk.values() == [1, 2]
    talk.reply(rows(1), rows(2))
    assert (calls[1].value, later.value) == ([(1,)], [(2,)])


def test_a_neighbour_is_run_again_once() -> None:
    """A second 57014 is nobody's stray signal: statement_timeout is one as well."""
    talk, calls = pipelined(2)
    talk.cancel(calls[0])
    talk.session.cancellation.delivered()
    talk.reply(CANCELLED, CANCELLED)
    talk.flush()
    talk.reply(failed("57014", "canceling statement due to statement timeout"))
    assert isinstance(calls[1].error, exceptions.QueryCanceledError)


def test_a_57014_without_a_signal_is_the_callers() -> None:
    talk, (call,) = pipelined(1)
    talk.reply(failed("57014", "canceling statement due to statement timeout"))
    assert isinstance(call.error, exceptions.QueryCanceledError)


def test_what_was_sent_after_the_window_is_not_exposed() -> None:
    talk, (gone,) = pipelined(1)
    talk.cancel(gone)
    talk.session.cancellation.delivered()
    talk.reply(CANCELLED)
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(failed("57014", "canceling statement due to statement timeout"))
    assert isinstance(call.error, exceptions.QueryCanceledError)


def test_a_preparation_that_is_hit_is_made_again_by_another_name_unseen() -> None:
    """The server may have kept what it had parsed by then."""
    talk, (gone,) = pipelined(1)
    call = talk.fetch("SELECT 1", shared=True)
    assert talk.flush() == "PDS"
    (name,) = talk.statement_names()
    assert talk.cancel(gone) == SIGNAL
    talk.session.cancellation.delivered()
    talk.reply(rows(0), backend.parse_complete(), CANCELLED)
    assert talk.flush() == "PDS CS"
    assert talk.statement_names()[1] == name != talk.statement_names()[0]
    talk.answer(described([], [NUMBER]))
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert call.value == [(1,)]


@pytest.mark.parametrize(
    "query",
    ["CREATE TABLE t ()", "SET x = 1", "CALL p()", "SELECT 1; SELECT 2", "BEGIN"],
)
def test_no_signal_where_a_neighbour_could_not_be_run_again(query: str) -> None:
    talk, (gone,) = pipelined(1)
    neighbour = talk.script(query)
    talk.flush()
    assert talk.cancel(gone) == DRAINED
    assert not talk.session.cancellation.is_open
    talk.reply(rows(0), simple("SELECT 1"))
    assert neighbour.value == "SELECT 1"


@pytest.mark.parametrize(
    "query",
    [
        "INSERT INTO t VALUES ($1)",
        "WITH a AS (DELETE FROM t RETURNING 1) SELECT a FROM a WHERE $1 > 0",
        "SELECT a FROM t WHERE a = $1 FOR UPDATE",
        "SELECT f($1)",
        "SELECT nextval($1)",
    ],
)
def test_no_signal_where_a_neighbour_may_write(query: str) -> None:
    """A 57014 does not prove that it was undone: a foreign server may have committed before."""
    talk = echoing()
    talk.know(query, [INT4], [NUMBER])
    gone, neighbour = talk.fetch(ECHO, 0), talk.fetch(query, 1)
    talk.flush()
    assert talk.cancel(gone) == DRAINED
    talk.reply(rows(0), rows(1))
    assert neighbour.value == [(1,)]


def test_a_write_can_be_cancelled_where_all_behind_it_only_read() -> None:
    talk = echoing()
    talk.know("INSERT INTO t VALUES ($1)", [INT4], None)
    head, neighbour = talk.execute("INSERT INTO t VALUES ($1)", 1), talk.fetch(ECHO, 2)
    talk.flush()
    assert talk.cancel(head) == SIGNAL
    talk.session.cancellation.delivered()
    talk.reply(CANCELLED, CANCELLED)
    assert talk.flush() == "BES"
    assert talk.values() == [2], "the write is not run again"
    talk.reply(rows(2))
    assert neighbour.value == [(2,)]


def test_no_signal_where_a_batch_runs_behind_it() -> None:
    talk, (gone,) = pipelined(1)
    talk.batch(ECHO, [(1,), (2,)])
    talk.flush()
    assert talk.cancel(gone) == DRAINED


def test_no_signal_at_a_head_that_may_open_a_transaction_for_the_others() -> None:
    """They could not be run again inside it."""
    talk = echoing()
    begin = talk.script("BEGIN; SELECT pg_sleep(100)")
    talk.fetch(ECHO, 1)
    talk.flush()
    assert talk.cancel(begin) == DRAINED


def test_no_signal_where_one_given_up_may_open_a_transaction_for_those_behind_it() -> None:
    talk, (gone,) = pipelined(1)
    begin, neighbour = talk.script("BEGIN"), talk.fetch(ECHO, 1)
    talk.flush()
    assert talk.cancel(begin) == DRAINED
    assert talk.cancel(gone) == DRAINED
    talk.reply(rows(0), simple("BEGIN", status="T"), rows(1, status="T"))
    assert neighbour.value == [(1,)]


@pytest.mark.parametrize("status", ["T", "E"])
def test_inside_a_transaction_a_head_with_somebody_behind_it_is_drained(status: str) -> None:
    talk = echoing()
    talk.script("BEGIN")
    talk.flush()
    talk.reply(simple("BEGIN", status=status))
    gone, after = talk.fetch(ECHO, 1), talk.fetch(ECHO, 2)
    talk.flush()
    assert talk.cancel(gone) == DRAINED
    talk.reply(rows(1, status=status), rows(2, status=status))
    assert after.value == [(2,)]


def test_inside_a_transaction_a_head_alone_is_signalled() -> None:
    talk = echoing()
    talk.script("BEGIN")
    talk.flush()
    talk.reply(simple("BEGIN", status="T"))
    gone = talk.fetch(ECHO, 1)
    talk.flush()
    assert talk.cancel(gone) == SIGNAL


def test_the_head_is_signalled_once_nobody_waits_for_anything_behind_it() -> None:
    """A task group whose tasks are cancelled in turn: after the last of them nothing speaks against a signal."""
    talk = echoing()
    talk.script("BEGIN")
    talk.flush()
    talk.reply(simple("BEGIN", status="T"))
    calls = [talk.fetch(ECHO, i) for i in range(3)]
    talk.flush()
    assert [talk.cancel(call) for call in calls] == [DRAINED, DRAINED, SIGNAL]
    rollback = talk.script("ROLLBACK", uncancellable=True)
    assert talk.flush() == ""
    talk.session.cancellation.delivered()
    talk.reply(failed("57014", status="E"), failed("25P02", status="E"), failed("25P02", status="E"))
    assert talk.flush() == "Q"
    talk.reply(simple("ROLLBACK"))
    assert rollback.value == "ROLLBACK"


# COMMIT and ROLLBACK


@pytest.mark.parametrize("sent", [False, True])
def test_what_ends_a_transaction_is_carried_out_although_its_caller_is_gone(sent: bool) -> None:
    talk = echoing()
    commit = talk.script("COMMIT", uncancellable=True)
    if sent:
        talk.flush()
    assert talk.cancel(commit) == DRAINED
    if not sent:
        assert talk.flush() == "Q"
    after = talk.fetch(ECHO, 1)
    assert talk.flush() == "BES"
    talk.reply(simple("COMMIT"), rows(1))
    assert after.value == [(1,)]


def test_no_signal_where_a_commit_could_be_hit() -> None:
    talk, (gone,) = pipelined(1)
    commit = talk.script("COMMIT", uncancellable=True)
    talk.flush()
    talk.cancel(commit)
    assert talk.cancel(gone) == DRAINED


# Heads that were given up before they came to the head


def test_an_abandoned_request_that_comes_to_the_head_is_reported_and_can_be_signalled() -> None:
    talk, (head, gone, last) = pipelined(3)
    talk.cancel(gone)
    talk.reply(rows(0))
    assert talk.log.abandoned == 1
    assert talk.session.cancellation.time_is_up() == SIGNAL
    talk.session.cancellation.delivered()
    talk.reply(CANCELLED, rows(2))
    assert (head.value, last.value) == ([(0,)], [(2,)])


def test_a_head_that_somebody_waits_for_is_not_signalled() -> None:
    talk, (head, gone) = pipelined(2)
    talk.cancel(gone)
    assert talk.session.cancellation.time_is_up() == DRAINED
    assert not talk.session.cancellation.is_open
    talk.reply(rows(0), rows(1))
    assert head.value == [(0,)]


def test_an_abandoned_request_behind_the_target_is_reported_when_the_window_closes() -> None:
    talk, calls = pipelined(2)
    talk.cancel(calls[0])
    talk.cancel(calls[1])
    talk.reply(CANCELLED)
    assert talk.log.abandoned == 0, "while the window is open nothing could be done about it"
    talk.session.cancellation.delivered()
    assert talk.log.abandoned >= 1


# More than one signal


def test_a_second_request_for_the_same_target_keeps_the_window_open() -> None:
    """A backend that has not begun with the request yet passes a CancelRequest over: another one is sent."""
    talk, (gone,) = pipelined(1)
    talk.cancel(gone)
    talk.session.cancellation.delivered()
    assert talk.session.cancellation.repeat(gone.request)
    talk.reply(CANCELLED)
    assert talk.session.cancellation.is_open, "the second one is on its way"
    talk.session.cancellation.delivered()
    assert not talk.session.cancellation.is_open
    assert not talk.session.cancellation.repeat(gone.request)


def test_while_a_signal_is_under_way_others_are_drained() -> None:
    talk, calls = pipelined(3)
    assert talk.cancel(calls[0]) == SIGNAL
    assert talk.cancel(calls[1]) == DRAINED
    assert talk.cancel(calls[0]) == DRAINED
    assert talk.session.cancellation.interrupt() == DRAINED


def test_without_a_key_nothing_can_be_signalled() -> None:
    talk = Conversation(greeted=False)
    talk.startup()
    talk.session.take_output()
    talk.reply(backend.authentication_ok(), backend.ready_for_query())
    assert talk.session.cancellation.key is None
    gone = talk.script("SELECT pg_sleep(100)")
    talk.flush()
    assert talk.cancel(gone) == DRAINED
    assert talk.session.cancellation.interrupt() == DRAINED


def test_a_cancel_request_without_an_effect_in_time_ends_the_connection() -> None:
    talk, (gone,) = pipelined(1)
    assert talk.cancel(gone) == SIGNAL
    assert talk.log.cancel_timers == [CANCEL_TIMEOUT]
    talk.session.cancellation.delivered()
    assert talk.session.cancellation.time_is_up() == FAIL
    assert isinstance(talk.session.cancellation.overdue, exceptions.ConnectionDoesNotExistError)


def test_the_timer_is_stopped_when_the_window_closes() -> None:
    talk, (gone,) = pipelined(1)
    talk.cancel(gone)
    talk.session.cancellation.delivered()
    talk.reply(CANCELLED)
    assert talk.log.cancel_timers == [CANCEL_TIMEOUT, 0]


def test_without_a_key_an_abandoned_head_that_does_not_end_in_time_ends_the_connection() -> None:
    talk = Conversation(greeted=False)
    talk.startup()
    talk.session.take_output()
    talk.reply(backend.authentication_ok(), backend.ready_for_query())
    first, second = talk.script("SELECT 1"), talk.script("SELECT pg_sleep(100)")
    talk.flush()
    talk.cancel(first)
    talk.cancel(second)
    talk.reply(simple("SELECT 1"))
    assert talk.session.cancellation.time_is_up() == DRAINED, "the time was that of the first"
    assert talk.log.cancel_timers == [CANCEL_TIMEOUT] * 2
    assert talk.session.cancellation.time_is_up() == FAIL
    assert isinstance(talk.session.cancellation.overdue, exceptions.FeatureNotSupportedError)


def test_a_stray_delivery_is_passed_over() -> None:
    talk = echoing()
    talk.session.cancellation.delivered()
    assert not talk.session.cancellation.is_open
    assert talk.log.reopened == 0


# Interrupting, to close


def test_interrupting_gives_the_waiter_the_servers_error() -> None:
    talk, (call,) = pipelined(1)
    assert talk.session.cancellation.interrupt() == SIGNAL
    talk.session.cancellation.delivered()
    talk.reply(CANCELLED)
    assert isinstance(call.error, exceptions.QueryCanceledError)


def test_what_ends_a_transaction_is_not_interrupted() -> None:
    talk = echoing()
    talk.script("COMMIT", uncancellable=True)
    talk.flush()
    assert talk.session.cancellation.interrupt() == DRAINED


def test_nothing_to_interrupt() -> None:
    assert echoing().session.cancellation.interrupt() == DRAINED


# Rows that nobody wants


def test_rows_of_an_abandoned_request_are_not_decoded() -> None:
    talk, (head, gone) = pipelined(2)
    talk.cancel(gone)
    talk.reply(rows(0), backend.bind_complete())
    talk.reply(backend.data_row(int4(1), int4(2)), simple("SELECT 1"))
    assert head.value == [(0,)]
    assert talk.idle


def test_parked_requests_are_dropped_too() -> None:
    talk = Conversation()
    gone, stays = talk.fetch(ECHO, 1, shared=True), talk.fetch(ECHO, 2, shared=True)
    talk.flush()
    assert talk.cancel(gone) == DROPPED
    talk.reply(described([INT4], [NUMBER]))
    assert talk.flush() == "BES"
    assert talk.values() == [2]
    talk.reply(rows(2))
    assert stays.value == [(2,)]
    assert talk.idle
