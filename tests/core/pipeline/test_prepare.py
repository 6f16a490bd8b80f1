"""Invariants 3 and 4: statements are prepared ahead of those who need them, once, and hold back the right ones."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import exceptions
from headrace._core.codecs import introspection
from headrace._core.codecs.typemap import TypeCatalogue, TypeMap
from headrace._core.pipeline import statements
from headrace._core.pipeline.statement_cache import StatementState
from tests.core.pipeline.script import (
    DROPPED,
    ECHO,
    INT4,
    NUMBER,
    TEXT,
    Conversation,
    checked_rows,
    described,
    done,
    echoing,
    failed,
    int4,
    rows,
    simple,
)
from tests.peers import backend
from tests.peers.backend import Field

COLD = "SELECT 1 AS n"
COLDER = "SELECT 2 AS n"


# A cold statement


def test_a_cold_statement_is_described_first_and_bound_after_its_ready_for_query() -> None:
    talk = Conversation()
    call = talk.fetch(COLD)
    assert talk.flush() == "PDS"
    talk.reply(backend.parse_complete(), backend.parameter_description(), backend.row_description(NUMBER))
    assert talk.flush() == "", "ParseComplete alone is no promise: an error may still follow"
    talk.reply(backend.ready_for_query())
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert call.value == [(1,)]


def test_a_known_statement_is_not_described_again() -> None:
    talk = echoing()
    for i in range(3):
        call = talk.fetch(ECHO, i)
        assert talk.flush() == "BES"
        talk.reply(rows(i))
        assert call.value == [(i,)]
    assert talk.session.statements.prepared == 1


def test_a_cold_statement_holds_back_what_was_asked_after_it() -> None:
    talk = echoing()
    before, cold, after, script = talk.fetch(ECHO, 1), talk.fetch(COLD), talk.fetch(ECHO, 2), talk.script("SELECT 3")
    assert talk.flush() == "BES PDS"
    talk.reply(rows(1), described([], [NUMBER]))
    assert before.value == [(1,)]
    assert talk.flush() == "BES BES Q"
    talk.reply(rows(1), rows(2), simple("SELECT 1"))
    assert (cold.value, after.value, script.value) == ([(1,)], [(2,)], "SELECT 1")


def test_a_shared_cold_statement_holds_back_its_own_callers_alone() -> None:
    talk = echoing()
    cold, other, same = talk.fetch(COLD, shared=True), talk.fetch(ECHO, 2, shared=True), talk.fetch(COLD, shared=True)
    assert talk.flush() == "PDS BES"
    assert talk.session.statements.parked == 2
    assert talk.session.count_pending() == 4
    talk.reply(described([], [NUMBER]), rows(2))
    assert other.value == [(2,)]
    assert talk.session.statements.parked == 0
    assert talk.flush() == "BES BES"
    talk.reply(rows(1), rows(1))
    assert cold.value == same.value == [(1,)]
    assert talk.session.count_pending() == 0


def test_two_cold_statements_on_the_shared_path_are_prepared_together() -> None:
    talk = Conversation()
    calls = [talk.fetch(COLD, shared=True), talk.fetch(COLDER, shared=True)]
    assert talk.flush() == "PDS PDS"
    talk.reply(described([], [NUMBER]), described([], [NUMBER]))
    assert talk.flush() == "BES BES"
    talk.reply(rows(1), rows(2))
    assert [call.value for call in calls] == [[(1,)], [(2,)]]


def test_two_cold_statements_in_order_are_prepared_one_after_the_other() -> None:
    """The second may need what the first creates."""
    talk = Conversation()
    create, select = talk.execute("CREATE TABLE t ()"), talk.fetch("SELECT * FROM t")
    assert talk.flush() == "PDS"
    talk.reply(described())
    assert talk.flush() == "BES PDS"
    talk.reply(done("CREATE TABLE"), described([], []))
    assert create.value == "CREATE TABLE"
    assert talk.flush() == "BES"
    talk.reply(rows())
    assert select.value == []


@pytest.mark.parametrize("shared", [False, True])
def test_preparing_is_single_flight(shared: bool) -> None:
    talk = Conversation()
    calls = [talk.fetch(COLD, shared=shared) for _ in range(20)]
    assert talk.flush() == "PDS"
    talk.reply(described([], [NUMBER]))
    assert talk.flush() == " ".join(["BES"] * 20)
    talk.reply(*[rows(i) for i in range(20)])
    assert [call.value for call in calls] == [[(i,)] for i in range(20)]
    assert talk.session.statements.prepared == 1


def test_strict_and_shared_callers_of_one_cold_statement() -> None:
    talk = echoing()
    shared, strict, behind = talk.fetch(COLD, shared=True), talk.fetch(COLD), talk.fetch(ECHO, 9)
    assert talk.flush() == "PDS"
    talk.reply(described([], [NUMBER]))
    assert talk.flush() == "BES BES BES"
    talk.reply(rows(1), rows(9), rows(1))
    assert (strict.value, behind.value, shared.value) == ([(1,)], [(9,)], [(1,)])


# A Parse that fails


@pytest.mark.parametrize("shared", [False, True])
def test_a_failing_parse_is_answered_to_each_caller_by_an_error_of_his_own(shared: bool) -> None:
    """No Bind goes out for a statement that is not there: it would be answered by a misleading 26000 (measured)."""
    talk = Conversation()
    calls = [talk.fetch("SELECT * FROM nowhere", shared=shared) for _ in range(3)]
    for call in calls:
        assert talk.flush() == "PDS"
        talk.reply(failed("42P01", 'relation "nowhere" does not exist'))
        assert isinstance(call.error, exceptions.UndefinedTableError)
    assert len({id(call.error) for call in calls}) == 3
    assert talk.flush() == ""
    assert talk.idle


def test_a_later_caller_may_find_the_table_that_the_first_one_missed() -> None:
    talk = Conversation()
    early, create, late = talk.fetch("SELECT * FROM t"), talk.script("CREATE TABLE t ()"), talk.fetch("SELECT * FROM t")
    assert talk.flush() == "PDS"
    talk.reply(failed("42P01"))
    assert isinstance(early.error, exceptions.UndefinedTableError)
    assert talk.flush() == "Q PDS"
    talk.reply(simple("CREATE TABLE"), described([], [NUMBER]))
    assert create.value == "CREATE TABLE"
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert late.value == [(1,)]


def test_nobody_gets_the_error_of_a_parse_whose_caller_has_given_up() -> None:
    """The next caller may stand behind the end of the transaction that has failed."""
    talk = echoing()
    talk.script("BEGIN; SELEC")
    assert talk.flush() == "Q"
    talk.reply(failed("42601", status="E"))
    early, end, late = talk.fetch(COLD), talk.script("ROLLBACK"), talk.fetch(COLD)
    assert talk.flush() == "PDS"
    assert talk.cancel(early) == DROPPED
    talk.reply(failed("25P02", status="E"))
    assert talk.flush() == "Q PDS"
    talk.reply(simple("ROLLBACK"), described([], [NUMBER]))
    assert end.value == "ROLLBACK"
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert late.value == [(1,)]


def test_a_failing_parse_does_not_strand_a_strict_caller_behind_a_shared_one() -> None:
    """The next preparation goes ahead of the first that waits in the queue, whoever waits first."""
    talk = echoing()
    shared = [talk.fetch(COLD, shared=True), talk.fetch(COLD, shared=True)]
    strict, behind = talk.fetch(COLD), talk.fetch(ECHO, 9)
    assert talk.flush() == "PDS"
    talk.reply(failed("42P01"))
    assert shared[0].error.sqlstate == "42P01"
    assert talk.flush() == "PDS"
    talk.reply(described([], [NUMBER]))
    assert talk.flush() == "BES BES BES"
    talk.reply(rows(1), rows(9), rows(1))
    assert (strict.value, behind.value, shared[1].value) == ([(1,)], [(9,)], [(1,)])


def test_a_statement_that_failed_to_parse_is_not_kept() -> None:
    talk = Conversation()
    talk.fetch("SELEC")
    talk.flush()
    talk.reply(failed("42601"))
    assert talk.session.statements.cached_queries() == []


def test_an_error_after_parse_complete_closes_what_the_server_has_kept() -> None:
    talk = Conversation()
    call = talk.fetch(COLD)
    talk.flush()
    (name,) = talk.statement_names()
    talk.reply(backend.parse_complete(), failed("57014"))
    assert call.error.sqlstate == "57014"
    assert talk.flush() == "CS"
    assert talk.statement_names() == [name]
    talk.reply(backend.close_complete(), backend.ready_for_query())
    assert talk.idle


def test_names_are_never_reused() -> None:
    talk = Conversation()
    names = set()
    for _ in range(5):
        talk.fetch("SELEC")
        talk.flush()
        names.update(talk.statement_names())
        talk.reply(failed("42601"))
    assert len(names) == 5


# Bad arguments


# A known statement that refuses an argument: another session may have altered a table since it was described


def refuse(talk: Conversation, *, shared: bool = False) -> Any:
    """Have a known statement refuse an argument, and be described once more, with the same types; return the call."""
    call = talk.fetch(ECHO, "one", shared=shared)
    assert talk.flush() == "PDS"
    talk.reply(described([INT4], [NUMBER]))
    assert isinstance(call.error, exceptions.ArgumentError)
    assert "$1: 'one'" in str(call.error)
    assert talk.flush() == "CS"
    talk.reply(backend.close_complete(), backend.ready_for_query())
    return call


@pytest.mark.parametrize("shared", [False, True])
def test_a_statement_that_refuses_an_argument_is_described_again_and_used_if_its_types_have_changed(
    shared: bool,
) -> None:
    talk = echoing()
    altered = talk.fetch(ECHO, "one", shared=shared)
    assert talk.flush() == "PDS"
    parsed = talk.statement_names()
    talk.reply(described([TEXT], [NUMBER]))
    assert talk.flush() == "BES CS"
    bound, closed = talk.statement_names()
    assert [bound] == parsed != [closed]
    talk.answer(rows(1))
    assert altered.value == [(1,)]
    again = talk.fetch(ECHO, "two")
    assert talk.flush() == "BES"
    assert talk.statement_names() == parsed
    talk.reply(rows(2))
    assert again.value == [(2,)]


@pytest.mark.parametrize("shared", [False, True])
def test_a_bad_argument_of_a_known_statement_fails_once_it_was_described_again(shared: bool) -> None:
    talk = echoing()
    refuse(talk, shared=shared)
    call = talk.fetch(ECHO, 1)
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert call.value == [(1,)]


def test_bad_arguments_do_not_have_the_statement_described_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = echoing()
    refuse(talk)
    monkeypatch.setattr(statements, "CONFIRMED_SECONDS", float("inf"))
    with pytest.raises(exceptions.ArgumentError, match=r"\$1: 'one'"):
        talk.fetch(ECHO, "one")
    assert talk.flush() == ""
    monkeypatch.setattr(statements, "CONFIRMED_SECONDS", 0)
    refuse(talk)


def test_several_bad_arguments_at_once_have_the_statement_described_once() -> None:
    talk = echoing()
    calls = [talk.fetch(ECHO, "one"), talk.fetch(ECHO, "two"), talk.fetch(ECHO, 3), talk.batch(ECHO, [("four",)])]
    assert talk.flush() == "PDS"
    talk.reply(described([INT4], [NUMBER]))
    for call, text in zip((calls[0], calls[1], calls[3]), ("'one'", "'two'", "'four'"), strict=True):
        assert isinstance(call.error, exceptions.ArgumentError)
        assert text in str(call.error)
    assert talk.flush() == "BES CS"
    talk.answer(rows(3))
    assert calls[2].value == [(3,)]


def test_requests_keep_their_order_around_one_whose_statement_is_described_again() -> None:
    talk = echoing()
    before, altered, behind = talk.fetch(ECHO, 1), talk.fetch(ECHO, "two"), talk.fetch(ECHO, 3)
    assert talk.flush() == "BES PDS"
    talk.reply(rows(1), described([TEXT], [NUMBER]))
    # The one behind was bound to the statement as it was, which is closed behind it.
    assert talk.flush() == "BES BES CS"
    talk.answer(rows(2), rows(3))
    assert (before.value, altered.value, behind.value) == ([(1,)], [(2,)], [(3,)])


def test_a_description_that_fails_is_the_error_of_the_call_that_asked_for_it() -> None:
    talk = echoing()
    gone = talk.fetch(ECHO, "one")
    talk.flush()
    talk.reply(failed("42P01", "no such table"))
    assert isinstance(gone.error, exceptions.UndefinedTableError)
    call = talk.fetch(ECHO, 1)
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert call.value == [(1,)]


def test_in_a_failed_transaction_the_argument_is_the_error() -> None:
    talk = echoing()
    call = talk.fetch(ECHO, "one")
    talk.flush()
    talk.reply(failed("25P02", status="E"))
    assert isinstance(call.error, exceptions.ArgumentError)


def test_a_prepared_statement_that_refuses_an_argument_is_described_again_too() -> None:
    talk = Conversation()
    statement = talk.session.statements.hold(ECHO, name="mine")
    talk.prepare(statement)
    talk.flush()
    talk.reply(described([INT4], [NUMBER]))
    altered = talk.execute_statement(statement, "one")
    assert talk.flush() == "PDS"
    talk.reply(described([TEXT], [NUMBER]))
    assert talk.flush() == "BES CS CS"
    assert talk.statement_names()[1] == "mine"
    talk.answer(rows(1))
    assert altered.value == [(1,)]
    again = talk.execute_statement(statement, "two")
    assert talk.flush() == "PDS"
    talk.reply(described([TEXT], [NUMBER]))
    assert talk.flush() == "BES"
    talk.reply(rows(2))
    assert again.value == [(2,)]


@pytest.mark.parametrize("shared", [False, True])
def test_a_call_that_is_cancelled_while_its_statement_is_described_again(shared: bool) -> None:
    talk = echoing()
    call = talk.fetch(ECHO, "one", shared=shared)
    assert talk.cancel(call) is DROPPED
    assert talk.flush() == ""
    refuse(talk)


def test_what_comes_from_an_iterator_cannot_be_encoded_twice_so_the_next_use_has_the_statement_prepared_again() -> None:
    talk = echoing()
    with pytest.raises(exceptions.ArgumentError, match="'one'"):
        talk.batch(ECHO, iter([("one",)]))
    again = talk.batch(ECHO, iter([("one",)]))
    assert talk.flush() == "CS PDS"
    talk.reply(backend.close_complete(), backend.ready_for_query(), described([TEXT], [NUMBER]))
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert again.value is None


def test_bad_values_from_iterators_do_not_have_the_statement_prepared_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(statements, "CONFIRMED_SECONDS", float("inf"))
    talk = echoing()
    with pytest.raises(exceptions.ArgumentError):
        talk.batch(ECHO, iter([("one",)]))
    assert talk.flush() == "CS"
    talk.reply(backend.close_complete(), backend.ready_for_query())
    call = talk.fetch(ECHO, 1)
    assert talk.flush() == "PDS"
    talk.reply(described([INT4], [NUMBER]))
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert call.value == [(1,)]
    with pytest.raises(exceptions.ArgumentError):
        talk.batch(ECHO, iter([("one",)]))
    assert talk.flush() == ""


def test_a_wrong_number_of_arguments_of_a_known_statement_raises_before_a_byte_is_queued() -> None:
    talk = echoing()
    with pytest.raises(exceptions.InterfaceError, match="expects 1 argument for this query, 2 were passed"):
        talk.fetch(ECHO, 1, 2)
    assert talk.flush() == ""
    assert talk.idle
    call = talk.fetch(ECHO, 1)
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert call.value == [(1,)]


def test_a_bad_argument_of_a_cold_statement_settles_its_own_call() -> None:
    talk = Conversation()
    bad, good = talk.fetch(ECHO, "one"), talk.fetch(ECHO, 1)
    assert talk.flush() == "PDS"
    talk.reply(described([INT4], [NUMBER]))
    assert isinstance(bad.error, exceptions.ArgumentError)
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert good.value == [(1,)]


# Giving up while it is being prepared


def test_a_call_given_up_while_its_statement_is_prepared_is_never_sent() -> None:
    talk = Conversation()
    gone, stays = talk.fetch(COLD), talk.fetch(COLD)
    assert talk.flush() == "PDS"
    assert talk.cancel(gone) == DROPPED
    talk.reply(described([], [NUMBER]))
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert stays.value == [(1,)]
    assert not gone.settled


def test_a_preparation_that_was_not_sent_goes_with_the_last_who_waits_for_it() -> None:
    talk = Conversation()
    calls = [talk.fetch(COLD), talk.fetch(COLD, shared=True)]
    for call in calls:
        assert talk.cancel(call) == DROPPED
    assert talk.flush() == ""
    assert talk.idle
    again = talk.fetch(COLD)
    assert talk.flush() == "PDS"
    talk.reply(described([], [NUMBER]))
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert again.value == [(1,)]


def test_a_preparation_under_way_that_nobody_waits_for_is_reported_and_a_newcomer_takes_it_over() -> None:
    """It may wait for a lock: its owner cancels it unless somebody comes."""
    talk = Conversation()
    gone = talk.fetch(COLD)
    talk.flush()
    talk.cancel(gone)
    assert talk.log.abandoned == 1
    newcomer = talk.fetch(COLD)
    assert talk.session.cancellation.time_is_up() == 1, "it is wanted again"
    talk.reply(described([], [NUMBER]))
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert newcomer.value == [(1,)]


def test_whoever_comes_after_an_abandoned_preparation_was_cancelled_never_sees_that() -> None:
    talk = Conversation()
    gone = talk.fetch(COLD)
    talk.flush()
    talk.cancel(gone)
    assert talk.session.cancellation.time_is_up() == 2
    newcomer = talk.fetch(COLD)
    assert talk.flush() == "", "nothing is written while a CancelRequest is under way"
    talk.session.cancellation.delivered()
    talk.reply(failed("57014", "canceling statement due to user request"))
    assert talk.flush() == "PDS"
    talk.reply(described([], [NUMBER]))
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert newcomer.value == [(1,)]


# Prepared statements of the user


def test_preparing_gives_the_statement() -> None:
    talk = Conversation()
    statement = talk.session.statements.hold("SELECT $1::int4 AS n, 'x' AS t")
    call = talk.prepare(statement)
    assert talk.flush() == "PDS"
    talk.reply(described([INT4], [NUMBER, Field("t", TEXT)]))
    assert call.value is statement
    assert statement.state == StatementState.READY
    assert statement.parameter_types() == ((INT4, "int4", "scalar", "pg_catalog"),)
    assert [column[:3] for column in statement.column_types()] == [("n", INT4, "int4"), ("t", TEXT, "text")]
    assert talk.prepare(statement).value is statement, "at once, for it is prepared"
    assert talk.flush() == ""


def test_a_name_of_the_users_choice_is_what_the_server_gets() -> None:
    talk = Conversation()
    statement = talk.session.statements.hold(COLD, name="mine")
    talk.prepare(statement)
    talk.flush()
    assert talk.statement_names() == ["mine"]


def test_a_prepared_statement_object_that_is_gone_is_closed_behind_what_was_asked_of_it() -> None:
    talk = Conversation()
    statement = talk.session.statements.hold(COLD, name="mine")
    talk.prepare(statement)
    talk.flush()
    talk.reply(described([], [NUMBER]))
    call = talk.execute_statement(statement)
    talk.session.statements.release(statement)
    assert talk.flush() == "BES CS"
    assert talk.statement_names() == ["mine", "mine"]
    talk.reply(rows(1), backend.close_complete(), backend.ready_for_query())
    assert call.value == [(1,)]
    assert talk.idle


def test_a_prepared_statement_object_that_is_gone_before_it_was_prepared_is_closed_once_it_is() -> None:
    talk = Conversation()
    statement = talk.session.statements.hold(COLD, name="mine")
    call = talk.prepare(statement)
    talk.flush()
    assert talk.cancel(call) == DROPPED
    talk.session.statements.release(statement)
    assert talk.flush() == ""
    talk.reply(described([], [NUMBER]))
    assert talk.flush() == "CS"


# The cache


def test_the_least_recently_used_statement_is_evicted_and_closed_behind_what_was_asked_of_it() -> None:
    talk = Conversation(statement_cache_size=2)
    talk.know("SELECT 1", [], [NUMBER])
    talk.know("SELECT 2", [], [NUMBER])
    first = talk.fetch("SELECT 1")
    talk.flush()
    (name,) = talk.statement_names()
    second, third = talk.fetch("SELECT 2"), talk.fetch("SELECT 3")
    assert talk.session.statements.cached_queries() == ["SELECT 3", "SELECT 2"]
    assert talk.flush() == "BES CS PDS"
    assert talk.statement_names()[1] == name
    talk.reply(rows(1), rows(2), backend.close_complete(), backend.ready_for_query(), described([], [NUMBER]))
    assert talk.flush() == "BES"
    talk.reply(rows(3))
    assert [call.value for call in (first, second, third)] == [[(1,)], [(2,)], [(3,)]]


def test_a_statement_evicted_while_it_is_prepared_serves_those_who_wait_and_is_closed_then() -> None:
    talk = Conversation(statement_cache_size=1)
    evicted = talk.fetch("SELECT 1", shared=True)
    other = talk.fetch("SELECT 2", shared=True)
    assert talk.session.statements.cached_queries() == ["SELECT 2"]
    assert talk.flush() == "PDS PDS"
    names = talk.statement_names()
    talk.reply(described([], [NUMBER]), described([], [NUMBER]))
    assert talk.flush() == "BES CS BES"
    assert talk.statement_names() == [names[0], names[0], names[1]]
    talk.reply(rows(1), backend.close_complete(), backend.ready_for_query(), rows(2))
    assert (evicted.value, other.value) == ([(1,)], [(2,)])


def test_an_evicted_statement_that_is_in_use_as_a_prepared_statement_is_not_closed() -> None:
    talk = Conversation(statement_cache_size=1)
    statement = talk.session.statements.hold("SELECT 1")
    talk.prepare(statement)
    talk.flush()
    talk.reply(described([], [NUMBER]))
    talk.know("SELECT 2", [], [NUMBER])
    call = talk.execute_statement(statement)
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert call.value == [(1,)]
    talk.session.statements.release(statement)
    assert talk.flush() == "CS"


def test_without_a_cache_every_execution_parses_in_its_own_breath() -> None:
    """Between two Syncs, so that a pooler in front of the server cannot switch backends in the middle."""
    talk = Conversation(statement_cache_size=0)
    call = talk.fetch(ECHO, 5)
    assert talk.flush() == "PDS"
    talk.reply(described([INT4], [NUMBER]))
    assert talk.flush() == "PBDES"
    assert talk.statement_names() == ["", ""]
    talk.reply(backend.parse_complete(), checked_rows(5))
    assert call.value == [(5,)]
    assert talk.flush() == "", "an unnamed statement is not closed"


def test_a_text_too_long_for_the_cache_is_not_kept() -> None:
    talk = Conversation(max_cacheable_statement_size=20)
    talk.fetch("SELECT 1 /* quite a long comment */")
    assert talk.session.statements.cached_queries() == []
    talk.flush()
    assert talk.statement_names() == [""]


def test_an_expired_statement_is_prepared_anew_and_the_former_closed() -> None:
    talk = Conversation(max_cached_statement_lifetime=1e-9)
    talk.know("SELECT 1", [], [NUMBER])
    call = talk.fetch("SELECT 1")
    assert talk.flush() == "CS PDS"
    talk.reply(backend.close_complete(), backend.ready_for_query(), described([], [NUMBER]))
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert call.value == [(1,)]


def test_forgetting_statements_closes_those_that_nobody_uses() -> None:
    talk = Conversation()
    talk.know("SELECT 1", [], [NUMBER])
    talk.know("SELECT 2", [], [NUMBER])
    used = talk.session.statements.hold("SELECT 2")
    talk.session.statements.forget_all()
    assert talk.session.statements.cached_queries() == []
    assert talk.flush() == "CS"
    talk.session.statements.release(used)
    assert talk.flush() == "CS"


# Types met for the first time


MOOD = 900_001


def learnt(oid: int, name: str) -> bytes:
    """The answer to the introspection query: one enum type."""
    values: dict[str, bytes | None] = dict.fromkeys((column for column, _ in introspection.COLUMNS), None)
    values.update(oid=int4(oid), name=name.encode(), schema=b"public", kind=b"e", element=int4(0), base=int4(0))
    values.update(delimiter=b",", binary=b"\x01", send=b"enum_send")
    return b"".join((
        backend.parse_complete(),
        backend.bind_complete(),
        backend.data_row(*values.values()),
        backend.command_complete("SELECT 1"),
        backend.ready_for_query(),
    ))  # fmt: skip


def test_types_met_for_the_first_time_are_asked_for_ahead_of_all_that_waits() -> None:
    talk = echoing()
    call, behind = talk.fetch("SELECT 'sad'::mood AS m"), talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(described([], [Field("m", MOOD)]))
    assert talk.flush() == "PBES", "nothing else goes out before the answer"
    talk.reply(learnt(MOOD, "mood"))
    assert talk.flush() == "BES BES"
    talk.reply(backend.bind_complete(), backend.data_row("sad"), simple("SELECT 1"), rows(1))
    assert call.value == [("sad",)]
    assert behind.value == [(1,)]
    assert talk.session.types.missing([MOOD]) == []


def test_a_failed_introspection_fails_the_first_caller_and_the_next_one_tries_again() -> None:
    talk = Conversation()
    first, second = talk.fetch("SELECT 'sad'::mood AS m"), talk.fetch("SELECT 'sad'::mood AS m")
    talk.flush()
    (name,) = talk.statement_names()
    talk.reply(described([], [Field("m", MOOD)]))
    talk.flush()
    talk.reply(failed("57014"))
    assert first.error.sqlstate == "57014"
    assert talk.flush() == "PDS"
    assert name not in talk.statement_names()
    talk.reply(described([], [Field("m", MOOD)]))
    assert talk.flush() == "PBES"
    talk.reply(learnt(MOOD, "mood"))
    assert talk.flush() == "BES CS", "the statement that was left behind is closed"
    assert talk.statement_names()[1] == name
    talk.reply(backend.bind_complete(), backend.data_row("sad"), simple("SELECT 1"))
    talk.reply(backend.close_complete(), backend.ready_for_query())
    assert second.value == [("sad",)]
    assert talk.idle


# Types asked for by another session of the same pool


def two_sessions() -> tuple[Conversation, Conversation]:
    """Two sessions that learn together, each of which has prepared a statement of the same unknown type."""
    catalogue = TypeCatalogue()
    first, second = (Conversation(types=TypeMap(catalogue)) for _ in range(2))
    for talk in (first, second):
        talk.calls = []
        talk.fetch("SELECT 'sad'::mood AS m")
        talk.flush()
        talk.reply(described([], [Field("m", MOOD)]))
    return first, second


def check_executed(talk: Conversation) -> None:
    """Check that the statement goes out, and that its caller gets its row."""
    assert talk.flush() == "BES"
    talk.reply(backend.bind_complete(), backend.data_row("sad"), simple("SELECT 1"))
    assert talk.calls is not None
    assert talk.calls[0].value == [("sad",)]
    assert talk.idle


def test_one_session_asks_for_all() -> None:
    first, second = two_sessions()
    assert first.flush() == "PBES"
    assert second.flush() == ""
    first.reply(learnt(MOOD, "mood"))
    assert second.log.woken == 1
    check_executed(first)
    check_executed(second)


def test_where_the_session_that_asks_fails_the_others_ask_for_themselves() -> None:
    first, second = two_sessions()
    first.flush()
    first.reply(failed("57014"))
    assert first.calls is not None
    assert first.calls[0].error.sqlstate == "57014"
    assert second.flush() == "PBES"
    second.reply(learnt(MOOD, "mood"))
    check_executed(second)


def test_where_the_session_that_asks_is_lost_the_others_ask_for_themselves() -> None:
    first, second = two_sessions()
    first.flush()
    first.session.connection_lost("cut")
    assert second.flush() == "PBES"
    second.reply(learnt(MOOD, "mood"))
    check_executed(second)


def test_where_nobody_waits_for_the_answer_any_more_the_others_ask_for_themselves() -> None:
    first, second = two_sessions()
    first.flush()
    assert first.calls is not None
    first.cancel(first.calls[0])
    assert second.flush() == "PBES"
    second.reply(learnt(MOOD, "mood"))
    check_executed(second)
    # The late answer does no harm.
    first.reply(learnt(MOOD, "mood"))
    assert first.flush() == ""


def test_a_session_lost_while_another_one_asks_leaves_nobody_waiting() -> None:
    first, second = two_sessions()
    second.session.connection_lost("cut")
    assert second.calls is not None
    assert isinstance(second.calls[0].error, exceptions.ConnectionDoesNotExistError)
    first.flush()
    first.reply(learnt(MOOD, "mood"))
    check_executed(first)


def test_a_type_that_does_not_exist_is_passed_as_text_in_all_sessions() -> None:
    first, second = two_sessions()
    nothing = backend.parse_complete() + done("SELECT 0")
    first.flush()
    first.reply(nothing)
    check_executed(first)
    assert second.flush() == "PBES"
    second.reply(nothing)
    check_executed(second)


# Plans


def test_a_codec_set_while_a_reply_is_under_way_does_not_change_how_it_is_read() -> None:
    """The formats were asked for in Bind: what comes is read as it was asked for, whatever has been set since."""
    talk = echoing()

    def decoder(value: str) -> Any:
        return ("text", value)

    before = talk.fetch(ECHO, 1)
    assert talk.flush() == "BES"
    talk.session.types.set_codec(INT4, "text", str, decoder)
    after = talk.fetch(ECHO, 2)
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert before.value == [(1,)]
    talk.reply(backend.bind_complete(), backend.data_row("2"), simple("SELECT 1"))
    assert after.value == [(("text", "2"),)]


def test_a_portal_is_read_in_the_formats_it_was_bound_with() -> None:
    talk = echoing()
    statement = talk.session.statements.hold(ECHO)
    opening = talk.execute_statement(statement, 1, limit=1, portal=b"p")
    talk.flush()
    talk.reply(
        backend.bind_complete(), backend.data_row(int4(1)), backend.portal_suspended(), backend.ready_for_query("T")
    )
    talk.session.types.set_codec(INT4, "text", str, str)
    talk.fetch(ECHO, "7")
    more = talk.execute_statement(statement, limit=1, portal=b"p", opener=opening.request)
    talk.flush()
    talk.reply(backend.bind_complete(), backend.data_row("7"), simple("SELECT 1", status="T"))
    talk.reply(backend.data_row(int4(2)), simple("SELECT 1", status="T"))
    assert (opening.value, more.value) == ([(1,)], [(2,)])
