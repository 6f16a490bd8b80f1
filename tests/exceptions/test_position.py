"""The line and the caret in the text of a server's error: as psql shows them."""

from __future__ import annotations

import pickle
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

import headrace
from headrace.exceptions import PostgresError
from headrace.exceptions._position import marked_line
from tests.servers import Cluster

LONG = ", ".join(f"column_{number}" for number in range(30))


def drawn(query: str, near: str) -> str | None:
    return marked_line(query, str(query.index(near) + 1))


@pytest.mark.parametrize(
    ("query", "near", "shown"),
    [
        ("SELECT 1 FORM x", "x", "LINE 1: SELECT 1 FORM x\n                      ^"),
        ("SELECT 1\nFORM x\nWHERE y", "x", "LINE 2: FORM x\n             ^"),
        ("SELECT 1\r\nFORM x\r\n", "x", "LINE 2: FORM x\n             ^"),
        ("SELECT 1\rFORM x\r", "x", "LINE 2: FORM x\n             ^"),
        ("\tSELECT\tx", "x", "LINE 1:  SELECT x\n                ^"),
        ("SELECT 'é€', x", "x", "LINE 1: SELECT 'é€', x\n                     ^"),
        ("SELECT '漢字', x", "x", "LINE 1: SELECT '漢字', x\n                       ^"),
        ("SELECT 'e\u0301', x", "x", "LINE 1: SELECT 'e\u0301', x\n                    ^"),
    ],
)
def test_the_caret_is_below_the_place(query: str, near: str, shown: str) -> None:
    assert drawn(query, near) == shown


def test_of_a_long_line_the_part_around_the_place_is_shown() -> None:
    query = f"SELECT {LONG} FORM x"
    for near in ("column_0", "column_15", "column_29", "FORM", "x"):
        line, caret = (drawn(query, near) or "").split("\n")
        assert line[caret.index("^") :].startswith(near[:10])
        assert len(line) <= len("LINE 1: ......") + 60


def test_the_end_of_the_query_is_a_place() -> None:
    assert marked_line("SELECT (", "9") == "LINE 1: SELECT (\n                ^"


@pytest.mark.parametrize("position", [None, "", "0", "-1", "10", "x", "9" * 30, "²"])
def test_without_a_place_there_is_no_line(position: str | None) -> None:
    assert marked_line("SELECT 1", position) is None


@given(st.text(alphabet=st.characters(codec="utf-8")), st.integers(0, 200))
def test_every_text_and_place_give_two_lines_or_none(query: str, position: int) -> None:
    found = marked_line(query, str(position))
    if found is not None:
        assert found.startswith("LINE ")
        assert found.endswith("^")


def test_the_message_is_the_first_line_and_the_only_argument() -> None:
    fields = {"S": "ERROR", "C": "42601", "M": "syntax error", "P": "10", "D": "Why.", "H": "How."}
    error = PostgresError.new(fields, "SELECT 1 FORM x")
    assert str(error) == ("syntax error\nLINE 1: SELECT 1 FORM x\n                 ^\nDETAIL:  Why.\nHINT:  How.")
    assert (error.args, error.message) == (("syntax error",), "syntax error")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_query_inside_a_function_is_named() -> None:
    fields = {"C": "42P01", "M": "no table", "p": "15", "q": "SELECT * FROM nope", "H": "How."}
    assert str(PostgresError.new(fields, "SELECT f()")) == (
        "no table\nLINE 1: SELECT * FROM nope\n                      ^\nHINT:  How.\nQUERY:  SELECT * FROM nope"
    )
    fields["q"] = f"SELECT {LONG} FROM nope"
    assert "column_29" not in str(PostgresError.new(fields, "SELECT f()"))


QUERIES = [
    "SELECT * FORM item",
    "SELECT 1\n  , nope\nFROM pg_class",
    "SELECT\t1,\tnope",
    "SELECT '漢字', 'é€', nope",
    f"SELECT {LONG} FROM pg_class",
    f"SELECT 1 AS a, 1 AS {LONG.replace(', ', ', 1 AS ')}, nope FROM pg_class",
    f"SELECT nope, '{'x' * 200}'",
    f"SELECT '{'漢' * 50}', nope, '{'字' * 50}'",
    "SELECT (",
]


@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
async def test_psql_shows_the_same(query: str, conn: headrace.Connection, server: Cluster) -> None:
    psql = shutil.which("psql")
    if psql is None:
        pytest.skip("there is no psql")
    run = subprocess.run(
        [psql, "-X", "-q", "--no-psqlrc", server.dsn(), "-c", query],
        capture_output=True, text=True, check=False, env={"PGCLIENTENCODING": "UTF8", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    with pytest.raises(PostgresError) as caught:
        await conn.fetch(query)
    said = run.stderr.removeprefix("ERROR:  ").rstrip("\n")
    assert str(caught.value).partition("\nHINT")[0] == said.partition("\nHINT")[0]
