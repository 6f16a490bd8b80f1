"""The invariants of the design document, by number. What takes more room has a file of its own, named there."""

from __future__ import annotations

import pytest

from headrace import exceptions
from tests.core.pipeline.script import (
    DRAINED,
    ECHO,
    INT4,
    NUMBER,
    PID,
    Conversation,
    described,
    done,
    echoing,
    failed,
    int4,
    rows,
    simple,
)
from tests.peers import backend, frontend
from tests.peers.backend import Field

# 1. One Sync per request. A request leaves the FIFO only on its own ReadyForQuery. An error settles its own request and
#    no other.


def test_each_request_ends_in_its_own_sync() -> None:
    talk = echoing()
    for i in range(3):
        talk.fetch(ECHO, i)
    talk.script("SELECT 1")
    assert talk.flush() == "BES BES BES Q"


def test_a_request_leaves_the_fifo_on_ready_for_query_and_not_before() -> None:
    talk = echoing()
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(backend.bind_complete(), backend.data_row(int4(1)), backend.command_complete("SELECT 1"))
    assert not call.settled
    assert talk.session.sent.count == 1
    talk.reply(backend.ready_for_query())
    assert call.value == [(1,)]
    assert talk.session.sent.count == 0


@pytest.mark.parametrize("at", range(4))
def test_an_error_in_the_middle_of_a_pipeline_settles_its_own_request(at: int) -> None:
    talk = echoing()
    calls = [talk.fetch(ECHO, i) for i in range(4)]
    talk.flush()
    for i in range(4):
        talk.reply(failed("22012", "division by zero") if i == at else rows(i))
    assert isinstance(calls[at].error, exceptions.DivisionByZeroError)
    assert [call.value for i, call in enumerate(calls) if i != at] == [[(i,)] for i in range(4) if i != at]
    assert talk.idle


def test_an_error_after_rows_settles_the_request_with_the_error_alone() -> None:
    talk = echoing()
    first, second = talk.fetch(ECHO, 1), talk.fetch(ECHO, 2)
    talk.flush()
    talk.reply(backend.bind_complete(), backend.data_row(int4(1)), failed("22012"), rows(2))
    assert isinstance(first.error, exceptions.DivisionByZeroError)
    assert second.value == [(2,)]


def test_errors_one_behind_the_other() -> None:
    talk = echoing()
    calls = [talk.fetch(ECHO, i) for i in range(3)]
    talk.flush()
    talk.reply(failed("22012"), failed("42501"), failed("23505"))
    assert [call.error.sqlstate for call in calls] == ["22012", "42501", "23505"]


# 2. A request owns the wire up to its Sync: test_batch.py.


# 3. Order; a cold statement is a barrier, on the shared path for its own callers alone: test_preparing.py.


def test_requests_go_out_in_the_order_of_the_calls() -> None:
    talk = echoing()
    talk.fetch(ECHO, 1)
    talk.script("SELECT 2")
    talk.batch(ECHO, [(3,), (4,)])
    talk.fetch(ECHO, 5, shared=True)
    assert talk.flush() == "BES Q BEBES BES"
    assert talk.values() == [1, 3, 4, 5]


# 4. A dependant never goes out before its ParseComplete: test_preparing.py.


# 5. In flight is bounded by count and by bytes: test_flow.py.


# 6. Reading is never paused: streams on a shared connection fetch portal by portal, and other requests run in between.


def test_other_requests_run_between_two_portions_of_a_portal() -> None:
    talk = echoing()
    begin = talk.script("BEGIN")
    talk.flush()
    talk.reply(simple("BEGIN", status="T"))
    assert begin.value == "BEGIN"
    statement = talk.session.statements.hold("SELECT generate_series(1, 4) AS n")
    talk.prepare(statement)
    talk.flush()
    talk.reply(described([], [NUMBER], status="T"))

    first = talk.execute_statement(statement, limit=2, portal=b"p")
    other = talk.fetch(ECHO, 7)
    assert talk.flush() == "BES BES"
    assert [m.portal for m in talk.messages if isinstance(m, (frontend.Bind, frontend.Execute))] == ["p", "p", "", ""]
    talk.reply(
        backend.bind_complete(), backend.data_row(int4(1)), backend.data_row(int4(2)), backend.portal_suspended(),
        backend.ready_for_query("T"), rows(7, status="T"),
    )  # fmt: skip
    assert first.value == [(1,), (2,)]
    assert first.request.suspended
    assert other.value == [(7,)]

    second = talk.execute_statement(statement, limit=2, portal=b"p", opener=first.request)
    assert talk.flush() == "ES"
    talk.reply(
        backend.data_row(int4(3)), backend.data_row(int4(4)), backend.command_complete("SELECT 2"),
        backend.ready_for_query("T"),
    )  # fmt: skip
    assert second.value == [(3,), (4,)]
    assert not second.request.suspended


def test_rows_come_in_while_output_is_left_lying() -> None:
    """What is read does not depend on whether anybody takes the output."""
    talk = echoing()
    call = talk.fetch(ECHO, 1)
    talk.session.take_output()
    for i in range(50):
        talk.fetch(ECHO, i)
    talk.reply(rows(1))
    assert call.value == [(1,)]


# 7. Asynchronous messages are routed outside the FIFO, at any point: test_asynchronous.py.


# 8. FATAL, and what becomes of all that was asked: test_loss.py.


# 9. The transaction state is the server's status byte, never a guess. (COMMIT answered by ROLLBACK raises: in
#    tests/test_transaction.py; what the session gives is the tag.)


def test_the_transaction_status_is_that_of_the_last_ready_for_query() -> None:
    talk = echoing()
    assert talk.session.commands.status == "I"
    talk.script("BEGIN")
    talk.flush()
    talk.reply(backend.command_complete("BEGIN"))
    assert talk.session.commands.status == "I"
    for status in "TETI":
        talk.reply(backend.ready_for_query(status))
        assert talk.session.commands.status == status
        talk.script("whatever")
        talk.flush()
        talk.reply(backend.command_complete("SELECT"))


def test_before_the_first_ready_for_query_there_is_no_status() -> None:
    talk = Conversation(greeted=False)
    assert talk.session.commands.status == ""


@pytest.mark.parametrize("query", ["COMMIT", "end", "SELECT 1; COMMIT", "BEGIN; PREPARE TRANSACTION 'x'"])
def test_a_commit_that_is_answered_by_rollback_fails(query: str) -> None:
    """Whatever the server's reason is: it need not have told of a failure before."""
    talk = Conversation()
    commit = talk.script(query, uncancellable=True)
    talk.flush()
    talk.reply(simple("ROLLBACK"))
    assert isinstance(commit.error, exceptions.InFailedSQLTransactionError)
    assert commit.error.__cause__ is None


def test_prepare_transaction_outside_of_a_transaction_says_so() -> None:
    talk = Conversation()
    call = talk.script("PREPARE TRANSACTION 'x'")
    talk.flush()
    talk.reply(simple("ROLLBACK"))
    assert type(call.error) is exceptions.NoActiveSQLTransactionError
    assert "no transaction was open" in str(call.error)


# 10. Inside a failed transaction the followers' 25P02 carries the root cause.


def test_followers_in_a_failed_transaction_have_the_root_cause() -> None:
    talk = echoing()
    begin, bad, after, later = talk.script("BEGIN"), talk.fetch(ECHO, 1), talk.fetch(ECHO, 2), talk.script("SELECT 3")
    talk.flush()
    talk.reply(simple("BEGIN", status="T"), failed("22012", "division by zero", status="E"))
    talk.reply(failed("25P02", status="E"), failed("25P02", status="E"))
    assert begin.value == "BEGIN"
    assert isinstance(after.error, exceptions.InFailedSQLTransactionError)
    assert after.error.__cause__ is bad.error
    assert later.error.__cause__ is bad.error


@pytest.mark.parametrize("status", ["I", "T"])
def test_the_root_cause_is_forgotten_with_its_transaction_or_savepoint(status: str) -> None:
    talk = echoing()
    bad, after, _, later = talk.fetch(ECHO, 1), talk.fetch(ECHO, 2), talk.script("ROLLBACK TO s"), talk.fetch(ECHO, 3)
    talk.flush()
    talk.reply(failed("22012", status="E"), failed("25P02", status="E"), simple("ROLLBACK", status=status))
    assert after.error.__cause__ is bad.error
    talk.reply(failed("25P02", status="E"))
    assert later.error.__cause__ is None


def test_the_second_failed_transaction_has_its_own_root_cause() -> None:
    talk = echoing()
    first, rollback, second, after = talk.fetch(ECHO, 1), talk.script("R"), talk.fetch(ECHO, 2), talk.fetch(ECHO, 3)
    talk.flush()
    talk.reply(
        failed("22012", status="E"),
        simple("ROLLBACK", status="I"),
        failed("23505", status="E"),
        failed("25P02", status="E"),
    )
    assert first.error.sqlstate == "22012"
    assert rollback.value == "ROLLBACK"
    assert after.error.__cause__ is second.error


def test_the_root_cause_of_a_refused_commit_is_the_error_of_a_call_that_was_given_up() -> None:
    talk = echoing()
    bad, commit = talk.fetch(ECHO, 1), talk.script("COMMIT", uncancellable=True)
    talk.flush()
    talk.cancel(bad)
    talk.reply(failed("22012", "division by zero", status="E"), simple("ROLLBACK"))
    assert isinstance(commit.error, exceptions.InFailedSQLTransactionError)
    assert isinstance(commit.error.__cause__, exceptions.DivisionByZeroError)


# 11. COPY IN is a full barrier, typed by the user or by us.


@pytest.mark.parametrize("query", ["COPY t FROM STDIN", "copy t (a) from stdin with csv", "/* hm */ COPY t TO STDOUT"])
def test_a_copy_that_would_take_over_the_wire_is_refused_before_a_byte_is_sent(query: str) -> None:
    talk = Conversation()
    with pytest.raises(
        exceptions.InterfaceError, match="COPY FROM STDIN and COPY TO STDOUT cannot be run by"
    ) as caught:
        talk.script(query)
    assert "copy_records_to_table()" in str(caught.value)
    call = talk.execute(query)
    assert talk.flush() == "PDS"
    talk.reply(described())
    assert "cannot be run by" in str(call.error)
    assert talk.flush() == ""
    assert talk.idle


def test_nothing_is_sent_behind_a_barrier_until_it_is_done() -> None:
    talk = Conversation(greeted=False)
    start = talk.startup()
    talk.session.take_output()
    call = talk.script("SELECT 1")
    assert talk.flush() == ""
    talk.reply(backend.authentication_ok(), backend.backend_key_data())
    assert talk.flush() == ""
    talk.reply(backend.ready_for_query())
    assert start.settled
    assert talk.flush() == "Q"
    talk.reply(simple("SELECT 1"))
    assert call.value == "SELECT 1"


def test_copy_in_that_nobody_announced_is_ended_and_the_neighbours_live() -> None:
    """The server has ignored the Sync behind Execute, so another one goes with CopyFail."""
    talk = Conversation(max_pipeline=1)
    talk.know("SELECT sneaky()", [], None)
    sneaky = talk.execute("SELECT sneaky()")
    after = talk.script("SELECT 1")
    assert talk.flush() == "BES"
    talk.reply(backend.bind_complete(), backend.copy_in_response(0))
    assert talk.flush() == "fS"
    talk.reply(failed("57014", "COPY from stdin failed"))
    assert isinstance(sneaky.error, exceptions.FeatureNotSupportedError)
    assert talk.flush() == "Q"
    talk.reply(simple("SELECT 1"))
    assert after.value == "SELECT 1"


def test_copy_in_within_a_simple_query_is_ended_without_a_sync() -> None:
    talk = Conversation()
    sneaky = talk.script("SELECT sneaky()")
    assert talk.flush() == "Q"
    talk.reply(backend.copy_in_response(0))
    assert talk.flush() == "f"
    talk.reply(failed("57014", "COPY from stdin failed"))
    assert isinstance(sneaky.error, exceptions.FeatureNotSupportedError)
    assert talk.idle


def test_copy_out_that_nobody_announced_is_passed_over() -> None:
    talk = echoing()
    sneaky, after = talk.script("SELECT sneaky()"), talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(
        backend.copy_out_response(0), backend.copy_data(b"1\n"), backend.copy_done(), simple("COPY 1"), rows(1)
    )  # fmt: skip
    assert isinstance(sneaky.error, exceptions.FeatureNotSupportedError)
    assert after.value == [(1,)]


# 12. Every wait has a deadline: the session itself never waits. What nobody waits for any more it reports, so that its
#     owner can set one.


def test_a_head_that_nobody_waits_for_is_reported() -> None:
    talk = echoing()
    first, second = talk.fetch(ECHO, 1), talk.fetch(ECHO, 2)
    talk.flush()
    assert talk.cancel(second) == DRAINED
    assert talk.log.abandoned == 0
    talk.reply(rows(1))
    assert first.value == [(1,)]
    assert talk.log.abandoned == 1


# What start-up leaves behind, on which the rest is built.


def test_start_up_keeps_the_key_and_the_parameters() -> None:
    talk = Conversation()
    session = talk.session
    assert session.cancellation.key == (PID, b"\x12\x34\x56\x78")
    assert session.parameters == backend.PARAMETERS
    assert session.commands.status == "I"


def test_a_query_without_arguments_and_rows_gives_its_tag() -> None:
    talk = Conversation()
    talk.know("CREATE TABLE t ()", [], None)
    call = talk.execute("CREATE TABLE t ()")
    assert talk.flush() == "BES"
    talk.reply(done("CREATE TABLE"))
    assert call.value == "CREATE TABLE"
    assert call.request.status == "CREATE TABLE"


def test_an_empty_query_gives_an_empty_tag() -> None:
    talk = Conversation()
    call = talk.script("")
    talk.flush()
    talk.reply(backend.empty_query_response(), backend.ready_for_query())
    assert call.value == ""


def test_a_script_gives_the_last_of_its_tags_and_passes_rows_over() -> None:
    talk = Conversation()
    call = talk.script("CREATE TABLE t (a int); SELECT 1; INSERT INTO t VALUES (1)")
    talk.flush()
    talk.reply(
        backend.command_complete("CREATE TABLE"), backend.row_description(Field("?column?", INT4, format=0)),
        backend.data_row("1"), backend.command_complete("SELECT 1"), backend.command_complete("INSERT 0 1"),
        backend.ready_for_query(),
    )  # fmt: skip
    assert call.value == "INSERT 0 1"


def test_the_first_row_and_the_first_value() -> None:
    talk = echoing()
    row, none, value, no_value = (
        talk.fetchrow(ECHO, 1),
        talk.fetchrow(ECHO, 1),
        talk.fetchval(ECHO, 1),
        talk.fetchval(ECHO, 1),
    )
    talk.flush()
    talk.reply(rows(5, 6), rows(), rows(5, 6), rows())
    assert row.value == (5,)
    assert none.value is None
    assert value.value == 5
    assert no_value.value is None
