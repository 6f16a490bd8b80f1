# Writing big-endian fields to a growing buffer, and reading them.

from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from "wire.h" nogil:
    uint16_t load_u16(const char *p)
    uint32_t load_u32(const char *p)
    uint64_t load_u64(const char *p)
    int16_t load_i16(const char *p)
    int32_t load_i32(const char *p)
    int64_t load_i64(const char *p)
    float load_f32(const char *p)
    double load_f64(const char *p)
    void store_u16(char *p, uint16_t v)
    void store_u32(char *p, uint32_t v)
    void store_u64(char *p, uint64_t v)
    void store_f32(char *p, float f)
    void store_f64(char *p, double f)


cdef class WriteBuffer:
    cdef:
        char *data
        Py_ssize_t length
        Py_ssize_t capacity

    cdef int _grow(self, Py_ssize_t extra) except -1
    cdef bytes take(self)


cdef inline char *reserve(WriteBuffer out, Py_ssize_t size) except NULL:
    """Extend the buffer by `size` bytes and return a pointer to them, which is valid until the next write."""
    cdef char *at
    if out.capacity - out.length < size:
        out._grow(size)
    at = out.data + out.length
    out.length += size
    return at


cdef inline int put_byte(WriteBuffer out, char value) except -1:
    reserve(out, 1)[0] = value
    return 0


cdef inline int put_i16(WriteBuffer out, int16_t value) except -1:
    store_u16(reserve(out, 2), <uint16_t>value)
    return 0


cdef inline int put_i32(WriteBuffer out, int32_t value) except -1:
    store_u32(reserve(out, 4), <uint32_t>value)
    return 0


cdef inline int put_i64(WriteBuffer out, int64_t value) except -1:
    store_u64(reserve(out, 8), <uint64_t>value)
    return 0


cdef inline int put_bytes(WriteBuffer out, const char *data, Py_ssize_t size) except -1:
    memcpy(reserve(out, size), data, <size_t>size)
    return 0


cdef inline int put_value(WriteBuffer out, const char *data, Py_ssize_t size) except -1:
    """Write a value after its length, as in Bind parameters, array elements and record fields."""
    cdef char *at
    if size > 0x7fffffff:
        value_too_long(size)
    at = reserve(out, size + 4)
    store_u32(at, <uint32_t>size)
    memcpy(at + 4, data, <size_t>size)
    return 0


cdef inline int put_cstring(WriteBuffer out, bytes text) except -1:
    """Write a NUL-terminated string; raises ValueError for a NUL inside, which would end it early."""
    cdef Py_ssize_t size = len(text)
    if b'\0' in text:
        raise ValueError('a string sent to PostgreSQL must not contain a NUL character')
    memcpy(reserve(out, size + 1), <const char *>text, <size_t>(size + 1))
    return 0


cdef inline Py_ssize_t begin_length(WriteBuffer out) except -1:
    """Reserve four bytes for a length, and return the position that end_length() needs."""
    reserve(out, 4)
    return out.length


cdef inline int end_length(WriteBuffer out, Py_ssize_t mark) except -1:
    """Set the length of a value that begins at `mark`; the length does not include itself."""
    cdef Py_ssize_t size = out.length - mark
    if size > 0x7fffffff:
        value_too_long(size)
    store_u32(out.data + mark - 4, <uint32_t>size)
    return 0


cdef inline Py_ssize_t begin_message(WriteBuffer out, char kind) except -1:
    """Begin a frontend message: a type byte and a length that includes itself. Return a mark for end_message()."""
    reserve(out, 5)[0] = kind
    return out.length


cdef inline int end_message(WriteBuffer out, Py_ssize_t mark) except -1:
    cdef Py_ssize_t size = out.length - mark + 4
    if size > 0x7fffffff:
        value_too_long(size)
    store_u32(out.data + mark - 4, <uint32_t>size)
    return 0


cdef int value_too_long(Py_ssize_t size) except -1
