# Encoding of frontend messages (protocol-message-formats, those marked F).

from libc.stdint cimport int32_t, uint32_t

from headrace._core.wire.buffer cimport WriteBuffer

cdef bytes SYNC
cdef bytes TERMINATE
cdef bytes COPY_DONE

# The longest message that a server accepts (PQ_LARGE_MESSAGE_LIMIT); it closes the connection after a longer one.
cdef Py_ssize_t MAX_MESSAGE

cdef bytes query_bytes(str query)

cdef int put_query(WriteBuffer out, bytes query) except -1
cdef int put_parse(WriteBuffer out, bytes name, bytes query, tuple parameter_oids) except -1
cdef int put_describe(WriteBuffer out, char what, bytes name) except -1
cdef int put_bind_nothing(WriteBuffer out) except -1
cdef int put_execute(WriteBuffer out, bytes portal, int32_t limit) except -1
cdef int put_close(WriteBuffer out, char what, bytes name) except -1
cdef int put_sync(WriteBuffer out) except -1
cdef int put_copy_fail(WriteBuffer out, bytes reason) except -1
