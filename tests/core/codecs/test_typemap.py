"""What a connection knows of types: shared in a pool, looked up once, changed at once everywhere."""

from __future__ import annotations

import gc
import weakref

import pytest

from headrace._core.codecs.introspection import COLUMNS, TypeInfo
from headrace._core.codecs.type_names import builtin_oid, catalogue_name
from headrace._core.codecs.typemap import TypeCatalogue, TypeMap

from .types_known import (
    AGE,
    AGES,
    LISTING,
    MOOD,
    NAMED,
    PAIR,
    PAIRS,
    PRICES,
    TAGGED,
    TYPES,
    back,
    codec,
    decoded,
    encoded,
    info,
    known,
    row,
)

INT4, INT4S, TEXT, NUMERIC = 23, 1007, 25, 1700


def test_types_with_fixed_oids_need_no_looking_up() -> None:
    assert TypeMap().missing([INT4, INT4S, TEXT, 3904, 4451, 2249]) == []


def test_what_is_unknown_is_missing_once() -> None:
    types = TypeMap()
    assert types.missing([PAIR, INT4, MOOD, PAIR]) == [PAIR, MOOD]
    assert types.codec(PAIR) is None
    types.learn([PAIR, MOOD], TYPES)
    assert types.missing([PAIR, INT4, MOOD, PAIR]) == []


def test_a_type_that_is_gone_stays_missing() -> None:
    types = TypeMap()
    types.learn([PAIR], [])
    assert types.codec(PAIR) is None
    assert types.missing([PAIR]) == [PAIR]


def test_kinds_and_names() -> None:
    types = known()
    assert [
        (each.name, each.kind, each.schema) for each in (codec(types, oid) for oid in (PAIR, PAIRS, MOOD, AGE))
    ] == [
        ("pair", "composite", "public"),
        ("pair[]", "array", "public"),
        ("mood", "enum", "public"),
        ("age", "domain", "public"),
    ]
    assert codec(types, INT4S).name == "int4[]"


def test_the_connections_of_a_pool_share_what_they_learn() -> None:
    catalogue = TypeCatalogue()
    one, other = TypeMap(catalogue), TypeMap(catalogue)
    one.learn([PAIR], TYPES)
    assert other.missing([PAIR]) == []
    assert tuple(back(other, PAIR, (1, "a"))) == (1, "a")


def test_codecs_set_on_one_connection_are_its_own() -> None:
    catalogue = TypeCatalogue()
    one, other = TypeMap(catalogue), TypeMap(catalogue)
    one.set_codec(TEXT, "text", str.lower, str.upper)
    assert back(one, TEXT, "a") == "A"
    assert back(other, TEXT, "a") == "a"
    copied = one.copy()
    one.reset_codec(TEXT)
    assert back(copied, TEXT, "a") == "A"
    assert back(one, TEXT, "a") == "a"
    assert copied.catalogue is catalogue


def test_every_change_of_codecs_has_a_version() -> None:
    types = known()
    versions = [types.version]
    types.set_codec(TEXT, "text", str, str)
    versions.append(types.version)
    types.set_builtin(MOOD, "text")
    versions.append(types.version)
    types.reset_codec(TEXT)
    versions.append(types.version)
    types.clear()
    versions.append(types.version)
    assert len(set(versions)) == len(versions)
    types.reset_codec(TEXT)
    types.clear()
    types.learn([PAIR], TYPES)
    assert types.version == versions[-1]


def test_an_altered_type_takes_effect_on_every_connection() -> None:
    catalogue = TypeCatalogue()
    one, other = TypeMap(catalogue), TypeMap(catalogue)
    catalogue.learn(TYPES)
    assert len(encoded(other, PAIRS, [])) == 12
    before = other.version
    catalogue.forget([PAIR])
    assert one.missing([PAIR, MOOD]) == [PAIR]
    # Until it has been looked up again it is what it was.
    assert tuple(back(other, PAIR, (1, "a"))) == (1, "a")
    one.learn([PAIR], [row(PAIR, "pair", a=INT4, b=TEXT, c=INT4)])
    assert other.version > before
    assert tuple(back(other, PAIR, (1, "a", 2))) == (1, "a", 2)
    assert tuple(back(other, PAIRS, [(1, "a", 2)])[0]) == (1, "a", 2)


def test_forgetting_everything() -> None:
    types = known()
    types.catalogue.forget()
    assert types.missing([PAIR, INT4]) == [PAIR]
    types.learn([PAIR], TYPES)
    assert types.missing([PAIR, MOOD, TAGGED]) == []


def test_a_map_goes_with_its_connection() -> None:
    catalogue = TypeCatalogue()
    types = TypeMap(catalogue)
    assert types.codec(2249) is not None
    gone = weakref.ref(types)
    del types
    gc.collect()
    assert gone() is None
    catalogue.learn(TYPES)


def test_codecs_of_a_type_are_followed_by_what_is_made_of_it() -> None:
    types = known()
    before = codec(types, INT4S)
    assert codec(TypeMap(), INT4S) is before
    types.set_codec(INT4, "text", str, str)
    for oid, data, value in [
        (INT4S, b"{1}", ["1"]),
        (AGE, b"1", "1"),
        (AGES, b"{1}", ["1"]),
        (LISTING, b"{1}", ["1"]),
        (3904, b"[1,2)", None),
    ]:
        result = decoded(types, oid, data)
        assert value is None or result == value
    assert tuple(back(types, PAIR, ("1", "a"))) == ("1", "a")
    types.reset_codec(INT4)
    assert codec(types, INT4S) is before


def test_a_type_that_claims_to_hold_itself_ends_somewhere() -> None:
    types = TypeMap()
    types.learn([1], [info(20000, "a", element=20001), info(20001, "b", element=20000)])
    assert types.codec(20000) is not None
    types.learn([1], [row(20002, "c", c=20002)])
    assert types.codec(20002) is not None


def test_what_is_made_of_a_type_that_is_gone_is_text() -> None:
    types = TypeMap()
    types.learn([PAIR], [row(PAIR, "pair", a=INT4, b=99999)])
    assert codec(types, PAIR).format == 0
    assert tuple(decoded(types, PAIR, b"(1,x)")) == (1, "x")


def test_the_columns_of_the_query_are_the_fields_of_a_type() -> None:
    assert len(COLUMNS) == len(TypeInfo._fields)


@pytest.mark.parametrize(
    ("name", "oid"),
    [
        ("int4", 23),
        ("integer", 23),
        ("double precision", 701),
        ("timestamp with time zone", 1184),
        ("character varying", 1043),
        ("char", 1042),
        ('"char"', 18),
        ("CHAR", 1042),
        ("Timestamp With Time Zone", 1184),
        ("timestamp with timezone", 1184),
        ("timestamp without timezone", 1114),
        ("time with timezone", 1266),
        ("time without timezone", 1083),
        ("double  precision", 701),
        ("BIGINT", 20),
        ("decimal", 1700),
        ("bit varying", 1562),
        ("nosuch", None),
    ],
)
def test_names_of_builtin_types(name: str, oid: int | None) -> None:
    assert builtin_oid(name) == oid


def test_sqls_names_are_pg_catalogs_alone() -> None:
    assert catalogue_name("integer", "pg_catalog") == "int4"
    assert catalogue_name("integer", "public") == "integer"


# Dates and times that Python cannot hold, as text


@pytest.mark.parametrize(
    ("oid", "wire", "text"),
    [
        (1082, "fff49d7b", "0044-03-15 BC"),
        (1082, "0064511d", "20000-01-01"),
        (1083, "000000141dd76000", "24:00:00"),
        (1266, "000000141dd76000ffffb299", "24:00:00+05:30:15"),
        (1266, "000000141dd760000000e100", "24:00:00-16"),
        (1114, "ff1af9e8fb4e7120", "0044-03-15 12:00:00.5 BC"),
        (1184, "07e207da06c5e000", "20000-01-01 00:00:00+00"),
        (1186, "7fffffffffffffff7fffffff7fffffff", "infinity"),
        (1186, "80000000000000008000000080000000", "-infinity"),
        (1186, "8000000000000000fffffffffe3fe4ee", "-2447254 years -10 mons -1 days -2562047788:00:54.775808"),
        (1186, "fffffffffff85ee00000000280af39ff", "-178000000 years -1 mons +2 days -00:00:00.5"),
    ],
)
def test_lenient(oid: int, wire: str, text: str) -> None:
    types = TypeMap(lenient=True)
    data = bytes.fromhex(wire)
    assert decoded(types, oid, data) == text
    # As everywhere, arrays follow.
    assert types.copy().codec(oid) is not None


def test_lenient_within_arrays_and_otherwise_as_ever() -> None:
    types = TypeMap(lenient=True)
    data = bytes.fromhex("00000001000000000000043a0000000200000001" + "0000000400002279" + "00000004fff49d7b")
    first, second = decoded(types, 1182, data)
    assert (str(first), second) == ("2024-02-29", "0044-03-15 BC")
    assert back(types, 1182, [first]) == [first]


def test_binary_composites_keep_to_binary() -> None:
    types = known()
    assert codec(types, PRICES).format == 1
    types.set_codec(NUMERIC, "text", str, float)
    assert codec(types, PRICES).format == 1
    assert codec(types, NAMED).format == 0
