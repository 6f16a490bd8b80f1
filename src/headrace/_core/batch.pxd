# Many executions of one statement in one request.

from headrace._core.buffer cimport WriteBuffer
from headrace._core.request cimport Bound
from headrace._core.statement cimport Statement


cdef class Batch(Bound):
    cdef:
        object given                 # the argument sequences as the caller gave them
        object elements              # an iterator of them
        bint once                    # they cannot be iterated over again
        Py_ssize_t element           # how many were encoded
        Py_ssize_t completed         # how many the server has executed
        bint collects
        bint begun                   # elements have been taken

    cdef bytes _chunk(self, WriteBuffer out)
