"""The Record type, and the description that all rows of a statement share."""

from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF

cdef extern from "recordobj.h":
    int record_ready() except -1
    PyTypeObject RecordType
    object record_alloc(PyTypeObject *type, object desc, Py_ssize_t size)

record_ready()
Record = <object>&RecordType


cdef tuple describe(tuple names):
    """Return the description of rows with these column names. If names are equal, the last column is found by name."""
    cdef dict index = {}
    cdef Py_ssize_t i
    for i in range(len(names)):
        index[names[i]] = i
    return names, index


cdef object record_new(object record_class, tuple desc, Py_ssize_t size):
    """Return a row of Record or a subclass without values. Set them by record_set() before other code sees the row."""
    return record_alloc(<PyTypeObject *>record_class, desc, size)


def make_record(record_class: type, names: tuple, values: tuple):
    """Make a row from names and values, for tests."""
    cdef object record
    cdef Py_ssize_t i
    if not issubclass(record_class, Record):
        raise TypeError(f'record_class must be a subclass of headrace.Record, got {record_class!r}')
    if len(names) != len(values):
        raise ValueError(f'{len(names)} names for {len(values)} values')
    record = record_new(record_class, describe(names), len(values))
    for i in range(len(values)):
        Py_INCREF(values[i])
        record_set(record, i, <PyObject *>values[i])
    record_track(record)
    return record
