# Rows: Record and the description that rows of one statement share.

from cpython.object cimport PyObject, PyTypeObject

cdef extern from "recordobj.h":
    void record_set(object record, Py_ssize_t i, PyObject *value) noexcept     # steals `value`
    PyObject **record_places(object record) noexcept                           # filled as record_set() does
    PyObject *record_get(object record, Py_ssize_t i) noexcept                 # borrowed
    void record_track(object record) noexcept


cdef tuple describe(tuple names)
cdef object record_new(object record_class, tuple desc, Py_ssize_t size)
