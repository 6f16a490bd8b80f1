"""hstore, ltree and citext: types of extensions, told by the functions that send them, or by the user."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from headrace._core.codecs.typemap import TypeMap
from headrace.exceptions import ProtocolError

from .types_known import CITEXT, HSTORE, LTREE, VECTOR, back, codec, decoded, encoded, known

GOLDEN = bytes.fromhex("00000002000000016100000001310000000162ffffffff")
"""hstore_send('a=>1, b=>NULL')"""


@pytest.fixture
def types() -> TypeMap:
    types = known()
    types.set_builtin(HSTORE, "pg_contrib.hstore")
    return types


def test_golden(types: TypeMap) -> None:
    assert encoded(types, HSTORE, {"a": "1", "b": None}) == GOLDEN
    assert decoded(types, HSTORE, GOLDEN) == {"a": "1", "b": None}
    assert back(types, HSTORE, MappingProxyType({})) == {}
    assert back(types, HSTORE, [("a", "1")]) == {"a": "1"}


def test_it_is_text_until_asked_for() -> None:
    types = known()
    assert codec(types, HSTORE).format == 0
    assert back(types, HSTORE, '"a"=>"1"') == '"a"=>"1"'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a=>1", "expected a mapping of str to str or None, got str"),
        ({"a": 1}, "expected str, got int"),
        ({1: "a"}, "expected str, got int"),
        ({None: "a"}, "null value not allowed in hstore key"),
    ],
)
def test_refused(types: TypeMap, value: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        encoded(types, HSTORE, value)


@pytest.mark.parametrize(
    "wire",
    [
        "",
        "000000",
        "7fffffff",
        "ffffffff",
        "00000001" + "00000001",
        "00000001" + "ffffffff" + "00000000",
        "00000001" + "fffffffe" + "00000000",
        "00000001" + "00000000" + "7fffffff",
        "00000001" + "00000000" + "00000000" + "00",
        "00000001" + "0000000161" + "0000",
    ],
)
def test_hostile(types: TypeMap, wire: str) -> None:
    with pytest.raises(ProtocolError):
        decoded(types, HSTORE, bytes.fromhex(wire))


def test_citext_is_text() -> None:
    types = known()
    assert codec(types, CITEXT).format == 1
    assert encoded(types, CITEXT, "Ä") == "Ä".encode()
    assert decoded(types, CITEXT, "Ä".encode()) == "Ä"


def test_ltree_has_a_version() -> None:
    types = known()
    assert encoded(types, LTREE, "a.b") == b"\1a.b"
    assert decoded(types, LTREE, b"\1a.b") == "a.b"
    for data in (b"", b"\2a.b"):
        with pytest.raises(ProtocolError):
            decoded(types, LTREE, data)
    with pytest.raises(TypeError, match="expected str, got int"):
        encoded(types, LTREE, 1)


def test_what_nothing_is_known_of_is_text() -> None:
    types = known()
    assert codec(types, VECTOR).format == 0
    assert back(types, VECTOR, "[1,2]") == "[1,2]"
    with pytest.raises(TypeError, match="the type public.vector is unknown"):
        encoded(types, VECTOR, [1, 2])
