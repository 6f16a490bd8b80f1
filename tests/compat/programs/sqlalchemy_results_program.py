"""What statements come to in SQLAlchemy: rows, their number, what INSERT gives back, streams, savepoints, the SQL."""

from __future__ import annotations

import decimal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import noting
import sqlalchemy as sa
from noting import Notes
from sqlalchemy import event, exc, text
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, async_sessionmaker, create_async_engine

METADATA = sa.MetaData()
ITEM = sa.Table(
    "item",
    METADATA,
    sa.Column("id", sa.Integer, sa.Identity(), primary_key=True),
    sa.Column("number", sa.Integer, unique=True),
    sa.Column("name", sa.String(20), server_default="unnamed"),
    sa.Column("details", pg.JSONB),
    sa.Column("twice", sa.Integer, sa.Computed("number * 2")),
)
PRICE = sa.Table(
    "price",
    METADATA,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("amount", sa.Numeric(8, 2), default=decimal.Decimal("1.5")),
)
C = ITEM.c

upsert = pg.insert(ITEM)
UPSERT = upsert.on_conflict_do_update(index_elements=["number"], set_={"name": upsert.excluded.name})
BY_NUMBER = sa.update(ITEM).where(C.number == sa.bindparam("n")).values(name=sa.bindparam("to"))
SORTED = sa.insert(ITEM).returning(C.id, C.number, sort_by_parameter_order=True)


def numbers(start: int, end: int) -> list[dict[str, Any]]:
    return [{"number": number} for number in range(start, end)]


STATEMENTS: list[tuple[Any, Any]] = [
    (ITEM.insert().values(number=1), None),
    (ITEM.insert().values(number=2).returning(ITEM), None),
    (ITEM.insert().return_defaults().values(number=3), None),
    (ITEM.insert(), numbers(10, 20)),
    (ITEM.insert().returning(C.id, C.number), numbers(20, 30)),
    (SORTED, numbers(30, 60)),
    (ITEM.insert().execution_options(preserve_rowcount=True), numbers(60, 63)),
    (ITEM.insert().values(numbers(70, 72)).returning(C.number, C.twice), None),
    (ITEM.insert(), [{"number": 80, "name": "x", "details": {"a": [1]}}, {"number": 81, "name": "y", "details": None}]),
    (ITEM.update().where(C.number < 3).values(name="changed"), None),
    (ITEM.update().where(C.number < 0).values(name="changed"), None),
    (ITEM.update().where(C.number < 3).values(name="again").returning(C.id, C.name), None),
    (BY_NUMBER, [{"n": 1, "to": "a"}, {"n": 2, "to": "b"}]),
    (ITEM.delete().where(C.number == 1), None),
    (ITEM.delete().where(C.number == sa.bindparam("n")), [{"n": 2}, {"n": 999}]),
    (ITEM.delete().where(C.number == 3).returning(C.number), None),
    (UPSERT.values(number=10, name="up").returning(C.name), None),
    (UPSERT, [{"number": 10, "name": "many"}, {"number": 90, "name": "new"}]),
    (UPSERT.returning(C.number, C.name), [{"number": 10, "name": "rows"}, {"number": 91, "name": "new"}]),
    (pg.insert(ITEM).values(number=10).on_conflict_do_nothing().returning(C.id), None),
    (PRICE.insert(), None),
    (PRICE.insert().returning(PRICE.c.id, PRICE.c.amount), [{"amount": 1}, {"amount": decimal.Decimal("2.345")}]),
    (PRICE.insert().from_select(["amount"], sa.select(C.number).limit(3)), None),
    (PRICE.insert(), [{"amount": number} for number in range(1500)]),
    (PRICE.insert().returning(PRICE.c.id), [{"amount": number} for number in range(1500)]),
    (ITEM.insert(), numbers(100, 101) * 2),
    (ITEM.insert().returning(C.id), numbers(100, 101) * 2),
    (ITEM.insert(), [{"number": 100}, {"number": "x"}]),
    (ITEM.insert().returning(C.id), [{"number": 100}, {"number": "x"}]),
    (ITEM.insert().values(number=100, name="x" * 30), None),
    (sa.select(C.number, C.name).order_by(C.number), None),
    (sa.select(C.number).where(C.number.in_([])), None),
    (sa.select(C.number).where(C.number.in_(range(300))).order_by(C.number), None),
    (sa.select(C.number).where(sa.tuple_(C.number, C.name).in_([(11, "unnamed")])), None),
    (sa.select(C.number).where(C.number == 11).with_for_update(skip_locked=True), None),
    (text("INSERT INTO item (number) VALUES (:n)"), [{"n": 110}, {"n": 111}]),
    (text("INSERT INTO item (number) VALUES (:n) RETURNING number"), {"n": 112}),
    (text("CREATE TABLE made AS SELECT generate_series(1, 5) AS n"), None),
    (text("SELECT count(*) FROM unnest(CAST(:x AS int[]))"), {"x": list(range(20_000))}),
    *(
        (text(query), None)
        for query in (
            "TRUNCATE made", "SET LOCAL work_mem = '1MB'", "SHOW work_mem", "VALUES (1, 'a'), (2, 'b')", "",
            "-- nothing", "SELECT 1 AS a, 2 AS a", "SELECT", "SELECT 1; SELECT 2", "EXPLAIN SELECT 1", "LOCK item",
            "NOTIFY news",
            "MERGE INTO item USING (VALUES (10)) v (n) ON number = n WHEN MATCHED THEN UPDATE SET name = 'merged'",
            "DO $$ BEGIN RAISE NOTICE 'noticed'; END $$", "DECLARE c CURSOR FOR SELECT 1", "PREPARE p AS SELECT 1",
            "WITH gone AS (DELETE FROM made RETURNING n) SELECT count(*) FROM gone",
        )
    ),
]  # fmt: skip

RESULTS = ("rowcount", "returns_rows", "inserted_primary_key", "inserted_primary_key_rows", "returned_defaults")


async def statements(note: Notes, engine: AsyncEngine) -> None:
    """Each statement in a transaction of its own: what its result says, and the SQL it was sent as."""
    sent: list[tuple[str, bool]] = []
    event.listen(engine.sync_engine, "before_cursor_execute", lambda *args: sent.append((args[2], args[5])))
    for statement, parameters in STATEMENTS:
        await note.attempt(str(statement)[:60], outcome, engine, statement, parameters)
    note("sent", *sent)


async def outcome(engine: AsyncEngine, statement: Any, parameters: Any) -> list[Any]:
    async with engine.begin() as connection:
        result = await connection.execute(statement, parameters)
        seen: list[Any] = []
        for name in RESULTS:
            try:
                seen.append(getattr(result, name))
            except exc.InvalidRequestError as error:
                seen.append(error)
        return [*seen, result.all() if result.returns_rows else None]


async def streams(note: Notes, engine: AsyncEngine) -> None:
    """Server-side cursors: all ways to read them, two at once, given up, after their transaction."""
    rows = text("SELECT g, 'v' || g AS v FROM generate_series(1, 1200) g")
    async with engine.connect() as connection:
        for size in (1, 7, 100, 5000):
            result = await connection.stream(rows, execution_options={"yield_per": size})
            sizes = [len(part) async for part in result.partitions()]
            note(f"yield_per {size}", len(sizes), sizes[0], sizes[-1])
        note("scalars", sum([n async for n in await connection.stream_scalars(rows)]))
        result = await connection.stream(rows)
        note(
            "pieces",
            await result.fetchone(),
            await result.fetchmany(3),
            len(await result.all()),
            await result.fetchone(),
        )
        note("mappings", await (await connection.stream(rows)).mappings().fetchmany(2))
        await note.attempt("one", (await connection.stream(rows)).one)
        first, second = await connection.stream(rows), await connection.stream(rows)
        note("two", (await first.fetchmany(60))[-1], (await second.fetchmany(60))[-1], (await first.fetchmany(60))[-1])
        note("between", await connection.scalar(text("SELECT 5")), len(await first.all()))
        await connection.commit()
        await note.attempt("after the transaction", second.fetchmany, 300)
        await connection.rollback()
        result = await connection.stream(rows)
        async for row in result:
            if row.g == 3:
                break
        await result.close()
        note("given up", await connection.scalar(text("SELECT 6")))
        for query in ("SELECT 1 / (g - 150) FROM generate_series(1, 200) g", "INSERT INTO made VALUES (7) RETURNING n",
                      "SHOW work_mem", "VALUES (1), (2)", "SELECT nothing"):  # fmt: skip
            await note.attempt(query, streamed, connection, query)
            await connection.rollback()
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await note.attempt("without a transaction", streamed, connection, "SELECT 1")
    async with async_sessionmaker(engine)() as session:
        note("session", len(await (await session.stream_scalars(rows)).all()))
        note("in sync code", await session.run_sync(lambda sync: len(sync.execute(rows).fetchmany(5))))


async def streamed(connection: AsyncConnection, query: str) -> Any:
    return await (await connection.stream(text(query))).all()


async def savepoints(note: Notes, engine: AsyncEngine) -> None:
    """Nested transactions, and what is left of a transaction in which something failed."""
    async with engine.connect() as connection:

        async def fails(label: str, statement: Any, parameters: Any = None) -> None:
            await note.attempt(label, connection.execute, statement, parameters)

        outer = await connection.begin()
        await connection.execute(ITEM.insert().values(number=1))
        inner = await connection.begin_nested()
        await fails("duplicate", ITEM.insert().values(number=1))
        await fails("in a failed savepoint", text("SELECT 1"))
        await inner.rollback()
        async with connection.begin_nested():
            await connection.execute(ITEM.insert().values(number=2))
        inner = await connection.begin_nested()
        await connection.execute(ITEM.insert().values(number=3))
        await inner.rollback()
        await outer.commit()
        note("kept", (await connection.scalars(sa.select(C.number).where(C.number < 10).order_by(C.number))).all())
        await connection.rollback()
        async with undone(connection):
            await fails("duplicates", ITEM.insert(), [{"number": 5}, {"number": 1}])
            await fails("in a failed transaction", text("SELECT 1"))
            await note.attempt("savepoint in it", connection.begin_nested)
        async with undone(connection):
            await fails("a bad argument", ITEM.insert().values(number="x"))
            note("the transaction goes on", await connection.scalar(text("SELECT 1")))
        async with undone(connection):
            await connection.execute(text("ROLLBACK"))
            note("ended by hand", await connection.scalar(text("SELECT 1")))
        async with undone(connection):
            await fails("begun by hand", text("BEGIN"))


@asynccontextmanager
async def undone(connection: AsyncConnection) -> AsyncIterator[None]:
    transaction = await connection.begin()
    yield
    await transaction.rollback()


async def program(note: Notes, dsn: str) -> None:
    engine = create_async_engine(noting.url(dsn))
    async with engine.begin() as connection:
        await connection.run_sync(METADATA.create_all)
    await statements(note, engine)
    await streams(note, engine)
    await savepoints(note, engine)
    await engine.dispose()


if __name__ == "__main__":
    noting.main(program)
