# A statement known to the server, with the plans made once for it; and the cache of them.

from libc.stdint cimport int32_t, uint32_t

from headrace._core.buffer cimport WriteBuffer
from headrace._core.codecs.base cimport Codec, decode_t
from headrace._core.codecs.typemap cimport TypeMap

cpdef enum StatementState:
    NEW          # the server does not know it (yet, or any more)
    PREPARING    # Parse is under way
    READY


cdef class Statement:
    cdef:
        readonly str query
        bytes query_bytes
        readonly bytes name              # b'' for an unnamed one: parsed anew with each Bind
        readonly StatementState state
        readonly int generation          # counts preparations: a request bound to an older one is bound again
        readonly tuple parameter_oids
        readonly list columns            # as in RowDescription
        readonly bint returns_rows
        list waiting                     # requests to be encoded once it is ready
        object prepare                   # the Prepare request under way
        readonly Py_ssize_t users        # prepared statement objects that hold it
        bint cached
        # the plan: made from the type map at `plan_version`
        TypeMap types
        int plan_version
        Py_ssize_t n_columns
        tuple parameter_codecs
        tuple column_codecs
        decode_t *decoders
        bint tracked                     # rows may hold containers
        tuple desc
        bytes bind_head
        bytes bind_tail
        # the cache's list
        Statement newer
        Statement older
        double expires

    cdef int described(self, tuple parameter_oids, list columns) except -1
    cdef int plan(self) except -1
    cdef int put_parse(self, WriteBuffer out) except -1
    cdef int put_bind(self, WriteBuffer out, bytes portal, object args, Py_ssize_t element) except -1
    cdef object row(self, const char *data, Py_ssize_t size, object record_class)
    cdef bytes rename(self)
    cdef Codec _codec(self, uint32_t oid)


cdef class StatementCache:
    cdef:
        dict table
        Statement newest
        Statement oldest
        readonly Py_ssize_t size
        readonly double lifetime
        readonly Py_ssize_t max_length

    cdef Statement get(self, str query)
    cdef list put(self, Statement statement)
    cdef int drop(self, Statement statement) except -1
    cdef list clear(self)
    cdef bint takes(self, str query) except -1
    cdef int _link(self, Statement statement) except -1
    cdef int _unlink(self, Statement statement) except -1
