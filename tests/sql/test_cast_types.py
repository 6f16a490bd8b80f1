"""The types of parameters, as far as the text of a query shows them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import headrace._core.codecs.builtin  # noqa: F401  registers the codecs of all built-in types
from headrace._core.codecs.type_names import builtin_oid
from headrace._sql import cast_types as module
from headrace._sql.cast_types import CastTypes, cast_types


@pytest.mark.parametrize(
    "query",
    ["", "SELECT 1", "SELECT '$1'", "SELECT $$ $1 $$", 'SELECT "$1" FROM a$1', "SELECT 1 -- $1", "SELECT 1 /* $1 */"],
)
def test_a_text_without_parameters_shows_all_of_them(query: str) -> None:
    assert cast_types(query) == CastTypes((), False)


@pytest.mark.parametrize(
    ("cast", "name"),
    [
        ("$1::int", "int4"),
        ("$1 :: INTEGER", "int4"),
        ("$1/* */::/* */smallint", "int2"),
        ("CAST($1 AS bigint)", "int8"),
        ("cast ( $1 as Double Precision )", "float8"),
        ("$1::real", "float4"),
        ("$1::float", "float8"),
        ("$1::decimal", "numeric"),
        ("$1::numeric(10, 2)", "numeric"),
        ("$1::numeric(10, -2)", "numeric"),
        ("$1::boolean", "bool"),
        ("$1::char", "bpchar"),
        ("$1::character(3)", "bpchar"),
        ("$1::char varying(3)", "varchar"),
        ("$1::character varying", "varchar"),
        ("$1::varchar(3)", "varchar"),
        ("$1::bit(3)", "bit"),
        ("$1::bit varying", "varbit"),
        ("$1::timestamp", "timestamp"),
        ("$1::timestamp(3) without time zone", "timestamp"),
        ("$1::timestamp with time zone", "timestamptz"),
        ("$1::timestamp AT TIME ZONE 'x'", "timestamp"),
        ("$1::time(0) with time zone", "timetz"),
        ("$1::interval(3)", "interval"),
        ("$1::pg_catalog.int4", "int4"),
        ("$1 :: pg_catalog . text", "text"),
        ("$1::int[]", "int4[]"),
        ("$1::int[3][]", "int4[]"),
        ("$1::int ARRAY", "int4[]"),
        ("$1::int ARRAY[3]", "int4[]"),
        ("$1::varchar(3)[]", "varchar[]"),
        ("($1::int[])[1]", "int4[]"),
        ("$1::int::text", "int4"),
        ("-$1::int", "int4"),
        ("$1::int % 2", "int4"),
        ("$1::int, $1 :: INTEGER", "int4"),
        ('$1::varchar COLLATE "C"', "varchar"),
    ],
)
def test_words_of_the_grammar_mean_types_of_pg_catalog(cast: str, name: str) -> None:
    assert cast_types(f"SELECT {cast}") == CastTypes((name,), False)


@pytest.mark.parametrize(
    ("cast", "name"), [("$1::int4", "int4"), ("$1::TEXT[]", "text[]"), ("CAST($1 AS uuid)", "uuid")]
)
def test_names_may_mean_other_types(cast: str, name: str) -> None:
    assert cast_types(f"SELECT {cast}, $2::int") == CastTypes((name, "int4"), True)


def test_the_order_is_that_of_the_numbers() -> None:
    assert cast_types("SELECT $2::int, $3::real, $1::bigint, $2::int") == CastTypes(("int8", "int4", "float4"), False)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT $1",
        "SELECT ($1)::int",
        "SELECT $1[1]::int",
        "SELECT $1::int, $1",
        "SELECT $1::int, $1::bigint",
        "SELECT $1::int, $1::int[]",
        "SELECT $1::int, $2",
        "SELECT $2::int",
        "SELECT $1::int, $3::int",
        "SELECT $0::int",
        "SELECT $01::int, $1::text",
        "SELECT $99999999999::int",
        "SELECT $1::mood",
        "SELECT $1::public.int4",
        "SELECT $1::int.x",
        "SELECT $1::pg_catalog.int",
        "SELECT $1::pg_catalog",
        'SELECT $1::"int4"',
        'SELECT $1::"pg_catalog".int4',
        'SELECT "cast"($1 AS int)',
        "SELECT cast($1 AS int COLLATE x)",
        "SELECT $1::float(3)",
        "SELECT $1::double",
        "SELECT $1::interval day",
        "SELECT $1::timestamp with x",
        "SELECT $1::int[x]",
        "SELECT $1::int[1:2]",
        "SELECT $1::varchar('3')",
        "SELECT $1::",
        "SELECT $1::int, '",
        "SELECT $1::int, E'\\', $2::int, '\\'",
        "SELECT '\\', $1::int, ' $2'",
        "SELECT $1::\u212aint",
    ],
)
def test_a_text_that_leaves_a_doubt_shows_nothing(query: str) -> None:
    assert cast_types(query) is None


def test_a_backslash_that_changes_nothing() -> None:
    assert cast_types(r"SELECT $1::int, E'\\'") == CastTypes(("int4",), False)


def test_a_long_text_is_not_read() -> None:
    assert cast_types("SELECT 1" + " " * 20_000) is None


def test_every_type_has_a_codec_and_so_has_its_array() -> None:
    for name in module._IN_CATALOGUE:
        assert builtin_oid(name) is not None
        assert builtin_oid(f"{name}[]") is not None


PIECES = [
    "$1",
    "$2",
    "::",
    "int",
    "text",
    "[",
    "]",
    "(",
    ")",
    "3",
    ",",
    ".",
    "pg_catalog",
    "cast",
    "as",
    "'",
    '"',
    "\\",
    " ",
]


@given(st.lists(st.sampled_from(PIECES)).map("".join) | st.text())
def test_no_text_raises_an_error(sql: str) -> None:
    found = cast_types(sql)
    assert found is None or all(builtin_oid(name) is not None for name in found.names)
