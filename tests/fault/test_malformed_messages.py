"""Faults 1 to 5: bytes that no PostgreSQL server sends.

What cannot be followed ends the connection at once: the request at the head gets ProtocolError, all others
ConnectionDoesNotExistError, and a pool opens another. What is merely odd is passed on as it is.
"""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING

import pytest

import headrace
from tests.peers import backend, scripts
from tests.peers.backend import Field
from tests.peers.fakeserver import Peer, Script
from tests.peers.frontend import Bind, Execute, Query, Sync
from tests.watching import PeakMemory, until_closed

if TYPE_CHECKING:
    from tests.fixtures import Fake

# Not known to be a plain read, so it is described before it is executed.
QUERY = "SELECT a FROM f()"
PATIENCE = 5.0
INT_MIN, INT_MAX = -(2**31), 2**31 - 1


async def dies_of(fake: Fake, *scripted: Script, complaint: str) -> None:
    """Make sure that the scripted connection is given up at once, by each who waits for it, and is replaced."""
    server = await fake(*scripted, scripts.answering(scripts.answered(backend.data_row("well")), "a"))
    # Of three requests one is the head, one is in flight behind it, and one was not sent.
    async with headrace.create_pool(server.dsn(), min_size=1, max_size=1, max_pipeline=2) as pool:
        async with pool.acquire() as connection, asyncio.timeout(PATIENCE):
            head, behind, unsent = await asyncio.gather(
                *(connection.fetchval(QUERY) for _ in range(3)), return_exceptions=True
            )
            assert type(head) is headrace.ProtocolError, repr(head)
            assert complaint in str(head)
            assert type(behind) is headrace.ConnectionDoesNotExistError
            assert type(unsent) is headrace.ConnectionDoesNotExistError
            assert unsent.safe_to_retry
            assert connection.is_closed()
        assert pool.get_size() == 0
        async with asyncio.timeout(PATIENCE):
            assert await pool.fetchval(QUERY) == "well"
        pool.terminate()  # the script does not answer Terminate, and close() would wait for that


def replying(*reply: bytes, columns: tuple[Field | str, ...] = ("a",)) -> Script:
    """Return the script that answers the first execution by these bytes, with all that is in flight received."""

    async def script(peer: Peer) -> None:
        await peer.greet()
        await scripts.prepare(peer, *columns)
        await peer.expect(Bind, Execute, Sync, Bind, Execute, Sync)
        await peer.send(*reply)
        await peer.hold()

    return script


@pytest.mark.fault(number=1)
@pytest.mark.parametrize("length", [2, 0, -1, INT_MIN, INT_MAX])
@pytest.mark.parametrize("kind", [b"D", b"C", b"Z", b"S"])
async def test_frame_length_that_cannot_be(fake: Fake, kind: bytes, length: int) -> None:
    reply = backend.bind_complete() + backend.message(kind, b"\0\1", length=length)
    await dies_of(fake, replying(reply), complaint=f"{length} bytes")


@pytest.mark.fault(number=2)
@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (struct.pack("!Hi", 1, -5), "-5 bytes"),
        (struct.pack("!Hi", 1, INT_MIN), f"{INT_MIN} bytes"),
        (struct.pack("!Hi", 1, 3) + b"ab", "3 bytes, but only 2 are left"),
        (struct.pack("!Hi", 1, INT_MAX) + b"ab", "but only 2 are left"),
        (struct.pack("!H", 1), "cut short"),
        (struct.pack("!Hh", 1, 0), "cut short"),
        (b"", "no fields"),
        (b"\0", "no fields"),
        (struct.pack("!H", 0), "0 fields"),
        (struct.pack("!Hii", 2, -1, -1), "2 fields"),
        (struct.pack("!H", 0xFFFF), "65535 fields"),
        (struct.pack("!Hi", 1, 2) + b"abc", "1 bytes too many"),
    ],
)
async def test_data_row_that_does_not_add_up(fake: Fake, row: bytes, complaint: str) -> None:
    reply = backend.bind_complete() + backend.message(b"D", row)
    await dies_of(fake, replying(reply), complaint=complaint)


INT4_ARRAY, TEXT_ARRAY, INT4RANGE, INT4MULTIRANGE, RECORD = 1007, 1009, 3904, 4451, 2249
INT2VECTOR, PATH, POLYGON, VARBIT, BYTEA = 22, 602, 604, 1562, 17

BOMBS = {
    "array of 2^31-1 dimensions": (INT4_ARRAY, struct.pack("!iii", INT_MAX, 0, 23)),
    "array of 2^31-1 elements": (INT4_ARRAY, struct.pack("!iiiii", 1, 0, 23, INT_MAX, 1)),
    "array of 2^31-1 times 2^31-1 elements": (TEXT_ARRAY, struct.pack("!iiiiiii", 2, 0, 25, *[INT_MAX, 1] * 2)),
    "array of -1 elements": (INT4_ARRAY, struct.pack("!iiiii", 1, 0, 23, -1, 1)),
    "record of 2^31-1 fields": (RECORD, struct.pack("!i", INT_MAX)),
    "record of -1 fields": (RECORD, struct.pack("!i", -1)),
    "range whose bound has 2^31-1 bytes": (INT4RANGE, struct.pack("!bi", 2, INT_MAX)),
    "multirange of 2^31-1 ranges": (INT4MULTIRANGE, struct.pack("!i", INT_MAX)),
    "int2vector of 2^31-1 elements": (INT2VECTOR, struct.pack("!iiiii", 1, 0, 21, INT_MAX, 0)),
    "path of 2^31-1 points": (PATH, struct.pack("!bi", 1, INT_MAX)),
    "polygon of -1 points": (POLYGON, struct.pack("!i", -1)),
    "varbit of 2^31-1 bits": (VARBIT, struct.pack("!i", INT_MAX)),
    # Read as one: to the server it is a bytea.
    "hstore of 2^31-1 pairs": (BYTEA, struct.pack("!i", INT_MAX)),
    "hstore of -1 pairs": (BYTEA, struct.pack("!i", -1)),
    "hstore whose key has 2^31-1 bytes": (BYTEA, struct.pack("!ii", 1, INT_MAX)),
}  # fmt: skip


@pytest.mark.fault(number=3)
@pytest.mark.parametrize("bomb", BOMBS)
async def test_count_that_announces_gigabytes(fake: Fake, bomb: str) -> None:
    oid, value = BOMBS[bomb]

    async def script(peer: Peer) -> None:
        await peer.greet()
        await scripts.prepare(peer, Field("a", oid))
        await scripts.run(peer, backend.data_row(None))
        await peer.expect(Bind, Execute, Sync)
        await peer.send(backend.bind_complete(), backend.data_row(value))
        await peer.hold()

    server = await fake(script)
    connection = await headrace.connect(server.dsn())
    if oid == BYTEA:
        await connection.set_builtin_type_codec("bytea", schema="pg_catalog", codec_name="pg_contrib.hstore")
    assert await connection.fetchval(QUERY) is None
    memory = PeakMemory()
    with pytest.raises(headrace.ProtocolError):
        await connection.fetchval(QUERY)
    assert memory.growth < 1 << 20
    assert connection.is_closed()


@pytest.mark.fault(number=4)
@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        ([backend.message(b"@", b"")], "'@'"),
        ([backend.message(b"\xff", b"")], "'ÿ'"),
        ([backend.data_row("early")], "'D'"),
        ([backend.bind_complete(), backend.row_description("a")], "'T'"),
        ([backend.bind_complete(), backend.ready_for_query()], "before the command was complete"),
        ([backend.ready_for_query()], "before the command was complete"),
        ([backend.command_complete("SELECT 0")], "'C'"),
        ([backend.bind_complete(), backend.command_complete("SELECT 0"), backend.command_complete("SELECT 0")], "'C'"),
        ([backend.bind_complete(), backend.copy_done()], "'c'"),
        ([backend.authentication_ok()], "'R'"),
        ([backend.backend_key_data()], "'K'"),
        ([backend.message(b"Z", b"X")], "transaction status"),
        ([backend.message(b"Z", b"")], "transaction status"),
        ([backend.message(b"Z", b"II")], "transaction status"),
        ([backend.bind_complete(), backend.message(b"C", b"no zero at its end")], "CommandComplete"),
    ],
)
async def test_message_where_none_is_due(fake: Fake, reply: list[bytes], complaint: str) -> None:
    await dies_of(fake, replying(*reply), complaint=complaint)


@pytest.mark.fault(number=4)
async def test_a_row_of_a_statement_that_has_none(fake: Fake) -> None:
    """NoData was the answer to its preparation: D without a T before it."""
    await dies_of(fake, replying(backend.bind_complete(), backend.data_row("1"), columns=()), complaint="had 0")


@pytest.mark.fault(number=4)
@pytest.mark.parametrize(
    "reply",
    [
        [backend.data_row("1")],
        [backend.command_complete("SELECT 0"), backend.data_row("1")],
        [backend.row_description("a"), backend.command_complete("SELECT 0"), backend.data_row("1")],
        [backend.row_description("a"), backend.row_description("a")],
        [backend.row_description("a"), backend.ready_for_query()],
    ],
    ids=["D", "C D", "T C D", "T T", "T Z"],
)
async def test_message_out_of_order_in_a_simple_query(fake: Fake, reply: list[bytes]) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.expect(Query)
        await peer.send(*reply)
        await peer.hold()

    server = await fake(script)
    connection = await headrace.connect(server.dsn())
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(headrace.ProtocolError):
            await connection.execute(QUERY)
    assert connection.is_closed()


@pytest.mark.fault(number=4)
@pytest.mark.parametrize(
    "stray",
    [backend.ready_for_query(), backend.command_complete("SELECT 1"), backend.data_row("1"), backend.error_response()],
    ids=["Z", "C", "D", "E"],
)
async def test_message_that_nothing_asked_for(fake: Fake, stray: bytes) -> None:
    """It ends an idle connection, and the next call says why."""
    nudged = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.greet()
        await nudged.wait()
        await peer.send(stray)
        await peer.hold()

    server = await fake(script)
    connection = await headrace.connect(server.dsn())
    nudged.set()
    await until_closed(connection)
    with pytest.raises(headrace.InterfaceError, match="connection is closed: .*from the server"):
        await connection.fetchval(QUERY)


ODD_ERRORS = {
    "without SQLSTATE": backend.error_response("odd", code=None),
    "without severity": backend.error_response("odd", code=None, severity=None),
    "in invalid UTF-8": backend.error_response(b"\xff\xfe odd", code=None),
    "with a SQLSTATE in invalid UTF-8": backend.error_response("odd", code=b"\xff\xfe\xff\xfe\xff"),
    "with an empty SQLSTATE": backend.error_response("odd", code=""),
    "with fields nobody knows": backend.message(b"E", b"SERROR\0MTotally odd\0?what\0\0"),
    "with nothing in it": backend.message(b"E", b"\0"),
}


@pytest.mark.fault(number=5)
@pytest.mark.parametrize("odd", ODD_ERRORS)
async def test_error_without_sqlstate_or_in_invalid_utf8(fake: Fake, odd: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await scripts.prepare(peer, "a")
        await peer.expect(Bind, Execute, Sync)
        await peer.send(ODD_ERRORS[odd], backend.ready_for_query())
        await scripts.run(peer, backend.data_row("still here"))
        await peer.expect_end()

    server = await fake(script)
    connection = await headrace.connect(server.dsn())
    with pytest.raises(headrace.PostgresError) as raised:
        await connection.fetchval(QUERY)
    assert raised.value.sqlstate is None
    str(raised.value)
    assert await connection.fetchval(QUERY) == "still here"
    await connection.close()


@pytest.mark.fault(number=5)
async def test_error_that_never_ends(fake: Fake) -> None:
    """An ErrorResponse whose fields run past its frame is out of step."""
    await dies_of(fake, replying(backend.message(b"E", b"SERROR\0Mno zero at its end")), complaint="ErrorResponse")
