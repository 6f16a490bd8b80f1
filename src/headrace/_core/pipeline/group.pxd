# Several executions of one plain read under one Sync.

from headrace._core.pipeline.requests cimport Query
from headrace._core.pipeline.workload cimport Cost


cdef class Failure:
    # The error of one element, in the place of its result.
    cdef:
        readonly object error
        bint alone                   # nothing is wrong yet: the element is to be asked for by a request of its own


cdef class GroupCost(Cost):
    cdef:
        Cost element                 # of one execution
        Py_ssize_t count             # executions in the group


cdef class Group(Query):
    cdef:
        list elements                # the arguments of each execution
        Py_ssize_t encoded           # how many of them are in the message
        list results                 # of the executions that are complete, in order
        object failed                # the error of the rows that are being read, or None
        readonly Py_ssize_t received # bytes of the rows

    cdef int complete(self) except -1
