"""Summaries of SQL texts for tracing, and texts without their constants."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._sql.summary import LONGEST_SUMMARY, sanitized, summary

SUMMARIES = [
    # The examples of OpenTelemetry's conventions.
    ("SELECT * FROM wuser_table WHERE username = ?", "SELECT wuser_table"),
    (
        "INSERT INTO shipping_details (order_id, address) SELECT order_id, address FROM orders WHERE order_id = ?",
        "INSERT shipping_details SELECT orders",
    ),
    ("SELECT * FROM songs, artists WHERE songs.artist_id = artists.id", "SELECT songs artists"),
    (
        "SELECT order_date FROM (SELECT * FROM orders o JOIN customers c ON o.customer_id = c.customer_id)",
        "SELECT SELECT orders customers",
    ),
    ('SELECT * FROM "song list", artists', 'SELECT "song list" artists'),
    ("CALL some_stored_procedure(1)", "CALL some_stored_procedure"),
    # Everything is written as in the text.
    ("select * from Shop . product", "select Shop.product"),
    ("SELECT 1", "SELECT"),
    ("", ""),
    ("  -- nothing\n/* at all */", ""),
    ("'", ""),
    ('"quoted"', ""),
    # The FROM clause, and what looks like one.
    ("SELECT extract(year FROM d), a IS DISTINCT FROM b FROM t ORDER BY a, b", "SELECT t"),
    ("SELECT substring(x FROM 2), trim(both FROM y) FROM ONLY t", "SELECT t"),
    ("SELECT * FROM a LEFT JOIN (b CROSS JOIN c) ON true, LATERAL (SELECT FROM d) x, e AS f(g, h), i", None),
    ("SELECT (SELECT count(*) FROM x) FROM y WHERE z IN (SELECT 1 FROM w)", "SELECT SELECT x y SELECT w"),
    ("(SELECT 1 FROM a) UNION ALL (SELECT 2 FROM b)", "SELECT a SELECT b"),
    ("SELECT * FROM generate_series(1, 10) AS n", "SELECT generate_series"),
    ("SELECT * FROM t FOR NO KEY UPDATE OF t", "SELECT t"),
    # WITH queries are no tables.
    (
        "WITH a AS (SELECT 1 FROM x), b (c) AS (INSERT INTO y VALUES (1) RETURNING *) SELECT FROM a, b, z",
        "SELECT x INSERT y SELECT z",
    ),
    ("WITH RECURSIVE r AS (SELECT 1 UNION SELECT n FROM r) SELECT * FROM r", "SELECT SELECT SELECT"),
    # Changes.
    ("INSERT INTO t AS u VALUES (1, 2), (3, 4) ON CONFLICT (id) DO UPDATE SET a = 1", "INSERT t"),
    ("UPDATE sku SET a = 1 FROM product p WHERE p.id = sku.id RETURNING a, b", "UPDATE sku product"),
    ("DELETE FROM ONLY public.sku USING brand b WHERE true", "DELETE public.sku brand"),
    ("MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (1)", "MERGE t s"),
    ("VALUES (1, 2)", "VALUES"),
    ("TABLE t", "TABLE t"),
    ('COPY "t" (a, b) FROM STDIN (FORMAT binary)', 'COPY "t"'),
    ("COPY (SELECT 10 FROM a) TO STDOUT", "COPY SELECT a"),
    ("TRUNCATE TABLE ONLY a, b", "TRUNCATE a b"),
    # Definitions.
    ("CREATE TABLE IF NOT EXISTS public.t (a int REFERENCES b ON DELETE SET NULL)", "CREATE TABLE public.t"),
    ("CREATE TEMP TABLE t AS SELECT * FROM x", "CREATE TABLE t SELECT x"),
    ("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)", "CREATE INDEX i"),
    ("CREATE OR REPLACE VIEW v AS WITH w AS (SELECT 1 FROM t) SELECT * FROM w", "CREATE VIEW v SELECT t SELECT"),
    ("CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1 FROM t; END", None),
    ("DROP MATERIALIZED VIEW IF EXISTS v", "DROP MATERIALIZED VIEW v"),
    ("CREATE ROLE somebody PASSWORD 'secret'", "CREATE ROLE"),
    # Names of the session would make many summaries.
    ("BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN"),
    ("SAVEPOINT headrace_savepoint_1f", "SAVEPOINT"),
    ("ROLLBACK TO x; RELEASE x", "ROLLBACK RELEASE"),
    ("SET work_mem = '1MB'", "SET"),
    ("LISTEN user_17", "LISTEN"),
    ("FETCH 10 FROM cursor_5", "FETCH"),
    ("DECLARE c CURSOR FOR SELECT * FROM t", "DECLARE SELECT t"),
    ("EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM t", "EXPLAIN SELECT t"),
    ("SELECT 1; SELECT 2 FROM x;", "SELECT SELECT x"),
]


@pytest.mark.parametrize(("sql", "expected"), [pair for pair in SUMMARIES if pair[1] is not None])
def test_the_operations_and_targets_of_a_text(sql: str, expected: str) -> None:
    assert summary(sql) == expected


def test_constants_are_in_no_summary() -> None:
    for sql, _ in SUMMARIES:
        assert not {"'", "1", "10"} & set(summary(sql).split())
    assert "secret" not in summary("SELECT * FROM t WHERE password = 'secret' AND \"name\" = $$secret$$")


def test_a_long_summary_ends_with_a_whole_name() -> None:
    names = [f"quite_a_long_name_of_a_table_{number}" for number in range(100)]
    found = summary(f"SELECT * FROM {', '.join(names)}")
    assert LONGEST_SUMMARY - 40 < len(found) <= LONGEST_SUMMARY
    assert found.split()[1:] == names[: len(found.split()) - 1]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            "SELECT * FROM t WHERE a = 'x' AND b IN (1, 2.5) AND c = $1",
            "SELECT * FROM t WHERE a = ? AND b IN (?, ?) AND c = $1",
        ),
        ("SELECT E'it\\'s', B'1', $q$a ' b$q$, U&'\\0041', -1e5, 0xFF", "SELECT ?, ?, ?, ?, -?, ?"),
        ("SELECT 'a' -- secret\n, /* secret */ 2", "SELECT ?  \n,   ?"),
        ("SELECT 'never ends", "SELECT ?"),
        ('SELECT "column 1", col2 FROM "t 3"', 'SELECT "column 1", col2 FROM "t 3"'),
        ("SELECT a ? 'key', b -> 0", "SELECT a ? ?, b -> ?"),
    ],
)
def test_a_text_without_its_constants(sql: str, expected: str) -> None:
    assert sanitized(sql) == expected


def test_a_constant_whose_end_is_in_doubt_is_not_shown() -> None:
    assert sanitized(r"SELECT 'it\'s secret', a FROM t") == summary(r"SELECT 'it\'s secret', a FROM t")
    assert "secret" not in sanitized(r"SELECT 'it\' AS secret FROM t WHERE a = 'b'")


WORDS = st.sampled_from(
    """
    SELECT INSERT INTO UPDATE DELETE FROM WITH AS ( ) , . ; a b "q" 'c' 1 $1 JOIN ON USING TABLE COPY CREATE VIEW MERGE
    VALUES EXPLAIN FOR DO SET LATERAL ONLY DISTINCT WHERE TRUNCATE CALL RECURSIVE UNION
    """.split()
)


@given(st.lists(WORDS, max_size=40))
def test_any_words_have_a_summary(words: list[str]) -> None:
    found = summary(" ".join(words))
    assert len(found) <= LONGEST_SUMMARY
    assert "'" not in found


@given(st.text(max_size=200))
def test_any_text_has_a_summary(text: str) -> None:
    assert len(summary(text)) <= LONGEST_SUMMARY
    sanitized(text)
