# A statement known to the server, and the cache of them.

from headrace._core.wire.buffer cimport WriteBuffer
from headrace._core.codecs.typemap cimport TypeMap
from headrace._core.pipeline.plan cimport Plan

cdef Py_ssize_t MAX_PARAMETERS

cdef object too_many_parameters(Py_ssize_t count)
cdef extern from "platform.h":
    double monotonic_seconds() noexcept

cpdef enum StatementState:
    NEW          # the server does not know it (yet, or any more)
    PREPARING    # Parse is under way
    READY


# The effect that executing a text may have on the search_path.
cdef enum SearchPathEffect:
    UNKNOWN
    KEEPS
    UNDOES       # ends a transaction or a part of it
    RESETS
    MOVES


cdef class Statement:
    cdef:
        readonly str query
        bytes query_bytes
        bint own_name                    # the user has given it its name
        readonly bytes name              # b'' for an unnamed one: parsed anew with each Bind
        bint checked                     # and its columns described anew: they may have changed since, or the backend
        readonly StatementState state
        readonly tuple parameter_oids
        readonly list columns            # as in RowDescription
        readonly bint returns_rows
        list waiting                     # requests to be encoded once it is ready
        object prepare                   # the Prepare request under way
        object question                  # the Introspection under way, behind it
        list awaited                     # OIDs that another connection is asking for
        readonly Py_ssize_t users        # prepared statement objects that hold it
        bint cached
        Statement probe                  # the same text described once more, because an argument was refused
        Statement probes                 # what it was made for, if it is such a probe
        double confirmed                 # when a probe found the same types; 0 for never
        bint once                        # its types may mean something else at the next use: it is described for each
        TypeMap types
        TypeMap results                  # reads the columns: `types`, but for the driver's own questions
        Plan plan                        # the newest; None before the statement was first READY
        object key                       # in the cache
        SearchPathEffect effect          # of its text
        double expires                   # when the cache no longer gives it out, by the monotonic clock

    cdef int described(self, tuple parameter_oids, list columns, Plan plan=*) except -1
    cdef Plan current_plan(self)
    cdef bint refused(self, object error) except -1
    cdef list oids(self)
    cdef bint refused_unnamed(self, object error, int stage) except -1
    cdef int forget_name(self) except -1
    cdef int put_parse(self, WriteBuffer out, tuple parameter_oids=*) except -1
    cdef int put_bind(self, WriteBuffer out, Plan plan, bytes portal, object args, Py_ssize_t element) except -1
    cdef bytes rename(self)


cdef class StatementCache:
    cdef:
        dict table                       # key -> Statement, least recently used first
        str search_path                  # what the texts are read under; None for the one that the session began with
        Statement newest                 # the most recently used; None after it was dropped
        readonly Py_ssize_t size
        readonly double lifetime
        readonly Py_ssize_t max_length

    cdef object key_of(self, str query)
    cdef Statement get(self, str query)
    cdef list put(self, Statement statement)
    cdef int replace(self, Statement former, Statement statement) except -1
    cdef int drop(self, Statement statement) except -1
    cdef list clear(self)
    cdef bint takes(self, str query) except -1
