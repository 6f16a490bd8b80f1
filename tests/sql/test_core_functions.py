"""What the generated list of functions that only read promises, held against the catalogue of a real server."""

from __future__ import annotations

import pytest

from headrace._sql.classify import classify
from headrace._sql.core_functions import GRAMMAR_WORDS, KEYWORDS, READING_FUNCTIONS, VOLATILE_FUNCTIONS
from tests.servers import Cluster
from tools.generate_functions import FUNCTIONS, HARMLESS, SQL_STANDARD
from tools.generate_functions import KEYWORDS as KEYWORDS_QUERY


def test_no_overload_of_a_reading_function_is_volatile(server: Cluster) -> None:
    volatile = {name for name, volatilities in server.sql(FUNCTIONS) if "v" in volatilities}
    assert {name for name in volatile if name.upper() in READING_FUNCTIONS} <= HARMLESS
    assert {name.upper() for name in volatile - HARMLESS if name == name.lower()} <= VOLATILE_FUNCTIONS


def test_every_reading_function_is_one_of_the_server(server: Cluster) -> None:
    """Otherwise a program could have defined it."""
    present = {name.upper() for name, _ in server.sql(FUNCTIONS)}
    assert READING_FUNCTIONS - present <= {"UUIDV4", "UUIDV7"}


def test_the_keywords_are_those_of_the_server(server: Cluster) -> None:
    categories = {word.upper(): category for word, category in server.sql(KEYWORDS_QUERY)}
    assert categories.keys() <= KEYWORDS
    callable_words = {word for word in GRAMMAR_WORDS if categories.get(word) not in ("R", "C")}
    assert callable_words <= {word.upper() for word in SQL_STANDARD}


@pytest.mark.parametrize(
    "query",
    [
        "SELECT nextval('numbers')",
        "SELECT ('numbers'::regclass).nextval",
        "SELECT s.nextval FROM CAST('numbers' AS regclass) s",
        "SELECT s.\"nextval\" FROM CAST('numbers' AS regclass) AS s (t)",
        "SELECT TREAT('numbers'::regclass AS nextval)",
        "SELECT DISTINCT ON (1) nextval('numbers')",
        "SELECT 1 OPERATOR(pg_catalog.+) nextval('numbers')",
        "SELECT * FROM ts_stat('SELECT to_tsvector(nextval(''numbers'')::text)')",
        "SELECT f FROM (SELECT 1) AS t (a), nextval('numbers') AS f",
    ],
)
def test_a_call_is_seen_however_it_is_written(server: Cluster, database: str, query: str) -> None:
    server.sql("DROP SEQUENCE IF EXISTS numbers", database=database)
    server.sql("CREATE SEQUENCE numbers", database=database)
    server.sql(query, database=database)
    assert server.sql("SELECT is_called FROM numbers", database=database) == [(True,)], "the query has no effect"
    assert not classify(query).plain_read
