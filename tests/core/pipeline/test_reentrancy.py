"""Callers' code that runs inside a session: codecs, waiters, finalisers. It may do anything to it but feed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from headrace import exceptions
from headrace._core.pipeline.requests import Query, SimpleQuery
from headrace._core.rows.record import Record
from headrace._core.wire.read_buffer import ReadBuffer
from headrace._io.driver import KIND_ROWS
from tests.core.pipeline.script import (
    DROPPED,
    ECHO,
    INT4,
    NUMBER,
    TEXT,
    Call,
    Conversation,
    Waiter,
    described,
    echoing,
    failed,
    int4,
    rows,
    simple,
)
from tests.peers import backend


def decoding(decoder: Callable[[str], object]) -> Conversation:
    """A conversation in which text is decoded by the function, and ECHO known for what follows."""
    talk = echoing()
    talk.session.types.set_codec(TEXT, "text", str, decoder)
    talk.know("SELECT t", [], [backend.Field("t", TEXT), backend.Field("u", TEXT)])
    return talk


def encoding(encoder: Callable[[Any], str]) -> Conversation:
    """A conversation in which text is encoded by the function, and ECHO known for what follows."""
    talk = echoing()
    talk.session.types.set_codec(TEXT, "text", encoder, str)
    talk.know("SELECT $1, $2", [TEXT, TEXT], [NUMBER])
    return talk


TWO_TEXTS = backend.bind_complete() + backend.data_row("a", "b") + backend.data_row("c", "d") + simple("SELECT 2")


# Decoders


def test_a_decoder_that_raises_fails_its_own_query_and_the_rest_of_its_rows_is_passed_over() -> None:
    decoded = []

    def decoder(text: str) -> str:
        decoded.append(text)
        raise LookupError(text)

    talk = decoding(decoder)
    call, after = talk.fetch("SELECT t"), talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(TWO_TEXTS, rows(1))
    assert isinstance(call.error, LookupError)
    assert decoded == ["a"]
    assert after.value == [(1,)]


def test_a_decoder_that_raises_stop_iteration() -> None:
    """Raised out of a coroutine it would look like a result; a future does not even take it."""

    def decoder(text: str) -> str:
        raise StopIteration(text)

    talk = decoding(decoder)
    call, after = talk.fetch("SELECT t"), talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(TWO_TEXTS, rows(1))
    assert isinstance(call.error, RuntimeError)
    assert isinstance(call.error.__cause__, StopIteration)
    assert after.value == [(1,)]


def test_a_decoder_interrupted_from_the_keyboard_interrupts_whoever_feeds() -> None:
    def decoder(text: str) -> str:
        raise KeyboardInterrupt

    talk = decoding(decoder)
    call = talk.fetch("SELECT t")
    talk.flush()
    with pytest.raises(KeyboardInterrupt):
        talk.reply(TWO_TEXTS)
    talk.session.connection_lost("interrupted")
    assert isinstance(call.error, exceptions.ConnectionDoesNotExistError)


def test_a_decoder_that_feeds_fails_its_query() -> None:
    """The bytes it reads would move under its hands."""
    talk: Conversation

    def decoder(text: str) -> str:
        talk.feed(rows(7))
        return text

    talk = decoding(decoder)
    call, after = talk.fetch("SELECT t"), talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(TWO_TEXTS, rows(1))
    assert "cannot be fed from within a decoder" in str(call.error)
    assert after.value == [(1,)]


def test_a_decoder_that_asks_and_gives_up() -> None:
    talk: Conversation
    asked: list[Call] = []

    def decoder(text: str) -> str:
        asked.append(talk.fetch(ECHO, len(asked)))
        if len(asked) == 2:
            assert talk.cancel(asked[0]) == DROPPED
        return text

    talk = decoding(decoder)
    call = talk.fetch("SELECT t")
    talk.flush()
    talk.reply(TWO_TEXTS)
    assert call.value == [("a", "b"), ("c", "d")]
    assert talk.flush() == "BES BES BES"
    assert talk.values() == [1, 2, 3]


def test_a_decoder_that_loses_the_connection() -> None:
    talk: Conversation

    def decoder(text: str) -> str:
        talk.session.connection_lost("pulled the plug")
        return text

    talk = decoding(decoder)
    call, after = talk.fetch("SELECT t"), talk.fetch(ECHO, 1)
    talk.flush()
    talk.feed(TWO_TEXTS + rows(1))
    assert "pulled the plug" in str(call.error)
    assert "pulled the plug" in str(after.error)
    assert talk.idle


def test_a_decoder_that_sets_codecs_and_asks_the_same_query_again() -> None:
    """That makes another plan for the statement, while the columns of a row are being read by this one."""
    talk: Conversation
    asked: list[Call] = []

    def decoder(text: str) -> str:
        if not asked:
            talk.session.types.set_codec(TEXT, "binary", bytes, bytes)
            asked.append(talk.fetch("SELECT t"))
        return text.upper()

    talk = decoding(decoder)
    call = talk.fetch("SELECT t")
    talk.flush()
    talk.reply(TWO_TEXTS)
    assert call.value == [("A", "B"), ("C", "D")]
    assert talk.flush() == "BES"
    talk.reply(TWO_TEXTS)
    assert asked[0].value == [(b"a", b"b"), (b"c", b"d")]


def test_a_record_class_is_made_without_calling_it() -> None:
    class Row(Record):
        def __init__(self) -> None:
            raise AssertionError("rows are not made by hand")

    talk = echoing()
    call = talk.fetch(ECHO, 1, record_class=Row)
    talk.flush()
    talk.reply(rows(1))
    assert type(call.value[0]) is Row


# Encoders


def test_an_encoder_that_asks_something_of_the_same_connection() -> None:
    """Its request gets bytes of its own, and is queued first: the other one has not been asked yet."""
    talk: Conversation
    asked: list[Call] = []

    def encoder(value: str) -> str:
        asked.append(talk.fetch(ECHO, 42))
        return value

    talk = encoding(encoder)
    call = talk.fetch("SELECT $1, $2", "x", "y")
    assert talk.flush() == "BES BES BES"
    assert [message.values for message in talk.messages if hasattr(message, "values")] == [
        (int4(42),), (int4(42),), (b"x", b"y"),
    ]  # fmt: skip
    talk.reply(rows(42), rows(42), rows(1))
    assert (asked[0].value, asked[1].value, call.value) == ([(42,)], [(42,)], [(1,)])


def test_a_finaliser_that_releases_a_statement_while_another_request_is_encoded() -> None:
    """The garbage collector runs finalisers at any allocation, also in the middle of an encoder."""
    talk: Conversation

    def encoder(value: str) -> str:
        while statements:
            talk.session.statements.release(statements.pop())
        return value

    talk = encoding(encoder)
    statement = talk.session.statements.hold("SELECT 'mine'", name="mine")
    statements = [statement]
    talk.prepare(statement)
    talk.flush()
    talk.reply(described([], [NUMBER]))
    talk.fetch("SELECT $1, $2", "x", "y")
    assert talk.flush() == "CS BES"
    assert talk.statement_names()[0] == "mine"


def test_an_encoder_that_raises_half_way_leaves_nothing_behind() -> None:
    def encoder(value: str) -> str:
        if value == "y":
            raise LookupError("no y")
        return value

    talk = encoding(encoder)
    bad = talk.fetch("SELECT $1, $2", "x" * 10_000, "y")
    assert talk.flush() == "PDS"
    talk.reply(described([TEXT, TEXT], [NUMBER]))
    with pytest.raises(exceptions.ArgumentError, match=r"\$2: 'y' \('no y'\)|\$2: 'y' \(no y\)"):
        assert bad.value
    assert talk.flush() == "CS"
    talk.reply(backend.close_complete(), backend.ready_for_query())
    call = talk.fetch(ECHO, 1)
    assert talk.flush() == "BES"
    talk.reply(rows(1))
    assert call.value == [(1,)]


def test_an_encoder_that_closes_the_connection_while_those_that_waited_are_encoded() -> None:
    talk: Conversation
    talk = encoding(lambda value: (talk.session.close("closed by an encoder"), value)[1])
    calls = [talk.fetch("SELECT $1 AS other", str(i), shared=True) for i in range(3)]
    talk.flush()
    talk.reply(described([TEXT], [NUMBER]))
    for call in calls:
        assert isinstance(call.error, exceptions.ConnectionDoesNotExistError)
        assert call.error.safe_to_retry


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_an_encoder_that_loses_the_connection_fails_its_own_request_too(known: bool, shared: bool) -> None:
    talk: Conversation
    talk = encoding(lambda value: (talk.session.connection_lost("lost by an encoder"), value)[1])
    call = talk.fetch("SELECT $1, $2" if known else "SELECT $1 AS other", "x", *"y" * known, shared=shared)
    if not known:
        talk.flush()
        talk.reply(described([TEXT], [NUMBER]))
    assert isinstance(call.error, exceptions.ConnectionDoesNotExistError)
    assert call.error.safe_to_retry
    assert talk.idle


# Waiters


class Reacting(Waiter):
    """A waiter that does something as soon as it is told."""

    def __init__(self, react: Callable[[], object]) -> None:
        super().__init__()
        self.react = react

    def set_result(self, result: Any) -> None:
        super().set_result(result)
        self.react()

    def set_exception(self, error: BaseException) -> None:
        super().set_exception(error)
        self.react()


def reacting(talk: Conversation, react: Callable[[], object]) -> Call:
    waiter = Reacting(react)
    return talk.submit(SimpleQuery(waiter, "SELECT 1"), waiter)


@pytest.mark.parametrize("answer", [simple("SELECT 1"), failed("22012")])
def test_a_waiter_that_asks_again_at_once(answer: bytes) -> None:
    talk = echoing()
    asked: list[Call] = []
    reacting(talk, lambda: asked.append(talk.fetch(ECHO, 5)))
    after = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(answer + rows(1))
    assert after.value == [(1,)]
    assert talk.flush() == "BES"
    talk.reply(rows(5))
    assert asked[0].value == [(5,)]


@pytest.mark.parametrize("shared", [False, True])
def test_a_waiter_that_asks_for_the_statement_again_that_could_not_be_prepared(shared: bool) -> None:
    """It joins those for whom the statement is being prepared again by then."""
    talk = echoing()
    asked: list[Call] = []
    with talk.cached("SELECT missing") as statement:
        waiter = Reacting(lambda: asked.append(talk.fetch("SELECT missing", shared=shared)))
        first = talk.submit(Query(waiter, statement, (), KIND_ROWS, 0, 0, Record, shared), waiter)
    second = talk.fetch("SELECT missing", shared=shared)
    assert talk.flush() == "PDS"
    talk.reply(failed("42P01"))
    assert first.error.sqlstate == "42P01"
    assert talk.flush() == "PDS"
    talk.reply(described([], [NUMBER]))
    assert talk.flush() == "BES BES"
    talk.reply(rows(1), rows(2))
    assert (second.value, asked[0].value) == ([(1,)], [(2,)])


def test_a_waiter_that_gives_up_those_behind_it() -> None:
    talk = echoing()
    calls: list[Call] = []
    reacting(talk, lambda: [talk.cancel(call) for call in calls])
    calls += [talk.fetch(ECHO, 1), talk.fetch(ECHO, 2)]
    talk.flush()
    calls.append(talk.fetch(ECHO, 3))
    last = talk.fetch(ECHO, 4)
    talk.reply(simple("SELECT 1"))
    if talk.session.cancellation.is_open:
        talk.session.cancellation.delivered()
    talk.reply(rows(1), rows(2))
    assert talk.flush() == "BES"
    talk.reply(rows(4))
    assert last.value == [(4,)]


def test_a_waiter_that_loses_the_connection() -> None:
    talk = echoing()
    reacting(talk, lambda: talk.session.connection_lost("a waiter had enough"))
    after = talk.fetch(ECHO, 1)
    talk.flush()
    talk.feed(simple("SELECT 1") + rows(1))
    assert "a waiter had enough" in str(after.error)
    assert talk.idle


def test_waiters_that_ask_again_when_the_connection_is_lost() -> None:
    """What they get for it does not keep the others from being told."""
    talk = echoing()
    reacting(talk, lambda: talk.fetch(ECHO, 5))
    after = talk.fetch(ECHO, 1)
    talk.flush()
    talk.session.connection_lost("cut")
    assert isinstance(after.error, exceptions.ConnectionDoesNotExistError)


def test_a_listener_that_loses_the_connection() -> None:
    talk = echoing()
    talk.log.notice = lambda message: talk.session.connection_lost("the listener had enough")  # type: ignore[method-assign]
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.feed(backend.notice_response() + rows(1))
    assert "the listener had enough" in str(call.error)


# A queue that is dropped whole


def test_a_long_queue_that_is_dropped_whole() -> None:
    """Freed one from within the other, 20,000 requests would not fit on a small stack; it is a crash, so not here."""
    program = """
import threading
from headrace._core.codecs.typemap import TypeMap
from headrace._core.pipeline.requests import SimpleQuery
from headrace._core.pipeline.session import Session

def drop():
    events = []
    session = Session(TypeMap(), events=events)
    events.append(session)  # as a driver is: the two refer to each other
    for _ in range(20_000):
        session.submit(SimpleQuery(None, "SELECT 1"))

threading.stack_size(256 * 1024)
thread = threading.Thread(target=drop)
thread.start()
thread.join()
import gc
gc.collect()
print("alive")
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "alive\n", done.stderr


def test_types_of_arguments_of_the_session_itself() -> None:
    talk = echoing()
    with pytest.raises(TypeError):
        talk.session.submit("SELECT 1")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        talk.session.receive(b"text", 4)  # type: ignore[arg-type]
    buffer = ReadBuffer()
    for size in (-1, len(buffer.writable()) + 1):
        with pytest.raises(ValueError, match=f"{size} bytes do not fit in the buffer"):
            talk.session.receive(buffer, size)
    with pytest.raises(exceptions.InterfaceError, match="must not contain a NUL"):
        talk.session.statements.hold("SELECT\0")
    with pytest.raises(exceptions.InterfaceError, match="must not contain a NUL"):
        talk.script("SELECT\0")
    assert talk.fetch(ECHO, INT4).request.query == ECHO
