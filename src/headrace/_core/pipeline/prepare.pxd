# Requests that the session makes for itself, or that send nothing, so that a statement becomes READY.

from headrace._core.codecs.typemap cimport TypeCatalogue, TypeMap
from headrace._core.pipeline.requests cimport ExtendedQuery, Query
from headrace._core.pipeline.statement_cache cimport Statement


cdef class PrepareWaiter(ExtendedQuery):
    pass


cdef class Introspection(Query):
    cdef:
        list oids
        TypeMap types              # that asks
        Query decodes              # its rows wait for the answer; None
        TypeCatalogue claimed      # knows who asks; None if no other connection waits for the answer

    cdef int release(self) except -1


cdef class Identification(Introspection):
    pass


cpdef Statement own_statement(str query, tuple parameter_oids, list columns, TypeMap parameters=*)
cdef Introspection question_about(list oids, TypeMap types)
cdef Identification question_who(TypeMap types)
