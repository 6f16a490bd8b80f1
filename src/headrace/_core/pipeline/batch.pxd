# Many executions of one statement in one request.

from headrace._core.wire.buffer cimport WriteBuffer
from headrace._core.pipeline.requests cimport ExtendedQuery
from headrace._core.pipeline.statement_cache cimport Statement


cdef class Batch(ExtendedQuery):
    cdef:
        object given                 # the argument sequences as the caller gave them
        object elements              # an iterator of them
        bint once                    # they cannot be iterated over again
        Py_ssize_t element           # how many were encoded
        Py_ssize_t completed         # how many the server has executed
        bint collects
        bint begun                   # elements have been taken

    cdef bytes _chunk(self, WriteBuffer out)
    cdef bytes _undo(self, WriteBuffer out)


cdef class StreamedBatch(Batch):
    cdef:
        WriteBuffer ahead            # the elements that were encoded and not yet taken
        bint adding                  # an element is being encoded
        bint complete                # there are no more elements
        public object room           # a future: its result is set when `ahead` has been taken


cdef object checked_element(object args, Py_ssize_t element, str where)
