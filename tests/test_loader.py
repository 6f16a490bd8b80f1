"""The loader: keys asked for at about the same time travel in one statement, and each future gets its own row."""

from __future__ import annotations

import asyncio
import gc
import json
import uuid
import weakref
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple, TypedDict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import headrace
from headrace import ArgumentError, InterfaceError, Loader, LoaderKeyError, Range, Record
from tests.servers import Cluster

NUMBERS = "SELECT k AS id, 'n' || k AS name, cardinality($1) AS sent FROM unnest($1::int[]) AS k WHERE k < 1000"
"""A row for each key below 1000, with the number of keys that were sent."""

TEXTS = "SELECT lower(k) AS id, 'n' || k AS name FROM unnest($1::text[]) AS k"
PATIENCE = 30.0


class Sent(list[Any]):
    """The arguments of the queries that the connections of a pool have run."""

    async def init(self, connection: headrace.Connection) -> None:
        connection.add_query_logger(lambda query: self.append(query.args))

    @property
    def keys(self) -> list[list[Any]]:
        return [list(args[0]) for args in self if args]


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
async def shared(pool: Any, sent: Sent) -> headrace.Pool:
    made: headrace.Pool = await pool(min_size=2, max_size=2, init=sent.init)
    sent.clear()
    return made


def loader_of(source: Any, query: Any, **arguments: Any) -> Any:
    """Return a loader without the types that tests/typing/sample.py is about."""
    return Loader(source, query, **arguments)


async def error_of(future: Any) -> BaseException:
    try:
        found = await future
    except BaseException as error:
        return error
    raise AssertionError(f"no error, but {found!r}")


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# -- which keys travel together -------------------------------------------------------------------------------------


async def test_the_keys_of_one_turn_of_the_loop_travel_together_each_once(shared: headrace.Pool, sent: Sent) -> None:
    loader = loader_of(shared, NUMBERS, key="id")
    rows = await asyncio.gather(*[loader.load(key) for key in (3, 1, 2, 3, 1)])
    assert [row and row["name"] for row in rows] == ["n3", "n1", "n2", "n3", "n1"]
    assert [row and row["sent"] for row in rows] == [3] * 5
    assert sent.keys == [[3, 1, 2, 3, 1]], "the query log shows what was asked for"


async def test_those_of_many_tasks_and_of_load_many_travel_together_too(shared: headrace.Pool) -> None:
    loader = loader_of(shared, NUMBERS, key="id")

    async def task(key: int) -> int:
        row = await loader.load(key)
        assert row is not None
        return int(row["sent"])

    async def task_of_many() -> set[int]:
        return {row["sent"] for row in await loader.load_many(range(50)) if row}

    many, *each = await asyncio.gather(task_of_many(), *map(task, range(40, 90)))
    assert many == set(each) == {90}


async def test_those_that_are_asked_while_a_statement_is_under_way_travel_next(
    shared: headrace.Pool, sent: Sent
) -> None:
    """A key that is asked again joins them: its row may have been changed since it was asked first."""
    loader = loader_of(shared, NUMBERS, key="id")
    first = loader.load(1)
    await turns(1)
    again, other = loader.load(1), loader.load(2)
    await turns(1)
    third = loader.load(3)
    rows = await asyncio.gather(first, again, other, third)
    assert [row and row["sent"] for row in rows] == [1, 3, 3, 3]
    assert sent.keys == [[1], [1, 2, 3]]


async def test_a_key_without_a_row_gives_none_and_with_many_an_empty_list(shared: headrace.Pool) -> None:
    assert await loader_of(shared, NUMBERS, key="id").load_many([1000, 5]) == [None, (5, "n5", 2)]
    assert await loader_of(shared, NUMBERS, key="id", many=True).load_many([1000, 5]) == [[], [(5, "n5", 2)]]
    assert await loader_of(shared, NUMBERS, key="id").load_many([]) == []


async def test_many_gives_a_list_of_its_own_to_each_caller(shared: headrace.Pool) -> None:
    query = "SELECT k AS id, n FROM unnest($1::int[]) AS k, generate_series(1, k) AS n ORDER BY n"
    loader = loader_of(shared, query, key="id", many=True)
    three, one, again = await asyncio.gather(loader.load(3), loader.load(1), loader.load(3))
    assert (three, one) == ([(3, 1), (3, 2), (3, 3)], [(1, 1)])
    three.clear()
    assert again == [(3, 1), (3, 2), (3, 3)]


async def test_several_rows_for_a_key_are_an_error_of_that_key_alone_unless_many(shared: headrace.Pool) -> None:
    query = "SELECT k AS id FROM unnest($1::int[]) AS k, generate_series(1, k)"
    two, one = await loader_of(shared, query, key="id").load_many([2, 1], return_errors=True)
    assert one == (1,)
    assert isinstance(two, InterfaceError)
    assert "several rows for the key 2" in str(two)
    assert "many=True" in str(two)


async def test_a_statement_has_at_most_max_batch_size_keys(shared: headrace.Pool) -> None:
    loader = loader_of(shared, NUMBERS, key="id", max_batch_size=4)
    rows = await loader.load_many([*range(10), *range(10)])
    assert [row and row["id"] for row in rows] == [*range(10), *range(10)]
    assert sorted({row["id"]: row["sent"] for row in rows if row}.values()) == [2, 2] + [4] * 8, "each key once"


async def test_load_many_finds_its_keys_in_several_statements(shared: headrace.Pool) -> None:
    loader = loader_of(shared, NUMBERS, key="id", max_batch_size=3)
    first, second = loader.load_many([5, "x", 1, 2000, 4], return_errors=True), loader.load_many([4, 9, 5, 8])
    assert [row["id"] for row in await second if row] == [4, 9, 5, 8]
    found: list[Any] = await first
    assert isinstance(found[1], ArgumentError)
    assert [found[at] and found[at]["id"] for at in (0, 2, 3, 4)] == [5, 1, None, 4]


async def test_other_arguments_are_the_same_in_every_statement(shared: headrace.Pool) -> None:
    query = "SELECT k AS id, k * $2::int AS product, $3::text AS label FROM unnest($1::int[]) AS k"
    loader = loader_of(shared, query, key="id", args=(10, "ten"))
    assert await loader.load_many([1, 2]) == [(1, 10, "ten"), (2, 20, "ten")]


# -- which row belongs to which key ---------------------------------------------------------------------------------


UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")
NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("int", [1, True, Decimal(1)]),
        ("numeric", [1, Decimal("1.0"), Decimal("1.00"), 1.0]),
        ("uuid", [UUID, str(UUID), UUID.hex.upper()]),
        ("timestamptz", [NOON, NOON.astimezone(timezone(timedelta(hours=5)))]),
    ],
)
async def test_keys_that_are_one_value_of_the_type_get_the_same_row(
    shared: headrace.Pool, kind: str, keys: list[Any]
) -> None:
    query = f"SELECT DISTINCT k AS id FROM unnest($1::{kind}[]) AS k"
    loader = loader_of(shared, query, key="id")
    rows = await loader.load_many(keys)
    assert len(rows) == len(keys)
    assert all(row is not None and row["id"] == rows[0]["id"] for row in rows)


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("int", [1, True, Decimal(1)]),
        ("bool", [True, True]),
        ("numeric", [1, Decimal("1.0"), Decimal("1.00"), 1.0]),
        ("numeric", [Decimal("NaN"), float("nan")]),
        ("numeric", [0, Decimal("-0.00")]),
        ("float8", [0.0, -0.0, 0]),
        ("float4", [float("nan"), -float("nan")]),
        ("numrange", [Range(1, 2), Range(Decimal("1.0"), 2)]),
        ("uuid", [UUID, str(UUID), UUID.hex.upper()]),
        ("timestamptz", [NOON, NOON.astimezone(timezone(timedelta(hours=5)))]),
        ("interval", [timedelta(days=1), timedelta(hours=24)]),
    ],
)
@pytest.mark.parametrize("many", [False, True])
async def test_rows_are_not_repeated_for_keys_that_are_one_value_of_the_type(
    shared: headrace.Pool, kind: str, keys: list[Any], many: bool
) -> None:
    """A join returns a row for each element of the array: 1, 1.0 and 1.00 are one key, so they are one element."""
    query = f"SELECT id FROM unnest($1::{kind}[]) AS asked (id) JOIN (SELECT $2::{kind} AS id) AS one USING (id)"
    loader = loader_of(shared, query, key="id", many=many, args=keys[:1])
    alone = await loader.load(keys[0])
    assert len(alone) == 1
    assert len({repr(found) for found in await loader.load_many(keys)} | {repr(alone)}) == 1


async def test_lists_for_keys_that_only_the_server_finds_equal_are_never_doubled(shared: headrace.Pool) -> None:
    query = "SELECT one.id FROM unnest($1::jsonb[]) AS asked (id) JOIN (VALUES ('1'::jsonb)) AS one (id) USING (id)"
    loader = loader_of(shared, query, key="id", many=True)
    assert await loader.load("1") == [("1",)]
    errors = await loader.load_many(["1", "1.0"], return_errors=True)
    assert [type(error) for error in errors] == [LoaderKeyError, LoaderKeyError]
    assert "'1' and '1.0', which are the same key for the server" in str(errors[0])


async def test_a_naive_time_gets_the_row_of_the_aware_one_that_it_stands_for(shared: headrace.Pool) -> None:
    loader = loader_of(shared, "SELECT k AS id FROM unnest($1::timestamptz[]) AS k", key="id")
    naive = NOON.astimezone().replace(tzinfo=None)
    assert await loader.load(naive) == (NOON,)


async def test_a_bad_key_fails_alone(shared: headrace.Pool, sent: Sent) -> None:
    loader = loader_of(shared, NUMBERS, key="id")
    futures = [loader.load(key) for key in (1, "two", 3, 2**40, [4])]
    one, text, three, large, nested = await asyncio.gather(*futures, return_exceptions=True)
    assert (one, three) == ((1, "n1", 2), (3, "n3", 2))
    for error, shown in ((text, "'two'"), (large, str(2**40)), (nested, "[4]")):
        assert isinstance(error, ArgumentError)
        assert f"invalid key for a loader: {shown}" in str(error)
        assert "int4" in str(error)


async def test_nothing_is_sent_if_all_keys_are_bad(shared: headrace.Pool, sent: Sent) -> None:
    loader = loader_of(shared, NUMBERS, key="id")
    await loader.load(1)
    before = shared.stats()
    errors = await asyncio.gather(loader.load("a"), loader.load("b"), return_exceptions=True)
    assert ["'a'" in str(errors[0]), "'b'" in str(errors[1])] == [True, True]
    assert all(isinstance(error, ArgumentError) for error in errors)
    assert await loader.load(2) == (2, "n2", 1)
    assert shared.stats().opened == before.opened


async def test_a_row_that_nobody_asked_for_is_an_error_of_the_keys_without_a_row(shared: headrace.Pool) -> None:
    """They may be one key for the server; None would say that there is no such row."""
    loader = loader_of(shared, TEXTS, key="id")
    good, bad = await loader.load_many(["a", "B"], return_errors=True)
    assert good == ("a", "na")
    assert isinstance(bad, LoaderKeyError)
    assert (bad.key, bad.returned) == ("B", "b")
    assert "'B'" in str(bad)
    assert "id = 'b'" in str(bad)
    assert "position=" in str(bad)


async def test_lists_may_lack_a_row_that_nobody_asked_for(shared: headrace.Pool) -> None:
    """It may belong to any key, also to one that has other rows."""
    query = "SELECT id, k FROM unnest($1::text[]) AS k, LATERAL (VALUES (k), (lower(k))) AS same(id)"
    loader = loader_of(shared, query, key="id", many=True)
    (error,) = await loader.load_many(["A"], return_errors=True)
    assert isinstance(error, LoaderKeyError)
    assert (error.key, error.returned) == ("A", "a")


async def test_texts_for_a_char_n_do_not_depend_on_the_keys_beside_them(shared: headrace.Pool) -> None:
    """Of a char(n) the server ignores the blanks at the end; of a text it does not."""
    query = (
        "SELECT id, 1 AS n FROM (SELECT 'ab'::char(4) AS id) AS one WHERE id IN (SELECT unnest($1::text[])::char(4))"
    )
    for many in (False, True):
        loader = loader_of(shared, query, key="id", many=many)
        assert isinstance(await error_of(loader.load("ab")), LoaderKeyError)
        together: list[Any] = await loader.load_many(["ab", "ab  ", "zz"], return_errors=True)
        beside, padded, other = together
        assert isinstance(beside, LoaderKeyError)
        assert (beside.key, beside.returned) == ("ab", "ab  ")
        assert "the same key for the server" in str(beside)
        assert other == ([] if many else None)
        if many:
            assert isinstance(padded, LoaderKeyError)
        else:
            assert padded == ("ab  ", 1)


@pytest.mark.parametrize("many", [False, True])
async def test_keys_of_a_char_n_are_one_key_whatever_blanks_are_at_their_end(shared: headrace.Pool, many: bool) -> None:
    row: Any = [("ab  ",)] if many else ("ab  ",)
    for query in (
        "SELECT id FROM (SELECT 'ab'::char(4) AS id) AS one WHERE id = ANY($1::char(4)[])",
        "SELECT id FROM (SELECT 'ab'::char(4) AS id) AS one JOIN unnest($1::char(4)[]) AS asked (id) USING (id)",
    ):
        loader = loader_of(shared, query, key="id", many=many)
        assert await loader.load("ab") == row
        assert await loader.load_many(["ab", "ab  ", "zz", "ab "]) == [row, row, [] if many else None, row]


async def test_a_null_in_the_key_column_belongs_to_no_key(shared: headrace.Pool) -> None:
    loader = loader_of(shared, "SELECT NULLIF(k, 2) AS id FROM unnest($1::int[]) AS k", key="id")
    one, two = await loader.load_many([1, 2], return_errors=True)
    assert one == (1,)
    assert isinstance(two, LoaderKeyError)
    assert two.returned is None


POSITIONS = "SELECT asked.ord, lower(asked.k) AS name FROM unnest($1::text[]) WITH ORDINALITY AS asked(k, ord)"


async def test_with_positions_the_server_decides_which_row_belongs_to_a_key(shared: headrace.Pool) -> None:
    loader = loader_of(shared, POSITIONS, position="ord")
    rows = await loader.load_many(["A", "a", "b", "A"])
    assert [row and row["name"] for row in rows] == ["a", "a", "b", "a"]
    assert [row and row["ord"] for row in rows] == [1, 2, 3, 1]


async def test_with_positions_a_key_may_have_no_row_or_many(shared: headrace.Pool) -> None:
    query = f"{POSITIONS}, generate_series(1, length(k))"
    loader = loader_of(shared, query, position="ord", many=True)
    assert [len(rows) for rows in await loader.load_many(["abc", "", "x"])] == [3, 0, 1]


@pytest.mark.parametrize("position", ["0", "99", "NULL::bigint"])
async def test_a_position_that_was_not_sent_is_an_error(shared: headrace.Pool, position: str) -> None:
    loader = loader_of(shared, f"SELECT {position} AS ord FROM unnest($1::int[])", position="ord")
    error = await error_of(loader.load(1))
    assert isinstance(error, LoaderKeyError)
    assert "no position from 1 to 1" in str(error)


async def test_citext_needs_positions(pool: Any, server: Cluster, database: str) -> None:
    if server.version == 18:
        pytest.skip("the wheel of PostgreSQL 18 has no citext")
    server.sql("CREATE EXTENSION IF NOT EXISTS citext", database=database)
    server.sql("CREATE TABLE IF NOT EXISTS brand (name citext PRIMARY KEY)", database=database)
    server.sql("INSERT INTO brand VALUES ('Acme'), ('Zeta') ON CONFLICT DO NOTHING", database=database)
    made = await pool(min_size=1, max_size=1)
    by_value = loader_of(made, "SELECT name FROM brand WHERE name = ANY($1)", key="name")
    assert await by_value.load("Acme") == ("Acme",)
    assert isinstance(await error_of(by_value.load("acme")), LoaderKeyError)
    known, same, other = await by_value.load_many(["Acme", "acme", "none"], return_errors=True)
    assert (known, other) == (("Acme",), None)
    assert isinstance(same, LoaderKeyError)
    lists = loader_of(made, "SELECT name FROM brand WHERE name = ANY($1)", key="name", many=True)
    assert isinstance((await lists.load_many(["acme", "Acme"], return_errors=True))[0], LoaderKeyError)
    query = """SELECT asked.ord, brand.name FROM unnest($1::citext[]) WITH ORDINALITY AS asked(name, ord)
               JOIN brand USING (name)"""
    rows = await loader_of(made, query, position="ord").load_many(["acme", "ACME", "zeta", "none"])
    assert [row and row["name"] for row in rows] == ["Acme", "Acme", "Zeta", None]


JSON = headrace.TypeCodec(typename="jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)


async def test_keys_that_are_equal_in_python_alone_are_told_apart_or_refused(pool: Any) -> None:
    made = await pool(min_size=1, max_size=1, codecs=[JSON])
    by_value = loader_of(made, "SELECT k AS id FROM unnest($1::jsonb[]) AS k", key="id")
    one, true = await by_value.load_many([1, True], return_errors=True)
    assert one == (1,)
    assert isinstance(true, ArgumentError)
    assert "position=" in str(true)
    query = "SELECT ord, jsonb_typeof(k) AS kind FROM unnest($1::jsonb[]) WITH ORDINALITY AS asked(k, ord)"
    rows = await loader_of(made, query, position="ord").load_many([1, True, {"a": 1}, [1, 2]])
    assert [row and row["kind"] for row in rows] == ["number", "boolean", "object", "array"]


async def test_a_key_that_cannot_be_hashed_fails_alone(pool: Any) -> None:
    made = await pool(min_size=1, max_size=1, codecs=[JSON])
    loader = loader_of(made, "SELECT k AS id FROM unnest($1::jsonb[]) AS k", key="id")
    one, mapping = await loader.load_many([1, {"a": 1}], return_errors=True)
    assert one == (1,)
    assert isinstance(mapping, ArgumentError)
    assert "unhashable" in str(mapping)


async def test_keys_of_text_codecs_travel_in_an_array_of_texts(pool: Any) -> None:
    codec = headrace.TypeCodec(typename="text", schema="pg_catalog", encoder=str, decoder=str.upper)
    made = await pool(min_size=1, max_size=1, codecs=[codec])
    loader = loader_of(made, "SELECT k AS id, length(k) AS size FROM unnest($1::text[]) AS k", key="id")
    keys = ["plain", 'quo"te', "back\\slash", "comma,brace{}", "", "NULL", 17]
    rows = await loader.load_many(keys)
    assert [row and row["size"] for row in rows] == [len(str(key)) for key in keys]


# -- classes of rows ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Number:
    id: int
    name: str


@dataclass
class Named:
    name: str


class Pair(NamedTuple):
    name: str
    id: int


class Titled(TypedDict):
    name: str


class Row(Record):
    def label(self) -> str:
        return f"{self['id']}: {self['name']}"


TWO = "SELECT k AS id, 'n' || k AS name FROM unnest($1::int[]) AS k"


async def test_rows_are_objects_of_a_class_with_or_without_a_field_for_the_key(shared: headrace.Pool) -> None:
    assert await loader_of(shared, TWO, key="id", row=Number).load(5) == Number(5, "n5")
    assert await loader_of(shared, TWO, key="id", row=Named).load(5) == Named("n5")
    assert await loader_of(shared, TWO, key="id", row=Pair).load(5) == Pair("n5", 5)
    # A TypedDict takes any column that it has a key for.
    assert await loader_of(shared, TWO, key="id", row=Titled).load(5) == {"name": "n5"}
    assert await loader_of(shared, POSITIONS, position="ord", row=Named, many=True).load("A") == [Named("a")]
    row = await loader_of(shared, TWO, key="id", record_class=Row).load(5)
    assert row is not None
    assert row.label() == "5: n5"


async def test_a_class_that_does_not_fit_is_refused_before_anything_is_sent(shared: headrace.Pool, sent: Sent) -> None:
    @dataclass
    class Other:
        nam: str

    error = await error_of(loader_of(shared, TWO, key="id", row=Other).load(1))
    assert isinstance(error, InterfaceError)
    assert "no column for the field nam" in str(error)


async def test_the_record_class_of_the_pool_is_the_default(pool: Any) -> None:
    made = await pool(min_size=1, max_size=1, record_class=Row)
    row = await loader_of(made, TWO, key="id").load(5)
    assert isinstance(row, Row)


# -- mistakes -------------------------------------------------------------------------------------------------------


async def test_none_is_no_key(shared: headrace.Pool) -> None:
    loader = loader_of(shared, NUMBERS, key="id")
    with pytest.raises(InterfaceError, match="got None"):
        loader.load(None)
    with pytest.raises(InterfaceError, match="got None at position 1"):
        loader.load_many([1, None])


@pytest.mark.parametrize(
    ("query", "arguments", "message"),
    [
        ("SELECT k AS id FROM unnest($1::int[]) AS k", {"key": "ids"}, "returns no column ids, only id.*Is id meant"),
        ("SELECT k AS id, k AS id FROM unnest($1::int[]) AS k", {"key": "id"}, "returns 2 columns id"),
        ("CREATE TABLE x AS SELECT $1::int[]", {"key": "id"}, "returns no rows"),
        ("SELECT k::text AS id FROM unnest($1::int[]) AS k", {"key": "id"}, "sent as int4.*id is of type text"),
        ("SELECT k::timestamp AS id FROM unnest($1::timestamptz[]) AS k", {"key": "id"}, "sent as timestamptz"),
        ("SELECT 'a' AS ord FROM unnest($1::int[]) AS k", {"position": "ord"}, "expected to have the position"),
        ("SELECT $1::int AS id", {"key": "id"}, "expected to be an array.*ANY"),
    ],
)
async def test_a_query_that_does_not_suit_is_refused_before_it_is_run(
    shared: headrace.Pool, query: str, arguments: dict[str, Any], message: str
) -> None:
    loader = loader_of(shared, query, **arguments)
    errors = await asyncio.gather(loader.load(NOON if "stamp" in query else 1), loader.load(2), return_exceptions=True)
    error = errors[0]
    assert isinstance(error, InterfaceError)
    with pytest.raises(InterfaceError, match=f"(?s){message}"):
        raise error
    assert errors[1] is not error, "each future has an error of its own"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"key": "id", "query": "SELECT 1 AS id"}, "has no parameter"),
        ({"key": "id", "query": "SELECT $1::int[], $2::int, $3::int"}, r"2 more, but args has 0 values"),
        ({"key": "id", "args": (1,)}, "0 more, but args has 1 values"),
        ({"key": "id", "args": "text"}, "args is expected to be a sequence"),
        ({}, "either key= or position=, got neither"),
        ({"key": "id", "position": "ord"}, "got both"),
        ({"key": 5}, "key is expected to be the name of a column"),
        ({"key": "id", "max_batch_size": 0}, "greater than zero"),
        ({"key": "id", "max_batch_size": True}, "greater than zero"),
        ({"key": "id", "many": 1}, "many is expected"),
        ({"key": "id", "timeout": "soon"}, "timeout"),
        ({"key": "id", "cache": 100}, "cache is expected"),
        ({"key": "id", "row": int}, "row is expected"),
        ({"key": "id", "record_class": int}, "record_class is expected"),
        ({"key": "id", "row": Number, "record_class": Row}, "cannot both be given"),
        ({"key": "id", "source": "postgresql://"}, "a Pool or a Connection, got str"),
        ({"key": "id", "query": headrace.sql("SELECT :keys", keys=[1])}, "takes a text"),
    ],
)
async def test_arguments_that_make_no_sense(shared: headrace.Pool, arguments: dict[str, Any], message: str) -> None:
    given = {"source": shared, "query": NUMBERS, **arguments}
    with pytest.raises((InterfaceError, ValueError), match=message):
        loader_of(given.pop("source"), given.pop("query"), **given)


async def test_an_error_of_the_query_is_raised_in_every_future(shared: headrace.Pool) -> None:
    loader = loader_of(shared, "SELECT k AS id FROM missing_table WHERE k = ANY($1)", key="id")
    errors = await asyncio.gather(loader.load(1), loader.load(2), return_exceptions=True)
    assert all(isinstance(error, headrace.UndefinedTableError) for error in errors)
    assert errors[0] is not errors[1]


async def test_a_replaced_method_that_does_not_send_the_keys_is_noticed(pool: Any) -> None:
    class Other(headrace.Connection):
        async def fetch(self, query: Any, *args: Any, **kwargs: Any) -> Any:
            return await super().fetch(query, list(args[0]), **kwargs)

    made = await pool(min_size=1, max_size=1, connection_class=Other)
    error = await error_of(loader_of(made, NUMBERS, key="id").load(1))
    assert isinstance(error, InterfaceError)
    assert "was not sent with the keys" in str(error)


# -- data errors ----------------------------------------------------------------------------------------------------

DIVISION = "SELECT k AS id, 100 / k AS quotient FROM unnest($1::int[]) AS k"


async def test_a_data_error_is_raised_for_the_keys_that_cause_it_alone(shared: headrace.Pool, sent: Sent) -> None:
    loader = loader_of(shared, DIVISION, key="id")
    found = await loader.load_many([*range(1, 8), 0, "bad", 0], return_errors=True)
    assert found[:7] == [(k, 100 // k) for k in range(1, 8)]
    assert [type(error) for error in found[7:]] == [
        headrace.DivisionByZeroError,
        ArgumentError,
        headrace.DivisionByZeroError,
    ]
    assert len(sent) == 1 + 2 * 3, "halved three times"


async def test_text_that_is_no_value_of_the_type_fails_alone(shared: headrace.Pool) -> None:
    loader = loader_of(shared, "SELECT k AS id, k::int AS number FROM unnest($1::text[]) AS k", key="id")
    one, bad, three = await asyncio.gather(*map(loader.load, ("1", "two", "3")), return_exceptions=True)
    assert (one, three) == (("1", 1), ("3", 3))
    assert isinstance(bad, headrace.InvalidTextRepresentationError)


async def test_a_key_that_its_domain_refuses_fails_alone(shared: headrace.Pool) -> None:
    domain = "information_schema.cardinal_number"
    loader = loader_of(shared, f"SELECT k::int AS id FROM unnest($1::{domain}[]) AS k", key="id")
    one, bad, three = await asyncio.gather(*map(loader.load, (1, -2, 3)), return_exceptions=True)
    assert (one, three) == ((1,), (3,))
    assert isinstance(bad, headrace.CheckViolationError)


async def test_two_texts_of_one_jsonb_are_never_answered_by_no_row(shared: headrace.Pool) -> None:
    loader = loader_of(
        shared,
        """SELECT id FROM (VALUES ('{"a": 1, "b": [true]}'::jsonb)) AS v (id)
        WHERE id = ANY($1)""",
        key="id",
    )
    keys = ['{"a": 1, "b": [true]}', '{"b":[true], "a":1}', '{"a": 1.0, "b": [true]}', '{"a": "1", "b": [true]}']
    plain, spaced, decimal, other = await asyncio.gather(*map(loader.load, keys), return_exceptions=True)
    assert (plain, other) == ((keys[0],), None)
    for key, error in ((keys[1], spaced), (keys[2], decimal)):
        assert isinstance(error, LoaderKeyError)
        assert (error.key, error.returned) == (key, keys[0])


async def test_times_of_two_zones_are_two_keys_although_they_are_equal_in_python(shared: headrace.Pool) -> None:
    noon = time(12, tzinfo=UTC)
    east = time(13, tzinfo=timezone(timedelta(hours=1)))
    assert noon == east
    values = "(VALUES ('12:00+00'::timetz, 'noon'), ('13:00+01', 'east')) AS v (id, name)"
    loader = loader_of(shared, f"SELECT id, name FROM {values} WHERE id = ANY($1)", key="id", many=True)
    first, second = loader.load(noon), loader.load(east)
    assert await first == [(noon, "noon")]
    with pytest.raises(ArgumentError) as caught:
        await second
    assert "in Python, but not in PostgreSQL; with position= both can be asked for" in str(caught.value)
    query = f"SELECT ord, name FROM unnest($1::timetz[]) WITH ORDINALITY AS u (id, ord) JOIN {values} USING (id)"
    loader = loader_of(shared, query, position="ord")
    asked = loader.load(east), loader.load(noon)
    assert [await each for each in asked] == [(1, "east"), (2, "noon")]


async def test_a_row_that_python_cannot_hold_is_an_error_of_its_key_alone(shared: headrace.Pool) -> None:
    loader = loader_of(shared, "SELECT k AS id, make_date(k, 1, 1) AS day FROM unnest($1::int[]) AS k", key="id")
    rows = await loader.load_many([2000, 20000, 2001], return_errors=True)
    assert [rows[0]["day"].year, rows[2]["day"].year] == [2000, 2001]
    assert isinstance(rows[1], headrace.UnrepresentableValueError)


async def test_a_statement_is_not_repeated_unless_the_pool_repeats_reads(pool: Any, sent: Sent) -> None:
    made = await pool(min_size=1, max_size=1, init=sent.init, repeat_reads=False)
    sent.clear()
    errors = await loader_of(made, DIVISION, key="id").load_many([1, 0], return_errors=True)
    assert [type(error) for error in errors] == [headrace.DivisionByZeroError] * 2
    assert len(sent) == 1


async def test_what_is_no_plain_read_is_not_repeated(shared: headrace.Pool, sent: Sent) -> None:
    await shared.execute("CREATE TABLE IF NOT EXISTS written (id int, quotient int)")
    sent.clear()
    query = "INSERT INTO written SELECT k, 100 / k FROM unnest($1::int[]) AS k RETURNING id, quotient"
    loader = loader_of(shared, query, key="id")
    assert await loader.load_many([1, 2]) == [(1, 100), (2, 50)]
    errors = await loader.load_many([5, 0], return_errors=True)
    assert [type(error) for error in errors] == [headrace.DivisionByZeroError] * 2
    assert len(sent) == 2


# -- the futures ----------------------------------------------------------------------------------------------------


async def test_the_future_is_one_for_all_of_asyncio(shared: headrace.Pool) -> None:
    loader = loader_of(shared, NUMBERS, key="id")
    future = loader.load(1)
    assert isinstance(future, asyncio.Future)
    assert asyncio.isfuture(future)
    assert future.get_loop() is asyncio.get_running_loop()
    assert "pending" in repr(future)
    assert not future.done()
    with pytest.raises(asyncio.InvalidStateError):
        future.result()
    with pytest.raises(asyncio.InvalidStateError):
        future.exception()
    assert await asyncio.wait_for(future, PATIENCE) == (1, "n1", 1)
    assert (future.done(), future.cancelled(), future.exception()) == (True, False, None)
    assert future.result() == (1, "n1", 1)
    assert await future == (1, "n1", 1), "it can be awaited again"
    assert "n1" in repr(future)

    assert await asyncio.shield(loader.load(2)) == (2, "n2", 1)
    done, pending = await asyncio.wait([loader.load(3), loader.load(4)], timeout=PATIENCE)
    assert ({each.result()["id"] for each in done}, pending) == ({3, 4}, set())
    found = [(await each)["id"] for each in asyncio.as_completed([loader.load(5), loader.load(6)])]
    assert sorted(found) == [5, 6]
    first, second = loader.load(7), loader.load(8)
    done, pending = await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
    assert done

    async def twice(each: Any) -> Any:
        return await each

    shared_by_two = loader.load(9)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(twice(shared_by_two)) for _ in range(2)]
    assert [task.result()["id"] for task in tasks] == [9, 9]


def test_a_loop_can_run_until_it_is_done(connect_kwargs: dict[str, Any]) -> None:
    loop = asyncio.new_event_loop()
    try:
        made = loop.run_until_complete(headrace.create_pool(min_size=1, max_size=1, **connect_kwargs)._open())
        loader = loader_of(made, NUMBERS, key="id")

        async def ask() -> Any:
            return loader.load(1)

        assert loop.run_until_complete(loop.run_until_complete(ask())) == (1, "n1", 1)
        loop.run_until_complete(made.close())
    finally:
        loop.close()


async def test_callbacks_are_called_in_order_and_can_be_removed(shared: headrace.Pool) -> None:
    loader = loader_of(shared, NUMBERS, key="id")
    calls: list[Any] = []
    errors: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context["exception"]))

    def first(future: Any) -> None:
        calls.append(("first", future))

    def second(future: Any) -> None:
        calls.append(("second", future))
        raise LookupError("a mistake")

    def removed(future: Any) -> None:
        raise AssertionError("it was removed")

    def last(future: Any) -> None:
        calls.append(("last", future))

    one, two = loader.load(1), loader.load(2)
    for callback in (removed, first, removed, second, last):
        one.add_done_callback(callback)
    two.add_done_callback(first)
    assert one.remove_done_callback(removed) == 2
    assert one.remove_done_callback(removed) == 0
    await asyncio.gather(one, two)
    assert calls == [("first", one), ("second", one), ("last", one), ("first", two)]
    assert [type(error) for error in errors] == [LookupError]
    one.add_done_callback(last)
    assert len(calls) == 4, "never called at once"
    await turns(1)
    assert calls[4:] == [("last", one)]


async def test_an_error_that_nobody_asks_for_is_reported(shared: headrace.Pool) -> None:
    loader = loader_of(shared, NUMBERS, key="id")
    reports: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
    asked, future = loader.load("a"), loader.load("b")
    await asyncio.wait([asked, future])
    assert isinstance(asked.exception(), ArgumentError)
    del asked, future
    gc.collect()
    assert [str(report["exception"])[:29] for report in reports] == ["invalid key for a loader: 'b'"]


async def test_nothing_keeps_a_future_that_has_been_answered(shared: headrace.Pool) -> None:
    loader = loader_of(shared, NUMBERS, key="id")
    gc.disable()
    try:
        futures = [loader.load(1), loader.load("bad"), loader.load_many([2, 3])]
        references = [weakref.ref(future) for future in futures]
        await asyncio.gather(*futures, return_exceptions=True)
        await turns(3)
        futures.clear()
        assert [reference() for reference in references] == [None] * 3
    finally:
        gc.enable()


# -- cancellation ---------------------------------------------------------------------------------------------------


async def test_cancelling_one_future_affects_no_other_even_of_the_same_key(shared: headrace.Pool, sent: Sent) -> None:
    loader = loader_of(shared, NUMBERS, key="id")
    one, same, two, many = loader.load(1), loader.load(1), loader.load(2), loader.load_many([1, 3])
    assert one.cancel()
    assert not one.cancel()
    assert one.cancelled()
    await turns(2)
    assert two.cancel("no longer needed")
    row = await same
    assert row is not None
    assert row["id"] == 1
    assert [row and row["id"] for row in await many] == [1, 3]
    for future in (one, two):
        assert isinstance(await error_of(future), asyncio.CancelledError)
    assert str(await error_of(two)) == "no longer needed"


async def test_a_key_whose_futures_are_cancelled_in_time_is_not_sent(shared: headrace.Pool, sent: Sent) -> None:
    loader = loader_of(shared, NUMBERS, key="id")
    cancelled, kept = loader.load(1), loader.load(2)
    cancelled.cancel()
    assert await kept == (2, "n2", 1)
    loader.load(3).cancel()
    await turns(3)
    assert len(sent) == 1, "nothing is sent for nobody"
    assert await loader.load(4) == (4, "n4", 1)


SLEEP = "SELECT k AS id FROM unnest($1::int[]) AS k, pg_sleep(60)"


async def test_a_statement_for_which_nobody_waits_any_more_is_cancelled(pool: Any, server: Cluster) -> None:
    made = await pool(min_size=1, max_size=1)
    loader = loader_of(made, SLEEP, key="id")
    one, two, many = loader.load(1), loader.load(2), loader.load_many([2, 3])
    await until_asleep(server)
    next_one = loader.load(4)
    one.cancel()
    two.cancel()
    await turns(2)
    assert asleep(server) == 1, "one still waits"
    many.cancel()
    next_one.cancel()
    async with asyncio.timeout(PATIENCE):
        assert await loader_of(made, NUMBERS, key="id").load(1) == (1, "n1", 1)
    assert await made.fetchval("SELECT 1") == 1


def asleep(server: Cluster) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE '%unnest%'"
    return int(server.sql(query)[0][0])


async def until_asleep(server: Cluster) -> None:
    async with asyncio.timeout(PATIENCE):
        while not asleep(server):
            await asyncio.sleep(0.01)


async def test_tasks_cancelled_at_any_point_leave_a_loader_that_works(shared: headrace.Pool) -> None:
    """The task that waits is cancelled after each number of turns of the loop, until it is done before."""
    loader = loader_of(shared, NUMBERS, key="id", max_batch_size=2)
    for count in range(60):
        task = asyncio.ensure_future(asyncio.wait_for(loader.load(count), PATIENCE))
        others = asyncio.gather(loader.load(count), loader.load(500), loader.load(501))
        await turns(count)
        task.cancel()
        found: list[Any] = await asyncio.gather(*[task], return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError) or found[0]["id"] == count
        assert [row and row["id"] for row in await others] == [count, 500, 501]


async def test_the_tasks_of_the_loader_cancelled_by_others_cancel_the_futures(shared: headrace.Pool) -> None:
    """asyncio.run() cancels all tasks at its end."""
    loader = loader_of(shared, NUMBERS, key="id")
    for count in range(4):
        futures: list[Any] = [loader.load(1), loader.load(2)]
        await turns(count)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            if "Loader._run" in repr(task):
                task.cancel()
        found: list[Any] = await asyncio.gather(*futures, return_exceptions=True)
        cancelled = [isinstance(each, asyncio.CancelledError) for each in found]
        assert cancelled == [True, True] or found == [(1, "n1", 2), (2, "n2", 2)]
    assert await loader.load(3) == (3, "n3", 1)


async def test_a_time_limit_is_that_of_a_statement(pool: Any) -> None:
    made = await pool(min_size=1, max_size=1)
    loader = loader_of(made, SLEEP, key="id", timeout=0.05)
    errors = await asyncio.gather(loader.load(1), loader.load(2), return_exceptions=True)
    assert [type(error) for error in errors] == [TimeoutError] * 2
    assert await made.fetchval("SELECT 1") == 1


# -- ends -----------------------------------------------------------------------------------------------------------


async def test_a_pool_that_closes_answers_what_is_under_way_and_refuses_the_rest(pool: Any) -> None:
    made = await pool(min_size=1, max_size=1)
    loader = loader_of(made, NUMBERS, key="id")
    await loader.load(1)
    sent = loader.load(2)
    await turns(2)
    waiting = loader.load(3)
    await made.close()
    assert await sent == (2, "n2", 1)
    for error in (await error_of(waiting), await error_of(loader.load(4))):
        assert isinstance(error, InterfaceError)
        assert "pool is clos" in str(error)


async def test_a_pool_that_is_terminated_fails_what_is_under_way(pool: Any, server: Cluster) -> None:
    made = await pool(min_size=1, max_size=1)
    loader = loader_of(made, SLEEP, key="id")
    under_way = loader.load(1)
    await until_asleep(server)
    waiting = loader.load(2)
    made.terminate()
    for future in (under_way, waiting):
        assert isinstance(await error_of(future), (InterfaceError, headrace.ConnectionDoesNotExistError))


async def test_a_loader_of_a_pool_that_is_not_open(connect_kwargs: dict[str, Any]) -> None:
    made = headrace.create_pool(min_size=1, max_size=1, **connect_kwargs)
    error = await error_of(loader_of(made, NUMBERS, key="id").load(1))
    assert isinstance(error, InterfaceError)
    assert "not initialized" in str(error)


async def test_a_loader_belongs_to_one_event_loop(shared: headrace.Pool) -> None:
    loader = loader_of(shared, NUMBERS, key="id")
    await loader.load(1)

    async def elsewhere() -> None:
        loader.load(1)

    def run(main: Any) -> None:
        with pytest.raises(InterfaceError, match="another event loop"):
            asyncio.run(main())

    await asyncio.to_thread(run, elsewhere)

    def without_loop() -> None:
        with pytest.raises(InterfaceError, match="running event loop"):
            loader_of(shared, NUMBERS, key="id").load(1)

    await asyncio.to_thread(without_loop)


async def test_a_plain_read_whose_connection_is_killed_is_asked_again(
    pool: Any, server: Cluster, database: str
) -> None:
    server.sql("CREATE TABLE IF NOT EXISTS awake (yes bool)", database=database)
    server.sql("TRUNCATE awake", database=database)
    made = await pool(min_size=1, max_size=1)
    query = """SELECT k AS id FROM unnest($1::int[]) AS k,
               pg_sleep(CASE WHEN (SELECT count(*) FROM awake) < 1 THEN 60 ELSE 0 END)"""
    loader = loader_of(made, query, key="id")
    one, two = loader.load(1), loader.load(2)
    await until_asleep(server)
    server.sql("INSERT INTO awake VALUES (true)", database=database)
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
    assert list(await asyncio.gather(one, two)) == [(1,), (2,)]


# -- on a connection ------------------------------------------------------------------------------------------------


async def test_on_a_connection_it_sees_what_the_transaction_has_written(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TABLE IF NOT EXISTS own (id int, name text)")
    async with conn.transaction():
        await conn.execute("INSERT INTO own VALUES (1, 'mine')")
        loader = loader_of(conn, "SELECT * FROM own WHERE id = ANY($1)", key="id", max_batch_size=1)
        assert await loader.load_many([1, 2]) == [(1, "mine"), None]
        await conn.execute("DELETE FROM own")


async def test_on_a_leased_connection_it_ends_with_the_lease(shared: headrace.Pool) -> None:
    async with shared.acquire() as connection:
        loader = loader_of(connection, NUMBERS, key="id")
        assert await loader.load(1) == (1, "n1", 1)
    error = await error_of(loader.load(1))
    assert isinstance(error, InterfaceError)
    assert "released" in str(error)


async def test_on_a_connection_a_data_error_is_raised_in_every_future(conn: headrace.Connection) -> None:
    """A transaction that has failed cannot be asked again."""
    loader = loader_of(conn, DIVISION, key="id")
    async with conn.transaction():
        errors = await loader.load_many([1, 0], return_errors=True)
        assert [type(error) for error in errors] == [headrace.DivisionByZeroError] * 2
        raise_later = await error_of(loader.load(5))
        assert isinstance(raise_later, headrace.InFailedSQLTransactionError)
        await conn.execute("ROLLBACK; BEGIN")


async def test_on_a_connection_that_is_lost_every_future_gets_the_error(connect: Any, server: Cluster) -> None:
    connection = await connect()
    loader = loader_of(connection, SLEEP, key="id")
    one, two = loader.load(1), loader.load(2)
    await until_asleep(server)
    waiting = loader.load(3)
    server.sql("SELECT pg_terminate_backend(%s)", connection.get_server_pid())
    for future in (one, two):
        assert isinstance(await error_of(future), headrace.AdminShutdownError)
    assert isinstance(await error_of(waiting), (InterfaceError, headrace.ConnectionDoesNotExistError))


# -- the cache ------------------------------------------------------------------------------------------------------


async def test_without_a_cache_every_load_asks_the_server(shared: headrace.Pool, sent: Sent) -> None:
    loader = loader_of(shared, NUMBERS, key="id")
    await loader.load(1)
    await loader.load(1)
    assert sent.keys == [[1], [1]]
    for call in (lambda: loader.prime(1, None), lambda: loader.clear(1), loader.clear):
        with pytest.raises(InterfaceError, match="needs a cache"):
            call()


async def test_a_cache_keeps_rows_and_that_there_is_none(shared: headrace.Pool, sent: Sent) -> None:
    loader = loader_of(shared, NUMBERS, key="id", cache=True)
    first = await loader.load_many([1, 5000])
    assert await loader.load_many([5000, 2, 1]) == [None, (2, "n2", 1), first[0]]
    assert await loader.load(5000) is None
    assert sent.keys == [[1, 5000], [2]]
    errors = await asyncio.gather(loader.load("x"), loader.load("x"), return_exceptions=True)
    assert [type(error) for error in errors] == [ArgumentError] * 2
    assert isinstance(await error_of(loader.load("x")), ArgumentError), "errors are not kept"


async def test_a_cache_may_be_any_mapping_and_is_primed_and_cleared(shared: headrace.Pool, sent: Sent) -> None:
    kept: dict[Any, Any] = {}
    loader = loader_of(shared, NUMBERS, key="id", cache=kept)
    loader.prime(1, None)
    assert await loader.load(1) is None
    loader.clear(1)
    assert await loader.load(1) == (1, "n1", 1)
    assert list(kept) == [1]
    loader.prime(2, None)
    loader.clear()
    assert kept == {}
    assert await loader.load_many([1, 2]) == [(1, "n1", 2), (2, "n2", 2)]


async def test_what_is_cleared_while_its_statement_is_under_way_does_not_come_back(shared: headrace.Pool) -> None:
    kept: dict[Any, Any] = {}
    loader = loader_of(shared, NUMBERS, key="id", cache=kept)
    futures = [loader.load(key) for key in (1, 2, 3)]
    await turns(2)
    loader.clear(1)
    loader.prime(2, None)
    await asyncio.gather(*futures)
    assert (list(kept), kept[2]) == ([2, 3], None)
    futures = [loader.load(key) for key in (4, 5)]
    await turns(2)
    loader.clear()
    await asyncio.gather(*futures)
    assert kept == {}
    await loader.load(6)
    assert list(kept) == [6], "the next statement is kept again"
    future = loader.load(7)
    loader.prime(7, None)
    await future
    assert kept[7] is None


async def test_a_cached_list_is_each_callers_own(shared: headrace.Pool) -> None:
    loader = loader_of(shared, NUMBERS, key="id", many=True, cache=True)
    for _ in range(3):
        rows = await loader.load(1)
        assert rows == [(1, "n1", 1)]
        rows.clear()


async def test_a_key_that_a_cache_cannot_hold_is_refused(shared: headrace.Pool) -> None:
    loader = loader_of(shared, NUMBERS, key="id", cache=True)
    with pytest.raises(InterfaceError, match="hashable"):
        loader.load([1])
    with pytest.raises(InterfaceError, match="hashable"):
        loader.load_many([1, {}])
    with pytest.raises(InterfaceError, match="hashable"):
        loader.prime([1], None)
    with pytest.raises(InterfaceError, match="hashable"):
        loader.clear([1])


# -- against plain SQL ----------------------------------------------------------------------------------------------

TYPES: dict[str, Any] = {
    "int4": st.integers(-(2**31), 2**31 - 1) | st.integers(0, 20),
    "text": st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
    "uuid": st.uuids(),
    "numeric": st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20),
    "timestamptz": st.datetimes(timezones=st.just(UTC)),
    "bytea": st.binary(max_size=8),
    "bool": st.booleans(),
}


@pytest.fixture(params=TYPES)
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


async def test_each_key_gets_what_a_query_for_it_alone_returns(kind: str, pool: Any) -> None:
    """Rows exist for a half of the keys; some keys are asked for several times, in several turns and statements."""
    made = await pool(min_size=2, max_size=2)
    one = f"SELECT k AS id, md5(k::text) AS digest FROM unnest($1::{kind}[]) AS k WHERE md5(k::text) < '8'"
    values = f"SELECT DISTINCT ON (id) id, digest FROM ({one}) AS found"
    loop = asyncio.get_running_loop()

    async def check(turns_of_keys: list[list[Any]], size: int, many: bool) -> None:
        loader = loader_of(made, values, key="id", max_batch_size=size, many=many)
        futures = []
        for keys in turns_of_keys:
            futures += [(key, loader.load(key)) for key in keys]
            await asyncio.sleep(0)
        for key, future in futures:
            expected = await made.fetchrow(values, [key])
            if many:
                expected = [expected] if expected else []
            assert await future == expected

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.lists(TYPES[kind], max_size=8), max_size=4), st.integers(1, 6), st.booleans())
    def run(turns_of_keys: list[list[Any]], size: int, many: bool) -> None:
        asyncio.run_coroutine_threadsafe(check(turns_of_keys, size, many), loop).result(PATIENCE)

    await asyncio.to_thread(run)


async def test_with_positions_keys_that_the_server_finds_equal_get_the_row(
    pool: Any, server: Cluster, database: str
) -> None:
    if server.version == 18:
        pytest.skip("the wheel of PostgreSQL 18 has no citext")
    server.sql("CREATE EXTENSION IF NOT EXISTS citext", database=database)
    server.sql("CREATE TABLE IF NOT EXISTS word (word citext PRIMARY KEY)", database=database)
    server.sql("INSERT INTO word VALUES ('Ab'), ('bA'), ('ÄÖ'), ('') ON CONFLICT DO NOTHING", database=database)
    made = await pool(min_size=1, max_size=1)
    query = """SELECT ord, word.word FROM unnest($1::citext[]) WITH ORDINALITY AS asked(word, ord)
               JOIN word ON word.word = asked.word"""
    loop = asyncio.get_running_loop()

    async def check(keys: list[str], size: int) -> None:
        rows = await loader_of(made, query, position="ord", max_batch_size=size).load_many(keys)
        expected = [await made.fetchval("SELECT word FROM word WHERE word = $1", key) for key in keys]
        assert [row and row["word"] for row in rows] == expected

    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.text("aAbBäÖ", max_size=2), max_size=12), st.integers(1, 6))
    def run(keys: list[str], size: int) -> None:
        asyncio.run_coroutine_threadsafe(check(keys, size), loop).result(PATIENCE)

    await asyncio.to_thread(run)
