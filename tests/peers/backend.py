"""The messages a PostgreSQL backend sends, as bytes: one function a message ("Message Formats").

Nothing here checks that a message makes sense: tests need senseless ones too. `message` with `length` builds
a frame that lies about its length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

Text = str | bytes
"""What goes into a string field: text, encoded as UTF-8, or bytes as they are."""

TEXT = 0
BINARY = 1
"""Format codes of columns, parameters and COPY data."""

# Field codes of ErrorResponse and NoticeResponse ("Error and Notice Message Fields"). `code` is the SQLSTATE.
ERROR_FIELDS = {
    "severity": b"S",
    "severity_en": b"V",
    "code": b"C",
    "message": b"M",
    "detail": b"D",
    "hint": b"H",
    "position": b"P",
    "internal_position": b"p",
    "internal_query": b"q",
    "where": b"W",
    "schema": b"s",
    "table": b"t",
    "column": b"c",
    "datatype": b"d",
    "constraint": b"n",
    "file": b"F",
    "line": b"L",
    "routine": b"R",
}

PARAMETERS = {
    "server_version": "18.0",
    "server_encoding": "UTF8",
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "integer_datetimes": "on",
    "standard_conforming_strings": "on",
    "in_hot_standby": "off",
    "default_transaction_read_only": "off",
    "is_superuser": "on",
}
"""What a server reports about itself after authentication."""


@dataclass(frozen=True)
class Field:
    """One column of a RowDescription; by default of type text."""

    name: Text
    oid: int = 25
    size: int = -1
    modifier: int = -1
    format: int = BINARY
    table: int = 0
    column: int = 0


def string(text: Text) -> bytes:
    """Return a zero-terminated string."""
    return (text.encode() if isinstance(text, str) else text) + b"\0"


def message(kind: bytes, body: bytes = b"", *, length: int | None = None) -> bytes:
    """Return a frame: type, length of itself and the body, body. `length` replaces the true one."""
    return kind + struct.pack("!i", 4 + len(body) if length is None else length) + body


def split(stream: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and body of every whole message in `stream`, not of one cut at its end."""
    at = 0
    while at + 5 <= len(stream):
        end = at + 1 + int(struct.unpack_from("!i", stream, at + 1)[0])
        if end > len(stream):
            return
        yield stream[at : at + 1], stream[at + 5 : end]
        at = end


# Authentication and start-up


def authentication(code: int, data: bytes = b"") -> bytes:
    """Return an Authentication... message; the functions below name those that exist."""
    return message(b"R", struct.pack("!i", code) + data)


def authentication_ok() -> bytes:
    """AuthenticationOk."""
    return authentication(0)


def authentication_cleartext_password() -> bytes:
    """AuthenticationCleartextPassword."""
    return authentication(3)


def authentication_md5_password(salt: bytes = b"salt") -> bytes:
    """AuthenticationMD5Password; a proper salt has four bytes."""
    return authentication(5, salt)


def authentication_gss() -> bytes:
    """AuthenticationGSS."""
    return authentication(7)


def authentication_sspi() -> bytes:
    """AuthenticationSSPI."""
    return authentication(9)


def authentication_sasl(*mechanisms: Text) -> bytes:
    """AuthenticationSASL: a list of mechanisms closed by an empty one."""
    return authentication(10, b"".join(map(string, mechanisms)) + b"\0")


def authentication_sasl_continue(data: Text) -> bytes:
    """AuthenticationSASLContinue: a challenge."""
    return authentication(11, data.encode() if isinstance(data, str) else data)


def authentication_sasl_final(data: Text) -> bytes:
    """AuthenticationSASLFinal: the outcome."""
    return authentication(12, data.encode() if isinstance(data, str) else data)


def backend_key_data(pid: int = 4711, secret: bytes = b"\x12\x34\x56\x78") -> bytes:
    """BackendKeyData: the key has four bytes in protocol 3.0, up to 256 since 3.2."""
    return message(b"K", struct.pack("!i", pid) + secret)


def negotiate_protocol_version(version: int, *unknown: Text) -> bytes:
    """NegotiateProtocolVersion: the newest version (as in StartupMessage), and the options not recognised."""
    return message(b"v", struct.pack("!ii", version, len(unknown)) + b"".join(map(string, unknown)))


def parameter_status(name: Text, value: Text) -> bytes:
    """ParameterStatus."""
    return message(b"S", string(name) + string(value))


def ready_for_query(status: str = "I") -> bytes:
    """ReadyForQuery: idle `I`, in a transaction block `T`, or in a failed one `E`."""
    return message(b"Z", status.encode())


def greeting(
    parameters: Mapping[str, str] | None = None, *, pid: int = 4711, secret: bytes = b"\x12\x34\x56\x78"
) -> bytes:
    """Return what follows a successful authentication: AuthenticationOk to the first ReadyForQuery."""
    reports = {**PARAMETERS, **(parameters or {})}
    return b"".join(
        [
            authentication_ok(),
            *(parameter_status(name, value) for name, value in reports.items()),
            backend_key_data(pid, secret),
            ready_for_query(),
        ]
    )


# Queries


def parse_complete() -> bytes:
    """ParseComplete."""
    return message(b"1")


def bind_complete() -> bytes:
    """BindComplete."""
    return message(b"2")


def close_complete() -> bytes:
    """CloseComplete."""
    return message(b"3")


def no_data() -> bytes:
    """NoData: the answer to Describe for what returns no rows."""
    return message(b"n")


def portal_suspended() -> bytes:
    """PortalSuspended: Execute reached its row count."""
    return message(b"s")


def empty_query_response() -> bytes:
    """EmptyQueryResponse."""
    return message(b"I")


def command_complete(tag: Text) -> bytes:
    """CommandComplete, with a tag such as `SELECT 1`."""
    return message(b"C", string(tag))


def parameter_description(*oids: int) -> bytes:
    """ParameterDescription: the type of each parameter."""
    return message(b"t", struct.pack(f"!H{len(oids)}I", len(oids), *oids))


def row_description(*fields: Field | Text) -> bytes:
    """RowDescription; a bare name stands for a text column."""
    body = [struct.pack("!H", len(fields))]
    for field in fields:
        each = field if isinstance(field, Field) else Field(field)
        body.append(string(each.name))
        body.append(struct.pack("!IhIhih", each.table, each.column, each.oid, each.size, each.modifier, each.format))
    return message(b"T", b"".join(body))


def data_row(*values: Text | None) -> bytes:
    """DataRow; None is NULL."""
    body = [struct.pack("!H", len(values))]
    for value in values:
        if value is None:
            body.append(struct.pack("!i", -1))
        else:
            data = value.encode() if isinstance(value, str) else value
            body.append(struct.pack("!i", len(data)) + data)
    return message(b"D", b"".join(body))


def function_call_response(value: bytes | None) -> bytes:
    """FunctionCallResponse."""
    return message(b"V", struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value)


# COPY


def _copy_response(kind: bytes, formats: Sequence[int]) -> bytes:
    overall = BINARY if BINARY in formats else TEXT
    return message(kind, struct.pack(f"!bH{len(formats)}h", overall, len(formats), *formats))


def copy_in_response(*formats: int) -> bytes:
    """CopyInResponse, with the format of each column."""
    return _copy_response(b"G", formats)


def copy_out_response(*formats: int) -> bytes:
    """CopyOutResponse, with the format of each column."""
    return _copy_response(b"H", formats)


def copy_both_response(*formats: int) -> bytes:
    """CopyBothResponse, with the format of each column."""
    return _copy_response(b"W", formats)


def copy_data(data: bytes) -> bytes:
    """CopyData."""
    return message(b"d", data)


def copy_done() -> bytes:
    """CopyDone."""
    return message(b"c")


# At any time


def _fields(kind: bytes, fields: Mapping[str, Text | None]) -> bytes:
    given = ((ERROR_FIELDS[name], value) for name, value in fields.items() if value is not None)
    return message(kind, b"".join(code + string(value) for code, value in given) + b"\0")


def error_response(
    text: Text = "it failed",
    *,
    code: Text | None = "XX000",
    severity: Text | None = "ERROR",
    **fields: Text | None,
) -> bytes:
    """ErrorResponse; `fields` are named as in ERROR_FIELDS, and None leaves one out."""
    standard = {"severity": severity, "severity_en": severity, "code": code, "message": text}
    return _fields(b"E", {**standard, **fields})


def notice_response(
    text: Text = "by the way",
    *,
    code: Text | None = "00000",
    severity: Text | None = "NOTICE",
    **fields: Text | None,
) -> bytes:
    """NoticeResponse, with the arguments of `error_response`."""
    standard = {"severity": severity, "severity_en": severity, "code": code, "message": text}
    return _fields(b"N", {**standard, **fields})


def notification_response(channel: Text, payload: Text = "", *, pid: int = 4711) -> bytes:
    """NotificationResponse, as NOTIFY sends it."""
    return message(b"A", struct.pack("!i", pid) + string(channel) + string(payload))
