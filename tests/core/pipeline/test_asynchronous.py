"""Invariant 7: notices, notifications and parameter changes are routed outside the FIFO, at any point."""

from __future__ import annotations

import pytest

from headrace import exceptions
from tests.core.pipeline.script import ECHO, INT4, NUMBER, Conversation, echoing, int4, rows
from tests.peers import backend

ASYNCHRONOUS = (
    backend.notice_response("by the way"),
    backend.notification_response("news", "it snows", pid=7),
    backend.parameter_status("TimeZone", "Asia/Tokyo"),
)


def check(talk: Conversation, times: int) -> None:
    assert [notice.message for notice in talk.log.notices] == ["by the way"] * times
    assert talk.log.notifications == [(7, "news", "it snows")] * times
    assert talk.log.parameters == [("TimeZone", "Asia/Tokyo")] * times
    if times:
        assert talk.session.parameters["TimeZone"] == "Asia/Tokyo"


@pytest.mark.parametrize("at", range(10))
def test_between_any_two_messages_of_two_pipelined_requests(at: int) -> None:
    talk = echoing()
    calls = [talk.fetch(ECHO, 1), talk.fetch(ECHO, 2)]
    talk.flush()
    messages = [
        part
        for i in (1, 2)
        for part in (
            backend.bind_complete(), backend.data_row(int4(i)), backend.command_complete("SELECT 1"),
            backend.ready_for_query(),
        )
    ]  # fmt: skip
    messages[at:at] = ASYNCHRONOUS
    talk.reply(*messages)
    check(talk, 1)
    assert [call.value for call in calls] == [[(1,)], [(2,)]]


@pytest.mark.parametrize("at", range(4))
def test_while_a_statement_is_being_described(at: int) -> None:
    talk = Conversation()
    call = talk.fetch(ECHO, 1)
    talk.flush()
    messages = [
        backend.parse_complete(), backend.parameter_description(INT4), backend.row_description(NUMBER),
        backend.ready_for_query(),
    ]  # fmt: skip
    messages[at:at] = ASYNCHRONOUS
    talk.reply(*messages)
    talk.flush()
    talk.reply(rows(1))
    assert call.value == [(1,)]
    check(talk, 1)


def test_while_nothing_is_asked() -> None:
    talk = Conversation()
    talk.reply(*ASYNCHRONOUS)
    check(talk, 1)
    assert talk.idle


def test_during_start_up() -> None:
    talk = Conversation(greeted=False)
    call = talk.startup()
    talk.session.take_output()
    talk.reply(backend.notice_response("by the way"), backend.authentication_ok(), *ASYNCHRONOUS[1:])
    talk.reply(backend.backend_key_data(), backend.ready_for_query())
    assert call.settled
    check(talk, 1)


def test_a_warning_has_its_class_and_fields() -> None:
    talk = Conversation()
    talk.reply(backend.notice_response("there is no transaction in progress", code="25P01", severity="WARNING"))
    (notice,) = talk.log.notices
    assert (notice.severity, notice.sqlstate) == ("WARNING", "25P01")


@pytest.mark.fault(number=9)
def test_a_flood_among_pipelined_rows_keeps_order_and_memory() -> None:
    """Fault 9."""
    talk = echoing()
    calls = [talk.fetch(ECHO, i) for i in range(20)]
    talk.flush()
    flood = b"".join(ASYNCHRONOUS) * 50
    for i in range(20):
        talk.reply(
            flood, backend.bind_complete(), flood, backend.data_row(int4(i)), flood,
            backend.command_complete("SELECT 1"), backend.ready_for_query(),
        )  # fmt: skip
    assert [call.value for call in calls] == [[(i,)] for i in range(20)]
    check(talk, 3000)
    assert len(talk.session.parameters) == len(backend.PARAMETERS)


@pytest.mark.fault(number=9)
@pytest.mark.parametrize("encoding", ["UTF8", "utf-8", "UNICODE", "SQL_ASCII"])
def test_an_encoding_that_is_utf8_by_another_name_is_put_up_with(encoding: str) -> None:
    talk = Conversation()
    talk.reply(backend.parameter_status("client_encoding", encoding))
    assert talk.session.parameters["client_encoding"] == encoding


@pytest.mark.fault(number=9)
def test_a_change_of_client_encoding_ends_the_session() -> None:
    """What comes next would be read wrongly."""
    talk = Conversation()
    with pytest.raises(exceptions.ProtocolError, match="changed client_encoding to LATIN1"):
        talk.reply(backend.parameter_status("client_encoding", "LATIN1"))
