"""The keys of a loader's statement: what is written for them, and which future gets which row. No loop, no server."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from headrace._core.pipeline.key_batch import KeyBatch
from headrace._core.pipeline.key_future import Wakeups
from headrace._core.rows.keyed_rows import KeyedShape
from headrace._core.rows.record import Record
from headrace.exceptions import ArgumentError, InterfaceError, LoaderKeyError, ProtocolError
from tests.core.pipeline.script import INT4, TEXT, Conversation, described, failed, int4, rows
from tests.peers import backend, frontend
from tests.peers.backend import Field

INT4_ARRAY, NUMERIC, NUMERIC_ARRAY = 1007, 1700, 1231
QUERY = "SELECT id FROM product WHERE id = ANY($1)"
ID = Field("id", INT4)


class Loop:
    """Keeps what is to be called in the next tick."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []
        self.reports: list[dict[str, Any]] = []

    def call_soon(self, call: Callable[..., object], *args: object, context: object = None) -> None:
        self.calls.append(lambda: call(*args))

    def call_exception_handler(self, report: dict[str, Any]) -> None:
        self.reports.append(report)

    def tick(self) -> int:
        calls, self.calls = self.calls, []
        for call in calls:
            call()
        return len(calls)


@pytest.fixture
def loop() -> Loop:
    return Loop()


def wakeups(loop: Loop) -> Wakeups:
    return Wakeups(loop, asyncio.Future, asyncio.CancelledError, asyncio.InvalidStateError)


def batch(loop: Loop, *, many: bool = False, column: str = "id", positions: bool = False) -> KeyBatch:
    return KeyBatch(wakeups(loop), KeyedShape(Record, column, positions), many)


def knowing(array: int = INT4_ARRAY, field: Field = ID) -> Conversation:
    talk = Conversation()
    talk.know(QUERY, [array], [field])
    return talk


def ask(talk: Conversation, keys: KeyBatch, shape: KeyedShape) -> Any:
    return talk.fetch(QUERY, keys, record_class=shape)  # type: ignore[arg-type]


def sent_array(talk: Conversation) -> bytes:
    (bound,) = [message for message in talk.messages if isinstance(message, frontend.Bind)]
    (value,) = bound.values
    assert value is not None
    return value


def array_of(*values: int) -> bytes:
    """The binary form of an int4[]."""
    head = struct.pack("!iiIii", 1, 0, INT4, len(values), 1)
    return head + b"".join(struct.pack("!ii", 4, value) for value in values)


def test_each_distinct_key_is_written_once_in_the_order_of_asking(loop: Loop) -> None:
    keys, talk = batch(loop), knowing()
    futures = [keys.ask(key) for key in (7, 5, True, 7, 1, 5)]
    call = ask(talk, keys, KeyedShape(Record, "id"))
    assert talk.flush() == "BES"
    assert sent_array(talk) == array_of(7, 5, 1)
    talk.reply(rows(5, 7))
    keys.hand_out(call.value)
    assert [future.result() and future.result()["id"] for future in futures] == [7, 5, None, 7, None, 5]


def test_keys_that_cannot_be_encoded_leave_no_bytes(loop: Loop) -> None:
    keys, talk = batch(loop), knowing()
    futures = [keys.ask(key) for key in ("x", 5, None, 2**31, 6)]
    call = ask(talk, keys, KeyedShape(Record, "id"))
    talk.flush()
    assert sent_array(talk) == array_of(5, 6)
    talk.reply(rows(6, 5))
    keys.hand_out(call.value)
    assert [isinstance(future.exception(), ArgumentError) for future in futures] == [True, False, True, True, False]


def test_if_no_key_can_be_encoded_nothing_is_sent(loop: Loop) -> None:
    keys, talk = batch(loop), knowing()
    future = keys.ask("x")
    call = ask(talk, keys, KeyedShape(Record, "id"))
    assert talk.flush() == "PDS", "the table may have been altered since the statement was described"
    talk.reply(described([INT4_ARRAY], [ID]))
    assert isinstance(call.error, ArgumentError)
    assert talk.flush() == "CS"
    keys.fail(call.error)
    assert "'x'" in str(future.exception())


def test_written_once_more_it_is_the_same_even_if_a_future_was_cancelled_meanwhile(loop: Loop) -> None:
    """A plain read that is stuck is asked again on another connection, and either may answer."""
    keys, shape = batch(loop, positions=True, column="n"), KeyedShape(Record, "n", True)
    field = Field("n", INT4)
    first, second = knowing(field=field), knowing(field=field)
    futures = [keys.ask(key) for key in (7, 5, "bad", 9)]
    ask(first, keys, shape)
    futures[0].cancel()
    call = ask(second, keys, shape)
    for talk in (first, second):
        talk.flush()
        assert sent_array(talk) == array_of(7, 5, 9)
    second.reply(rows(3, 2))
    keys.hand_out(call.value)
    assert [future.result()["n"] for future in (futures[1], futures[3])] == [2, 3]
    assert futures[0].cancelled()


def test_a_future_that_is_cancelled_before_the_keys_are_written_has_no_key_there(loop: Loop) -> None:
    keys, talk = batch(loop), knowing()
    cancelled, many = keys.ask(7), keys.ask_all([8, 9], None, [None, None], False)
    kept = keys.ask(9)
    cancelled.cancel()
    many.cancel()
    ask(talk, keys, KeyedShape(Record, "id"))
    talk.flush()
    assert sent_array(talk) == array_of(9)
    assert not kept.done()


def test_numbers_that_are_equal_but_have_other_bytes_are_sent_once_and_get_the_one_row(loop: Loop) -> None:
    keys, talk = batch(loop), knowing(NUMERIC_ARRAY, Field("id", NUMERIC))
    futures = [keys.ask(key) for key in (Decimal("1.0"), Decimal("1.00"), Decimal("1.0"), Decimal(2))]
    call = ask(talk, keys, KeyedShape(Record, "id"))
    talk.flush()
    assert struct.unpack_from("!i", sent_array(talk), 12) == (2,)
    one = struct.pack("!hhhhh", 1, 0, 0, 0, 1)
    talk.reply(
        backend.bind_complete(),
        backend.data_row(one),
        backend.command_complete("SELECT 1"),
        backend.ready_for_query(),
    )
    keys.hand_out(call.value)
    assert [future.result() and future.result()["id"] for future in futures] == [1, 1, 1, None]


def test_the_key_column_must_be_able_to_have_the_keys(loop: Loop) -> None:
    talk, shape = knowing(field=Field("id", TEXT)), KeyedShape(Record, "id")
    keys = KeyBatch(wakeups(loop), shape, False)
    keys.ask(1)
    with pytest.raises(InterfaceError, match="sent as int4, but the column id is of type text"):
        ask(talk, keys, shape)
    assert talk.flush() == ""


def test_rows_are_refused_if_the_keys_were_not_written(loop: Loop) -> None:
    keys = batch(loop)
    keys.ask(1)
    with pytest.raises(InterfaceError, match="not sent with the keys"):
        keys.hand_out([])


def test_halves_have_each_half_of_the_distinct_keys_and_errors_of_their_own_are_raised(loop: Loop) -> None:
    keys, talk = batch(loop), knowing()
    futures = [keys.ask(key) for key in (1, 2, 1, "bad", 3, 2)]
    many = keys.ask_all([3, 1], None, [None, None], False)
    call = ask(talk, keys, KeyedShape(Record, "id"))
    talk.flush()
    talk.reply(failed("22012"))
    with pytest.raises(Exception, match="it failed"):
        _ = call.value
    first, second = keys.halves()
    assert (list(first), list(second)) == ([1, 1, 1], [2, 3, 2, 3])
    assert isinstance(futures[3].exception(), ArgumentError)
    first.fail(ValueError("first"))
    assert not many.done(), "it waits for the other half"
    second.fail(ValueError("second"))
    assert str(many.exception()) == "second", "that of the first key"
    assert [str(future.exception()) for future in futures[:3]] == ["first", "second", "first"]


def test_divided_by_a_limit_equal_keys_stay_together(loop: Loop) -> None:
    keys = batch(loop)
    unhashable: list[int] = []
    for key in (1, 2, 1, 3, unhashable, 2, 4):
        keys.ask(key)
    keys.ask(5).cancel()
    assert [list(each) for each in keys.divide(2)] == [[1, 2, 1, 2], [3, []], [4]]
    assert keys.divide(100) == [keys]


def test_the_statement_is_cancelled_once_nobody_waits(loop: Loop) -> None:
    class Task:
        cancelled = 0

        def cancel(self) -> None:
            self.cancelled += 1

    keys = batch(loop)
    task = keys.task = Task()
    one, two, many = keys.ask(1), keys.ask(1), keys.ask_all([1, 2, 3], None, [None] * 3, False)
    one.cancel()
    many.cancel()
    assert (task.cancelled, keys.wanted) == (0, 1)
    two.set_result("by hand")
    assert task.cancelled == 1


def test_errors_are_copies_so_that_each_has_a_traceback_of_its_own(loop: Loop) -> None:
    keys = batch(loop)
    one, two = keys.ask(1), keys.ask(2)
    error = LoaderKeyError("text", hint="hint")
    error.__cause__ = LookupError()
    keys.fail(error)
    found = one.exception(), two.exception()
    assert found[0] is not found[1]
    assert [str(each) for each in found] == ["text\nHINT:  hint"] * 2
    assert [each and each.__cause__ for each in found] == [error.__cause__] * 2


def test_the_callbacks_of_a_tick_share_one_of_the_loop(loop: Loop) -> None:
    keys, called = batch(loop), []
    futures = [keys.ask(key) for key in range(5)]
    for future in futures:
        future.add_done_callback(called.append)
    keys.cancel()
    assert called == []
    assert loop.tick() == 1
    assert called == futures


def test_an_exit_in_a_callback_leaves_the_others_for_later(loop: Loop) -> None:
    keys, called = batch(loop), []

    def leave(future: object) -> None:
        raise SystemExit

    one, two, three = (keys.ask(key) for key in range(3))
    one.add_done_callback(called.append)
    two.add_done_callback(leave)
    three.add_done_callback(called.append)
    keys.cancel()
    with pytest.raises(SystemExit):
        loop.tick()
    loop.tick()
    assert called == [one, three]


def test_a_row_that_is_cut_short_is_an_error_of_the_protocol(loop: Loop) -> None:
    keys, talk = batch(loop), knowing()
    keys.ask(1)
    ask(talk, keys, KeyedShape(Record, "id"))
    talk.flush()
    with pytest.raises(ProtocolError, match="only 4 are left"):
        talk.reply(backend.bind_complete() + backend.message(b"D", struct.pack("!hi", 1, 8) + int4(1)))


def test_a_list_that_was_changed_is_noticed(loop: Loop) -> None:
    """A query logger gets the keys as the query's argument."""
    keys, talk = batch(loop), knowing()
    keys.ask(1)
    keys.append(2)
    with pytest.raises(InterfaceError, match="were changed"):
        ask(talk, keys, KeyedShape(Record, "id"))


def test_a_future_cannot_be_made_by_hand(loop: Loop) -> None:
    with pytest.raises(TypeError, match="load"):
        type(batch(loop).ask(1))()
