# Objects with lists: several rows become one object.

from cpython.object cimport PyObject
from libc.stdint cimport int32_t

from headrace._core.rows.row_plan cimport Columns, Grouping, ObjectPlan, RowPlan


# One field of a DataRow.
ctypedef struct Field:
    const char *data              # its length, and the value behind it
    int32_t length                # of the value; -1 for NULL


cdef class NestedPlan(RowPlan):
    cdef:
        ObjectPlan parent         # makes the object, from its own columns and a last one, which is the list
        ObjectPlan element        # makes the elements of the list
        object name               # of the class, for errors
        tuple positions           # the columns of the parent, of an element, of the key, and that an element cannot lack
        Py_ssize_t *outer
        Py_ssize_t outers
        Py_ssize_t *inner
        Py_ssize_t inners
        Py_ssize_t *key
        Py_ssize_t keys
        Py_ssize_t *required
        Py_ssize_t requireds
        bint adjacent             # the columns of the key are consecutive

    cdef int locate(self, const char *data, Py_ssize_t size, Field *fields) except -1
    cdef int decode(self, Columns columns, Py_ssize_t *positions, Py_ssize_t count, Field *fields,
                    PyObject **values) except -1
    cdef object element_of(self, Field *fields, PyObject **values)
    cdef bytes key_of(self, Field *fields)
    cdef bint agrees(self, bytes key, Field *fields) noexcept


cdef class NestedRows(RowPlan):
    cdef:
        NestedPlan plan
        Grouping grouping
        Field *fields             # of the row that is being read
        Py_ssize_t outers
        PyObject **values         # of the object that is being read
        PyObject **next_values    # of the one behind it
        PyObject **element_values
        bytes key                 # of the object that is being read; None if there is none
        list elements             # its list
        set seen                  # the keys of all objects, if these must be consecutive
        bint ended                # the first object is complete, and no other is wanted

    cdef object open(self)
    cdef object close(self)
    cdef int switch_to(self, NestedPlan plan) except -1
