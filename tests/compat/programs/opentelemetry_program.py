"""OpenTelemetry's instrumentation of asyncpg: it wraps methods, and reads of their objects whom they speak to."""

from __future__ import annotations

import noting
from noting import Notes, asyncpg
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

UNCOMPARED = ("BEGIN", "COMMIT", "SELECT pg_advisory_unlock_all")
"""What asyncpg sends through the methods that are wrapped, and headrace by itself."""


async def queries(note: Notes, dsn: str) -> None:
    """Queries by each method of a connection, of its statements and cursors, and of a pool."""
    conn = await asyncpg.connect(dsn)
    await conn.execute("CREATE TABLE t (a int)")
    await conn.executemany("INSERT INTO t VALUES ($1)", [(1,), (2,)])
    await conn.fetch("SELECT * FROM t")
    await conn.fetchrow("SELECT a FROM t WHERE a = $1", 1)
    await conn.fetchval("SELECT 1")
    await note.attempt("wrong", conn.fetch, "SELECT nothing")
    statement = await conn.prepare("SELECT $1::int")
    note("prepared", await statement.fetch(1), await statement.fetchval(2), await statement.fetchrow(3))
    note("many", await statement.fetchmany([(4,)]), await statement.executemany([(5,)]))
    async with conn.transaction():
        cursor = await conn.cursor("SELECT * FROM t")
        note("cursor", await cursor.fetch(1), await cursor.forward(1), await cursor.fetchrow())
        note("iterated", *[row async for row in conn.cursor("SELECT a FROM t WHERE a > $1", 0)])
        note("iterated", *[row async for row in statement.cursor(6)])
    await conn.close()
    async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
        await pool.execute("SELECT 'by the pool'")
        await pool.executemany("INSERT INTO t VALUES ($1)", [(3,)])
        note(
            "pool",
            await pool.fetch("SELECT 'rows'"),
            await pool.fetchrow("SELECT 'a row'"),
            await pool.fetchval("SELECT 7"),
        )
        async with pool.acquire() as leased:
            note("leased", await leased.fetch("SELECT 'leased'"))


async def program(note: Notes, dsn: str) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    instrumentor = AsyncPGInstrumentor(capture_parameters=True)
    instrumentor.instrument(tracer_provider=provider)
    await queries(note, dsn)
    instrumentor.uninstrument()
    async with asyncpg.create_pool(dsn, min_size=1) as pool:
        await pool.fetch("SELECT 'untraced'")
    for span in spans.get_finished_spans():
        attributes = dict(span.attributes or {})
        if not str(attributes.get("db.statement")).startswith(UNCOMPARED):
            note(span.name, span.status.status_code.name, sorted(attributes.items()))


if __name__ == "__main__":
    noting.main(program)
