"""Statements that the server does not keep: for poolers that switch backends between transactions.

What is cached is the description. Parse, Bind, Describe and Execute then go out in one breath, up to one Sync:
whichever backend gets them, they are all it needs. Between two requests tables may change, so the columns are looked at
again.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import pytest

from headrace import exceptions
from tests.core.pipeline.script import (
    ECHO,
    INT4,
    NUMBER,
    TEXT,
    Conversation,
    checked_rows,
    described,
    echoing,
    failed,
    int4,
    simple,
)
from tests.peers import backend, frontend
from tests.peers.backend import Field

INT8 = 20

GONE = failed("26000", 'prepared statement "headrace_1" does not exist')


def unnamed(**limits: Any) -> Conversation:
    """A session past the first use of ECHO, whose description it has kept."""
    talk = Conversation(unnamed_statements=True, **limits)
    call = talk.fetch(ECHO, 0)
    assert talk.flush() == "PDS"
    talk.reply(described([INT4], [NUMBER]))
    assert talk.flush() == "PBDES"
    talk.reply(backend.parse_complete(), checked_rows(0))
    assert call.value == [(0,)]
    return talk


def parsed(talk: Conversation) -> frontend.Parse:
    (parse,) = [message for message in talk.messages if isinstance(message, frontend.Parse)]
    return parse


# One breath


def test_a_statement_met_before_takes_one_round_trip_and_no_name() -> None:
    talk = unnamed()
    call = talk.fetch(ECHO, 7)
    assert talk.flush() == "PBDES"
    assert talk.statement_names() == ["", ""]
    talk.reply(backend.parse_complete(), checked_rows(7))
    assert call.value == [(7,)]
    assert talk.session.statements.cached_queries() == [ECHO]


def test_parse_names_the_types_that_the_arguments_are_encoded_as() -> None:
    """Another backend, or another search_path, might take them for something else."""
    talk = unnamed()
    talk.fetch(ECHO, 7)
    talk.flush()
    assert parsed(talk).oids == (INT4,)


def test_the_question_for_the_types_leaves_them_open() -> None:
    talk = Conversation(unnamed_statements=True)
    talk.fetch(ECHO, 7)
    assert talk.flush() == "PDS"
    assert parsed(talk).oids == ()


def test_requests_are_pipelined_each_with_its_own_sync() -> None:
    talk = unnamed()
    calls = [talk.fetch(ECHO, i) for i in range(3)]
    assert talk.flush() == "PBDES PBDES PBDES"
    for i in range(3):
        talk.reply(backend.parse_complete(), checked_rows(i))
    assert [call.value for call in calls] == [[(0,)], [(1,)], [(2,)]]


def test_a_batch_parses_once() -> None:
    talk = unnamed()
    call = talk.batch(ECHO, [(1,), (2,)], collects=True)
    assert talk.flush() == "PBDEBES"
    one, two = (backend.data_row(int4(i)) + backend.command_complete("SELECT 1") for i in (1, 2))
    talk.reply(
        backend.parse_complete(), backend.bind_complete(), backend.row_description(NUMBER), one,
        backend.bind_complete(), two, backend.ready_for_query(),
    )  # fmt: skip
    assert call.value == [(1,), (2,)]


def test_a_portal_is_described_as_it_is_bound_and_fetched_from_by_its_name() -> None:
    talk = unnamed()
    statement = talk.session.statements.hold(ECHO)
    opening = talk.execute_statement(statement, 1, limit=-1, portal=b"p")
    assert talk.flush() == "PBDS"
    talk.reply(
        backend.parse_complete(), backend.bind_complete(), backend.row_description(NUMBER), backend.ready_for_query("T")
    )
    assert opening.value == []
    fetching = talk.execute_statement(statement, limit=1, portal=b"p", opener=opening.request)
    assert talk.flush() == "ES"
    talk.reply(backend.data_row(int4(1)), backend.portal_suspended(), backend.ready_for_query("T"))
    assert fetching.value == [(1,)]
    talk.session.statements.release(statement)
    assert talk.flush() == "", "there is nothing on the server to be closed"


def test_a_command_without_rows() -> None:
    talk = Conversation(unnamed_statements=True)
    call = talk.execute("DELETE FROM t")
    talk.flush()
    talk.reply(described())
    assert talk.flush() == "PBDES"
    talk.reply(
        backend.parse_complete(), backend.bind_complete(), backend.no_data(), backend.command_complete("DELETE 3"),
        backend.ready_for_query(),
    )  # fmt: skip
    assert call.value == "DELETE 3"


def test_prepared_statements_have_no_name_either_unless_the_caller_gives_one() -> None:
    talk = Conversation(unnamed_statements=True)
    assert talk.session.statements.hold(ECHO).name == b""
    assert talk.session.statements.hold(ECHO, name="mine").name == b"mine"


# What has changed since


def test_rows_are_read_by_the_columns_that_the_server_describes_now() -> None:
    talk = unnamed()
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(
        backend.parse_complete(), backend.bind_complete(),
        backend.row_description(Field("wide", INT8), Field("t", TEXT)),
        backend.data_row(b"\0\0\0\1\0\0\0\2", "new"), backend.command_complete("SELECT 1"), backend.ready_for_query(),
    )  # fmt: skip
    assert call.value == [((1 << 32) + 2, "new")]
    assert list(call.value[0].keys()) == ["wide", "t"]
    again = talk.fetch(ECHO, 1)
    assert talk.flush() == "PBDES"
    talk.reply(backend.parse_complete(), checked_rows(5))
    assert again.value == [(5,)]


@pytest.mark.parametrize("column", [Field("n", 987654), Field("m", INT4, format=0)], ids=["type", "format"])
def test_rows_that_cannot_be_read_fail_and_the_next_call_asks_anew(column: Field) -> None:
    """The request was executed, so it is not run again."""
    talk = unnamed()
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(
        backend.parse_complete(), backend.bind_complete(), backend.row_description(column), backend.data_row("1"),
        backend.command_complete("SELECT 1"), backend.ready_for_query(),
    )  # fmt: skip
    assert isinstance(call.error, exceptions.OutdatedSchemaCacheError)
    assert "it was executed" in str(call.error)
    assert talk.flush() == ""
    talk.fetch(ECHO, 1)
    assert talk.flush() == "PDS"


def test_what_parse_refuses_by_the_old_types_is_described_anew_and_run() -> None:
    talk = unnamed()
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(failed("42883", "operator does not exist: bigint = text"))
    assert talk.flush() == "PDS"
    talk.reply(described([INT8], [NUMBER]))
    assert talk.flush() == "PBDES"
    assert parsed(talk).oids == (INT8,)
    talk.reply(backend.parse_complete(), checked_rows(1))
    assert call.value == [(1,)]


def test_a_fault_of_the_query_itself_is_told_by_its_description() -> None:
    talk = unnamed()
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(failed("42P01", "the old story"))
    assert talk.flush() == "PDS"
    talk.reply(failed("42P01", "relation does not exist"))
    assert str(call.error) == "relation does not exist"
    assert talk.flush() == ""


def test_it_is_described_anew_once_and_not_for_ever() -> None:
    talk = unnamed()
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(failed("42883"))
    talk.flush()
    talk.reply(described([INT4], [NUMBER]))
    talk.flush()
    talk.reply(failed("42883"))
    assert call.error.sqlstate == "42883"
    assert talk.flush() == ""


def test_inside_a_transaction_the_error_is_the_callers_and_the_next_call_asks_anew() -> None:
    talk = unnamed()
    talk.script("BEGIN")
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(simple("BEGIN", status="T"), failed("42883", status="E"))
    assert call.error.sqlstate == "42883"
    talk.script("ROLLBACK")
    talk.fetch(ECHO, 1)
    assert talk.flush() == "Q PDS"


def test_an_error_of_the_execution_is_the_callers() -> None:
    talk = unnamed()
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(
        backend.parse_complete(), backend.bind_complete(), backend.row_description(NUMBER),
        backend.error_response(code="42501"), backend.ready_for_query(),
    )  # fmt: skip
    assert call.error.sqlstate == "42501"
    assert talk.flush() == ""


# Found out by itself


def refuse_by_name(talk: Conversation, refusal: bytes, *, calls: int = 1) -> None:
    """Refuse those that were just flushed, and twice more after each preparation; then a third preparation follows."""
    for _ in range(3):
        talk.answer(*[refusal] * calls)
        assert talk.flush().replace(" CS", "") == "PDS"
        talk.answer(described([INT4], [NUMBER]))
        assert talk.flush().replace(" CS", "") == " ".join(["BES"] * calls)


def test_a_statement_that_is_lost_whenever_it_was_prepared_shows_that_backends_are_switched() -> None:
    talk = echoing()
    talk.know("SELECT 2", [], [NUMBER])
    calls = [talk.fetch(ECHO, i) for i in range(2)]
    talk.flush()
    refuse_by_name(talk, GONE, calls=2)
    assert talk.log.switched == 0, "it may have been DEALLOCATE ALL"
    talk.answer(GONE, GONE)
    assert talk.log.switched == 1
    assert talk.flush() == "PDS"
    talk.reply(described([INT4], [NUMBER]))
    assert talk.flush() == "PBDES PBDES"
    for i in range(2):
        talk.reply(backend.parse_complete(), checked_rows(i))
    assert [call.value for call in calls] == [[(0,)], [(1,)]]
    talk.fetch("SELECT 2")
    assert talk.flush() == "PDS"
    assert talk.statement_names() == [""], "what was cached has no name any more either"


def test_a_text_that_a_pooler_keeps_an_outdated_statement_for_goes_without_a_name() -> None:
    """PgBouncer takes statements of the same text for the same, whatever name the client gives them."""
    refusal = failed("0A000", "cached plan must not change result type", routine="RevalidateCachedQuery")
    talk = echoing()
    talk.know("SELECT 2", [], [NUMBER])
    call = talk.fetch(ECHO, 1)
    talk.flush()
    refuse_by_name(talk, refusal)
    talk.answer(refusal)
    assert talk.flush().replace(" CS", "") == "PDS"
    talk.answer(described([INT4], [NUMBER]))
    assert talk.flush().replace(" CS", "") == "PBDES"
    talk.answer(backend.parse_complete() + checked_rows(1))
    assert call.value == [(1,)]
    assert talk.log.switched == 0
    talk.fetch("SELECT 2")
    assert talk.flush() == "BES", "others keep theirs"


def test_a_preparation_that_is_refused_as_outdated_is_repeated_without_a_name() -> None:
    talk = Conversation()
    call = talk.fetch(ECHO, 1)
    assert talk.flush() == "PDS"
    talk.reply(
        backend.parse_complete(),
        failed("0A000", "cached plan must not change result type", routine="RevalidateCachedQuery"),
    )
    assert talk.flush() == "PDS"
    assert talk.statement_names() == [""]
    talk.answer(described([INT4], [NUMBER]))
    assert talk.flush() == "PBDES CS"
    talk.answer(backend.parse_complete() + checked_rows(1))
    assert call.value == [(1,)]


def test_inside_a_transaction_a_lost_statement_is_an_error_that_says_what_to_do() -> None:
    talk = echoing()
    talk.script("BEGIN")
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(simple("BEGIN", status="T"), failed("26000", status="E"))
    assert 'statement_mode="unnamed"' in call.error.hint


# Names


def test_no_two_processes_give_the_same_name() -> None:
    """Behind a pooler without prepared statements one client would run the other's statement."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        # Other threads of the test run may hold locks; the child takes none.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os.write(write, Conversation().session.statements.hold("SELECT 1").name)
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(read, 100).decode()
    os.close(read)
    os.close(write)
    ours = Conversation().session.statements.hold("SELECT 1").name.decode()
    assert ours.startswith("headrace_")
    assert theirs.startswith("headrace_")
    assert ours.rpartition("_")[0] != theirs.rpartition("_")[0]
    assert len(ours) < 64, "what the server keeps of a name (NAMEDATALEN)"
