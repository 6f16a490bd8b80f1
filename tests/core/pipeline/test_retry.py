"""Statements that the server refuses as stale: prepared again once and unseen outside of transactions, healed inside.

After DDL the server answers 0A000 from RevalidateCachedQuery, after DEALLOCATE and DISCARD 26000.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from headrace import exceptions
from tests.core.pipeline.script import (
    DROPPED,
    ECHO,
    INT4,
    NUMBER,
    TEXT,
    Conversation,
    described,
    echoing,
    failed,
    int4,
    rows,
    simple,
)
from tests.peers import backend
from tests.peers.backend import Field

CHANGED = "cached plan must not change result type"


def changed(status: str = "I") -> bytes:
    return failed("0A000", CHANGED, status=status, routine="RevalidateCachedQuery")


def gone(status: str = "I") -> bytes:
    return failed("26000", 'prepared statement "headrace_1" does not exist', status=status)


Stale = Callable[..., bytes]
STALE = pytest.mark.parametrize("stale", [changed, gone])


@STALE
def test_outside_of_a_transaction_it_is_prepared_again_unseen(stale: Stale) -> None:
    talk = echoing()
    call = talk.fetch(ECHO, 1)
    talk.flush()
    (name,) = talk.statement_names()
    talk.reply(stale())
    assert not call.settled
    assert talk.flush() == "PDS"
    assert name not in talk.statement_names()
    talk.answer(described([INT4], [NUMBER, Field("t", TEXT)]))
    assert talk.flush() == ("BES CS" if stale is changed else "BES")
    talk.answer(backend.bind_complete() + backend.data_row(int4(1), "new") + simple("SELECT 1"))
    assert call.value == [(1, "new")]
    assert talk.idle


@STALE
def test_all_that_were_in_flight_are_run_again_in_their_order(stale: Stale) -> None:
    """Their replies arrive in one piece, so all are put back before anything could be written."""
    talk = echoing()
    calls = [talk.fetch(ECHO, i) for i in range(5)]
    talk.flush()
    talk.reply(b"".join([stale()] * 5))
    calls.append(talk.fetch(ECHO, 5))
    assert talk.flush() == "PDS"
    talk.answer(described([INT4], [NUMBER]))
    assert talk.flush().replace(" CS", "") == "BES BES BES BES BES BES"
    assert talk.values() == [0, 1, 2, 3, 4, 5]
    talk.answer(*[rows(i) for i in range(6)])
    assert [call.value for call in calls] == [[(i,)] for i in range(6)]
    assert talk.session.statements.prepared == 2
    assert talk.idle


@STALE
def test_what_is_put_back_does_not_wait_for_a_preparation_that_stands_behind_it(stale: Stale) -> None:
    """Inside a transaction the statement was only marked; a new call then has it prepared, behind what was not sent."""
    talk = echoing(max_pipeline=4)
    begin, inside, end, outside = (
        talk.script("BEGIN"),
        talk.fetch(ECHO, 1),
        talk.script("ROLLBACK"),
        talk.fetch(ECHO, 2),
    )
    assert talk.flush() == "Q BES Q BES"
    waiting = talk.script("SELECT 3")
    talk.reply(simple("BEGIN", status="T"), stale("E"))
    assert inside.error.sqlstate in ("0A000", "26000")
    new = talk.fetch(ECHO, 4)
    talk.reply(simple("ROLLBACK"), stale())
    assert (begin.value, end.value) == ("BEGIN", "ROLLBACK")
    assert talk.flush() == "PDS"
    talk.answer(described([INT4], [NUMBER]))
    assert talk.flush().replace(" CS", "") == "BES Q BES"
    assert talk.values() == [2, 4]
    talk.answer(rows(2), simple("SELECT 1"), rows(4))
    assert (outside.value, waiting.value, new.value) == ([(2,)], "SELECT 1", [(4,)])


@STALE
@pytest.mark.parametrize("shared", [False, True])
def test_it_is_run_again_while_tables_go_on_changing_then_without_a_name_and_not_for_ever(
    stale: Stale, shared: bool
) -> None:
    talk = echoing()
    call = talk.fetch(ECHO, 1, shared=shared)
    talk.flush()
    for sent in ("BES", "BES", "BES", "PBDES"):
        talk.answer(stale())
        assert talk.flush().replace(" CS", "") == "PDS"
        talk.answer(described([INT4], [NUMBER]))
        assert talk.flush().replace(" CS", "") == sent
    talk.answer(stale())
    assert call.error.sqlstate in ("0A000", "26000")
    assert talk.flush() == ""


@STALE
def test_inside_a_transaction_it_raises_and_the_next_use_prepares_it_again(stale: Stale) -> None:
    talk = echoing()
    talk.script("BEGIN")
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.answer(simple("BEGIN", status="T"), stale("E"))
    expected = exceptions.InvalidCachedStatementError if stale is changed else exceptions.InvalidSQLStatementNameError
    assert isinstance(call.error, expected)
    talk.script("ROLLBACK")
    healed = talk.fetch(ECHO, 2)
    assert talk.flush() == ("CS Q PDS" if stale is changed else "Q PDS")
    talk.answer(simple("ROLLBACK"), described([INT4], [NUMBER]))
    talk.flush()
    talk.answer(rows(2))
    assert healed.value == [(2,)]


def test_other_0a000_are_the_callers() -> None:
    talk = echoing()
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(failed("0A000", "not implemented"))
    assert isinstance(call.error, exceptions.FeatureNotSupportedError)
    assert talk.flush() == ""


@pytest.mark.parametrize("query", ["EXECUTE mine", "DEALLOCATE mine"])
def test_a_missing_statement_of_the_users_own_is_the_callers_error(query: str) -> None:
    talk = Conversation()
    talk.know(query, [], None)
    call = talk.execute(query)
    talk.flush()
    talk.reply(failed("26000", 'prepared statement "mine" does not exist'))
    assert isinstance(call.error, exceptions.InvalidSQLStatementNameError)
    assert talk.flush() == ""


# executemany() and fetchmany()


@STALE
def test_a_batch_is_run_again_from_its_first_element(stale: Stale) -> None:
    talk = echoing()
    call = talk.batch(ECHO, [(1,), (2,)], collects=True)
    talk.flush()
    talk.reply(stale())
    assert talk.flush() == "PDS"
    talk.reply(described([INT4], [NUMBER]))
    assert talk.flush().startswith("BEBES")
    assert talk.values() == [1, 2]
    one = backend.bind_complete() + backend.data_row(int4(1)) + backend.command_complete("SELECT 1")
    talk.reply(one, one, backend.ready_for_query())
    assert call.value == [(1,), (1,)]


@STALE
def test_a_batch_whose_elements_are_gone_raises_and_the_next_one_prepares_again(stale: Stale) -> None:
    talk = echoing()
    call = talk.batch(ECHO, iter([(1,), (2,)]))
    talk.flush()
    talk.reply(stale())
    assert call.error.sqlstate in ("0A000", "26000")
    talk.batch(ECHO, iter([(3,)]))
    assert talk.flush().replace("CS ", "") == "PDS"


def test_a_long_batch_is_ended_before_it_is_run_again() -> None:
    """The server skips what was sent until the Sync; it must get one before anything else."""
    talk = echoing()
    elements = [(i,) for i in range(30_000)]
    call = talk.batch(ECHO, elements)
    first = talk.session.take_output()
    assert first
    assert not first.endswith(b"S\0\0\0\4")
    talk.reply(backend.error_response(CHANGED, code="0A000", routine="RevalidateCachedQuery"))
    assert talk.flush() == "ES", "the portal does not exist: an error, were there none yet"
    talk.reply(backend.ready_for_query())
    assert talk.flush() == "PDS"
    talk.reply(described([INT4], [NUMBER]))
    words = talk.flush()
    assert words.startswith("BEBE")
    assert talk.values() == list(range(30_000))
    one = backend.bind_complete() + backend.command_complete("SELECT 1")
    talk.reply(one * 30_000, backend.ready_for_query())
    assert call.value is None


# Given up in the middle


@STALE
def test_a_request_that_is_given_up_is_not_run_again(stale: Stale) -> None:
    talk = echoing()
    first, call = talk.fetch(ECHO, 0), talk.fetch(ECHO, 1)
    talk.flush()
    talk.cancel(call)
    talk.reply(rows(0), stale())
    assert first.value == [(0,)]
    assert talk.flush() in ("", "CS")


@STALE
def test_a_request_that_is_given_up_while_it_waits_to_be_run_again_is_dropped(stale: Stale) -> None:
    talk = echoing()
    call, neighbour = talk.fetch(ECHO, 1), talk.fetch(ECHO, 2)
    talk.flush()
    talk.reply(stale(), stale())
    assert talk.cancel(call) == DROPPED
    assert talk.flush() == "PDS"
    talk.reply(described([INT4], [NUMBER]))
    assert talk.flush().startswith("BES")
    talk.reply(rows(2))
    assert neighbour.value == [(2,)]
    assert not call.settled


def test_an_argument_that_can_no_longer_be_encoded_fails_its_own_call() -> None:
    """The caller has changed it since; a request is encoded anew when its statement was prepared again."""
    talk = Conversation()
    talk.know("SELECT $1::int4[] AS n", [1007], [NUMBER])
    numbers: list[object] = [1]
    call = talk.fetch("SELECT $1::int4[] AS n", numbers)
    talk.flush()
    numbers[0] = "one"
    talk.reply(changed())
    talk.flush()
    talk.reply(described([1007], [NUMBER]))
    assert isinstance(call.error, exceptions.ArgumentError)
    talk.flush()
    assert not talk.session.wants_output()


def test_a_stale_statement_of_a_released_prepared_statement_object() -> None:
    """Its close stands behind the request; what is prepared again has another name."""
    talk = Conversation()
    statement = talk.session.statements.hold(ECHO, name="mine")
    talk.prepare(statement)
    talk.flush()
    talk.reply(described([INT4], [NUMBER]))
    call = talk.execute_statement(statement, 1)
    talk.flush()
    talk.session.statements.release(statement)
    talk.reply(changed())
    assert talk.flush() == "PDS"
    (name,) = talk.statement_names()
    assert name != "mine"
    talk.reply(described([INT4], [NUMBER]))
    assert talk.flush() == "BES CS CS"
    assert talk.statement_names() == [name, "mine", name]
    talk.reply(rows(1))
    assert call.value == [(1,)]


# DEALLOCATE ALL and DISCARD ALL


@pytest.mark.parametrize("text", ["DEALLOCATE ALL", "deallocate prepare all", "SELECT 1; DISCARD\n ALL"])
def test_what_the_session_has_the_server_forget_is_prepared_anew_before_it_is_used(text: str) -> None:
    """Inside a transaction it would be too late to find out."""
    talk = echoing()
    talk.script(text)
    talk.script("BEGIN")
    call = talk.fetch(ECHO, 1)
    assert talk.flush() == "Q CS Q PDS", "closed as well, should the first not be carried out"
    talk.answer(simple("DISCARD ALL"), simple("BEGIN", status="T"), described([INT4], [NUMBER], status="T"))
    assert talk.flush() == "BES"
    talk.reply(rows(1, status="T"))
    assert call.value == [(1,)]
    assert talk.idle


def test_other_statements_stay_prepared_whatever_is_deallocated_or_discarded() -> None:
    talk = echoing()
    talk.script("DEALLOCATE mine; DISCARD TEMP")
    talk.fetch(ECHO, 1)
    assert talk.flush() == "Q BES"
