"""The demo. It shows everything once: schema, data, transactions, a cursor, and the effect of pipelining."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from rich.console import Console
from rich.text import Text

import headrace
from storefront import benchmark, brands, figures, loading, stream
from storefront.console import print_indented
from storefront.database import create_database, open_connection
from storefront.errors import reason
from storefront.progress import loading_progress
from storefront.sample import Sample
from storefront.schema import COLORS, create_schema, status_line
from storefront.timing import timed
from storefront.wording import counted

SKIP, TAKE = 500, 100
"""The number of rows that the partial stream skips, and the number that it takes."""

BRANDS = ("Aurora & Sons", "Boreal", "Cirrus", "Dune", "Ember")
"""Names that no sample contains. They are removed at the end, and at the start in case a demo was interrupted."""

SHORT_SKUS = 10_000
SHORT_LOOK_UPS = 1_000


class Tour:
    """The chapters of the demo on the database of `dsn`. With `short` there are less data and fewer look-ups.

    A catalogue that already holds rows is used as it is, unless `replace` is set.
    """

    def __init__(self, dsn: str, console: Console, *, short: bool = False, replace: bool = False) -> None:
        self.dsn = dsn
        self.console = console
        self.replace = replace
        self.sample = Sample(sku_count=SHORT_SKUS) if short else Sample()
        self.look_ups = SHORT_LOOK_UPS if short else benchmark.LOOK_UPS
        self._chapter = 0

    async def run(self) -> list[benchmark.Measurement]:
        """Run every chapter and return the measurements of the last one."""
        created = await create_database(self.dsn)
        async with open_connection(self.dsn) as connection:
            await self._schema(connection, created)
            await self._data(connection)
            await brands.remove_brands(connection, BRANDS)
            try:
                await self._commit(connection)
                await self._rollback(connection)
                await self._savepoint(connection)
                await self._stream(connection)
            finally:
                if not connection.is_closed():
                    await brands.remove_brands(connection, BRANDS)
        return await self._look_ups()

    def heading(self, title: str, text: str) -> None:
        """Begin a chapter."""
        self._chapter += 1
        self.console.print(f"\n[bold]{self._chapter}. {title}[/bold]")
        self.say(text, style="italic")

    def say(self, text: str, style: str = "") -> None:
        """Print a text, wrapped."""
        print_indented(self.console, text, style)

    def quote(self, *lines: str) -> None:
        """Print lines so that they can be copied: without spaces at the end, and not wrapped."""
        for line in lines:
            self.console.print(Text(f"   {line}" if line else ""), soft_wrap=True)

    async def _schema(self, connection: headrace.Connection, created: str | None) -> None:
        version = connection.get_server_version()
        self.heading(
            "The schema",
            f"Five tables on PostgreSQL {version.major}, in one transaction; each statement's status:",
        )
        if created:
            self.say(f"{created:<16} the database")

        def report(statement: str, status: str) -> None:
            self.say(status_line(statement, status, 55))

        await create_schema(connection, report)

    async def _data(self, connection: headrace.Connection) -> None:
        sample = self.sample
        self.heading(
            "The sample data",
            f"{loading.Loaded(sample.brand_count, sample.product_count, sample.sku_count)}, "
            "by COPY, in one transaction:",
        )
        present = await loading.count_rows(connection)
        if present.brands and not self.replace:
            self.say(f"There are {present} already, and they are kept; --replace loads them anew.")
            return
        with loading_progress(self.console) as progress:
            await loading.load(connection, sample, replace=self.replace, progress=progress)

    async def _count(self, connection: headrace.Connection) -> int:
        count: int = await connection.fetchval("SELECT count(*) FROM brand")
        return count

    async def _commit(self, connection: headrace.Connection) -> None:
        first, second = BRANDS[:2]
        self.heading(
            "A transaction, committed",
            f"async with connection.transaction(): {first} and {second} are added.",
        )
        before = await self._count(connection)
        ids = await brands.add_brands(connection, (first, second))
        after = await self._count(connection)
        self.say(f"They have the ids {ids[0]} and {ids[1]}; brands before: {before}, after: {after}.")

    async def _rollback(self, connection: headrace.Connection) -> None:
        self.heading("A transaction, rolled back", f"{BRANDS[2]} is new, {BRANDS[0]} is not: neither is added.")
        before = await self._count(connection)
        try:
            await brands.add_brands(connection, (BRANDS[2], BRANDS[0]))
        except headrace.UniqueViolationError as error:
            self.say(f"The server said: {reason(error)}")
        self.say(f"Brands before: {before}, after: {await self._count(connection)}.")
        await brands.add_brands_by_hand(connection, (BRANDS[3],), keep=False)
        self.say(f"{BRANDS[3]}, by hand: start(), the insert, rollback(); brands: {await self._count(connection)}.")

    async def _savepoint(self, connection: headrace.Connection) -> None:
        taken, color = next(iter(COLORS.items()))
        self.heading(
            "A transaction with a savepoint",
            f"{BRANDS[4]} is added, and inside a savepoint a colour whose id, {taken}, is {color}'s.",
        )
        before = await self._count(connection)
        outcome = await brands.add_brand_with_color(connection, BRANDS[4], taken, "Green")
        assert outcome.color_error is not None
        after = await self._count(connection)
        self.say(f"The colour was refused, the brand is kept; brands before: {before}, after: {after}.")

    async def _stream(self, connection: headrace.Connection) -> None:
        self.heading(
            "A cursor",
            f"The whole catalogue, {stream.PREFETCH} rows at a time, never all in memory; then a part of it.",
        )
        rows = await timed(count_catalogue)(connection)
        self.say(f"{counted(rows, 'row')} went by.")
        part = stream.stream_catalogue(connection, skip=SKIP, limit=TAKE)
        async with aclosing(part) as records:
            ids = [record["sku_id"] async for record in records]
        if ids:
            self.say(f"Without the first {SKIP}, the next {len(ids)}: SKUs {ids[0]:,} to {ids[-1]:,}.")

    async def _look_ups(self) -> list[benchmark.Measurement]:
        self.heading(
            f"{self.look_ups:,} look-ups in each way",
            "One after another, then all at once: a connection for each, ONE for all, the pool's own ways.",
        )
        measurements: list[benchmark.Measurement] = []
        with self.console.status("measuring"):
            for query in benchmark.BenchmarkQuery:
                measurements += await benchmark.bench(self.dsn, benchmark.Plan(query, self.look_ups))
        self._conclude(measurements)
        return measurements

    def _conclude(self, measurements: Sequence[benchmark.Measurement]) -> None:
        for table in figures.tables(measurements):
            self.console.print()
            self.console.print(table)
        by_way = {m.way: m for m in measurements if m.query is benchmark.BenchmarkQuery.KEY}
        one = by_way[benchmark.Way.ONE_CONNECTION]
        pool = by_way[benchmark.Way.POOL_METHODS]
        each = by_way[benchmark.Way.EACH]
        self.console.print()
        self.say("By primary key, compared with one look-up after another:")
        for how, measurement in (
            ("all at once on a single connection", one),
            ("by the pool's own method", pool),
            ("by fetchrow_each()", each),
        ):
            self.say(f"{measurement.speed_up:.1f} times as many {how}: {measurement.rate:,.0f} a second.")


async def count_catalogue(connection: headrace.Connection) -> int:
    """Stream the catalogue and count its rows."""
    count = 0
    async with aclosing(stream.stream_catalogue(connection)) as records:
        async for _ in records:
            count += 1
    return count


async def demo(
    dsn: str, console: Console, *, short: bool = False, replace: bool = False
) -> list[benchmark.Measurement]:
    """Run the demo and return its measurements. Raises any error of the database unchanged."""
    return await Tour(dsn, console, short=short, replace=replace).run()
