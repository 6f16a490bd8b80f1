"""uuid becomes a genuine uuid.UUID, whatever way it was made."""

from __future__ import annotations

import copy
import pickle
from enum import Enum
from uuid import UUID, SafeUUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._core.codecs.testing import decode, encode

from .wire import check_both_ways, check_hostile, check_refused, encoded

UUID_OID = 2950
TEXT = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
WIRE = "a0eebc999c0b4ef8bb6d6bb9bd380a11"


class Tenant(Enum):
    FIRST = UUID(TEXT)


class Subclass(UUID):
    pass


@pytest.mark.parametrize("wire", [WIRE, "00" * 16, "ff" * 16, "00" * 15 + "01", "00" + "ff" * 15, "80" + "00" * 15])
def test_golden(wire: str) -> None:
    check_both_ways(UUID_OID, wire, UUID(wire))


@given(st.uuids())
def test_every_value_comes_back_like_one_from_the_constructor(value: UUID) -> None:
    result = decode(UUID_OID, encode(UUID_OID, value)[4:])
    assert type(result) is UUID
    assert result == value
    assert hash(result) == hash(value)
    assert str(result) == str(value)
    assert result.bytes == value.bytes
    assert result.is_safe is SafeUUID.unknown


def test_a_decoded_value_is_immutable_and_can_be_copied_and_pickled() -> None:
    value = decode(UUID_OID, bytes.fromhex(WIRE))
    assert pickle.loads(pickle.dumps(value)) == copy.deepcopy(value) == UUID(TEXT)
    with pytest.raises(TypeError, match="immutable"):
        value.int = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "value",
    [TEXT, TEXT.upper(), WIRE, f"{{{TEXT}}}", f"urn:uuid:{TEXT}", "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11"],
)
def test_text_is_taken(value: str) -> None:
    assert encoded(UUID_OID, value) == WIRE


@pytest.mark.parametrize("value", [Tenant.FIRST, Subclass(TEXT)])
def test_enums_and_subclasses_are_taken(value: object) -> None:
    assert encoded(UUID_OID, value) == WIRE


@pytest.mark.parametrize("value", ["", "x", WIRE[:-1], WIRE + "0", WIRE[:-1] + "g", WIRE[:-1] + "é"])
def test_other_text_is_refused(value: str) -> None:
    check_refused(UUID_OID, value, ValueError, f"invalid UUID {value!r}")


@pytest.mark.parametrize("value", [bytes.fromhex(WIRE), 1, None])
def test_other_types_are_refused(value: object) -> None:
    check_refused(UUID_OID, value, TypeError, f"expected UUID, or its text in a str, got {type(value).__name__}")


def test_other_lengths_are_refused() -> None:
    check_hostile(UUID_OID, "", WIRE[:-2], WIRE + "00")
