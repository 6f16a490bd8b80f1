# The received bytes that were not read yet, divided into messages.

cdef struct Message:
    char kind
    const char *body           # valid until the next call of a method
    Py_ssize_t size


cdef class ReadBuffer:
    cdef:
        object chunk           # bytearray: the memory
        object view            # memoryview of all of it
        char *data
        Py_ssize_t start       # of the bytes not read yet
        Py_ssize_t end         # of the bytes received
        Py_ssize_t capacity
        bint in_use            # values are decoded from it: its bytes must not move

    cpdef object writable(self)
    cdef int check_not_in_use(self) except -1
    cdef bint next_message(self, Message *message) except -1
    cdef int clear(self) except -1
    cdef int _make_room(self, Py_ssize_t wanted) except -1
    cdef int _allocate(self, Py_ssize_t capacity) except -1
