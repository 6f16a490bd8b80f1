"""A program on SQLAlchemy's asyncpg dialect, engine and ORM, with headrace in the place of asyncpg.

python sqlalchemy_program.py postgresql+asyncpg://user@host:port/database
"""

from __future__ import annotations

import asyncio
import datetime
import decimal
import enum
import json
import sys
import uuid
from typing import Any

import headrace

headrace.install_as_asyncpg()

import sqlalchemy as sa  # noqa: E402
from sqlalchemy import exc  # noqa: E402
from sqlalchemy.dialects import postgresql as pg  # noqa: E402
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine  # noqa: E402
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload  # noqa: E402


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


class Base(DeclarativeBase):
    pass


class Brand(Base):
    __tablename__ = "brand"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(50), unique=True)
    products: Mapped[list[Product]] = relationship(back_populates="brand", cascade="all, delete-orphan")


class Product(Base):
    __tablename__ = "product"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    brand_id: Mapped[int] = mapped_column(sa.ForeignKey("brand.id"))
    price: Mapped[decimal.Decimal] = mapped_column(sa.Numeric(10, 2))
    size: Mapped[Size]
    details: Mapped[Any] = mapped_column(pg.JSONB, default=dict)
    tags: Mapped[list[str]] = mapped_column(pg.ARRAY(sa.Text), default=list)
    made_at: Mapped[datetime.datetime] = mapped_column(sa.DateTime(timezone=True))
    picture: Mapped[bytes | None]
    sold_in: Mapped[Any] = mapped_column(pg.INT4RANGE, default=pg.Range(1, 5))
    brand: Mapped[Brand] = relationship(back_populates="products")


MADE_AT = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)


def product(price: str, **values: Any) -> Product:
    return Product(price=decimal.Decimal(price), size=Size.SMALL, made_at=MADE_AT, **values)


def check_cause(error: exc.DBAPIError, expected: type[Exception]) -> None:
    """Find the driver's error behind SQLAlchemy's."""
    assert error.orig is not None
    assert isinstance(error.orig.__cause__, expected), error.orig


async def orm(engine: AsyncEngine) -> None:
    """Create, insert, select with relations, change, delete."""
    session_of = async_sessionmaker(engine, expire_on_commit=False)
    async with session_of() as session, session.begin():
        products = [product("12.50", details={"k": [1, None]}, tags=["a", "b"], picture=b"\0\xff"), product("7")]
        session.add_all([Brand(name="first", products=products), Brand(name="second")])
    async with session_of() as session:
        query = sa.select(Brand).options(selectinload(Brand.products)).order_by(Brand.id)
        first, second = (await session.scalars(query)).all()
        assert (first.name, second.name, second.products) == ("first", "second", [])
        dear, cheap = sorted(first.products, key=lambda each: -each.price)
        assert (dear.price, cheap.price) == (decimal.Decimal("12.50"), decimal.Decimal("7.00"))
        assert (dear.details, dear.tags, dear.picture) == ({"k": [1, None]}, ["a", "b"], b"\0\xff")
        assert (dear.size, dear.made_at) == (Size.SMALL, MADE_AT)
        assert (dear.sold_in.lower, dear.sold_in.upper) == (1, 5)
        assert isinstance(dear.id, uuid.UUID)
        cheap.price += 1
        await session.delete(dear)
        await session.commit()
        assert await session.scalar(sa.select(sa.func.sum(Product.price))) == decimal.Decimal("8.00")


async def rollbacks(engine: AsyncEngine) -> None:
    """A rollback, a savepoint rolled back, and a constraint violated."""
    session_of = async_sessionmaker(engine)
    async with session_of() as session:
        session.add(Brand(name="never"))
        await session.flush()
        await session.rollback()
    async with session_of() as session, session.begin():
        session.add(Brand(name="kept"))
        await session.flush()
        try:
            async with session.begin_nested():
                session.add(Brand(name="first"))
                await session.flush()
        except exc.IntegrityError as error:
            check_cause(error, headrace.UniqueViolationError)
        else:
            raise AssertionError("the second brand of that name was taken")
        async with session.begin_nested() as savepoint:
            session.add(Brand(name="undone"))
            await session.flush()
            await savepoint.rollback()
    async with engine.connect() as connection:
        names = (await connection.scalars(sa.select(Brand.name).order_by(Brand.name))).all()
        assert names == ["first", "kept", "second"], names


async def core(engine: AsyncEngine) -> None:
    """The engine by itself: many rows in and out, streams, errors, isolation levels, driver connections."""
    table = sa.Table("number", sa.MetaData(), sa.Column("n", sa.Integer, primary_key=True), sa.Column("t", sa.Text))
    async with engine.begin() as connection:
        await connection.run_sync(table.metadata.create_all)
        await connection.execute(sa.insert(table), [{"n": n, "t": f"text {n}"} for n in range(5000)])
        found = await connection.execute(sa.insert(table).returning(table.c.n), [{"n": n} for n in range(5000, 5010)])
        assert len(found.all()) == 10
    async with engine.connect() as connection:
        result = await connection.stream(sa.select(table).order_by(table.c.n).execution_options(yield_per=100))
        seen = 0
        async for row in result:
            assert row.n == seen
            seen += 1
            if seen == 1000:
                break
        await result.close()
        assert await connection.scalar(sa.select(sa.func.count()).select_from(table)) == 5010
        try:
            await connection.execute(sa.text("SELECT * FROM missing"))
        except exc.ProgrammingError as error:
            check_cause(error, headrace.UndefinedTableError)
        await connection.rollback()
    async with engine.connect() as connection:
        connection = await connection.execution_options(isolation_level="SERIALIZABLE")
        assert await connection.scalar(sa.text("SHOW transaction_isolation")) == "serializable"
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    async with autocommit.connect() as connection:
        await connection.execute(sa.text("VACUUM number"))
        raw = await connection.get_raw_connection()
        driver_connection = raw.driver_connection
        assert isinstance(driver_connection, headrace.Connection)
        assert await driver_connection.copy_records_to_table("number", records=[(6000, "by COPY")]) == "COPY 1"
    counts = await asyncio.gather(*(counted(engine, table) for _ in range(20)))
    assert set(counts) == {5011}


async def counted(engine: AsyncEngine, table: sa.Table) -> Any:
    async with engine.connect() as connection:
        return await connection.scalar(sa.select(sa.func.count()).select_from(table))


async def json_option(url: str) -> None:
    """The option json=True changes nothing for SQLAlchemy, whose own codecs replace it."""
    engine = create_async_engine(
        url, connect_args={"json": True}, json_deserializer=lambda text: ("SQLAlchemy's", json.loads(text))
    )
    try:
        async with engine.connect() as connection:
            for kind in (pg.JSON, pg.JSONB):
                for value in ({"a": [1, None]}, "text"):
                    found = await connection.scalar(sa.select(sa.literal(value, kind)))
                    assert found == ("SQLAlchemy's", value), found
    finally:
        await engine.dispose()


async def main(url: str) -> None:
    engine = create_async_engine(url, pool_size=5, pool_pre_ping=True)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        await orm(engine)
        await rollbacks(engine)
        await core(engine)
        await json_option(url)
        async with engine.begin() as connection:
            names = await connection.run_sync(lambda sync: sa.inspect(sync).get_table_names())
            assert set(names) == {"brand", "product", "number"}
            await connection.run_sync(Base.metadata.drop_all)
    finally:
        await engine.dispose()
    assert sys.modules["asyncpg"] is headrace
    print("done")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
