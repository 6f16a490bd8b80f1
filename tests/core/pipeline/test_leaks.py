"""What a query leaves behind: nothing, and no cycle for the garbage collector either."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from headrace import exceptions
from headrace._core.arrow.result import ArrowShape
from headrace._core.pipeline import statements
from headrace._core.pipeline.copy import CopyIn, CopyOut, RowEncoder
from headrace._core.pipeline.requests import Closing, Query
from headrace._core.pipeline.row_stream import RowStream
from headrace._core.rows.record import Record
from headrace._io.driver import KIND_ARROW
from tests.core.pipeline.growth import REPEATS, SHARED, growth
from tests.core.pipeline.script import (
    ECHO,
    INT4,
    NUMBER,
    TEXT,
    Conversation,
    Waiter,
    described,
    echoing,
    failed,
    int4,
    rows,
    simple,
)
from tests.fuzz import corpus
from tests.fuzz.engine import outcome
from tests.fuzz.registry import TARGETS
from tests.fuzz.target import Target
from tests.peers import backend
from tests.peers.backend import Field


def succeed(talk: Conversation) -> None:
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(rows(1))
    assert call.value == [(1,)]


def fail(talk: Conversation) -> None:
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(failed("22012"))
    assert isinstance(call.error, exceptions.DivisionByZeroError)


def refuse_an_argument(talk: Conversation) -> None:
    statements.CONFIRMED_SECONDS, seconds = 0, statements.CONFIRMED_SECONDS
    call = talk.fetch(ECHO, "one")
    statements.CONFIRMED_SECONDS = seconds
    talk.flush()
    talk.reply(described([INT4], [NUMBER]))
    assert isinstance(call.error, exceptions.ArgumentError)
    assert talk.flush() == "CS"
    talk.reply(backend.close_complete(), backend.ready_for_query())


def raise_at_once(talk: Conversation) -> None:
    with pytest.raises(exceptions.InterfaceError):
        talk.fetch(ECHO, 1, 2)


def fail_to_parse(talk: Conversation) -> None:
    call = talk.fetch("SELEC")
    talk.flush()
    talk.reply(failed("42601"))
    assert isinstance(call.error, exceptions.PostgresSyntaxError)


def drop(talk: Conversation) -> None:
    talk.cancel(talk.fetch(ECHO, 1))
    assert talk.flush() == ""


def drop_cold(talk: Conversation) -> None:
    talk.cancel(talk.fetch("SELECT cold"))
    assert talk.flush() == ""


def drain(talk: Conversation) -> None:
    talk.fetch(ECHO, 1)
    gone = talk.fetch(ECHO, 2)
    talk.flush()
    talk.cancel(gone)
    talk.reply(rows(1), rows(2))


def signal(talk: Conversation) -> None:
    gone = talk.fetch(ECHO, 1)
    talk.flush()
    talk.cancel(gone)
    talk.session.cancellation.delivered()
    talk.reply(failed("57014"))
    talk.log.cancel_timers.clear()


def go_stale(talk: Conversation) -> None:
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(failed("26000"))
    talk.flush()
    talk.reply(described([INT4], [NUMBER]))
    talk.flush()
    talk.reply(rows(1))
    assert call.value == [(1,)]


def insert_many(talk: Conversation) -> None:
    call = talk.batch(ECHO, [(1,), (2,)])
    talk.flush()
    one = backend.bind_complete() + backend.command_complete("SELECT 1")
    talk.reply(one + one + backend.ready_for_query())
    assert call.value is None


def insert_a_bad_one(talk: Conversation) -> None:
    statements.CONFIRMED_SECONDS, seconds = 0, statements.CONFIRMED_SECONDS
    with pytest.raises(exceptions.ArgumentError):
        talk.batch(ECHO, iter([(1,), ("two",)]))
    statements.CONFIRMED_SECONDS = seconds
    talk.fetch(ECHO, 1)
    assert talk.flush() == "CS PDS"
    talk.reply(backend.close_complete(), backend.ready_for_query(), described([INT4], [NUMBER]))
    talk.flush()
    talk.reply(rows(1))


def prepare(talk: Conversation) -> None:
    statement = talk.session.statements.hold("SELECT 1", name="mine")
    talk.prepare(statement)
    talk.flush()
    talk.reply(described([], [NUMBER]))
    talk.session.statements.release(statement)
    assert talk.flush() == "CS"
    talk.reply(backend.close_complete(), backend.ready_for_query())


def run_a_script(talk: Conversation) -> None:
    call = talk.script("SELECT 1")
    talk.flush()
    talk.reply(simple("SELECT 1"))
    assert call.value == "SELECT 1"


def evict(talk: Conversation) -> None:
    for i in range(101):
        talk.fetch(f"SELECT {i}")
        talk.flush()
        talk.answer(described([], [NUMBER]))
        talk.flush()
        talk.answer(rows(1))
    talk.flush()
    talk.answer()
    talk.session.statements.forget_all()
    talk.flush()
    talk.answer()
    talk.know(ECHO, [INT4], [NUMBER])


SCENES: list[Callable[[Conversation], None]] = [
    succeed, fail, refuse_an_argument, raise_at_once, fail_to_parse, drop, drop_cold, drain, signal, go_stale,
    insert_many, insert_a_bad_one, prepare, run_a_script, evict,
]  # fmt: skip


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("scene", SCENES)
def test_a_query_leaves_no_cycle(scene: Callable[[Conversation], None]) -> None:
    talk = echoing()
    scene(talk)
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(10):
            scene(talk)
        gc.collect()
        ours = [each for each in gc.garbage if type(each).__module__.startswith("headrace")]
        assert ours == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


@pytest.mark.parametrize("scene", SCENES)
def test_a_query_leaves_no_object(scene: Callable[[Conversation], None]) -> None:
    talk = echoing()

    def census() -> Counter[str]:
        gc.collect()
        names = (f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())
        return Counter(name for name in names if name.startswith(("headrace.", "tests.core.pipeline.")))

    for _ in range(3):
        scene(talk)
    assert talk.flush() == ""
    before = census()
    for _ in range(30):
        scene(talk)
    assert talk.flush() == ""
    assert census() - before == Counter()
    assert talk.idle


@pytest.mark.usefixtures("no_collector")
def test_a_lost_session_leaves_no_cycle() -> None:
    def lose() -> None:
        talk = echoing(max_pipeline=2)
        talk.know("SELECT other", [], [NUMBER])
        calls = [
            talk.fetch(ECHO, 1),
            talk.fetch("SELECT cold", shared=True),
            talk.batch(ECHO, [(1,)]),
            talk.fetch("cold"),
        ]
        talk.flush()
        talk.session.connection_lost(ConnectionResetError("cut"))
        assert all(call.settled for call in calls)

    lose()
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        lose()
        gc.collect()
        ours = [each for each in gc.garbage if type(each).__module__.startswith("headrace._core")]
        assert ours == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


# Memory and references: what C code forgets is in no census of objects.


def read_a_portal(talk: Conversation) -> None:
    statement = talk.session.statements.hold(ECHO)
    first = talk.execute_statement(statement, 1, limit=1, portal=b"p")
    second = talk.execute_statement(statement, limit=1, portal=b"p", opener=first.request)
    close = talk.submit(Closing(None, "P", [b"p"]))
    talk.flush()
    talk.reply(
        backend.bind_complete(), backend.data_row(int4(1)), backend.portal_suspended(), backend.ready_for_query(),
        backend.data_row(int4(2)), backend.command_complete("SELECT 1"), backend.ready_for_query(),
        backend.close_complete(), backend.ready_for_query(),
    )  # fmt: skip
    assert (first.value, second.value) == ([(1,)], [(2,)])
    assert talk.idle
    assert close.request.error is None
    talk.session.statements.release(statement)


def read_streams(talk: Conversation) -> None:
    """Rows and record batches, to the end, up to an error and up to the point where the reader has had enough."""
    for shape in (Record, ArrowShape(batch_rows=2)):
        for end in ("whole", "failed", "dropped"):
            request = RowStream(ECHO, (1,), shape)
            talk.submit(request)
            talk.flush()
            talk.reply(backend.bind_complete(), *map(backend.data_row, map(int4, range(5))))
            assert len(request.take_rows()) == (5 if shape is Record else 2)
            if end == "dropped":
                request.drop()
            talk.reply(failed("22012") if end == "failed" else simple("SELECT 5"))
            if end == "whole":
                assert len(request.take_rows()) == (0 if shape is Record else 1)
                assert request.is_over()
            elif end == "failed":
                with pytest.raises(exceptions.DivisionByZeroError):
                    request.is_over()


def fetch_columns(talk: Conversation) -> None:
    for reply in (
        backend.bind_complete() + backend.data_row(int4(1)) + simple("SELECT 1"),
        backend.bind_complete() + backend.data_row(int4(1)) + failed("22012"),
    ):
        waiter = Waiter()
        talk.submit(Query(waiter, ECHO, (1,), KIND_ARROW, 0, 0, ArrowShape()), waiter)
        talk.flush()
        talk.reply(reply)
        assert waiter.settled


def copy_in(talk: Conversation) -> None:
    waiter = Waiter()
    request = CopyIn(waiter, Waiter(), "COPY t FROM STDIN", None)
    talk.submit(request, waiter)
    talk.flush()
    talk.reply(backend.copy_in_response(0))
    rows = RowEncoder(talk.session.types, ["a", "b"], [INT4, TEXT], "t")
    rows.add((1, "one"))
    rows.add([2, None])
    with pytest.raises(exceptions.ArgumentError):
        rows.add(("three", 3))
    request.data_message(rows.take())
    rows.end()
    request.end()
    talk.reply(simple("COPY 2"))
    assert waiter.result == "COPY 2"


def give_up_a_copy(talk: Conversation) -> None:
    waiter = Waiter()
    request = CopyIn(waiter, Waiter(), "COPY t FROM STDIN", None)
    call = talk.submit(request, waiter)
    talk.flush()
    talk.reply(backend.copy_in_response(0))
    talk.cancel(call)
    assert talk.flush() == "f"
    talk.reply(failed("57014"))


def copy_out(talk: Conversation) -> None:
    waiter = Waiter()
    request = CopyOut(waiter, Waiter(), "COPY t TO STDOUT", None)
    talk.submit(request, waiter)
    talk.flush()
    talk.reply(backend.copy_out_response(0), backend.copy_data(b"1\n"), backend.copy_done(), simple("COPY 1"))
    assert request.take() == b"1\n"
    assert waiter.result == "COPY 1"


def copy_rows(talk: Conversation, row: bytes = int4(1)) -> None:
    statement = talk.session.statements.hold(ECHO)
    waiter = Waiter()
    request = CopyOut(waiter, Waiter(), "COPY t TO STDOUT (FORMAT binary)", None, statement, Record)
    talk.submit(request, waiter)
    talk.flush()
    header = b"PGCOPY\n\xff\r\n\0" + bytes(8)
    talk.reply(backend.copy_out_response(1), backend.copy_data(header + backend.data_row(row)[5:]))
    talk.reply(backend.copy_data(b"\xff\xff"), backend.copy_done(), simple("COPY 1"))
    assert request.take_rows() == [(1,)]
    talk.session.statements.release(statement)


def read_what_cannot_be_read(talk: Conversation) -> None:
    talk.know("SELECT t", [], [Field("t", TEXT)])
    call = talk.fetch("SELECT t")
    talk.flush()
    talk.reply(backend.bind_complete(), backend.data_row("good"), backend.data_row(b"\xff"), simple("SELECT 2"))
    assert call.waiter.error is not None
    talk.session.statements.forget_all()
    talk.flush()
    talk.answer()


def be_told(talk: Conversation) -> None:
    talk.reply(
        backend.notice_response("careful", code="01000", detail="d", hint="h"),
        backend.notification_response("news", "it snows"), backend.parameter_status("TimeZone", "UTC"),
    )  # fmt: skip
    talk.log.notices.clear()
    talk.log.notifications.clear()
    talk.log.parameters.clear()


def begin_and_be_lost(talk: Conversation) -> None:
    other = echoing(max_pipeline=2)
    calls = [
        other.fetch(ECHO, 1),
        other.fetch("cold", shared=True),
        other.batch(ECHO, [(1,)]),
        other.script("SELECT 1"),
    ]
    other.flush()
    other.reply(backend.error_response("it is over", code="57P01", severity="FATAL"))
    other.session.connection_lost("gone")
    assert all(call.error is not None for call in calls)


def be_sent_nonsense(talk: Conversation) -> None:
    for nonsense in (
        backend.data_row(b"\0"), backend.message(b"D", b"\0\1\0\0"), backend.message(b"T", length=-1),
        backend.message(b"?"),
        backend.bind_complete() + backend.data_row(int4(1), int4(2)), backend.message(b"E", b"S"),
    ):  # fmt: skip
        other = echoing()
        call = other.fetch(ECHO, 1)
        other.flush()
        with pytest.raises(exceptions.ProtocolError) as caught:
            other.reply(nonsense)
        other.session.connection_lost(caught.value)
        assert call.error is caught.value


MORE_SCENES: list[Callable[[Conversation], None]] = [
    read_a_portal, read_streams, fetch_columns, copy_in, give_up_a_copy, copy_out, copy_rows, read_what_cannot_be_read,
    be_told, begin_and_be_lost, be_sent_nonsense,
]  # fmt: skip


counted = pytest.mark.skipif(
    sys.getallocatedblocks() == 0, reason="the interpreter's own allocator is turned off: nobody counts its blocks"
)


@counted
@pytest.mark.parametrize("scene", [*SCENES, *MORE_SCENES])
def test_a_query_leaves_no_memory(scene: Callable[[Conversation], None]) -> None:
    talk = echoing()
    statement = talk.session.statements.hold(ECHO)
    shared = {**SHARED, "the statement": statement, "Record": Record, "the types": talk.session.types}
    repeats = 5 if scene is evict else REPEATS
    assert growth(lambda: scene(talk), shared, repeats=repeats) == {}


@counted
@pytest.mark.parametrize("name", ["codecs", "session", "startup"])
def test_no_input_leaves_memory(name: str) -> None:
    """Every value of every type that is among the seeds of the fuzzing, and everything that is refused."""
    target = TARGETS[name]()
    inputs = list(dict.fromkeys((*target.seeds(), *corpus.load(name))))
    for first in range(0, len(inputs), 20):
        some = inputs[first : first + 20]
        if growth(partial(run_all, target, some), repeats=10) != {}:
            for data in some:
                assert growth(partial(outcome, target, data)) == {}, data.hex()


def run_all(target: Target, inputs: list[bytes]) -> None:
    for data in inputs:
        outcome(target, data)


@counted
def test_a_leak_is_found() -> None:
    kept: list[object] = []
    assert growth(lambda: kept.append(object()))["blocks"] >= 1
    one = object()  # None is immortal from Python 3.12 on
    assert growth(lambda: kept.append(one), {"one": one}, repeats=2000)["references to one"] >= 1
    memory = ctypes.CDLL(None).malloc
    memory.restype = ctypes.c_void_p
    assert growth(lambda: memory(100_000))["bytes of malloc()"] >= 100_000
