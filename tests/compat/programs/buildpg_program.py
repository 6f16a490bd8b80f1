"""buildpg: subclasses of asyncpg's Connection and Pool, made by calling them."""

from __future__ import annotations

import noting
from buildpg import V, Values
from buildpg import asyncpg as buildpg
from noting import Notes


async def connection(note: Notes, dsn: str) -> None:
    conn = await buildpg.connect_b(dsn)
    await conn.execute("CREATE TABLE t (a int, b text)")
    note("insert", await conn.execute_b("INSERT INTO t (:values__names) VALUES :values", values=Values(a=1, b="x")))
    await conn.executemany_b("INSERT INTO t (:values__names) VALUES :values", [Values(a=2, b="y"), Values(a=3, b="z")])
    note("row", await conn.fetchrow_b("SELECT * FROM t WHERE :where", where=V("a") == 1))
    note("value", await conn.fetchval_b("SELECT :x::int", x=5))
    async with conn.transaction():
        cursor = conn.cursor_b("SELECT a FROM t WHERE a > :least ORDER BY a", least=1)
        note("cursor", *[row async for row in cursor])
    await note.attempt("wrong", conn.fetch_b, "SELECT * FROM nothing WHERE a = :a", a=1)
    await conn.close()


async def pool(note: Notes, dsn: str) -> None:
    async with buildpg.create_pool_b(dsn, min_size=1, max_size=2) as made:
        note(
            "pool",
            await made.fetchval_b("SELECT count(*) FROM t"),
            await made.fetch_b("SELECT * FROM t WHERE a=:a", a=2),
        )
        note("update", await made.execute_b("UPDATE t SET b = :b", b="all"))
        async with made.acquire() as leased:
            note("leased", await leased.fetchval_b("SELECT :a::text", a="q"))
            note(
                "classes", *(isinstance(leased, cls) for cls in (buildpg.BuildPgConnection, noting.asyncpg.Connection))
            )


async def program(note: Notes, dsn: str) -> None:
    await connection(note, dsn)
    await pool(note, dsn)


if __name__ == "__main__":
    noting.main(program)
