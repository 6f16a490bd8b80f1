"""The requests around preparing a statement: waiting for it, and asking about the types that it is the first to use.

Also the statements of the driver's own questions, which are described beforehand and so need no preparation.
"""

from headrace._core.wire.buffer cimport WriteBuffer
from headrace._core.codecs.typemap cimport TypeCatalogue
from headrace._core.pipeline.requests cimport ROWS, STAGED

from headrace._core.codecs import introspection
from headrace._core.rows.record import Record

cdef int OID_ARRAY = 1028

# The driver's own questions are read by the built-in codecs, even if its user has set others.
cdef TypeMap OWN = TypeMap()


cdef class PrepareWaiter(ExtendedQuery):
    """Waits for a statement to be READY; nothing is sent for it."""

    def __cinit__(self, object waiter, Statement statement not None):
        self.traits = STAGED
        self.waiter = waiter
        self.statement = statement
        self.query = statement.query

    cdef int encode(self, WriteBuffer out) except -1:
        self.settle()
        return 0

    cdef object outcome(self):
        return self.statement


cdef class Introspection(Query):
    """Asks the server about types met for the first time, by a statement whose description is known beforehand."""

    cdef int settle(self) except -1:
        cdef Query waiting = self.decodes
        if self.error is None:
            try:
                self.types.learn(self.oids, self.rows if self.rows is not None else [])
            except Exception as error:
                self.error = error
        if waiting is not None and self.error is not None:
            # Nothing can be learnt: what the rows could not be read for is what their owner gets.
            self.decodes = None
            waiting.give_up_late(self.error)
        self.release()
        return Query.settle(self)

    cdef int release(self) except -1:
        """Let other connections ask for what they have waited for here, if it is not known by now."""
        cdef TypeCatalogue claimed = self.claimed
        self.claimed = None
        if claimed is not None:
            claimed.release(self.oids)
        return 0


cdef class Identification(Introspection):
    """Asks the server which one it is. A server that cannot say is not asked again."""

    cdef int settle(self) except -1:
        if self.error is None:
            self.types.identified(self.rows if self.rows is not None else [])
        elif getattr(self.error, 'sqlstate', None) != '57014':
            self.types.stay_alone()
        return Query.settle(self)


cpdef Statement own_statement(str query, tuple parameter_oids, list columns, TypeMap parameters=None):
    """A statement of the driver's own, READY at once and unnamed; `columns` are names and OIDs of built-in types.

    Codecs that were set play no part in its rows, and in its parameters only if `parameters` is the map they were
    set in.
    """
    cdef Statement statement = Statement(query, parameters if parameters is not None else OWN, False)
    statement.results = OWN
    statement.checked = False
    statement.described(parameter_oids, [(name, 0, 0, oid, -1, -1, 0) for name, oid in columns])
    return statement


cdef Introspection question_about(list oids, TypeMap types):
    """The request that asks for these types, so that `types` learns of them."""
    cdef:
        Statement question = own_statement(introspection.QUERY, (OID_ARRAY,), introspection.COLUMNS)
        Introspection request
    request = Introspection(None, question, (oids,), ROWS, 0, 0, Record)
    request.oids = oids
    request.types = types
    return request


cdef Identification question_who(TypeMap types):
    """The request that asks which server this is, so that `types` knows with whom to share."""
    cdef:
        Statement question = own_statement(introspection.IDENTITY, (), introspection.IDENTITY_COLUMNS)
        Identification request = Identification(None, question, (), ROWS, 0, 0, Record)
    request.types = types
    return request
