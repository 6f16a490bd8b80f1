"""Schemas under SQLAlchemy: created from metadata, reflected again, and compared by way of DDL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import noting
import sqlalchemy as sa
from noting import Notes
from sqlalchemy import text
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.engine.reflection import ObjectKind, ObjectScope
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.ext.automap import automap_base
from sqlalchemy.schema import CreateTable

DDL = """
CREATE SCHEMA other;
CREATE SCHEMA "We Ird";
CREATE TYPE mood AS ENUM ('a', 'b');
CREATE TYPE other.mood AS ENUM ('x');
CREATE DOMAIN positive AS int NOT NULL DEFAULT 5 CONSTRAINT above CHECK (value > 0);
CREATE SEQUENCE counter START 5 INCREMENT 2;
CREATE TABLE a (
    id int GENERATED ALWAYS AS IDENTITY (START WITH 10 INCREMENT BY 5) PRIMARY KEY, n numeric(8,2) NOT NULL DEFAULT 1.5,
    v varchar(10) COLLATE "C", c char(3), t text DEFAULT 'x''y', b bool DEFAULT true, ts timestamp(3),
    tz timestamptz DEFAULT now(), d date, i interval day to second(3), u uuid, j json, jb jsonb, m mood DEFAULT 'a',
    dom positive, ar int[], ar2 text[][], r int4range, mr int4multirange, ip inet, ci cidr, mac macaddr, bi bit(3),
    vb bit varying(5), by bytea, mo money, o oid, rc regclass, tv tsvector, tq tsquery, sm smallint, bg bigint,
    fl real, db double precision, tm time(2), tmz timetz, twice int GENERATED ALWAYS AS (sm * 2) STORED
);
COMMENT ON TABLE a IS 'tablé';
COMMENT ON COLUMN a.n IS 'column';
CREATE TABLE other.b (
    id serial PRIMARY KEY, a_id int REFERENCES a ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED, x int, y int,
    CONSTRAINT uq UNIQUE (x, y), CONSTRAINT ck CHECK (x > 0 AND y < 5), CONSTRAINT later CHECK (x <> 3) NOT VALID
);
CREATE INDEX ix1 ON a (v, n DESC NULLS LAST) INCLUDE (t) WHERE n > 0;
CREATE UNIQUE INDEX ix2 ON a (lower(v));
CREATE INDEX ix3 ON a USING gin (jb jsonb_path_ops);
CREATE INDEX ix4 ON a (c) WITH (fillfactor = 50);
CREATE UNIQUE INDEX ix5 ON a (d) NULLS NOT DISTINCT;
CREATE TABLE part (id int, k int) PARTITION BY RANGE (k);
CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (1) TO (10);
CREATE VIEW seen AS SELECT id, v FROM a;
CREATE MATERIALIZED VIEW kept AS SELECT id FROM a;
CREATE TABLE "We Ird"."Ta ble" ("Co l" int PRIMARY KEY, fk int REFERENCES a);
CREATE TABLE apart (r int4range, EXCLUDE USING gist (r WITH &&));
CREATE TABLE pair (a int, b int, PRIMARY KEY (b, a));
CREATE TABLE of_pair (x int, y int, FOREIGN KEY (x, y) REFERENCES pair (b, a) MATCH FULL);
CREATE TABLE tree (id int PRIMARY KEY, up int REFERENCES tree);
CREATE TABLE below () INHERITS (pair);
CREATE TABLE unknown (p point, q "char");
"""
TABLES = [("a", None), ("b", "other"), ("part", None), ("part1", None), ("seen", None), ("kept", None), ("apart", None),
          ("Ta ble", "We Ird"), ("pair", None), ("of_pair", None), ("tree", None), ("below", None),
          ("unknown", None), ("nothing", None)]  # fmt: skip
LISTS = ("get_table_names", "get_view_names", "get_materialized_view_names", "get_sequence_names", "get_enums",
         "get_domains", "get_foreign_table_names", "get_sorted_table_and_fkc_names")  # fmt: skip
DETAILS = ("get_columns", "get_pk_constraint", "get_foreign_keys", "get_indexes", "get_unique_constraints",
           "get_check_constraints", "get_table_comment", "get_table_options", "get_view_definition",
           "has_table")  # fmt: skip
BULK = ("get_multi_columns", "get_multi_indexes", "get_multi_foreign_keys", "get_multi_check_constraints")


def plain(value: Any) -> Any:
    """Types have no equality; their repr has."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return repr(value) if isinstance(value, sa.types.TypeEngine) else value


def attempt(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return plain(call(*args, **kwargs))
    except sa.exc.SQLAlchemyError as error:
        return error


def ddl(table: sa.Table, connection: sa.Connection) -> str:
    return str(CreateTable(table).compile(connection))


def inspected(connection: sa.Connection) -> list[Any]:
    """Everything that an Inspector tells, and the DDL of what was reflected."""
    inspector = sa.inspect(connection)
    seen: list[Any] = [inspector.get_schema_names()]
    for schema in (None, "other", "We Ird", "nothing"):
        seen += [(name, schema, attempt(getattr(inspector, name), schema=schema)) for name in LISTS]
    for table, schema in TABLES:
        seen += [(name, table, attempt(getattr(inspector, name), table, schema=schema)) for name in DETAILS]
    for name in BULK:
        found = getattr(inspector, name)(kind=ObjectKind.ANY, scope=ObjectScope.ANY)
        seen.append(sorted((key, repr(plain(value))) for key, value in found.items()))
    metadata = sa.MetaData()
    metadata.reflect(connection, views=True)
    seen += [attempt(ddl, table, connection) for table in metadata.sorted_tables]
    base = automap_base()
    base.prepare(connection)
    return [*seen, sorted(base.classes.keys())]


METADATA = sa.MetaData()
KIND = sa.Enum("x", "y", name="kind", metadata=METADATA)
MADE = sa.Table(
    "made",
    METADATA,
    sa.Column("id", sa.Integer, sa.Sequence("made_id"), primary_key=True),
    sa.Column("kind", KIND, comment="a comment"),
    sa.Column("limited", pg.DOMAIN("limited", sa.Integer, check="value > 1")),
    sa.Column("name", sa.String, index=True),
    sa.Column("of", sa.ForeignKey("tree.id")),
    sa.CheckConstraint("id > 0", name="above"),
    sa.UniqueConstraint("name", name="once"),
    comment="a table",
    postgresql_with={"fillfactor": 50},
)
sa.Table("tree", METADATA, sa.Column("id", sa.Integer, primary_key=True))
sa.Index("partly", MADE.c.name, postgresql_where=MADE.c.id > 5, postgresql_include=["kind"])


async def created(note: Notes, engine: AsyncEngine) -> None:
    """Metadata created twice, used, added to outside of a transaction, dropped twice."""
    for _ in range(2):
        async with engine.begin() as connection:
            await note.attempt("create", connection.run_sync, METADATA.create_all)
    async with engine.begin() as connection:
        row = MADE.insert().values(kind="x", limited=5, name="n").returning(MADE)
        note("row", (await connection.execute(row)).one())
        note("kinds", await connection.scalar(sa.select(pg.array(["x", "y"], type_=KIND))))
    async with engine.connect() as connection:
        await note.attempt("again", connection.run_sync, MADE.create)
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        index = sa.Index("concurrent", MADE.c.kind, postgresql_concurrently=True)
        await note.attempt("concurrently", connection.run_sync, index.create)
        await connection.execute(text("ALTER TYPE kind ADD VALUE 'z'"))
        note("the new value", await connection.scalar(text("SELECT 'z'\\:\\:kind")))
    for _ in range(2):
        async with engine.begin() as connection:
            await note.attempt("drop", connection.run_sync, METADATA.drop_all)


async def program(note: Notes, dsn: str) -> None:
    engine = create_async_engine(noting.url(dsn))
    await created(note, engine)
    async with engine.begin() as connection:
        for statement in DDL.split(";\n"):
            await connection.execute(text(statement.replace(":", "\\:")))
    async with engine.connect() as connection:
        for each in await connection.run_sync(inspected):
            note("inspected", each)
    await engine.dispose()


if __name__ == "__main__":
    noting.main(program)
