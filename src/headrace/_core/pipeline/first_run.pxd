# The preparation and the first execution of a statement in one request.

from headrace._core.wire.buffer cimport WriteBuffer
from headrace._core.pipeline.plan cimport Plan
from headrace._core.pipeline.statement_cache cimport Statement

cdef object FORMATS_DIFFER


cdef class FirstRun:
    cdef:
        Statement statement
        Plan plan                        # writes the arguments
        bint may_differ                  # the types of the parameters are looked up in the search_path
        bint is_described                # the reply has shown the parameters and the columns
        bint lacks_types                 # types of columns must be looked up before rows can be read
        bint returns_rows
        tuple parameter_oids             # as described
        list columns

    cdef int put(self, WriteBuffer out, object args, int limit) except -1
    cdef bint take(self, char kind, const char *data, Py_ssize_t size) except -1
    cdef bint fits(self) except -1
    cdef bint shows_wrong_types(self, object error) except -1


cdef bint all_binary(Plan plan) except -1
