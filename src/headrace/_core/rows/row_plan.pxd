# Row plans: how the rows of a statement become records, or objects of a user's class.

from cpython.object cimport PyObject

from headrace._core.codecs.base cimport decode_t


cdef class Columns:
    cdef:
        readonly tuple names
        readonly Py_ssize_t count
        readonly tuple codecs
        decode_t *decoders
        bint tracked                     # rows may hold containers
        tuple desc                       # the description that records share

    cdef int decode(self, const char *data, Py_ssize_t size, PyObject **values) except -1


cdef class RowPlan:
    cdef:
        readonly Columns columns

    cdef object row(self, const char *data, Py_ssize_t size)


cdef class ObjectPlan(RowPlan):
    cdef object make(self, PyObject **values)


cdef class RowShape:
    cpdef RowPlan plan(self, Columns columns)


cdef RowPlan plan_rows(object row_class, Columns columns)
