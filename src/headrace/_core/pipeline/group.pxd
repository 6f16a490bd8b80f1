# Several executions of one plain read under one Sync.

from headrace._core.pipeline.requests cimport Query
from headrace._core.pipeline.workload cimport Cost


cdef class Failure:
    # The error of one element, in the place of its result.
    cdef:
        readonly object error
        readonly bint alone            # nothing is wrong yet: the element is to be asked for by a request of its own


cdef class GroupCost(Cost):
    cdef:
        Cost element                 # of one execution
        Py_ssize_t count             # executions in the group


cdef class MeasuredQuery(Query):
    cdef:
        Py_ssize_t encoded           # executions in the message
        readonly Py_ssize_t received # bytes of the rows
        double ended_at              # when its outcome was known; 0 before

    cdef double seconds(self) noexcept


cdef class Group(MeasuredQuery):
    cdef:
        list elements                # the arguments of each execution
        list results                 # of the executions that are complete, in order
        object failed                # the error of the rows that are being read, or None

    cdef int complete(self) except -1
