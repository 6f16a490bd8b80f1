"""The first run of a statement: it is prepared and executed in one request."""

from __future__ import annotations

import random
from typing import Any

import pytest

from headrace import exceptions
from headrace._core.codecs.typemap import TypeMap
from headrace._core.pipeline.requests import Query, Request
from headrace._core.rows.record import Record
from headrace._io.driver import KIND_FIRST_ROW, KIND_ROWS, KIND_STATUS
from tests.core.pipeline.script import (
    DRAINED,
    DROPPED,
    INT4,
    NUMBER,
    SIGNAL,
    TEXT,
    Call,
    Conversation,
    Waiter,
    described,
    done,
    echoing,
    failed,
    int4,
    rows,
    simple,
)
from tests.core.pipeline.test_prepare import MOOD, learnt
from tests.peers import backend, frontend
from tests.peers.backend import Field

COLD = "SELECT n FROM t"
CAST = "SELECT $1::int AS n"
NAMED = "SELECT $1::int4 AS n"
WRITE = "INSERT INTO t VALUES ($1::int)"
MONEY = 790


def ask(talk: Conversation, query: str, *args: object, kind: int = KIND_ROWS, shared: bool = False) -> Call:
    """Ask for a text, as a connection does: the session finds the statement."""
    waiter = Waiter()
    limit = 1 if kind == KIND_FIRST_ROW else 0
    return talk.submit(Query(waiter, query, args, kind, limit, 0, Record, shared), waiter)


def first(*fields: Field, parameters: tuple[int, ...] = ()) -> bytes:
    """The description at the head of the answer to a first run."""
    columns = backend.row_description(*fields) if fields else backend.no_data()
    return backend.parse_complete() + backend.parameter_description(*parameters) + columns


def bound(messages: list[frontend.Message]) -> frontend.Bind:
    (found,) = (message for message in messages if isinstance(message, frontend.Bind))
    return found


def bind(talk: Conversation) -> frontend.Bind:
    return bound(talk.messages)


def parse(talk: Conversation) -> frontend.Parse:
    (found,) = (message for message in talk.messages if isinstance(message, frontend.Parse))
    return found


# Which requests have one


def test_a_plain_read_without_arguments_is_prepared_and_executed_in_one_request() -> None:
    talk = Conversation()
    call = ask(talk, COLD)
    assert talk.flush() == "PDBES"
    assert parse(talk).name == bind(talk).statement != ""
    assert bind(talk).result_formats == (1,)
    talk.reply(first(NUMBER), rows(1, 2))
    assert call.value == [(1,), (2,)]
    assert talk.session.statements.cached_queries() == [COLD]
    again = ask(talk, COLD)
    assert talk.flush() == "BES"
    talk.reply(rows(3))
    assert again.value == [(3,)]
    assert talk.session.statements.prepared == 1


def test_parameters_whose_casts_show_their_types() -> None:
    talk = Conversation()
    call = ask(talk, "SELECT CAST($2 AS text), $1::integer AS n", 7, "x")
    assert talk.flush() == "PDBES"
    assert parse(talk).oids == (INT4, TEXT)
    assert bind(talk).values == (int4(7), b"x")
    talk.reply(first(Field("text"), NUMBER, parameters=(INT4, TEXT)))
    talk.reply(backend.bind_complete(), backend.data_row("x", int4(7)), simple("SELECT 1"))
    assert call.value == [("x", 7)]


def test_a_command_whose_rows_are_not_wanted_may_write() -> None:
    talk = Conversation()
    call = ask(talk, WRITE, 1, kind=KIND_STATUS)
    assert talk.flush() == "PDBES"
    assert bind(talk).result_formats == ()
    talk.reply(first(parameters=(INT4,)), done("INSERT 0 1"))
    assert call.value == "INSERT 0 1"


@pytest.mark.parametrize(
    ("query", "args"),
    [
        ("SELECT $1 AS n", (1,)),
        ("SELECT $1::mood AS n", ("sad",)),
        ("SELECT $1::int + $1", (1,)),
        ("SELECT $1::int, $1::bigint", (1,)),
        ("INSERT INTO t VALUES ($1::int) RETURNING n", (1,)),
        ("SELECT f($1::int)", (1,)),
        ("SELECT n FROM t FOR UPDATE", ()),
        ("SELECT 1; SELECT 2", ()),
        ("", ()),
        ("SELECT 1", (1,)),
        ("SELECT $1::int", ()),
    ],
)
def test_other_statements_are_described_first(query: str, args: tuple[object, ...]) -> None:
    talk = Conversation()
    ask(talk, query, *args)
    assert talk.flush() == "PDS"


@pytest.mark.parametrize(
    "query",
    [
        "PREPARE p AS SELECT $1::int",
        "CREATE FUNCTION f(int) RETURNS int RETURN $1::int",
        "CREATE VIEW v AS SELECT $1::int AS n",
        "EXPLAIN EXECUTE p($1::int)",
    ],
)
def test_a_command_whose_parameters_the_server_does_not_look_at_is_described_first(query: str) -> None:
    talk = Conversation()
    call = ask(talk, query, 1, kind=KIND_STATUS)
    assert talk.flush() == "PDS"
    assert parse(talk).oids == (), "the server counts a type that is given here as a parameter"
    talk.reply(described([], []))
    assert isinstance(call.error, exceptions.InterfaceError)
    assert "the server expects 0 arguments for this query, 1 was passed" in str(call.error)


def test_a_call_of_a_procedure_runs_first() -> None:
    talk = Conversation()
    ask(talk, "CALL p($1::int)", 1, kind=KIND_STATUS)
    assert talk.flush() == "PDBES"


def test_nothing_that_may_have_to_be_repeated_runs_first_in_a_transaction_block() -> None:
    talk = Conversation()
    begun = talk.script("BEGIN")
    read, write, named = ask(talk, COLD), ask(talk, WRITE, 1, kind=KIND_STATUS), ask(talk, NAMED, 1, kind=KIND_STATUS)
    assert talk.flush() == "Q PDS", "BEGIN has not been answered"
    talk.reply(simple("BEGIN", status="T"), described([], [NUMBER], status="T"))
    assert talk.flush() == "BES PDBES"
    talk.reply(rows(1, status="T"), first(parameters=(INT4,)), done("INSERT 0 1", status="T"))
    assert talk.flush() == "PDS", "int4 may be another type, and an error of Parse would fail the transaction"
    talk.reply(described([INT4], [NUMBER], status="T"))
    assert talk.flush() == "BES"
    talk.reply(rows(1, status="T"))
    assert (begun.value, read.value, write.value, named.value) == ("BEGIN", [(1,)], "INSERT 0 1", "SELECT 1")
    ask(talk, "SELECT 2 AS n")
    assert talk.flush() == "PDS"


def test_a_statement_without_a_name_is_parsed_and_described_with_its_execution() -> None:
    talk = Conversation(statement_cache_size=0)
    for value in range(2):
        call = ask(talk, CAST, value)
        assert talk.flush() == "PDBES"
        assert parse(talk).name == bind(talk).statement == ""
        talk.reply(first(NUMBER, parameters=(INT4,)), rows(value))
        assert call.value == [(value,)]


def test_an_argument_that_does_not_fit_is_refused_before_anything_is_sent() -> None:
    talk = Conversation()
    with pytest.raises(exceptions.ArgumentError, match=r"invalid input for query argument \$1: 'x'"):
        ask(talk, CAST, "x")
    assert talk.flush() == ""
    call = ask(talk, CAST, 1)
    assert talk.flush() == "PDBES"
    talk.reply(first(NUMBER, parameters=(INT4,)), rows(1))
    assert call.value == [(1,)]


def test_a_name_that_may_mean_another_type_is_asked_for_before_an_argument_is_refused() -> None:
    talk = Conversation()
    refused = ask(talk, NAMED, "x")
    assert talk.flush() == "PDS"
    assert parse(talk).oids == ()
    talk.reply(described([INT4], [NUMBER]))
    assert isinstance(refused.error, exceptions.ArgumentError)
    other = Conversation()
    call = ask(other, NAMED, "x")
    other.flush()
    other.reply(described([TEXT], [NUMBER]))
    assert other.flush() == "BES"
    other.reply(rows(1))
    assert call.value == [(1,)]


def test_codecs_of_the_user_apply_to_arguments_and_columns() -> None:
    types = TypeMap()
    types.set_codec(INT4, "text", lambda value: f"{value + 1}", lambda text: f"<{text}>")
    talk = Conversation(types=types)
    call = ask(talk, CAST, 1)
    assert talk.flush() == "PDBES"
    assert bind(talk).values == (b"2",)
    talk.reply(first(NUMBER, parameters=(INT4,)), rows(2))
    assert talk.flush() == "BES", "the codec reads text"
    talk.reply(backend.bind_complete(), backend.data_row("2"), simple("SELECT 1"))
    assert call.value == [("<2>",)]


def test_a_codec_may_ask_for_the_same_text() -> None:
    types = TypeMap()
    talk = Conversation(types=types)
    inner: list[Call] = []

    def encode(value: int) -> str:
        if value == 6 and not inner:
            inner.append(ask(talk, CAST, 5))
        return f"{value}"

    types.set_codec(INT4, "text", encode, int)
    outer = ask(talk, CAST, 6)
    assert talk.flush() == "PDBES"
    talk.reply(first(NUMBER, parameters=(INT4,)), rows(5))
    assert talk.flush() == "BES BES"
    for value in (b"5", b"6"):
        assert value in [message.values[0] for message in talk.messages if isinstance(message, frontend.Bind)]
        talk.reply(backend.bind_complete(), backend.data_row(value.decode()), simple("SELECT 1"))
    assert sorted([*inner[0].value, *outer.value]) == [(5,), (6,)]


# Columns whose formats or types were not known


def test_rows_that_travel_as_text_are_asked_for_once_more() -> None:
    talk = Conversation()
    call = ask(talk, "SELECT m FROM t")
    assert talk.flush() == "PDBES"
    talk.reply(first(Field("m", MONEY)), backend.bind_complete(), backend.data_row(bytes(8)), simple("SELECT 1"))
    assert talk.flush() == "BES"
    assert bind(talk).result_formats == (0,)
    talk.reply(backend.bind_complete(), backend.data_row("$0.00"), simple("SELECT 1"))
    assert call.value == [("$0.00",)]


def test_a_text_that_was_executed_once_more_is_described_first_from_then_on() -> None:
    talk = Conversation(statement_cache_size=0)
    assert ask(talk, "SELECT m FROM t")
    assert talk.flush() == "PDBES"
    talk.reply(first(Field("m", MONEY)), backend.bind_complete(), simple("SELECT 0"))
    talk.flush()
    talk.reply(backend.parse_complete(), backend.bind_complete(), backend.row_description(Field("m", MONEY, format=0)))
    talk.reply(simple("SELECT 0"))
    ask(talk, "SELECT m FROM t")
    assert talk.flush() == "PDS"


def test_an_error_of_the_binary_form_is_not_the_callers() -> None:
    talk = Conversation()
    call = ask(talk, "SELECT m FROM t")
    talk.flush()
    talk.reply(first(Field("m", MONEY)), backend.bind_complete(), failed("42883", "no binary output function"))
    assert talk.flush() == "BES"
    talk.reply(backend.bind_complete(), backend.data_row("$0.00"), simple("SELECT 1"))
    assert call.value == [("$0.00",)]


@pytest.mark.parametrize(("ahead", "preparation"), [(32, "PDBES"), (33, "PDS")])
def test_a_read_behind_a_long_queue_is_described_first(ahead: int, preparation: str) -> None:
    talk = Conversation()
    ask(talk, COLD)
    talk.flush()
    talk.reply(first(NUMBER), rows(1))
    for _ in range(ahead):
        ask(talk, COLD)
    ask(talk, "SELECT 2 AS n")
    assert talk.flush() == " ".join(["BES"] * ahead + [preparation])


def test_nothing_is_sent_behind_a_first_run_that_may_be_repeated() -> None:
    talk = Conversation()
    call, behind = ask(talk, "SELECT m FROM t"), talk.script("UPDATE t SET m = 1")
    assert talk.flush() == "PDBES"
    talk.reply(first(Field("m", MONEY)), backend.bind_complete(), simple("SELECT 0"))
    assert talk.flush() == "BES Q", "the repetition is still ahead of what was asked behind it"
    talk.reply(backend.bind_complete(), simple("SELECT 0"), simple("UPDATE 1"))
    assert (call.value, behind.value) == ([], "UPDATE 1")


@pytest.mark.parametrize("shared", [False, True])
def test_rows_of_a_type_that_is_looked_up_first_are_not_asked_for_again(shared: bool) -> None:
    talk = Conversation()
    call = ask(talk, "SELECT m FROM t", shared=shared)
    assert talk.flush() == "PDBES"
    row = backend.data_row("sad")
    talk.reply(first(Field("m", MOOD)), backend.bind_complete(), row, row, simple("SELECT 2"))
    assert talk.flush() == "PBES"
    assert not call.settled
    talk.reply(learnt(MOOD, "mood"))
    assert call.value == [("sad",), ("sad",)]
    assert talk.flush() == ""
    assert talk.idle


def test_rows_of_a_type_that_turns_out_to_travel_as_text_are_asked_for_once_more() -> None:
    talk = Conversation()
    call = ask(talk, "SELECT m FROM t")
    talk.flush()
    talk.reply(first(Field("m", MOOD)), backend.bind_complete(), backend.data_row("??"), simple("SELECT 1"))
    assert talk.flush() == "PBES"
    # The server has no such type any more.
    talk.reply(backend.parse_complete(), backend.bind_complete(), simple("SELECT 0"))
    assert talk.flush() == "BES"
    talk.reply(backend.bind_complete(), backend.data_row("sad"), simple("SELECT 1"))
    assert call.value == [("sad",)]


def test_a_type_without_a_binary_form_that_is_not_known_yet() -> None:
    talk = Conversation()
    call = ask(talk, "SELECT m FROM t")
    talk.flush()
    talk.reply(first(Field("m", MOOD)), backend.bind_complete(), failed("42883", "no binary output function"))
    assert talk.flush() == "PBES"
    talk.reply(learnt(MOOD, "mood"))
    assert talk.flush() == "BES"
    talk.reply(backend.bind_complete(), backend.data_row("sad"), simple("SELECT 1"))
    assert call.value == [("sad",)]


def test_a_failed_look_up_fails_the_request() -> None:
    talk = Conversation()
    call = ask(talk, "SELECT m FROM t")
    talk.flush()
    talk.reply(first(Field("m", MOOD)), backend.bind_complete(), backend.data_row("sad"), simple("SELECT 1"))
    talk.flush()
    talk.reply(failed("53200"))
    assert call.error.sqlstate == "53200"
    assert talk.flush() == "CS"


# Errors


def test_an_error_of_parse_is_the_callers_and_costs_one_request() -> None:
    talk = Conversation()
    call = ask(talk, CAST, 1)
    talk.flush()
    talk.reply(failed("42P01", "no table", position="15"))
    assert call.error.sqlstate == "42P01"
    assert call.error.position == "15"
    assert talk.flush() == ""
    assert talk.session.statements.cached_queries() == []
    assert talk.idle


@pytest.mark.parametrize("code", ["42846", "42883", "42804", "42725"])
def test_an_error_that_a_type_of_the_same_name_explains_is_the_servers_without_the_types(code: str) -> None:
    talk = Conversation()
    call = ask(talk, NAMED, 1)
    assert talk.flush() == "PDBES"
    talk.reply(failed(code))
    assert talk.flush() == "PDS"
    assert parse(talk).oids == ()
    talk.reply(described([TEXT], [NUMBER]))
    assert isinstance(call.error, exceptions.ArgumentError)
    plain = ask(talk, CAST, 1)
    assert talk.flush() == "PDBES"
    talk.reply(failed(code))
    assert plain.error.sqlstate == code, "a keyword of the grammar means one type"


@pytest.mark.parametrize("code", ["22P02", "42804", "42501", "26000"])
def test_an_error_of_bind_is_the_callers_and_the_statement_is_known(code: str) -> None:
    talk = Conversation()
    call = ask(talk, CAST, 1)
    talk.flush()
    talk.reply(first(NUMBER, parameters=(INT4,)), failed(code))
    assert call.error.sqlstate == code
    again = ask(talk, CAST, 2)
    assert talk.flush() == "BES"
    talk.reply(rows(2))
    assert again.value == [(2,)]


def test_an_error_of_the_execution_is_the_callers_and_the_statement_is_known() -> None:
    talk = Conversation()
    call = ask(talk, CAST, 1)
    talk.flush()
    talk.reply(first(NUMBER, parameters=(INT4,)), backend.bind_complete(), failed("22012"))
    assert call.error.sqlstate == "22012"
    ask(talk, CAST, 2)
    assert talk.flush() == "BES"


def test_parameters_that_are_not_those_that_the_text_has_shown() -> None:
    talk = Conversation()
    call = ask(talk, COLD)
    talk.flush()
    talk.reply(first(NUMBER, parameters=(INT4,)), failed("08P01"))
    assert isinstance(call.error, exceptions.InterfaceError)
    assert "expects 1 argument for this query, 0 were passed" in str(call.error)


def test_rows_that_cannot_be_read_fail_the_request_alone() -> None:
    types = TypeMap()
    types.set_codec(INT4, "binary", lambda value: value, lambda data: 1 // data[3])
    talk = Conversation(types=types)
    call = ask(talk, COLD)
    talk.flush()
    talk.reply(first(NUMBER), rows(1, 0, 2))
    assert isinstance(call.error, ZeroDivisionError)
    again = ask(talk, COLD)
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert again.value == [(1,)]


@pytest.mark.parametrize(
    "answer",
    [
        backend.parse_complete() + backend.ready_for_query(),
        backend.parse_complete() + rows(1),
        backend.parse_complete() + backend.row_description(NUMBER),
        first(NUMBER) + backend.row_description(NUMBER),
        backend.parse_complete() + backend.parameter_description() + rows(1),
    ],
)
def test_an_answer_without_a_description_ends_the_session(answer: bytes) -> None:
    talk = Conversation()
    ask(talk, COLD)
    talk.flush()
    with pytest.raises(exceptions.ProtocolError):
        talk.reply(answer)


# Others that ask for the same text


def test_others_of_the_same_text_wait_for_the_first_run() -> None:
    talk = Conversation()
    one, two, three = ask(talk, CAST, 1), ask(talk, CAST, 2), ask(talk, CAST, 3, shared=True)
    assert talk.flush() == "PDBES"
    assert talk.session.statements.parked == 1
    talk.reply(first(NUMBER, parameters=(INT4,)), rows(1))
    assert talk.flush() == "BES BES"
    talk.reply(rows(2), rows(3))
    assert (one.value, two.value, three.value) == ([(1,)], [(2,)], [(3,)])


def test_others_have_the_text_prepared_if_the_first_run_fails_in_parse() -> None:
    talk = Conversation()
    one, two = ask(talk, COLD), ask(talk, COLD)
    talk.flush()
    talk.reply(failed("42P01"))
    assert one.error.sqlstate == "42P01"
    assert talk.flush() == "PDS"
    talk.reply(described([], [NUMBER]))
    talk.flush()
    talk.reply(rows(2))
    assert two.value == [(2,)]


def test_a_statement_that_is_held_meanwhile_is_known_with_the_first_run() -> None:
    talk = Conversation()
    call = ask(talk, COLD)
    statement = talk.session.statements.hold(COLD)
    prepared = talk.prepare(statement)
    assert talk.flush() == "PDBES"
    talk.reply(first(NUMBER), rows(1))
    assert (call.value, prepared.value) == ([(1,)], statement)
    talk.session.statements.release(statement)


# Cancelled


def test_a_first_run_that_was_not_sent_is_dropped() -> None:
    talk = Conversation()
    one, two = ask(talk, COLD), ask(talk, COLD)
    assert talk.cancel(one) == DROPPED
    assert talk.flush() == "PDS", "the other one has it prepared"
    talk.reply(described([], [NUMBER]))
    assert talk.flush() == "BES"
    talk.reply(rows(2))
    assert two.value == [(2,)]


def test_a_text_whose_first_run_was_dropped_is_new() -> None:
    talk = Conversation()
    assert talk.cancel(ask(talk, COLD)) == DROPPED
    assert talk.flush() == ""
    call = ask(talk, COLD)
    assert talk.flush() == "PDBES"
    talk.reply(first(NUMBER), rows(1))
    assert call.value == [(1,)]


@pytest.mark.parametrize("described_before", [False, True])
def test_a_first_run_that_is_cancelled_leaves_others_their_statement(described_before: bool) -> None:
    talk = Conversation()
    one, two = ask(talk, COLD), ask(talk, COLD)
    talk.flush()
    if described_before:
        talk.reply(first(NUMBER))
    assert talk.cancel(one) == SIGNAL
    talk.session.cancellation.delivered()
    talk.reply(failed("57014"))
    if not described_before:
        assert talk.flush() == "PDS"
        talk.reply(described([], [NUMBER]))
    assert talk.flush() == "BES"
    talk.reply(rows(2))
    assert two.value == [(2,)]


def test_an_abandoned_first_run_of_unreadable_rows_is_not_repeated() -> None:
    talk = Conversation()
    call = ask(talk, "SELECT m FROM t")
    talk.flush()
    talk.cancel(call)
    talk.session.cancellation.delivered()
    talk.reply(first(Field("m", MONEY)), backend.bind_complete(), simple("SELECT 0"))
    assert talk.flush() == ""
    assert talk.idle


def test_a_repetition_can_be_cancelled_at_each_moment() -> None:
    talk = Conversation()
    call = ask(talk, "SELECT m FROM t")
    talk.flush()
    talk.reply(first(Field("m", MOOD)), backend.bind_complete(), backend.data_row("sad"), simple("SELECT 1"))
    assert talk.cancel(call) == DROPPED
    assert talk.flush() == "PBES", "the types are looked up all the same"
    talk.reply(learnt(MOOD, "mood"))
    assert talk.flush() == ""
    assert talk.idle


def test_a_first_run_that_a_stray_cancel_has_hit_goes_on() -> None:
    talk = echoing()
    head, behind = talk.fetch("SELECT $1::int4 AS n", 1), ask(talk, COLD)
    assert talk.flush() == "BES PDBES"
    assert talk.cancel(head) == SIGNAL
    talk.session.cancellation.delivered()
    talk.reply(rows(1))
    talk.reply(failed("57014"))
    assert talk.flush() == "PDS"
    talk.reply(described([], [NUMBER]))
    assert talk.flush() == "BES"
    talk.reply(rows(2))
    assert behind.value == [(2,)]


def test_a_write_behind_the_head_keeps_it_from_being_cancelled() -> None:
    talk = echoing()
    head, write = talk.fetch("SELECT $1::int4 AS n", 1), ask(talk, WRITE, 1, kind=KIND_STATUS)
    assert talk.flush() == "BES PDBES"
    assert talk.cancel(head) == DRAINED
    talk.reply(rows(1), first(parameters=(INT4,)), done("INSERT 0 1"))
    assert write.value == "INSERT 0 1"


# Lost


class Taker:
    """Takes back the shared requests of a connection that is lost."""

    def __init__(self, talk: Conversation) -> None:
        self.taken: list[tuple[Request, bool]] = []
        talk.log.requeue = self.requeue  # type: ignore[method-assign]

    def requeue(self, request: Any, started: bool) -> bool:
        self.taken.append((request, started))
        return True


def test_a_read_in_its_first_run_is_safe_to_retry_when_the_connection_is_lost() -> None:
    talk = Conversation()
    call, other = ask(talk, COLD), ask(talk, COLD)
    talk.flush()
    talk.reply(first(NUMBER))
    talk.session.connection_lost("cut")
    assert "it only reads, it is safe to retry" in str(call.error)
    assert "the request had not been sent, it is safe to retry" in str(other.error)


def test_the_outcome_of_a_write_in_its_first_run_is_unknown_when_the_connection_is_lost() -> None:
    talk = Conversation()
    call = ask(talk, WRITE, 1, kind=KIND_STATUS)
    talk.flush()
    talk.session.connection_lost("cut")
    assert not call.error.safe_to_retry


def test_the_last_words_of_the_server_are_for_the_first_run() -> None:
    talk = Conversation()
    call, other = ask(talk, COLD), ask(talk, COLD)
    talk.flush()
    talk.reply(backend.error_response("terminating", code="57P01", severity="FATAL", routine="ProcessInterrupts"))
    talk.session.connection_lost(talk.session.fatal)
    assert call.error.sqlstate == "57P01"
    assert call.error.safe_to_retry
    assert isinstance(other.error, exceptions.ConnectionDoesNotExistError)


def test_a_first_run_that_would_be_repeated_is_so_on_another_connection() -> None:
    talk = Conversation()
    taker = Taker(talk)
    call = ask(talk, "SELECT m FROM t", shared=True)
    talk.flush()
    talk.reply(first(Field("m", MONEY)), backend.bind_complete())
    talk.session.connection_lost("cut")
    assert taker.taken == [(call.request, True)]
    other = Conversation()
    other.session.submit(call.request)
    assert other.flush() == "PDBES"
    other.reply(first(NUMBER), rows(1))
    assert call.value == [(1,)]


def test_a_first_run_of_unreadable_rows_fails_with_the_end_of_the_connection() -> None:
    talk = Conversation()
    call = ask(talk, "SELECT m FROM t")
    talk.flush()
    talk.reply(first(Field("m", MONEY)), backend.bind_complete())
    talk.session.connection_lost("cut")
    assert isinstance(call.error, exceptions.ConnectionDoesNotExistError)
    assert call.error.safe_to_retry


def test_a_first_run_ends_with_a_session_that_is_being_closed() -> None:
    talk = Conversation()
    call = ask(talk, "SELECT m FROM t")
    talk.flush()
    talk.session.close("connection is closed")
    talk.reply(first(Field("m", MONEY)), backend.bind_complete(), backend.data_row(bytes(8)), simple("SELECT 1"))
    assert isinstance(call.error, exceptions.ConnectionDoesNotExistError)
    other = Conversation()
    call = ask(other, COLD)
    other.flush()
    other.session.close("connection is closed")
    other.reply(first(NUMBER), rows(1))
    assert call.value == [(1,)]


# At random


class Life:
    """Calls at random, cancelled at random, on a session and a small server that counts updates.

    Each read returns how many updates were asked for before it: in binary, as text, or as a value of a type that has to
    be looked up.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.talk = Conversation(statement_cache_size=self.random.choice([0, 2, 100]))
        self.statements: dict[str, str] = {}
        self.waiting: list[list[frontend.Message]] = []
        self.updates = self.asked = 0
        self.in_block = self.ends_in_block = False
        self.hit = False
        self.calls: list[tuple[Call, object]] = []

    def live(self, turns: int) -> None:
        for _ in range(turns):
            self.random.choice(
                [self.read, self.read, self.update, self.transact, self.cancel, self.flush, self.answer]
            )()
        while self.flush() or self.waiting:
            self.answer()
        for call, expected in self.calls:
            assert call.value == expected
        assert self.talk.idle

    def read(self) -> None:
        column = self.random.choice("nmp")
        argument = self.random.random() < 0.5
        query = f"SELECT {column} FROM t{self.random.randrange(4)}" + (" WHERE $1::int > 0" if argument else "")
        expected: object = self.asked if column == "n" else f"{self.asked}"
        call = ask(self.talk, query, *([1] if argument else []))
        self.calls.append((call, [(expected,)]))

    def update(self) -> None:
        self.asked += 1
        if self.random.random() < 0.5:
            self.calls.append((self.talk.script("UPDATE"), "UPDATE 1"))
        else:
            self.calls.append((ask(self.talk, "UPDATE t SET n = $1::int", 1, kind=KIND_STATUS), "UPDATE 1"))

    def transact(self) -> None:
        text = "COMMIT" if self.ends_in_block else "BEGIN"
        self.ends_in_block = not self.ends_in_block
        self.calls.append((self.talk.script(text), text))

    def cancel(self) -> None:
        if self.in_block or self.ends_in_block or not self.calls or self.hit:
            return
        at = self.random.randrange(len(self.calls))
        call, expected = self.calls[at]
        if call.settled or not isinstance(expected, list):
            return
        del self.calls[at]
        if self.talk.cancel(call) == SIGNAL:
            self.hit = True

    def flush(self) -> bool:
        self.talk.flush()
        request: list[frontend.Message] = []
        for message in self.talk.messages:
            request.append(message)
            if isinstance(message, (frontend.Sync, frontend.Query)):
                self.waiting.append(request)
                request = []
        return bool(self.talk.messages)

    def answer(self) -> None:
        if not self.waiting:
            return
        request = self.waiting.pop(0)
        reply = self.failed(request) if self.hit else self.reply(request)
        if self.hit:
            self.hit = False
            self.talk.session.cancellation.delivered()
        while reply:
            size = self.random.randrange(1, len(reply) + 1)
            self.talk.reply(reply[:size])
            reply = reply[size:]

    def failed(self, request: list[frontend.Message]) -> bytes:
        for message in request:
            if isinstance(message, frontend.Parse) and self.random.random() < 0.5:
                self.statements[message.name] = message.sql
                return backend.parse_complete() + failed("57014")
        return failed("57014")

    def reply(self, request: list[frontend.Message]) -> bytes:
        parts = []
        query = ""
        for message in request:
            if isinstance(message, frontend.Parse):
                self.statements[message.name] = query = message.sql
                parts.append(backend.parse_complete())
            elif isinstance(message, frontend.Describe):
                if message.kind == "S":
                    parts.append(backend.parameter_description(*([INT4] if "$1" in query else [])))
                else:
                    query = self.statements[bound(request).statement]
                parts.append(backend.row_description(self.field(query)) if "SELECT" in query else backend.no_data())
            elif isinstance(message, frontend.Bind):
                query = self.statements[message.statement]
                parts.append(backend.bind_complete())
            elif isinstance(message, frontend.Execute):
                if "pg_catalog" in query:
                    known = learnt(MOOD, "mood").removesuffix(backend.ready_for_query())
                    return known + backend.ready_for_query("T" if self.in_block else "I")
                parts.append(self.executed(query, bound(request).result_formats))
            elif isinstance(message, frontend.Close):
                parts.append(backend.close_complete())
                self.statements.pop(message.name, None)
            elif isinstance(message, frontend.Query):
                parts.append(self.executed(message.sql, ()))
        return b"".join(parts) + backend.ready_for_query("T" if self.in_block else "I")

    def executed(self, query: str, formats: tuple[int, ...]) -> bytes:
        if query in ("BEGIN", "COMMIT"):
            self.in_block = query == "BEGIN"
            return backend.command_complete(query)
        if "UPDATE" in query:
            self.updates += 1
            return backend.command_complete("UPDATE 1")
        value = f"{self.updates}".encode()
        if "SELECT n" in query:
            value = int4(self.updates)
        elif "SELECT p" in query and formats == (1,):
            assert not self.in_block, "a read that has to be executed once more"
            value = bytes(8)
        return backend.data_row(value) + backend.command_complete("SELECT 1")

    def field(self, query: str) -> Field:
        return Field("c", {"n": INT4, "m": MOOD, "p": MONEY}[query[7]])


@pytest.mark.parametrize("seed", range(60))
def test_lives_at_random(seed: int) -> None:
    Life(seed).live(80)
