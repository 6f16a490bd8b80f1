"""Frames and messages that no server should send: faults 1, 2, 4, 5 and 10, and lengths that would exhaust memory."""

from __future__ import annotations

import struct
import tracemalloc

import pytest

from headrace import exceptions
from tests.core.pipeline.script import (
    ECHO,
    INT4,
    NUMBER,
    TEXT,
    Call,
    Conversation,
    described,
    echoing,
    failed,
    int4,
    rows,
    simple,
)
from tests.peers import backend
from tests.peers.backend import Field

INT_MIN = -(2**31)


def asked() -> tuple[Conversation, Call]:
    talk = echoing()
    call = talk.fetch(ECHO, 1)
    talk.flush()
    return talk, call


def refused(talk: Conversation, *messages: bytes, match: str | None = None) -> exceptions.ProtocolError:
    with pytest.raises(exceptions.ProtocolError, match=match) as caught:
        talk.reply(*messages)
    return caught.value


# Fault 1: frames


@pytest.mark.fault(number=1)
@pytest.mark.parametrize("length", [3, 2, 0, -1, INT_MIN, 0x7FFFFFFF, 0x40000000])
@pytest.mark.parametrize("kind", [b"D", b"T", b"N", b"C", b"Z"])
def test_a_length_that_no_frame_has(kind: bytes, length: int) -> None:
    talk, call = asked()
    error = refused(
        talk, backend.message(kind, length=length), match="this is not the PostgreSQL protocol, or it is out of step"
    )
    talk.session.connection_lost(error)
    assert call.error is error


@pytest.mark.fault(number=1)
@pytest.mark.parametrize("kind", [b"C", b"Z", b"1", b"2", b"K", b"\0", b"H"])
def test_a_long_frame_of_a_kind_that_is_never_long(kind: bytes) -> None:
    """Most likely what is read here is not a frame at all; waiting for its end would be waiting for ever."""
    talk, _ = asked()
    refused(talk, backend.message(kind, length=100_000), match="100000 bytes")


@pytest.mark.fault(number=1)
@pytest.mark.parametrize("kind", [b"D", b"N", b"E", b"T"])
def test_memory_grows_with_what_comes_and_not_with_what_is_announced(kind: bytes) -> None:
    talk, call = asked()
    tracemalloc.start()
    try:
        talk.reply(backend.message(kind, b"x" * 10_000, length=1_000_000_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
    assert not call.settled


@pytest.mark.fault(number=1)
def test_a_buffer_that_had_to_grow_is_given_back() -> None:
    talk = Conversation()
    talk.know("SELECT t", [], [Field("t", TEXT)])
    call = talk.fetch("SELECT t")
    talk.flush()
    tracemalloc.start()
    try:
        talk.reply(backend.bind_complete(), backend.data_row("x" * 5_000_000), simple("SELECT 1"))
        assert len(call.value[0]["t"]) == 5_000_000
        del call
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak > 10_000_000
    assert held < 1_000_000


# Fault 2: rows


@pytest.mark.fault(number=2)
@pytest.mark.parametrize(
    "row",
    [
        struct.pack("!Hi", 1, -5),
        struct.pack("!Hi", 1, INT_MIN),
        struct.pack("!Hi", 1, 5) + b"\0\0\0\1",
        struct.pack("!Hi", 1, 0x7FFFFFFF) + b"\0\0\0\1",
        struct.pack("!H", 0),
        struct.pack("!Hi", 2, 4) + int4(1) + struct.pack("!i", -1),
        struct.pack("!H", 1),
        struct.pack("!Hh", 1, 0),
        struct.pack("!Hi", 1, 4) + int4(1) + b"\0",
        b"\0",
        b"",
    ],
    ids=[
        "length -5", "length INT_MIN", "more than remains", "far more than remains", "too few fields",
        "too many fields", "no length", "half a length", "trailing byte", "half a count", "no count",
    ],
)  # fmt: skip
def test_a_malformed_row(row: bytes) -> None:
    talk, call = asked()
    error = refused(talk, backend.bind_complete(), backend.message(b"D", row), match="DataRow from the server")
    talk.session.connection_lost(error)
    assert call.error is error


@pytest.mark.fault(number=2)
def test_a_value_of_a_length_its_type_does_not_have() -> None:
    talk, _ = asked()
    refused(talk, backend.bind_complete(), backend.data_row(b"\0\0\1"), match="int4 value of 3 bytes")


# Fault 4: messages out of place


@pytest.mark.fault(number=4)
@pytest.mark.parametrize(
    "message", [backend.message(b"\0"), backend.message(b"?"), backend.message(b"v"), backend.message(b"W")]
)
def test_an_unknown_message(message: bytes) -> None:
    talk, _ = asked()
    refused(talk, message, match="unexpected message")


@pytest.mark.fault(number=4)
@pytest.mark.parametrize(
    "messages",
    [
        [backend.data_row(int4(1))],
        [backend.command_complete("SELECT 1")],
        [backend.parse_complete()],
        [backend.ready_for_query()],
        [backend.bind_complete(), backend.bind_complete()],
        [backend.bind_complete(), backend.row_description(NUMBER)],
        [backend.bind_complete(), backend.ready_for_query()],
        [backend.bind_complete(), backend.command_complete("SELECT 0"), backend.data_row(int4(1))],
        [backend.bind_complete(), backend.command_complete("SELECT 0"), backend.command_complete("SELECT 0")],
        [backend.bind_complete(), backend.close_complete()],
        [backend.bind_complete(), backend.copy_data(b"x")],
        [backend.bind_complete(), backend.authentication_ok()],
        [backend.bind_complete(), backend.backend_key_data()],
        [backend.no_data()],
    ],
)
def test_a_message_that_does_not_answer_bind_and_execute(messages: list[bytes]) -> None:
    talk, _ = asked()
    refused(talk, *messages)


@pytest.mark.fault(number=4)
@pytest.mark.parametrize(
    "messages",
    [
        [backend.row_description(NUMBER)],
        [backend.parameter_description(INT4)],
        [backend.parse_complete(), backend.row_description(NUMBER)],
        [backend.parse_complete(), backend.parameter_description(INT4), backend.ready_for_query()],
        [backend.parse_complete(), backend.parse_complete()],
        [backend.parse_complete(), backend.bind_complete()],
        [described([INT4], [NUMBER])[:-6], backend.no_data()],
        [backend.parse_complete(), backend.data_row(int4(1))],
    ],
)
def test_a_message_that_does_not_answer_parse_and_describe(messages: list[bytes]) -> None:
    talk = Conversation()
    talk.fetch(ECHO, 1)
    talk.flush()
    refused(talk, *messages)


@pytest.mark.fault(number=4)
@pytest.mark.parametrize(
    "messages",
    [
        [backend.bind_complete()],
        [backend.ready_for_query()],
        [backend.data_row("1")],
        [backend.row_description(NUMBER), backend.ready_for_query()],
        [backend.command_complete("SELECT 1"), backend.data_row("1")],
        [backend.copy_data(b"x")],
        [backend.copy_both_response(0)],
    ],
)
def test_a_message_that_does_not_answer_a_simple_query(messages: list[bytes]) -> None:
    talk = Conversation()
    talk.script("SELECT 1")
    talk.flush()
    refused(talk, *messages)


@pytest.mark.fault(number=4)
@pytest.mark.parametrize(
    "message",
    [
        backend.ready_for_query(),
        backend.command_complete("SELECT 1"),
        backend.data_row(int4(1)),
        backend.bind_complete(),
        backend.error_response("out of the blue"),
        backend.authentication_ok(),
        backend.backend_key_data(),
    ],
)
def test_a_message_that_nothing_has_asked_for(message: bytes) -> None:
    refused(Conversation(), message)


@pytest.mark.fault(number=4)
@pytest.mark.parametrize("status", [b"", b"X", b"II", b"\0"])
def test_a_transaction_status_that_does_not_exist(status: bytes) -> None:
    talk, _ = asked()
    talk.reply(backend.bind_complete(), backend.command_complete("SELECT 0"))
    refused(talk, backend.message(b"Z", status), match="malformed transaction status")


@pytest.mark.fault(number=4)
@pytest.mark.parametrize(
    "messages",
    [
        [backend.ready_for_query()],
        [backend.authentication_ok(), backend.authentication_ok()],
        [backend.authentication_ok(), backend.authentication_cleartext_password()],
        [backend.bind_complete()],
        [backend.backend_key_data()],
        [backend.message(b"R", b"\0\0")],
        [backend.authentication(0, b"x")],
        [backend.authentication_ok(), backend.backend_key_data(secret=b"")],
        [backend.authentication_ok(), backend.backend_key_data(secret=b"x" * 257)],
    ],
)
def test_a_message_that_does_not_belong_to_start_up(messages: list[bytes]) -> None:
    talk = Conversation(greeted=False)
    talk.startup()
    talk.session.take_output()
    refused(talk, *messages)


# Bodies that are cut short or too long


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0",
        struct.pack("!h", 1),
        struct.pack("!h", -1),
        struct.pack("!h", 1) + b"n",
        struct.pack("!h", 1) + b"n\0" + b"\0" * 17,
        struct.pack("!h", 1) + b"n\0" + b"\0" * 19,
        struct.pack("!h", 0) + b"\0",
    ],
)
def test_a_malformed_row_description(body: bytes) -> None:
    talk = Conversation()
    talk.fetch("SELECT 1")
    talk.flush()
    refused(
        talk, backend.parse_complete(), backend.parameter_description(), backend.message(b"T", body),
        match="RowDescription from the server",
    )  # fmt: skip


@pytest.mark.parametrize(
    "body", [b"", b"\0", struct.pack("!H", 1), struct.pack("!HIB", 1, 23, 0), struct.pack("!HI", 0, 23)]
)
def test_a_malformed_parameter_description(body: bytes) -> None:
    talk = Conversation()
    talk.fetch("SELECT 1")
    talk.flush()
    refused(talk, backend.parse_complete(), backend.message(b"t", body), match="ParameterDescription from the server")


@pytest.mark.parametrize(
    "message",
    [
        backend.message(b"N"),
        backend.message(b"N", b"SNOTICE"),
        backend.message(b"N", b"SNOTICE\0"),
        backend.message(b"N", b"SNOTICE\0\0\0"),
        backend.message(b"A", b"\0\0\0"),
        backend.message(b"A", b"\0\0\0\1channel"),
        backend.message(b"A", b"\0\0\0\1channel\0payload"),
        backend.message(b"A", b"\0\0\0\1channel\0payload\0\0"),
        backend.message(b"S"),
        backend.message(b"S", b"TimeZone"),
        backend.message(b"S", b"TimeZone\0UTC"),
        backend.message(b"S", b"TimeZone\0UTC\0\0"),
        backend.message(b"E", b"SERROR\0"),
    ],
)
def test_a_malformed_asynchronous_message(message: bytes) -> None:
    talk, _ = asked()
    refused(talk, message, match="cut short|without its end|bytes too many")


@pytest.mark.parametrize("tag", [b"", b"SELECT 1"])
def test_a_command_tag_without_its_end(tag: bytes) -> None:
    talk, _ = asked()
    refused(talk, backend.bind_complete(), backend.message(b"C", tag), match="CommandComplete from the server")


# Fault 5: errors that lack what errors have


@pytest.mark.fault(number=5)
@pytest.mark.parametrize(
    ("message", "text"),
    [
        (backend.error_response("no code", code=None), "no code"),
        (backend.error_response("no code", code=""), "no code"),
        (backend.error_response(b"caf\xe9", code=None, severity=None), "caf\N{REPLACEMENT CHARACTER}"),
        (backend.message(b"E", b"\0"), ""),
        (backend.message(b"E", b"Munknown field\0zwhat\0\0"), "unknown field"),
    ],
)
def test_an_error_without_sqlstate_or_in_another_encoding(message: bytes, text: str) -> None:
    talk, call = asked()
    after = talk.fetch(ECHO, 2)
    talk.flush()
    talk.reply(message, backend.ready_for_query(), rows(2))
    assert isinstance(call.error, exceptions.PostgresError)
    assert call.error.sqlstate is None
    assert str(call.error).startswith(text)
    assert after.value == [(2,)]


@pytest.mark.fault(number=5)
def test_an_error_with_every_field() -> None:
    talk, call = asked()
    talk.reply(failed(
        "23505", "duplicate key", detail="Key (a)=(1) already exists.", schema="public", table="t", constraint="t_pkey",
        column="a", datatype="int4", where="somewhere", position="8", routine="_bt_check_unique",
    ))  # fmt: skip
    error = call.error
    assert isinstance(error, exceptions.UniqueViolationError)
    assert (error.detail, error.table_name, error.constraint_name) == ("Key (a)=(1) already exists.", "t", "t_pkey")
    assert error.query == ECHO


# Fault 10: columns with names one would not expect


@pytest.mark.fault(number=10)
@pytest.mark.parametrize(
    "names",
    [
        ["import os", "__class__", "{0}", "%s", "\n", "'", '"', "\\"],
        ["a", "a", "a"],
        [""],
        [f"c{i}" for i in range(1600)],
        ["\N{SNOWMAN}", "x" * 63],
    ],
)
def test_columns_of_any_name_and_number_are_plain_data(names: list[str]) -> None:
    talk = Conversation()
    talk.know("SELECT *", [], [Field(name, INT4) for name in names])
    call = talk.fetch("SELECT *")
    talk.flush()
    talk.reply(backend.bind_complete(), backend.data_row(*[int4(i) for i in range(len(names))]), simple("SELECT 1"))
    (row,) = call.value
    assert list(row.keys()) == names
    assert tuple(row) == tuple(range(len(names)))
    for name in set(names):
        assert row[name] == len(names) - 1 - names[::-1].index(name)


@pytest.mark.fault(number=10)
def test_a_column_name_in_another_encoding() -> None:
    talk = Conversation()
    talk.know("SELECT *", [], [Field(b"caf\xe9", INT4)])
    call = talk.fetch("SELECT *")
    talk.flush()
    talk.reply(rows(1))
    assert list(call.value[0].keys()) == ["caf\N{REPLACEMENT CHARACTER}"]


# The whole of it once more, in pieces


@pytest.mark.parametrize("feed", [1, 2, 3, 7])
def test_pieces_of_any_size(feed: int) -> None:
    talk = echoing()
    calls = [talk.fetch(ECHO, i) for i in range(3)]
    talk.flush()
    data = b"".join(rows(i) for i in range(3))
    for i in range(0, len(data), feed):
        talk.reply(data[i : i + feed])
    assert [call.value for call in calls] == [[(i,)] for i in range(3)]


def test_a_reply_many_times_larger_than_the_buffer() -> None:
    talk, call = asked()
    talk.reply(rows(*range(100_000)))
    assert [row[0] for row in call.value] == list(range(100_000))
