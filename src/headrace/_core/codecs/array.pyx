"""Arrays as nested lists, one level for each dimension.

The format is that of array_send() in the server's arrayfuncs.c: the number of dimensions, whether there are NULLs,
the element type's OID, length and lower bound of each dimension, then the elements in row-major order, each with its
length. Lower bounds are dropped when reading and are 1 when writing. An array without elements has no dimensions: [].

If the codec of the elements works in text, so does the array: see container_text.pyx.

Python values: any sized iterable that is not a str, buffer or mapping. Nested lists must be rectangular, with at most
six levels. A tuple inside is a dimension too, unless it can be a value of the element type: point, range, composite ...
If the elements have a codec that was set, only a list is a dimension: its encoder gets any other value, such as a numpy
array for a vector.
"""

from collections.abc import Mapping
from enum import Enum

from cpython.list cimport PyList_CheckExact, PyList_GET_ITEM, PyList_GET_SIZE, PyList_New
from cpython.long cimport PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_Check, PyTuple_CheckExact, PyTuple_GET_ITEM
from cpython.unicode cimport PyUnicode_CheckExact
from libc.stdint cimport int32_t, int64_t, uint32_t

from headrace._core.wire.buffer cimport (
    WriteBuffer, begin_length, end_length, load_i32, load_u32, put_byte, put_bytes, put_i32, reserve, store_u32,
)
from headrace._core.codecs.base cimport Codec
from headrace._core.codecs.container_text cimport Scanner, put_quoted, scan
from headrace._core.codecs.custom cimport CustomCodec
from headrace._core.codecs.domain cimport AliasCodec

from headrace._core.rows.record import Record

from headrace.exceptions import ProtocolError
from headrace.types import BitString, Path

cdef extern from "Python.h":
    void PyList_SET_RAW "PyList_SET_ITEM" (object target, Py_ssize_t i, PyObject *value) noexcept    # steals `value`

# Values that are sized iterables, but never dimensions. An enum member is here because its class is iterable.
cdef tuple LEAVES = (str, bytes, bytearray, memoryview, Mapping, Record, BitString, Path, Enum)

# Python types of elements that never are tuples.
cdef frozenset PLAIN = frozenset((
    'bool', 'bytes', 'datetime.date', 'datetime.datetime', 'datetime.time', 'datetime.timedelta', 'decimal.Decimal',
    'float', 'int', 'str', 'uuid.UUID',
))


cdef class ArrayWriter(list):
    """An argument that writes itself as an array, by the codec of the connection that it is sent on.

    To everything else, such as a query logger, it is a list.
    """

    cdef int write(self, ArrayCodec codec, WriteBuffer out) except -1:
        """Write the length word and the array. It is written once more if the request is sent on another connection."""
        raise NotImplementedError


cdef struct shape:
    int dimensions
    int32_t length[MAX_DIMENSIONS]
    # While a value is written: the position of the encoder, and what it has found.
    Py_ssize_t at[MAX_DIMENSIONS]
    bint in_element
    bint nulls


cdef ArrayCodec array_codec(uint32_t oid, str name, str schema, Codec element, char delimiter=b','):
    """Make the codec of an array type; it is not registered."""
    cdef ArrayCodec codec = ArrayCodec.__new__(ArrayCodec)
    codec.oid = oid
    codec.name = name
    codec.schema = schema
    codec.kind = 'array'
    codec.python = f'list[{element.python}]'
    codec.element = element
    codec.format = element.format
    codec.decode = decode_array if element.format == 1 else decode_array_text
    codec.encode = encode_array
    codec.lower = 1
    codec.delimiter = delimiter
    # A list of lists is one array for int[], but an array of arrays for a domain over int[].
    codec.nests = not element.python.startswith('list[')
    codec.nests_tuples = codec.nests and element.python in PLAIN
    while isinstance(element, AliasCodec):
        element = (<AliasCodec>element).base
    codec.nests_others = not isinstance(element, CustomCodec)
    return codec


# --- reading

cdef object decode_array(Codec self, const char *data, Py_ssize_t size):
    cdef:
        ArrayCodec codec = <ArrayCodec>self
        const char *end = data + size
        shape dims
        int64_t count = 1
        int64_t room
        int32_t length
        int i
        list result
    if size < 12:
        raise ProtocolError(f'a {codec.name} value of {size} bytes from the server: an array has a head of 12')
    dims.dimensions = load_i32(data)
    if dims.dimensions < 0 or dims.dimensions > MAX_DIMENSIONS:
        raise ProtocolError(f'a {codec.name} value with {dims.dimensions} dimensions from the server')
    if load_u32(data + 4) > 1:
        raise ProtocolError(f'a {codec.name} value with unknown flags from the server')
    if load_u32(data + 8) != codec.element.oid:
        raise ProtocolError(
            f'a {codec.name} value from the server with elements of OID {load_u32(data + 8)}, not {codec.element.oid}'
        )
    data += 12
    if end - data < 8 * dims.dimensions:
        raise ProtocolError(f'a {codec.name} value from the server is cut short')
    # Each element has at least its length word. Impossible counts are refused before memory is allocated.
    room = (end - data - 8 * dims.dimensions) // 4
    for i in range(dims.dimensions):
        length = load_i32(data)
        if length < 0:
            raise ProtocolError(f'a {codec.name} value from the server with a dimension of {length} elements')
        dims.length[i] = length
        count *= length
        if count > room:
            raise ProtocolError(f'a {codec.name} value from the server is too short for its {count} elements')
        data += 8
    if dims.dimensions == 0 or count == 0:
        result = []
    else:
        result = read_level(codec, &dims, 0, &data, end)
    if data != end:
        raise ProtocolError(f'a {codec.name} value from the server has {end - data} bytes too many')
    return result


cdef list read_level(ArrayCodec codec, const shape *dims, int level, const char **cursor, const char *end):
    """Read one list of the dimension `level` and the lists inside."""
    cdef:
        Py_ssize_t count = dims.length[level]
        Py_ssize_t i
        list result
        list row
    if level == dims.dimensions - 1:
        return read_elements(codec, count, cursor, end)
    result = PyList_New(count)
    for i in range(count):
        row = read_level(codec, dims, level + 1, cursor, end)
        Py_INCREF(row)
        PyList_SET_RAW(result, i, <PyObject *>row)
    return result


cdef list read_elements(ArrayCodec codec, Py_ssize_t count, const char **cursor, const char *end):
    cdef:
        PyObject *element = <PyObject *>codec.element
        raw_decode_t decode = <raw_decode_t>codec.element.decode
        const char *at = cursor[0]
        Py_ssize_t i
        int32_t length
        list result = PyList_New(count)
    for i in range(count):
        if end - at < 4:
            raise ProtocolError(f'a {codec.name} value from the server is cut short')
        length = load_i32(at)
        at += 4
        if length < 0:
            if length != -1:
                raise ProtocolError(f'a {codec.name} value from the server with an element of {length} bytes')
            Py_INCREF(None)
            PyList_SET_RAW(result, i, <PyObject *>None)
        else:
            if end - at < length:
                raise ProtocolError(
                    f'a {codec.name} value from the server with an element of {length} bytes, '
                    f'but only {end - at} are left'
                )
            PyList_SET_RAW(result, i, decode(element, at, length))
            at += length
    cursor[0] = at
    return result


cdef object decode_array_text(Codec self, const char *data, Py_ssize_t size):
    cdef:
        ArrayCodec codec = <ArrayCodec>self
        Scanner scanner = scan(codec, data, size)
        list result
    if scanner.peek() == b'[':
        # Lower bounds other than 1 come first: [0:1][-1:1]={{1,2,3},{4,5,6}}
        while scanner.peek() != b'=':
            scanner.cursor += 1
        scanner.cursor += 1
    result = read_list(codec, scanner, 1)
    if scanner.cursor != scanner.end:
        scanner.bad()
    return result


cdef list read_list(ArrayCodec codec, Scanner scanner, int level):
    """Read from an opening brace to its closing brace."""
    cdef:
        list result = []
        char *stops = [codec.delimiter, b'{', b'}', 0]
    if level > MAX_DIMENSIONS:
        scanner.bad()
    scanner.expect(b'{')
    if scanner.peek() != b'}':
        while True:
            if scanner.peek() == b'{':
                result.append(read_list(codec, scanner, level + 1))
            else:
                scanner.read_word(stops, False)
                if scanner.size == 0 and not scanner.quoted:
                    scanner.bad()
                if scanner.is_word(b'null', 4):
                    result.append(None)
                else:
                    result.append(scanner.decode_word(codec.element))
            if scanner.peek() != codec.delimiter:
                break
            scanner.cursor += 1
    scanner.expect(b'}')
    return result


# --- writing

cdef list as_list(object value):
    """Return the elements of a sized iterable; raises TypeError for anything else."""
    kind = type(value)
    if isinstance(value, LEAVES) or not hasattr(kind, '__len__') or not hasattr(kind, '__iter__'):
        raise TypeError(f'a sized iterable container expected (got type {kind.__name__!r})')
    return list(value)


cdef bint is_nested(ArrayCodec codec, object value) except -1:
    """Return whether an element is a list of the next dimension and not a value."""
    if not codec.nests:
        return False
    if PyList_CheckExact(value):
        return True
    if PyTuple_Check(value):
        return codec.nests_tuples and PyTuple_CheckExact(value)
    if value is None or PyLong_CheckExact(value) or PyUnicode_CheckExact(value) or isinstance(value, LEAVES):
        return False
    kind = type(value)
    return codec.nests_others and hasattr(kind, '__len__') and hasattr(kind, '__iter__')


cdef int measure(ArrayCodec codec, object value, shape *dims) except -1:
    """Find the dimensions of nested lists by their first elements."""
    dims.dimensions = 0
    dims.in_element = False
    dims.nulls = False
    while True:
        if dims.dimensions == MAX_DIMENSIONS:
            raise ValueError(
                f'number of array dimensions ({MAX_DIMENSIONS + 1}) exceed the maximum expected ({MAX_DIMENSIONS})')
        if not PyList_CheckExact(value) and not PyTuple_CheckExact(value):
            value = as_list(value)
        if len(value) > 0x7fffffff:
            raise ValueError(f'too many elements in array: {len(value)}')
        dims.length[dims.dimensions] = <int32_t>len(value)
        dims.dimensions += 1
        if len(value) == 0:
            return 0
        value = value[0]
        if not is_nested(codec, value):
            return 0


cdef int encode_array(Codec self, WriteBuffer out, object value) except -1:
    cdef:
        ArrayCodec codec = <ArrayCodec>self
        shape dims
        Py_ssize_t mark
        char *at
        int i
    if not PyList_CheckExact(value) and not PyTuple_CheckExact(value):
        if isinstance(value, ArrayWriter):
            return (<ArrayWriter>value).write(codec, out)
        value = as_list(value)
    measure(codec, value, &dims)
    mark = begin_length(out)
    if codec.format == 1:
        at = reserve(out, 12 + 8 * dims.dimensions)
        store_u32(at, <uint32_t>dims.dimensions)
        store_u32(at + 8, codec.element.oid)
        for i in range(dims.dimensions):
            store_u32(at + 12 + 8 * i, <uint32_t>dims.length[i])
            store_u32(at + 16 + 8 * i, <uint32_t>codec.lower)
    try:
        write_level(codec, out, value, &dims, 0)
    except (TypeError, ValueError, OverflowError) as error:
        if not dims.in_element:
            raise
        raise bad_element(&dims, error) from error
    if codec.lower == 0 and (dims.dimensions > 1 or dims.length[0] == 0 or dims.nulls):
        raise ValueError(f'expected one or more numbers and no None: the binary form of {codec.name} holds nothing else')
    # PostgreSQL has one empty array: [[], []] is sent as [].
    if codec.format == 0:
        if dims.length[dims.dimensions - 1] == 0:
            out.length = mark
            put_bytes(out, b'{}', 2)
    elif dims.length[dims.dimensions - 1] == 0:
        out.length = mark + 12
        store_u32(out.data + mark, 0)
        store_u32(out.data + mark + 4, 0)
    else:
        store_u32(out.data + mark + 4, 1 if dims.nulls else 0)
    return end_length(out, mark)


cdef int write_level(ArrayCodec codec, WriteBuffer out, object value, shape *dims, int level) except -1:
    """Write one list of the dimension `level` and the lists inside."""
    cdef:
        Py_ssize_t count = dims.length[level]
        Py_ssize_t i
        object row
    if not PyList_CheckExact(value) and not PyTuple_CheckExact(value):
        value = as_list(value)
    if len(value) != count:
        raise ValueError('non-homogeneous array')
    if level == dims.dimensions - 1:
        if codec.format == 0:
            return write_text_elements(codec, out, value, dims, level)
        return write_elements(codec, out, value, dims, level)
    for i in range(count):
        if codec.format == 0:
            put_byte(out, codec.delimiter if i else b'{')
        row = item(value, i)
        if not is_nested(codec, row):
            raise ValueError('non-homogeneous array')
        dims.at[level] = i
        write_level(codec, out, row, dims, level + 1)
    if codec.format == 0:
        put_byte(out, b'}')
    return 0


cdef int write_elements(ArrayCodec codec, WriteBuffer out, object value, shape *dims, int level) except -1:
    cdef:
        Codec element = codec.element
        Py_ssize_t count = dims.length[level]
        Py_ssize_t i
        object each
    for i in range(count):
        each = item(value, i)
        if each is None:
            dims.nulls = True
            put_i32(out, -1)
            continue
        if PyList_CheckExact(each) and codec.nests:
            raise ValueError('non-homogeneous array')
        dims.at[level] = i
        dims.in_element = True
        element.encode(element, out, each)
        dims.in_element = False
    return 0


cdef int write_text_elements(ArrayCodec codec, WriteBuffer out, object value, shape *dims, int level) except -1:
    cdef:
        Py_ssize_t count = dims.length[level]
        Py_ssize_t i
        object each
    put_byte(out, b'{')
    for i in range(count):
        if i:
            put_byte(out, codec.delimiter)
        each = item(value, i)
        if each is None:
            put_bytes(out, b'NULL', 4)
            continue
        if PyList_CheckExact(each) and codec.nests:
            raise ValueError('non-homogeneous array')
        dims.at[level] = i
        dims.in_element = True
        put_quoted(out, codec.element, each, False)
        dims.in_element = False
    put_byte(out, b'}')
    return 0


cdef inline object item(object value, Py_ssize_t i):
    """Return an item of a list or tuple. An encoder may be Python code that changes the list meanwhile."""
    if PyList_CheckExact(value):
        if i >= PyList_GET_SIZE(value):
            raise ValueError('the list changed its size while it was encoded')
        return <object>PyList_GET_ITEM(value, i)
    return <object>PyTuple_GET_ITEM(value, i)


cdef object bad_element(const shape *dims, object error):
    """Return the element's error with its index; UnicodeEncodeError, which needs more arguments, becomes ValueError."""
    cdef str where = ''.join([f'[{dims.at[i]}]' for i in range(dims.dimensions)])
    if dims.dimensions == 1:
        where = str(dims.at[0])
    for kind in (TypeError, OverflowError):
        if isinstance(error, kind):
            break
    else:
        kind = ValueError
    return kind(f'invalid array element at index {where}: {error}')
