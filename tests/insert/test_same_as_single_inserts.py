"""Whatever the records, the columns, the conflicts, the way and the chunks: the outcome is that of single INSERTs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import headrace
import headrace.insert.methods

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.fixtures import Connect

DEFINITION = """(
    gone int, k int, n positive DEFAULT 7, tags text[] DEFAULT '{none}', p pair, ps pair[], doc jsonb,
    label label DEFAULT 'none', UNIQUE (k))"""
TABLES = f"""
    CREATE TYPE pair AS (x int, y text);
    CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE DOMAIN label AS varchar(5);
    CREATE TABLE copied {DEFINITION};
    CREATE TABLE arrays {DEFINITION} PARTITION BY RANGE (k);
    CREATE TABLE arrays_all PARTITION OF arrays DEFAULT;
    CREATE TABLE singly {DEFINITION};
    CREATE RULE one_by_one AS ON DELETE TO singly DO ALSO NOTHING;
    CREATE TABLE expected {DEFINITION};
    ALTER TABLE copied DROP COLUMN gone;
    ALTER TABLE arrays DROP COLUMN gone;
    ALTER TABLE singly DROP COLUMN gone;
    ALTER TABLE expected DROP COLUMN gone"""
WAYS = ["copied", "arrays", "singly"]

PAIRS = st.tuples(st.none() | st.integers(-5, 5), st.none() | st.text('a"(,\\ ', max_size=3))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "k": st.none() | st.integers(0, 12),
    "n": st.none() | st.integers(0, 40),  # 0 is refused
    "tags": st.none() | st.lists(st.none() | st.text('ab,{}" ', max_size=3), max_size=3),
    "p": st.none() | PAIRS,
    "ps": st.none() | st.lists(st.none() | PAIRS, max_size=2),
    "doc": st.none() | st.sampled_from(["1", '{"a": [1, null]}', '"x"']),
    "label": st.none() | st.text("xyz ", max_size=6),
}
POLICIES: list[dict[str, Any]] = [
    {},
    {"on_conflict": "ignore"},
    {"on_conflict": ("ignore", ["k"])},
    {"on_conflict": ("update", ["k"])},
    {"on_conflict": ("update", ["k"]), "update": {"n": "EXCLUDED.n + {table}.n"}},
]


def clause(policy: dict[str, Any], columns: list[str]) -> str:
    """Return the ON CONFLICT of the single INSERTs."""
    on_conflict = policy.get("on_conflict")
    if on_conflict is None:
        return ""
    if on_conflict == "ignore":
        return "ON CONFLICT DO NOTHING"
    others = [f"{name} = EXCLUDED.{name}" for name in columns if name != "k"]
    if "update" in policy:
        others = ["n = EXCLUDED.n + expected.n"]
    updates = on_conflict[0] == "update" and others
    return f"ON CONFLICT (k) DO {'UPDATE SET ' + ', '.join(others) if updates else 'NOTHING'}"


@pytest.fixture
async def conn(connect: Connect) -> AsyncIterator[headrace.Connection]:
    conn = await connect()
    await conn.execute(TABLES)
    yield conn
    await conn.execute("DROP TABLE copied, arrays, singly, expected; DROP TYPE pair; DROP DOMAIN positive, label")


async def outcome(conn: headrace.Connection, table: str, work: Any) -> Any:
    """Return the count and the rows that some work leaves in a table, or that it was refused; both are undone.

    Which of several wrong records is reported depends on how they travel.
    """
    transaction = conn.transaction()
    await transaction.start()
    try:
        await conn.execute(f"INSERT INTO {table} (k, n) VALUES (3, 20), (4, 30)")
        try:
            async with conn.transaction():
                count = await work()
        except (headrace.IntegrityConstraintViolationError, headrace.StringDataRightTruncationError):
            return "refused"
        rows = await conn.fetch(f"SELECT * FROM {table} ORDER BY {table}::text")
        return count, [tuple(row) for row in rows]
    finally:
        await transaction.rollback()


@pytest.mark.parametrize("way", WAYS)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_the_outcome(conn: headrace.Connection, way: str, data: st.DataObject) -> None:
    columns = data.draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, unique=True), label="columns")
    records = data.draw(st.lists(st.tuples(*(VALUES[name] for name in columns)), max_size=25), label="records")
    policy = data.draw(st.sampled_from(POLICIES), label="policy")
    as_mappings = data.draw(st.booleans(), label="as mappings")
    returning = data.draw(st.booleans(), label="returning")
    chunk = data.draw(st.integers(1, 9), label="chunk")
    if "update" in policy:
        policy = {**policy, "update": {"n": policy["update"]["n"].format(table=way)}}

    async def single() -> int:
        names, values = ", ".join(columns), ", ".join(f"${i}" for i in range(1, len(columns) + 1))
        text = f"INSERT INTO expected ({names}) VALUES ({values}) {clause(policy, columns)}"
        return sum([int((await conn.execute(text, *record)).split()[-1]) for record in records])

    async def together() -> int:
        given = [dict(zip(columns, record, strict=True)) for record in records] if as_mappings else records
        if returning:
            ordered = not policy
            rows = await conn.insert_records(way, given, columns=columns, returning=columns, ordered=ordered, **policy)
            if ordered:
                kept = [tuple(row) for row in rows]
                assert [row[: len(columns)] for row in kept] == [tuple(map(plain, record)) for record in records]
            return len(rows)
        count: int = await conn.insert_records(way, given, columns=columns, **policy)
        return count

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(headrace.insert.methods, "CHUNK_ROWS", chunk)
        assert await outcome(conn, way, together) == await outcome(conn, "expected", single)


def plain(value: Any) -> Any:
    """Return a value as the server gives it back: without the spaces that a label has no room for."""
    return value[:5] if isinstance(value, str) and value.endswith(" ") else value
