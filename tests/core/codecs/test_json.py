"""json, jsonb and jsonpath are text; the last two have a version before it."""

from __future__ import annotations

from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._core.codecs.testing import decode, encode

from .wire import check_both_ways, check_hostile, check_refused, encoded

JSON, JSONB, JSONPATH = 114, 3802, 4072


class Document(Enum):
    EMPTY = "{}"


@pytest.mark.parametrize(
    ("oid", "wire", "value"),
    [
        (JSON, "7b2261223a20317d", '{"a": 1}'),
        (JSONB, "017b2261223a20317d", '{"a": 1}'),
        (JSONB, "0122c3a922", '"é"'),
        (JSONPATH, "01242e2261225b2a5d3f2840203e203129", '$."a"[*]?(@ > 1)'),
    ],
)
def test_golden(oid: int, wire: str, value: str) -> None:
    check_both_ways(oid, wire, value)


@given(st.sampled_from([JSON, JSONB, JSONPATH]), st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_every_text_comes_back(oid: int, value: str) -> None:
    assert decode(oid, encode(oid, value)[4:]) == value


@pytest.mark.parametrize(("oid", "name"), [(JSON, "json"), (JSONB, "jsonb"), (JSONPATH, "jsonpath")])
@pytest.mark.parametrize("value", [{}, [1], 1, b"{}"])
def test_documents_are_not_serialised_unasked(oid: int, name: str, value: object) -> None:
    check_refused(oid, value, TypeError, f"expected str, got {type(value).__name__}: ")
    check_refused(oid, value, TypeError, f"set_type_codec('{name}', schema='pg_catalog', encoder=json.dumps")


@pytest.mark.parametrize(("oid", "wire"), [(JSON, "7b7d"), (JSONB, "017b7d")])
def test_members_of_an_enum_of_documents_are_taken(oid: int, wire: str) -> None:
    assert encoded(oid, Document.EMPTY) == wire


@pytest.mark.parametrize("oid", [JSON, JSONB, JSONPATH])
def test_a_nul_is_refused(oid: int) -> None:
    check_refused(oid, '"\0"', ValueError, "cannot hold the NUL character")


@pytest.mark.parametrize("oid", [JSONB, JSONPATH])
def test_another_version_is_refused(oid: int) -> None:
    check_hostile(oid, "", "027b7d", "7b7d")
