"""Groups: several executions under one Sync, and what becomes of each of them."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import exceptions
from headrace._core.pipeline.group import Failure, Group, GroupCost
from headrace._core.pipeline.requests import repetition_of
from headrace._core.pipeline.workload import Cost
from headrace._core.rows.record import Record
from headrace._io.driver import KIND_FIRST_ROW, KIND_ROWS, KIND_VALUE
from tests.core.pipeline.script import (
    ECHO,
    INT4,
    NUMBER,
    SIGNAL,
    TEXT,
    Call,
    Conversation,
    Waiter,
    described,
    echoing,
    failed,
    int4,
    rows,
)
from tests.peers import backend
from tests.peers.backend import Field

CHANGED = "cached plan must not change result type"
READY = backend.ready_for_query()


def ask(
    talk: Conversation, *elements: Any, query: str = ECHO, kind: int = KIND_VALUE, column: int | str = 0,
    shared: bool = False,
) -> Call:  # fmt: skip
    """Ask for one execution of the query for each element."""
    waiter = Waiter()
    limit = 0 if kind == KIND_ROWS else 1
    return talk.submit(Group(waiter, query, list(elements), kind, limit, column, Record, shared), waiter)


def one(*values: int, tag: str | None = None) -> bytes:
    """The answer to Bind and Execute: rows of one int4."""
    return rows(*values, tag=tag)[: -len(READY)]


def error_of(result: object) -> Any:
    assert isinstance(result, Failure)
    return result.error


def test_the_executions_share_one_sync_and_each_has_its_own_result() -> None:
    talk = echoing()
    call = ask(talk, (1,), [2], (3,))
    assert talk.flush() == "BEBEBES"
    assert talk.values() == [1, 2, 3]
    talk.reply(one(1), one(2), one(3))
    assert not call.settled, "the server has not confirmed the group"
    talk.reply(READY)
    assert call.value == [1, 2, 3]
    assert talk.idle


def test_each_kind_of_result() -> None:
    talk = echoing()
    all_rows, first, value = (ask(talk, (1,), (2,), kind=kind) for kind in (KIND_ROWS, KIND_FIRST_ROW, KIND_VALUE))
    talk.flush()
    talk.reply(one(1, 2), one(), READY)
    assert all_rows.value == [[(1,), (2,)], []]
    talk.reply(one(1), one(), READY)
    assert first.value == [(1,), None]
    talk.reply(one(), one(2), READY)
    assert value.value == [None, 2]


def test_a_portal_that_has_more_rows_than_were_asked_for() -> None:
    talk = echoing()
    call = ask(talk, (1,), (2,))
    talk.flush()
    first = backend.bind_complete() + backend.data_row(int4(1)) + backend.portal_suspended()
    talk.reply(first, one(2), READY)
    assert call.value == [1, 2]


def test_a_statement_without_rows_has_none_for_each() -> None:
    talk = echoing()
    call = ask(talk, (1,), (2,), kind=KIND_ROWS)
    talk.flush()
    talk.reply(backend.bind_complete(), backend.empty_query_response(), one(tag="SELECT 0"), READY)
    assert call.value == [[], []]


def test_an_error_ends_the_group_and_those_ahead_of_it_keep_their_results() -> None:
    talk = echoing()
    call = ask(talk, (1,), (2,), (3,))
    behind = talk.fetch(ECHO, 4)
    talk.flush()
    talk.reply(one(1), failed("22012"))
    assert call.value[0] == 1
    assert isinstance(error_of(call.value[1]), exceptions.DivisionByZeroError)
    assert len(call.value) == 2, "the server has skipped the third up to the Sync"
    talk.reply(rows(4))
    assert behind.value == [(4,)]


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize(
    "stale",
    [
        backend.error_response(CHANGED, code="0A000", routine="RevalidateCachedQuery"),
        backend.error_response("gone", code="26000"),
    ],
)
def test_a_stale_statement_is_prepared_again_unseen(stale: bytes, at: int) -> None:
    talk = echoing()
    call = ask(talk, (1,), (2,))
    talk.flush()
    talk.reply(one(1) * at, stale, READY)
    assert not call.settled
    assert talk.flush() == "PDS"
    talk.answer(described([INT4], [NUMBER]))
    assert talk.flush().replace(" CS", "") == "BEBES"
    talk.answer(one(1) + one(2) + READY)
    assert call.value == [1, 2]


def test_rows_that_cannot_be_read_fail_their_own_element() -> None:
    talk = Conversation()
    talk.know("SELECT $1 AS t", [INT4], [Field("t", TEXT)])
    call = ask(talk, (1,), (2,), (3,), query="SELECT $1 AS t", kind=KIND_ROWS)
    talk.flush()
    good = backend.bind_complete() + backend.data_row(b"x") + backend.command_complete("SELECT 1")
    bad = backend.bind_complete() + backend.data_row(b"\xff") * 2 + backend.command_complete("SELECT 2")
    talk.reply(good, bad, good, READY)
    assert call.value[0] == call.value[2] == [("x",)]
    assert isinstance(error_of(call.value[1]), (UnicodeDecodeError, exceptions.InterfaceError, ValueError))
    assert not call.value[1].alone, "another request would not make it better"


def test_a_column_that_is_missing_fails_each_element() -> None:
    talk = echoing()
    call = ask(talk, (1,), (2,), column="other")
    talk.flush()
    talk.reply(one(1), one(2), READY)
    assert [type(error_of(result)) for result in call.value] == [KeyError, KeyError]


def test_an_argument_that_cannot_be_encoded_ends_the_group_ahead_of_it() -> None:
    talk = echoing()
    call = ask(talk, (1,), ("two",), (3,))
    assert talk.flush() == "BES", "nothing of the bad element is sent, and nothing behind it"
    talk.reply(rows(1))
    assert call.value == [1]


def test_an_argument_of_the_first_element_fails_it_before_a_byte_of_the_group_is_sent() -> None:
    talk = echoing()
    call = ask(talk, ("one",), (2,))
    assert talk.flush() == "PDS", "the table may have been altered since the statement was described"
    talk.reply(described([INT4], [NUMBER]))
    (result,) = call.value
    assert isinstance(error_of(result), exceptions.ArgumentError)
    assert "$1: 'one'" in str(error_of(result))
    assert talk.flush() == "CS"
    talk.reply(backend.close_complete(), READY)
    assert talk.idle


def test_a_bad_argument_of_a_group_that_waits_for_its_statement_settles_it() -> None:
    talk = Conversation()
    call = ask(talk, ("one",), (2,))
    assert talk.flush() == "PDS"
    talk.reply(described([INT4], [NUMBER]))
    assert talk.flush() == ""
    (result,) = call.value
    assert isinstance(error_of(result), exceptions.ArgumentError)


def test_the_bytes_of_a_group_are_bounded() -> None:
    talk = Conversation()
    talk.know("SELECT length($1)", [TEXT], [NUMBER])
    call = ask(talk, *[("x" * 40_000,)] * 5, query="SELECT length($1)")
    assert talk.flush() == "BEBES"
    talk.reply(one(40_000) * 2, READY)
    assert call.value == [40_000, 40_000]


def test_unnamed_statements_are_parsed_and_described_once_in_a_group() -> None:
    talk = Conversation(unnamed_statements=True)
    first = talk.fetch(ECHO, 0)
    assert talk.flush() == "PDS"
    talk.reply(described([INT4], [NUMBER]))
    talk.flush()
    columns = backend.row_description(NUMBER)
    talk.reply(backend.parse_complete(), backend.bind_complete(), columns, rows(0)[len(backend.bind_complete()) :])
    assert first.value == [(0,)]
    call = ask(talk, (1,), (2,))
    assert talk.flush() == "PBDEBES"
    answer = one(1)[len(backend.bind_complete()) :]
    talk.reply(backend.parse_complete(), backend.bind_complete(), columns, answer, one(2), READY)
    assert call.value == [1, 2]


def test_columns_that_have_changed_fail_the_group_at_once_and_the_statement_is_described_anew() -> None:
    talk = Conversation(unnamed_statements=True)
    first = talk.fetch(ECHO, 0)
    talk.flush()
    talk.reply(described([INT4], [NUMBER]))
    talk.flush()
    talk.reply(backend.parse_complete(), backend.bind_complete(), backend.row_description(NUMBER))
    talk.reply(rows(0)[len(backend.bind_complete()) :])
    assert first.value == [(0,)]
    call = ask(talk, (1,), (2,))
    talk.flush()
    other = backend.row_description(Field("n", 987654))
    row = backend.data_row("1") + backend.command_complete("SELECT 1")
    talk.reply(backend.parse_complete(), backend.bind_complete(), other, row, backend.bind_complete(), row, READY)
    (result,) = call.value
    assert isinstance(error_of(result), exceptions.OutdatedSchemaCacheError)
    call = ask(talk, (1,))
    assert talk.flush() == "PDS"


def test_the_end_of_the_connection_leaves_the_results_that_have_come() -> None:
    talk = echoing()
    call = ask(talk, (1,), (2,), (3,))
    behind = ask(talk, (4,), (5,))
    talk.flush()
    talk.reply(one(1))
    talk.session.connection_lost("the server closed the connection")
    assert call.value[0] == 1
    assert isinstance(error_of(call.value[1]), exceptions.ConnectionDoesNotExistError)
    assert len(call.value) == 2
    (result,) = behind.value
    assert error_of(result).safe_to_retry, "it only reads"


def test_fatal_is_the_error_of_the_element_that_the_server_was_at() -> None:
    talk = echoing()
    call = ask(talk, (1,), (2,))
    talk.flush()
    talk.reply(
        one(1), backend.error_response("terminating", code="57P01", severity="FATAL", routine="ProcessInterrupts")
    )
    talk.session.connection_lost(talk.session.fatal)
    assert call.value[0] == 1
    assert isinstance(error_of(call.value[1]), exceptions.AdminShutdownError)


class Taking:
    """The events of a session whose requests a pool takes back."""

    def __init__(self, talk: Conversation) -> None:
        self.taken: list[Any] = []
        log = talk.log
        log.requeue = self.requeue  # type: ignore[method-assign]

    def requeue(self, request: Any, started: bool) -> bool:
        self.taken.append((request, started))
        return True


def test_a_pool_asks_the_whole_group_again_on_another_connection() -> None:
    talk = echoing()
    taking = Taking(talk)
    call = ask(talk, (1,), (2,), shared=True)
    talk.flush()
    talk.reply(one(1))
    talk.session.connection_lost("the server closed the connection")
    assert taking.taken == [(call.request, True)]
    assert not call.settled
    other = echoing()
    other.submit(call.request, call.waiter)
    assert other.flush() == "BEBES"
    other.reply(one(1), one(2), READY)
    assert call.value == [1, 2], "the result that had come on the first connection is not there twice"


def test_a_neighbours_cancellation_that_hits_a_group_runs_it_again_unseen() -> None:
    talk = echoing()
    head, call = talk.fetch(ECHO, 0), ask(talk, (1,), (2,))
    talk.flush()
    assert talk.cancel(head) is SIGNAL
    talk.reply(rows(0))
    talk.session.cancellation.delivered()
    talk.reply(one(1), failed("57014"))
    assert talk.flush() == "BEBES"
    talk.reply(one(1), one(2), READY)
    assert call.value == [1, 2]


def test_a_group_that_is_given_up_is_passed_over() -> None:
    talk = echoing()
    call, behind = ask(talk, (1,), (2,)), talk.fetch(ECHO, 3)
    talk.flush()
    talk.reply(one(1))
    talk.cancel(call)
    talk.reply(failed("57014"))
    talk.session.cancellation.delivered()
    talk.reply(rows(3))
    assert behind.value == [(3,)]


@pytest.mark.parametrize("words", [one(1) * 3, one(1) + READY, one(1) + backend.parse_complete()])
def test_a_reply_of_another_length_is_a_violation_of_the_protocol(words: bytes) -> None:
    talk = echoing()
    ask(talk, (1,), (2,))
    talk.flush()
    with pytest.raises(exceptions.ProtocolError):
        talk.reply(words + READY)


def test_a_repetition_asks_for_the_same_elements() -> None:
    talk, other = echoing(), echoing()
    call = ask(talk, (1,), (2,), shared=True)
    repetition = repetition_of(call.request)
    other.submit(repetition)
    assert other.flush() == "BEBES"
    assert other.values() == [1, 2]


def test_the_cost_of_a_group_is_that_of_its_executions() -> None:
    cost = Cost()
    assert GroupCost(cost, 10).seconds == -1
    GroupCost(cost, 10).note(0.02)
    assert cost.seconds == pytest.approx(0.002)
    assert GroupCost(cost, 4).seconds == pytest.approx(0.008)
