"""A session and the server it talks to, as a script: no socket and no event loop.

    talk = Conversation()
    talk.know("SELECT $1", [INT4], [Field("n", INT4)])
    call = talk.fetch("SELECT $1", 7)
    assert talk.flush() == "BES"
    talk.reply(rows(7))
    assert call.value == [(7,)]

The server's words are built with tests.peers.backend; `flush()` gives what the session wants written as a word of
message types for each request: P Parse, B Bind, D Describe, E Execute, C Close, S Sync, Q Query, f CopyFail.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import headrace._core.codecs.builtin  # noqa: F401  registers the codecs of all built-in types
from headrace._core.codecs.typemap import TypeMap
from headrace._core.pipeline.batch import Batch
from headrace._core.pipeline.cancel import ABANDONED_GRACE, CancelAction
from headrace._core.pipeline.events import Events
from headrace._core.pipeline.prepare import PrepareWaiter
from headrace._core.pipeline.requests import Query, Request, SimpleQuery
from headrace._core.pipeline.session import Session
from headrace._core.pipeline.startup import Startup
from headrace._core.pipeline.statement_cache import Statement
from headrace._core.rows.record import Record
from headrace._core.wire.frontend import startup_message
from headrace._core.wire.read_buffer import ReadBuffer
from headrace._io.driver import KIND_FIRST_ROW, KIND_ROWS, KIND_STATUS, KIND_VALUE
from headrace.exceptions import PostgresError, PostgresLogMessage
from tests.peers import backend, frontend
from tests.peers.backend import Field

BOOL, INT4, TEXT = 16, 23, 25

DROPPED, DRAINED, SIGNAL, FAIL = CancelAction.DROPPED, CancelAction.DRAINED, CancelAction.SIGNAL, CancelAction.FAIL

PID, SECRET = 4711, b"\x12\x34\x56\x78"


class Waiter:
    """Takes the outcome of a request, as a future would; a second outcome is an error."""

    def __init__(self) -> None:
        self.settled = False
        self.result: Any = None
        self.error: BaseException | None = None

    def done(self) -> bool:
        return self.settled

    def set_result(self, result: Any) -> None:
        assert not self.settled, "settled twice"
        self.settled, self.result = True, result

    def set_exception(self, error: BaseException) -> None:
        assert not self.settled, "settled twice"
        self.settled, self.error = True, error


class Call:
    """One thing asked of the session, and what has come of it."""

    def __init__(self, request: Any, waiter: Waiter) -> None:
        self.request = request
        self.waiter = waiter

    @property
    def settled(self) -> bool:
        """True if there is an outcome."""
        return self.waiter.settled

    @property
    def value(self) -> Any:
        """The result; raises the error where there is one, AssertionError where there is no outcome yet."""
        assert self.settled, f"{self.request!r} has no outcome yet"
        if self.waiter.error is not None:
            raise self.waiter.error
        return self.waiter.result

    @property
    def error(self) -> Any:
        """The error it has failed with."""
        assert self.settled, f"{self.request!r} has no outcome yet"
        assert self.waiter.error is not None, f"{self.request!r} has succeeded: {self.waiter.result!r}"
        return self.waiter.error


class Log(Events):
    """Remembers what the session told."""

    def __init__(self) -> None:
        self.notices: list[PostgresLogMessage] = []
        self.notifications: list[tuple[int, str, str]] = []
        self.parameters: list[tuple[str, str]] = []
        self.cancel_timers: list[float] = []
        self.reopened = 0
        self.woken = 0
        self.switched = 0

    def notice(self, message: PostgresLogMessage) -> None:
        self.notices.append(message)

    def notification(self, pid: int, channel: str, payload: str) -> None:
        self.notifications.append((pid, channel, payload))

    def parameter(self, name: str, value: str) -> None:
        self.parameters.append((name, value))

    def queued(self) -> None:
        self.woken += 1

    def set_cancel_timer(self, seconds: float) -> None:
        self.cancel_timers.append(seconds)

    @property
    def abandoned(self) -> int:
        """How often an abandoned head was given time to end by itself."""
        return self.cancel_timers.count(ABANDONED_GRACE)

    def writable(self) -> None:
        self.reopened += 1

    def backends_switched(self) -> None:
        self.switched += 1


@lru_cache
def _greeting(secret: bytes) -> bytes:
    return backend.greeting(pid=PID, secret=secret)


class Reader:
    """Reads bytes for a session, as its transport does."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._buffer = ReadBuffer()

    def feed(self, data: bytes) -> None:
        """Take what the server says, in pieces of any size. After its last words, call connection_lost() as well."""
        source = memoryview(data)
        while source:
            room = self._buffer.writable()
            size = min(len(room), len(source))
            room[:size] = source[:size]
            try:
                self._session.receive(self._buffer, size)
            except PostgresError as error:
                if error is not self._session.fatal:
                    raise
            source = source[size:]


class Conversation:
    """A session, by default past authentication and idle, and what both sides say."""

    def __init__(
        self,
        *,
        greeted: bool = True,
        secret: bytes = SECRET,
        types: TypeMap | None = None,
        log: Any = None,
        **limits: Any,
    ) -> None:
        self._limits = limits
        self.log = log if log is not None else Log()
        self.calls: list[Call] | None = None
        self.session = Session(types if types is not None else TypeMap(), events=self.log, **limits)
        self.feed = Reader(self.session).feed
        self.messages: list[frontend.Message] = []
        if greeted:
            self.startup()
            self.session.take_output()
            self.reply(_greeting(secret))
            if log is None:
                self.log.parameters.clear()

    @property
    def idle(self) -> bool:
        """True if nothing is in flight or waiting."""
        return self.session.count_pending() == 0

    # What callers ask for

    def startup(self, on_authentication: Any = lambda code, payload: None) -> Call:
        """Begin the session."""
        message = startup_message(0x30000, {"user": "somebody"})
        waiter = Waiter()
        return self.submit(Startup(waiter, message, on_authentication), waiter)

    def fetch(
        self, query: str, *args: object, limit: int = 0, shared: bool = False, record_class: type[Record] = Record
    ) -> Call:
        """Ask for all rows of a query, `shared` as by a pool's own methods."""
        return self._query(query, args, KIND_ROWS, limit, shared, record_class)

    def fetchrow(self, query: str, *args: object) -> Call:
        """Ask for the first row."""
        return self._query(query, args, KIND_FIRST_ROW, 1, False)

    def fetchval(self, query: str, *args: object) -> Call:
        """Ask for the first column of the first row."""
        return self._query(query, args, KIND_VALUE, 1, False)

    def execute(self, query: str, *args: object, shared: bool = False) -> Call:
        """Ask for the command tag."""
        return self._query(query, args, KIND_STATUS, 0, shared)

    def _query(
        self,
        query: str,
        args: tuple[object, ...],
        kind: int,
        limit: int,
        shared: bool,
        record_class: type[Record] = Record,
    ) -> Call:
        waiter = Waiter()
        with self.cached(query) as statement:
            request = Query(waiter, statement, args, kind, limit, 0, record_class, shared)
            return self.submit(request, waiter)

    def batch(self, query: str, elements: Iterable[Any], *, collects: bool = False, shared: bool = False) -> Call:
        """Ask for one execution for each element, and with `collects` for the rows of all."""
        waiter = Waiter()
        with self.cached(query) as statement:
            return self.submit(Batch(waiter, statement, elements, Record, collects, shared), waiter)

    def script(self, query: str, *, uncancellable: bool = False) -> Call:
        """Ask for a simple query."""
        waiter = Waiter()
        return self.submit(SimpleQuery(waiter, query, uncancellable), waiter)

    def prepare(self, statement: Statement) -> Call:
        """Ask for a statement to be prepared."""
        waiter = Waiter()
        return self.submit(PrepareWaiter(waiter, statement), waiter)

    def execute_statement(
        self, statement: Statement, *args: object, limit: int = 0, portal: bytes = b"", opener: Query | None = None
    ) -> Call:
        """Ask for the rows of a prepared statement, or of a portal."""
        waiter = Waiter()
        request = Query(waiter, statement, args, KIND_ROWS, limit, 0, Record, False, portal, opener)
        return self.submit(request, waiter)

    def submit(self, request: Request, waiter: Waiter | None = None) -> Call:
        """Queue a request made by hand."""
        self.session.submit(request)
        return self._noted(Call(request, waiter if waiter is not None else Waiter()))

    def _noted(self, call: Call) -> Call:
        if self.calls is not None:
            self.calls.append(call)
        return call

    def cancel(self, call: Call) -> CancelAction:
        """Give up a call, as when the task that awaits it is cancelled."""
        return self.session.cancellation.give_up(call.request)

    @contextmanager
    def cached(self, query: str) -> Iterator[Statement]:
        """The statement for a text, from the cache where it is kept there: as a driver finds it for a query."""
        statement = self.session.statements.hold(query, named=self._caches(query))
        try:
            yield statement
        finally:
            self.session.statements.release(statement)

    def _caches(self, query: str) -> bool:
        size: int = self._limits.get("statement_cache_size", 100)
        longest: int = self._limits.get("max_cacheable_statement_size", 15360)
        return size > 0 and (longest == 0 or len(query) <= longest)

    # What goes over the wire

    def flush(self) -> str:
        """Take all the session wants written; returns the types of its messages, a word for each request."""
        self.messages = []
        while self.session.wants_output():
            data = self.session.take_output()
            assert data, "wants_output() promises output"
            self.messages += split(data)
        assert self.session.take_output() == b"", "take_output() gives what wants_output() does not know of"
        return spelled(self.messages)

    def reply(self, *messages: bytes) -> None:
        """Feed what the server says."""
        for message in messages:
            self.feed(message)

    def answer(self, *replies: bytes) -> None:
        """Feed one reply for each request last flushed, but for closes of statements, which are answered of itself."""
        left = iter(replies)
        for word in spelled(self.messages).split():
            closed = backend.close_complete() + backend.ready_for_query(self.session.commands.status)
            self.reply(closed if word == "CS" else next(left))
        assert next(left, None) is None, "more replies than requests"

    # Common exchanges

    def know(self, query: str, parameters: Sequence[int] = (), fields: Sequence[Field] | None = None) -> None:
        """Have a statement prepared and cached; `fields` is None for one that returns no rows."""
        statement = self.session.statements.hold(query)
        call = self.prepare(statement)
        assert self.flush() == "PDS"
        self.reply(described(parameters, fields))
        assert call.value is statement
        self.session.statements.release(statement)
        assert query in self.session.statements.cached_queries()
        assert self.flush() == ""

    def statement_names(self) -> list[str]:
        """The names of the statements that the messages last flushed parse, bind or close, in order."""
        return [
            message.statement if isinstance(message, frontend.Bind) else message.name
            for message in self.messages
            if isinstance(message, (frontend.Parse, frontend.Bind, frontend.Close))
        ]

    def values(self) -> list[Any]:
        """The first parameter, an int4, of each Bind last flushed."""
        return [
            struct.unpack("!i", message.values[0] or b"")[0]
            for message in self.messages
            if isinstance(message, frontend.Bind)
        ]


def split(data: bytes) -> list[frontend.Message]:
    """Take apart what the session wants written, all of it after its StartupMessage."""
    messages = []
    at = 0
    while at < len(data):
        end = at + 1 + int(struct.unpack_from("!i", data, at + 1)[0])
        assert end <= len(data), "the session wants half a message written"
        messages.append(frontend.decode(data[at:end]))
        at = end
    return messages


def spelled(messages: Iterable[frontend.Message]) -> str:
    """The types of messages as a word for each request."""
    kinds = "".join(message.raw[:1].decode() for message in messages)
    return kinds.replace("S", "S ").replace("Q", "Q ").rstrip()


def int4(value: int) -> bytes:
    """An int4 on the wire."""
    return struct.pack("!i", value)


def described(parameters: Sequence[int] = (), fields: Sequence[Field] | None = None, *, status: str = "I") -> bytes:
    """The answer to Parse, Describe and Sync."""
    return b"".join((
        backend.parse_complete(),
        backend.parameter_description(*parameters),
        backend.no_data() if fields is None else backend.row_description(*fields),
        backend.ready_for_query(status),
    ))  # fmt: skip


def rows(*values: int, status: str = "I", tag: str | None = None) -> bytes:
    """The answer to Bind, Execute and Sync: rows of one int4."""
    return b"".join((
        backend.bind_complete(),
        *(backend.data_row(int4(value)) for value in values),
        backend.command_complete(tag if tag is not None else f"SELECT {len(values)}"),
        backend.ready_for_query(status),
    ))  # fmt: skip


def checked_rows(*values: int, status: str = "I", fields: Sequence[Field] | None = None) -> bytes:
    """The answer to Bind, Describe, Execute and Sync: the columns, and rows of one int4."""
    whole = rows(*values, status=status)
    start = len(backend.bind_complete())
    return whole[:start] + backend.row_description(*(fields or [NUMBER])) + whole[start:]


def done(tag: str, *, status: str = "I") -> bytes:
    """The answer to Bind, Execute and Sync, or to Query: a command tag alone."""
    return backend.bind_complete() + backend.command_complete(tag) + backend.ready_for_query(status)


def simple(tag: str, *, status: str = "I") -> bytes:
    """The answer to Query: a command tag alone."""
    return backend.command_complete(tag) + backend.ready_for_query(status)


def failed(code: str, text: str = "it failed", *, status: str = "I", **fields: str) -> bytes:
    """The answer to a request that fails at once."""
    return backend.error_response(text, code=code, **fields) + backend.ready_for_query(status)


NUMBER = Field("n", INT4)
ECHO = "SELECT $1::int4 AS n"


def echoing(**limits: Any) -> Conversation:
    """A conversation that knows ECHO, which gives back its argument."""
    talk = Conversation(**limits)
    talk.know(ECHO, [INT4], [NUMBER])
    return talk
