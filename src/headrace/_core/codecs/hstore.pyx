"""hstore as dict[str, str | None], for types set by set_builtin_type_codec().

The format is that of hstore_send() in the extension's hstore_io.c: a count, then each key and its value, both with
their length, -1 for NULL.
"""

from collections.abc import Mapping

from cpython.dict cimport PyDict_SetItem
from libc.stdint cimport int32_t, int64_t, uint32_t

from headrace._core.wire.buffer cimport WriteBuffer, begin_length, end_length, load_i32, put_i32
from headrace._core.codecs.base cimport Codec, wrong_type
from headrace._core.codecs.text cimport decode_text, encode_text

from headrace.exceptions import ProtocolError


cdef Codec hstore_codec(uint32_t oid, str name, str schema):
    """Make a codec that reads and writes the type as an hstore; it is not registered."""
    cdef Codec codec = Codec.__new__(Codec)
    codec.oid = oid
    codec.name = name
    codec.schema = schema
    codec.kind = 'scalar'
    codec.python = 'dict[str, str | None]'
    codec.format = 1
    codec.decode = decode_hstore
    codec.encode = encode_hstore
    return codec


cdef object decode_hstore(Codec codec, const char *data, Py_ssize_t size):
    cdef:
        const char *end = data + size
        int64_t count
        Py_ssize_t i
        dict pairs = {}
        object key
    if size < 4:
        raise ProtocolError('an hstore value from the server is cut short')
    count = load_i32(data)
    data += 4
    # Each pair takes at least 8 bytes, for two lengths.
    if count < 0 or count > (end - data) // 8:
        raise ProtocolError(f'an hstore value of {size} bytes from the server cannot hold {count} pairs')
    for i in range(count):
        key = read_part(codec, &data, end)
        if key is None:
            raise ProtocolError('an hstore value from the server with a key that is NULL')
        PyDict_SetItem(pairs, key, read_part(codec, &data, end))
    if data != end:
        raise ProtocolError(f'an hstore value from the server has {end - data} bytes too many')
    return pairs


cdef object read_part(Codec codec, const char **cursor, const char *end):
    """Read a key or a value."""
    cdef:
        const char *data = cursor[0]
        int32_t length
    if end - data < 4:
        raise ProtocolError('an hstore value from the server is cut short')
    length = load_i32(data)
    data += 4
    if length == -1:
        cursor[0] = data
        return None
    if length < 0 or end - data < length:
        raise ProtocolError(
            f'an hstore value from the server with a part of {length} bytes, but only {end - data} are left')
    cursor[0] = data + length
    return decode_text(codec, data, length)


cdef int encode_hstore(Codec codec, WriteBuffer out, object value) except -1:
    cdef Py_ssize_t mark
    if isinstance(value, (list, tuple)):
        value = dict(value)  # of pairs
    if not isinstance(value, Mapping):
        wrong_type('a mapping of str to str or None', value)
    if len(value) > 0x7fffffff:
        raise ValueError(f'too many pairs: {len(value)}')
    mark = begin_length(out)
    put_i32(out, <int32_t>len(value))
    for key, item in value.items():
        if key is None:
            raise TypeError('null value not allowed in hstore key: expected str, got None')
        encode_text(codec, out, key)
        if item is None:
            put_i32(out, -1)
        else:
            encode_text(codec, out, item)
    return end_length(out, mark)
