"""Rows that become objects with lists, in all kinds of requests: which rows belong to which object."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import pytest

from headrace import exceptions
from headrace._core.pipeline.batch import Batch
from headrace._core.pipeline.group import Failure, Group
from headrace._core.pipeline.requests import Query
from headrace._io.driver import KIND_FIRST_ROW, KIND_ROWS
from headrace.rows import rows_as
from tests.core.pipeline.script import INT4, TEXT, Call, Conversation, Waiter, described, failed, int4
from tests.peers import backend, frontend
from tests.peers.backend import Field


@dataclass
class Item:
    number: int


@dataclass
class Parent:
    a: str | None
    b: str | None
    items: list[Item]


@dataclass
class Choosy:
    a: str | None
    items: list[Item]

    def __post_init__(self) -> None:
        if self.a == "bad":
            raise LookupError(f"bad, with {len(self.items)} items")


QUERY = "SELECT a, b, number AS items__number"
APART = "SELECT a, number AS items__number, b"
CHOOSY = "SELECT a, number AS items__number"
READY = backend.ready_for_query()


def knowing() -> Conversation:
    talk = Conversation()
    a, b, number = Field("a", TEXT), Field("b", TEXT), Field("items__number", INT4)
    talk.know(QUERY, [], [a, b, number])
    talk.know(APART, [], [a, number, b])
    talk.know(CHOOSY, [], [a, number])
    return talk


def ask(talk: Conversation, kind: int = KIND_ROWS, query: str = QUERY, row: Any = Parent, **options: Any) -> Call:
    waiter = Waiter()
    limit = 0 if kind == KIND_ROWS else 1
    with talk.cached(query) as statement:
        return talk.submit(Query(waiter, statement, (), kind, limit, 0, rows_as(row), **options), waiter)


def row(*values: str | int | None) -> bytes:
    return backend.data_row(*(int4(value) if isinstance(value, int) else value for value in values))


def answer(*rows: bytes, end: bytes | None = None) -> bytes:
    tag = backend.command_complete(f"SELECT {len(rows)}") if end is None else end
    return backend.bind_complete() + b"".join(rows) + tag


def limits(talk: Conversation) -> list[int]:
    return [message.limit for message in talk.messages if isinstance(message, frontend.Execute)]


@pytest.mark.parametrize("apart", [False, True], ids=["adjacent columns", "columns apart"])
def test_rows_of_one_object_agree_in_each_byte(apart: bool) -> None:
    keys = [("", ""), ("", None), (None, ""), (None, None), ("ab", "c"), ("a", "bc"), ("a\0", "bc"), ("a", "bcd")]
    talk = knowing()
    call = ask(talk, query=APART if apart else QUERY)
    talk.flush()
    sent = [row(a, n, b) if apart else row(a, b, n) for a, b in keys for n in (1, 2)]
    talk.reply(answer(*sent), READY)
    assert call.value == [Parent(a, b, [Item(1), Item(2)]) for a, b in keys]


def test_a_row_without_an_element() -> None:
    talk = knowing()
    call = ask(talk)
    talk.flush()
    talk.reply(answer(row("a", "b", None), row("c", "d", 1), row("c", "d", None), row("c", "d", 2)), READY)
    assert call.value == [Parent("a", "b", []), Parent("c", "d", [Item(1), Item(2)])]


def test_the_first_object_has_all_of_its_rows() -> None:
    talk = knowing()
    call = ask(talk, KIND_FIRST_ROW)
    talk.flush()
    assert limits(talk) == [0], "a limit would cut the list off"
    talk.reply(answer(*(row("a", "b", n) for n in range(5)), row("c", "d", 1), row("e", "f", 1)), READY)
    assert call.value == Parent("a", "b", [Item(n) for n in range(5)])
    call = ask(talk, KIND_FIRST_ROW)
    talk.flush()
    talk.reply(answer(row("a", "b", 1), row("a", "b", 2)), READY)
    assert call.value == Parent("a", "b", [Item(1), Item(2)]), "although no other object follows"
    call = ask(talk, KIND_FIRST_ROW)
    talk.flush()
    talk.reply(answer(), READY)
    assert call.value is None


@pytest.mark.parametrize("kind", [KIND_ROWS, KIND_FIRST_ROW])
def test_an_object_that_comes_back(kind: int) -> None:
    talk = knowing()
    call = ask(talk, kind)
    talk.flush()
    talk.reply(answer(row("a", "b", 1), row("c", "d", 1), row("a", "b", 2), row("e", "f", 2)), READY)
    assert isinstance(call.error, exceptions.InterfaceError)
    assert "rows of one Parent are not consecutive" in str(call.error)
    assert "ORDER BY is missing" in str(call.error)
    assert str(call.error.hint).endswith("ORDER BY a, b.")
    following = ask(talk)
    talk.flush()
    talk.reply(answer(row("a", "b", 1)), READY)
    assert following.value == [Parent("a", "b", [Item(1)])]


def test_only_the_first_object_of_fetchrow_must_not_come_back() -> None:
    talk = knowing()
    call = ask(talk, KIND_FIRST_ROW)
    talk.flush()
    talk.reply(answer(row("a", "b", 1), row("c", "d", 1), row("e", "f", 2), row("c", "d", 2)), READY)
    assert call.value == Parent("a", "b", [Item(1)])


def test_executions_of_a_batch_do_not_share_objects() -> None:
    talk = knowing()
    waiter = Waiter()
    with talk.cached(QUERY) as statement:
        call = talk.submit(Batch(waiter, statement, [()] * 4, rows_as(Parent), True), waiter)
    talk.flush()
    one = answer(row("a", "b", 1), row("a", "b", 2), row("c", "d", None))
    talk.reply(one, one, answer(), answer(row("c", "d", 3)), READY)
    first = [Parent("a", "b", [Item(1), Item(2)]), Parent("c", "d", [])]
    assert call.value == [*first, *first, Parent("c", "d", [Item(3)])]


def test_executions_of_a_group_do_not_share_objects() -> None:
    talk = knowing()
    calls = []
    for kind in (KIND_ROWS, KIND_FIRST_ROW):
        waiter = Waiter()
        limit = 0 if kind == KIND_ROWS else 1
        calls.append(talk.submit(Group(waiter, QUERY, [()] * 3, kind, limit, 0, rows_as(Parent)), waiter))
    talk.flush()
    assert limits(talk) == [0] * 6
    one = answer(row("a", "b", 1), row("a", "b", 2), row("c", "d", None))
    talk.reply(one, answer(), one, READY)
    first, second = Parent("a", "b", [Item(1), Item(2)]), Parent("c", "d", [])
    assert calls[0].value == [[first, second], [], [first, second]]
    talk.reply(one, answer(), one, READY)
    assert calls[1].value == [first, None, first]


def test_an_execution_of_a_group_fails_alone() -> None:
    talk = knowing()
    waiter = Waiter()
    call = talk.submit(Group(waiter, CHOOSY, [()] * 5, KIND_ROWS, 0, 0, rows_as(Choosy)), waiter)
    talk.flush()
    good = answer(row("good", 1))
    at_its_end, in_the_middle = answer(row("bad", 1), row("bad", 2)), answer(row("bad", 1), row("x", 2), row("x", 3))
    scattered = answer(row("a", 1), row("b", 1), row("a", 1))
    talk.reply(good, at_its_end, in_the_middle, scattered, good, READY)
    failures = [each.error if isinstance(each, Failure) else each for each in call.value]
    assert failures[0] == failures[4] == [Choosy("good", [Item(1)])]
    assert [str(each) for each in failures[1:3]] == ["bad, with 2 items", "bad, with 1 items"]
    assert "ORDER BY is missing" in str(failures[3])


def test_a_class_that_raises_fails_its_own_query_alone() -> None:
    talk = knowing()
    calls = [ask(talk, query=CHOOSY, row=Choosy) for _ in range(3)]
    talk.flush()
    talk.reply(answer(row("bad", 1)), READY)
    talk.reply(answer(row("bad", 1), row("x", 1), row("x", 2)), READY)
    talk.reply(answer(row("x", 1), row("x", 2)), READY)
    assert [repr(call.error) for call in calls[:2]] == ["LookupError('bad, with 1 items')"] * 2
    assert calls[2].value == [Choosy("x", [Item(1), Item(2)])]


def test_an_object_goes_on_in_the_next_part_of_a_portal() -> None:
    talk = knowing()
    opener = ask(talk, portal=b"p")
    talk.flush()
    rows = [row("a", "b", 1), row("a", "b", 2), row("c", "d", 3)]
    talk.reply(answer(*rows, end=backend.portal_suspended()), READY)
    assert opener.value == [Parent("a", "b", [Item(1), Item(2)])], "c may have more rows"

    def part(*rows: bytes, end: bytes) -> Any:
        call = ask(talk, portal=b"p", opener=opener.request)
        talk.flush()
        talk.reply(*rows, end, READY)
        return call.value

    assert part(row("c", "d", 4), end=backend.portal_suspended()) == []
    assert part(row("c", "d", 5), row("a", "b", 6), end=backend.portal_suspended()) == [
        Parent("c", "d", [Item(3), Item(4), Item(5)])
    ], "c is complete; a has come back, which a stream does not notice"
    assert part(end=backend.command_complete("SELECT 0")) == [Parent("a", "b", [Item(6)])]


def test_a_call_that_was_given_up_makes_no_objects() -> None:
    made = []

    @dataclass
    class Counted(Choosy):
        def __post_init__(self) -> None:
            made.append(self.a)

    talk = knowing()
    call = ask(talk, query=CHOOSY, row=Counted)
    talk.flush()
    talk.reply(backend.bind_complete(), row("x", 1))
    talk.cancel(call)
    talk.reply(row("y", 1), backend.command_complete("SELECT 2"), READY)
    assert made == []


def test_an_error_of_the_server_in_the_middle() -> None:
    talk = knowing()
    call = ask(talk)
    talk.flush()
    talk.reply(backend.bind_complete(), row("a", "b", 1), failed("57014"))
    assert isinstance(call.error, exceptions.QueryCanceledError)


@pytest.mark.fault(number=2)
@pytest.mark.parametrize(
    "body",
    [
        b"", b"\0", struct.pack("!H", 2), struct.pack("!Hiii", 3, -1, -1, -2), struct.pack("!Hiii", 3, -1, -1, 5),
        struct.pack("!Hii", 3, -1, -1), struct.pack("!Hiii", 3, -1, -1, -1) + b"x",
        struct.pack("!Hiii", 4, -1, -1, -1), struct.pack("!Hi", 3, 0x7FFFFFFF),
    ],
)  # fmt: skip
@pytest.mark.parametrize("before", [0, 1], ids=["the first row", "a later row"])
def test_a_malformed_row(body: bytes, before: int) -> None:
    talk = knowing()
    call = ask(talk)
    talk.flush()
    talk.reply(backend.bind_complete(), *[row("a", "b", 1)] * before)
    with pytest.raises(exceptions.ProtocolError):
        talk.reply(backend.message(b"D", body))
    assert not call.settled


@dataclass
class WithDefault:
    a: str
    items: list[Item] = field(default_factory=list)


@pytest.mark.parametrize("lists_appear", [True, False], ids=["lists appear", "lists disappear"])
def test_columns_that_change_between_objects_and_lists(lists_appear: bool) -> None:
    """The server was asked for one row, or for all of them, by the columns that were known."""
    flat, nested = [Field("a", TEXT)], [Field("a", TEXT), Field("items__number", INT4)]
    before, after = (flat, nested) if lists_appear else (nested, flat)
    talk = Conversation(unnamed_statements=True)
    first = ask(talk, KIND_FIRST_ROW, "SELECT *", WithDefault)
    assert talk.flush() == "PDS"
    talk.reply(described([], before))
    assert talk.flush() == "PBDES"
    assert limits(talk) == [1 if lists_appear else 0]
    talk.reply(backend.parse_complete(), backend.bind_complete(), backend.row_description(*after))
    talk.reply(row("x", 1) if lists_appear else row("x"), backend.command_complete("SELECT 1"), READY)
    assert isinstance(first.error, exceptions.OutdatedSchemaCacheError)
    again = ask(talk, KIND_FIRST_ROW, "SELECT *", WithDefault)
    assert talk.flush() == "PBDES"
    talk.reply(backend.parse_complete(), backend.bind_complete(), backend.row_description(*after))
    talk.reply(row("x", 1) if lists_appear else row("x"), backend.command_complete("SELECT 1"), READY)
    assert again.value == WithDefault("x", [Item(1)] if lists_appear else [])
