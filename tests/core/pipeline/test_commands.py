"""BEGIN, SAVEPOINT and RELEASE are put off, and travel with the next request under one Sync."""

from __future__ import annotations

from typing import Any

import pytest

import headrace
from headrace._core.pipeline.commands import Commands
from headrace._core.pipeline.copy import CopyIn
from headrace._core.pipeline.requests import Closing, UnpreparedQuery
from tests.core.pipeline.script import (
    DROPPED,
    ECHO,
    INT4,
    NUMBER,
    SIGNAL,
    Call,
    Conversation,
    Waiter,
    checked_rows,
    described,
    done,
    echoing,
    failed,
    rows,
    simple,
)
from tests.peers import backend, frontend

REFUSAL = "cannot use serializable mode in a hot standby"
SERIALIZABLE = "BEGIN ISOLATION LEVEL SERIALIZABLE"


def completed(*tags: str) -> bytes:
    """The replies to commands ahead of a request, which have no ReadyForQuery of their own."""
    return b"".join(backend.parse_complete() + backend.bind_complete() + backend.command_complete(tag) for tag in tags)


def refused(text: str = REFUSAL, code: str = "0A000", *, status: str = "I") -> bytes:
    """The reply to a command that is refused: the server skips everything up to the Sync."""
    return failed(code, text, status=status)


def parsed(talk: Conversation) -> list[str]:
    """The texts that the messages last flushed parse."""
    return [message.sql for message in talk.messages if isinstance(message, frontend.Parse)]


def single(talk: Conversation, query: str) -> Call:
    """Ask for one statement without arguments by the extended protocol."""
    waiter = Waiter()
    return talk.submit(UnpreparedQuery(waiter, query), waiter)


def begun(query: str = "BEGIN", **limits: Any) -> tuple[Conversation, Commands]:
    """A conversation that knows ECHO and has put a BEGIN off."""
    talk = echoing(**limits)
    commands = talk.session.commands
    commands.begin(query)
    return talk, commands


def opened(**limits: Any) -> tuple[Conversation, Commands]:
    """A conversation inside a block."""
    talk, commands = begun(**limits)
    talk.fetch(ECHO, 0)
    assert talk.flush() == "PBEBES"
    talk.reply(completed("BEGIN"), rows(0, status="T"))
    return talk, commands


def check_could_not_begin(error: Any, cause: BaseException) -> None:
    assert isinstance(error, headrace.InFailedSQLTransactionError)
    assert "could not begin" in str(error)
    assert error.__cause__ is cause


# -- sent --------------------------------------------------------------------------------------------------------------


def test_a_begin_alone_is_not_sent_and_does_not_count_as_pending() -> None:
    talk, commands = begun()
    asked = talk.session.request_count
    assert talk.flush() == ""
    assert commands.is_open
    assert talk.idle
    assert talk.session.request_count == asked


def test_a_begin_travels_with_the_first_request_under_one_sync() -> None:
    talk, commands = begun()
    call = talk.fetch(ECHO, 7)
    assert talk.flush() == "PBEBES"
    assert parsed(talk) == ["BEGIN"]
    talk.reply(completed("BEGIN"), rows(7, status="T"))
    assert call.value == [(7,)]
    assert commands.is_open
    assert talk.session.commands.status == "T"
    assert talk.idle


def test_a_new_statement_has_its_preparation_carry_the_begin() -> None:
    talk, _ = begun()
    call = talk.fetch("SELECT 2")
    assert talk.flush() == "PBEPDS"
    talk.reply(completed("BEGIN"), described([], [NUMBER], status="T"))
    assert talk.flush() == "BES"
    talk.reply(rows(2, status="T"))
    assert call.value == [(2,)]


@pytest.mark.parametrize("chunks", [1, 2])
def test_a_batch_carries_it(chunks: int) -> None:
    talk, _ = begun()
    call = talk.batch(ECHO, [(i,) for i in range(2 if chunks == 1 else 3000)])
    assert talk.flush().startswith("PBEBEBE")
    assert parsed(talk) == ["BEGIN"]
    executions = b"".join(rows(0)[: -len(backend.ready_for_query())] for _ in range(2 if chunks == 1 else 3000))
    talk.reply(completed("BEGIN"), executions + backend.ready_for_query("T"))
    assert call.value is None


def test_several_commands_travel_together_in_their_order() -> None:
    talk, commands = begun()
    commands.put_off("SAVEPOINT a")
    commands.put_off("SAVEPOINT b")
    call = talk.fetch(ECHO, 1)
    assert talk.flush() == "PBEPBEPBEBES"
    assert parsed(talk) == ["BEGIN", "SAVEPOINT a", "SAVEPOINT b"]
    talk.reply(completed("BEGIN", "SAVEPOINT", "SAVEPOINT"), rows(1, status="T"))
    assert call.value == [(1,)]


def test_requests_asked_before_the_begin_are_sent_before_it() -> None:
    talk = echoing()
    before = talk.fetch(ECHO, 1)
    talk.session.commands.begin("BEGIN")
    inside = talk.fetch(ECHO, 2)
    assert talk.flush() == "BES PBEBES"
    talk.reply(rows(1), completed("BEGIN"), rows(2, status="T"))
    assert before.value == [(1,)]
    assert inside.value == [(2,)]
    assert talk.session.commands.is_open


def test_nothing_is_sent_behind_a_begin_until_it_is_known_to_be_good() -> None:
    talk, _ = begun()
    first, second = talk.fetch(ECHO, 1), talk.fetch(ECHO, 2)
    assert talk.flush() == "PBEBES"
    talk.reply(completed("BEGIN"), rows(1, status="T"))
    assert talk.flush() == "BES"
    talk.reply(rows(2, status="T"))
    assert (first.value, second.value) == ([(1,)], [(2,)])


def alone(talk: Conversation, elements: list[tuple[int]]) -> tuple[Call, Call]:
    """Ask for a batch in a block of its own, and for its COMMIT."""
    commands = talk.session.commands
    commands.begin("BEGIN", alone=True)
    batch = talk.batch(ECHO, elements)
    block = commands.end_block()
    commit = talk.script("COMMIT")
    assert block is not None
    block.ends_with(commit.request)
    return batch, commit


def test_a_block_of_one_request_travels_with_its_commit_and_holds_nothing_back() -> None:
    talk = echoing()
    batch, commit = alone(talk, [(1,), (2,)])
    assert not talk.session.commands.is_open
    assert talk.session.commands.is_idle_behind()
    behind = talk.fetch(ECHO, 3)
    assert talk.flush() == "PBEBEBES Q BES"
    execution = rows(0)[: -len(backend.ready_for_query())]
    talk.reply(completed("BEGIN"), execution * 2 + backend.ready_for_query("T"), simple("COMMIT"), rows(3))
    assert (batch.value, commit.value, behind.value) == (None, "COMMIT", [(3,)])


def test_a_block_of_one_request_that_fails_is_rolled_back_by_its_commit() -> None:
    talk = echoing()
    batch, commit = alone(talk, [(1,), (2,)])
    behind = talk.fetch(ECHO, 3)
    talk.flush()
    talk.reply(completed("BEGIN"), failed("23514", status="E"), simple("ROLLBACK"), rows(3))
    assert batch.error.sqlstate == "23514"
    assert commit.error.__cause__ is batch.error
    assert behind.value == [(3,)]
    assert talk.session.commands.is_idle_behind()


def test_if_the_begin_of_a_block_of_one_request_is_refused_nothing_of_it_runs() -> None:
    talk = echoing()
    batch, commit = alone(talk, [(1,)])
    behind = talk.fetch(ECHO, 3)
    talk.flush()
    talk.reply(refused(), simple("COMMIT"), rows(3))
    assert batch.error.sqlstate == "0A000"
    assert commit.settled
    assert behind.value == [(3,)]
    assert talk.session.commands.is_idle_behind()


def test_a_block_of_one_request_that_is_cancelled_is_signalled_once_its_commit_is_given_up_too() -> None:
    talk = echoing()
    batch, commit = alone(talk, [(1,)])
    talk.flush()
    assert talk.cancel(batch) != SIGNAL
    assert talk.cancel(commit) == SIGNAL


def test_whether_a_transaction_is_open_behind_all_that_was_asked() -> None:
    talk = echoing()
    session = talk.session
    assert session.commands.is_idle_behind()
    talk.fetch(ECHO, 1)
    assert session.commands.is_idle_behind()
    talk.script("BEGIN")
    assert not session.commands.is_idle_behind()
    talk.script("COMMIT")
    # It would have to be known that BEGIN succeeds.
    assert not session.commands.is_idle_behind()
    talk.flush()
    talk.reply(rows(1), simple("BEGIN", status="T"))
    assert session.commands.is_idle_behind()
    talk.script("RESET ALL; UNLISTEN *")
    assert session.commands.is_idle_behind()
    talk.script("SELECT 1; COMMIT")
    assert not session.commands.is_idle_behind()
    talk.flush()
    talk.reply(simple("COMMIT"), simple("UNLISTEN"), simple("COMMIT"))
    assert session.commands.is_idle_behind()
    session.commands.begin("BEGIN")
    assert not session.commands.is_idle_behind()


def test_a_savepoint_holds_nothing_back() -> None:
    talk, commands = opened()
    commands.put_off("SAVEPOINT a")
    talk.fetch(ECHO, 1)
    talk.fetch(ECHO, 2)
    assert talk.flush() == "PBEBES BES"


def test_it_travels_if_only_one_request_may_be_in_flight() -> None:
    talk, _ = begun(max_pipeline=1)
    talk.fetch(ECHO, 1)
    talk.fetch(ECHO, 2)
    assert talk.flush() == "PBEBES"
    talk.reply(completed("BEGIN"), rows(1, status="T"))
    assert talk.flush() == "BES"


def test_the_close_of_a_statement_does_not_cause_it_to_be_sent() -> None:
    talk, commands = begun()
    talk.session.statements.forget_all()
    assert talk.flush() == "CS"
    talk.reply(backend.close_complete(), backend.ready_for_query())
    assert commands.is_open
    assert talk.idle


def test_the_close_of_a_portal_carries_it() -> None:
    talk, _ = begun()
    talk.session.submit(Closing(None, "P", [b"p"]))
    assert talk.flush() == "PBECS"
    talk.reply(completed("BEGIN"), backend.close_complete(), backend.ready_for_query("T"))
    assert talk.idle


# -- what cannot take it along -----------------------------------------------------------------------------------------


def test_a_script_waits_for_the_reply_to_the_begin() -> None:
    talk, _ = begun()
    call = talk.script("SELECT 1; SELECT 2")
    assert talk.flush() == "PBES"
    talk.reply(completed("BEGIN"), backend.ready_for_query("T"))
    assert talk.flush() == "Q"
    talk.reply(simple("SELECT 1", status="T"))
    assert call.value == "SELECT 1"


def test_a_copy_waits_for_the_reply_to_the_begin() -> None:
    talk, _ = begun()
    waiter, beginning = Waiter(), Waiter()
    talk.submit(CopyIn(waiter, beginning, "COPY t FROM STDIN", None), waiter)
    assert talk.flush() == "PBES"
    talk.reply(completed("BEGIN"), backend.ready_for_query("T"))
    assert talk.flush() == "Q"


@pytest.mark.parametrize("wanted", [True, False])
def test_a_script_is_not_sent_if_the_begin_is_refused(wanted: bool) -> None:
    talk, commands = begun(SERIALIZABLE)
    call = talk.script("INSERT INTO t VALUES (1); SELECT 1")
    assert talk.flush() == "PBES"
    if not wanted:
        assert talk.cancel(call) == DROPPED
    talk.reply(refused())
    assert talk.flush() == ""
    if wanted:
        assert isinstance(call.error, headrace.FeatureNotSupportedError)
        assert call.error.query == SERIALIZABLE
        check_could_not_begin(commands.refusal(), call.error)
    else:
        # Nobody knows yet, so the end of the block has the error itself.
        assert isinstance(commands.refusal(), headrace.FeatureNotSupportedError)


def test_a_script_is_not_sent_if_the_savepoint_is_refused() -> None:
    talk, commands = opened()
    failing = talk.fetch(ECHO, 1)
    commands.put_off("SAVEPOINT a")
    call = talk.script("ROLLBACK; INSERT INTO t VALUES (1)")
    assert talk.flush() == "BES PBES"
    talk.reply(failed("22012", status="E"), failed("25P02", "current transaction is aborted", status="E"))
    assert talk.flush() == ""
    assert call.error.sqlstate == "25P02"
    assert call.error.__cause__ is failing.error


@pytest.mark.parametrize("query", ["COMMIT", "ROLLBACK"])
def test_the_end_of_a_block_is_sent_if_a_savepoint_ahead_of_it_is_refused(query: str) -> None:
    """The requests between them were cancelled. The server would keep the block open."""
    talk, commands = opened()
    commands.put_off("SAVEPOINT a")
    cancelled = talk.fetch(ECHO, 1)
    commands.end_block()
    end = talk.script(query, uncancellable=True)
    assert talk.cancel(cancelled) == DROPPED
    assert talk.flush() == "PBES"
    talk.reply(refused("no more memory", "53200", status="E"))
    assert talk.flush() == "Q"
    talk.reply(simple("ROLLBACK"))
    if query == "ROLLBACK":
        assert end.value == "ROLLBACK"
    else:
        assert isinstance(end.error, headrace.InFailedSQLTransactionError)
        assert end.error.__cause__.sqlstate == "53200"
    assert talk.idle


@pytest.mark.parametrize("query", ["COMMIT", "ROLLBACK"])
def test_the_end_of_a_block_is_not_sent_if_the_begin_ahead_of_it_is_refused(query: str) -> None:
    talk, commands = begun(SERIALIZABLE, max_pipeline=1)
    cancelled = talk.fetch(ECHO, 1)
    commands.end_block()
    end = talk.script(query, uncancellable=True)
    assert talk.cancel(cancelled) == DROPPED
    assert talk.flush() == "PBES"
    talk.reply(refused())
    assert talk.flush() == ""
    assert isinstance(end.error, headrace.FeatureNotSupportedError)


# -- refused -----------------------------------------------------------------------------------------------------------


def test_a_refused_begin_is_the_error_of_the_first_request_and_skips_the_others() -> None:
    talk, commands = begun(SERIALIZABLE)
    first, queued = talk.fetch(ECHO, 1), talk.fetch(ECHO, 2)
    new, script = talk.fetch("SELECT 2"), talk.script("SELECT 1; SELECT 2")
    assert talk.flush() == "PBEBES"
    talk.reply(refused())
    assert talk.flush() == ""
    assert isinstance(first.error, headrace.FeatureNotSupportedError)
    assert first.error.query == SERIALIZABLE
    for call in (queued, new, script):
        check_could_not_begin(call.error, first.error)
    with pytest.raises(headrace.InFailedSQLTransactionError) as caught:
        talk.fetch(ECHO, 3)
    check_could_not_begin(caught.value, first.error)
    with pytest.raises(headrace.InFailedSQLTransactionError):
        commands.put_off("SAVEPOINT a")
    assert not commands.is_open
    commands.end_block()
    after = talk.fetch(ECHO, 4)
    assert talk.flush() == "BES"
    talk.reply(rows(4))
    assert after.value == [(4,)]


def test_a_refused_begin_is_the_error_of_the_first_that_waits_for_a_new_statement() -> None:
    talk, _ = begun(SERIALIZABLE)
    calls = [talk.fetch("SELECT 2") for _ in range(3)]
    assert talk.flush() == "PBEPDS"
    talk.reply(refused())
    assert talk.flush() == ""
    assert isinstance(calls[0].error, headrace.FeatureNotSupportedError)
    for call in calls[1:]:
        check_could_not_begin(call.error, calls[0].error)
    assert talk.idle


def test_the_next_request_gets_the_error_of_a_begin_that_nobody_waited_for() -> None:
    talk, _ = begun(SERIALIZABLE)
    call = talk.fetch(ECHO, 1)
    assert talk.flush() == "PBEBES"
    assert talk.cancel(call) == SIGNAL
    talk.session.cancellation.delivered()
    talk.reply(refused())
    with pytest.raises(headrace.FeatureNotSupportedError):
        talk.fetch(ECHO, 2)
    with pytest.raises(headrace.InFailedSQLTransactionError):
        talk.fetch(ECHO, 2)


def test_what_was_queued_behind_the_end_of_a_block_that_could_not_begin_is_sent() -> None:
    talk, commands = begun(SERIALIZABLE)
    first, inside = talk.fetch(ECHO, 1), talk.fetch(ECHO, 2)
    assert talk.flush() == "PBEBES"
    block = commands.end_block()
    assert block is not None
    commit = talk.script("COMMIT", uncancellable=True)
    block.ends_with(commit.request)
    behind = talk.fetch(ECHO, 3)
    assert talk.flush() == ""
    talk.reply(refused())
    for call in (inside, commit):
        check_could_not_begin(call.error, first.error)
    assert talk.flush() == "BES"
    talk.reply(rows(3))
    assert behind.value == [(3,)]


def test_nobody_waits_for_the_end_of_a_savepoint_that_gets_the_error_of_a_begin() -> None:
    """So commit() gets it."""
    talk, commands = begun(SERIALIZABLE)
    call = talk.fetch(ECHO, 1)
    assert talk.flush() == "PBEBES"
    end = talk.script("ROLLBACK TO a; RELEASE a", uncancellable=True)
    for given_up in (call, end):
        given_up.waiter.settled = True
        talk.cancel(given_up)
    talk.session.cancellation.delivered()
    talk.reply(refused())
    assert isinstance(commands.refusal(), headrace.FeatureNotSupportedError)


def test_nothing_of_a_block_that_could_not_begin_is_left_behind_a_request_that_was_cancelled() -> None:
    talk, commands = begun(SERIALIZABLE)
    first = talk.fetch(ECHO, 1)
    assert talk.flush() == "PBEBES"
    commands.put_off("SAVEPOINT a")
    cancelled = talk.fetch(ECHO, 2)
    block = commands.end_block()
    assert block is not None
    commit = talk.script("COMMIT", uncancellable=True)
    block.ends_with(commit.request)
    assert talk.cancel(cancelled) == DROPPED
    assert talk.flush() == ""
    talk.reply(refused())
    check_could_not_begin(commit.error, first.error)
    behind = talk.fetch(ECHO, 3)
    assert talk.flush() == "BES"
    talk.reply(rows(3))
    assert behind.value == [(3,)]
    assert talk.idle


def test_the_rollback_of_a_block_that_could_not_begin_succeeds() -> None:
    talk, commands = begun(SERIALIZABLE)
    talk.fetch(ECHO, 1)
    assert talk.flush() == "PBEBES"
    commands.end_block()
    rollback = talk.script("ROLLBACK", uncancellable=True)
    talk.reply(refused())
    assert talk.flush() == "Q"
    talk.reply(simple("ROLLBACK"))
    assert rollback.value == "ROLLBACK"


def test_a_refused_begin_does_not_make_the_statement_look_stale() -> None:
    talk, _ = begun()
    call = talk.fetch(ECHO, 1)
    assert talk.flush() == "PBEBES"
    talk.reply(refused("prepared statement does not exist", "26000"))
    assert call.error.sqlstate == "26000"
    assert talk.flush() == ""
    assert ECHO in talk.session.statements.cached_queries()
    talk.session.commands.end_block()
    talk.fetch(ECHO, 1)
    assert talk.flush() == "BES"


def test_a_refused_savepoint_fails_the_transaction_as_any_error_does() -> None:
    talk, commands = opened()
    savepoint = commands.put_off("SAVEPOINT a")
    call, behind = talk.fetch(ECHO, 1), talk.fetch(ECHO, 2)
    assert talk.flush() == "PBEBES BES"
    talk.reply(failed("53200", "out of memory", status="E"), failed("25P02", status="E"))
    assert call.error.query == "SAVEPOINT a"
    assert behind.error.__cause__ is call.error
    assert savepoint.is_refused
    assert commands.is_open


def test_a_statement_that_fails_behind_a_good_begin_has_its_own_error() -> None:
    talk, commands = begun()
    call = talk.fetch(ECHO, 1)
    assert talk.flush() == "PBEBES"
    talk.reply(completed("BEGIN"), failed("22012", "division by zero", status="E"))
    assert call.error.query == ECHO
    assert commands.is_open
    behind = talk.fetch(ECHO, 2)
    assert talk.flush() == "BES"
    talk.reply(failed("25P02", status="E"))
    assert behind.error.__cause__ is call.error


def test_a_stale_statement_behind_a_begin_is_not_run_again() -> None:
    talk, _ = begun()
    call = talk.fetch(ECHO, 1)
    assert talk.flush() == "PBEBES"
    talk.reply(completed("BEGIN"), failed("26000", "prepared statement does not exist", status="E"))
    assert call.error.sqlstate == "26000"
    assert not headrace.is_safe_to_retry(call.error)
    assert "BES" not in talk.flush()


# -- a block that has ended on the server ------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [True, False])
def test_a_statement_of_the_program_that_ends_the_block_is_what_it_asked_for(first: bool) -> None:
    talk, commands = begun() if first else opened()
    call = single(talk, "COMMIT")
    assert talk.flush() == ("PBEPBES" if first else "PBES")
    ready = backend.parse_complete() + done("COMMIT")
    talk.reply(*([completed("BEGIN")] if first else []), ready)
    assert call.value == "COMMIT"
    assert not commands.is_open
    talk.fetch(ECHO, 1)
    assert talk.flush() == "BES"


@pytest.mark.parametrize("query", ["COMMIT AND CHAIN", "ROLLBACK AND CHAIN", "SELECT 1; COMMIT AND CHAIN; SELECT 1"])
def test_and_chain_ends_the_block_and_begins_another_one(query: str) -> None:
    talk, commands = opened()
    block = commands.block
    if ";" in query:
        call = talk.script(query)
        assert talk.flush() == "Q"
        talk.reply(*map(backend.command_complete, ("SELECT 1", "COMMIT", "SELECT 1")), backend.ready_for_query("T"))
    else:
        call = single(talk, query)
        assert talk.flush() == "PBES"
        talk.reply(backend.parse_complete() + done(query.partition(" ")[0], status="T"))
    assert call.value
    assert commands.is_open
    assert commands.block is not block


def test_a_return_to_a_savepoint_ends_no_block() -> None:
    talk, commands = opened()
    block = commands.block
    talk.script("ROLLBACK TO a; RELEASE a", uncancellable=True)
    assert talk.flush() == "Q"
    talk.reply(*map(backend.command_complete, ("ROLLBACK", "RELEASE")), backend.ready_for_query("T"))
    assert commands.block is block


def test_nothing_of_a_block_is_sent_after_the_server_turns_out_not_to_have_it() -> None:
    """A pooler may have given the connection another backend."""
    talk, commands = opened()
    call = talk.fetch(ECHO, 1)
    assert talk.flush() == "BES"
    talk.reply(done("SELECT 0"))
    assert call.value == []
    assert not commands.is_open
    with pytest.raises(headrace.NoActiveSQLTransactionError, match="no longer open on the server after"):
        talk.fetch(ECHO, 1)
    commands.end_block()
    talk.fetch(ECHO, 2)
    assert talk.flush() == "BES"


def test_the_end_of_a_block_is_no_end_by_a_statement() -> None:
    talk, commands = opened()
    block = commands.end_block()
    assert block is not None
    commit = talk.script("COMMIT", uncancellable=True)
    block.ends_with(commit.request)
    commands.begin("BEGIN")
    inside = talk.fetch(ECHO, 1)
    assert talk.flush() == "Q PBEBES"
    talk.reply(simple("COMMIT"), completed("BEGIN"), rows(1, status="T"))
    assert inside.value == [(1,)]
    assert commands.is_open


# -- dropped -----------------------------------------------------------------------------------------------------------


def test_a_command_that_nothing_is_queued_behind_is_taken_back_with_those_that_follow_it() -> None:
    talk, commands = opened()
    commands.put_off("RELEASE SAVEPOINT x")
    savepoint = commands.put_off("SAVEPOINT a")
    commands.put_off("SAVEPOINT b")
    assert commands.take_back(savepoint)
    assert not commands.take_back(savepoint)
    talk.fetch(ECHO, 1)
    assert talk.flush() == "PBEBES"
    assert parsed(talk) == ["RELEASE SAVEPOINT x"]


def test_a_command_that_a_request_is_queued_behind_is_not_taken_back() -> None:
    talk, commands = opened()
    savepoint = commands.put_off("SAVEPOINT a")
    talk.fetch(ECHO, 1)
    assert not commands.take_back(savepoint)
    assert talk.flush() == "PBEBES"
    assert not commands.take_back(savepoint)


def test_a_request_that_was_dropped_does_not_count_as_queued_behind_it() -> None:
    talk, commands = begun()
    call = talk.fetch(ECHO, 1)
    assert talk.cancel(call) == DROPPED
    assert talk.flush() == ""
    assert talk.idle
    assert commands.is_unsent
    assert commands.forget_block()
    talk.fetch(ECHO, 2)
    assert talk.flush() == "BES"


def test_the_preparation_for_a_dropped_request_does_not_send_the_begin() -> None:
    talk, commands = begun()
    assert talk.cancel(talk.fetch("SELECT 2")) == DROPPED
    assert talk.flush() == ""
    assert commands.is_unsent
    assert talk.idle


def test_what_is_forgotten_with_a_request_behind_it_is_sent() -> None:
    """The rollback that follows is that of a pool's reset, which is not failed with the block."""
    talk, commands = begun(SERIALIZABLE)
    call = talk.fetch(ECHO, 1)
    assert not commands.forget_block()
    rollback = talk.script("ROLLBACK", uncancellable=True)
    assert talk.flush() == "PBEBES"
    talk.reply(refused())
    assert isinstance(call.error, headrace.FeatureNotSupportedError)
    assert talk.flush() == "Q"
    talk.reply(simple("ROLLBACK"))
    assert rollback.value == "ROLLBACK"


# -- cancelled ---------------------------------------------------------------------------------------------------------


def test_a_request_with_commands_ahead_is_cancelled_as_one() -> None:
    talk, commands = begun()
    call = talk.fetch(ECHO, 1)
    talk.flush()
    assert talk.cancel(call) == SIGNAL
    talk.session.cancellation.delivered()
    talk.reply(completed("BEGIN"), failed("57014", status="E"))
    assert commands.is_open
    assert talk.session.commands.status == "E"


def test_no_signal_is_sent_if_it_could_hit_a_begin_behind_its_target() -> None:
    talk = echoing()
    head = talk.fetch(ECHO, 1)
    talk.session.commands.begin("BEGIN")
    talk.fetch(ECHO, 2)
    assert talk.flush() == "BES PBEBES"
    assert talk.cancel(head) != SIGNAL


def test_a_begin_is_not_sent_behind_a_request_that_may_be_run_again() -> None:
    talk = echoing()
    head, behind = talk.fetch(ECHO, 1), talk.fetch(ECHO, 2)
    talk.flush()
    assert talk.cancel(head) == SIGNAL
    talk.session.commands.begin("BEGIN")
    talk.fetch(ECHO, 3)
    talk.session.cancellation.delivered()
    talk.reply(rows(1))
    assert talk.flush() == ""
    talk.reply(failed("57014"))
    assert talk.flush() == "BES PBEBES"
    talk.reply(rows(2))
    assert behind.value == [(2,)]


# -- lost --------------------------------------------------------------------------------------------------------------


def ending() -> bytes:
    return backend.error_response("terminating connection", code="57P01", severity="FATAL", routine="ProcessInterrupts")


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("words", [True, False])
def test_nothing_inside_a_block_is_safe_to_retry(sent: bool, words: bool) -> None:
    talk, _ = begun()
    first, second = talk.fetch(ECHO, 1), talk.fetch(ECHO, 2)
    if sent:
        assert talk.flush() == "PBEBES"
        if words:
            talk.reply(ending())
    talk.session.connection_lost(talk.session.fatal or "gone")
    for call in (first, second):
        assert not headrace.is_safe_to_retry(call.error)
        assert "repeat all of it" in str(call.error)
    with pytest.raises(headrace.InterfaceError) as caught:
        talk.fetch(ECHO, 3)
    assert not headrace.is_safe_to_retry(caught.value)
    assert talk.idle


def test_a_begin_that_was_not_sent_makes_the_first_request_unsafe_to_retry() -> None:
    talk, commands = begun()
    talk.session.connection_lost("gone")
    assert talk.idle
    with pytest.raises(headrace.InterfaceError, match="repeat all of it") as caught:
        talk.fetch(ECHO, 1)
    assert not headrace.is_safe_to_retry(caught.value)
    assert not commands.forget_block()


def test_a_request_ahead_of_an_unsent_begin_keeps_its_own_verdict() -> None:
    talk = echoing()
    before = talk.fetch(ECHO, 1)
    talk.session.commands.begin("BEGIN")
    inside = talk.fetch(ECHO, 2)
    talk.session.connection_lost("gone")
    assert headrace.is_safe_to_retry(before.error)
    assert not headrace.is_safe_to_retry(inside.error)


def test_the_outcome_of_a_commit_is_unknown_if_its_begin_was_ahead_of_a_request_in_flight() -> None:
    talk, commands = begun()
    first = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(completed("BEGIN"), rows(1, status="T"))
    commands.end_block()
    commit = talk.script("COMMIT", uncancellable=True)
    talk.flush()
    talk.session.connection_lost("gone")
    assert first.value == [(1,)]
    assert "whether the transaction was committed is unknown" in str(commit.error)


# -- malformed ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(backend.bind_complete(), id="out of order"),
        pytest.param(backend.parse_complete() + rows(1), id="without its tag"),
        pytest.param(backend.ready_for_query("T"), id="none"),
        pytest.param(completed("BEGIN") + backend.ready_for_query("T"), id="the request's missing"),
    ],
)
def test_a_malformed_reply_to_a_command_is_a_protocol_error(reply: bytes) -> None:
    talk, _ = begun()
    talk.fetch(ECHO, 1)
    talk.flush()
    with pytest.raises(headrace.ProtocolError):
        talk.reply(reply)


def test_without_a_statement_cache_no_request_relies_on_the_unnamed_statement() -> None:
    """The commands replace it."""
    talk = Conversation(statement_cache_size=0)
    talk.session.commands.begin("BEGIN")
    call = talk.fetch(ECHO, 1)
    assert talk.flush() == "PBEPDS"
    talk.reply(completed("BEGIN"), described([INT4], [NUMBER], status="T"))
    talk.session.commands.put_off("SAVEPOINT a")
    assert talk.flush() == "PBDES"
    talk.reply(backend.parse_complete(), checked_rows(1, status="T"))
    assert call.value == [(1,)]
    again = talk.fetch(ECHO, 1)
    assert talk.flush() == "PBEPDS"
    talk.reply(completed("SAVEPOINT"), described([INT4], [NUMBER], status="T"))
    assert talk.flush() == "PBDES"
    talk.reply(backend.parse_complete(), checked_rows(1, status="T"))
    assert again.value == [(1,)]


class Observer:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, BaseException | None]] = []
        self.sent_count = 0
        self.skipped_by: list[BaseException] = []

    def sent(self) -> None:
        """Take the start of a request."""
        self.sent_count += 1

    def skipped(self, error: BaseException) -> None:
        """Take the error of this command, or of one ahead of it."""
        self.skipped_by.append(error)

    def shared(self, request: Any, timeout: float | None, error: BaseException | None) -> None:
        """Take the end of a request."""
        assert request.elapsed() >= 0
        self.told.append((request.query, error))


def test_an_observer_is_told_of_commands_that_were_sent() -> None:
    talk = echoing()
    observer = Observer()
    talk.session.commands.begin("BEGIN", observer)
    assert (observer.told, observer.sent_count) == ([], 0)
    talk.fetch(ECHO, 1)
    talk.flush()
    assert observer.sent_count == 1
    talk.reply(completed("BEGIN"), rows(1, status="T"))
    talk.session.commands.drop_unsent()
    talk.session.commands.put_off("SAVEPOINT a", observer)
    talk.session.commands.drop_unsent()
    assert observer.told == [("BEGIN", None)]
    talk.session.commands.put_off("SAVEPOINT b", observer)
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(failed("25P02", status="E"))
    assert observer.told[1:] == [("SAVEPOINT b", call.error)]


def test_observers_are_told_of_commands_that_the_server_has_skipped() -> None:
    talk = echoing()
    refused, behind = Observer(), Observer()
    talk.session.commands.begin("BEGIN", refused)
    talk.session.commands.put_off("SAVEPOINT a", behind)
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(failed("25006"))
    assert (refused.sent_count, behind.sent_count) == (1, 1)
    assert refused.told == [("BEGIN", call.error)]
    assert (behind.told, behind.skipped_by) == ([], [call.error])


@pytest.mark.parametrize("reason", ["gone", ConnectionResetError("gone")])
def test_an_observer_is_told_of_commands_that_the_end_of_the_connection_has_overtaken(reason: Any) -> None:
    talk = echoing()
    observer = Observer()
    talk.session.commands.begin("BEGIN", observer)
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.session.commands.put_off("SAVEPOINT a", observer)
    talk.session.connection_lost(reason)
    assert call.error is not None
    ((query, error),) = observer.told
    assert query == "BEGIN"
    assert "gone" in str(error)
    assert isinstance(error, Exception)


def test_a_command_behind_a_queue_is_taken_back_and_the_queue_goes_on() -> None:
    talk, commands = begun(max_pipeline=1)
    ahead = talk.script("SELECT 1; SELECT 2")
    calls = [talk.fetch(ECHO, i) for i in range(3)]
    savepoint = commands.put_off("SAVEPOINT a")
    assert commands.take_back(savepoint)
    assert talk.flush() == "PBES"
    talk.reply(completed("BEGIN"), backend.ready_for_query("T"))
    assert talk.flush() == "Q"
    talk.reply(simple("SELECT 1", status="T"))
    assert ahead.value == "SELECT 1"
    for i, call in enumerate(calls):
        assert talk.flush() == "BES"
        talk.reply(rows(i, status="T"))
        assert call.value == [(i,)]
