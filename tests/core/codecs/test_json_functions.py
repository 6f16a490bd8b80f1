"""The option `json`: which functions it names, and how json and jsonb are written and read by them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from headrace._core.codecs import testing
from headrace._core.codecs.json_functions import STANDARD, checked_json
from headrace._core.codecs.typemap import TypeMap
from headrace.exceptions import ProtocolError

JSON, JSONB = 114, 3802


def encode_by(codec: Any, value: object) -> bytes:
    return testing.encode_with(codec, value)[4:]


def decode_by(codec: Any, data: bytes) -> Any:
    return testing.decode_with(codec, data)


class Library:
    """A library like orjson: it writes bytes, and notes what it is given to read."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def loads(self, data: bytes | str) -> Any:
        self.given.append(data)
        return json.loads(data)

    def dumps(self, value: Any) -> bytes:
        return json.dumps(value, separators=(",", ":")).encode()


def test_what_leaves_json_as_text() -> None:
    assert checked_json(False) is None
    assert checked_json(None) is None


def test_pythons_own() -> None:
    for option in (True, json, (json.loads, json.dumps)):
        assert checked_json(option) is STANDARD


def test_objects_by_the_names_of_their_functions() -> None:
    library = Library()
    assert checked_json(library).loads == library.loads  # type: ignore[union-attr]
    found = checked_json(msgspec.json)
    assert found is not None
    assert (found.loads, found.dumps, found.takes_bytes) == (msgspec.json.decode, msgspec.json.encode, True)


def test_whether_loads_takes_bytes() -> None:
    for loads, takes_bytes in (
        (Library().loads, True),
        (json.loads, False),
        (json.JSONDecoder().decode, False),
        (lambda text: json.loads(text, parse_float=Decimal), True),
        (str, False),
    ):
        found = checked_json((loads, json.dumps if loads is not json.loads else Library().dumps))
        assert found is not None
        assert found.takes_bytes == takes_bytes


@pytest.mark.parametrize(
    "option", ["orjson", 1, b"", object(), [json.loads, json.dumps], (json.loads,), ("a", "b"), {}]
)
def test_anything_else_is_refused(option: Any) -> None:
    with pytest.raises(
        ValueError, match=r"json is expected to be True, False, an object with loads and dumps or .*; got"
    ):
        checked_json(option)


def test_a_pair_in_the_wrong_order_is_refused() -> None:
    for pair in ((json.dumps, json.loads), (msgspec.json.encode, msgspec.json.decode)):
        with pytest.raises(ValueError, match="expected to be \\(loads, dumps\\), in this order"):
            checked_json(pair)


OPTIONS = [True, Library(), msgspec.json, (json.JSONDecoder().decode, json.dumps)]


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("oid", [JSON, JSONB])
@pytest.mark.parametrize("value", [{"a": [1, 2.5, None, True]}, [], "text", "ü\u2028", 0, "null"])
def test_values_both_ways(option: Any, oid: int, value: Any) -> None:
    codec = TypeMap(json=checked_json(option)).codec(oid)
    data = encode_by(codec, value)
    assert data[:1] == (b"\x01" if oid == JSONB else data[:1])
    assert json.loads(data[1 if oid == JSONB else 0 :]) == value
    assert decode_by(codec, data) == value


@pytest.mark.parametrize("option", OPTIONS)
def test_white_space_around_a_json_and_null(option: Any) -> None:
    codec = TypeMap(json=checked_json(option)).codec(JSON)
    assert decode_by(codec, b' \n {"a" : 1} \t') == {"a": 1}
    assert decode_by(codec, b"null") is None


def test_bytes_are_passed_on_as_they_came() -> None:
    library = Library()
    types = TypeMap(json=checked_json(library))
    library.given.clear()
    decode_by(types.codec(JSON), b'{"a":1}')
    decode_by(types.codec(JSONB), b"\x01[1]")
    assert library.given == [b'{"a":1}', b"[1]"]


@pytest.mark.parametrize("option", OPTIONS)
def test_an_error_of_loads_is_that_of_the_decoder(option: Any) -> None:
    codec = TypeMap(json=checked_json(option)).codec(JSON)
    with pytest.raises(ValueError) as caught:
        decode_by(codec, b'{"a": ')
    assert caught.value.__notes__ == ["raised by the decoder set for type pg_catalog.json"]


@pytest.mark.parametrize("option", OPTIONS)
def test_a_value_that_json_cannot_express(option: Any) -> None:
    codec = TypeMap(json=checked_json(option)).codec(JSONB)
    with pytest.raises(TypeError) as caught:
        encode_by(codec, {"a": object()})
    # Python 3.14 and newer add a note of their own.
    assert caught.value.__notes__[-1:] == ["raised by the encoder set for type pg_catalog.jsonb"]


def test_nan_is_refused_by_pythons_own() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_by(TypeMap(json=STANDARD).codec(JSONB), float("nan"))


def test_dumps_that_gives_something_else() -> None:
    codec = TypeMap(json=checked_json((json.loads, lambda value: value))).codec(JSONB)
    with pytest.raises(TypeError, match=r"expected str or bytes from <lambda>\(\), got int"):
        encode_by(codec, 5)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("data", [b"", b"\x02{}"])
def test_jsonb_of_another_version(option: Any, data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_by(TypeMap(json=checked_json(option)).codec(JSONB), data)


def test_a_codec_that_is_set_wins_and_gets_text() -> None:
    types = TypeMap(json=STANDARD)
    types.set_codec(JSONB, "text", lambda value: json.dumps({"x": value}), lambda text: ("mine", text))
    assert decode_by(types.codec(JSONB), b"\x01[1]") == ("mine", "[1]")
    assert encode_by(types.codec(JSONB), 1) == b'\x01{"x": 1}'
    types.reset_codec(JSONB)
    assert decode_by(types.codec(JSONB), b"\x01[1]") == [1]


def test_a_copy_of_the_map_keeps_the_option() -> None:
    assert decode_by(TypeMap(json=STANDARD).copy().codec(JSON), b"[1]") == [1]
