# The Record type, and the description that all rows of a statement share.

from cpython.object cimport PyObject, PyTypeObject

cdef extern from "recordobj.h":
    void record_set(object record, Py_ssize_t i, PyObject *value) noexcept     # steals `value`
    PyObject **record_array(object record) noexcept                            # steals what is stored there
    PyObject *record_get(object record, Py_ssize_t i) noexcept                 # borrowed
    void record_track(object record) noexcept


cdef tuple describe(tuple names)
cdef object record_new(object record_class, tuple desc, Py_ssize_t size)
