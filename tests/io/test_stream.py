"""A stream at the socket: it is left unread while the reader has enough to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from headrace._core.pipeline.row_stream import RowStream
from headrace._core.rows.record import Record
from tests.io.pair import Pair
from tests.peers import backend

QUERY = "SELECT text FROM texts"
ROW = backend.data_row("x" * 1000)
MOST = (1 << 18) + (1 << 18) + (1 << 17)
"""Bytes that are held at most: the limit, a turn of reading and a buffer beyond it."""


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    made = await Pair.open()
    await made.prepare(QUERY)
    yield made
    made.close()
    await asyncio.sleep(0)


def opened(pair: Pair) -> RowStream:
    request = pair.driver.row_stream(QUERY, (), Record)
    pair.heard()
    return request


async def test_the_socket_is_left_unread_until_rows_are_taken(pair: Pair) -> None:
    request = opened(pair)
    pair.say(backend.bind_complete())
    while not request.full:
        pair.say(ROW * 100)
        await asyncio.sleep(0)
    turns, held = pair.turns, request.backlog
    assert held <= MOST
    pair.say(ROW * 100)
    for _ in range(10):
        await asyncio.sleep(0)
    assert (pair.turns, request.backlog) == (turns, held), "read although nobody takes the rows"
    request.take_rows()
    pair.driver.transport.read_on()
    while request.backlog < 100 * len(ROW):
        await asyncio.sleep(0)
    request.take_rows()
    pair.say(backend.command_complete("SELECT 1"), backend.ready_for_query())
    while not request.is_over():
        await asyncio.sleep(0)
