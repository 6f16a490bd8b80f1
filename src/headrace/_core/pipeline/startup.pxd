# The first request of a connection.

from headrace._core.pipeline.requests cimport Request


cdef class Startup(Request):
    cdef:
        readonly int protocol        # version asked for, then the one agreed on: 0x30000 is 3.0
        int minimum
        bint answered                # the server has said something, so it no longer negotiates
        bint authenticated
        object on_authentication

    cdef int negotiate(self, const char *data, Py_ssize_t size) except -1
    cdef int check_key(self, Py_ssize_t size) except -1
