"""The statement cache under several values of search_path, which PostgreSQL 18 reports."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from headrace import exceptions
from headrace._core.pipeline import statements
from headrace._core.pipeline.requests import Query
from headrace._core.rows.record import Record
from headrace._io.driver import KIND_ROWS
from tests.core.pipeline.script import (
    DROPPED,
    INT4,
    NUMBER,
    SIGNAL,
    TEXT,
    Call,
    Conversation,
    Waiter,
    described,
    failed,
    rows,
    simple,
)
from tests.peers import backend, frontend

# Not known to be a plain read, so it is described before it is executed.
QUERY = "SELECT n FROM f()"


def talking(path: str | None = "public", **limits: Any) -> Conversation:
    """A session whose server reports search_path, or does not if `path` is None."""
    talk = Conversation(greeted=False, **limits)
    talk.startup()
    talk.session.take_output()
    talk.reply(backend.greeting({"search_path": path} if path is not None else {}))
    return talk


def ask(talk: Conversation, query: str = QUERY, *args: object, shared: bool = False) -> Call:
    """Ask for the rows of a text, as a connection does: the session finds the statement."""
    waiter = Waiter()
    return talk.submit(Query(waiter, query, args, KIND_ROWS, 0, 0, Record, shared), waiter)


def moved(path: str, tag: str = "SET", status: str = "I") -> bytes:
    """The answer to a script that changes the search_path."""
    return (
        backend.command_complete(tag) + backend.parameter_status("search_path", path) + backend.ready_for_query(status)
    )


def move(talk: Conversation, path: str) -> None:
    talk.script(f"SET search_path TO {path}")
    talk.flush()
    talk.reply(moved(path))


def learn(talk: Conversation, *args: object, query: str = QUERY, parameters: tuple[int, ...] = ()) -> None:
    """Have a text prepared and executed once."""
    call = ask(talk, query, *args)
    assert talk.flush() == "PDS"
    talk.reply(described(parameters, [NUMBER]))
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert call.value == [(1,)]


def test_each_search_path_has_statements_of_its_own() -> None:
    talk = talking()
    learn(talk)
    move(talk, "one")
    learn(talk)
    move(talk, "public")
    for path in ("public", "one", "public"):
        move(talk, path)
        call = ask(talk)
        assert talk.flush() == "BES", path
        talk.reply(rows(2))
        assert call.value == [(2,)]


def test_the_statements_of_all_search_paths_share_the_size_of_the_cache() -> None:
    talk = talking(statement_cache_size=2)
    learn(talk)
    learn(talk, query="SELECT 2 AS n FROM f()")
    call = ask(talk)
    talk.flush()
    talk.reply(rows(1))
    move(talk, "one")
    ask(talk, query="SELECT 2 AS n FROM f()")
    assert talk.flush() == "CS PDS", "the least recently used of all is evicted"
    assert talk.session.statements.cached_queries() == ["SELECT 2 AS n FROM f()", QUERY]
    assert call.value == [(1,)]


def test_a_server_that_reports_no_search_path() -> None:
    talk = talking(None)
    learn(talk)
    script, call = talk.script("SET search_path TO one"), ask(talk)
    assert talk.flush() == "Q BES"
    talk.reply(simple("SET"), rows(1))
    assert (script.value, call.value) == ("SET", [(1,)])


CHANGES = [
    "SET search_path TO one",
    "set local SEARCH_PATH = 'one'",
    "SET SCHEMA 'one'",
    "SELECT set_config('search_path', 'one', false)",
    "DO $$BEGIN SET search_path TO one; END$$",
]


@pytest.mark.parametrize("text", CHANGES)
def test_what_is_asked_behind_a_change_waits_until_the_value_is_known(text: str) -> None:
    talk = talking()
    learn(talk)
    talk.script(text)
    calls = [ask(talk), ask(talk)]
    assert talk.flush() == "Q"
    talk.reply(moved("one"))
    assert talk.flush() == "PDS"
    talk.reply(described((), [NUMBER]))
    assert talk.flush() == "BES BES"
    talk.reply(rows(1), rows(2))
    assert [call.value for call in calls] == [[(1,)], [(2,)]]


def test_a_change_by_a_query_with_arguments() -> None:
    talk = talking()
    text = "SELECT n FROM set_config('search_path', $1, false)"
    learn(talk)
    learn(talk, "public", query=text, parameters=(TEXT,))
    change, call = ask(talk, text, "one"), ask(talk)
    assert talk.flush() == "BES"
    talk.reply(rows(1)[:-6] + backend.parameter_status("search_path", "one") + backend.ready_for_query())
    assert change.value == [(1,)]
    assert talk.flush() == "PDS"
    assert not call.settled


def test_changes_in_a_row() -> None:
    """Each query is read under the value of the change ahead of it."""
    talk = talking()
    learn(talk)
    move(talk, "one")
    learn(talk)
    talk.script("SET search_path TO public")
    first = ask(talk)
    talk.script("SET search_path TO one")
    second = ask(talk)
    assert talk.flush() == "Q"
    talk.reply(moved("public"))
    assert talk.flush() == "BES Q"
    talk.reply(rows(1), moved("one"))
    assert talk.flush() == "BES"
    talk.reply(rows(2))
    assert (first.value, second.value) == ([(1,)], [(2,)])


def test_a_change_that_is_cancelled_before_it_was_sent_holds_back_nobody() -> None:
    talk = talking(max_pipeline=1)
    learn(talk)
    ahead = ask(talk)
    assert talk.flush() == "BES"
    change, behind = talk.script("SET search_path TO one"), ask(talk)
    assert talk.cancel(change) is DROPPED
    talk.reply(rows(1))
    assert talk.flush() == "BES"
    talk.reply(rows(2))
    assert (ahead.value, behind.value) == ([(1,)], [(2,)])


def test_a_call_that_is_cancelled_while_it_waits_for_the_value() -> None:
    talk = talking()
    talk.script("SET search_path TO one")
    given_up, behind = ask(talk), ask(talk, "SELECT 2 AS n FROM f()")
    assert talk.cancel(given_up) is DROPPED
    assert talk.flush() == "Q"
    talk.reply(moved("one"))
    assert talk.flush() == "PDS"
    talk.reply(described((), [NUMBER]))
    assert talk.flush() == "BES"
    talk.reply(rows(2))
    assert behind.value == [(2,)]


def test_a_change_that_fails_leaves_the_value() -> None:
    talk = talking()
    learn(talk)
    change, call = talk.script("SET search_path TO"), ask(talk)
    assert talk.flush() == "Q"
    talk.reply(failed("42601"))
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert call.value == [(1,)]
    assert isinstance(change.error, exceptions.PostgresSyntaxError)


def test_a_bad_argument_of_a_call_that_has_waited_for_the_value_fails_that_call() -> None:
    talk = talking()
    text = "SELECT n FROM t WHERE n = $1"
    learn(talk, 1, query=text, parameters=(INT4,))
    talk.script("SET search_path TO public")
    bad, good = ask(talk, text, "one"), ask(talk, text, 2)
    assert talk.flush() == "Q"
    talk.reply(simple("SET"))
    assert talk.flush() == "PDS"
    talk.reply(described([INT4], [NUMBER]))
    assert isinstance(bad.error, exceptions.ArgumentError)
    assert talk.flush() == "BES CS"
    talk.answer(rows(2))
    assert good.value == [(2,)]


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK", "end", "ROLLBACK TO s"])
def test_the_end_of_a_transaction_that_has_changed_the_value(end: str) -> None:
    talk = talking()
    learn(talk)
    talk.script("BEGIN")
    talk.script("SET LOCAL search_path TO one")
    talk.flush()
    talk.reply(simple("BEGIN", status="T"), moved("one", status="T"))
    talk.script(end)
    call = ask(talk)
    assert talk.flush() == "Q"
    talk.reply(moved("public", tag=end))
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert call.value == [(1,)]


@pytest.mark.parametrize("text", ["COMMIT", "ROLLBACK", "RESET ALL", "SELECT CASE WHEN a THEN b END FROM t", "SHOW x"])
def test_what_leaves_the_value_as_it_is_holds_back_nobody(text: str) -> None:
    talk = talking()
    learn(talk)
    talk.script(text)
    ask(talk)
    assert talk.flush() == "Q BES"


def test_a_reset_that_has_left_the_value_before_holds_back_nobody() -> None:
    """A pool sends the same reset after each lease, together with what its next user asks."""
    reset = "RESET ALL; SELECT set_config('search_path', 'one', false)"
    talk = talking()
    move(talk, "one")
    learn(talk)
    for expected in ("Q", "Q BES"):
        talk.script(reset)
        call = ask(talk)
        assert talk.flush() == expected
        talk.reply(simple("SELECT 1"))
        if expected == "Q":
            assert talk.flush() == "BES"
        talk.reply(rows(1))
        assert call.value == [(1,)]
    move(talk, "two")
    talk.script(reset)
    ask(talk)
    assert talk.flush() == "Q", "now it changes the value"


def test_shared_calls_wait_for_the_value_too_and_then_hold_back_nobody() -> None:
    talk = talking()
    learn(talk)
    talk.script("SET search_path TO public")
    cold, known = ask(talk, "SELECT 2 AS n FROM f()", shared=True), ask(talk, shared=True)
    assert talk.flush() == "Q"
    talk.reply(simple("SET"))
    assert talk.flush() == "PDS BES"
    talk.reply(described((), [NUMBER]), rows(1))
    assert talk.flush() == "BES"
    talk.reply(rows(2))
    assert (cold.value, known.value) == ([(2,)], [(1,)])


def test_a_statement_that_is_prepared_behind_a_change_is_described_behind_it() -> None:
    talk = talking()
    learn(talk)
    talk.script("SET search_path TO one")
    statement = talk.session.statements.hold(QUERY)
    talk.prepare(statement)
    assert talk.flush() == "Q PDS"
    talk.reply(moved("one"), described((), [NUMBER]))
    assert talk.session.statements.cached_queries() == [QUERY]
    talk.session.statements.release(statement)
    assert talk.flush() == "CS", "it was not cached: nobody knew the value that it was described under"


def test_the_end_of_the_connection_settles_what_waits_for_the_value() -> None:
    talk = talking()
    change, call = talk.script("SET search_path TO one"), ask(talk)
    talk.flush()
    talk.session.connection_lost("gone")
    assert isinstance(change.error, exceptions.ConnectionDoesNotExistError)
    assert isinstance(call.error, exceptions.ConnectionDoesNotExistError)
    assert call.error.safe_to_retry


def test_closing_settles_what_waits_for_the_value() -> None:
    talk = talking()
    change, call = talk.script("SET search_path TO one"), ask(talk)
    talk.flush()
    talk.session.close("connection is closed")
    assert isinstance(call.error, exceptions.ConnectionDoesNotExistError)
    talk.reply(moved("one"))
    assert change.value == "SET"
    assert talk.idle


ARGUMENT = "SELECT n FROM t WHERE n = $1"


class Life:
    """Random calls on a session, and a server that checks under which value each statement was parsed."""

    def __init__(self, seed: int, **limits: Any) -> None:
        self.random = random.Random(seed)
        self.talk = talking("public", statement_cache_size=self.random.choice([2, 100]), **limits)
        self.path = self.reported = "public"
        self.parsed: dict[str, str] = {}
        self.texts: dict[str, str] = {}
        self.unanswered: list[list[frontend.Message]] = []
        self.calls: list[Call] = []
        self.given_up: list[Call] = []

    def live(self, steps: int) -> None:
        """Call, cancel and answer at random; then answer all, and check that every call has an outcome."""
        for _ in range(steps):
            self.random.choice([self.call, self.call, self.change, self.answer, self.answer, self.cancel])()
        for _ in range(10 * steps):
            self.take()
            if not self.unanswered:
                break
            self.answer()
        assert all(call.settled or call.request.abandoned or call in self.given_up for call in self.calls)
        assert self.talk.idle

    def call(self) -> None:
        query = self.random.choice([QUERY, "SELECT 2 AS n FROM f()", ARGUMENT])
        shared = self.random.random() < 0.3
        if query is not ARGUMENT:
            self.calls.append(ask(self.talk, query, shared=shared))
            return
        # A bad argument is refused at once, or in the end.
        with suppress(exceptions.ArgumentError):
            self.calls.append(ask(self.talk, query, self.random.choice([7, "seven"]), shared=shared))

    def change(self) -> None:
        # A change comes from a lease, which keeps itself behind all that the pool has shared.
        self.talk.session.statements.barrier()
        self.calls.append(self.talk.script(f"SET search_path TO {self.random.choice(['public', 'one', 'two'])}"))

    def cancel(self) -> None:
        waiting = [call for call in self.calls if not call.settled and call not in self.given_up]
        if waiting:
            call = self.random.choice(waiting)
            self.given_up.append(call)
            call.request.waiter.settled = True
            if self.talk.cancel(call) is SIGNAL:
                self.talk.session.cancellation.delivered()

    def take(self) -> None:
        self.talk.flush()
        request: list[frontend.Message] = []
        for message in self.talk.messages:
            request.append(message)
            if isinstance(message, (frontend.Sync, frontend.Query)):
                self.unanswered.append(request)
                request = []
        assert not request

    def answer(self) -> None:
        self.take()
        if not self.unanswered:
            return
        first, *_ = messages = self.unanswered.pop(0)
        if isinstance(first, frontend.Query):
            self.path = first.sql.split()[-1]
            reply = backend.command_complete("SET")
            if self.path != self.reported:
                self.reported = self.path
                reply += backend.parameter_status("search_path", self.path)
            self.talk.reply(reply + backend.ready_for_query())
        elif isinstance(first, frontend.Parse):
            self.parsed[first.name] = self.path
            self.talk.reply(described([INT4] if first.sql == ARGUMENT else [], [NUMBER]))
        elif isinstance(first, frontend.Bind):
            assert self.parsed[first.statement] == self.path, "the statement was parsed under another search_path"
            self.talk.reply(rows(1))
        else:
            self.talk.reply(backend.close_complete() * (len(messages) - 1) + backend.ready_for_query())


@pytest.mark.parametrize("confirmed", [0.0, float("inf")])
@pytest.mark.parametrize("max_pipeline", [1, 3, 100])
def test_lives_at_random(max_pipeline: int, confirmed: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "CONFIRMED_SECONDS", confirmed)
    for seed in range(300):
        with noted(f"Life({seed}, max_pipeline={max_pipeline}).live(60)"):
            Life(seed, max_pipeline=max_pipeline).live(60)


@contextmanager
def noted(again: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        error.add_note(f"again: {again}")
        raise
