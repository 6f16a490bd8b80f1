"""Invariant 8: what becomes of all that was asked when the server says FATAL, or the connection ends."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import errors
from tests.peers import backend
from tests.peers.backend import Field
from tests.session.script import ECHO, INT4, NUMBER, Call, Conversation, described, echoing, int4, rows

SHUTDOWN = backend.error_response("terminating connection", code="57P01", severity="FATAL")


def check_lost(call: Call, *, sent: bool) -> None:
    error = call.error
    assert isinstance(error, errors.ConnectionDoesNotExistError)
    assert error.safe_to_retry is not sent
    assert ("the request had been sent" in str(error)) == sent
    assert ("safe to retry" in str(error)) != sent


def test_08_fatal_gives_the_head_the_servers_error_and_the_others_say_whether_they_were_sent() -> None:
    talk = echoing(max_pipeline=3)
    calls = [talk.fetch(ECHO, i) for i in range(5)]
    talk.flush()
    talk.reply(rows(0), SHUTDOWN)
    talk.session.lost("the server closed the connection")
    assert calls[0].value == [(0,)]
    assert isinstance(calls[1].error, errors.AdminShutdownError)
    check_lost(calls[2], sent=True)
    assert calls[2].error.__cause__ is calls[1].error
    check_lost(calls[3], sent=False)
    check_lost(calls[4], sent=False)
    assert talk.session.idle


def test_08_without_last_words_the_head_had_been_sent_as_well() -> None:
    talk = echoing()
    head, follower = talk.fetch(ECHO, 1), talk.fetch(ECHO, 2)
    talk.flush()
    queued = talk.fetch(ECHO, 3)
    reason = ConnectionResetError("reset by peer")
    talk.session.lost(reason)
    check_lost(head, sent=True)
    check_lost(follower, sent=True)
    check_lost(queued, sent=False)
    assert head.error.__cause__ is reason


def test_08_a_reply_that_was_cut_is_no_result() -> None:
    talk = echoing()
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(rows(1)[:-6])
    talk.session.lost("cut")
    check_lost(call, sent=True)


def test_08_a_request_that_had_failed_already_keeps_its_error() -> None:
    talk = echoing()
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(backend.error_response("division by zero", code="22012"))
    talk.session.lost("cut")
    assert isinstance(call.error, errors.DivisionByZeroError)


def test_08_fatal_while_nothing_is_asked_is_the_reason_of_what_comes_next() -> None:
    talk = Conversation()
    talk.reply(SHUTDOWN)
    queued = talk.script("SELECT 1")
    talk.session.lost("the server closed the connection")
    check_lost(queued, sent=False)
    assert isinstance(queued.error.__cause__, errors.AdminShutdownError)


def test_08_fatal_during_start_up_is_its_error_at_once() -> None:
    """A false server may keep the end back."""
    talk = Conversation(greeted=False)
    call = talk.startup()
    talk.session.take_output()
    talk.reply(backend.error_response("no pg_hba.conf entry", code="28000", severity="FATAL"))
    assert isinstance(call.error, errors.InvalidAuthorizationSpecificationError)
    talk.session.lost("the server closed the connection")


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("fatal", [False, True])
def test_08_whoever_waits_for_a_statement_had_not_been_sent(shared: bool, fatal: bool) -> None:
    """Preparing changes nothing; of what the server said, the first of them is told."""
    talk = Conversation()
    first, second = talk.fetch(ECHO, 1, shared=shared), talk.fetch(ECHO, 2, shared=shared)
    talk.flush()
    if fatal:
        talk.reply(SHUTDOWN)
    talk.session.lost("cut")
    if fatal:
        assert isinstance(first.error, errors.AdminShutdownError)
    else:
        check_lost(first, sent=False)
    check_lost(second, sent=False)
    assert talk.session.idle


@pytest.mark.parametrize("shared", [False, True])
def test_08_whoever_waits_for_types_to_be_learnt_had_not_been_sent(shared: bool) -> None:
    talk = Conversation()
    calls = [talk.fetch("SELECT mood", shared=shared) for _ in range(3)]
    talk.flush()
    talk.reply(described([], [Field("m", 900_001)]))
    assert talk.flush() == "PBES"
    talk.session.lost("cut")
    for call in calls:
        check_lost(call, sent=False)
    assert talk.session.idle


@pytest.mark.parametrize("cacheable", [True, False])
def test_08_whoever_waits_for_a_preparation_that_was_not_sent(cacheable: bool) -> None:
    talk = echoing(max_pipeline=1, max_cacheable_statement_size=0 if cacheable else 21)
    running = talk.fetch(ECHO, 0)
    talk.flush()
    calls = [talk.fetch("SELECT something else", shared=shared) for shared in (False, True)]
    talk.session.lost("cut")
    check_lost(running, sent=True)
    for call in calls:
        check_lost(call, sent=False)
    assert talk.session.idle


def test_08_what_is_to_be_run_again_is_not_run_again_after_a_loss() -> None:
    talk = echoing()
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(backend.error_response("gone", code="26000"), backend.ready_for_query())
    assert not call.settled
    talk.session.lost("cut")
    assert isinstance(call.error, errors.ConnectionDoesNotExistError)
    assert talk.flush() == ""


def test_08_an_error_that_was_to_be_unseen_is_not_seen_after_a_loss_either() -> None:
    talk = echoing()
    stale = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(backend.error_response("gone", code="26000"))
    talk.session.lost("cut")
    check_lost(stale, sent=True)

    talk = echoing()
    target, neighbour = talk.fetch(ECHO, 1), talk.fetch(ECHO, 2)
    talk.flush()
    talk.session.cancel(target.request)
    talk.reply(rows(1), backend.error_response("canceling statement due to user request", code="57014"))
    talk.session.lost("cut")
    check_lost(neighbour, sent=True)


def test_08_a_protocol_violation_is_the_heads_error_and_the_cause_of_the_others() -> None:
    talk = echoing()
    head, follower = talk.fetch(ECHO, 1), talk.fetch(ECHO, 2)
    talk.flush()
    with pytest.raises(errors.ProtocolError) as caught:
        talk.reply(backend.parse_complete())
    talk.session.lost(caught.value)
    assert head.error is caught.value
    check_lost(follower, sent=True)
    assert follower.error.__cause__ is caught.value


# After the end


def test_after_a_loss_nothing_is_taken_and_nothing_given() -> None:
    talk = echoing()
    talk.session.send_now(b"p\0\0\0\4")
    talk.session.lost("cut by the test")
    assert talk.session.ended
    assert talk.flush() == ""
    talk.reply(rows(1), b"\xff" * 100)
    for ask in (lambda: talk.script("SELECT 1"), lambda: talk.fetch(ECHO, 1), lambda: talk.session.statement(ECHO)):
        with pytest.raises(errors.InterfaceError, match="connection is closed: cut by the test"):
            ask()


def test_a_second_loss_changes_nothing() -> None:
    talk = echoing()
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.session.lost("the first reason")
    talk.session.lost("another one")
    assert "the first reason" in str(call.error)
    assert talk.session.failure == "the first reason"


def test_a_waiter_that_cannot_be_told_does_not_keep_the_others_from_it() -> None:
    """Its event loop may be closed by then."""
    talk = echoing()
    deaf, other, queued = talk.fetch(ECHO, 1), talk.fetch(ECHO, 2), None
    talk.flush()
    queued = talk.fetch(ECHO, 3)

    def refuse(error: BaseException) -> None:
        raise RuntimeError("Event loop is closed")

    deaf.waiter.set_exception = refuse  # type: ignore[method-assign]
    talk.session.lost("cut")
    check_lost(other, sent=True)
    check_lost(queued, sent=False)


# Closing in good order


def test_closing_fails_what_was_not_sent_and_lets_the_rest_finish() -> None:
    talk = echoing(max_pipeline=2)
    calls = [talk.fetch(ECHO, i) for i in range(3)]
    talk.flush()
    assert talk.session.close("connection is closed") == b"X\0\0\0\4"
    check_lost(calls[2], sent=False)
    assert not calls[0].settled
    talk.reply(rows(0), rows(1))
    assert [call.value for call in calls[:2]] == [[(0,)], [(1,)]]
    with pytest.raises(errors.InterfaceError, match="connection is closed"):
        talk.script("SELECT 1")
    assert talk.flush() == ""


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("learning", [False, True])
def test_closing_fails_those_who_wait_for_a_statement(shared: bool, learning: bool) -> None:
    """They were never sent, and nothing is sent for them any more when the preparation is done."""
    talk = Conversation()
    calls = [talk.fetch(ECHO, i, shared=shared) for i in range(2)]
    talk.flush()
    if learning:
        talk.reply(described([INT4], [Field("m", 900_001)]))
        talk.flush()
    talk.session.close("connection is closed")
    for call in calls:
        check_lost(call, sent=False)
    if learning:
        talk.reply(
            backend.parse_complete(), backend.bind_complete(), backend.command_complete("SELECT 0"),
            backend.ready_for_query(),
        )  # fmt: skip
    else:
        talk.reply(described([INT4], [NUMBER]))
    assert talk.flush() == ""
    assert talk.session.idle


# Cut at every byte (fault 7)


def exchange() -> tuple[Conversation, list[Call], bytes]:
    talk = echoing()
    calls = [talk.fetch(ECHO, 0), talk.fetch(ECHO, 1), talk.script("SELECT 2")]
    talk.flush()
    calls.append(talk.fetch(ECHO, 3))
    row = backend.bind_complete() + backend.data_row(int4(0)) + backend.data_row(int4(9))
    data = b"".join((
        row, backend.command_complete("SELECT 2"), backend.notice_response(), backend.ready_for_query(),
        backend.error_response("division by zero", code="22012"), backend.ready_for_query(),
        backend.command_complete("SELECT 1"), backend.ready_for_query(),
    ))  # fmt: skip
    return talk, calls, data


def outcome(call: Call) -> Any:
    return call.waiter.result if call.waiter.error is None else type(call.waiter.error)


def test_07_the_socket_closed_at_every_byte_offset() -> None:
    *_, whole = exchange()
    complete: list[Any] = [[(0,), (9,)], errors.DivisionByZeroError, "SELECT 1"]
    ends = [i for i in range(len(whole) + 1) if whole[:i].endswith(backend.ready_for_query())]
    for cut in range(len(whole) + 1):
        talk, calls, data = exchange()
        talk.reply(data[:cut])
        talk.session.lost("cut")
        for i in range(3):
            if cut >= ends[i]:
                assert outcome(calls[i]) == complete[i]
            elif i == 1 and isinstance(calls[i].error, errors.DivisionByZeroError):
                assert cut > ends[0], "the server's error had come, though not the end of the request"
            else:
                check_lost(calls[i], sent=True)
        check_lost(calls[3], sent=False)
        assert talk.session.idle
