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
    """The length word and the bytes a parameter of this type is sent as; raises what the encoder raises."""
    cdef:
        Codec codec = codec_of(oid)
        WriteBuffer out = WriteBuffer()
    codec.encode(codec, out, value)
    return out.take()


def decode(oid: int, data: bytes) -> object:
    """The Python object for a value's bytes (without the length word); raises what the decoder raises."""
    cdef Codec codec = codec_of(oid)
    return codec.decode(codec, <const char *>data, len(data))


def encode_each(oid: int, values: list) -> int:
    """Encode the values one behind the other and return how many bytes they took."""
    cdef:
        Codec codec = codec_of(oid)
        WriteBuffer out = WriteBuffer()
        object value
    for value in values:
        codec.encode(codec, out, value)
    return out.length


def decode_each(oid: int, values: list) -> list:
    """Decode each of the byte strings."""
    cdef:
        Codec codec = codec_of(oid)
        list decoded = []
        bytes data
    for data in values:
        decoded.append(codec.decode(codec, <const char *>data, len(data)))
    return decoded


def format_of(oid: int) -> int:
    """The format code the type's values travel in: 0 text, 1 binary."""
    return codec_of(oid).format


def encode_unlearnt(oid: int, name: str, schema: str, value: object) -> bytes:
    """What encode() gives for a type that no codec is known for."""
    cdef:
        Codec codec = text_fallback(oid, name, schema)
        WriteBuffer out = WriteBuffer()
    codec.encode(codec, out, value)
    return out.take()


def decode_unlearnt(oid: int, name: str, schema: str, data: bytes) -> object:
    """What decode() gives for a type that no codec is known for."""
    cdef Codec codec = text_fallback(oid, name, schema)
    return codec.decode(codec, <const char *>data, len(data))


def encode_with(codec: Codec, value: object) -> bytes:
    """encode() for a codec at hand, such as one that a TypeMap found."""
    cdef:
        Codec chosen = codec
        WriteBuffer out = WriteBuffer()
    chosen.encode(chosen, out, value)
    return out.take()


def decode_with(codec: Codec, data: bytes) -> object:
    """decode() for a codec at hand."""
    cdef Codec chosen = codec
    return chosen.decode(chosen, <const char *>data, len(data))
