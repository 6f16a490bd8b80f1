"""The dialect postgresql+headrace: connecting, statements, transactions and errors as SQLAlchemy's users see them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event, exc, text
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import NullPool, StaticPool
from sqlalchemy.util.concurrency import greenlet_spawn

import headrace
from headrace.sqlalchemy import dbapi, errors

if TYPE_CHECKING:
    from tests.servers import Cluster

MakeEngine = Callable[..., AsyncEngine]


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(20), unique=True)
    details: Mapped[Any] = mapped_column(pg.JSONB, nullable=True)


ITEM = Item.__table__


@pytest.fixture
async def make_engine(server: Cluster, database: str) -> AsyncIterator[MakeEngine]:
    """A function that creates an engine for the test's database; `query` is added to the query of its URL."""
    made: list[AsyncEngine] = []

    def make(query: str = "", **kwargs: Any) -> AsyncEngine:
        url = sa.make_url(server.dsn(database)).set(drivername="postgresql+headrace")
        made.append(create_async_engine(url.update_query_string(query), **kwargs))
        return made[-1]

    yield make
    for each in made:
        await each.dispose()


@pytest.fixture
async def engine(make_engine: MakeEngine) -> AsyncEngine:
    made = make_engine(pool_size=2)
    await make_tables(made)
    return made


async def make_tables(engine: AsyncEngine) -> None:
    """Make the tables, without rows."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)


# -- connecting -----------------------------------------------------------------------------------------------------


async def test_the_dialect_is_found_by_its_name(engine: AsyncEngine) -> None:
    assert (engine.dialect.name, engine.dialect.driver) == ("postgresql", "headrace")


async def test_the_connection_of_the_driver_is_at_hand(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert isinstance(raw, headrace.Connection)
        assert await raw.copy_records_to_table("item", records=[(1, "chair", None)]) == "COPY 1"
        assert await connection.scalar(sa.select(Item.name)) == "chair"


async def test_options_of_libpq_and_of_headrace_may_stand_in_the_url(make_engine: MakeEngine) -> None:
    engine = make_engine("application_name=shop&command_timeout=7.5&statement_cache_size=0&single_server=true")
    async with engine.connect() as connection:
        assert await connection.scalar(text("SHOW application_name")) == "shop"
        assert await connection.scalar(text("SELECT count(*) FROM pg_prepared_statements")) == 0
        assert (await connection.get_raw_connection()).driver_connection._command_timeout == 7.5


@pytest.mark.parametrize(
    ("query", "error", "message"),
    [
        ("statement_cache_size=many", exc.ArgumentError, "option statement_cache_size in the URL: .*'many'"),
        ("single_server=perhaps", exc.ArgumentError, "expected true or false, got 'perhaps'"),
        ("colour=blue", exc.InterfaceError, 'unknown connection option "colour"'),
        ("colour=blue", exc.InterfaceError, "server_settings"),
        ("sslmode=perhaps", exc.InterfaceError, "sslmode"),
        ("ssl=require", exc.InterfaceError, 'Write "sslmode"'),
        ("prepared_statement_cache_size=0", exc.ArgumentError, "give statement_cache_size"),
        ("async_fallback=true", exc.ArgumentError, "leave it out"),
    ],
)
async def test_a_wrong_option_in_the_url_says_which(
    make_engine: MakeEngine, query: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        async with make_engine(query).connect():
            pass


async def test_options_of_the_asyncpg_dialect_in_connect_args_are_refused_with_the_remedy(
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(connect_args={"prepared_statement_name_func": lambda: "name"})
    with pytest.raises(exc.ArgumentError, match="no option prepared_statement_name_func: leave it out"):
        await engine.connect()


def arguments(url: str) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of headrace.connect() for a URL, without those that the dialect adds to every call."""
    positional, keywords = create_async_engine(url).dialect.create_connect_args(sa.make_url(url))
    for name in ("json", "max_cacheable_statement_size"):
        del keywords[name]
    return list(positional), dict(keywords)


@pytest.mark.parametrize(
    ("url", "keywords"),
    [
        ("ann:p%40ss%2F+ %25@db.example:5433/shop", {
            "user": "ann", "password": "p@ss/+ %", "host": "db.example", "port": 5433, "database": "shop",
        }),
        ("/shop?host=one:5432&host=two:5433", {"host": ["one", "two"], "port": ["5432", "5433"], "database": "shop"}),
        ("/shop?host=one:5433,two", {"host": ["one", "two"], "port": ["5433", ""], "database": "shop"}),
        ("db.example:5432/shop?host=one:5433", {"host": ["one"], "port": ["5433"], "database": "shop"}),
        ("/shop?direct_tls=true&timeout=2.5", {"direct_tls": True, "timeout": 2.5, "database": "shop"}),
        ("/shop?host=[fe80::1]:5433&host=[::1]:5434", {
            "host": ["fe80::1", "::1"], "port": ["5433", "5434"], "database": "shop",
        }),
    ],
)  # fmt: skip
def test_the_parts_of_a_url_are_the_arguments_of_connect(url: str, keywords: dict[str, Any]) -> None:
    assert arguments(f"postgresql+headrace://{url}") == ([], keywords)


@pytest.mark.parametrize(
    ("url", "dsn", "keywords"),
    [
        ("/shop?options=-c%20work_mem%3D3MB", "postgresql://?options=-c%20work_mem%3D3MB", {"database": "shop"}),
        ("/shop?application_name=a%26b%2Bc", "postgresql://?application_name=a%26b%2Bc", {"database": "shop"}),
        ("ann@/shop?user=bob&dbname=other", "postgresql://?user=bob&dbname=other", {}),
        ("one:5432/shop?host=/run/pg&port=5433", "postgresql://?host=%2Frun%2Fpg&port=5433", {"database": "shop"}),
        ("/shop?host=one&host=two", "postgresql://?host=one%2Ctwo", {"database": "shop"}),
    ],
)
def test_options_of_libpq_in_a_url_keep_their_values(url: str, dsn: str, keywords: dict[str, Any]) -> None:
    assert arguments(f"postgresql+headrace://{url}") == ([dsn], keywords)


def test_ports_are_given_in_one_way_only() -> None:
    with pytest.raises(exc.ArgumentError, match="leave out one of them"):
        create_async_engine("postgresql+headrace:///shop?host=one:5432&port=5433")


async def test_hosts_with_ports_in_the_url_are_connected_to(make_engine: MakeEngine, server: Cluster) -> None:
    engine = make_engine()
    url = engine.url.set(host=None, port=None).update_query_dict(
        {"host": ("127.0.0.1:1", f"127.0.0.1:{server.port}"), "options": "-c work_mem=3MB"}
    )
    other = create_async_engine(url.difference_update_query(["port"]))
    async with other.connect() as connection:
        assert await connection.scalar(text("SHOW work_mem")) == "3MB"
    await other.dispose()


async def test_a_listener_sees_and_changes_the_parts_of_the_url(make_engine: MakeEngine) -> None:
    engine = make_engine()

    @event.listens_for(engine.sync_engine, "do_connect")
    def name(dialect: Any, record: Any, arguments: list[Any], keywords: dict[str, Any]) -> None:
        keywords["server_settings"] = {"application_name": f"for {keywords['database']}"}

    async with engine.connect() as connection:
        assert await connection.scalar(text("SHOW application_name")) == f"for {engine.url.database}"


async def test_a_database_that_does_not_exist_is_an_operational_error(engine: AsyncEngine) -> None:
    missing = create_async_engine(engine.url.set(database="missing"))
    with pytest.raises(exc.OperationalError, match="does not exist") as raised:
        await missing.connect()
    assert raised.value.orig.sqlstate == "3D000"  # type: ignore[union-attr]


async def test_no_server_is_an_operational_error() -> None:
    nowhere = create_async_engine("postgresql+headrace://127.0.0.1:1/shop")
    with pytest.raises(exc.OperationalError):
        await nowhere.connect()


async def test_a_connection_of_the_program_s_own_making(make_engine: MakeEngine) -> None:
    made: list[headrace.Connection] = []

    async def creator(*args: Any, **kwargs: Any) -> headrace.Connection:
        made.append(await headrace.connect(*args, **kwargs))
        return made[-1]

    engine = make_engine(connect_args={"async_creator_fn": creator})
    async with engine.connect() as connection:
        assert (await connection.get_raw_connection()).driver_connection is made[0]


@pytest.mark.parametrize("lacking", ["sqlalchemy", "greenlet"])
def test_a_missing_package_is_named_with_its_remedy(lacking: str) -> None:
    program = f"import sys; sys.modules[{lacking!r}] = None; import headrace.sqlalchemy"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'headrace[sqlalchemy]'" in done.stderr


def test_an_old_sqlalchemy_is_named_with_its_remedy() -> None:
    program = "import sqlalchemy.ext.asyncio; sqlalchemy.__version__ = '1.4.54'; import headrace.sqlalchemy"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "needs SQLAlchemy 2.0.40 or newer, found 1.4.54: pip install 'headrace[sqlalchemy]'" in done.stderr


def test_nothing_of_sqlalchemy_is_imported_without_it() -> None:
    program = "import sys, headrace; print('sqlalchemy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_dialect_does_not_need_asyncpg() -> None:
    program = """
import sys
sys.modules["asyncpg"] = None
from sqlalchemy.ext.asyncio import create_async_engine
print(create_async_engine("postgresql+headrace://localhost/shop").dialect.driver)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "headrace\n"


# -- statements -----------------------------------------------------------------------------------------------------


async def test_rows_of_many_inserts_come_in_the_order_of_the_parameters(engine: AsyncEngine) -> None:
    rows = [{"name": f"item {number}"} for number in range(500)]
    async with engine.begin() as connection:
        statement = sa.insert(Item).returning(Item.id, Item.name, sort_by_parameter_order=True)
        made = (await connection.execute(statement, rows)).all()
    assert [row.name for row in made] == [row["name"] for row in rows]
    assert [row.id for row in made] == list(range(1, 501))


async def test_many_inserts_are_one_request(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        await connection.execute(sa.insert(Item).returning(Item.id), [{"name": "first"}, {"name": "second"}])
        before = raw._driver.request_count
        statement = sa.insert(Item).returning(Item.id)
        await connection.execute(statement, [{"name": f"item {number}"} for number in range(1000)])
        assert raw._driver.request_count - before == 1


async def test_inserts_of_many_rows_of_values_if_the_engine_says_so(
    make_engine: MakeEngine, engine: AsyncEngine
) -> None:
    special = make_engine(use_insertmanyvalues=True)
    rows = [{"name": f"item {number}"} for number in range(1000)]
    async with special.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        statement = sa.insert(Item).returning(Item.name, sort_by_parameter_order=True)
        for _ in range(2):
            before = raw._driver.request_count
            made = await connection.execute(statement, rows)
            assert [row.name for row in made] == [row["name"] for row in rows]
            requests = raw._driver.request_count - before
            await connection.rollback()
        assert requests == 1


async def test_a_long_statement_is_prepared_once(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        query = sa.select(Item.id).where(Item.id.in_(range(5000)))
        await connection.execute(query)
        before = raw._driver.request_count
        await connection.execute(query)
        assert raw._driver.request_count - before == 1
        prepared = await connection.scalar(
            text("SELECT count(*) FROM pg_prepared_statements WHERE length(statement) > 50000")
        )
        assert prepared == 1


async def test_objects_are_flushed_with_their_ids(engine: AsyncEngine) -> None:
    async with AsyncSession(engine, expire_on_commit=False) as session:
        items = [Item(name=f"item {number}") for number in range(100)]
        session.add_all(items)
        await session.commit()
        assert [item.id for item in items] == list(range(1, 101))
        assert (await session.scalars(sa.select(Item.name).where(Item.id == 7))).one() == "item 6"


@pytest.mark.parametrize(
    ("statement", "count"),
    [
        ("UPDATE item SET name = name || '!'", 3),
        ("DELETE FROM item WHERE id > 1", 2),
        ("INSERT INTO item (name) SELECT 'x' || g FROM generate_series(1, 5) g", 5),
        ("SELECT id FROM item", 3),
        ("CREATE TABLE IF NOT EXISTS other (a int)", -1),
    ],
)
async def test_the_row_count_is_that_of_the_command_tag(engine: AsyncEngine, statement: str, count: int) -> None:
    async with engine.connect() as connection:
        await connection.execute(sa.insert(Item), [{"name": name} for name in "abc"])
        assert (await connection.execute(text(statement))).rowcount == count


async def test_json_is_made_and_read_by_the_engine_s_functions(make_engine: MakeEngine, engine: AsyncEngine) -> None:
    special = make_engine(
        json_serializer=lambda value: json.dumps({"wrapped": value}),
        json_deserializer=lambda value: json.loads(value)["wrapped"],
    )
    async with special.begin() as connection:
        await connection.execute(sa.insert(Item), {"name": "a", "details": [1, None]})
        assert await connection.scalar(sa.select(Item.details)) == [1, None]
    async with engine.begin() as connection:
        assert await connection.scalar(sa.select(Item.details)) == {"wrapped": [1, None]}


async def test_addresses_are_texts_if_the_engine_says_so(make_engine: MakeEngine) -> None:
    engine = make_engine(native_inet_types=False)
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT '10.0.0.1'::inet")) == "10.0.0.1"
        assert await connection.scalar(text("SELECT CAST(:net AS cidr)"), {"net": "10.0.0.0/8"}) == "10.0.0.0/8"


async def test_a_stream_fetches_as_many_rows_at_a_time_as_yield_per_says(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        numbers = text("SELECT g FROM generate_series(1, 1000) g").execution_options(yield_per=100)
        result = await connection.stream(numbers)
        before = raw._driver.request_count
        assert [row.g async for row in result] == list(range(1, 1001))
        assert 10 <= raw._driver.request_count - before < 20


async def test_a_stream_that_is_left_early_leaves_the_connection_usable(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        async with connection.stream(text("SELECT g FROM generate_series(1, 1000) g")) as result:
            assert (await result.first()) == (1,)
        assert await connection.scalar(text("SELECT 2")) == 2


async def test_a_table_that_the_engine_alters_is_read_anew(engine: AsyncEngine) -> None:
    async with engine.connect() as one, engine.connect() as other:
        query = text("SELECT * FROM item")
        assert list((await one.execute(query)).keys()) == ["id", "name", "details"]
        await one.rollback()
        await other.execute(sa.DDL("ALTER TABLE item ADD COLUMN price int"))
        await other.commit()
        assert list((await one.execute(query)).keys()) == ["id", "name", "details", "price"]


async def test_rows_are_tuples_that_sqlalchemy_keeps_as_they_are(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:

        def rows(sync: sa.Connection) -> list[Any]:
            cursor: Any = sync.connection.cursor()
            cursor.execute("SELECT g, NULL, 'a' FROM generate_series(1, 2) g")
            found = cursor.fetchall()
            cursor.execute("SELECT FROM generate_series(1, 2)")
            return [*found, *cursor.fetchall()]

        found = await connection.run_sync(rows)
    assert found == [(1, None, "a"), (2, None, "a"), (), ()]
    assert {type(row) for row in found} == {tuple}


async def test_a_statement_outside_of_a_greenlet_sends_nothing(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
        raw = (await connection.get_raw_connection()).driver_connection
        before = raw._driver.request_count
        assert connection.sync_connection is not None
        for parameters in ({"name": "a"}, [{"name": "a"}, {"name": "b"}]):
            with pytest.raises(exc.MissingGreenlet):
                connection.sync_connection.execute(sa.insert(Item), parameters)
        assert raw._driver.request_count == before


# -- transactions ---------------------------------------------------------------------------------------------------


async def test_a_block_commits_or_rolls_back(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(sa.insert(Item), {"name": "kept"})
    with pytest.raises(LookupError):
        async with engine.begin() as connection:
            await connection.execute(sa.insert(Item), {"name": "lost"})
            raise LookupError
    async with engine.connect() as connection:
        assert (await connection.scalars(sa.select(Item.name))).all() == ["kept"]


async def test_a_savepoint_is_rolled_back_alone(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(sa.insert(Item), {"name": "a"})
        with pytest.raises(exc.IntegrityError):
            async with connection.begin_nested():
                await connection.execute(sa.insert(Item), {"name": "a"})
        async with connection.begin_nested():
            await connection.execute(sa.insert(Item), {"name": "b"})
    async with engine.connect() as connection:
        assert (await connection.scalars(sa.select(Item.name))).all() == ["a", "b"]


async def test_savepoints_are_not_prepared(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        for _ in range(3):
            async with connection.begin_nested():
                pass
        prepared = await connection.scalars(text("SELECT statement FROM pg_prepared_statements"))
        assert [statement for statement in prepared if "SAVEPOINT" in statement] == []


async def test_a_connection_that_goes_back_is_rolled_back_ahead_of_its_next_user(make_engine: MakeEngine) -> None:
    engine = make_engine(pool_size=1, max_overflow=0)
    await make_tables(engine)
    for _ in range(3):
        async with engine.connect() as connection:
            await connection.execute(sa.insert(Item), {"name": "lost"})
        async with engine.connect() as connection:
            assert await connection.scalar(sa.select(sa.func.count()).select_from(Item)) == 0


async def test_a_connection_that_goes_back_does_not_wait_for_the_rollback(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        await connection.execute(text("SELECT 1"))
    assert raw._driver.pending == 1


async def test_a_session_that_is_closed_does_not_wait_for_the_rollback(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        raw = (await (await session.connection()).get_raw_connection()).driver_connection
        await session.execute(text("SELECT 1"))
    assert raw._driver.pending == 1
    async with AsyncSession(engine) as session:
        await session.execute(text("SELECT 1"))
        await session.rollback()
        assert raw._driver.pending == 0


async def test_a_closed_session_is_rolled_back_ahead_of_the_connection_s_next_user(make_engine: MakeEngine) -> None:
    engine = make_engine(pool_size=1, max_overflow=0)
    await make_tables(engine)
    for _ in range(3):
        async with AsyncSession(engine) as session:
            session.add(Item(name="lost"))
            await session.flush()
            async with session.begin_nested():
                session.add(Item(name="lost too"))
        async with AsyncSession(engine) as session:
            assert (await session.scalars(sa.select(Item.name))).all() == []


async def test_a_program_that_blocks_its_loop_finds_the_locks_gone(
    engine: AsyncEngine, server: Cluster, database: str
) -> None:
    """Code right behind the block may wait for its locks without giving the event loop a turn."""
    for _ in range(3):
        async with engine.connect() as connection:
            await connection.execute(text("LOCK TABLE item IN ACCESS EXCLUSIVE MODE"))
        server.sql("SET lock_timeout = '20s'; SELECT count(*) FROM item", database=database)
        async with AsyncSession(engine) as session:
            await session.execute(text("LOCK TABLE item IN ACCESS EXCLUSIVE MODE"))
        server.sql("SET lock_timeout = '20s'; SELECT count(*) FROM item", database=database)


async def test_a_transaction_behind_a_rollback_that_nobody_waits_for_begins_at_once(make_engine: MakeEngine) -> None:
    """The ROLLBACK, BEGIN and the first statement travel together."""
    engine = make_engine(pool_size=1, max_overflow=0)
    counts = []
    for _ in range(4):
        async with engine.connect() as connection:
            raw = (await connection.get_raw_connection()).driver_connection
            before = raw._driver.request_count
            await connection.execute(text("SELECT 1"))
            counts.append(raw._driver.request_count - before)
    assert counts[2:] == [1, 1]


async def test_a_transaction_left_open_on_the_driver_s_connection_is_rolled_back_too(make_engine: MakeEngine) -> None:
    engine = make_engine(pool_size=1, max_overflow=0)
    await make_tables(engine)
    for query in ("", "SELECT 1"):
        async with engine.connect() as connection:
            raw = (await connection.get_raw_connection()).driver_connection
            await raw.transaction().start()
            await raw.execute("INSERT INTO item (name) VALUES ('lost')")
            if query:
                await connection.execute(text(query))
        async with engine.connect() as connection:
            assert await connection.scalar(sa.select(sa.func.count()).select_from(Item)) == 0


async def test_a_begin_sent_to_the_driver_s_connection_is_rolled_back_too(make_engine: MakeEngine) -> None:
    engine = make_engine(pool_size=1, max_overflow=0)
    async with engine.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        await raw.execute("BEGIN")
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1


async def test_a_connection_outside_of_transactions_goes_back_without_a_rollback(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        raw = (await connection.get_raw_connection()).driver_connection
        await connection.execute(text("SELECT 1"))
    assert raw._driver.pending == 0


async def test_a_detached_connection_raises_the_server_s_errors(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.run_sync(lambda sync: sync.detach())
        with pytest.raises(exc.ProgrammingError, match="syntax error"):
            await connection.execute(text("SELEC"))
        await connection.rollback()
        assert await connection.scalar(text("SELECT 1")) == 1


async def test_a_rollback_has_freed_its_locks_when_it_returns(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(sa.insert(Item), {"name": "a"})
    lock = text("SELECT id FROM item FOR UPDATE NOWAIT")
    async with engine.connect() as one, engine.connect() as other:
        for _ in range(20):
            await one.execute(lock)
            await one.rollback()
            await other.execute(lock)
            await other.rollback()


@pytest.mark.parametrize("level", ["READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
async def test_the_level_of_a_connection_ends_with_it(engine: AsyncEngine, level: str) -> None:
    shown = text("SHOW transaction_isolation")
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level=level)
        assert await connection.scalar(shown) == level.lower()
    async with engine.connect() as connection:
        assert await connection.scalar(shown) == "read committed"


async def test_autocommit_begins_no_transaction(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(sa.insert(Item), {"name": "a"})
        await connection.execute(text("VACUUM item"))
    async with engine.connect() as connection:
        assert await connection.scalar(sa.select(Item.name)) == "a"


async def test_readonly_and_deferrable_are_options_of_the_connection(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execution_options(
            isolation_level="SERIALIZABLE", postgresql_readonly=True, postgresql_deferrable=True
        )
        assert await connection.scalar(text("SHOW transaction_deferrable")) == "on"
        with pytest.raises(exc.InternalError, match="read-only transaction"):
            await connection.execute(sa.insert(Item), {"name": "a"})


@pytest.fixture
def prepares(server: Cluster) -> None:
    if int(server.sql("SHOW max_prepared_transactions")[0][0]) == 0:
        pytest.skip(f"{server.name} has max_prepared_transactions = 0")


@pytest.mark.usefixtures("prepares")
@pytest.mark.parametrize("kept", [True, False])
async def test_a_commit_in_two_phases(engine: AsyncEngine, kept: bool) -> None:
    async with engine.connect() as connection:
        transaction = await connection.run_sync(lambda sync: sync.begin_twophase("it's one"))
        await connection.execute(sa.insert(Item), {"name": "a"})
        await connection.run_sync(lambda sync: transaction.prepare())
        assert await connection.run_sync(lambda sync: sync.recover_twophase()) == ["it's one"]
        await connection.run_sync(lambda sync: transaction.commit() if kept else transaction.rollback())
    async with engine.connect() as connection:
        assert (await connection.scalars(sa.select(Item.name))).all() == ["a"] * kept


@pytest.mark.usefixtures("prepares")
async def test_an_empty_transaction_is_prepared(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        transaction = await connection.run_sync(lambda sync: sync.begin_twophase("empty"))
        await connection.run_sync(lambda sync: transaction.prepare())
        await connection.run_sync(lambda sync: transaction.commit())
        assert await connection.scalar(text("SELECT count(*) FROM pg_prepared_xacts WHERE gid = 'empty'")) == 0


@pytest.mark.usefixtures("prepares")
async def test_a_transaction_that_the_server_does_not_prepare_is_rolled_back(engine: AsyncEngine) -> None:
    async with engine.connect() as one, engine.connect() as other:
        first = await one.run_sync(lambda sync: sync.begin_twophase("twice"))
        await one.run_sync(lambda sync: first.prepare())
        second = await other.run_sync(lambda sync: sync.begin_twophase("twice"))
        await other.execute(sa.insert(Item), {"name": "lost"})
        with pytest.raises(exc.ProgrammingError, match="already in use"):
            await other.run_sync(lambda sync: second.prepare())
        await other.run_sync(lambda sync: second.rollback())
        assert await other.scalar(sa.select(sa.func.count()).select_from(Item)) == 0
        await one.run_sync(lambda sync: first.rollback())


@pytest.mark.parametrize("method", ["commit_prepared", "rollback_prepared"])
async def test_a_prepared_transaction_that_does_not_exist_is_sqlalchemy_s_error(
    engine: AsyncEngine, method: str
) -> None:
    async with engine.connect() as connection:
        with pytest.raises(exc.ProgrammingError, match='"nothing" does not exist'):
            await connection.run_sync(lambda sync: getattr(sync, method)("nothing", recover=True))


# -- coroutines that seldom wait --------------------------------------------------------------------------------------


async def waits(future: asyncio.Future[int]) -> int:
    try:
        return await future + await asyncio.sleep(0, 1)
    except asyncio.CancelledError:
        return -1


async def test_a_coroutine_that_does_not_wait_is_run_on_the_spot() -> None:
    async def at_once() -> int:
        return 7

    assert dbapi.run(at_once()) == 7


async def test_a_coroutine_that_has_to_wait_does() -> None:
    future = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(greenlet_spawn(dbapi.run, waits(future)))
    await asyncio.sleep(0)
    future.set_result(6)
    assert await task == 7


async def test_a_coroutine_that_waits_learns_of_errors_and_cancellation() -> None:
    future = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(greenlet_spawn(dbapi.run, waits(future)))
    await asyncio.sleep(0)
    future.set_exception(LookupError("lost"))
    with pytest.raises(LookupError, match="lost"):
        await task
    task = asyncio.create_task(greenlet_spawn(dbapi.run, waits(asyncio.get_running_loop().create_future())))
    await asyncio.sleep(0)
    task.cancel()
    assert await task == -1


# -- errors and lost connections ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("SELEC", exc.ProgrammingError),
        ("SELECT * FROM nothing", exc.ProgrammingError),
        ("SELECT 1/0", exc.DataError),
        ("SELECT 'x'::int", exc.DataError),
        ("INSERT INTO item (name) VALUES (NULL)", exc.IntegrityError),
        ("SET LOCAL lock_timeout = 1; SELECT 1", exc.ProgrammingError),
        ("COPY item FROM '/nowhere'", exc.OperationalError),
    ],
)
async def test_an_error_is_of_the_class_of_its_sqlstate(
    engine: AsyncEngine, statement: str, error: type[exc.DBAPIError]
) -> None:
    async with engine.connect() as connection:
        with pytest.raises(error) as raised:
            await connection.execute(text(statement))
    original = raised.value.orig
    assert isinstance(original, errors.Error)
    assert isinstance(original.__cause__, headrace.PostgresError)
    assert original.sqlstate == original.__cause__.sqlstate
    assert not raised.value.connection_invalidated


async def test_the_fields_of_the_server_s_error_are_those_of_the_exception(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(sa.insert(Item), {"name": "a"})
    async with engine.connect() as connection:
        with pytest.raises(exc.IntegrityError) as raised:
            await connection.execute(sa.insert(Item), {"name": "a"})
    original: Any = raised.value.orig
    assert (original.constraint_name, original.table_name) == ("item_name_key", "item")
    assert original.detail == "Key (name)=(a) already exists."
    with pytest.raises(AttributeError, match="colour"):
        _ = original.colour


async def test_a_wrong_argument_is_a_data_error(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        with pytest.raises(exc.DataError, match="invalid input for query argument"):
            await connection.execute(sa.insert(Item), {"id": "seven", "name": "a"})
        await connection.rollback()
        assert await connection.scalar(text("SELECT 1")) == 1


async def test_a_lost_connection_is_invalidated_and_replaced(engine: AsyncEngine, server: Cluster) -> None:
    async with engine.connect() as connection:
        pid = await connection.scalar(text("SELECT pg_backend_pid()"))
        server.sql("SELECT pg_terminate_backend(%s)", pid)
        with pytest.raises(exc.OperationalError) as raised:
            await connection.execute(text("SELECT pg_sleep(600)"))
        assert raised.value.connection_invalidated
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT pg_backend_pid()")) != pid


async def test_pre_ping_notices_a_lost_connection(make_engine: MakeEngine, server: Cluster) -> None:
    engine = make_engine(pool_pre_ping=True, pool_size=1)
    async with engine.connect() as connection:
        pid = await connection.scalar(text("SELECT pg_backend_pid()"))
    server.sql("SELECT pg_terminate_backend(%s)", pid)
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT pg_backend_pid()")) != pid


async def closed(raw: Any) -> None:
    while not raw.is_closed():
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("options", [{"pool_size": 1, "max_overflow": 0}, {"poolclass": StaticPool}])
async def test_a_connection_that_was_lost_in_the_pool_is_replaced_before_it_is_used(
    make_engine: MakeEngine, server: Cluster, options: dict[str, Any]
) -> None:
    engine = make_engine(**options)
    async with engine.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        pid = await connection.scalar(text("SELECT pg_backend_pid()"))
        server.sql("SELECT pg_terminate_backend(%s)", pid)
    await closed(raw)
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT pg_backend_pid()")) != pid


@pytest.mark.parametrize("method", ["commit", "rollback"])
async def test_a_connection_lost_in_a_transaction_is_an_operational_error(
    engine: AsyncEngine, server: Cluster, method: str
) -> None:
    async with engine.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        server.sql("SELECT pg_terminate_backend(%s)", await connection.scalar(text("SELECT pg_backend_pid()")))
        await closed(raw)
        with pytest.raises(exc.OperationalError, match="closed") as raised:
            await getattr(connection, method)()
    assert raised.value.connection_invalidated


async def test_many_executions_cannot_be_streamed(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        statement = text("INSERT INTO item (name) VALUES (:name)")
        with pytest.raises(exc.NotSupportedError, match="a server-side cursor runs one statement"):
            await connection.stream(statement, [{"name": "a"}, {"name": "b"}])


async def test_a_cancelled_statement_is_cancelled_at_the_server(
    engine: AsyncEngine, server: Cluster, database: str
) -> None:
    async def sleep() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_sleep(600)"))

    task = asyncio.create_task(sleep())
    # Other modules may have left backends asleep, in databases of their own.
    sleeping = (
        "SELECT pid FROM pg_stat_activity WHERE datname = %s AND query LIKE 'SELECT pg_sleep%%' AND state = 'active'"
    )
    while not server.sql(sleeping, database):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    while server.sql(sleeping, database):
        await asyncio.sleep(0.01)
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1


async def test_connections_without_a_pool_are_closed(make_engine: MakeEngine, server: Cluster) -> None:
    engine = make_engine("application_name=unpooled", poolclass=NullPool)
    for _ in range(3):
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    while server.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'unpooled'"):
        await asyncio.sleep(0.01)


async def test_the_engine_is_disposed_with_its_connections(make_engine: MakeEngine, server: Cluster) -> None:
    engine = make_engine("application_name=disposed")
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
    await engine.dispose()
    while server.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'disposed'"):
        await asyncio.sleep(0.01)
