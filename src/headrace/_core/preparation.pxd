# Requests that the session makes for itself, or that send nothing, so that a statement becomes READY.

from headrace._core.request cimport Bound, Query
from headrace._core.statement cimport Statement


cdef class Preparation(Bound):
    pass


cdef class Introspection(Query):
    cdef list oids


cdef Introspection question_about(list oids, Statement statement)
