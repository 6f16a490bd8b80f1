"""Invariant 8: what becomes of all that was asked when the server says FATAL, or the connection ends."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import headrace
from headrace import exceptions
from headrace._core.pipeline.copy import CopyIn
from tests.core.pipeline.script import (
    ECHO,
    INT4,
    NUMBER,
    Call,
    Conversation,
    Log,
    Waiter,
    described,
    echoing,
    int4,
    rows,
)  # fmt: skip
from tests.peers import backend
from tests.peers.backend import Field

SHUTDOWN = backend.error_response("terminating connection", code="57P01", severity="FATAL")


WRITE = "INSERT INTO t VALUES ($1)"
READS = (ECHO, "SELECT 2")


def check_lost(call: Call, *, sent: bool) -> None:
    """The call was sent, and nothing is known of it, or it never was."""
    error = call.error
    assert isinstance(error, exceptions.ConnectionDoesNotExistError)
    assert ("the request had been sent" in str(error)) == sent
    assert ("it only reads" in str(error)) == (sent and call.request.query in READS)
    check_safety(call, safe=not sent or call.request.query in READS)


def check_safety(call: Call, *, safe: bool) -> None:
    assert headrace.is_safe_to_retry(call.error) == call.error.safe_to_retry == safe
    assert ("it is safe to retry" in str(call.error)) == safe


def ending(
    code: str = "57P01",
    routine: str | None = "ProcessInterrupts",
    severity: str = "FATAL",
    **fields: str | None,
) -> bytes:
    """The last words of a backend that ends itself."""
    return backend.error_response("terminating connection", code=code, severity=severity, routine=routine, **fields)


def parting(code: str = "57P01", routine: str = "quickdie") -> bytes:
    """The last word of a backend in an immediate shutdown, or in a crash."""
    return backend.notice_response("terminating connection", code=code, severity="WARNING", routine=routine)


def writing(**limits: Any) -> Conversation:
    """A conversation that knows WRITE and ECHO."""
    talk = echoing(**limits)
    talk.know(WRITE, [INT4], None)
    return talk


def end(talk: Conversation, *words: bytes) -> None:
    """Have the server say these words and close the connection."""
    talk.reply(*words)
    talk.session.connection_lost(talk.session.fatal or "the server closed the connection")


def test_fatal_gives_the_head_the_servers_error_and_the_others_say_whether_they_were_sent() -> None:
    talk = echoing(max_pipeline=3)
    calls = [talk.fetch(ECHO, i) for i in range(5)]
    talk.flush()
    talk.reply(rows(0), SHUTDOWN)
    talk.session.connection_lost("the server closed the connection")
    assert calls[0].value == [(0,)]
    assert isinstance(calls[1].error, exceptions.AdminShutdownError)
    check_lost(calls[2], sent=True)
    assert calls[2].error.__cause__ is calls[1].error
    check_lost(calls[3], sent=False)
    check_lost(calls[4], sent=False)
    assert talk.idle


def test_without_last_words_the_head_had_been_sent_as_well() -> None:
    talk = echoing()
    head, follower = talk.fetch(ECHO, 1), talk.fetch(ECHO, 2)
    talk.flush()
    queued = talk.fetch(ECHO, 3)
    reason = ConnectionResetError("reset by peer")
    talk.session.connection_lost(reason)
    check_lost(head, sent=True)
    check_lost(follower, sent=True)
    check_lost(queued, sent=False)
    assert head.error.__cause__ is reason


def test_a_reply_that_was_cut_is_no_result() -> None:
    talk = echoing()
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(rows(1)[:-6])
    talk.session.connection_lost("cut")
    check_lost(call, sent=True)


def test_a_request_that_had_failed_already_keeps_its_error() -> None:
    talk = echoing()
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(backend.error_response("division by zero", code="22012"))
    talk.session.connection_lost("cut")
    assert isinstance(call.error, exceptions.DivisionByZeroError)


def test_fatal_while_nothing_is_asked_is_the_reason_of_what_comes_next() -> None:
    talk = Conversation()
    talk.reply(SHUTDOWN)
    with pytest.raises(exceptions.InterfaceError, match="connection is closed: terminating connection"):
        talk.script("SELECT 1")
    talk.session.connection_lost(talk.session.fatal)
    with pytest.raises(exceptions.InterfaceError, match="connection is closed: terminating connection") as raised:
        talk.script("SELECT 1")
    assert raised.value.safe_to_retry


def test_fatal_during_start_up_is_its_error_at_once() -> None:
    """A false server may keep the end back."""
    talk = Conversation(greeted=False)
    call = talk.startup()
    talk.session.take_output()
    talk.reply(backend.error_response("no pg_hba.conf entry", code="28000", severity="FATAL"))
    assert isinstance(call.error, exceptions.InvalidAuthorizationSpecificationError)
    talk.session.connection_lost("the server closed the connection")


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("fatal", [False, True])
def test_whoever_waits_for_a_statement_had_not_been_sent(shared: bool, fatal: bool) -> None:
    """Preparing changes nothing; of what the server said, the first of them is told."""
    talk = Conversation()
    first, second = talk.fetch(ECHO, 1, shared=shared), talk.fetch(ECHO, 2, shared=shared)
    talk.flush()
    if fatal:
        talk.reply(SHUTDOWN)
    talk.session.connection_lost("cut")
    if fatal:
        assert isinstance(first.error, exceptions.AdminShutdownError)
    else:
        check_lost(first, sent=False)
    check_lost(second, sent=False)
    assert talk.idle


@pytest.mark.parametrize("shared", [False, True])
def test_whoever_waits_for_types_to_be_learnt_had_not_been_sent(shared: bool) -> None:
    talk = Conversation()
    calls = [talk.fetch("SELECT mood", shared=shared) for _ in range(3)]
    talk.flush()
    talk.reply(described([], [Field("m", 900_001)]))
    assert talk.flush() == "PBES"
    talk.session.connection_lost("cut")
    for call in calls:
        check_lost(call, sent=False)
    assert talk.idle


@pytest.mark.parametrize("cacheable", [True, False])
def test_whoever_waits_for_a_preparation_that_was_not_sent(cacheable: bool) -> None:
    talk = echoing(max_pipeline=1, max_cacheable_statement_size=0 if cacheable else 21)
    running = talk.fetch(ECHO, 0)
    talk.flush()
    calls = [talk.fetch("SELECT something else", shared=shared) for shared in (False, True)]
    talk.session.connection_lost("cut")
    check_lost(running, sent=True)
    for call in calls:
        check_lost(call, sent=False)
    assert talk.idle


def test_what_is_to_be_run_again_is_not_run_again_after_a_loss() -> None:
    talk = echoing()
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(backend.error_response("gone", code="26000"), backend.ready_for_query())
    assert not call.settled
    talk.session.connection_lost("cut")
    assert isinstance(call.error, exceptions.ConnectionDoesNotExistError)
    assert talk.flush() == ""


def test_an_error_that_was_to_be_unseen_is_not_seen_after_a_loss_either() -> None:
    talk = echoing()
    stale = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(backend.error_response("gone", code="26000"))
    talk.session.connection_lost("cut")
    check_lost(stale, sent=True)

    talk = echoing()
    target, neighbour = talk.fetch(ECHO, 1), talk.fetch(ECHO, 2)
    talk.flush()
    talk.session.cancellation.give_up(target.request)
    talk.reply(rows(1), backend.error_response("canceling statement due to user request", code="57014"))
    talk.session.connection_lost("cut")
    check_lost(neighbour, sent=True)


def test_a_protocol_violation_is_the_heads_error_and_the_cause_of_the_others() -> None:
    talk = echoing()
    head, follower = talk.fetch(ECHO, 1), talk.fetch(ECHO, 2)
    talk.flush()
    with pytest.raises(exceptions.ProtocolError) as caught:
        talk.reply(backend.parse_complete())
    talk.session.connection_lost(caught.value)
    assert head.error is caught.value
    check_lost(follower, sent=True)
    assert follower.error.__cause__ is caught.value


# What the last words prove

PROOFS = [
    *((code, "ProcessInterrupts") for code in ("57P01", "57P04", "25P04", "40001")),
    *((code, "ProcessRecoveryConflictInterrupt") for code in ("57P04", "40001")),
    ("40001", "ProcessRecoveryConflictInterrupts"),
]
NO_PROOFS = {
    "a pooler has no routine": ending(routine=None),
    "PgBouncer's query_timeout": ending("08P01", None),
    "another routine": ending(routine="pgbouncer_kill"),
    "not ready": ending("57P03"),
    "no room": ending("53300", "InitProcess"),
    "no severity that is in English for sure": ending(severity_en=None),
    "a panic": ending(severity="PANIC"),
}


def three_writes(**limits: Any) -> tuple[Conversation, list[Call]]:
    """The head and one behind it are in flight, the third is not."""
    talk = writing(max_pipeline=2, **limits)
    calls = [talk.execute(WRITE, i) for i in range(3)]
    talk.flush()
    return talk, calls


@pytest.mark.parametrize(("code", "routine"), PROOFS)
def test_a_backend_that_ends_itself_never_started_anything_behind_the_head(code: str, routine: str) -> None:
    talk, calls = three_writes()
    end(talk, backend.bind_complete(), ending(code, routine))
    check_safety(calls[0], safe=False)
    assert calls[0].error.sqlstate == code
    check_safety(calls[1], safe=True)
    assert "the server had not started the request" in str(calls[1].error)
    assert calls[1].error.__cause__ is calls[0].error
    check_lost(calls[2], sent=False)


@pytest.mark.parametrize("code", ["57P01", "57P05", "25P03"])
def test_without_bind_complete_the_head_was_never_started(code: str) -> None:
    talk, calls = three_writes()
    end(talk, ending(code))
    for call in calls:
        check_safety(call, safe=True)


@pytest.mark.parametrize("code", ["57P05", "25P03"])
def test_a_session_that_ends_idle_has_started_not_even_a_simple_query(code: str) -> None:
    for word, safe in ((ending(code), True), (ending("57P01"), False)):
        talk = Conversation()
        head, behind = talk.script("DELETE FROM t"), talk.script("DELETE FROM u")
        talk.flush()
        end(talk, word)
        check_safety(head, safe=safe)
        check_safety(behind, safe=True)


@pytest.mark.parametrize("words", NO_PROOFS.values(), ids=NO_PROOFS)
def test_what_others_than_postgresql_say_proves_nothing(words: bytes) -> None:
    talk, calls = three_writes()
    end(talk, words)
    check_safety(calls[0], safe=False)
    check_lost(calls[1], sent=True)
    check_lost(calls[2], sent=False)


@pytest.mark.parametrize("code", ["57P01", "57P02"])
def test_a_crash_notice_and_the_end_prove_the_same(code: str) -> None:
    talk, calls = three_writes()
    end(talk, backend.bind_complete(), parting(code))
    check_safety(calls[0], safe=False)
    assert calls[0].error.sqlstate == code
    assert isinstance(calls[0].error, exceptions.ConnectionDoesNotExistError)
    check_safety(calls[1], safe=True)
    check_lost(calls[2], sent=False)


@pytest.mark.parametrize(
    "words",
    [
        (parting(routine="exec_stmt_raise"),),
        (parting("57P03"),),
        (parting(), backend.bind_complete(), backend.command_complete("INSERT 0 1"), backend.ready_for_query()),
    ],
    ids=["raised by a function", "another code", "the session went on"],
)
def test_a_notice_that_is_no_last_word_proves_nothing(words: tuple[bytes, ...]) -> None:
    talk, calls = three_writes()
    end(talk, *words)
    check_lost(calls[1], sent=True)


@pytest.mark.parametrize("simple", [False, True])
def test_terminated_while_it_waits_for_a_standby_the_head_has_committed(simple: bool) -> None:
    """The backend has said CommandComplete or not, and gives no error."""
    talk = writing()
    head = talk.script("DELETE FROM t") if simple else talk.execute(WRITE, 1)
    behind = talk.execute(WRITE, 2)
    talk.flush()
    answer = [] if simple else [backend.bind_complete(), backend.command_complete("INSERT 0 1")]
    end(talk, *answer, parting(routine="SyncRepWaitForLSN"))
    check_safety(head, safe=False)
    assert "this server has committed it, its synchronous standbys perhaps not" in str(head.error)
    assert isinstance(head.error, exceptions.AdminShutdownError)
    check_safety(behind, safe=True)


def test_one_command_that_was_not_complete_was_rolled_back_by_this_server() -> None:
    rolled_back = "this server has rolled it back"
    for words, said in (
        ([backend.bind_complete()], True),
        ([backend.bind_complete(), backend.command_complete("INSERT 0 1")], False),
    ):
        talk, calls = three_writes()
        end(talk, *words, ending())
        assert (rolled_back in str(calls[0].error)) == said
    talk, calls = three_writes()
    end(talk, backend.bind_complete())
    assert rolled_back not in str(calls[0].error), "no proof"
    for text in (
        "CREATE INDEX CONCURRENTLY ON t (a)",
        "CREATE DATABASE d",
        "COMMIT PREPARED 'p'",
        "VACUUM",
        "CALL p()",
    ):
        talk = Conversation()
        talk.know(text, [], None)
        head = talk.execute(text)
        talk.flush()
        end(talk, backend.bind_complete(), ending())
        assert rolled_back not in str(head.error)
        check_safety(head, safe=False)


def test_the_first_of_two_fatal_errors_counts() -> None:
    talk, calls = three_writes()
    end(talk, ending("57P01"), ending("08P01", None))
    assert calls[0].error.sqlstate == "57P01"
    check_safety(calls[1], safe=True)
    talk, calls = three_writes()
    end(talk, ending("08P01", None), ending("57P01"))
    assert calls[0].error.sqlstate == "08P01"
    check_lost(calls[1], sent=True)


def test_what_nobody_waits_for_does_not_change_the_last_words() -> None:
    talk = writing()
    given_up = talk.execute(WRITE, 1)
    talk.flush()
    talk.cancel(given_up)
    given_up.waiter.settled = True
    end(talk, ending())
    assert str(talk.session.fatal) == "terminating connection"


def test_nothing_is_read_behind_a_fatal_error() -> None:
    talk = echoing()
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(ending(), rows(1))
    talk.reply(rows(1))
    assert not call.settled
    talk.session.connection_lost(talk.session.fatal)
    assert isinstance(call.error, exceptions.AdminShutdownError)


def test_the_heads_error_is_what_the_server_said_and_the_loss_of_the_connection() -> None:
    talk, calls = three_writes()
    end(talk, ending("57P05"))
    for error in (calls[0].error, pickle.loads(pickle.dumps(calls[0].error)), copy.copy(calls[0].error)):
        assert isinstance(error, exceptions.IdleSessionTimeoutError)
        assert isinstance(error, exceptions.ConnectionDoesNotExistError)
        assert type(error).__name__ == "IdleSessionTimeoutError"
        assert error.sqlstate == "57P05"
        assert error.message == "terminating connection"
        assert str(error).startswith("terminating connection; connection was closed in the middle of operation: ")
        assert error.safe_to_retry


# Transactions

ROLLED_BACK = "the transaction was rolled back, repeat all of it"


def check_in_block(call: Call, text: str = ROLLED_BACK) -> None:
    check_safety(call, safe=False)
    assert text in str(call.error)


@pytest.mark.parametrize("words", [(), (ending(),)], ids=["cut", "terminated"])
@pytest.mark.parametrize("status", ["T", "E"])
def test_in_a_transaction_nothing_is_safe_to_retry(status: str, words: tuple[bytes, ...]) -> None:
    """An INSERT that is tried again elsewhere, and a COMMIT there, would lose what came before them."""
    talk = writing(max_pipeline=1)
    talk.script("BEGIN")
    talk.flush()
    talk.reply(backend.command_complete("BEGIN"), backend.ready_for_query(status))
    head, write, read, commit = (
        talk.execute(WRITE, 1), talk.execute(WRITE, 1), talk.fetch(ECHO, 1), talk.script("COMMIT", uncancellable=True)
    )  # fmt: skip
    talk.flush()
    end(talk, *words)
    for call in (head, write, read, commit):
        check_in_block(call)


def test_a_begin_that_was_not_answered_begins_a_transaction_too() -> None:
    talk = writing(max_pipeline=2)
    before, begin = talk.execute(WRITE, 1), talk.script("BEGIN")
    talk.flush()
    inside, commit, behind = talk.execute(WRITE, 2), talk.script("COMMIT"), talk.execute(WRITE, 3)
    end(talk)
    check_lost(before, sent=True)
    check_safety(begin, safe=False)
    check_in_block(inside)
    check_in_block(commit)
    check_lost(behind, sent=False)


def test_a_commit_that_may_have_been_carried_out_is_unknown() -> None:
    unknown = "whether the transaction was committed is unknown"
    for words, text in (((), unknown), ((backend.bind_complete(), ending()), ROLLED_BACK)):
        talk = writing()
        calls = [talk.script("BEGIN"), talk.execute(WRITE, 1), talk.script("COMMIT"), talk.execute(WRITE, 2)]
        talk.flush()
        talk.reply(backend.command_complete("BEGIN"), backend.ready_for_query("T"))
        end(talk, *words)
        check_in_block(calls[1], text)
        check_in_block(calls[2], text)
        check_safety(calls[3], safe=bool(words))


@pytest.mark.parametrize(
    "text", ["COMMIT", "end", "/* x */ ROLLBACK", "ABORT", "PREPARE TRANSACTION 'p'", "COMMIT PREPARED 'p'", "BEGIN",
             "start transaction", "SAVEPOINT s", "RELEASE s", "SELECT 1; COMMIT"],
)  # fmt: skip
@pytest.mark.parametrize("prepared", [False, True])
def test_what_begins_or_ends_a_transaction_is_never_safe_to_retry(text: str, prepared: bool) -> None:
    talk = writing(max_pipeline=1)
    if prepared:
        talk.know(text, [], None)
    talk.execute(WRITE, 1)
    talk.flush()
    call = talk.execute(text) if prepared else talk.script(text)
    end(talk)
    check_safety(call, safe=False)


@pytest.mark.parametrize(
    ("text", "open_behind"),
    [
        ("ROLLBACK TO s", True), ("COMMIT AND CHAIN", True), ("COMMIT AND NO CHAIN", False), ("ROLLBACK", False),
        ("COMMIT; BEGIN", True), ("SAVEPOINT s", True), ("COMMIT PREPARED 'p'", True), ("SELECT 'commit'", True),
        ("PREPARE TRANSACTION 'p'", False), ("PREPARE p AS SELECT 1", True),
    ],
)  # fmt: skip
def test_where_a_transaction_ends(text: str, open_behind: bool) -> None:
    talk = writing(max_pipeline=1)
    talk.script("BEGIN")
    talk.flush()
    talk.reply(backend.command_complete("BEGIN"), backend.ready_for_query("T"))
    talk.script(text)
    behind = talk.execute(WRITE, 1)
    end(talk)
    check_safety(behind, safe=not open_behind)
    with pytest.raises(exceptions.InterfaceError) as raised:
        talk.execute(WRITE, 2)
    assert not raised.value.safe_to_retry, "it may be meant for the transaction, whose end was not carried out"
    assert ROLLED_BACK in str(raised.value)


# Iterators


def test_a_batch_whose_iterator_was_begun_is_not_safe_to_retry() -> None:
    talk = writing(max_pipeline=1)
    talk.execute(WRITE, 1)
    talk.flush()
    begun, again = talk.batch(WRITE, iter([(1,)])), talk.batch(WRITE, [(1,)])
    untouched = talk.batch("INSERT INTO u VALUES ($1)", iter([(1,)]))
    end(talk)
    check_safety(begun, safe=False)
    assert "its arguments came from an iterator" in str(begun.error)
    check_safety(again, safe=True)
    check_safety(untouched, safe=True)


def test_a_batch_is_started_with_its_first_element() -> None:
    for words, safe in (
        ((), True),
        ((backend.bind_complete(),), False),
        ((backend.bind_complete(), backend.command_complete("INSERT 0 1")), False),
    ):
        talk = writing()
        call = talk.batch(WRITE, [(1,), (2,)])
        talk.flush()
        end(talk, *words, ending())
        check_safety(call, safe=safe)


# What another connection may run


class Taker(Log):
    """Takes requests over, or does not."""

    def __init__(self, *, takes: bool = True) -> None:
        super().__init__()
        self.takes = takes
        self.offered: list[tuple[Any, bool]] = []

    def requeue(self, request: Any, started: bool) -> bool:
        self.offered.append((request, started))
        return self.takes


def test_what_never_started_is_offered_in_order_with_plain_reads() -> None:
    taker = Taker()
    talk = writing(log=taker, max_pipeline=4)
    head = talk.execute(WRITE, 1, shared=True)
    sent = [talk.fetch(ECHO, 2, shared=True), talk.execute(WRITE, 3), talk.execute(WRITE, 4, shared=True)]
    talk.flush()
    unsent = [talk.batch(WRITE, [(5,)], shared=True), talk.fetch(ECHO, 6, shared=True), talk.fetch(ECHO, 7)]
    end(talk, backend.bind_complete(), ending())
    expected = [sent[0], sent[2], unsent[0], unsent[1]]
    assert taker.offered == [(call.request, False) for call in expected]
    assert not any(call.settled for call in expected)
    assert all(call.settled for call in (head, sent[1], unsent[2]))


def test_a_plain_read_that_may_have_started_is_offered_as_such() -> None:
    taker = Taker()
    talk = writing(log=taker)
    own = "SELECT pg_backend_pid()"
    talk.know(own, [], [NUMBER])
    read, write, session = (
        talk.fetch(ECHO, 1, shared=True), talk.execute(WRITE, 2, shared=True), talk.fetch(own, shared=True)
    )  # fmt: skip
    talk.flush()
    end(talk, backend.bind_complete(), backend.data_row(int4(1)))
    assert taker.offered == [(read.request, True)]
    assert not read.settled
    check_lost(write, sent=True)
    check_safety(session, safe=True)


def test_what_is_taken_can_be_run_on_another_connection_from_the_start() -> None:
    talk, other = writing(log=Taker()), writing()
    read, batch = talk.fetch(ECHO, 1, shared=True), talk.batch(ECHO, [(2,), (3,)], collects=True, shared=True)
    talk.flush()
    name = talk.statement_names()[0]
    talk.reply(backend.bind_complete(), backend.data_row(int4(9)))
    end(talk)
    assert read.request.error is None
    before = other.session.request_count
    other.session.submit(read.request)
    other.session.submit(batch.request)
    assert other.session.request_count == before + 2
    assert other.flush() == "BES BEBES"
    assert other.statement_names()[0] == other.statement_names()[1] != name
    other.reply(rows(1), rows(2)[:-6], rows(3))
    assert read.value == [(1,)]
    assert batch.value == [(2,), (3,)]


def test_what_is_not_taken_gets_its_error() -> None:
    taker = Taker(takes=False)
    talk, _ = three_writes(log=taker)
    shared = talk.execute(WRITE, 4, shared=True)
    end(talk, ending())
    assert taker.offered == [(shared.request, False)]
    check_lost(shared, sent=False)


def test_a_taker_that_fails_keeps_nobody_from_an_error() -> None:
    taker = Taker()
    talk, _ = three_writes(log=taker)

    def fail(request: Any, started: bool) -> bool:
        raise ZeroDivisionError

    taker.requeue = fail  # type: ignore[method-assign]
    shared = talk.execute(WRITE, 4, shared=True)
    end(talk)
    check_lost(shared, sent=False)


def test_those_who_wait_for_a_statement_are_offered_too() -> None:
    taker = Taker()
    talk = Conversation(log=taker)
    calls = [talk.execute(WRITE, i, shared=True) for i in range(2)]
    talk.flush()
    end(talk, SHUTDOWN)
    assert taker.offered == [(call.request, False) for call in calls]


def test_nothing_is_offered_after_a_close_by_the_user_nor_what_was_given_up() -> None:
    taker = Taker()
    talk = writing(log=taker, max_pipeline=2)
    sent, unsent = [talk.fetch(ECHO, i, shared=True) for i in range(2)], talk.fetch(ECHO, 3, shared=True)
    talk.flush()
    talk.session.close("connection is closed")
    end(talk, ending())
    assert not taker.offered
    assert all(call.settled for call in (*sent, unsent))

    taker = Taker()
    talk = writing(log=taker)
    talk.execute(WRITE, 1)
    given_up = talk.fetch(ECHO, 2, shared=True)
    talk.flush()
    talk.cancel(given_up)
    given_up.waiter.settled = True
    end(talk, ending())
    assert not taker.offered


def test_nothing_inside_a_transaction_is_offered() -> None:
    taker = Taker()
    talk = writing(log=taker, max_pipeline=1)
    talk.script("BEGIN")
    talk.flush()
    inside = talk.execute(WRITE, 1, shared=True)
    end(talk)
    assert not taker.offered
    check_in_block(inside)


# After the end


def test_after_a_loss_nothing_is_taken_and_nothing_given() -> None:
    talk = echoing()
    given_up = talk.submit(CopyIn(Waiter(), Waiter(), "COPY t FROM STDIN", None))
    talk.flush()
    talk.reply(backend.copy_in_response(0))
    talk.cancel(given_up)
    assert talk.session.wants_output()
    talk.session.connection_lost("cut by the test")
    assert talk.flush() == ""
    talk.reply(rows(1), b"\xff" * 100)
    for ask in (lambda: talk.script("SELECT 1"), lambda: talk.fetch(ECHO, 1)):
        with pytest.raises(exceptions.InterfaceError, match="connection is closed: cut by the test"):
            ask()


def test_a_second_loss_changes_nothing() -> None:
    talk = echoing()
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.session.connection_lost("the first reason")
    talk.session.connection_lost("another one")
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
    talk.session.connection_lost("cut")
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
    with pytest.raises(exceptions.InterfaceError, match="connection is closed"):
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
    assert talk.idle


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


@pytest.mark.fault(number=7)
def test_the_socket_closed_at_every_byte_offset() -> None:
    *_, whole = exchange()
    complete: list[Any] = [[(0,), (9,)], exceptions.DivisionByZeroError, "SELECT 1"]
    ends = [i for i in range(len(whole) + 1) if whole[:i].endswith(backend.ready_for_query())]
    for cut in range(len(whole) + 1):
        talk, calls, data = exchange()
        talk.reply(data[:cut])
        talk.session.connection_lost("cut")
        for i in range(3):
            if cut >= ends[i]:
                assert outcome(calls[i]) == complete[i]
            elif i == 1 and isinstance(calls[i].error, exceptions.DivisionByZeroError):
                assert cut > ends[0], "the server's error had come, though not the end of the request"
            else:
                check_lost(calls[i], sent=True)
        check_lost(calls[3], sent=False)
        assert talk.idle
