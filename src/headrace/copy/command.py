"""The text of COPY commands.

COPY takes no parameters, so everything is text: this module quotes every name and option. SQL from the caller (a query,
a WHERE) must leave the command one statement.

Source: PostgreSQL documentation, COPY (sql-copy).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from headrace._sql.classify import classify, split_statements
from headrace._sql.quoting import checked_text, quote_identifier, quote_literal
from headrace.exceptions import InterfaceError
from headrace.exceptions._values import shown

TEXTS = frozenset(
    {"format", "delimiter", "null", "quote", "escape", "encoding", "default", "on_error", "log_verbosity"}
)
SWITCHES = frozenset({"oids", "freeze"})
COLUMN_LISTS = frozenset({"force_quote", "force_not_null", "force_null"})

Names = Iterable[str] | None


def table(name: str, schema: str | None) -> str:
    """Return the quoted name of a table, with its schema if given."""
    quoted = quote_identifier(name, "table_name")
    return quoted if schema is None else f"{quote_identifier(schema, 'schema_name')}.{quoted}"


def column_list(columns: Names) -> str:
    """Return the quoted names of columns, separated by commas."""
    return ", ".join(_names(columns, "columns"))


def from_stdin(table: str, columns: Names, options: Mapping[str, object], where: str | None, strings: bool) -> str:
    """Return COPY ... FROM STDIN; `table` is already quoted, `strings` is standard_conforming_strings.

    No columns means all columns, and an empty `where` means none.
    """
    command = f"COPY {table}{_in_brackets(columns)} FROM STDIN{_with(options)}"
    if where:
        command += f" WHERE {checked_text(where, 'where')}"
        if classify(command, standard_conforming_strings=strings).statements != 1:
            raise InterfaceError(f"where is expected to be one SQL expression, got {shown(where)}")
    return command


def to_stdout(table: str, columns: Names, options: Mapping[str, object]) -> str:
    """Return COPY table ... TO STDOUT; `table` is already quoted."""
    return f"COPY {table}{_in_brackets(columns)} TO STDOUT{_with(options)}"


def query_to_stdout(query: str, options: Mapping[str, object], strings: bool) -> str:
    """Return COPY (query) TO STDOUT; `query` is from `one_statement()`."""
    # The query may end in a comment, so a line break follows it.
    command = f"COPY (\n{query}\n) TO STDOUT{_with(options)}"
    if classify(command, standard_conforming_strings=strings).statements != 1:
        raise InterfaceError("query is expected to be one statement, with its quotes, comments and brackets closed")
    return command


def one_statement(query: str, strings: bool) -> str:
    """Return the query without semicolons around it; raises InterfaceError if it is not exactly one statement."""
    statements = split_statements(checked_text(query, "query"), standard_conforming_strings=strings)
    if len(statements) != 1:
        raise InterfaceError(
            f"query is expected to be one statement, got {len(statements)}",
            hint="COPY takes one SELECT, VALUES, TABLE, INSERT, UPDATE, DELETE or MERGE.",
        )
    return statements[0]


def _names(columns: Names, what: str) -> list[str]:
    if columns is None or isinstance(columns, (str, bytes)):
        given = type(columns).__name__
        raise InterfaceError(f"{what} is expected to be a list of column names, got {given} {shown(columns)}")
    return [quote_identifier(column, f"a name in {what}") for column in columns]


def _in_brackets(columns: Names) -> str:
    names = "" if columns is None else column_list(columns)
    return f" ({names})" if names else ""


def _with(options: Mapping[str, object]) -> str:
    # False and an empty list of columns force nothing. An empty text is kept: it may be the text for NULL.
    given = [
        _option(name, value)
        for name, value in options.items()
        if value is not None and (value or name not in COLUMN_LISTS)
    ]
    return f" WITH ({', '.join(given)})" if given else ""


def _option(name: str, value: object) -> str:
    if name in TEXTS:
        text = quote_literal(value, name)
    elif name in SWITCHES:
        text = _switch(name, value)
    elif name in COLUMN_LISTS:
        text = "*" if value is True else f"({', '.join(_names(value, name))})"  # type: ignore[arg-type]
    elif name == "header":
        # Besides a switch it may be "match", or a number of lines in later servers.
        text = quote_literal(value, name) if isinstance(value, str) else _number_or_switch(name, value)
    elif name == "reject_limit":
        text = _number_or_switch(name, value)
    else:
        raise TypeError(f"COPY has no option {name!r}")
    return f"{name.upper()} {text}"


def _switch(name: str, value: object) -> str:
    if not isinstance(value, bool):
        raise InterfaceError(f"{name} is expected to be True or False, got {type(value).__name__} {shown(value)}")
    return "TRUE" if value else "FALSE"


def _number_or_switch(name: str, value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(int(value))
    return _switch(name, value)
