"""Scenes that were played to a real server, and are played again from its recorded words.

A scene is a generator: it asks, and yields for the answers to come in; it returns what came of its calls. It uses
nothing that differs from run to run. `python -m tests.core.pipeline.record` records them anew.
"""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable, Generator
from typing import Any

from headrace._core.pipeline.statement_cache import Statement
from tests.core.pipeline.script import Call, Conversation

Scene = Callable[[Conversation], Generator[None, None, list[Any]]]

TABLE = "CREATE TEMP TABLE t (a int PRIMARY KEY, b text)"


def outcome(call: Call) -> Any:
    """What came of a call, for comparison: its result, or class, SQLSTATE and text of its error and of its cause."""
    error = call.waiter.error
    if error is None:
        assert call.settled, f"{call.request!r} has no outcome"
        result = call.waiter.result
        return result.query if isinstance(result, Statement) else result
    cause = error.__cause__
    return [type(error).__name__, getattr(error, "sqlstate", None), str(error), type(cause).__name__ if cause else None]


def simple_queries(talk: Conversation) -> Generator[None, None, list[Any]]:
    """Scripts: several statements, an empty one, a warning, an error."""
    calls = [
        talk.script("SELECT 1; SELECT 'two'"),
        talk.script(""),
        talk.script("ROLLBACK"),
        talk.script("SELECT 1; SELECT 1 / 0; SELECT 2"),
        talk.script("SELECT 3"),
    ]
    yield
    return [*map(outcome, calls), [(notice.sqlstate, notice.message) for notice in talk.log.notices]]


def values(talk: Conversation) -> Generator[None, None, list[Any]]:
    """Arguments and columns of many types, NULL among them."""
    query = (
        "SELECT $1::int4, $2::text, $3::float8, $4::numeric, $5::date, $6::bytea, $7::int4[], $8::bool, NULL, $9::jsonb"
    )
    args: list[Any] = [
        7, "f\N{LATIN SMALL LETTER U WITH DIAERESIS}r", 1.5, decimal.Decimal("12.340"), datetime.date(2026, 2, 28),
        b"\0\xff", [1, None, 3], True, '{"a": [1, null]}',
    ]  # fmt: skip
    calls = [
        talk.fetch(query, *args),
        talk.fetch(query, *[None] * 9),
        talk.fetchval("SELECT count(*) FROM generate_series(1, 3)"),
    ]
    yield
    return [*map(outcome, calls), [list(row.keys()) for row in calls[0].value]]


def pipeline_with_errors(talk: Conversation) -> Generator[None, None, list[Any]]:
    """Good and bad requests side by side; a statement that cannot be parsed and those who wait for it."""
    echo, divide = "SELECT $1::int4 AS n", "SELECT 10 / $1::int4 AS n"
    warm = [talk.fetch(echo, 0), talk.fetch(divide, 1)]
    yield
    calls = [
        talk.fetch(echo, 1), talk.fetch(divide, 0), talk.fetch(echo, 2), talk.fetch("SELECT * FROM nowhere"),
        talk.fetch("SELECT * FROM nowhere"), talk.fetch(divide, 5), talk.fetch("SELECT $1::int4 + 'x'", 1),
        talk.fetch(echo, 3, shared=True),
    ]  # fmt: skip
    yield
    return [*map(outcome, warm), *map(outcome, calls)]


def failed_transaction(talk: Conversation) -> Generator[None, None, list[Any]]:
    """A transaction that fails, its followers, and a COMMIT that is answered by ROLLBACK."""
    warm = talk.fetch("SELECT 1 / $1::int4 AS n", 1)
    yield
    calls = [
        talk.script("BEGIN"), talk.fetch("SELECT 1 / $1::int4 AS n", 1), talk.fetch("SELECT 1 / $1::int4 AS n", 0),
        talk.fetch("SELECT 1 / $1::int4 AS n", 1), talk.script("SELECT 1"), talk.script("COMMIT", uncancellable=True),
        talk.script("BEGIN; SAVEPOINT s; SELECT 1 / 0"), talk.script("ROLLBACK TO s"), talk.script("COMMIT"),
    ]  # fmt: skip
    yield
    return [outcome(warm), *map(outcome, calls), talk.session.commands.status]


def batches(talk: Conversation) -> Generator[None, None, list[Any]]:
    """executemany() and fetchmany(), one of them with an element that violates a constraint."""
    create = talk.script(TABLE)
    insert = "INSERT INTO t VALUES ($1, $2) RETURNING a"
    calls = [
        create,
        talk.batch(insert, [(1, "one"), (2, None)], collects=True),
        talk.batch(insert, [(3, "three"), (1, "again"), (4, "four")]),
        talk.batch(insert, []),
        talk.fetch("SELECT * FROM t ORDER BY a"),
    ]
    yield
    return [*map(outcome, calls)]


def portal(talk: Conversation) -> Generator[None, None, list[Any]]:
    """A portal that is fetched from in portions, with other queries in between."""
    begin = talk.script("BEGIN")
    statement = talk.session.statements.hold("SELECT i FROM generate_series(1, $1::int4) AS i")
    prepared = talk.prepare(statement)
    yield
    first = talk.execute_statement(statement, 5, limit=2, portal=b"p")
    other = talk.fetch("SELECT 'in between'")
    second = talk.execute_statement(statement, limit=2, portal=b"p", opener=first.request)
    third = talk.execute_statement(statement, limit=2, portal=b"p", opener=first.request)
    after = talk.execute_statement(statement, limit=2, portal=b"p", opener=first.request)
    commit = talk.script("COMMIT")
    yield
    assert prepared.value is statement
    suspended = [call.request.suspended for call in (first, second, third)]
    return [*map(outcome, (begin, first, other, second, third, after, commit)), suspended]


def asynchronous(talk: Conversation) -> Generator[None, None, list[Any]]:
    """Notices, notifications and a changed parameter among replies."""
    calls = [
        talk.script("LISTEN news"),
        talk.script("NOTIFY news, 'it snows'; SET TimeZone = 'Asia/Tokyo'"),
        talk.script("DO $$BEGIN RAISE NOTICE 'by the way'; END$$"),
        talk.fetch("SELECT pg_notify('news', 'still') IS NULL AS n"),
    ]
    yield
    told = [notification[1:] for notification in talk.log.notifications]
    return [*map(outcome, calls), told, [notice.message for notice in talk.log.notices], talk.log.parameters]


def stale_statements(talk: Conversation) -> Generator[None, None, list[Any]]:
    """Cached statements under ALTER TABLE and a DEALLOCATE ALL out of sight, outside and inside of a transaction."""
    query = "SELECT * FROM t WHERE a = $1"
    calls = [talk.script(TABLE + "; INSERT INTO t VALUES (1, 'one')"), talk.fetch(query, 1)]
    yield
    calls += [talk.script("ALTER TABLE t ADD c int DEFAULT 5"), talk.fetch(query, 1), talk.fetch(query, 2)]
    yield
    calls += [
        talk.script("DO $$BEGIN EXECUTE 'DEALLOCATE ' || 'ALL'; END$$"),
        talk.fetch(query, 1),
        talk.batch(query, [(1,), (1,)], collects=True),
    ]
    yield
    calls += [talk.script("ALTER TABLE t DROP b"), talk.script("BEGIN"), talk.fetch(query, 1), talk.script("ROLLBACK")]
    calls.append(talk.fetch(query, 1))
    yield
    return [*map(outcome, calls)]


def types_met(talk: Conversation) -> Generator[None, None, list[Any]]:
    """Types that are looked up when they are first met: an enum, an array of it, a domain, a composite."""
    create = talk.script(
        "CREATE TYPE pg_temp.mood AS ENUM ('sad', 'glad'); CREATE DOMAIN pg_temp.small AS int CHECK (value < 10);"
        "CREATE TYPE pg_temp.pair AS (a int, m pg_temp.mood)"
    )
    yield
    calls = [
        create,
        talk.fetch("SELECT $1::pg_temp.mood, ARRAY['sad', 'glad']::pg_temp.mood[], 7::pg_temp.small", "glad"),
        talk.fetch("SELECT (1, 'sad')::pg_temp.pair AS p"),
    ]
    yield
    return [*map(outcome, calls)]


SCENES: dict[str, Scene] = {
    scene.__name__: scene
    for scene in (
        simple_queries,
        values,
        pipeline_with_errors,
        failed_transaction,
        batches,
        portal,
        asynchronous,
        stale_statements,
        types_met,
    )
}
