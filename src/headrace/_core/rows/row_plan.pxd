# Row plans: how the rows of a statement become records, or objects of a user's class.

from cpython.object cimport PyObject

from headrace._core.codecs.base cimport Codec, decode_t

# Instead of an object: more rows may belong to the object that is being read (RowPlan.row), or none is being read
# (RowPlan.last).
cdef object HELD

# How the rows of a result that belong to one object are read.
cdef enum Grouping:
    IN_ORDER      # all of them; an object whose rows are not consecutive is an error
    AS_THEY_COME  # all of them; rows that are not consecutive are two objects
    FIRST_ALONE   # those of the first object; the other rows are passed over


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
        readonly bint grouped            # several rows may become one object

    cdef object row(self, const char *data, Py_ssize_t size)
    cdef RowPlan begin(self, Grouping grouping)
    cdef object last(self)
    cdef int drop(self) except -1


cdef class ObjectPlan(RowPlan):
    cdef object make(self, PyObject **values)


cdef class RowShape:
    cpdef RowPlan plan(self, Columns columns)


cdef RowPlan plan_rows(object row_class, Columns columns)
cdef object unrepresentable(str column, Codec codec, object error)
