# How the parameters of one statement are written and its columns read.

from headrace._core.buffer cimport WriteBuffer
from headrace._core.codecs.base cimport decode_t
from headrace._core.codecs.typemap cimport TypeMap


cdef class Plan:
    cdef:
        readonly bytes name              # of the statement it binds
        int version                      # of the type map it was made from
        Py_ssize_t n_columns
        tuple parameter_codecs
        tuple column_codecs
        decode_t *decoders
        bint tracked                     # rows may hold containers
        tuple desc
        bytes bind_head
        bytes bind_tail

    cdef int put_bind(self, WriteBuffer out, bytes portal, object args, Py_ssize_t element, str query) except -1
    cdef object row(self, const char *data, Py_ssize_t size, object record_class)
    cdef int check_count(self, Py_ssize_t given, Py_ssize_t element) except -1


cdef Plan make_plan(bytes name, tuple parameter_oids, list columns, TypeMap types)
