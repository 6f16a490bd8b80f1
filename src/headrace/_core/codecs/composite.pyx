"""Composite types as Record.

The format is that of record_send() in the server's rowtypes.c: the number of columns, then each column's type and
value. Both sides leave out dropped columns. If a column can only be sent as text, the whole value is
text: see container_text.pyx and format_variants.pyx.

If the columns differ from those that were looked up, the type was altered, and OutdatedSchemaCacheError is raised.

Python values: a mapping by attribute name, in which a missing attribute is NULL, or a tuple, list, Record or other
sized iterable with exactly one item for each attribute.
"""

from collections.abc import Mapping

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM
from libc.stdint cimport int32_t, int64_t, uint32_t

from headrace._core.wire.buffer cimport (
    WriteBuffer, begin_length, end_length, load_i32, load_u32, put_byte, put_i32,
)
from headrace._core.codecs.base cimport Codec, wrong_type
from headrace._core.codecs.container_text cimport Scanner, put_quoted, scan
from headrace._core.rows.record cimport describe, record_new, record_set, record_track

from headrace._core.rows.record import Record

from headrace.exceptions import OutdatedSchemaCacheError, ProtocolError

cdef object RECORD = Record


cdef CompositeCodec composite_codec(
        uint32_t oid, str name, str schema, tuple names, tuple attributes, tuple fields, int format):
    """Make the codec of a composite type; `fields` are codecs of that format, one for each attribute."""
    cdef CompositeCodec codec = CompositeCodec.__new__(CompositeCodec)
    codec.oid = oid
    codec.name = name
    codec.schema = schema
    codec.kind = 'composite'
    codec.python = 'headrace.Record'
    codec.format = format
    codec.names = names
    codec.attributes = attributes
    codec.fields = fields
    codec.positions = {names[i]: i for i in range(len(names))}
    codec.desc = describe(names)
    codec.decode = decode_composite if format == 1 else decode_composite_text
    codec.encode = encode_composite if format == 1 else encode_composite_text
    return codec


cdef str accepted(Codec codec):
    """Describe the values of a parameter for hints. Results are Records, but users pass tuples or dicts."""
    if isinstance(codec, CompositeCodec):
        names = ', '.join((<CompositeCodec>codec).names)
        return f'a tuple or dict of the attributes ({names})' if names else 'an empty tuple'
    return codec.python.replace('headrace.Record', 'tuple or dict of its attributes')


# --- reading

cdef int outdated(CompositeCodec codec, str what, object position=None) except -1:
    error = OutdatedSchemaCacheError(
        f'the composite type {codec.schema}.{codec.name} has been altered: {what}',
        schema=codec.schema, data_type=codec.name, position=position,
    )
    error.type_oid = codec.oid
    raise error


cdef object decode_composite(Codec self, const char *data, Py_ssize_t size):
    cdef:
        CompositeCodec codec = <CompositeCodec>self
        const char *end = data + size
        Py_ssize_t expected = len(codec.fields)
        Py_ssize_t i
        int64_t count
        int32_t length
        Codec field
        object record, value
    if size < 4:
        raise ProtocolError(f'a {codec.name} value from the server is cut short')
    count = load_i32(data)
    data += 4
    # Each column takes at least 8 bytes, for its type and its length.
    if count < 0 or count > (end - data) // 8:
        raise ProtocolError(f'a {codec.name} value of {size} bytes from the server cannot hold {count} columns')
    if count != expected:
        outdated(codec, f'expected {expected} attributes, the server sent {count}')
    record = record_new(RECORD, codec.desc, expected)
    for i in range(expected):
        field = <Codec>PyTuple_GET_ITEM(codec.fields, i)
        if end - data < 8:
            raise ProtocolError(f'a {codec.name} value from the server is cut short')
        if load_u32(data) != field.oid:
            outdated(codec, f'attribute {codec.names[i]!r} is now of the type with OID {load_u32(data)}', i)
        length = load_i32(data + 4)
        data += 8
        if length < 0:
            if length != -1:
                raise ProtocolError(f'a {codec.name} value from the server with a column of {length} bytes')
            value = None
        else:
            if end - data < length:
                raise ProtocolError(
                    f'a {codec.name} value from the server with a column of {length} bytes, but only {end - data} are left'
                )
            value = field.decode(field, data, length)
            data += length
        Py_INCREF(value)
        record_set(record, i, <PyObject *>value)
    if data != end:
        raise ProtocolError(f'a {codec.name} value from the server has {end - data} bytes too many')
    record_track(record)
    return record


cdef object decode_composite_text(Codec self, const char *data, Py_ssize_t size):
    """Read "(1,"two words",)": an empty column is NULL, an empty string has quotes."""
    cdef:
        CompositeCodec codec = <CompositeCodec>self
        Scanner scanner = scan(codec, data, size)
        Py_ssize_t expected = len(codec.fields)
        Py_ssize_t i
        object record = record_new(RECORD, codec.desc, expected)
        object value
    scanner.expect(b'(')
    for i in range(expected):
        if i:
            if scanner.peek() != b',':
                outdated(codec, f'expected {expected} attributes, the server sent {i}')
            scanner.cursor += 1
        scanner.read_word(b',)', True)
        value = None
        if scanner.size or scanner.quoted:
            value = scanner.decode_word(<Codec>PyTuple_GET_ITEM(codec.fields, i))
        Py_INCREF(value)
        record_set(record, i, <PyObject *>value)
    if scanner.peek() == b',':
        outdated(codec, f'expected {expected} attributes, the server sent more')
    scanner.expect(b')')
    if scanner.cursor != scanner.end:
        scanner.bad()
    record_track(record)
    return record


# --- writing

cdef tuple values_of(CompositeCodec codec, object value):
    """Return the values of the attributes, in order."""
    cdef:
        Py_ssize_t expected = len(codec.names)
        list values
    if not PyTuple_CheckExact(value):
        if isinstance(value, Mapping):
            values = [None] * expected
            for name, item in value.items():
                position = codec.positions.get(name)
                if position is None:
                    raise ValueError(
                        f'{name!r} is not a valid element of composite type {codec.name}: '
                        f'expected {", ".join(codec.names)}'
                    )
                values[position] = item
            return tuple(values)
        kind = type(value)
        if (
            isinstance(value, (str, bytes, bytearray, memoryview))
            or not hasattr(kind, '__len__') or not hasattr(kind, '__iter__')
        ):
            wrong_type(f'a mapping or a sequence of the {expected} attributes of composite type {codec.name}', value)
        value = tuple(value)
    if len(value) != expected:
        raise ValueError(
            f'expected {expected} elements for composite type {codec.name} ({", ".join(codec.names)}), got {len(value)}'
        )
    return value


cdef object bad_attribute(CompositeCodec codec, Py_ssize_t i, object error):
    for kind in (TypeError, OverflowError):
        if isinstance(error, kind):
            break
    else:
        kind = ValueError
    return kind(f'invalid attribute {codec.names[i]!r} of composite type {codec.name}: {error}')


cdef int encode_composite(Codec self, WriteBuffer out, object value) except -1:
    cdef:
        CompositeCodec codec = <CompositeCodec>self
        tuple values = values_of(codec, value)
        Py_ssize_t mark = begin_length(out)
        Py_ssize_t i
        Codec field
        object item
    put_i32(out, <int32_t>len(values))
    for i in range(len(values)):
        field = <Codec>PyTuple_GET_ITEM(codec.fields, i)
        item = <object>PyTuple_GET_ITEM(values, i)
        put_i32(out, <int32_t>field.oid)
        if item is None:
            put_i32(out, -1)
            continue
        try:
            field.encode(field, out, item)
        except (TypeError, ValueError, OverflowError) as error:
            raise bad_attribute(codec, i, error) from error
    return end_length(out, mark)


cdef int encode_composite_text(Codec self, WriteBuffer out, object value) except -1:
    cdef:
        CompositeCodec codec = <CompositeCodec>self
        tuple values = values_of(codec, value)
        Py_ssize_t mark = begin_length(out)
        Py_ssize_t i
        object item
    put_byte(out, b'(')
    for i in range(len(values)):
        if i:
            put_byte(out, b',')
        item = <object>PyTuple_GET_ITEM(values, i)
        if item is None:
            continue
        try:
            put_quoted(out, <Codec>PyTuple_GET_ITEM(codec.fields, i), item, True)
        except (TypeError, ValueError, OverflowError) as error:
            raise bad_attribute(codec, i, error) from error
    put_byte(out, b')')
    return end_length(out, mark)
