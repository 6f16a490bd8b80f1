"""The place of a request that runs later than others that were asked after it.

Three kinds of requests do: shared ones that were parked until their statement was prepared, ones whose statement the
server has refused as stale, and neighbours that a CancelRequest has hit. None may come to run inside a transaction
that somebody else has begun meanwhile: its ROLLBACK would undo what was acknowledged.
"""

from __future__ import annotations

import pytest

from headrace import exceptions
from tests.core.pipeline.script import (
    ECHO,
    INT4,
    NUMBER,
    SIGNAL,
    Conversation,
    described,
    echoing,
    failed,
    rows,
    simple,
)
from tests.core.pipeline.test_cancel import CANCELLED
from tests.core.pipeline.test_retry import STALE, Stale
from tests.peers import backend

# A lease begins: barrier()


def test_what_was_parked_is_ahead_of_a_lease() -> None:
    talk = Conversation()
    shared = talk.fetch(ECHO, 1, shared=True)
    talk.session.statements.barrier()
    begin = talk.script("BEGIN")
    assert talk.session.statements.parked == 0
    assert talk.flush() == "PDS"
    talk.answer(described([INT4], [NUMBER]))
    assert talk.flush() == "BES Q"
    talk.answer(rows(1), simple("BEGIN", status="T"))
    assert (shared.value, begin.value) == ([(1,)], "BEGIN")
    assert talk.idle


def test_what_is_parked_while_it_is_being_prepared_is_ahead_too() -> None:
    talk = Conversation()
    shared = [talk.fetch(ECHO, i, shared=True) for i in range(3)]
    assert talk.flush() == "PDS"
    talk.session.statements.barrier()
    talk.script("BEGIN")
    assert talk.flush() == ""
    talk.reply(described([INT4], [NUMBER]))
    assert talk.flush() == "BES BES BES Q"
    talk.answer(rows(0), rows(1), rows(2), simple("BEGIN", status="T"))
    assert [call.value for call in shared] == [[(0,)], [(1,)], [(2,)]]


def test_a_parked_request_whose_statement_cannot_be_prepared_lets_the_lease_go_on() -> None:
    talk = Conversation()
    shared = talk.fetch("SELEKT", shared=True)
    talk.session.statements.barrier()
    begin = talk.script("BEGIN")
    talk.flush()
    talk.reply(failed("42601", "syntax error"))
    assert isinstance(shared.error, exceptions.PostgresSyntaxError)
    assert talk.flush() == "Q"
    talk.reply(simple("BEGIN", status="T"))
    assert begin.value == "BEGIN"
    assert talk.idle


@STALE
def test_what_is_run_again_is_ahead_of_a_lease_that_has_not_sent_anything(stale: Stale) -> None:
    talk = echoing()
    shared = talk.fetch(ECHO, 1, shared=True)
    talk.flush()
    talk.session.statements.barrier()
    begin = talk.script("BEGIN")
    talk.reply(stale())
    assert talk.flush() == "PDS"
    talk.answer(described([INT4], [NUMBER]))
    assert talk.flush().replace(" CS", "") == "BES Q"
    talk.answer(rows(1), simple("BEGIN", status="T"))
    assert (shared.value, begin.value) == ([(1,)], "BEGIN")


# A stale statement


@STALE
@pytest.mark.parametrize("behind", ["BEGIN", "SET search_path TO other", "SELECT 1; BEGIN"])
def test_nothing_is_run_again_behind_what_changes_the_session(stale: Stale, behind: str) -> None:
    """It was not begun, so whoever asked may ask again: elsewhere, if it was a pool."""
    talk = echoing()
    call = talk.fetch(ECHO, 1)
    changing = talk.script(behind)
    talk.flush()
    talk.answer(stale(), simple("BEGIN", status="T"))
    assert call.error.safe_to_retry
    assert changing.value == "BEGIN"
    # The next use is healed all the same.
    again = talk.fetch(ECHO, 2)
    assert "PDS" in talk.flush()
    talk.answer(described([INT4], [NUMBER], status="T"))
    talk.flush()
    talk.reply(rows(2, status="T"))
    assert again.value == [(2,)]


@STALE
def test_it_is_run_again_behind_what_leaves_the_session_as_it_is(stale: Stale) -> None:
    talk = echoing()
    call, other = talk.fetch(ECHO, 1), talk.script("SELECT 2; SELECT 3")
    talk.flush()
    talk.answer(stale(), simple("SELECT 1"))
    talk.flush()
    talk.answer(described([INT4], [NUMBER]))
    talk.flush()
    talk.answer(rows(1))
    assert (call.value, other.value) == ([(1,)], "SELECT 1")


@pytest.mark.parametrize(("text", "once"), [(ECHO, True), ("COMMIT", False), ("BEGIN", False)])
def test_it_is_not_safe_to_ask_again_with_used_arguments_or_for_what_ends_a_transaction(text: str, once: bool) -> None:
    talk = echoing()
    if not once:
        talk.know(text, [], None)
    call = talk.batch(text, iter([(1,)])) if once else talk.execute(text)
    talk.script("SET search_path TO other")
    talk.flush()
    talk.answer(failed("26000", "prepared statement does not exist"), simple("SET"))
    assert call.error.sqlstate == "26000"
    assert not call.error.safe_to_retry


def test_inside_a_transaction_it_is_not_safe_to_ask_again() -> None:
    talk = echoing()
    talk.script("BEGIN")
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(simple("BEGIN", status="T"), failed("26000", "prepared statement does not exist", status="E"))
    assert not call.error.safe_to_retry


# A neighbour of a cancellation


def test_no_transaction_begins_before_a_neighbour_that_a_signal_may_have_hit_has_its_reply() -> None:
    """The window is closed, and the 57014 of the neighbour still on its way."""
    talk = echoing()
    head, neighbour = talk.fetch(ECHO, 1), talk.fetch(ECHO, 2)
    talk.flush()
    assert talk.cancel(head) == SIGNAL
    talk.session.cancellation.delivered()
    talk.reply(rows(1))
    assert not talk.session.cancellation.is_open
    plain, begin = talk.fetch(ECHO, 3), talk.script("BEGIN")
    assert talk.flush() == "BES", "what may be run again itself need not wait"
    talk.reply(CANCELLED)
    assert not neighbour.settled
    assert talk.flush() == "BES Q"
    assert talk.values() == [2]
    talk.reply(rows(3), rows(2), simple("BEGIN", status="T"))
    assert (plain.value, neighbour.value, begin.value) == ([(3,)], [(2,)], "BEGIN")
    assert talk.idle


def test_a_neighbour_that_was_spared_holds_nobody_back() -> None:
    talk = echoing()
    head, neighbour = talk.fetch(ECHO, 1), talk.fetch(ECHO, 2)
    talk.flush()
    talk.cancel(head)
    talk.session.cancellation.delivered()
    begin = talk.script("BEGIN")
    talk.reply(CANCELLED)
    assert talk.flush() == ""
    talk.reply(rows(2))
    assert neighbour.value == [(2,)]
    assert talk.flush() == "Q"
    talk.reply(backend.command_complete("BEGIN") + backend.ready_for_query("T"))
    assert begin.value == "BEGIN"
