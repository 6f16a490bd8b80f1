"""Codecs that users set with set_type_codec(), and those of json and jsonb as objects (the option `json`).

The encoder's result and the decoder's argument have one of three forms:

    text     str in the type's text form. If the binary form is the same text (json, enums ...) or contains it
             (jsonb), values are still sent in binary, so that the codec works in arrays, composites and COPY.
    binary   bytes in the type's binary form.
    tuple    the numbers that the binary form of a date or time is made of, see LAYOUTS; for a composite type a tuple
             of its attributes' values; the decoder gets a Record.
    json     str or bytes: the JSON text. The functions are those of the option `json`, see json_functions.py.

An exception in one of these functions fails only the query that called it. They are never called for NULL.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, int64_t, uint32_t

from headrace._core.wire.buffer cimport (
    WriteBuffer, load_i32, load_i64, put_byte, put_bytes, put_i32, put_i64, put_value, value_too_long,
)
from headrace._core.codecs.base cimport Codec, bad_length
from headrace._core.codecs.composite cimport CompositeCodec
from headrace._core.codecs.text cimport decode_text, encode_text

from headrace._core.codecs.text_forms import SAME_TEXT

from headrace.exceptions import InterfaceError, UnsupportedClientFeatureError
from headrace.exceptions._values import shown

# OID -> (size in bytes, name in messages, how many numbers): date, time, timetz, timestamp, timestamptz, interval.
# The order is asyncpg's, and an interval's not that of the wire: (months, days, microseconds).
cdef dict LAYOUTS = {
    1082: (4, 'date', 1),
    1083: (8, 'time', 1),
    1266: (12, 'timetz', 2),
    1114: (8, 'timestamp', 1),
    1184: (8, 'timestamptz', 1),
    1186: (16, 'interval', 3),
}


cdef CustomCodec custom_codec(Codec base, str form, object encoder, object decoder, bint takes_lists=False):
    """Make a codec for base's type from a user's functions; it is not registered.

    With `takes_lists` a list is a value of the type and not a dimension of an array.
    Raises InterfaceError or UnsupportedClientFeatureError if the type does not accept such a codec.
    """
    cdef CustomCodec codec = CustomCodec.__new__(CustomCodec)
    check_form(base, form)
    codec.oid = base.oid
    codec.name = base.name
    codec.schema = base.schema
    codec.kind = base.kind
    codec.python = 'list[...] or another value that its encoder takes' if takes_lists else 'a value that its encoder takes'
    codec.form = form
    codec.encoder = encoder
    codec.decoder = decoder
    codec.format = 1
    if form == 'text':
        if base.kind == 'enum' or base.oid in SAME_TEXT:
            codec.inner = base
        else:
            codec.inner = plain_text(base, 0)
        codec.format = codec.inner.format
        codec.decode = decode_inner
        codec.encode = encode_inner
    elif form == 'binary':
        codec.decode = decode_binary
        codec.encode = encode_binary
    elif isinstance(base, CompositeCodec):
        codec.inner = base
        codec.format = base.format
        codec.decode = decode_inner
        codec.encode = encode_inner
    else:
        codec.decode = decode_numbers
        codec.encode = encode_numbers
    return codec


cdef CustomCodec with_inner(CustomCodec codec, Codec inner):
    """Return a codec with the same functions around another inner codec."""
    cdef CustomCodec made = CustomCodec.__new__(CustomCodec)
    made.oid = codec.oid
    made.name = codec.name
    made.schema = codec.schema
    made.kind = codec.kind
    made.python = codec.python
    made.form = codec.form
    made.encoder = codec.encoder
    made.decoder = codec.decoder
    made.is_json = codec.is_json
    made.takes_bytes = codec.takes_bytes
    made.format = inner.format
    made.inner = inner
    made.decode = decode_inner
    made.encode = encode_inner
    return made


cdef Codec plain_text(Codec base, int format):
    """Make a codec that exchanges the type's text as str; format 1 is for types whose binary form is their text."""
    cdef Codec codec = Codec.__new__(Codec)
    codec.oid = base.oid
    codec.name = base.name
    codec.schema = base.schema
    codec.kind = 'scalar'
    codec.python = 'str'
    codec.format = format
    codec.decode = decode_text
    codec.encode = encode_text
    return codec


def check_form(base: Codec, form: str) -> None:
    """Raise an error if the type does not accept a codec of this form; the messages are asyncpg's."""
    if form not in ('text', 'binary', 'tuple'):
        raise InterfaceError(f"invalid `format` argument, expected 'text', 'binary' or 'tuple', got {shown(form)}")
    if base.kind == 'domain':
        raise UnsupportedClientFeatureError(
            'custom codecs on domain types are not supported',
            hint='Set the codec on the base type.',
            detail='PostgreSQL does not distinguish domains from their base types in query results at the protocol '
                   'level.',
        )
    if base.kind == 'composite':
        if form != 'tuple':
            raise UnsupportedClientFeatureError(
                'only tuple-format codecs can be used on composite types',
                hint="Use set_type_codec(..., format='tuple') and pass and interpret data as a Python tuple.",
            )
        return
    if base.kind not in ('scalar', 'enum', 'pseudo'):
        raise InterfaceError(
            f'cannot use custom codec on type {base.schema}.{base.name}: it is neither a scalar type nor a composite '
            'type',
            hint='Set the codec on the type of its elements: arrays, ranges and multiranges follow it.',
        )
    if form == 'tuple' and base.oid not in LAYOUTS:
        raise InterfaceError(f"{base.name} type does not support the 'tuple' exchange format")


# --- the user's functions

cdef str DECODER_NOTE = 'raised by the decoder set for type '


cdef object decoded(CustomCodec codec, object given):
    try:
        return codec.decoder(given)
    except Exception as error:
        error.add_note(f'{DECODER_NOTE}{codec.schema}.{codec.name}')
        raise


cdef object encoded_by(CustomCodec codec, object value):
    try:
        return codec.encoder(value)
    except Exception as error:
        error.add_note(f'raised by the encoder set for type {codec.schema}.{codec.name}')
        raise


cdef bint raised_by_decoder(object error) except -1:
    """Return whether a decoder set by the user raised the error, which is then not replaced."""
    for note in getattr(error, '__notes__', ()):
        if isinstance(note, str) and (<str>note).startswith(DECODER_NOTE):
            return True
    return False


# --- text, and the tuples of composites

cdef object decode_inner(Codec self, const char *data, Py_ssize_t size):
    cdef:
        CustomCodec codec = <CustomCodec>self
        object given = codec.inner.decode(codec.inner, data, size)
    return decoded(codec, given.encode() if codec.takes_bytes else given)


cdef int encode_inner(Codec self, WriteBuffer out, object value) except -1:
    cdef:
        CustomCodec codec = <CustomCodec>self
        object encoded = encoded_by(codec, value)
    if encoded is None:
        raise TypeError(f'expected {codec.inner.python} from the encoder, got NoneType')
    if codec.is_json and isinstance(encoded, (bytes, bytearray, memoryview)):
        encoded = str(encoded, 'utf-8')
    return codec.inner.encode(codec.inner, out, encoded)


# --- json and jsonb as objects

cdef uint32_t JSONB = 3802


cdef CustomCodec json_codec(Codec base, object functions):
    """Make a codec of json or jsonb, whose own codec is `base`, from JsonFunctions; it is not registered."""
    cdef CustomCodec codec = CustomCodec.__new__(CustomCodec)
    codec.oid = base.oid
    codec.name = base.name
    codec.schema = base.schema
    codec.kind = base.kind
    codec.python = 'a value that JSON can express'
    codec.form = 'json'
    codec.is_json = True
    codec.encoder = functions.dumps
    codec.decoder = functions.loads
    codec.takes_bytes = functions.takes_bytes
    codec.scan = functions.scan
    codec.inner = base
    codec.format = base.format
    codec.decode = decode_json
    codec.encode = encode_json
    return codec


cdef object decode_json(Codec self, const char *data, Py_ssize_t size):
    cdef:
        CustomCodec codec = <CustomCodec>self
        str text
        tuple found
    if codec.takes_bytes:
        if codec.inner.oid == JSONB:
            if size < 1 or data[0] != 1:
                # This raises the error for it.
                codec.inner.decode(codec.inner, data, size)
            return decoded(codec, PyBytes_FromStringAndSize(data + 1, size - 1))
        return decoded(codec, PyBytes_FromStringAndSize(data, size))
    text = codec.inner.decode(codec.inner, data, size)
    if codec.scan is not None:
        try:
            found = codec.scan(text, 0)
            if found[1] == len(text):
                return found[0]
        except Exception:
            # The decoder raises it with the text for users. It also takes the white space that a json may have around it.
            pass
    return decoded(codec, text)


cdef int encode_json(Codec self, WriteBuffer out, object value) except -1:
    cdef:
        CustomCodec codec = <CustomCodec>self
        object encoded = encoded_by(codec, value)
        bytes data
    if isinstance(encoded, str):
        return codec.inner.encode(codec.inner, out, encoded)
    if isinstance(encoded, bytes):
        data = <bytes>encoded
    elif isinstance(encoded, (bytearray, memoryview)):
        data = bytes(encoded)
    else:
        raise TypeError(f'expected str or bytes from {getattr(codec.encoder, "__name__", "dumps")}(), '
                        f'got {type(encoded).__name__}')
    if codec.inner.oid != JSONB:
        return put_value(out, <const char *>data, len(data))
    if len(data) > 0x7fffffff - 1:
        value_too_long(len(data))
    put_i32(out, <int>len(data) + 1)
    put_byte(out, 1)
    return put_bytes(out, <const char *>data, len(data))


# --- binary

cdef object decode_binary(Codec self, const char *data, Py_ssize_t size):
    return decoded(<CustomCodec>self, PyBytes_FromStringAndSize(data, size))


cdef int encode_binary(Codec self, WriteBuffer out, object value) except -1:
    cdef:
        object encoded = encoded_by(<CustomCodec>self, value)
        bytes data
    if isinstance(encoded, bytes):
        data = <bytes>encoded
    elif isinstance(encoded, (bytearray, memoryview)):
        data = bytes(encoded)
    else:
        raise TypeError(f"expected bytes from the encoder, got {type(encoded).__name__!r}")
    return put_value(out, <const char *>data, len(data))


# --- tuples of numbers

cdef object decode_numbers(Codec self, const char *data, Py_ssize_t size):
    cdef:
        object expected = LAYOUTS[self.oid][0]
        tuple numbers
    if size != expected:
        bad_length(self, size, f'{expected} bytes')
    if self.oid == 1082:
        numbers = (load_i32(data),)
    elif self.oid == 1266:
        numbers = (load_i64(data), load_i32(data + 8))
    elif self.oid == 1186:
        numbers = (load_i32(data + 12), load_i32(data + 8), load_i64(data))
    else:
        numbers = (load_i64(data),)
    return decoded(<CustomCodec>self, numbers)


cdef int encode_numbers(Codec self, WriteBuffer out, object value) except -1:
    cdef:
        object encoded = encoded_by(<CustomCodec>self, value)
        object size, name, count
    size, name, count = LAYOUTS[self.oid]
    if not isinstance(encoded, (tuple, list)):
        raise TypeError(f'{name} tuple encoder: expected a tuple, got {type(encoded).__name__}')
    if len(encoded) != count:
        raise ValueError(
            f'{name} tuple encoder: expecting {count} element{"" if count == 1 else "s"} in tuple, got {len(encoded)}'
        )
    put_i32(out, size)
    if self.oid == 1082:
        return put_i32(out, <int>number(encoded[0], INT32_MIN, INT32_MAX))
    if self.oid == 1186:
        put_i64(out, number(encoded[2], INT64_MIN, INT64_MAX))
        put_i32(out, <int>number(encoded[1], INT32_MIN, INT32_MAX))
        return put_i32(out, <int>number(encoded[0], INT32_MIN, INT32_MAX))
    put_i64(out, number(encoded[0], INT64_MIN, INT64_MAX))
    if self.oid == 1266:
        put_i32(out, <int>number(encoded[1], INT32_MIN, INT32_MAX))
    return 0


cdef int64_t number(object value, int64_t low, int64_t high) except? -1:
    if not isinstance(value, int):
        raise TypeError(f'expected int from the tuple encoder, got {type(value).__name__}')
    if not low <= value <= high:
        raise OverflowError(f'expected a number from {low} to {high} from the tuple encoder, got {value}')
    return value
