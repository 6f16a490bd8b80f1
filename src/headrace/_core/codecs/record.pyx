"""Anonymous rows (pseudo-type record) as tuples.

The format is that of record_send() in the server's rowtypes.c. The columns have types but no names. The types are part
of each value, so they cannot be looked up beforehand. A column of an unknown type raises UnsupportedClientFeatureError,
and the type is included in the next lookup. The server does not accept such rows as input.
"""

from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport int32_t, int64_t, uint32_t

from headrace._core.wire.buffer cimport WriteBuffer, load_i32, load_u32
from headrace._core.codecs.base cimport Codec, builtin
from headrace._core.codecs.format_variants cimport BYTES, binary_variant

from headrace.exceptions import ProtocolError, UnsupportedClientFeatureError

cdef enum:
    MAX_DEPTH = 100            # of nested rows, each of which takes C stack

cdef int depth = 0


cdef class CodecSource:
    """The built-in codecs, for use without a connection."""

    cdef Codec find(self, uint32_t oid):
        return builtin(oid)

    cdef int unknown(self, uint32_t oid) except -1:
        """Note an unknown type, so that it is looked up."""
        return 0


cdef RecordCodec record_codec(CodecSource source):
    """Make a codec of anonymous rows that finds the codecs of their columns by `source`; it is not registered."""
    cdef RecordCodec codec = RecordCodec.__new__(RecordCodec)
    codec.oid = 2249
    codec.name = 'record'
    codec.schema = 'pg_catalog'
    codec.kind = 'pseudo'
    codec.python = 'tuple'
    codec.format = 1
    codec.decode = decode_record
    codec.encode = encode_record
    codec.source = source
    codec.columns = {}
    return codec


cdef object decode_record(Codec self, const char *data, Py_ssize_t size):
    global depth
    if depth >= MAX_DEPTH:
        raise ProtocolError(f'a record value from the server with rows nested more than {MAX_DEPTH} deep')
    depth += 1
    try:
        return read_record(<RecordCodec>self, data, size)
    finally:
        depth -= 1


cdef tuple read_record(RecordCodec codec, const char *data, Py_ssize_t size):
    cdef:
        const char *end = data + size
        Py_ssize_t i
        int64_t count
        int32_t length
        Codec column
        tuple row
        object value
    if size < 4:
        raise ProtocolError('a record value from the server is cut short')
    count = load_i32(data)
    data += 4
    # Each column takes at least 8 bytes, for its type and its length.
    if count < 0 or count > (end - data) // 8:
        raise ProtocolError(f'a record value of {size} bytes from the server cannot hold {count} columns')
    row = PyTuple_New(count)
    for i in range(count):
        if end - data < 8:
            raise ProtocolError('a record value from the server is cut short')
        length = load_i32(data + 4)
        if length < 0:
            if length != -1:
                raise ProtocolError(f'a record value from the server with a column of {length} bytes')
            value = None
            data += 8
        else:
            if end - data - 8 < length:
                raise ProtocolError(
                    f'a record value from the server with a column of {length} bytes, but only {end - data - 8} are left'
                )
            column = <Codec>codec.columns.get(load_u32(data))
            if column is None:
                column = find_column(codec, data, end, i)
            value = column.decode(column, data + 8, length)
            data += 8 + length
        Py_INCREF(value)
        PyTuple_SET_ITEM(row, i, value)
    if data != end:
        raise ProtocolError(f'a record value from the server has {end - data} bytes too many')
    return row


cdef Codec find_column(RecordCodec codec, const char *data, const char *end, Py_ssize_t i):
    """Return the codec for column `i`, which begins at `data`."""
    cdef:
        uint32_t oid = load_u32(data)
        Codec found = codec.source.find(oid)
        Codec column
    if found is None:
        note_unknown(codec, data, end)
        raise UnsupportedClientFeatureError(
            f'cannot decode column {i} of a record: its type, which has the OID {oid}, is not known yet',
            hint='Run the query again: the type will be looked up. Or cast the row to a named composite type.',
        )
    column = binary_variant(found, BYTES)
    if column is None:
        raise UnsupportedClientFeatureError(
            f'cannot decode column {i} of a record: the codec set for type {found.schema}.{found.name} works on text',
            hint='Cast that column to text.',
        )
    codec.columns[oid] = column
    return column


cdef int note_unknown(RecordCodec codec, const char *data, const char *end) except -1:
    """Note all unknown types from this column on, so that they are looked up together."""
    cdef int32_t length
    while end - data >= 8:
        if codec.source.find(load_u32(data)) is None:
            codec.source.unknown(load_u32(data))
        length = load_i32(data + 4)
        data += 8
        if length > end - data:
            break
        if length > 0:
            data += length
    return 0


cdef int encode_record(Codec self, WriteBuffer out, object value) except -1:
    raise UnsupportedClientFeatureError(
        'input of anonymous composite types is not supported',
        detail='PostgreSQL does not implement anonymous composite type input.',
        hint='Consider declaring an explicit composite type and using it to cast the argument.',
    )
