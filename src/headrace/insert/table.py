"""The table that records are inserted into, as the server describes it. It is asked for each call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from headrace._client.introspection import learn_types
from headrace._core.pipeline.prepare import own_statement
from headrace._core.rows.record import Record
from headrace._io.driver import KIND_ROWS
from headrace._sql.quoting import quote_identifier

if TYPE_CHECKING:
    from headrace._io.driver import Driver

QUESTION = """\
SELECT
    n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relkind::pg_catalog.text, c.reltype,
    coalesce((SELECT t.typarray FROM pg_catalog.pg_type AS t WHERE t.oid = c.reltype), 0::pg_catalog.oid),
    c.relhasrules AND EXISTS (SELECT FROM pg_catalog.pg_rewrite AS r WHERE r.ev_class = c.oid AND r.ev_type <> '1'),
    pg_catalog.row_security_active(c.oid),
    EXISTS (SELECT FROM pg_catalog.pg_extension AS e WHERE e.extname = 'citus'),
    a.attname::pg_catalog.text, a.atttypid, pg_catalog.format_type(a.atttypid, a.atttypmod),
    a.attgenerated <> '', a.attidentity = 'a',
    (SELECT d.typtype = 'd' AND (d.typnotnull
        OR (SELECT b.typtype = 'd' FROM pg_catalog.pg_type AS b WHERE b.oid = d.typbasetype)
        OR EXISTS (SELECT FROM pg_catalog.pg_constraint AS k WHERE k.contypid = d.oid))
     FROM pg_catalog.pg_type AS d WHERE d.oid = a.atttypid),
    NOT a.atthasdef AND (SELECT d.typdefault IS NULL FROM pg_catalog.pg_type AS d WHERE d.oid = a.atttypid),
    pg_catalog.has_column_privilege(c.oid, a.attnum, 'INSERT')
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.oid = pg_catalog.to_regclass($1::pg_catalog.text)
ORDER BY a.attnum"""
# Subqueries instead of joins: planning the joins took half as long again.

BOOL, TEXT, OID = 16, 25, 26
ANSWER = list(
    {
        "schema": TEXT, "name": TEXT, "kind": TEXT, "row_type": OID, "array_type": OID, "has_rules": BOOL,
        "row_security": BOOL, "citus": BOOL, "column": TEXT, "type": OID, "type_name": TEXT, "is_generated": BOOL,
        "is_always_identity": BOOL, "is_strict": BOOL,
        "is_null_by_default": BOOL, "may_be_given": BOOL,
    }.items()
)  # fmt: skip

ORDINARY, FOREIGN = "r", "f"


class Column(NamedTuple):
    """A column of a table."""

    name: str
    type: int
    type_name: str
    """The type in SQL, with its modifier."""

    is_generated: bool
    is_always_identity: bool
    """True for GENERATED ALWAYS AS IDENTITY."""

    is_strict: bool
    """True if the type is a domain that may refuse NULL."""

    is_null_by_default: bool
    """True if neither the column nor its type has a default."""

    may_be_given: bool
    """True if this role may insert values into it."""


class Table(NamedTuple):
    """A table, view or foreign table."""

    schema: str
    name: str
    kind: str
    row_type: int
    """The type of its rows."""

    array_type: int
    """The type of arrays of its rows; 0 if there is none."""

    has_rules: bool
    row_security: bool
    """True if row security applies to this role."""

    citus: bool
    """True if the database may distribute its tables."""

    columns: dict[str, Column]

    @property
    def quoted(self) -> str:
        """The quoted name, with its schema."""
        return f"{quote_identifier(self.schema)}.{quote_identifier(self.name)}"

    @property
    def writable(self) -> list[str]:
        """The columns that records may have values for: the server computes those of the others."""
        return [each.name for each in self.columns.values() if not (each.is_generated or each.is_always_identity)]

    def takes_copy(self, columns: Sequence[str]) -> bool:
        """Return whether COPY into these columns does what INSERT does."""
        return (
            self.kind == ORDINARY
            and not self.has_rules
            and not self.row_security
            and not any(name not in self.writable for name in columns)
            and all(self.columns[name].may_be_given for name in self.unchecked_by_copy(columns))
        )

    def unchecked_by_copy(self, columns: Sequence[str]) -> list[str]:
        """Return the other columns that have to be NULL if the records have values for `columns`.

        They are of domains that may refuse NULL. INSERT asks the domain. COPY only does that if it is given the NULL.
        """
        return [
            each.name
            for each in self.columns.values()
            if each.is_strict and each.is_null_by_default and each.name not in columns
        ]

    def may_return_in_any_order(self) -> bool:
        """Return whether rows of one INSERT may come back in another order than they were inserted."""
        return self.kind == FOREIGN or self.citus

    def types_of(self, columns: Sequence[str]) -> list[int]:
        """Return the types of some columns."""
        return [self.columns[name].type for name in columns]


async def described(driver: Driver, quoted: str) -> Table | None:
    """Return the table of a quoted name; None if there is none, or none with columns."""
    question = own_statement(QUESTION, (TEXT,), ANSWER)
    rows = await driver.reply(driver.execute_statement(question, (quoted,), KIND_ROWS, 0, 0, Record), None)
    if not rows:
        return None
    columns = {row["column"]: Column(*(row[name] for name in ANSWER_OF_COLUMN)) for row in rows}
    schema, name, kind, row_type, array_type, has_rules, row_security, citus = tuple(rows[0])[:8]
    return Table(schema, name, kind, row_type, array_type, has_rules, row_security, citus, columns)


ANSWER_OF_COLUMN = [name for name, _ in ANSWER[8:]]


async def has_rows_as_tuples(driver: Driver, table: Table) -> bool:
    """Return whether an array of the table's rows can be sent, as tuples; looks the types up if they are not known.

    If the table was altered since its row type was looked up, that is looked up again: binary values of one type could
    pass for another's.
    """
    types = driver.session.types
    if not table.array_type or {table.row_type, table.array_type}.intersection(types.customised):
        return False
    known = types.catalogue.find(table.row_type)
    if known is not None and (
        known.attribute_names != tuple(table.columns)
        or known.attribute_types != tuple(each.type for each in table.columns.values())
    ):
        types.catalogue.forget([table.array_type])
    await learn_types(driver, [table.array_type], None)
    codec = types.codec(table.row_type)
    return codec is not None and codec.kind == "composite"
