"""The session, in every state: whatever the server says, it is read or is a ProtocolError, and nobody waits for ever.

The first byte of an input chooses the state, the second how the rest is cut, which is what the server says then.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

from headrace import exceptions
from headrace._core.pipeline.copy import CopyIn, CopyOut
from headrace._core.pipeline.row_stream import RowStream
from headrace._core.rows.record import Record
from tests.core.pipeline.recording import PLACE, Recording
from tests.core.pipeline.script import (
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
from tests.fuzz.mutation import Mutation
from tests.fuzz.target import Target
from tests.peers import backend
from tests.peers.backend import Field

Asked = tuple[Conversation, list[Call]]

ARRAY, RECORD, RANGE, JSONB, NUMERIC, UUID, STAMP, INTERVAL, NAME, FLOAT8 = (
    1007,
    2249,
    3904,
    3802,
    1700,
    2950,
    1184,
    1186,
    19,
    701,
)
UNKNOWN = 16384
WIDE = [
    Field(f"c{oid}", oid)
    for oid in (INT4, TEXT, ARRAY, RECORD, RANGE, JSONB, NUMERIC, UUID, STAMP, INTERVAL, NAME, FLOAT8, 17, 16, 1009,
    869)
]  # fmt: skip
WIDE_ROW = backend.data_row(
    int4(1), "t", struct.pack("!iiiiiii", 1, 0, 23, 1, 1, 4, 7), struct.pack("!iIi", 1, 23, 4) + int4(1),
    b"\x02" + (b"\0\0\0\4" + int4(1)) + (b"\0\0\0\4" + int4(2)), b'\1{"a": 1}', struct.pack("!hhHhh", 1, 0, 0, 1, 5),
    bytes(16), bytes(8), bytes(16), "name", struct.pack("!d", 1.5), b"\0\xff", b"\1",
    struct.pack("!iiiii", 1, 0, 25, 0, 1), b"\2\x20\0\4\x7f\0\0\1",
)  # fmt: skip


def idle() -> Asked:
    """Nothing is asked."""
    return echoing(), []


def one() -> Asked:
    """A query is in flight."""
    talk = echoing()
    calls = [talk.fetch(ECHO, 1)]
    return talk, calls


def pipelined() -> Asked:
    """Requests of several kinds are in flight."""
    talk = echoing()
    calls = [
        talk.fetch(ECHO, 1), talk.fetchrow(ECHO, 2), talk.script("SELECT 1"), talk.fetchval(ECHO, 3),
        talk.batch(ECHO, [(4,), (5,)], collects=True), talk.execute(ECHO, 6), talk.fetch(ECHO, 7, shared=True),
    ]  # fmt: skip
    return talk, calls


def cold() -> Asked:
    """A statement is being prepared, and more than one wait for it."""
    talk = Conversation()
    calls = [talk.fetch("SELECT a"), talk.fetch("SELECT a", shared=True), talk.fetch("SELECT b")]
    return talk, calls


def unlearnt() -> Asked:
    """A statement's types are being looked up."""
    talk = Conversation()
    calls = [talk.fetch("SELECT a")]
    talk.session.take_output()
    talk.reply(described([], [Field("a", UNKNOWN), Field("b", UNKNOWN + 1)]))
    return talk, calls


def script() -> Asked:
    """A simple query is in flight."""
    talk = Conversation()
    return talk, [talk.script("SELECT 1; SELECT 2"), talk.script("COMMIT", uncancellable=True)]


def streaming() -> Asked:
    """A batch is half sent."""
    talk = echoing()
    return talk, [talk.batch(ECHO, ELEMENTS), talk.fetch(ECHO, 1)]


def transaction() -> Asked:
    """A transaction has failed."""
    talk = echoing()
    bad = talk.fetch(ECHO, 1)
    talk.session.take_output()
    talk.reply(failed("22012", status="E"))
    assert bad.settled
    return talk, [talk.fetch(ECHO, 1), talk.script("ROLLBACK"), talk.fetch(ECHO, 2)]


def portal() -> Asked:
    """A portal is open, and fetched from."""
    talk = echoing()
    statement = talk.session.statements.hold(ECHO)
    first = talk.execute_statement(statement, 5, limit=2, portal=b"p")
    second = talk.execute_statement(statement, limit=2, portal=b"p", opener=first.request)
    return talk, [first, talk.fetch(ECHO, 1), second]


def cancelled() -> Asked:
    """The head was given up and a CancelRequest is under way."""
    talk = echoing()
    calls = [talk.fetch(ECHO, i) for i in range(3)]
    talk.session.take_output()
    _give_up(talk, calls[0])
    return talk, calls


def abandoned() -> Asked:
    """Two in the middle were given up."""
    talk = echoing()
    calls = [talk.fetch(ECHO, i) for i in range(4)]
    talk.session.take_output()
    _give_up(talk, calls[1])
    _give_up(talk, calls[2])
    return talk, calls


def closing() -> Asked:
    """The session takes no more requests and waits for those in flight."""
    talk = echoing()
    calls = [talk.fetch(ECHO, 1), talk.fetch("SELECT a")]
    talk.session.take_output()
    talk.session.close("it is enough")
    return talk, calls


def wide() -> Asked:
    """A row of many types is due."""
    talk = Conversation()
    talk.know("SELECT *", [], WIDE)
    return talk, [talk.fetch("SELECT *"), talk.fetch("SELECT *")]


def copy_in() -> Asked:
    """COPY FROM STDIN."""
    talk = echoing()
    waiter, began = Waiter(), Waiter()
    return talk, [talk.submit(CopyIn(waiter, began, "COPY t FROM STDIN", None), waiter), talk.fetch(ECHO, 1)]


def copy_in_given_up() -> Asked:
    """COPY FROM STDIN that was given up before it began."""
    talk, calls = copy_in()
    talk.session.take_output()
    _give_up(talk, calls[0])
    return talk, calls


def copy_out() -> Asked:
    """COPY TO STDOUT as bytes."""
    talk = echoing()
    waiter, began = Waiter(), Waiter()
    return talk, [talk.submit(CopyOut(waiter, began, "COPY t TO STDOUT", None), waiter), talk.fetch(ECHO, 1)]


def copy_rows() -> Asked:
    """COPY TO STDOUT in binary, read as rows."""
    talk = Conversation()
    talk.know("SELECT *", [], WIDE)
    statement = talk.session.statements.hold("SELECT *")
    waiter, began = Waiter(), Waiter()
    request = CopyOut(waiter, began, "COPY t TO STDOUT (FORMAT binary)", None, statement, Record)
    return talk, [talk.submit(request, waiter)]


def row_stream() -> Asked:
    """A stream of rows, and a query behind it."""
    talk = Conversation()
    talk.know("SELECT *", [], WIDE)
    talk.know(ECHO, [INT4], [NUMBER])
    talk.submit(RowStream("SELECT *", (), Record))
    return talk, [talk.fetch(ECHO, 1)]


def _give_up(talk: Conversation, call: Call) -> None:
    call.waiter.settled = True
    talk.cancel(call)


HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
NUMBERS_ROW = WIDE_ROW[5:]
ONE = rows(1)
LEARNT = b"".join((
    backend.bind_complete(),
    backend.data_row(int4(UNKNOWN), "mood", "public", b"e", int4(0), b",", int4(0), int4(0), int4(0), None, None,
    b"\1", "enum_send"),
    backend.data_row(
        int4(UNKNOWN + 1), "pair", "public", b"c", int4(0), b",", int4(0), int4(0), int4(0),
        struct.pack("!iiiiii", 1, 0, 25, 1, 1, 1) + b"a", struct.pack("!iiiiiiI", 1, 0, 26, 1, 1, 4, UNKNOWN), b"\1",
        "",
    ),
    backend.command_complete("SELECT 2"), backend.ready_for_query(),
))  # fmt: skip
ASYNCHRONOUS = b"".join((
    backend.notice_response("careful", code="01000"),
    backend.notification_response("news", "it snows"),
    backend.parameter_status("TimeZone", "Asia/Tokyo"),
))  # fmt: skip
BATCHED = backend.bind_complete() + backend.data_row(int4(4)) + backend.command_complete("SELECT 1")

STATES: tuple[tuple[Callable[[], Asked], bytes], ...] = (
    (idle, ASYNCHRONOUS),
    (one, ASYNCHRONOUS + ONE),
    (pipelined, ONE * 2 + simple("SELECT 1") + ONE + BATCHED * 2 + backend.ready_for_query() + ONE + ONE),
    (cold, described([], [NUMBER]) + ONE + ONE + described([INT4, TEXT]) + failed("42601")),
    (unlearnt, LEARNT + backend.bind_complete() + backend.data_row("sad", struct.pack("!iIi", 1, UNKNOWN, 3) + b"sad")
     + simple("SELECT 1")),
    (script, backend.row_description(NUMBER) + backend.data_row("1") + backend.command_complete("SELECT 1")
     + backend.empty_query_response() + backend.ready_for_query() + simple("ROLLBACK")),
    (streaming, BATCHED * 3 + failed("23505") + ONE),
    (transaction, failed("25P02", status="E") + simple("ROLLBACK") + ONE),
    (portal,
    backend.bind_complete() + backend.data_row(int4(1)) + backend.portal_suspended() + backend.ready_for_query("T")
     + ONE + backend.data_row(int4(3)) + simple("SELECT 1", status="T")),
    (cancelled, failed("57014") + failed("57014") + ONE + ONE),
    (abandoned, rows(1, 2) + ONE + failed("22012") + ONE),
    (closing, ONE + described([], [NUMBER])),
    (wide, backend.bind_complete() + WIDE_ROW * 2 + simple("SELECT 2") + backend.bind_complete() + simple("SELECT 0")),
    (copy_in, backend.copy_in_response(1, 1) + simple("COPY 2") + ONE),
    (copy_in_given_up, backend.copy_in_response(0) + failed("57014") + ONE),
    (copy_out, backend.copy_out_response(0) + backend.copy_data(b"1\n") + backend.copy_done() + simple("COPY 1") + ONE),
    (copy_rows, backend.copy_out_response(1,
    1) + backend.copy_data(HEADER + NUMBERS_ROW) + backend.copy_data(NUMBERS_ROW)
     + backend.copy_data(b"\xff\xff") + backend.copy_done() + simple("COPY 2")),
    (pipelined, failed("26000") + ONE + failed("0A000", routine="RevalidateCachedQuery") + described([INT4],
    [NUMBER]) + ONE),
    (one, backend.error_response("terminating", code="57P01", severity="FATAL")),
    (row_stream, backend.bind_complete() + WIDE_ROW * 3 + simple("SELECT 3") + ONE),
)  # fmt: skip

ELEMENTS = [(number,) for number in range(4000)]
"""More than one chunk of a batch."""

EXPECTED = (exceptions.PostgresError, exceptions.InterfaceError, exceptions.InternalClientError)
"""What a request may come to, whatever the server says."""


class SessionStates(Target):
    """See above."""

    name = "session"
    words = (
        *(kind.encode() for kind in "123ACDEGHIKNRSTZcdnstvW"),
        *(b"SFATAL\0", b"C57P01\0", b"C26000\0", b"C57014\0", b"C25P02\0", b"VFATAL\0", b"client_encoding\0",
        b"LATIN1\0", b"SELECT 1\0"),
        *(HEADER, b"I", b"T", b"E", b"\xff\xff", b"\0\0\0\0\0\x17\0\4\xff\xff\xff\xff\0\1"),
    )  # fmt: skip
    share = 2.0

    def seeds(self) -> Iterable[bytes]:
        for number, (_, replies) in enumerate(STATES):
            for cut in (0, 3):
                yield bytes((number, cut)) + replies
        for path in sorted(PLACE.glob("*.json")):
            for each in Recording.load(path.stem).rounds:
                # Of use for their messages: few of them answer what was asked in the state they come to.
                yield bytes((2, 0)) + each.received[:2000]

    def run(self, data: bytes) -> object:
        state, _ = STATES[data[0] % len(STATES)] if data else STATES[0]
        size = data[1] % 16 if len(data) > 1 else 0
        talk, calls = state()
        session = talk.session
        session.take_output()
        said = ""
        try:
            # Small pieces for the first bytes, and then all that is left.
            for at in range(2, min(2 + 8 * size, len(data)), size or 1):
                talk.feed(data[at : at + size])
                session.take_output()
            talk.feed(data[2 + 8 * size :])
            session.take_output()
            for call in calls:
                if isinstance(call.request, CopyIn) and call.request.flowing:
                    call.request.data_message(b"1\n")
        except exceptions.ProtocolError as error:
            said = str(error)[:40]
            session.connection_lost(error)
        session.connection_lost("the end")
        assert talk.idle
        for call in calls:
            assert call.settled, f"{call.request} waits for ever"
            failure = call.waiter.error
            assert failure is None or isinstance(failure, EXPECTED), repr(failure)
        return said, session.commands.status, tuple(type(call.waiter.error).__name__ for call in calls)

    def mutate(self, mutation: Mutation, data: bytes) -> bytes:
        if mutation.below(8) == 0:
            data = bytes((mutation.below(len(STATES)), mutation.below(32))) + data[2:]
        return data[:2] + mutation.messages(data[2:])
