# The keys that a loader sends in one statement, and who waits for which of them.

from headrace._core.codecs.array cimport ArrayCodec, ArrayWriter
from headrace._core.codecs.base cimport Codec
from headrace._core.pipeline.key_future cimport KeyFuture, Wakeups
from headrace._core.rows.keyed_rows cimport KeyedShape
from headrace._core.wire.buffer cimport WriteBuffer

# One call for one key.
cdef struct Entry:
    Py_ssize_t at                    # its position among the keys of load_many()
    Py_ssize_t group                 # the distinct key; below 0 if it was not sent

# The bytes of one distinct key.
cdef struct Span:
    Py_ssize_t start
    Py_ssize_t size


cdef class KeyBatch(ArrayWriter):
    cdef:
        Wakeups wakeups
        KeyedShape shape
        bint many
        public object task               # cancel(): the task that runs the statement, or None
        readonly Py_ssize_t wanted       # futures that still wait
        bint written
        Codec element                    # of the keys as they were written
        list waiters                     # the future of each entry
        Entry *entries
        Py_ssize_t capacity
        list distinct                    # the keys that are sent
        dict groups                      # the value of a key -> its index in `distinct`
        dict aliases                     # that index -> another one whose key has an equal value, but other bytes
        dict errors                      # entry -> its own error

    cdef int add(self, object key, KeyFuture waiter, Py_ssize_t at) except -1
    cdef object key_at(self, Py_ssize_t i)
    cdef int write_keys(self, Codec element, WriteBuffer out, bint binary) except -1
    cdef int join_group(
        self, Codec element, bint padded, Py_ssize_t entry, object key, WriteBuffer out, Span *spans,
        Py_ssize_t start) except -1
    cdef int keep(self, list found, Py_ssize_t group, object row) except -1
    cdef dict confused_keys(self, object fold, list rows, list found)
    cdef int end(self) except -1
