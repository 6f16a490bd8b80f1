"""A growing buffer for protocol fields.

Callers write to a WriteBuffer and take the bytes. All lengths are checked against the protocol's limit: they are signed
32-bit integers (protocol-message-formats).
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdlib cimport free, malloc, realloc

cdef Py_ssize_t INITIAL_CAPACITY = 4096
cdef Py_ssize_t KEPT_CAPACITY = 1 << 20


cdef class WriteBuffer:
    """A growing byte buffer that encoders write to."""

    def __cinit__(self):
        self.length = 0
        self.capacity = INITIAL_CAPACITY
        self.data = <char *>malloc(<size_t>self.capacity)
        if self.data == NULL:
            raise MemoryError()

    def __dealloc__(self):
        free(self.data)

    def __len__(self) -> int:
        return self.length

    cdef int _grow(self, Py_ssize_t extra) except -1:
        cdef:
            Py_ssize_t wanted
            char *data
        if extra < 0 or extra > (<Py_ssize_t>1 << 40):
            raise MemoryError()
        wanted = max(self.capacity * 2, self.length + extra)
        data = <char *>realloc(self.data, <size_t>wanted)
        if data == NULL:
            raise MemoryError()
        self.data = data
        self.capacity = wanted
        return 0

    cdef bytes take(self):
        """Return the bytes written so far, empty the buffer, and free the memory of a large message."""
        cdef:
            bytes taken = PyBytes_FromStringAndSize(self.data, self.length)
            char *data
        self.length = 0
        if self.capacity > KEPT_CAPACITY:
            data = <char *>realloc(self.data, <size_t>INITIAL_CAPACITY)
            if data != NULL:
                self.data = data
                self.capacity = INITIAL_CAPACITY
        return taken


cdef int value_too_long(Py_ssize_t size) except -1:
    raise ValueError(
        f'a value of {size} bytes does not fit into one protocol message (at most {0x7fffffff} bytes)')
