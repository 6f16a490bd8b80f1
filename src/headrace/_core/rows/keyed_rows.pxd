# Rows together with the key that each belongs to.

from headrace._core.codecs.base cimport Codec
from headrace._core.rows.row_plan cimport Columns, RowShape


cdef class KeyedShape(RowShape):
    cdef:
        readonly object rows             # the class of the rows: Record, a subclass of it, or a RowShape
        readonly str column              # the column with the key, or with its position
        readonly bint positions
        Codec key_codec                  # of that column, in the newest plan

    cdef Py_ssize_t find(self, Columns columns) except -1
    cdef int check_parameter(self, Codec element) except -1
