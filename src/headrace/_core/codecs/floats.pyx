"""float4 and float8, in the format of float4send() and float8send(): IEEE 754, big-endian."""

from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_AsDouble, PyFloat_CheckExact, PyFloat_FromDouble
from libc.math cimport isinf

from headrace._core.wire.buffer cimport WriteBuffer, reserve
from headrace._core.wire.buffer cimport load_f32, load_f64, store_f32, store_f64, store_u32
from headrace._core.codecs.base cimport Codec, bad_length, scalar
from headrace._core.codecs.coercion cimport enum_value
from headrace.exceptions._values import shown


cdef double other_number(object value) except? -1.0:
    """Return a float for an object with `__float__` or `__index__`, or an enum member with such a value.

    Examples are int, Decimal, Fraction and numpy's scalars. A str raises TypeError.
    """
    value = enum_value(value)
    try:
        return PyFloat_AsDouble(value)
    except TypeError:
        raise TypeError(f'must be real number, not {type(value).__name__}') from None


cdef object decode_float4(Codec codec, const char *data, Py_ssize_t size):
    if size != 4:
        bad_length(codec, size, '4 bytes')
    return PyFloat_FromDouble(load_f32(data))


cdef int encode_float4(Codec codec, WriteBuffer out, object value) except -1:
    cdef:
        double number = PyFloat_AS_DOUBLE(value) if PyFloat_CheckExact(value) else other_number(value)
        float narrowed = <float>number
        char *at
    if isinf(narrowed) and not isinf(number):
        raise OverflowError(
            f'value out of float32 range: expected -3.4028235e+38 to 3.4028235e+38, got {shown(number)}')
    at = reserve(out, 8)
    store_u32(at, 4)
    store_f32(at + 4, narrowed)
    return 0


cdef object decode_float8(Codec codec, const char *data, Py_ssize_t size):
    if size != 8:
        bad_length(codec, size, '8 bytes')
    return PyFloat_FromDouble(load_f64(data))


cdef int encode_float8(Codec codec, WriteBuffer out, object value) except -1:
    cdef:
        double number = PyFloat_AS_DOUBLE(value) if PyFloat_CheckExact(value) else other_number(value)
        char *at = reserve(out, 12)
    store_u32(at, 8)
    store_f64(at + 4, number)
    return 0


scalar(700, 'float4', 'float', encode_float4, decode_float4)
scalar(701, 'float8', 'float', encode_float8, decode_float8)
