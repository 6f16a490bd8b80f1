"""Import a catalogue: add what is new and change what has changed, in one transaction.

Names or ids say which row a line is about:

- A brand is found by its name. If the line has a brand_id, it must be that of the brand. Brands are never renamed.
- A product is found by its product_id if the line has one, and its name and brand are changed. Otherwise it is found by
  brand and name.
- A SKU is found by its sku_id if the line has one, and its product, size and colour are changed. Otherwise it is found
  by product, size and colour.

Rows that are not found are added. A catalogue that is imported again changes nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import headrace
from storefront import signals
from storefront.catalogue import MAX_ID
from storefront.catalogue_file import CatalogueLine, RefusedLine
from storefront.errors import StorefrontError
from storefront.timing import timed
from storefront.wording import counted

CHUNK = 5_000
"""The number of lines that are compared with the database at once."""

KNOWN_NAMES = 50_000
"""The number of names whose ids are kept in memory, for each kind of name."""

LISTED_NAMES = 20
"""The number of new colours and sizes that a report lists by name."""

BRAND_NAMES = "SELECT brand_id, brand_name FROM brand WHERE brand_id = ANY($1)"

PRODUCTS_BY_NAME = """\
SELECT p.brand_id, p.product_name, min(p.product_id)
FROM unnest($1::integer[], $2::text[]) AS wanted (brand_id, product_name)
JOIN product AS p ON p.brand_id = wanted.brand_id AND p.product_name = wanted.product_name
GROUP BY p.brand_id, p.product_name"""

EXISTING_SKUS = """\
SELECT product_id, product_size_id, product_color_id
FROM unnest($1::integer[], $2::integer[], $3::integer[]) AS wanted (product_id, product_size_id, product_color_id)
WHERE EXISTS (
    SELECT FROM sku AS s
    WHERE s.product_id = wanted.product_id
      AND s.product_size_id = wanted.product_size_id AND s.product_color_id = wanted.product_color_id
)"""

LAST_ID = """\
SELECT greatest(max({table}_id), pg_sequence_last_value(pg_get_serial_sequence('{table}', '{table}_id')::regclass), 0)
FROM {table}"""


@dataclass
class ImportReport:
    """The result of an import. `unchanged_skus` counts SKUs that were there already, or more than once in a chunk.

    `new_colors` and `new_sizes` have the first of the new names, because a new name may be a mistake.
    """

    lines: int = 0
    refused: int = 0
    brands_added: int = 0
    products_added: int = 0
    products_changed: int = 0
    skus_added: int = 0
    skus_changed: int = 0
    skus_unchanged: int = 0
    colors_added: int = 0
    sizes_added: int = 0
    new_colors: list[str] = field(default_factory=list)
    new_sizes: list[str] = field(default_factory=list)


class _RollBackError(Exception):
    """Ends a transaction whose result is not wanted."""


@timed
async def import_catalogue(
    connection: headrace.Connection,
    lines: Iterable[CatalogueLine | RefusedLine],
    *,
    refuse: Callable[[RefusedLine], object] = lambda refused: None,
    progress: Callable[[int], object] = lambda lines: None,
    strict: bool = False,
    dry_run: bool = False,
) -> ImportReport:
    """Import the lines, all in one transaction, and return what has been done.

    `refuse` is called with each line that cannot be imported, in the order of the lines. The others are imported, or
    with `strict` none is and StorefrontError is raised. With `dry_run` everything is rolled back at the end. `progress`
    is called with the number of lines so far.

    Other sessions can read the catalogue meanwhile, and wait before they change it. An error, also one of `lines`, and
    a cancellation leave the catalogue unchanged.
    """
    run = _Import(connection)
    report = run.report
    source = iter(lines)
    try:
        async with connection.transaction():
            await run.begin()
            while chunk := _next_chunk(source):
                for refused in await run.merge(chunk):
                    refuse(refused)
                progress(report.lines)
            if strict and report.refused:
                were_refused = counted(report.refused, "line was", "lines were")
                raise StorefrontError(f"nothing was imported, because {were_refused} refused (--strict)")
            if dry_run:
                raise _RollBackError
            await run.end()
    except _RollBackError:
        pass
    return report


def _next_chunk(source: Iterator[CatalogueLine | RefusedLine]) -> list[CatalogueLine | RefusedLine]:
    """Read the next lines. They may come from a pipe that is silent for a long time."""
    with signals.raised_at_once():
        return list(islice(source, CHUNK))


class _Table:
    """The ids of a table. New rows get the ids that follow its largest one.

    That is safe because the tables are locked. The sequence is set when everything else is done, since it would not be
    rolled back.
    """

    def __init__(self, connection: headrace.Connection, name: str, *columns: str) -> None:
        self.connection = connection
        self.name = name
        self.key = f"{name}_id"
        self.columns = (self.key, *columns)
        self.last = 0
        self.added = 0
        self._chosen: list[list[int]] = []
        """Ranges of ids that `new_id` has returned: the first and the last of each."""

    async def begin(self) -> None:
        self.last = await self.connection.fetchval(LAST_ID.format(table=self.name))

    async def end(self) -> None:
        if self.added:
            await self.connection.execute(
                f"SELECT setval(pg_get_serial_sequence('{self.name}', '{self.key}'), $1)", self.last
            )

    def new_id(self) -> int:
        if self.last >= MAX_ID:
            raise StorefrontError(f"there is no id left for another {self.name}: nothing was imported")
        self.last += 1
        if self._chosen and self._chosen[-1][1] == self.last - 1:
            self._chosen[-1][1] = self.last
        else:
            self._chosen.append([self.last, self.last])
        return self.last

    def was_chosen(self, row_id: int) -> bool:
        """Return whether `new_id` has returned this id."""
        index = bisect_right(self._chosen, row_id, key=lambda chosen: chosen[0]) - 1
        return index >= 0 and row_id <= self._chosen[index][1]

    async def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert new rows. Without on_conflict they travel by COPY."""
        if rows:
            self.added += await self.connection.insert_records(self.name, rows, columns=self.columns)

    async def put(self, wanted: dict[int, tuple[Any, ...]]) -> tuple[int, int]:
        """Insert or update rows by id. Return the number of new rows and the number of changed ones."""
        if not wanted:
            return 0, 0
        found = await self.connection.fetch(
            f"SELECT {', '.join(self.columns)} FROM {self.name} WHERE {self.key} = ANY($1)", list(wanted)
        )
        existing = {row[0]: tuple(row)[1:] for row in found}
        rows = [(key, *values) for key, values in wanted.items() if existing.get(key) != values]
        if rows:
            await self.connection.insert_records(
                self.name, rows, columns=self.columns, on_conflict=("update", [self.key])
            )
            self.last = max(self.last, *wanted)
        new = len(wanted) - len(existing)
        self.added += new
        return new, len(rows) - new


class _Names:
    """The ids of names of a table. Names that do not exist get a row."""

    def __init__(self, table: _Table, name_column: str) -> None:
        self.table = table
        self._known: dict[str, int] = {}
        self._query = (
            f"SELECT {name_column}, min({table.key}) FROM {table.name} WHERE {name_column} = ANY($1) GROUP BY 1"
        )

    async def find(self, names: Iterable[str]) -> dict[str, int]:
        """Return the ids of those names that exist. The result is valid until the next call."""
        wanted = set(names)
        if len(self._known) > KNOWN_NAMES:
            self._known = {}
        if unknown := wanted - self._known.keys():
            found = await self.table.connection.fetch(self._query, list(unknown))
            self._known.update((row[0], row[1]) for row in found)
        return self._known

    async def find_or_add(self, names: Iterable[str]) -> tuple[dict[str, int], list[str]]:
        """Return the ids of the names, and the names that are new."""
        in_order = list(dict.fromkeys(names))
        known = await self.find(in_order)
        new = [name for name in in_order if name not in known]
        await self.add({name: self.table.new_id() for name in new})
        return known, new

    async def add(self, ids: dict[str, int]) -> None:
        """Add names with these ids."""
        await self.table.add([(row_id, name) for name, row_id in ids.items()])
        self._known.update(ids)


class _Import:
    """An import that is under way, in a transaction."""

    def __init__(self, connection: headrace.Connection) -> None:
        self.connection = connection
        self.report = ImportReport()
        self.brands = _Table(connection, "brand", "brand_name")
        self.products = _Table(connection, "product", "product_name", "brand_id")
        self.skus = _Table(connection, "sku", "product_id", "product_size_id", "product_color_id")
        self.colors = _Table(connection, "product_color", "product_color_name")
        self.sizes = _Table(connection, "product_size", "product_size_name")
        self.tables = (self.brands, self.products, self.colors, self.sizes, self.skus)
        self.brand_names = _Names(self.brands, "brand_name")
        self.color_names = _Names(self.colors, "product_color_name")
        self.size_names = _Names(self.sizes, "product_size_name")

    async def begin(self) -> None:
        # Two imports at once would both add the same product. The lock does not block readers.
        names = ", ".join(table.name for table in self.tables)
        await self.connection.execute(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE")
        # The planner has no statistics of rows that this transaction adds. A chunk is always looked up by index.
        await self.connection.execute("SET LOCAL enable_seqscan = off")
        for table in self.tables:
            await table.begin()

    async def end(self) -> None:
        for table in self.tables:
            await table.end()
        await self.connection.execute("SET LOCAL enable_seqscan = DEFAULT")
        await self.connection.execute("ANALYZE brand, product, sku")

    async def merge(self, chunk: Sequence[CatalogueLine | RefusedLine]) -> list[RefusedLine]:
        """Import the valid lines of a chunk. Return the lines that are refused, in their order."""
        refused = []
        valid = []
        for line in chunk:
            if isinstance(line, RefusedLine):
                refused.append(line)
            elif reason := self._taken_id(line):
                refused.append(RefusedLine(line.line, reason, line.text))
            else:
                valid.append(line)
        accepted, brand_ids, of_another_brand = await self._merge_brands(valid)
        refused = sorted(refused + of_another_brand)
        product_ids, added_products = await self._merge_products(accepted, brand_ids)
        await self._merge_skus(accepted, product_ids, added_products)
        self.report.lines += len(chunk)
        self.report.refused += len(refused)
        return refused

    def _taken_id(self, line: CatalogueLine) -> str | None:
        """Return why a line is refused whose id this import has given to a line without one."""
        for table, row_id in ((self.products, line.product_id), (self.skus, line.sku_id)):
            if row_id is not None and table.was_chosen(row_id):
                return (
                    f"the {table.key} {row_id} was given to a line above that has none: "
                    f"a file should have a {table.key} on every line or on none"
                )
        return None

    async def _merge_brands(
        self, lines: Sequence[CatalogueLine]
    ) -> tuple[list[CatalogueLine], dict[str, int], list[RefusedLine]]:
        known = await self.brand_names.find(line.brand_name for line in lines)
        given = {line.brand_id for line in lines if line.brand_id is not None}
        names: dict[int, str] = {}
        if given:
            found = await self.connection.fetch(BRAND_NAMES, list(given))
            names.update((row[0], row[1]) for row in found)
        accepted, refused = [], []
        new: dict[str, int | None] = {}
        for line in lines:
            name, wanted = line.brand_name, line.brand_id
            exists = name in known
            current = known[name] if exists else new.get(name)
            if wanted is not None and current is not None and current != wanted:
                refused.append(
                    RefusedLine(line.line, f"the brand {name!r} has the id {current}, not {wanted}", line.text)
                )
                continue
            if wanted is not None and current is None:
                if wanted in names:
                    reason = f"the brand_id {wanted} is that of the brand {names[wanted]!r}, not {name!r}"
                    refused.append(RefusedLine(line.line, reason, line.text))
                    continue
                names[wanted] = name
                new[name] = wanted
            elif not exists:
                new.setdefault(name, None)
            accepted.append(line)
        # Ids that the lines give are taken before others are chosen.
        self.brands.last = max([self.brands.last, *(brand_id for brand_id in new.values() if brand_id is not None)])
        ids = {name: self.brands.new_id() if brand_id is None else brand_id for name, brand_id in new.items()}
        await self.brand_names.add(ids)
        self.report.brands_added += len(ids)
        return accepted, known, refused

    async def _merge_products(
        self, lines: Sequence[CatalogueLine], brand_ids: dict[str, int]
    ) -> tuple[list[int], set[int]]:
        """Return the product's id for each line, and the ids of the products that were added."""
        by_id = {
            line.product_id: (line.product_name, brand_ids[line.brand_name])
            for line in lines
            if line.product_id is not None
        }
        before = self.products.added
        _, changed = await self.products.put(by_id)
        keys = [(brand_ids[line.brand_name], line.product_name) for line in lines]
        wanted = list(dict.fromkeys(key for key, line in zip(keys, lines, strict=True) if line.product_id is None))
        ids: dict[tuple[int, str], int] = {}
        if wanted:
            found = await self.connection.fetch(PRODUCTS_BY_NAME, *map(list, zip(*wanted, strict=True)))
            ids = {(brand_id, name): product_id for brand_id, name, product_id in found}
        added = {key: self.products.new_id() for key in wanted if key not in ids}
        await self.products.add([(product_id, name, brand_id) for (brand_id, name), product_id in added.items()])
        ids.update(added)
        self.report.products_added += self.products.added - before
        self.report.products_changed += changed
        product_ids = [
            ids[key] if line.product_id is None else line.product_id for key, line in zip(keys, lines, strict=True)
        ]
        return product_ids, set(added.values())

    async def _merge_skus(
        self, lines: Sequence[CatalogueLine], product_ids: Sequence[int], added_products: set[int]
    ) -> None:
        report = self.report
        colors, new = await self.color_names.find_or_add(line.color for line in lines if line.color is not None)
        report.colors_added += len(new)
        report.new_colors += new[: LISTED_NAMES - len(report.new_colors)]
        sizes, new = await self.size_names.find_or_add(line.size for line in lines if line.size is not None)
        report.sizes_added += len(new)
        report.new_sizes += new[: LISTED_NAMES - len(report.new_sizes)]
        by_id: dict[int, tuple[int, int, int]] = {}
        by_names: dict[tuple[int, int, int], None] = {}
        count = 0
        for line, product_id in zip(lines, product_ids, strict=True):
            if line.color is not None and line.size is not None:
                count += 1
                key = (product_id, sizes[line.size], colors[line.color])
                if line.sku_id is None:
                    by_names[key] = None
                else:
                    by_id[line.sku_id] = key
        for key in by_id.values():
            by_names.pop(key, None)
        before = self.skus.added
        _, changed = await self.skus.put(by_id)
        # A product that has just been added has no SKUs yet, but for those with ids.
        in_doubt = [key for key in by_names if key[0] not in added_products]
        if in_doubt:
            for row in await self.connection.fetch(EXISTING_SKUS, *map(list, zip(*in_doubt, strict=True))):
                del by_names[tuple(row)]
        await self.skus.add([(self.skus.new_id(), *key) for key in by_names])
        added = self.skus.added - before
        report.skus_added += added
        report.skus_changed += changed
        report.skus_unchanged += count - added - changed
