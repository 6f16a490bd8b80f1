"""What the driver does within one turn of the event loop, and what it leaves for the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import headrace
from tests.io.pair import Pair, reply
from tests.peers import backend

QUERY = "SELECT text FROM texts"


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    made = await Pair.open()
    await made.prepare(QUERY)
    yield made
    made.close()
    await asyncio.sleep(0)


async def awaited(reply: Any) -> Any:
    return await reply


async def test_a_request_is_written_at_once_where_the_server_has_nothing_to_do(pair: Pair) -> None:
    call = pair.ask(QUERY)
    assert pair.heard()[:1] == b"B"
    pair.say(reply("a"))
    assert await call == [("a",)]


async def test_what_is_asked_while_the_server_is_at_work_is_written_together(pair: Pair) -> None:
    calls = [asyncio.create_task(awaited(pair.ask(QUERY))) for _ in range(5)]
    first = pair.heard()
    assert pair.heard() == b""
    rest = await pair.hear()
    assert len(rest) == 4 * len(first)
    pair.say(*[reply(str(number)) for number in range(5)])
    assert await asyncio.gather(*calls) == [[(str(number),)] for number in range(5)]


async def test_a_long_reply_is_taken_in_as_it_comes(pair: Pair) -> None:
    """More than one read takes, in one turn: going back to the loop for each would wake it up each time."""
    texts = ["x" * 1000] * 180
    call = pair.ask(QUERY)
    before = pair.turns
    pair.say(reply(*texts))
    rows = await call
    assert len(rows) == 180
    assert pair.turns - before == 1


async def test_without_a_socket_to_look_at_the_loop_reads_everything() -> None:
    hidden = await Pair.open(hidden=True)
    await hidden.prepare(QUERY)
    call = asyncio.create_task(awaited(hidden.ask(QUERY)))
    await hidden.hear()
    before = hidden.turns
    hidden.say(reply(*["x" * 1000] * 180))
    assert len(await call) == 180
    assert hidden.turns - before > 1
    hidden.close()
    await asyncio.sleep(0)


async def test_a_reply_that_pauses_between_two_rows_is_gone_on_with(pair: Pair) -> None:
    whole = reply("a", "b")
    cut = len(backend.bind_complete() + backend.data_row("a"))
    call = asyncio.create_task(awaited(pair.ask(QUERY)))
    before = pair.turns
    pair.say(whole[:cut])
    while pair.turns == before:
        await asyncio.sleep(0)
    pair.say(whole[cut:])
    assert await call == [("a",), ("b",)]


async def test_the_loop_goes_on_while_a_reply_has_no_end(pair: Pair) -> None:
    """However fast the server is, and nothing of what it says is read twice or left out."""
    call = asyncio.create_task(awaited(pair.ask(QUERY)))
    row = backend.data_row("y" * 1000)
    pair.say(backend.bind_complete())
    for _ in range(20):
        pair.say(row * 100)
        before = pair.turns
        while pair.turns == before:
            await asyncio.sleep(0)
    pair.say(backend.command_complete("SELECT 2000"), backend.ready_for_query())
    assert len(await call) == 2000


async def test_nothing_more_is_read_once_the_connection_is_dropped_within_a_reply(pair: Pair) -> None:
    class Owner:
        notices = 0

        def _on_notice(self, message: Any) -> None:
            self.notices += 1
            pair.driver.terminate()

        def _on_lost(self, reason: object) -> None:
            pass

    owner = Owner()
    pair.driver.attach(owner)
    call = asyncio.create_task(awaited(pair.ask(QUERY)))
    notice = backend.notice_response("drop it")
    row = backend.data_row("x" * 1000)
    pair.say(backend.bind_complete(), notice, row * 150, notice, row * 30)
    with pytest.raises(headrace.ConnectionDoesNotExistError):
        await call
    assert owner.notices == 1


async def test_tasks_are_woken_in_the_tick_in_which_their_replies_were_read(pair: Pair) -> None:
    """A callback of the loop, and one more tick, would cost more than the driver spends on a small query."""
    calls = [asyncio.create_task(awaited(pair.ask(QUERY))) for _ in range(50)]
    while pair.driver.session.sent.count < 50:
        await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    scheduled, call_soon = [], loop.call_soon

    def counting(callback: Any, *args: Any, **kwargs: Any) -> asyncio.Handle:
        scheduled.append(callback)
        return call_soon(callback, *args, **kwargs)

    loop.call_soon = counting  # type: ignore[method-assign]
    try:
        pair.say(*[reply(str(number)) for number in range(50)])
        await asyncio.wait(calls)
    finally:
        del loop.call_soon  # type: ignore[method-assign]
    assert [call.result() for call in calls] == [[(str(number),)] for number in range(50)]
    assert not [callback for callback in scheduled if getattr(callback, "__name__", "") == "run"]


async def test_a_task_is_not_woken_inside_of_another(pair: Pair) -> None:
    """A flush of TLS may read in the middle of a task; asyncio refuses to run another one there."""
    call = asyncio.create_task(awaited(pair.ask(QUERY)))
    await pair.hear()
    data = reply("a")
    pair.driver.transport.get_buffer(-1)[: len(data)] = data
    pair.driver.transport.buffer_updated(len(data))
    assert not call.done()
    assert await call == [("a",)]


async def test_a_task_that_is_woken_may_ask_and_drop_the_connection(pair: Pair) -> None:
    async def go_on() -> Any:
        rows = await pair.ask(QUERY)
        again = pair.ask(QUERY)
        pair.driver.terminate()
        with pytest.raises(headrace.ConnectionDoesNotExistError):
            await again
        return rows

    calls = [asyncio.create_task(go_on()), asyncio.create_task(awaited(pair.ask(QUERY)))]
    while pair.driver.session.sent.count < 2:
        await asyncio.sleep(0)
    pair.say(reply("a"), reply("b"))
    assert await asyncio.gather(*calls) == [[("b",)], [("a",)]]


async def test_a_long_result_that_is_dropped_is_freed_after_the_next_query_was_sent(pair: Pair) -> None:
    """Freeing it takes long: the server works meanwhile."""
    sent_when_freed = []

    class Row(headrace.Record):
        def __del__(self) -> None:
            sent_when_freed.append(bool(pair.heard()))

    async def twice() -> list[Any]:
        await pair.ask(QUERY, Row)
        return await pair.ask(QUERY, Row)

    call = asyncio.create_task(twice())
    await pair.hear()
    pair.say(reply(*["x"] * 100))
    while not sent_when_freed:
        await asyncio.sleep(0)
    assert len(sent_when_freed) == 100
    assert sent_when_freed[0]
    pair.say(reply("y"))
    assert await call == [("y",)]


@pytest.mark.parametrize("ended", ["cut", "said"])
async def test_a_lost_connection_has_not_refused_what_was_vital(pair: Pair, ended: str) -> None:
    """Once the server has refused a reset, the pool awaits each one. A connection may be lost at any time."""
    refused: list[bool] = []
    pair.driver.background("RESET ALL", vital=True, refused=lambda: refused.append(True))
    await pair.hear()
    if ended == "said":
        pair.say(backend.error_response("terminating connection", severity="FATAL", code="57P01"))
    else:
        pair.driver.transport.connection_lost(ConnectionResetError("cut"))
    while not pair.driver.is_closed:
        await asyncio.sleep(0)
    assert not refused


async def test_what_was_vital_and_is_refused_ends_the_connection(pair: Pair) -> None:
    refused: list[bool] = []
    pair.driver.background("RESET ALL", vital=True, refused=lambda: refused.append(True))
    await pair.hear()
    pair.say(backend.error_response("permission denied", code="42501"), backend.ready_for_query())
    while not pair.driver.is_closed:
        await asyncio.sleep(0)
    assert refused == [True]


async def test_the_socket_takes_what_it_can_and_the_loop_writes_the_rest_in_order(pair: Pair) -> None:
    parts = [b"a" * (4 << 20), b"b" * 10, b"c" * 100_000]
    for part in parts:
        pair.driver.answer(part)
    heard = b""
    while len(heard) < sum(map(len, parts)):
        heard += await pair.hear()
    assert heard == b"".join(parts)
    pair.driver.answer(b"d")
    assert pair.heard() == b"d"


async def test_an_error_in_writing_is_told_as_the_loop_finds_it(pair: Pair) -> None:
    pair.hang_up()
    call = pair.ask(QUERY)
    with pytest.raises(headrace.ConnectionDoesNotExistError, match="Broken pipe"):
        await call
