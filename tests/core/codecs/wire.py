"""What a test of a codec says: which bytes a value is, which values come of bytes, and what is refused how.

The golden bytes in the tests beside this file were taken from PostgreSQL 18 with the types' send functions,
as by `SELECT encode(numeric_send('1.50'), 'hex')`.
"""

from __future__ import annotations

import struct

import pytest

from headrace._core.codecs import testing
from headrace.exceptions import ProtocolError


def encoded(oid: int, value: object) -> str:
    """Return the value's bytes in hexadecimal, having checked the length word before them."""
    data = testing.encode(oid, value)
    (length,) = struct.unpack_from("!i", data)
    assert length == len(data) - 4
    return data[4:].hex()


def decoded(oid: int, wire: str) -> object:
    """Return the object for bytes in hexadecimal."""
    return testing.decode(oid, bytes.fromhex(wire))


def check_both_ways(oid: int, wire: str, value: object) -> None:
    """Check that the value is sent as these bytes, and that they are read as an equal of the same type."""
    assert encoded(oid, value) == wire
    result = decoded(oid, wire)
    assert result == value
    assert type(result) is type(value)


def check_refused(oid: int, value: object, error: type[Exception], text: str) -> None:
    """Check that the encoder refuses the value, and that the message contains `text`."""
    with pytest.raises(error) as caught:
        testing.encode(oid, value)
    assert text in str(caught.value)


def check_hostile(oid: int, *wires: str) -> None:
    """Check that each of these byte strings (in hexadecimal), which no server sends, is a ProtocolError."""
    for wire in wires:
        with pytest.raises(ProtocolError):
            decoded(oid, wire)
