"""What a query leaves behind: nothing, and no cycle for the garbage collector either."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from headrace import errors
from tests.peers import backend
from tests.session.script import (
    ECHO,
    INT4,
    NUMBER,
    Conversation,
    described,
    echoing,
    failed,
    rows,
    simple,
)


def succeed(talk: Conversation) -> None:
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(rows(1))
    assert call.value == [(1,)]


def fail(talk: Conversation) -> None:
    call = talk.fetch(ECHO, 1)
    talk.flush()
    talk.reply(failed("22012"))
    assert isinstance(call.error, errors.DivisionByZeroError)


def raise_at_once(talk: Conversation) -> None:
    with pytest.raises(errors.ArgumentError):
        talk.fetch(ECHO, "one")


def fail_to_parse(talk: Conversation) -> None:
    call = talk.fetch("SELEC")
    talk.flush()
    talk.reply(failed("42601"))
    assert isinstance(call.error, errors.PostgresSyntaxError)


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
    talk.session.cancel_delivered()
    talk.reply(failed("57014"))


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
    with pytest.raises(errors.ArgumentError):
        talk.batch(ECHO, [(1,), ("two",)])


def prepare(talk: Conversation) -> None:
    statement = talk.session.statement("SELECT 1", name="mine")
    talk.prepare(statement)
    talk.flush()
    talk.reply(described([], [NUMBER]))
    talk.session.release(statement)
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
    talk.session.forget_statements()
    talk.flush()
    talk.answer()
    talk.know(ECHO, [INT4], [NUMBER])


SCENES: list[Callable[[Conversation], None]] = [
    succeed, fail, raise_at_once, fail_to_parse, drop, drop_cold, drain, signal, go_stale, insert_many,
    insert_a_bad_one, prepare, run_a_script, evict,
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
        return Counter(name for name in names if name.startswith(("headrace.", "tests.session.")))

    for _ in range(3):
        scene(talk)
    assert talk.flush() == ""
    before = census()
    for _ in range(30):
        scene(talk)
    assert talk.flush() == ""
    assert census() - before == Counter()
    assert talk.session.idle


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
        talk.session.lost(ConnectionResetError("cut"))
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
