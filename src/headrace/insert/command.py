"""The text of the INSERTs of `insert_records()`.

This module quotes every name. The caller's SQL (conditions, expressions, RETURNING) must leave the text one statement.

Source: PostgreSQL documentation, INSERT (sql-insert), and "Table Functions" (queries-tablefunctions) for unnest().
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from headrace._sql.classify import classify
from headrace._sql.quoting import checked_text, quote_identifier
from headrace.copy.command import column_list
from headrace.exceptions import InterfaceError
from headrace.insert.conflict import Conflict
from headrace.insert.table import Table


def returning_list(returning: str | Iterable[str]) -> str:
    """Return what follows RETURNING: a text as it is, or quoted names."""
    text = checked_text(returning, "returning") if isinstance(returning, str) else column_list(returning)
    if not text.strip():
        raise InterfaceError('returning is expected to name at least one column, or to be SQL such as "*"')
    return text


class Command(NamedTuple):
    """An INSERT into a table, without the rows."""

    table: Table
    columns: Sequence[str]
    conflict: Conflict
    returning: str | None
    """SQL, from `returning_list()`."""

    strings: bool
    """standard_conforming_strings of the session."""

    def of_values(self) -> str:
        """Return the INSERT of one record, with a parameter for each column."""
        return self._insert(f"VALUES ({', '.join(f'${i}' for i in range(1, len(self.columns) + 1))})")

    def of_array(self) -> str:
        """Return the INSERT of many records, with one parameter: an array of the table's row type."""
        names = {name: f"c{i}" for i, name in enumerate(self.table.columns, 1)}
        wanted = ", ".join(f"r.{names[name]}" for name in self.columns)
        return self._insert(
            f"SELECT {wanted} FROM pg_catalog.unnest($1::{self.table.quoted}[]) WITH ORDINALITY "
            f"AS r ({', '.join(names.values())}, ord) ORDER BY r.ord"
        )

    def of_table(self, source: str, order: str) -> str:
        """Return the INSERT of the rows of another table with the same columns, in the order of one more."""
        return self._insert(f"SELECT {column_list(self.columns)} FROM {source} ORDER BY {quote_identifier(order)}")

    def _insert(self, rows: str) -> str:
        text = f"INSERT INTO {self.table.quoted} ({column_list(self.columns)}) {rows}"
        text += self.conflict.clause(self.columns)
        if self.returning is not None:
            text += f" RETURNING {self.returning}"
        if classify(text, standard_conforming_strings=self.strings).statements != 1:
            raise InterfaceError("where, update and returning are expected to leave the INSERT one statement")
        return text
