"""Encode and decode single values by OID, for tests and measurements: no statement, no connection.

Only types whose codec has a fixed OID are reachable here.
"""

import headrace._core.codecs.builtin  # noqa: F401  registers the codecs

from libc.stdint cimport uint32_t

from headrace._core.wire.buffer cimport WriteBuffer
from headrace._core.codecs.base cimport Codec, builtin
from headrace._core.codecs.text cimport text_fallback


cdef Codec codec_of(uint32_t oid):
    cdef Codec codec = builtin(oid)
    if codec is None:
        raise LookupError(f'no codec is registered for OID {oid}')
    return codec


def encode(oid: int, value: object) -> bytes:
    """Return the length word and the bytes of a parameter of this type; raises what the encoder raises."""
    cdef:
        Codec codec = codec_of(oid)
        WriteBuffer out = WriteBuffer()
    codec.encode(codec, out, value)
    return out.take()


def decode(oid: int, data: bytes) -> object:
    """Return the Python object for the bytes of a value without the length word; raises what the decoder raises."""
    cdef Codec codec = codec_of(oid)
    return codec.decode(codec, <const char *>data, len(data))


def format_of(oid: int) -> int:
    """Return the format code of the type: 0 text, 1 binary."""
    return codec_of(oid).format


def encode_unknown_type(oid: int, name: str, schema: str, value: object) -> bytes:
    """Encode a value of an unknown type."""
    cdef:
        Codec codec = text_fallback(oid, name, schema)
        WriteBuffer out = WriteBuffer()
    codec.encode(codec, out, value)
    return out.take()


def decode_unknown_type(oid: int, name: str, schema: str, data: bytes) -> object:
    """Decode a value of an unknown type."""
    cdef Codec codec = text_fallback(oid, name, schema)
    return codec.decode(codec, <const char *>data, len(data))


def encode_with(codec: Codec, value: object) -> bytes:
    """Encode a value with a given codec, such as one from a TypeMap."""
    cdef:
        Codec chosen = codec
        WriteBuffer out = WriteBuffer()
    chosen.encode(chosen, out, value)
    return out.take()


def decode_with(codec: Codec, data: bytes) -> object:
    """Decode a value with a given codec."""
    cdef Codec chosen = codec
    return chosen.decode(chosen, <const char *>data, len(data))
