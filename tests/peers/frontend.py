"""The messages a PostgreSQL client sends, taken apart strictly: each is one class ("Message Formats").

A message that is not exactly as documented raises ClientError, which names what the client did wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104
CANCEL_REQUEST = 80877102


class ClientError(Exception):
    """The client broke the protocol, or did not do what a script expects of it."""


class Reader:
    """Reads the parts of one message's body, in order."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        if count < 0 or self._at + count > len(self._body):
            left = len(self._body) - self._at
            raise ClientError(f"{count} bytes are announced at offset {self._at} of a body with {left} left")
        self._at += count
        return self._body[self._at - count : self._at]

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(len(self._body) - self._at)

    def string(self) -> str:
        """Return the next zero-terminated string."""
        end = self._body.find(b"\0", self._at)
        if end < 0:
            raise ClientError(f"no end of the string at offset {self._at}")
        text = self.take(end - self._at)
        self._at += 1
        return text.decode()

    def int16(self) -> int:
        """Return the next unsigned 16-bit integer; counts and format codes are never negative."""
        return int(struct.unpack("!H", self.take(2))[0])

    def int32(self) -> int:
        """Return the next signed 32-bit integer."""
        return int(struct.unpack("!i", self.take(4))[0])

    def value(self) -> bytes | None:
        """Return the next value with its length ahead of it; None is NULL."""
        length = self.int32()
        return None if length == -1 else self.take(length)

    def end(self) -> None:
        """Make sure that nothing is left."""
        if self._at != len(self._body):
            raise ClientError(f"{len(self._body) - self._at} bytes too many")


@dataclass(frozen=True)
class Message:
    """Any message; `raw` is the whole frame."""

    raw: bytes = field(default=b"", repr=False, kw_only=True, compare=False)


@dataclass(frozen=True)
class SSLRequest(Message):
    """The client asks for TLS, ahead of its StartupMessage."""


@dataclass(frozen=True)
class GSSENCRequest(Message):
    """The client asks for GSSAPI encryption, ahead of its StartupMessage."""


@dataclass(frozen=True)
class CancelRequest(Message):
    """The client asks, on a connection of its own, to cancel what a backend runs."""

    pid: int
    secret: bytes


@dataclass(frozen=True)
class StartupMessage(Message):
    """The first message of a session."""

    version: tuple[int, int]
    parameters: dict[str, str]


@dataclass(frozen=True)
class Query(Message):
    """A simple query."""

    sql: str


@dataclass(frozen=True)
class Parse(Message):
    """Make a prepared statement."""

    name: str
    sql: str
    oids: tuple[int, ...]


@dataclass(frozen=True)
class Bind(Message):
    """Make a portal from a prepared statement and its parameters."""

    portal: str
    statement: str
    formats: tuple[int, ...]
    values: tuple[bytes | None, ...]
    result_formats: tuple[int, ...]


@dataclass(frozen=True)
class Describe(Message):
    """Ask for the description of a statement, kind `S`, or a portal, kind `P`."""

    kind: str
    name: str


@dataclass(frozen=True)
class Execute(Message):
    """Run a portal, for `limit` rows or with 0 to its end."""

    portal: str
    limit: int


@dataclass(frozen=True)
class Close(Message):
    """Close a statement, kind `S`, or a portal, kind `P`."""

    kind: str
    name: str


@dataclass(frozen=True)
class Sync(Message):
    """End a run of extended-query messages."""


@dataclass(frozen=True)
class Flush(Message):
    """Ask for the replies so far."""


@dataclass(frozen=True)
class Terminate(Message):
    """End the session."""


@dataclass(frozen=True)
class CopyData(Message):
    """A piece of COPY's data."""

    data: bytes


@dataclass(frozen=True)
class CopyDone(Message):
    """The end of COPY's data."""


@dataclass(frozen=True)
class CopyFail(Message):
    """The client gives COPY up."""

    reason: str


@dataclass(frozen=True)
class Password(Message):
    """PasswordMessage, SASLInitialResponse, SASLResponse or GSSResponse: the server knows which."""

    data: bytes

    def text(self) -> str:
        """Return the password, read as a PasswordMessage."""
        reader = Reader(self.data)
        password = reader.string()
        reader.end()
        return password

    def sasl_initial(self) -> tuple[str, bytes | None]:
        """Return mechanism and first response, read as a SASLInitialResponse."""
        reader = Reader(self.data)
        mechanism, response = reader.string(), reader.value()
        reader.end()
        return mechanism, response


def _counted(reader: Reader, read: Callable[[], int]) -> tuple[int, ...]:
    return tuple(read() for _ in range(reader.int16()))


def _bind(reader: Reader, raw: bytes) -> Bind:
    return Bind(
        portal=reader.string(),
        statement=reader.string(),
        formats=_counted(reader, reader.int16),
        values=tuple(reader.value() for _ in range(reader.int16())),
        result_formats=_counted(reader, reader.int16),
        raw=raw,
    )


_DECODERS: dict[bytes, Callable[[Reader, bytes], Message]] = {
    b"Q": lambda reader, raw: Query(reader.string(), raw=raw),
    b"P": lambda reader, raw: Parse(reader.string(), reader.string(), _counted(reader, reader.int32), raw=raw),
    b"B": _bind,
    b"D": lambda reader, raw: Describe(reader.take(1).decode(), reader.string(), raw=raw),
    b"E": lambda reader, raw: Execute(reader.string(), reader.int32(), raw=raw),
    b"C": lambda reader, raw: Close(reader.take(1).decode(), reader.string(), raw=raw),
    b"S": lambda reader, raw: Sync(raw=raw),
    b"H": lambda reader, raw: Flush(raw=raw),
    b"X": lambda reader, raw: Terminate(raw=raw),
    b"d": lambda reader, raw: CopyData(reader.rest(), raw=raw),
    b"c": lambda reader, raw: CopyDone(raw=raw),
    b"f": lambda reader, raw: CopyFail(reader.string(), raw=raw),
    b"p": lambda reader, raw: Password(reader.rest(), raw=raw),
}


def decode(raw: bytes) -> Message:
    """Return the message in a whole frame with a type byte; ClientError where it is malformed."""
    kind, reader = raw[:1], Reader(raw[5:])
    if kind not in _DECODERS:
        raise ClientError(f"message type {kind!r} is unknown")
    try:
        decoded = _DECODERS[kind](reader, raw)
        reader.end()
    except (ClientError, UnicodeDecodeError) as error:
        raise ClientError(f"malformed {kind!r} message: {error}: {raw!r}") from error
    return decoded


def decode_first(raw: bytes) -> Message:
    """Return the message that opens a connection: it has no type byte."""
    reader = Reader(raw[4:])
    code = reader.int32()
    decoded: Message
    if code == SSL_REQUEST:
        decoded = SSLRequest(raw=raw)
    elif code == GSSENC_REQUEST:
        decoded = GSSENCRequest(raw=raw)
    elif code == CANCEL_REQUEST:
        decoded = CancelRequest(reader.int32(), reader.rest(), raw=raw)
    else:
        parameters: dict[str, str] = {}
        while name := reader.string():
            if name in parameters:
                raise ClientError(f"startup parameter {name!r} twice")
            parameters[name] = reader.string()
        decoded = StartupMessage((code >> 16, code & 0xFFFF), parameters, raw=raw)
    reader.end()
    return decoded


def split(stream: bytes) -> Iterator[Message]:
    """Yield every message of all that a client sent; ClientError where the last one is cut."""
    at, started = 0, False
    while at < len(stream):
        header = 1 if started else 0
        if at + header + 4 > len(stream):
            raise ClientError(f"the stream ends in the header of a message: {stream[at:]!r}")
        length = int(struct.unpack_from("!i", stream, at + header)[0])
        end = at + header + length
        if length < 4 or end > len(stream):
            raise ClientError(f"a message of length {length} with {len(stream) - at} bytes left")
        message = decode(stream[at:end]) if started else decode_first(stream[at:end])
        started = started or isinstance(message, StartupMessage)
        at = end
        yield message
