"""A walk through pg_type of every server: each type has a codec, and it is stated which of them are text.

A new version of PostgreSQL with a new type fails here, by name, until the type has a codec and a sample, and so a place
in docs/types.md.
"""

from __future__ import annotations

import pytest

import headrace
from headrace._core.codecs.base import builtin_codecs
from headrace._core.codecs.typemap import INTROSPECTION_QUERY, TypeMap
from headrace.exceptions import FeatureNotSupportedError
from tests.core.codecs.on_server.exactness import as_tuples, exactly
from tests.core.codecs.on_server.samples.every import AS_TEXT, NEWER, SAMPLES
from tests.core.codecs.on_server.samples.sample import array_of

OUTPUT_ONLY = {
    "gtsvector": None,  # in GiST indexes alone
    "pg_brin_bloom_summary": None,  # in BRIN indexes alone
    "pg_brin_minmax_multi_summary": None,
    "pg_node_tree": "SELECT adbin FROM pg_attrdef",
    "pg_ndistinct": "SELECT stxdndistinct FROM pg_statistic_ext_data",
    "pg_dependencies": "SELECT stxddependencies FROM pg_statistic_ext_data",
    "pg_mcv_list": "SELECT stxdmcv FROM pg_statistic_ext_data",
}
"""The base types that no value can be made of, and where one is found."""

INPUT_SINCE_19 = {
    "pg_ndistinct": '[{"attributes": [1, 2], "ndistinct": 100}]',
    "pg_dependencies": '[{"attributes": [1], "dependency": 2, "degree": 1.000000}]',
}
"""Those of them that PostgreSQL 19 makes values of. They have no arrays."""

KINDS = {"b": {"scalar"}, "c": {"composite"}, "d": {"domain"}, "e": {"enum"}, "m": {"multirange"}, "r": {"range"}}

# An array is a base type, too (_record a pseudo-type): of variable length, with elements. typlen tells it from point.
TYPES = """
SELECT oid, typname::text AS name, typtype::text AS kind, typelem AS element, typlen = -1 AND typelem <> 0 AS is_array
FROM pg_type ORDER BY oid
"""


async def base_types(conn: headrace.Connection) -> set[str]:
    """Return the names of the base types, without arrays."""
    return {row["name"] for row in await conn.fetch(TYPES) if row["kind"] == "b" and not row["is_array"]}


async def test_every_base_type_is_built_in(conn: headrace.Connection) -> None:
    codecs = builtin_codecs()
    types = await conn.fetch(TYPES)
    # Arrays of what is not built in: row types of catalogues, domains of information_schema.
    made = {row["oid"] for row in types if row["kind"] in ("c", "d")}
    unknown = [
        row["name"]
        for row in types
        if row["kind"] == "b" and row["oid"] not in codecs and not (row["is_array"] and row["element"] in made)
    ]
    assert not unknown, f"these base types have no codec: {', '.join(unknown)}"


async def test_what_travels_as_text_is_stated(conn: headrace.Connection) -> None:
    by_name = {codec.name: codec for codec in builtin_codecs().values() if codec.kind == "scalar"}
    names = await base_types(conn)
    assert names <= set(by_name)
    assert {name for name in names if by_name[name].format == 0} == AS_TEXT & names


async def test_every_codec_is_of_the_type_of_its_oid(conn: headrace.Connection) -> None:
    names = {row["oid"]: row["name"] for row in await conn.fetch(TYPES)}
    arrays = {row["oid"]: names[row["element"]] + "[]" for row in await conn.fetch(TYPES) if row["is_array"]}
    for oid, codec in builtin_codecs().items():
        if oid in names:
            assert codec.name in (names[oid], arrays.get(oid)), f"OID {oid}"
            assert codec.schema == "pg_catalog"


async def test_every_other_type_can_be_looked_up(conn: headrace.Connection) -> None:
    """Row types and domains of the system's own schemas, and the arrays of both."""
    types = TypeMap()
    rows = await conn.fetch(TYPES)
    oids = types.missing([row["oid"] for row in rows])
    types.learn(oids, await conn.fetch(INTROSPECTION_QUERY, oids))
    for row in rows:
        codec = types.codec(row["oid"])
        assert codec is not None, row["name"]
        if row["is_array"]:
            assert codec.kind == "array", row["name"]
        elif row["kind"] == "p":
            assert codec.kind == "pseudo" or codec.name in ("cstring", "unknown"), row["name"]
        else:
            assert {codec.kind} == KINDS[row["kind"]], row["name"]


async def test_every_base_type_has_a_sample_or_takes_no_input(conn: headrace.Connection) -> None:
    names = await base_types(conn)
    missing = names - set(SAMPLES) - set(NEWER) - set(OUTPUT_ONLY)
    assert not missing, f"no random values for: {', '.join(sorted(missing))}"
    taken = INPUT_SINCE_19 if conn.get_server_version().major >= 19 else {}
    for name, text in taken.items():
        assert await conn.fetchval(f"SELECT $1::{name}", text) == text
    for name in sorted((names & set(OUTPUT_ONLY)) - set(taken)):
        with pytest.raises(FeatureNotSupportedError, match=r"cannot accept a value|not implemented"):
            await conn.fetchval(f"SELECT ''::{name}")


async def test_a_value_of_every_type_that_takes_input(conn: headrace.Connection) -> None:
    """Read from text as a person would write it, alone and in an array; the columns of one row."""
    wide = [sample for sample in SAMPLES.values() if sample.name != "xml" and sample.edges]
    chosen = [(sample, sample.edges[-1]) for sample in wide]
    chosen += [(array_of(sample), [sample.edges[-1], None]) for sample in wide]
    columns = ", ".join(
        "'{}'::{}".format(sample.literal(value).replace("'", "''"), sample.type) for sample, value in chosen
    )
    row = await conn.fetchrow(f"SELECT {columns}")
    assert row is not None
    for (sample, value), came in zip(chosen, row, strict=True):
        assert exactly(as_tuples(came)) == exactly(sample.returned(value)), sample.type


async def test_types_that_only_the_server_makes(conn: headrace.Connection) -> None:
    await conn.execute(
        "CREATE TABLE counted (a int, b int DEFAULT 1);"
        "CREATE STATISTICS counted_statistics ON a, b FROM counted;"
        "INSERT INTO counted SELECT n / 10, n / 10 FROM generate_series(1, 1000) AS n; ANALYZE counted"
    )
    for query in OUTPUT_ONLY.values():
        if query is not None:
            value = await conn.fetchval(query)
            assert isinstance(value, str)
            assert value == await conn.fetchval(f"SELECT format('%s', value) FROM ({query}) AS found (value)")
    await conn.execute("DROP TABLE counted")


@pytest.mark.parametrize("name", ["cstring", "unknown"])
async def test_pseudo_types_with_values(conn: headrace.Connection, name: str) -> None:
    for value in ("", "a", 'ä "\\'):
        assert await conn.fetchval(f"SELECT $1::{name}", value) == value


async def test_void_is_none(conn: headrace.Connection) -> None:
    assert await conn.fetchval("SELECT pg_sleep(0)") is None
