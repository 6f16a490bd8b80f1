# How the requests of an iteration reach the server.

from headrace._core.pipeline.requests cimport Query
from headrace._core.pipeline.workload cimport Cost
from headrace._io.driver cimport Driver


cdef class EachSender:
    # How the requests of one iteration reach the server; a connection and a pool have one each.
    cdef:
        readonly object loop
        Cost cost                    # of one execution
        bint reads                   # the query is a plain read, which may be asked for again
        readonly Py_ssize_t width    # connections that work at the same time
        double budget                # expected seconds that a group may take
        bint shared                  # any connection of a pool may run the requests

    cdef int send(self, Query request) except -1
    cdef Py_ssize_t depth(self) noexcept
    cdef Query settings(self)
    cdef bint in_block(self) except -1
    cdef int check(self) except -1
    cdef int explain(self, Query request, object error) except -1


cdef class ConnectionSender(EachSender):
    cdef:
        Driver driver
        object still_valid           # raises if the iteration must not go on
        Py_ssize_t max_pipeline
