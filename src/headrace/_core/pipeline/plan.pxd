# How the parameters of one statement are written, and what its columns are.

from headrace._core.wire.buffer cimport WriteBuffer
from headrace._core.codecs.typemap cimport TypeMap
from headrace._core.rows.row_plan cimport Columns, RowPlan


cdef class Plan:
    cdef:
        readonly bytes name              # of the statement it binds
        int version                      # of the type map it was made from
        tuple parameter_oids
        list description                 # the columns as in RowDescription
        bytes confirmed                  # the last RowDescription that was found to say the same
        tuple parameter_codecs
        tuple column_codecs
        Columns columns
        RowPlan record_rows              # rows as Record itself
        dict row_plans                   # and as other classes, by what was asked for
        dict arrow_plans                 # the same statement for columns in Arrow's format, by its shape; None
        bytes bind_head
        bytes bind_tail

    cdef int put_bind(self, WriteBuffer out, bytes portal, object args, Py_ssize_t element, str query) except -1
    cdef bint confirms(self, const char *data, Py_ssize_t size) except -1
    cdef Plan for_columns(self, list columns, TypeMap types, TypeMap results)
    cdef RowPlan rows_as(self, object row_class)
    cdef int check_count(self, object args, Py_ssize_t element, str query) except -1


cdef int bind_alike(Plan plan, Plan other) except -1
cdef RowPlan plan_again(Plan former, TypeMap types, object row_class)
cdef Plan make_plan(bytes name, tuple parameter_oids, list columns, TypeMap types, TypeMap results)
