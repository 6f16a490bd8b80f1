"""Through a real PgBouncer, whose few backends take turns: what works is what docs/poolers.md says works."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from tests.pooler_calls import CALLS, Way

if TYPE_CHECKING:
    from tests.fixtures import Connect, MakePool
    from tests.pgbouncer import PgBouncer
    from tests.poolers import StartPgBouncer

    Rotating = Callable[..., Awaitable[PgBouncer]]

DOCUMENT = Path(__file__).parents[2] / "docs" / "poolers.md"

COLUMNS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "session": ({"pool_mode": "session", "default_pool_size": 10, "max_prepared_statements": 0}, {}),
    "kept": ({"max_prepared_statements": 100}, {}),
    "unnamed": ({"max_prepared_statements": 0}, {"statement_mode": "unnamed"}),
    "describe": ({"max_prepared_statements": 0}, {"statement_mode": "describe"}),
}
"""The columns of the table: what PgBouncer is configured with, and how the client connects."""


def documented() -> dict[str, dict[str, str]]:
    """Return the table of docs/poolers.md: "yes" or "no" by row and column."""
    found = re.search(r"^\| \| session pooling .*\n\|[- |]+\n((?:\|.*\n)+)", DOCUMENT.read_text(), re.MULTILINE)
    assert found is not None, "docs/poolers.md has its table of what works"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()]
    return {title: dict(zip(COLUMNS, cells, strict=True)) for title, *cells in rows}


@pytest.fixture
async def rotating(pgbouncer: StartPgBouncer, database: str, connect: Connect) -> Rotating:
    """`await rotating(**settings)`: a PgBouncer with three backends that take turns where it pools transactions."""

    async def rotating(**settings: Any) -> PgBouncer:
        pooler = pgbouncer(**settings)
        if settings.get("pool_mode", "transaction") == "transaction":
            clients = [await connect(**pooler.kwargs(database), statement_mode="unnamed") for _ in range(3)]
            # PgBouncer opens another backend only while all it has are taken.
            for client in clients:
                await client.execute("BEGIN")
            for client in clients:
                await client.execute("ROLLBACK")
            backends = {await clients[0].fetchval("SELECT pg_backend_pid()") for _ in range(6)}
            assert len(backends) == 3, "the backends do not take turns"
            for client in clients:
                await client.close()
        return pooler

    return rotating


@pytest.fixture
async def way(connect: Connect, pool: MakePool, database: str) -> Callable[..., Way]:
    """`way(pooler, **options)`: how calls get their connections."""

    def way(pooler: PgBouncer, **options: Any) -> Way:
        return Way(
            connect=lambda: connect(**pooler.kwargs(database), **options),
            pool=lambda: pool(**pooler.kwargs(database), min_size=2, max_size=5, **options),
            direct=connect,
        )

    return way


def test_the_table_has_a_row_for_each_call() -> None:
    assert list(documented()) == list(CALLS)


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("title", CALLS)
async def test_what_works(title: str, column: str, rotating: Rotating, way: Callable[..., Way]) -> None:
    settings, options = COLUMNS[column]
    calls = way(await rotating(**settings), **options)
    if documented()[title][column] == "yes":
        await CALLS[title](calls)
    else:
        with pytest.raises((AssertionError, headrace.PostgresError)):
            await CALLS[title](calls)


# Without the option


async def test_a_session_finds_out_by_itself_that_backends_are_switched(
    rotating: Rotating, connect: Connect, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    pooler = await rotating(max_prepared_statements=0)
    connection = await connect(**pooler.kwargs(database))
    with caplog.at_level(logging.WARNING, "headrace"):
        got = await asyncio.gather(*(connection.fetchval("SELECT $1::int", i) for i in range(50)))
        assert got == list(range(50))
        assert await connection.fetchval("SELECT $1::text", "other") == "other"
    (record,) = caplog.records
    assert 'statement_mode="unnamed"' in record.getMessage()


async def test_inside_a_transaction_a_statement_of_another_backend_is_an_error_that_says_what_to_do(
    rotating: Rotating, connect: Connect, database: str
) -> None:
    pooler = await rotating(max_prepared_statements=0)
    connection = await connect(**pooler.kwargs(database))
    async with connection.transaction():
        assert await connection.fetchval("SELECT $1::int", 1) == 1
    with pytest.raises(headrace.InvalidSQLStatementNameError, match="statement_mode"):
        async with connection.transaction():
            await connection.fetchval("SELECT $1::int", 2)


# What the driver can know of, and says


async def test_listening_is_refused_where_backends_are_switched(
    rotating: Rotating, connect: Connect, database: str
) -> None:
    pooler = await rotating(max_prepared_statements=0)
    connection = await connect(**pooler.kwargs(database), statement_mode="unnamed")
    with pytest.raises(headrace.FeatureNotSupportedError, match="LISTEN needs a backend of its own"):
        await connection.add_listener("news", print)
    assert await connection.fetchval("SELECT $1::int", 1) == 1


async def test_listening_needs_no_name_of_statements_where_the_server_itself_answers(connect: Connect) -> None:
    connection = await connect(statement_mode="unnamed")
    arrived = asyncio.Event()
    await connection.add_listener("news", lambda *_: arrived.set())
    await connection.execute("NOTIFY news")
    async with asyncio.timeout(10):
        await arrived.wait()


@pytest.mark.parametrize("given", [{"server_settings": {"work_mem": "8MB"}}, {"options": "-c work_mem=8MB"}])
async def test_a_startup_parameter_that_pgbouncer_refuses(
    pgbouncer: StartPgBouncer, database: str, given: dict[str, Any]
) -> None:
    pooler = pgbouncer(max_prepared_statements=0)
    with pytest.raises(headrace.PostgresError, match="unsupported startup parameter") as raised:
        await headrace.connect(**pooler.kwargs(database), **given)
    assert "work_mem" in (raised.value.hint or "") or "options" in (raised.value.hint or "")
    assert "ignore_startup_parameters" in (raised.value.hint or "")


@pytest.mark.parametrize("mode", ["Named", "", None, 1])
async def test_an_unknown_statement_mode_is_refused_before_anything_is_sent(mode: Any) -> None:
    with pytest.raises(ValueError, match="'named', 'unnamed' or 'describe'"):
        await headrace.connect("postgresql://127.0.0.1:1/", statement_mode=mode)


# Names


async def test_clients_behind_one_pooler_never_run_one_anothers_statements(
    rotating: Rotating, connect: Connect, database: str
) -> None:
    """Each name is given once in the world; two clients with the same numbers would meet on the same backends."""
    pooler = await rotating(max_prepared_statements=0)
    connections = [await connect(**pooler.kwargs(database)) for _ in range(2)]

    async def ask(connection: headrace.Connection, own: int) -> None:
        for i in range(20):
            assert await connection.fetchval(f"SELECT {own}, {i % 3}, $1::int", i) == own

    await asyncio.gather(*(ask(connection, own) for own, connection in enumerate(connections)))
