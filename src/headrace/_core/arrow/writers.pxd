# Writers of the values of Arrow arrays in PostgreSQL's binary forms.

from libc.stdint cimport int64_t, uint32_t

from headrace._core.arrow.abi cimport ArrowArray
from headrace._core.arrow.convert cimport bit_at
from headrace._core.codecs.base cimport Codec
from headrace._core.wire.buffer cimport WriteBuffer, put_i32

# Writes the value at a position that is not NULL by the array's own validity bitmap.
ctypedef int (*put_t)(Writer writer, WriteBuffer out, int64_t i) except -1


# The values of an array, those that are skipped included. No memory holds more, so positions do not overflow.
cdef extern from *:
    """
    #define MOST_VALUES ((int64_t)1 << 56)
    """
    const int64_t MOST_VALUES


cdef class Writer:
    cdef:
        put_t put
        const char *validity         # NULL if no value is NULL
        const char *data             # the values; for values of fixed width those behind the array's offset
        int64_t offset
        int64_t length
        readonly str target          # the PostgreSQL type, for errors

    cdef int bind(self, const ArrowArray *array) except -1
    cdef int buffers(self, const ArrowArray *array, int64_t count, bint has_validity) except -1
    cdef int check_width(self, int64_t width) except -1


cdef class FixedWriter(Writer):
    cdef:
        int kind                     # of the source
        int width                    # bytes of a value; 0 for bools, which have a bit
        int scale
        int64_t low                  # the range of the target
        int64_t high
        int64_t factor               # from the source's unit to microseconds; 0 for nanoseconds
        object convert               # for conversions by Python code
        Codec codec


cdef class BytesWriter(Writer):
    cdef:
        int layout
        int width
        const char *offsets
        const char **pieces          # the buffers that views point to
        const char *sizes
        int64_t n_pieces
        object convert
        Codec codec

    cdef const char *bytes_at(self, int64_t i, Py_ssize_t *size) except NULL


cdef class ListWriter(Writer):
    cdef:
        int layout
        int64_t width
        Writer child
        bint nests                   # the child is a list too, of the next dimension
        uint32_t element
        int lower
        const char *offsets
        const char *sizes

    cdef int span(self, int64_t i, int64_t *start, int64_t *count) except -1


cdef class StructWriter(Writer):
    cdef:
        tuple names
        tuple children               # a Writer for each attribute, or None
        tuple oids
        tuple positions              # of the children among those of the struct
        Py_ssize_t n_fields

    cdef Writer child(self, Py_ssize_t k)


cdef class DictionaryWriter(Writer):
    cdef:
        int kind
        int width
        Writer values


cdef class RunEndWriter(Writer):
    cdef:
        int kind
        int width
        Writer values
        int64_t runs
        int64_t run                  # where the last value was found


cdef inline bint is_null(Writer writer, int64_t i) noexcept:
    return writer.validity != NULL and not bit_at(writer.validity, writer.offset + i)


cdef inline int put_slot(Writer writer, WriteBuffer out, int64_t i) except -1:
    """Write the length and the value at a position, or -1 for NULL."""
    if is_null(writer, i):
        return put_i32(out, -1)
    return writer.put(writer, out, i)
