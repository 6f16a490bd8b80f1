"""Summaries of SQL texts for tracing, and texts without their constants.

Source: OpenTelemetry, "Semantic conventions for database client spans": "Generating a summary of the query" and
"Sanitization of db.query.text".
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from headrace._sql.lexer import scan

__all__ = ["sanitized", "summary"]

LONGEST_SUMMARY: Final = 255

_CACHED_TEXTS: Final = 1024
_LONGEST_CACHED: Final = 8_192
_READ_FOR_SUMMARY: Final = 65_536
"""Characters of a text that are read for its summary."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Statements that are not searched for targets: what follows is a name of the session, a setting or code.
_ALONE: Final = _names(
    """
    ABORT BEGIN CHECKPOINT CLOSE COMMIT DEALLOCATE DISCARD DO END EXECUTE FETCH LISTEN LOAD MOVE NOTIFY RELEASE
    RESET ROLLBACK SAVEPOINT SET SHOW START UNLISTEN GRANT REVOKE REASSIGN SECURITY COMMENT IMPORT
    """
)
# Statements that name their target at once, behind these words.
_NAMING: Final = {
    "ANALYSE": _names("VERBOSE"),
    "ANALYZE": _names("VERBOSE"),
    "CALL": frozenset[str](),
    "CLUSTER": _names("VERBOSE"),
    "LOCK": _names("TABLE ONLY"),
    "REFRESH": _names("MATERIALIZED VIEW CONCURRENTLY"),
    "REINDEX": _names("INDEX TABLE SCHEMA DATABASE SYSTEM CONCURRENTLY"),
    "TRUNCATE": _names("TABLE ONLY"),
    "VACUUM": _names("FULL FREEZE VERBOSE ANALYZE"),
}
_LISTING: Final = _names("TRUNCATE LOCK VACUUM ANALYZE ANALYSE")
_DEFINING: Final = _names("CREATE ALTER DROP")
_MODIFIERS: Final = _names(
    "OR REPLACE GLOBAL LOCAL TEMP TEMPORARY UNLOGGED UNIQUE RECURSIVE TRUSTED PROCEDURAL DEFAULT"
)
_OBJECTS: Final = _names(
    """
    ACCESS AGGREGATE CAST COLLATION CONVERSION DATABASE DOMAIN EVENT EXTENSION FOREIGN FUNCTION GROUP INDEX LANGUAGE
    LARGE MATERIALIZED OPERATOR OWNED POLICY PROCEDURE PUBLICATION ROLE ROUTINE RULE SCHEMA SEQUENCE SERVER STATISTICS
    SUBSCRIPTION SYSTEM TABLE TABLESPACE TEXT TRANSFORM TRIGGER TYPE USER VIEW
    """
)
_SECOND_WORDS: Final = _names("CLASS DATA FAMILY MAPPING METHOD OBJECT SEARCH TABLE TRIGGER VIEW WRAPPER BY")
_BEFORE_NAME: Final = _names("IF NOT EXISTS CONCURRENTLY ONLY")
_QUERY_WORDS: Final = _names("SELECT INSERT UPDATE DELETE MERGE VALUES TABLE")
_END_OF_FROM: Final = _names(
    "WHERE GROUP HAVING WINDOW ORDER LIMIT OFFSET FETCH FOR UNION INTERSECT EXCEPT RETURNING SET ON WHEN SELECT VALUES"
)
# UPDATE, DELETE and INSERT that are no operations: FOR [NO KEY] UPDATE, ON UPDATE, DO UPDATE, THEN DELETE ...
_NOT_BEFORE: Final = _names("FOR KEY ON DO THEN BEFORE AFTER OF OR INSTEAD . AS")
_TARGET_PREFIXES: Final = _names("ONLY LATERAL ROWS")


class _Word(NamedTuple):
    upper: str
    """The word in upper case; a quoted identifier or an operator unchanged; "'" for a constant."""
    text: str
    is_name: bool


def _statements(sql: str) -> Iterator[list[_Word]]:
    words: list[_Word] = []
    depth = 0
    for kind, start, end in scan(sql, True):
        if kind == "SPACE" or kind == "COMMENT":
            continue
        text = sql[start:end]
        if kind == "WORD":
            words.append(_Word(text.upper() if text.isascii() else text, text, True))
        elif kind == "QUOTED":
            words.append(_Word(text, text, True))
        elif kind == "PUNCTUATION" or kind == "OPERATOR":
            if text == ";" and depth <= 0:
                if words:
                    yield words
                words, depth = [], 0
                continue
            depth += (text == "(") - (text == ")")
            words.append(_Word(text, text, False))
        elif kind == "UNTERMINATED":
            break
        else:
            words.append(_Word("'", "", False))
    if words:
        yield words


class _Level:
    """The state of the reader inside a parenthesis."""

    __slots__ = ("in_from", "in_with", "selects")

    def __init__(self, *, in_from: bool = False) -> None:
        self.in_from = in_from
        self.in_with = False
        self.selects = in_from


class _Reader:
    """Collects the operations and targets of one statement."""

    def __init__(self, words: list[_Word]) -> None:
        self.words = words
        self.at = 0
        self.parts: list[str] = []
        self.common: set[str] = set()
        """Names of WITH queries, which are no collections."""

    def read(self) -> list[str]:
        """Return the operations and targets in their order."""
        words = self.words
        while self.at < len(words) and words[self.at].upper == "(":
            self.at += 1
        if self.at == len(words):
            return []
        first = words[self.at]
        if not first.is_name or first.text.startswith('"'):
            return []
        keyword = first.upper
        if keyword in _QUERY_WORDS or keyword == "WITH":
            self._query()
        elif keyword == "COPY":
            self._copy()
        elif keyword in _DEFINING:
            self._define()
        elif keyword in _NAMING:
            self._name(keyword)
        else:
            self.parts.append(first.text)
            if keyword == "EXPLAIN" or keyword == "DECLARE" or keyword == "PREPARE":
                self._inner()
        return self.parts

    def _upper(self, at: int) -> str:
        return self.words[at].upper if 0 <= at < len(self.words) else ""

    def _take_name(self) -> bool:
        """Take a name, with its qualification, as a target; returns whether there was one."""
        words, at = self.words, self.at
        if at == len(words) or not words[at].is_name:
            return False
        text = words[at].text
        while self._upper(at + 1) == "." and at + 2 < len(words) and words[at + 2].is_name:
            text += "." + words[at + 2].text
            at += 2
        self.at = at + 1
        if text.upper() not in self.common:
            self.parts.append(text)
        return True

    def _name(self, keyword: str) -> None:
        self.parts.append(self.words[self.at].text)
        self.at += 1
        if self._upper(self.at) == "(":
            self._skip_parentheses()
        skipped = _NAMING[keyword]
        while self._upper(self.at) in skipped:
            self.at += 1
        while self._take_name():
            if keyword not in _LISTING:
                return
            if self._upper(self.at) == "(":
                self._skip_parentheses()
            if self._upper(self.at) == "*":
                self.at += 1
            if self._upper(self.at) != ",":
                return
            self.at += 1
            if self._upper(self.at) == "ONLY":
                self.at += 1

    def _skip_parentheses(self) -> None:
        depth = 0
        while self.at < len(self.words):
            upper = self._upper(self.at)
            depth += (upper == "(") - (upper == ")")
            self.at += 1
            if depth == 0:
                return

    def _copy(self) -> None:
        self.parts.append(self.words[self.at].text)
        self.at += 1
        if self._upper(self.at) == "(":
            self.at += 1
            self._query()
        else:
            if self._upper(self.at) == "BINARY":
                self.at += 1
            self._take_name()

    def _define(self) -> None:
        operation = [self.words[self.at].text]
        self.at += 1
        while self._upper(self.at) in _MODIFIERS:
            self.at += 1
        kind = self._upper(self.at)
        if kind in _OBJECTS:
            operation.append(self.words[self.at].text)
            self.at += 1
            if self._upper(self.at) in _SECOND_WORDS:
                operation.append(self.words[self.at].text)
                self.at += 1
        self.parts.append(" ".join(operation))
        while self._upper(self.at) in _BEFORE_NAME:
            self.at += 1
        if kind not in _OBJECTS or kind in ("USER", "ROLE", "GROUP", "OPERATOR", "CAST", "TRANSFORM", "OWNED"):
            return
        if kind == "INDEX" and self._upper(self.at) == "ON":
            self.at += 1
        if self._take_name() and operation[0].upper() == "CREATE" and kind in ("TABLE", "VIEW", "MATERIALIZED"):
            self._inner()

    def _inner(self) -> None:
        """Go on with the query inside a statement, behind AS or FOR, or of EXPLAIN."""
        for at in range(self.at, len(self.words)):
            upper = self._upper(at)
            before = self._upper(at - 1)
            if upper in _QUERY_WORDS or upper == "WITH":
                if upper == "WITH" and before not in ("AS", "FOR", ")", "EXPLAIN", "ANALYZE", "VERBOSE", "("):
                    continue
                self.at = at
                self._query()
                return

    def _query(self) -> None:
        """Read a query: its operations, and the names behind FROM, JOIN, INTO, UPDATE and USING."""
        words = self.words
        levels = [_Level()]
        expects = False
        """A target comes next, if it is a name."""
        while self.at < len(words):
            level = levels[-1]
            word = words[self.at]
            upper = word.upper
            before = self._upper(self.at - 1)
            if expects:
                if upper in _TARGET_PREFIXES and self._upper(self.at + 1) != ".":
                    self.at += 1
                    continue
                expects = False
                if word.is_name and upper != "SELECT" and upper != "VALUES" and self._take_name():
                    continue
            self.at += 1
            if upper == "(":
                opens = level.in_from and before in ("FROM", "JOIN", ",", "LATERAL", "(", "USING")
                levels.append(_Level(in_from=opens))
                expects = opens and self._upper(self.at) not in ("SELECT", "VALUES", "WITH", "TABLE")
                if not expects and opens:
                    levels[-1].in_from = levels[-1].selects = False
            elif upper == ")":
                if len(levels) > 1:
                    levels.pop()
            elif upper == "SELECT" or upper == "VALUES":
                if before == ".":
                    continue
                if upper == "SELECT" or (level.selects is False and before in ("", "(", "AS", "FOR")):
                    self.parts.append(word.text)
                level.in_with = level.in_from = False
                level.selects = True
            elif upper == "INSERT" or upper == "MERGE":
                if before not in _NOT_BEFORE or (before == "AS" and level.in_with):
                    self.parts.append(word.text)
                    level.in_with = False
                    level.selects = True
                    expects = self._upper(self.at) == "INTO"
                    self.at += expects
            elif upper == "UPDATE" or upper == "DELETE":
                if before not in _NOT_BEFORE:
                    self.parts.append(word.text)
                    level.in_with = False
                    level.selects = expects = True
                    self.at += upper == "DELETE" and self._upper(self.at) == "FROM"
            elif upper == "WITH" and before in ("", "(", "AS", "FOR", ")", "EXPLAIN", "ANALYZE", "VERBOSE"):
                level.in_with = not level.selects
                if level.in_with:
                    self._common_name()
            elif upper == "TABLE" and before in ("", "(", "AS", "UNION", "ALL", "EXCEPT", "INTERSECT"):
                self.parts.append(word.text)
                expects = True
            elif upper == "," and level.in_with:
                self._common_name()
            elif upper == "," and level.in_from:
                expects = True
            elif upper == "FROM" or (upper == "USING" and self._upper(self.at) != "("):
                if level.selects and before != "DISTINCT":
                    level.in_from = expects = True
            elif upper == "JOIN":
                level.in_from = expects = level.selects
            elif upper in _END_OF_FROM and upper != "ON":
                level.in_from = False

    def _common_name(self) -> None:
        """Note the name of a WITH query."""
        if self._upper(self.at) == "RECURSIVE":
            self.at += 1
        if self.at < len(self.words) and self.words[self.at].is_name:
            self.common.add(self.words[self.at].text.upper())
            self.at += 1
            if self._upper(self.at) == "(":
                self._skip_parentheses()


def _summary(sql: str) -> str:
    parts: list[str] = []
    length = -1
    for words in _statements(sql[:_READ_FOR_SUMMARY]):
        for part in _Reader(words).read():
            length += len(part) + 1
            if length > LONGEST_SUMMARY:
                return " ".join(parts)
            parts.append(part)
    return " ".join(parts)


def _sanitized(sql: str) -> str:
    text = _without_constants(sql, True)
    if "\\" in sql and text != _without_constants(sql, False):
        # The end of a constant depends on standard_conforming_strings, which is not known here.
        return _summary(sql)
    return text


def _without_constants(sql: str, conforming: bool) -> str:
    pieces: list[str] = []
    for kind, start, end in scan(sql, conforming):
        if kind == "STRING" or kind == "NUMBER" or kind == "UNTERMINATED":
            pieces.append("?")
        elif kind == "COMMENT":
            pieces.append(" ")
        else:
            pieces.append(sql[start:end])
    return "".join(pieces).strip()


_summary_cached = lru_cache(_CACHED_TEXTS)(_summary)
_sanitized_cached = lru_cache(_CACHED_TEXTS)(_sanitized)


def summary(sql: str) -> str:
    """Return the operations and targets of a text in their order, such as "SELECT product" or "INSERT sku".

    Operations and names are written as in the text. Names of WITH queries, savepoints, cursors, channels and settings
    are left out, and so is every constant, so a program has few summaries. It has at most 255 characters, of whole
    names. '' if the text has no statement. Never raises.
    """
    return _summary_cached(sql) if len(sql) <= _LONGEST_CACHED else _summary(sql)


def sanitized(sql: str) -> str:
    """Return a text with "?" in place of each constant, and without comments. Never raises.

    Parameters such as $1 stay. If it is in doubt where a constant ends, because of a backslash, the summary is
    returned.
    """
    return _sanitized_cached(sql) if len(sql) <= _LONGEST_CACHED else _sanitized(sql)
