"""Classify SQL text before it is sent.

`classify()` works on the tokens of a text. If the server would refuse the text, or if its end is in doubt, the answers
are the most careful ones. `split_statements()` splits a text at the same boundaries.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Final, Literal, NamedTuple

from headrace._sql.core_functions import GRAMMAR_WORDS, KEYWORDS, READING_FUNCTIONS, SESSION_NAMES, VOLATILE_FUNCTIONS
from headrace._sql.lexer import scan

__all__ = ["Traits", "classify", "reads_transaction", "split_statements"]


class Traits(NamedTuple):
    """The result of `classify()`."""

    statements: int
    """Number of statements; empty ones are not counted."""

    keywords: tuple[str, ...]
    """First keyword of each statement in upper case, after any parentheses; "" if the statement begins with
    something else."""

    plain_read: bool
    """The text is one SELECT, VALUES or TABLE, with or without WITH, that neither writes nor locks rows, and calls only
    core functions that only read (headrace._sql.core_functions). It may be run again even if it was executed.
    Views, operators, casts, row security and foreign tables are trusted to read."""

    reads_session: bool
    """The text reads its session, such as pg_backend_pid() or a setting: another connection may answer differently."""

    session_state: bool
    """The text changes or needs state of its session or a transaction around it, so it must not run on a shared
    connection."""

    copy: Literal["in", "out"] | None
    """COPY FROM STDIN ("in", also if both occur) or COPY TO STDOUT ("out") is among the statements."""

    commits: bool
    """The last statement, whose command tag answers the text, is COMMIT or END (not COMMIT PREPARED, which
    ends another transaction)."""

    not_resettable: bool
    """The text changes session state that RESET ALL and its like do not restore: the role, session characteristics, a
    seed, temporary tables, prepared statements, a loaded library."""

    runs_code: bool
    """The text runs code that it does not show: CALL, DO, EXECUTE, or a function that runs the SQL it is given. The
    session's state must be compared afterwards."""

    needs_own_session: bool
    """The text is one SELECT or VALUES that calls lastval() or currval(), which depend on an earlier statement of the
    session, and neither nextval() nor setval()."""


# A statement is a list of words without white space and comments: keywords and bare identifiers in upper case,
# quoted identifiers with their quotes, operators and punctuation unchanged, and one fixed word for every constant.


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CONSTANT: Final = "'"
_CONSTANTS: Final = frozenset(("STRING", "NUMBER", "PARAMETER"))
_ROUTINES: Final = frozenset(("FUNCTION", "PROCEDURE"))


# Functions whose effect outlives their statement, or that depend on an earlier statement of the session (on a shared
# connection lastval() would return the value of another caller). The pg_advisory_xact_lock family is not among them,
# because its locks end with the statement's transaction.
_SESSION_FUNCTIONS: Final = _names(
    """
    set_config setseed set_limit currval lastval pg_export_snapshot
    pg_advisory_lock pg_advisory_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared
    pg_advisory_unlock pg_advisory_unlock_shared pg_advisory_unlock_all
    lo_open lo_close loread lowrite lo_lseek lo_lseek64 lo_tell lo_tell64 lo_truncate lo_truncate64
    dblink_connect dblink_connect_u dblink_disconnect dblink_open dblink_fetch dblink_close
    dblink_send_query dblink_get_result dblink_cancel_query dblink_exec
    pg_backup_start pg_backup_stop pg_start_backup pg_stop_backup
    pg_create_logical_replication_slot pg_create_physical_replication_slot
    pg_copy_logical_replication_slot pg_copy_physical_replication_slot
    pg_replication_origin_session_setup pg_replication_origin_session_reset
    pg_replication_origin_xact_setup pg_replication_origin_xact_reset
    """
)
_SESSION_FUNCTION_INSIDE: Final = re.compile(
    f"(?:{'|'.join(sorted(_SESSION_FUNCTIONS, key=len, reverse=True))})(?![a-z0-9_$])"
)
_SHORTEST_SESSION_FUNCTION: Final = min(map(len, _SESSION_FUNCTIONS))


class _Statement(NamedTuple):
    words: list[str]
    start: int
    end: int
    sound: bool
    """False if the server must refuse the text, or if its end is doubtful."""

    inside: list[str]
    """Names of session functions inside its constants, which may be SQL that a function runs."""


def _statements(sql: str, conforming: bool) -> Iterator[_Statement]:
    """Split a text at its semicolons, except inside parentheses (CREATE RULE) and BEGIN ATOMIC ... END."""
    words: list[str] = []
    inside: list[str] = []
    start = depth = 0
    sound, in_body = True, False
    for name, at, end in scan(sql, conforming):
        if name == "SPACE" or name == "COMMENT":
            continue
        word = sql[at:end]
        if name == "WORD":
            # Python would fold "\u017fET", with a long s, to "SET"; the server folds ASCII alone.
            if word.isascii():
                word = word.upper()
            if word == "ATOMIC":
                routine = words[:1] == ["CREATE"] and not _ROUTINES.isdisjoint(words[:4])
                in_body = in_body or (routine and depth == 0 and words[-1:] == ["BEGIN"])
            elif word == "END" and in_body and depth == 0 and words[-1] in (";", "ATOMIC"):
                # The END of a CASE and a column label END are never the first word of a statement.
                in_body = False
        elif name == "PUNCTUATION":
            if word == "(":
                depth += 1
            elif word == ")":
                depth -= 1
                sound = sound and depth >= 0
            elif word == ";" and depth <= 0 and not in_body:
                if words:
                    yield _Statement(words, start, at, sound, inside)
                words, inside, start, depth, sound = [], [], end, 0, True
                continue
        elif name in _CONSTANTS:
            if end - at > _SHORTEST_SESSION_FUNCTION:
                inside += _SESSION_FUNCTION_INSIDE.findall(word.lower())
            word = _CONSTANT
        elif name == "UNTERMINATED" or name == "OTHER":
            sound = False
        words.append(word)
    if words:
        yield _Statement(words, start, len(sql), sound and depth <= 0 and not in_body, inside)


_TRANSACTION_ITSELF: Final = re.compile(
    r"(?<![^\W\d])(?:now|age|today|tomorrow|yesterday)(?![^\W\d])"
    r"|current_(?:date|time)|localtime|transaction_timestamp|txid_|xact_id|\\",
    re.IGNORECASE,
)


def reads_transaction(sql: str) -> bool:
    """Return whether a text may read the time at which its transaction began, or the transaction's number.

    The answer is the careful one: a column or a constant that is called `now` or `age` counts as well, and so does a
    text with a backslash, which may spell such a word.
    Source: PostgreSQL documentation, "Current Date/Time" (functions-datetime-current) and "Transaction ID and Snapshot
    Information Functions" (functions-info-snapshot).
    """
    return _TRANSACTION_ITSELF.search(sql) is not None


def split_statements(sql: str, *, standard_conforming_strings: bool = True) -> list[str]:
    """Return the statements of a text, without their semicolons and outer white space.

    Empty statements are left out and comments are kept. An UNTERMINATED token belongs to the last statement.
    """
    return [
        sql[statement.start : statement.end].strip(" \t\n\r\f\v")
        for statement in _statements(sql, standard_conforming_strings)
    ]


_MAIN: Final = _names("SELECT INSERT UPDATE DELETE MERGE VALUES TABLE")

# Statements that leave the session as it was, unless something in them says otherwise. Everything else counts as
# session state: BEGIN, SET, LISTEN, DECLARE, CALL, DO ..., and statements that no PostgreSQL of today knows.
_SHARED: Final = _MAIN | _names(
    """
    ALTER ANALYSE ANALYZE CHECKPOINT CLUSTER COMMENT COPY CREATE DROP EXPLAIN GRANT IMPORT NOTIFY REASSIGN
    REFRESH REINDEX REVOKE SECURITY SHOW TRUNCATE VACUUM WITH
    """
)

_SETTINGS: Final = frozenset(("PG_SETTINGS", '"pg_settings"'))
# These functions run SQL that is an argument or is built from arguments (the last ones are in tablefunc and xml2).
_RUN_SQL: Final = _names(
    """
    query_to_xml query_to_xmlschema query_to_xml_and_xmlschema ts_stat ts_rewrite
    crosstab crosstab2 crosstab3 crosstab4 connectby xpath_table
    """
)
_TEMPORARY: Final = frozenset(("TEMP", "TEMPORARY"))
_TEMPORARY_SCHEMA: Final = re.compile(r'"pg_temp(?:_[0-9]+)?"|PG_TEMP(?:_[0-9]+)?')
# RESET ALL leaves these settings alone.
_KEPT_SETTINGS: Final = _names('ROLE SESSION_AUTHORIZATION SEED "role" "session_authorization" "seed"')
# A text in lower case that this does not match names none of those settings, in a constant or a parameter.
_MAY_NAME_KEPT: Final = re.compile(r"role|session_authorization|seed|\$[0-9]|\\|u&'")
_NOT_RESETTABLE: Final = _names(
    """
    setseed dblink_connect dblink_connect_u pg_backup_start pg_start_backup
    pg_create_logical_replication_slot pg_create_physical_replication_slot
    pg_copy_logical_replication_slot pg_copy_physical_replication_slot
    pg_replication_origin_session_setup pg_replication_origin_session_reset
    """
)
_QUERY: Final = _names("( SELECT VALUES TABLE WITH")
_NAME_FOLLOWS: Final = _names("WITH RECURSIVE , BY SET USING TO DEFAULT")


def _forms(names: Iterable[str]) -> frozenset[str]:
    """Return names in both forms that occur among words: bare and quoted."""
    return frozenset(form for name in names for form in (name.upper(), f'"{name}"'))


_SESSION_CALLS: Final = _forms(_SESSION_FUNCTIONS)
_RUN_SQL_CALLS: Final = _forms(_RUN_SQL)
_SET_CONFIG_CALLS: Final = _forms(["set_config"])
_NOT_RESETTABLE_CALLS: Final = _forms(_NOT_RESETTABLE)
_VALUE_CALLS: Final = _forms(["lastval", "currval"])
_SEQUENCE_CALLS: Final = _forms(["nextval", "setval"])


def _calls(words: list[str], names: frozenset[str]) -> Iterator[int]:
    """Yield the positions at which one of these functions is called: f (...), x.f, or TREAT (x AS f)."""
    if names.isdisjoint(words):
        return
    treats = "TREAT" in words
    for at, word in enumerate(words):
        if word in names and (treats or words[at + 1 : at + 2] == ["("] or (at > 0 and words[at - 1] == ".")):
            yield at


def _calls_any(words: list[str], names: frozenset[str]) -> bool:
    return next(_calls(words, names), None) is not None


def _skip_parentheses(words: list[str], at: int = 0) -> int:
    """Skip opening parentheses."""
    while at < len(words) and words[at] == "(":
        at += 1
    return at


def _main(words: list[str]) -> int:
    """Return the position of the main keyword, after parentheses and WITH; len(words) if there is none."""
    at = _skip_parentheses(words)
    depth = 0
    behind_with = False
    while at < len(words):
        word, before = words[at], words[at - 1]
        if behind_with and word == "(" and depth == 0 and before == ")":
            # WITH a AS (...) (SELECT ...)
            at = _skip_parentheses(words, at)
            behind_with = False
            continue
        if not behind_with:
            if word != "WITH":
                return at
            behind_with = True
            depth = 0
        elif word == "(":
            depth += 1
        elif word == ")":
            depth -= 1
        elif depth == 0 and word in _MAIN and before not in _NAME_FOLLOWS:
            return at
        at += 1
    return at


def _explained(words: list[str]) -> list[str]:
    """Return the statement after EXPLAIN and its options."""
    at = 1
    while at < len(words) and words[at] in ("ANALYZE", "ANALYSE", "VERBOSE"):
        at += 1
    if words[at : at + 1] == ["("] and _QUERY.isdisjoint(words[at + 1 : at + 2]):
        while at < len(words) and words[at] != ")":
            at += 1
        at += 1
    return words[at:]


def _creates_temporary(words: list[str]) -> bool:
    """Return whether CREATE makes something temporary, also inside CREATE SCHEMA, or runs a prepared statement."""
    for at, word in enumerate(words):
        if word == "CREATE":
            at += 3 if words[at + 1 : at + 3] == ["OR", "REPLACE"] else 1
            at += words[at : at + 1] in (["LOCAL"], ["GLOBAL"])
            if at < len(words) and words[at] in _TEMPORARY:
                return True
        elif word == "EXECUTE" and words[at - 1] == "AS":
            return True
    return False


def _into(words: list[str]) -> list[str]:
    """Return the word after each INTO of a SELECT INTO (not of INSERT or MERGE, and not a column name)."""
    return [
        target
        for before, word, target in zip(words, words[1:], words[2:], strict=False)
        if word == "INTO" and before not in ("INSERT", "MERGE", "AS", ".")
    ]


def _needs_session(words: list[str]) -> bool:
    """Return whether a statement changes or needs state of its session, as far as its text shows."""
    if words[0] == "EXPLAIN":
        words = _explained(words)
    first = _skip_parentheses(words)
    keyword = words[first] if first < len(words) else ""
    if keyword not in _SHARED or (keyword == "CREATE" and _creates_temporary(words)):
        return True
    if "INTO" in words:
        for target in _into(words):
            if target in _TEMPORARY or target in ("LOCAL", "GLOBAL"):
                return True
    if _calls_any(words, _SESSION_CALLS) or _calls_any(words, _RUN_SQL_CALLS):
        return True
    # UPDATE of the view pg_settings is SET by another name.
    return "UPDATE" in words and not _SETTINGS.isdisjoint(words)


def _is_not_resettable(words: list[str], inside: list[str], text: str) -> bool:
    """Return whether a statement leaves session state, such as another role, that RESET ALL and the reset do not undo.

    `text` is the text of all statements in lower case: constants are only found there.
    """
    if words[0] == "EXPLAIN":
        words = _explained(words)
    first = _skip_parentheses(words)
    keyword = words[first] if first < len(words) else ""
    behind = words[first + 1 : first + 4]
    if keyword in ("SET", "RESET"):
        if behind[:1] in (["SESSION"], ["LOCAL"]) and behind[1:2] not in (["AUTHORIZATION"], ["CHARACTERISTICS"]):
            del behind[0]
        return behind[:1] == ["SESSION"] or not _KEPT_SETTINGS.isdisjoint(behind[:1])
    if keyword in ("PREPARE", "LOAD", "DEALLOCATE", "DISCARD"):
        # PREPARE TRANSACTION 'x' is another command; a prepared statement may be named "transaction".
        return keyword != "PREPARE" or behind[:2] != ["TRANSACTION", _CONSTANT]
    if keyword == "CREATE" and _creates_temporary(words):
        return True
    if "INTO" in words and any(target in _TEMPORARY or target in ("LOCAL", "GLOBAL") for target in _into(words)):
        return True
    if _calls_any(words, _NOT_RESETTABLE_CALLS) or not _NOT_RESETTABLE.isdisjoint(inside):
        return True
    # If the name of a setting is not visible, it may be one that a reset leaves alone.
    may_name = _MAY_NAME_KEPT.search(text) is not None
    for at in _calls(words, _SET_CONFIG_CALLS):
        if may_name or words[at + 2 : at + 4] != [_CONSTANT, ","]:
            return True
    return may_name and ("set_config" in inside or ("UPDATE" in words and not _SETTINGS.isdisjoint(words)))


def _runs_code(words: list[str]) -> bool:
    """Return whether a statement runs code that its text does not show."""
    if words[0] == "EXPLAIN":
        words = _explained(words)
    first = _skip_parentheses(words)
    if words[first : first + 1] in (["CALL"], ["DO"], ["EXECUTE"]) or _calls_any(words, _RUN_SQL_CALLS):
        return True
    return words[:1] == ["CREATE"] and any(pair == ("AS", "EXECUTE") for pair in pairwise(words))


def _reads_last_value(words: list[str]) -> bool:
    """Return whether a statement only reads the value that an earlier one left to lastval() or currval()."""
    if not _calls_any(words, _VALUE_CALLS) or _calls_any(words, _SEQUENCE_CALLS):
        return False
    main = _main(words)
    return words[main : main + 1] in (["SELECT"], ["VALUES"]) and _CHANGES.isdisjoint(words)


# With one of these words anywhere in it, a SELECT is not a plain read.
_CHANGES: Final = _names("INSERT UPDATE DELETE MERGE INTO")
_READS: Final = _names("SELECT VALUES TABLE WITH")
_LOCKED_FOR: Final = _names("UPDATE NO SHARE KEY")
# These words end a WITH clause or a GROUP BY clause of the same level. All of them are reserved.
_CLAUSES: Final = _names("SELECT VALUES TABLE HAVING WINDOW UNION INTERSECT EXCEPT ORDER LIMIT OFFSET FETCH FOR")
# These keywords can be the name of a function, but not after the paired word.
_GRAMMAR_PAIRS: Final = frozenset(
    (before, word)
    for word, befores in {
        "BY": "ORDER GROUP PARTITION",
        "SETS": "GROUPING",
        "JOIN": "LEFT RIGHT FULL INNER OUTER CROSS NATURAL",
        "FIRST": "FETCH",
        "NEXT": "FETCH",
        "ZONE": "TIME",
        "VARYING": "BIT CHAR CHARACTER NCHAR",
    }.items()
    for before in befores.split()
)
_SESSION_READS: Final = SESSION_NAMES | {f'"{name.lower()}"' for name in SESSION_NAMES}
_VOLATILE: Final = VOLATILE_FUNCTIONS | {f'"{name.lower()}"' for name in VOLATILE_FUNCTIONS}


def _is_name(word: str) -> bool:
    return word[:1] in ('"', "_") or word[:1].isalpha() or word[:1] > "\u007f"


def _only_reads(words: list[str]) -> bool:
    """Return whether a sound statement is a plain read: its words show no call except of functions that only read.

    A call is a name before "(", or a name after a dot: x.f is f(x) if x has no column f, as
    ('s'::regclass).nextval shows. A name before "(" is not a function in the column list of an alias or of a WITH
    query, in a type with modifiers, or if it is part of the grammar.
    """
    first = _skip_parentheses(words)
    if first == len(words) or words[first] not in _READS or not _CHANGES.isdisjoint(words):
        return False
    levels: list[tuple[bool, bool, str]] = []
    in_with = in_grouping = False  # in a WITH clause but outside its queries; in GROUP BY or GROUPING SETS
    opened_by = ""  # the word before the parenthesis that was closed last
    before = ""
    for at, word in enumerate(words):
        if word == "(":
            if _is_name(before) and not _calls_nothing(words, at - 1, in_with, in_grouping, opened_by):
                return False
            distinct_on = before == "ON" and words[at - 2] == "DISTINCT"
            levels.append((in_with, in_grouping, "DISTINCT ON" if distinct_on else before))
            in_with, in_grouping = False, before == "SETS"
        elif word == ")":
            in_with, in_grouping, opened_by = levels.pop()
        elif word == ".":
            after = words[at + 1] if at + 1 < len(words) else ""
            if after in _VOLATILE or (before in (")", "]", _CONSTANT) and after != "*"):
                return False
        elif word == "WITH":
            in_with = before in ("", "(")
        elif word in _CLAUSES:
            in_with = in_grouping = False
            if word == "FOR" and words[at + 1 : at + 2] and words[at + 1] in _LOCKED_FOR:
                return False
        elif word == "BY":
            in_grouping = before == "GROUP"
        elif word[:2] == "U&" or word[:2] == "u&":
            return False
        before = word
    return True


def _calls_nothing(words: list[str], at: int, in_with: bool, in_grouping: bool, opened_by: str) -> bool:
    """Return whether the name at `at`, before a parenthesis, is not a function or is a function that only reads."""
    name = words[at]
    before = words[at - 1] if at > 0 else ""
    if before == ".":
        qualified = at > 2 and words[at - 3] == "."
        if words[at - 2] == "PG_CATALOG" and not qualified and name in READING_FUNCTIONS:
            return True
        return at > 2 and words[at - 3] in ("AS", "::")
    if before == "TABLESAMPLE":
        return name in ("BERNOULLI", "SYSTEM")
    if name in GRAMMAR_WORDS or name in READING_FUNCTIONS:
        return True
    # An alias, or a type as in CAST (x AS name (3)).
    if before == "AS" or before == "::" or (before, name) in _GRAMMAR_PAIRS:
        return True
    if in_with and before in ("WITH", "RECURSIVE", ","):
        return True
    if name == "MATERIALIZED":
        return words[at - 2 : at] == ["AS", "NOT"]
    if in_grouping and name in ("ROLLUP", "CUBE"):
        return before in ("BY", "ALL", "DISTINCT", ",", "(")
    # No call follows the end of an operand: the name is an alias, or part of the grammar such as OVER.
    if before == ")":
        return opened_by not in ("DISTINCT ON", "OPERATOR")
    if before == "ORDINALITY":
        return words[at - 2] == "WITH"
    return before in ("]", _CONSTANT) or (_is_name(before) and before not in KEYWORDS)


def _copies(words: list[str]) -> Literal["in", "out"] | None:
    """Return the direction in which COPY moves data over this connection; None if it names a file or program."""
    depth = 0
    for word, after in pairwise(words[1:]):
        if word in ("(", ")"):
            depth += 1 if word == "(" else -1
        elif depth == 0 and word in ("FROM", "TO"):
            # The server treats STDIN and STDOUT alike: FROM or TO decides the direction.
            if after not in ("STDIN", "STDOUT"):
                return None
            return "in" if word == "FROM" else "out"
    return None


def _judge(sql: str, conforming: bool) -> Traits:
    keywords: list[str] = []
    copies: set[Literal["in", "out"] | None] = set()
    plain_read = True
    reads_session = session_state = commits = not_resettable = runs_code = needs_own_session = False
    lower = sql.lower()
    names_temporary, has_escapes = "pg_temp" in lower, 'u&"' in lower
    for words, _, _, sound, inside in _statements(sql, conforming):
        first = _skip_parentheses(words)
        keyword = words[first] if first < len(words) else ""
        keywords.append(keyword if keyword[:1].isalpha() else "")
        # A name written as U&"..." may be any name, so the statement may do anything.
        escaped = has_escapes and any(word[:2] in ("U&", "u&") for word in words)
        not_undone = escaped or (names_temporary and any(map(_TEMPORARY_SCHEMA.fullmatch, words)))
        needs_session = not sound or not_undone or bool(inside) or _needs_session(words)
        if needs_session:
            session_state = True
            not_resettable = not_resettable or not_undone or _is_not_resettable(words, inside, lower)
            runs_code = runs_code or _runs_code(words)
            needs_own_session = len(keywords) == 1 and _reads_last_value(words)
        plain_read = plain_read and not needs_session and len(keywords) == 1 and _only_reads(words)
        reads_session = reads_session or not _SESSION_READS.isdisjoint(words)
        if words[0] == "COPY":
            copies.add(_copies(words))
        commits = words[0] in ("COMMIT", "END") and words[1:2] != ["PREPARED"]
    return Traits(
        statements=len(keywords),
        keywords=tuple(keywords),
        plain_read=plain_read and len(keywords) == 1,
        reads_session=reads_session,
        session_state=session_state,
        copy="in" if "in" in copies else "out" if "out" in copies else None,
        commits=commits,
        not_resettable=not_resettable,
        runs_code=runs_code,
        needs_own_session=needs_own_session and len(keywords) == 1,
    )


def _judge_both(sql: str) -> Traits:
    """Judge a text under both meanings of a backslash, and return the more careful of each answer."""
    one = _judge(sql, True)
    if "\\" not in sql:
        return one
    other = _judge(sql, False)
    if one == other:
        return one
    longer = one if one.statements >= other.statements else other
    return Traits(
        statements=longer.statements,
        keywords=longer.keywords,
        plain_read=one.plain_read and other.plain_read,
        reads_session=one.reads_session or other.reads_session,
        session_state=one.session_state or other.session_state,
        copy="in" if "in" in (one.copy, other.copy) else one.copy or other.copy,
        commits=one.commits or other.commits,
        not_resettable=one.not_resettable or other.not_resettable,
        runs_code=one.runs_code or other.runs_code,
        needs_own_session=one.needs_own_session or other.needs_own_session,
    )


_CACHED_TEXTS: Final = 1024
_LONGEST_CACHED: Final = 8_192


@lru_cache(_CACHED_TEXTS)
def _judge_cached(sql: str) -> Traits:
    # With one argument lru_cache uses the text itself as the key.
    return _judge_both(sql)


@lru_cache(_CACHED_TEXTS)
def _judge_as_cached(sql: str, conforming: bool) -> Traits:
    return _judge(sql, conforming)


def classify(sql: str, *, standard_conforming_strings: bool | None = None) -> Traits:
    """Return what the driver must know about a text before it sends it.

    Only the text is considered: a function may still change the session unseen. If the answer is in doubt, as for a
    text that the server must refuse or a statement that is not known yet, the text counts as session state and never
    as a plain read.

    `standard_conforming_strings` is the session's setting. If it is not known, a text with a backslash is judged under
    both values, and the stricter answers count. The answers for the last 1,024 texts of up to 8,192 characters are
    cached.
    """
    cached = len(sql) <= _LONGEST_CACHED
    if standard_conforming_strings is None:
        return _judge_cached(sql) if cached else _judge_both(sql)
    return (_judge_as_cached if cached else _judge)(sql, standard_conforming_strings)
