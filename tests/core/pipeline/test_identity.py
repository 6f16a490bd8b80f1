"""Which server this is: asked with the first types looked up, so that OIDs of one are never used on another."""

from __future__ import annotations

import struct

import pytest

from headrace import exceptions
from headrace._core.codecs import introspection
from headrace._core.codecs.catalogues import Catalogues
from headrace._core.codecs.typemap import TypeMap
from tests.core.pipeline.script import PID, Conversation, described, failed, int4, simple
from tests.peers import backend, frontend
from tests.peers.backend import Field

MOOD, SIZE = 900_001, 900_002
RECORD = 2249

QUERY = "SELECT 'sad'::mood AS m"
OTHER_QUERY = "SELECT 'ok'::mood AS m"


def answer(*rows: bytes) -> bytes:
    """The answer to a question of the driver's own, which is parsed with its execution."""
    return backend.parse_complete() + backend.bind_complete() + b"".join(rows) + simple(f"SELECT {len(rows)}")


def identity(system: str | None = "7", *, started: int = 1, database: int = 5, pid: int = PID) -> bytes:
    """The answer to the question which server this is."""
    known = None if system is None else system.encode()
    return answer(backend.data_row(known, struct.pack("!q", started), int4(database), int4(pid)))


def learnt(oid: int = MOOD, name: str = "mood") -> bytes:
    """The answer to the introspection query: one enum type."""
    values: dict[str, bytes | None] = dict.fromkeys((column for column, _ in introspection.COLUMNS), None)
    values.update(oid=int4(oid), name=name.encode(), schema=b"public", kind=b"e", element=int4(0), base=int4(0))
    values.update(delimiter=b",", binary=b"\x01", send=b"enum_send")
    return answer(backend.data_row(*values.values()))


def asked(talk: Conversation) -> list[str]:
    """The questions of the driver's own among the messages last flushed."""
    names = {introspection.IDENTITY: "which server", introspection.QUERY: "which types"}
    return [
        names[message.sql] for message in talk.messages if isinstance(message, frontend.Parse) and message.sql in names
    ]


def member(catalogues: Catalogues) -> Conversation:
    """A connection of a pool."""
    types = TypeMap(unidentified=True)
    catalogues.for_connection(types)
    talk = Conversation(types=types)
    talk.calls = []
    return talk


def describe(talk: Conversation, query: str = QUERY, oid: int = MOOD) -> None:
    """Ask a query whose column has a type that is not built in, and describe it."""
    talk.fetch(query)
    assert talk.flush() == "PDS"
    talk.reply(described([], [Field("m", oid)]))


def check_executed(talk: Conversation) -> None:
    """Check that the statement goes out, and that its caller gets its row."""
    assert talk.flush() == "BES"
    talk.reply(backend.bind_complete(), backend.data_row("sad"), simple("SELECT 1"))
    assert talk.calls is not None
    assert talk.calls[-1].value == [("sad",)]
    assert talk.idle


def introduced(catalogues: Catalogues, *, pid: int = PID) -> Conversation:
    """A connection that has told its server and executed a statement of the type."""
    talk = member(catalogues)
    describe(talk)
    assert (talk.flush(), asked(talk)) == ("PBES", ["which server"])
    talk.reply(identity(pid=pid))
    assert (talk.flush(), asked(talk)) == ("PBES", ["which types"])
    talk.reply(learnt())
    return talk


def test_the_first_asks_which_server_this_is_and_then_for_the_types() -> None:
    check_executed(introduced(Catalogues()))


def test_the_second_joins_it_by_the_answer_alone() -> None:
    catalogues = Catalogues()
    check_executed(introduced(catalogues))
    second = member(catalogues)
    describe(second)
    assert (second.flush(), asked(second)) == ("PBES", ["which server"])
    second.reply(identity())
    check_executed(second)


def test_a_connection_asks_once() -> None:
    talk = introduced(Catalogues())
    check_executed(talk)
    describe(talk, OTHER_QUERY)
    check_executed(talk)
    describe(talk, "SELECT 'xl'::size AS m", SIZE)
    assert (talk.flush(), asked(talk)) == ("PBES", ["which types"])
    talk.reply(learnt(SIZE, "size"))
    check_executed(talk)


def test_a_connection_that_meets_built_in_types_alone_is_never_asked() -> None:
    talk = member(Catalogues())
    talk.know("SELECT $1::int4[]", [1007], [Field("n", 1007)])
    assert talk.session.types.unidentified


def test_two_that_find_out_at_once_look_a_type_up_once() -> None:
    catalogues = Catalogues()
    first, second = member(catalogues), member(catalogues)
    for talk in (first, second):
        describe(talk)
        assert talk.flush() == "PBES"
    for talk in (first, second):
        talk.reply(identity())
    assert (first.flush(), second.flush()) == ("PBES", "")
    first.reply(learnt())
    assert second.log.woken == 1
    check_executed(first)
    check_executed(second)


@pytest.mark.parametrize(
    "other",
    [identity("8"), identity(started=2), identity(database=6)],
    ids=["another cluster", "started again", "another database"],
)
def test_what_one_server_has_said_is_not_used_on_another(other: bytes) -> None:
    catalogues = Catalogues()
    check_executed(introduced(catalogues))
    second = member(catalogues)
    describe(second)
    second.flush()
    second.reply(other)
    assert (second.flush(), asked(second)) == ("PBES", ["which types"])
    second.reply(learnt())
    check_executed(second)


def test_another_generation_of_connections_begins_anew() -> None:
    check_executed(introduced(Catalogues()))
    check_executed(introduced(Catalogues()))


@pytest.mark.parametrize("code", ["42501", "42883", "0A000", "XX000"])
def test_a_server_that_does_not_say_which_one_it_is_shares_with_nobody(code: str) -> None:
    catalogues = Catalogues()
    for _ in range(2):
        talk = member(catalogues)
        describe(talk)
        assert asked_after(talk) == ["which server"]
        talk.reply(failed(code))
        assert asked_after(talk) == ["which types"]
        talk.reply(learnt())
        check_executed(talk)
        describe(talk, "SELECT 'xl'::size AS m", SIZE)
        assert asked_after(talk) == ["which types"], "it is not asked again"
        talk.reply(learnt(SIZE, "size"))
        check_executed(talk)


def asked_after(talk: Conversation) -> list[str]:
    """The questions that the session wants written now."""
    talk.flush()
    return asked(talk)


@pytest.mark.parametrize("unsaid", [identity(None), answer()])
def test_half_an_answer_is_none(unsaid: bytes) -> None:
    catalogues = Catalogues()
    for _ in range(2):
        talk = member(catalogues)
        describe(talk)
        talk.flush()
        talk.reply(unsaid)
        assert asked_after(talk) == ["which types"]
        talk.reply(learnt())
        check_executed(talk)


def test_where_the_question_is_cancelled_the_next_caller_asks_it_again() -> None:
    talk = member(Catalogues())
    first, second = talk.fetch(QUERY), talk.fetch(QUERY)
    talk.flush()
    talk.reply(described([], [Field("m", MOOD)]))
    talk.flush()
    talk.reply(failed("57014"))
    assert first.error.sqlstate == "57014"
    assert talk.flush() == "PDS"
    talk.reply(described([], [Field("m", MOOD)]))
    assert asked_after(talk) == ["which server"]
    talk.reply(identity())
    assert asked_after(talk) == ["which types"]
    talk.reply(learnt())
    assert talk.flush() == "BES CS"
    talk.reply(backend.bind_complete(), backend.data_row("sad"), simple("SELECT 1"))
    talk.reply(backend.close_complete(), backend.ready_for_query())
    assert second.value == [("sad",)]
    assert talk.idle


def test_whoever_waits_when_the_connection_is_lost_learns_of_it() -> None:
    talk = member(Catalogues())
    describe(talk)
    talk.flush()
    talk.session.connection_lost("cut")
    assert talk.calls is not None
    assert isinstance(talk.calls[0].error, exceptions.ConnectionDoesNotExistError)


def test_a_caller_who_gives_up_meanwhile_leaves_the_connection_usable() -> None:
    talk = member(Catalogues())
    describe(talk)
    talk.flush()
    assert talk.calls is not None
    talk.cancel(talk.calls[0])
    talk.reply(identity())
    assert asked_after(talk) == ["which types"]
    talk.reply(learnt())
    assert talk.flush() == ""
    talk.fetch(QUERY)
    check_executed(talk)


def test_a_connection_that_shares_with_nobody_asks_both_together() -> None:
    talk = Conversation(types=TypeMap(unidentified=True))
    talk.calls = []
    describe(talk)
    assert (talk.flush(), asked(talk)) == ("PBES PBES", ["which server", "which types"])
    talk.reply(identity(), learnt())
    check_executed(talk)


# Types within anonymous records


def test_for_types_within_records_both_are_asked_together_and_the_answer_is_shared() -> None:
    catalogues = Catalogues()
    for _ in range(2):
        talk = member(catalogues)
        talk.know("SELECT ROW('sad'::mood) AS r", [], [Field("r", RECORD)])
        call = talk.fetch("SELECT ROW('sad'::mood) AS r")
        assert talk.flush() == "BES"
        row = int4(1) + int4(MOOD) + int4(3) + b"sad"
        talk.reply(backend.bind_complete(), backend.data_row(row), simple("SELECT 1"))
        assert (talk.flush(), asked(talk)) == ("PBES PBES", ["which server", "which types"])
        talk.reply(identity(), learnt())
        assert call.value == [(("sad",),)]
    joined = member(catalogues)
    describe(joined)
    joined.flush()
    joined.reply(identity())
    check_executed(joined)


@pytest.mark.parametrize("code", ["42501", "57014"])
def test_a_refused_question_costs_the_records_nothing(code: str) -> None:
    catalogues = Catalogues()
    talk = member(catalogues)
    talk.know("SELECT ROW('sad'::mood) AS r", [], [Field("r", RECORD)])
    call = talk.fetch("SELECT ROW('sad'::mood) AS r")
    talk.flush()
    row = int4(1) + int4(MOOD) + int4(3) + b"sad"
    talk.reply(backend.bind_complete(), backend.data_row(row), simple("SELECT 1"))
    talk.flush()
    talk.reply(failed(code), learnt())
    assert call.value == [(("sad",),)]
    describe(talk)
    check_executed(talk)


def test_records_whose_types_are_being_asked_for_are_settled_when_the_connection_is_lost() -> None:
    talk = member(Catalogues())
    talk.know("SELECT ROW('sad'::mood) AS r", [], [Field("r", RECORD)])
    call = talk.fetch("SELECT ROW('sad'::mood) AS r")
    talk.flush()
    row = int4(1) + int4(MOOD) + int4(3) + b"sad"
    talk.reply(backend.bind_complete(), backend.data_row(row), simple("SELECT 1"))
    talk.flush()
    talk.session.connection_lost("cut")
    assert call.settled


def test_what_was_learnt_before_the_server_is_known_goes_along() -> None:
    talk = member(Catalogues())
    talk.session.types.learn([SIZE], [row_of(SIZE, "size")])
    describe(talk)
    talk.flush()
    talk.reply(identity())
    assert asked_after(talk) == ["which types"]
    talk.reply(learnt())
    check_executed(talk)
    assert talk.session.types.missing([MOOD, SIZE]) == []


def row_of(oid: int, name: str) -> tuple[object, ...]:
    """A row of the introspection query, decoded: one enum type."""
    return (oid, name, "public", "e", 0, ",", 0, None, None, None, None, True, "enum_send")


# Behind a pooler


def test_where_another_backend_answers_types_are_looked_up_for_each_use() -> None:
    """The statement loses its name, so that its parameters and columns are checked by the backend that executes it."""
    talk = introduced(Catalogues(), pid=PID + 1)
    for _ in range(2):
        assert talk.flush() in ("PBDES CS", "PBDES")
        talk.reply(backend.parse_complete(), executed(MOOD))
        if frontend.Close in map(type, talk.messages):
            talk.reply(backend.close_complete(), backend.ready_for_query())
        assert talk.calls is not None
        assert talk.calls[-1].value == [("sad",)]
        assert talk.idle
        describe(talk)
        assert asked_after(talk) == ["which types"]
        talk.reply(learnt())


def executed(oid: int) -> bytes:
    """The answer to Bind, Describe and Execute: one row."""
    described = backend.row_description(Field("m", oid))
    return backend.bind_complete() + described + backend.data_row("sad") + simple("SELECT 1")


def test_columns_of_a_type_that_was_not_looked_up_on_the_backend_are_not_read() -> None:
    """The type is known, but of another backend: an error is better than a wrong value."""
    talk = Conversation(types=TypeMap(pooled=True), unnamed_statements=True)
    talk.calls = []
    describe(talk, "SELECT 'xl'::size AS m", SIZE)
    talk.flush()
    talk.reply(learnt(SIZE, "size"))
    talk.flush()
    talk.reply(backend.parse_complete(), executed(SIZE))
    describe(talk)
    talk.flush()
    talk.reply(learnt())
    assert talk.flush() == "PBDES"
    talk.reply(backend.parse_complete(), executed(SIZE))
    assert isinstance(talk.calls[-1].error, exceptions.OutdatedSchemaCacheError)
    assert talk.idle


def test_built_in_types_are_not_looked_up_there_either() -> None:
    talk = Conversation(types=TypeMap(pooled=True), unnamed_statements=True)
    for _ in range(2):
        call = talk.fetch("SELECT 1 AS m")
        if talk.flush() == "PDS":
            talk.reply(described([], [Field("m", 25)]))
            assert talk.flush() == "PBDES"
        talk.reply(backend.parse_complete(), executed(25))
        assert call.value == [("sad",)]
    assert talk.session.statements.prepared == 1


def test_where_there_is_one_server_types_are_looked_up_once_behind_a_pooler_too() -> None:
    catalogues = Catalogues()
    talks = []
    for _ in range(2):
        types = TypeMap(pooled=True, unidentified=True, single_server=True)
        catalogues.for_connection(types)
        talks.append(Conversation(types=types, unnamed_statements=True))
    first, second = talks
    for talk in talks:
        describe(talk)
    assert (first.flush(), asked(first)) == ("PBES", ["which types"])
    first.reply(learnt())
    for talk in talks:
        assert talk.flush() == "PBDES"
        talk.reply(backend.parse_complete(), executed(MOOD))
    again = second.fetch(QUERY)
    assert second.flush() == "PBDES"
    second.reply(backend.parse_complete(), executed(MOOD))
    assert again.value == [("sad",)]


def test_a_connection_that_finds_out_about_the_pooler_shares_no_more() -> None:
    catalogues = Catalogues()
    talk = introduced(catalogues)
    check_executed(talk)
    shared = talk.session.types.catalogue
    gone = failed("26000", 'prepared statement "x" does not exist')
    call = talk.fetch(QUERY)
    while not call.settled:
        words = talk.flush().split()
        for word in words:
            if word == "PDS":
                talk.reply(described([], [Field("m", MOOD)]))
            elif word == "BES":
                talk.reply(gone)
            elif word == "PBES":
                talk.reply(learnt())
            elif word == "PBDES":
                talk.reply(backend.parse_complete(), executed(MOOD))
            else:
                talk.reply(backend.close_complete(), backend.ready_for_query())
    assert call.value == [("sad",)]
    assert talk.log.switched == 1
    assert talk.session.types.catalogue is not shared
    assert introspected_again(talk)


def introspected_again(talk: Conversation) -> bool:
    """True if another use of the statement has its types looked up."""
    describe(talk)
    return asked_after(talk) == ["which types"]
