"""The requests of COPY, driven by scripted bytes: what they send, and what no server may send."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import headrace
from headrace._core.codecs.typemap import TypeMap
from headrace._core.pipeline.copy import CopyIn, CopyOut, RowEncoder
from headrace._core.pipeline.prepare import PrepareWaiter
from headrace._core.pipeline.session import Session
from tests.core.pipeline.script import Reader
from tests.peers import backend

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
INT4, TEXT = 23, 25


class Waiter:
    """What a request settles."""

    def __init__(self) -> None:
        self.results: list[Any] = []

    def done(self) -> bool:
        return bool(self.results)

    def set_result(self, value: Any) -> None:
        self.results.append(value)

    def set_exception(self, error: BaseException) -> None:
        self.results.append(error)

    @property
    def result(self) -> Any:
        (result,) = self.results
        return result


class Asked:
    """A session with one COPY asked and sent."""

    def __init__(self, kind: Callable[..., Any], *args: Any) -> None:
        self.session = Session(TypeMap())
        self._reader = Reader(self.session)
        self.waiter, self.began = Waiter(), Waiter()
        self.request = kind(self.waiter, self.began, "COPY t", None, *args)
        self.session.submit(self.request)
        assert self.session.take_output() == b"Q\0\0\0\x0bCOPY t\0"

    def feed(self, *messages: bytes) -> None:
        self._reader.feed(b"".join(messages))


def copy_in() -> Asked:
    return Asked(CopyIn)


def copy_out() -> Asked:
    return Asked(CopyOut)


async def rows_out() -> Asked:
    """COPY TO STDOUT whose rows of one int4 are decoded."""
    session = Session(TypeMap())
    statement = session.statements.hold("SELECT 1", named=False)
    session.submit(PrepareWaiter(Waiter(), statement))
    session.take_output()
    field = backend.Field("n", oid=INT4, size=4)
    answer = (backend.parse_complete(), backend.parameter_description(), backend.row_description(field))
    Reader(session).feed(b"".join((*answer, backend.ready_for_query())))
    return Asked(CopyOut, statement, headrace.Record)


# In


def test_data_flows_between_the_servers_answer_and_copy_done() -> None:
    asked = copy_in()
    assert not asked.request.flowing
    asked.feed(backend.copy_in_response(0, 0))
    assert asked.began.result is True
    assert (asked.request.flowing, asked.request.columns, asked.request.binary) == (True, 2, False)
    assert asked.request.data_message(b"1\tx\n") == b"d\0\0\0\x081\tx\n"
    assert asked.request.end() == b"c\0\0\0\4"
    assert not asked.request.flowing
    asked.feed(backend.command_complete("COPY 1"), backend.ready_for_query())
    assert asked.waiter.result == "COPY 1"


def test_a_command_refused_never_begins() -> None:
    for asked in (copy_in(), copy_out()):
        asked.feed(backend.error_response("no such table", code="42P01"), backend.ready_for_query())
        assert asked.began.result is False
        assert isinstance(asked.waiter.result, headrace.UndefinedTableError)


def test_data_refused_ends_it_at_ready_for_query_and_the_next_request_goes_on() -> None:
    asked = copy_in()
    asked.feed(backend.copy_in_response(0))
    asked.feed(backend.error_response("bad data", code="22P02"), backend.ready_for_query())
    assert isinstance(asked.waiter.result, headrace.InvalidTextRepresentationError)
    assert not asked.request.flowing
    following = CopyIn(Waiter(), Waiter(), "COPY u", None)
    asked.session.submit(following)
    assert asked.session.take_output() == b"Q\0\0\0\x0bCOPY u\0"


def test_nothing_is_sent_behind_a_copy_until_it_is_done() -> None:
    asked = copy_in()
    following = CopyOut(Waiter(), Waiter(), "COPY u", None)
    asked.session.submit(following)
    assert asked.session.take_output() == b""
    asked.feed(backend.copy_in_response(0))
    assert asked.session.take_output() == b""
    asked.request.end()
    asked.feed(backend.command_complete("COPY 0"))
    assert asked.session.take_output() == b""
    asked.feed(backend.ready_for_query())
    assert asked.session.take_output() == b"Q\0\0\0\x0bCOPY u\0"


def test_given_up_in_the_middle_the_server_is_sent_copy_fail() -> None:
    asked = copy_in()
    asked.feed(backend.copy_in_response(0))
    asked.session.cancellation.give_up(asked.request)
    assert asked.session.take_output().startswith(b"f\0\0\0")
    asked.feed(backend.error_response("COPY from stdin failed", code="57014"), backend.ready_for_query())
    assert asked.session.count_pending() == 0


def test_given_up_before_the_servers_answer_it_is_ended_at_that() -> None:
    asked = copy_in()
    asked.session.cancellation.give_up(asked.request)
    asked.feed(backend.copy_in_response(0))
    assert asked.session.take_output().startswith(b"f\0\0\0")
    assert not asked.request.flowing


def test_lost_in_the_middle() -> None:
    for asked, answer in ((copy_in(), backend.copy_in_response(0)), (copy_out(), backend.copy_out_response(0))):
        asked.feed(answer)
        asked.session.connection_lost("the network is gone")
        assert isinstance(asked.waiter.result, headrace.ConnectionDoesNotExistError)
        assert not asked.request.flowing


# Out


def test_data_is_held_until_it_is_taken() -> None:
    asked = copy_out()
    asked.feed(backend.copy_out_response(0, 0), backend.copy_data(b"1\tx\n"), backend.copy_data(b"2\ty\n"))
    assert (asked.request.backlog, asked.request.received) == (8, 8)
    assert asked.request.take() == b"1\tx\n2\ty\n"
    assert asked.request.take() == b""
    asked.feed(backend.copy_done(), backend.command_complete("COPY 2"), backend.ready_for_query())
    assert asked.waiter.result == "COPY 2"
    assert (asked.request.backlog, asked.request.received) == (0, 8)


def test_a_reader_is_woken_by_data_and_by_the_end() -> None:
    asked = copy_out()
    asked.feed(backend.copy_out_response(0))
    for messages in (
        [backend.copy_data(b"x")],
        [backend.copy_done()],
        [backend.command_complete("COPY 1")],
        [backend.ready_for_query()],
    ):
        arrival: Any = Waiter()
        asked.request.arrival = arrival
        asked.feed(*messages)
        assert arrival.done()


def test_after_it_was_given_up_nothing_is_held() -> None:
    asked = copy_out()
    asked.feed(backend.copy_out_response(0))
    asked.session.cancellation.give_up(asked.request)
    asked.feed(backend.copy_data(b"x" * 1000))
    assert asked.request.take() == b""


async def test_rows_are_decoded() -> None:
    asked = await rows_out()
    one, two = b"\0\1\0\0\0\4\0\0\0\1", b"\0\1\xff\xff\xff\xff"
    asked.feed(backend.copy_out_response(1), backend.copy_data(HEADER + one), backend.copy_data(two))
    assert [tuple(row) for row in asked.request.take_rows()] == [(1,), (None,)]
    asked.feed(backend.copy_data(TRAILER), backend.copy_done(), backend.command_complete("COPY 2"))
    asked.feed(backend.ready_for_query())
    assert asked.request.take_rows() == []
    assert asked.waiter.result == "COPY 2"


@pytest.mark.parametrize("cut", range(1, 90))
async def test_cut_anywhere_it_is_the_same(cut: int) -> None:
    asked = await rows_out()
    rows = [b"\0\1\0\0\0\4" + number.to_bytes(4, "big") for number in (1, 2)]
    stream = b"".join(
        (
            backend.copy_out_response(1),
            backend.copy_data(HEADER),
            *map(backend.copy_data, rows),
            backend.copy_data(TRAILER),
            backend.copy_done(),
            backend.command_complete("COPY 2"),
            backend.ready_for_query(),
        )
    )
    asked.feed(stream[:cut])
    asked.feed(stream[cut:])
    assert [tuple(row) for row in asked.request.take_rows()] == [(1,), (2,)]
    assert asked.waiter.result == "COPY 2"


# What no server may send


@pytest.mark.parametrize(
    "messages",
    [
        [backend.copy_out_response(0)],
        [backend.command_complete("COPY 0")],
        [backend.ready_for_query()],
        [backend.copy_in_response(0), backend.copy_in_response(0)],
        [backend.copy_in_response(0), backend.copy_data(b"x")],
        [backend.copy_in_response(0), backend.command_complete("COPY 0")],
        [backend.copy_in_response(0), backend.ready_for_query()],
        [backend.message(b"G", b"")],
        [backend.message(b"G", b"\0\0")],
        [backend.message(b"G", b"\0\0\2\0\0")],
        [backend.message(b"G", b"\0\xff\xff")],
    ],
)
def test_out_of_order_in_reply_to_copy_in(messages: list[bytes]) -> None:
    asked = copy_in()
    with pytest.raises(headrace.ProtocolError):
        asked.feed(*messages)


@pytest.mark.parametrize(
    "messages",
    [
        [backend.copy_in_response(0)],
        [backend.copy_data(b"x")],
        [backend.copy_done()],
        [backend.copy_out_response(0), backend.copy_out_response(0)],
        [backend.copy_out_response(0), backend.copy_done(), backend.copy_data(b"x")],
        [backend.copy_out_response(0), backend.command_complete("COPY 0")],
        [backend.copy_out_response(0), backend.copy_done(), backend.ready_for_query()],
        [backend.message(b"H", b"\0\0\2\0\0")],
    ],
)
def test_out_of_order_in_reply_to_copy_out(messages: list[bytes]) -> None:
    asked = copy_out()
    with pytest.raises(headrace.ProtocolError):
        asked.feed(*messages)


@pytest.mark.parametrize(
    "data",
    [
        [b""],
        [HEADER[:18]],
        [b"X" + HEADER[1:]],
        [HEADER[:11] + b"\0\1\0\0" + bytes(4)],  # with OIDs
        [HEADER[:15] + b"\x7f\xff\xff\xff"],
        [HEADER[:15] + b"\xff\xff\xff\xff"],
        [HEADER + b"\0"],
        [HEADER + b"\0\2\0\0\0\4\0\0\0\1"],
        [HEADER + b"\0\1\0\0\0\5\0\0\0\1"],
        [HEADER + b"\0\1\x7f\xff\xff\xff"],
        [HEADER + b"\0\1\xff\xff\xff\xfe"],
        [HEADER + b"\0\1\0\0\0\4\0\0\0\1x"],
        [HEADER, TRAILER, b"\0\1\0\0\0\4\0\0\0\1"],
    ],
)
async def test_rows_that_are_malformed(data: list[bytes]) -> None:
    asked = await rows_out()
    asked.feed(backend.copy_out_response(1))
    with pytest.raises(headrace.ProtocolError):
        asked.feed(*map(backend.copy_data, data))


# Rows as they are sent


def test_rows_are_laid_out_as_binary_copy_wants_them() -> None:
    encoder = RowEncoder(TypeMap(), ["a", "b"], [INT4, TEXT], '"t"')
    encoder.add((1, "é"))
    encoder.add([None, ""])
    rows = b"\0\2\0\0\0\4\0\0\0\1\0\0\0\2\xc3\xa9" + b"\0\2\xff\xff\xff\xff\0\0\0\0"
    assert encoder.take() == backend.copy_data(HEADER + rows)
    assert (encoder.rows, encoder.width, encoder.names) == (2, 2, ("a", "b"))
    assert encoder.end() == backend.copy_data(TRAILER)
    assert encoder.encoded == len(backend.copy_data(HEADER + rows) + backend.copy_data(TRAILER))


def test_of_a_row_that_does_not_fit_nothing_is_kept() -> None:
    encoder = RowEncoder(TypeMap(), ["a", "b"], [INT4, TEXT], '"t"')
    with pytest.raises(headrace.DataError, match="row 1, column 'b'"):
        encoder.add((1, 2))
    assert encoder.take() == backend.copy_data(HEADER)
    assert encoder.rows == 0


def test_rows_are_encoded_up_to_a_size() -> None:
    encoder = RowEncoder(TypeMap(), ["a"], [INT4], '"t"')
    rows = iter([(i,) for i in range(100)])
    assert encoder.fill(rows, 200)
    assert 200 <= encoder.size < 210
    while encoder.fill(rows, 200):
        encoder.take()
    assert encoder.rows == 100


def test_a_list_that_changes_while_it_is_encoded_harms_nothing() -> None:
    class Shrinking(int):
        def __index__(self) -> int:
            row.clear()
            return 1

    row: list[Any] = [Shrinking(1), "x" * 1000]
    encoder = RowEncoder(TypeMap(), ["a", "b"], [INT4, TEXT], '"t"')
    encoder.add(row)
    assert encoder.rows == 1


def test_a_future_will_do_for_a_waiter() -> None:
    async def ask() -> str:
        loop = asyncio.get_running_loop()
        session = Session(TypeMap())
        waiter: asyncio.Future[str] = loop.create_future()
        session.submit(CopyOut(waiter, loop.create_future(), "COPY t", None))
        session.take_output()
        done = (backend.copy_done(), backend.command_complete("COPY 0"), backend.ready_for_query())
        Reader(session).feed(b"".join((backend.copy_out_response(0), *done)))
        return await waiter

    assert asyncio.run(ask()) == "COPY 0"
