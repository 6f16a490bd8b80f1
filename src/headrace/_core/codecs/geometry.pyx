"""The geometric types as the classes of headrace.types.

The formats are those of point_send(), line_send(), lseg_send(), box_send(), path_send(), poly_send() and
circle_send() in the server's geo_ops.c: float8 coordinates, after a count if the number of points
varies.

Encoders accept what the classes' constructors accept. Points are any two numbers. A closed path is a Path with
is_closed or a tuple of points; a list of points is an open path, as in asyncpg.
"""

from cpython.float cimport PyFloat_AsDouble
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport int32_t, int64_t

from headrace._core.wire.buffer cimport (
    WriteBuffer, begin_length, end_length, load_f64, load_i32, put_byte, put_bytes, put_i32, reserve, store_f64,
)
from headrace._core.codecs.base cimport Codec, bad_length, scalar, wrong_type
from headrace._core.codecs.slots cimport slot_fill, slot_offset, slotted_new

from headrace.exceptions import ProtocolError
from headrace.types import Box, Circle, Line, LineSegment, Path, Point, Polygon

cdef extern from *:
    """
    /* Make an instance of a subclass of tuple without running its constructor. */
    static inline PyObject *tuple_as(PyObject *cls, PyObject *items) {
        PyObject *made, *args = PyTuple_Pack(1, items);
        if (args == NULL)
            return NULL;
        made = PyTuple_Type.tp_new((PyTypeObject *)cls, args, NULL);
        Py_DECREF(args);
        return made;
    }
    """
    object tuple_as(object cls, object items)

cdef Py_ssize_t POINTS_AT = slot_offset(Path, '_points')
cdef Py_ssize_t CLOSED_AT = slot_offset(Path, '_is_closed')


# --- reading

cdef inline object read_point(const char *data):
    return tuple_as(Point, (load_f64(data), load_f64(data + 8)))


cdef object decode_point(Codec codec, const char *data, Py_ssize_t size):
    if size != 16:
        bad_length(codec, size, '16 bytes')
    return read_point(data)


cdef object decode_line(Codec codec, const char *data, Py_ssize_t size):
    if size != 24:
        bad_length(codec, size, '24 bytes')
    return tuple_as(Line, (load_f64(data), load_f64(data + 8), load_f64(data + 16)))


cdef object decode_lseg(Codec codec, const char *data, Py_ssize_t size):
    if size != 32:
        bad_length(codec, size, '32 bytes')
    return tuple_as(LineSegment, (read_point(data), read_point(data + 16)))


cdef object decode_box(Codec codec, const char *data, Py_ssize_t size):
    if size != 32:
        bad_length(codec, size, '32 bytes')
    return tuple_as(Box, (read_point(data), read_point(data + 16)))


cdef object decode_circle(Codec codec, const char *data, Py_ssize_t size):
    if size != 24:
        bad_length(codec, size, '24 bytes')
    return tuple_as(Circle, (read_point(data), load_f64(data + 16)))


cdef tuple read_points(Codec codec, const char *data, Py_ssize_t size):
    """Read a count and that many points; together they must take exactly `size` bytes."""
    cdef:
        int64_t count
        Py_ssize_t i
        tuple points
        object point
    if size < 4:
        raise ProtocolError(f'a {codec.name} value from the server is cut short')
    count = load_i32(data)
    if count < 0 or size != 4 + 16 * count:
        raise ProtocolError(f'a {codec.name} value from the server of {count} points in {size} bytes')
    points = PyTuple_New(count)
    for i in range(count):
        point = read_point(data + 4 + 16 * i)
        Py_INCREF(point)
        PyTuple_SET_ITEM(points, i, point)
    return points


cdef object make_path(object kind, tuple points, bint closed):
    if not POINTS_AT or not CLOSED_AT:
        return kind(*points) if kind is Polygon else kind(*points, is_closed=closed)
    made = slotted_new(kind)
    slot_fill(made, POINTS_AT, points)
    slot_fill(made, CLOSED_AT, closed)
    return made


cdef object decode_path(Codec codec, const char *data, Py_ssize_t size):
    if size < 1:
        bad_length(codec, size, 'at least 5 bytes')
    return make_path(Path, read_points(codec, data + 1, size - 1), data[0] != 0)


cdef object decode_polygon(Codec codec, const char *data, Py_ssize_t size):
    return make_path(Polygon, read_points(codec, data, size), True)


# --- writing

cdef object parts(object value, Py_ssize_t count, str expected):
    """Return the value as a sequence of `count` items; raises TypeError or ValueError."""
    if not isinstance(value, (tuple, list)):
        # A row of a numpy array is accepted although it is no Sequence. An ip_network is not: it has no length.
        if isinstance(value, (str, bytes, bytearray, dict)) or not hasattr(type(value), '__getitem__') \
                or not hasattr(type(value), '__len__'):
            wrong_type(expected, value)
        value = tuple(value)
    if len(value) != count:
        raise ValueError(f'expected {expected}, got {len(value)} items')
    return value


cdef int put_numbers(char *at, object value, Py_ssize_t count, str expected) except -1:
    """Store `count` coordinates; not in the WriteBuffer itself, which code in a number's __float__ might move."""
    cdef Py_ssize_t i
    value = parts(value, count, expected)
    for i in range(count):
        store_f64(at + 8 * i, PyFloat_AsDouble(value[i]))
    return 0


cdef int put_point(WriteBuffer out, object value) except -1:
    cdef char numbers[16]
    put_numbers(numbers, value, 2, 'a point (x, y)')
    return put_bytes(out, numbers, 16)


cdef int encode_point(Codec codec, WriteBuffer out, object value) except -1:
    put_i32(out, 16)
    return put_point(out, value)


cdef int encode_line(Codec codec, WriteBuffer out, object value) except -1:
    cdef char numbers[24]
    put_numbers(numbers, value, 3, 'a line (A, B, C)')
    put_i32(out, 24)
    return put_bytes(out, numbers, 24)


cdef int encode_pair(Codec codec, WriteBuffer out, object value) except -1:
    """Write the two points of an lseg or a box."""
    value = parts(value, 2, f'a {codec.name} ((x, y), (x, y))')
    put_i32(out, 32)
    put_point(out, value[0])
    return put_point(out, value[1])


cdef int encode_circle(Codec codec, WriteBuffer out, object value) except -1:
    cdef double radius
    value = parts(value, 2, 'a circle ((x, y), radius)')
    radius = PyFloat_AsDouble(value[1])
    put_i32(out, 24)
    put_point(out, value[0])
    store_f64(reserve(out, 8), radius)
    return 0


cdef int put_points(Codec codec, WriteBuffer out, object value) except -1:
    cdef tuple points = tuple(value)
    if not points:
        raise ValueError(f'expected at least one point: there is no empty {codec.name}')
    if len(points) > 0x7fffffff // 16:
        raise ValueError(f'too many points: {len(points)}')
    put_i32(out, <int32_t>len(points))
    for point in points:
        put_point(out, point)
    return 0


cdef int check_points(Codec codec, object value) except -1:
    if isinstance(value, (Path, list, tuple)):
        return 0
    if isinstance(value, (str, bytes, bytearray, dict)) or not hasattr(type(value), '__len__'):
        wrong_type(f'headrace.{codec.name.title()}, or a list or tuple of points (x, y)', value)
    return 0


cdef int encode_path(Codec codec, WriteBuffer out, object value) except -1:
    cdef Py_ssize_t mark
    check_points(codec, value)
    mark = begin_length(out)
    put_byte(out, 1 if (value.is_closed if isinstance(value, Path) else isinstance(value, tuple)) else 0)
    put_points(codec, out, value)
    return end_length(out, mark)


cdef int encode_polygon(Codec codec, WriteBuffer out, object value) except -1:
    cdef Py_ssize_t mark
    check_points(codec, value)
    mark = begin_length(out)
    put_points(codec, out, value)
    return end_length(out, mark)


scalar(600, 'point', 'headrace.Point', encode_point, decode_point)
scalar(601, 'lseg', 'headrace.LineSegment', encode_pair, decode_lseg)
scalar(602, 'path', 'headrace.Path', encode_path, decode_path)
scalar(603, 'box', 'headrace.Box', encode_pair, decode_box)
scalar(604, 'polygon', 'headrace.Polygon', encode_polygon, decode_polygon)
scalar(628, 'line', 'headrace.Line', encode_line, decode_line)
scalar(718, 'circle', 'headrace.Circle', encode_circle, decode_circle)
