"""Rows together with the key that each belongs to: the result of a query that was asked for many keys at once.

A row becomes a pair of the value in the key column and the object that the row would be otherwise. The class of the
rows needs no field for the key column: if it has none, the column is left out of the object.
"""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.string cimport memmove, memset

from headrace._core.codecs.base cimport Codec
from headrace._core.rows.record cimport record_get
from headrace._core.rows.row_plan cimport Columns, ObjectPlan, RowPlan, RowShape, plan_rows

from difflib import get_close_matches

from headrace.exceptions import InterfaceError

cdef extern from "Python.h":
    void Py_XDECREF(PyObject *value) noexcept

# The values of rows of up to this many columns are kept on the stack.
cdef enum:
    FEW = 64

# Python types whose values are equal if they are the same number.
cdef frozenset NUMBERS = frozenset(('decimal.Decimal', 'float', 'int'))

# timestamp and timestamptz are both read as datetime, but a naive and an aware one are never equal.
cdef frozenset MOMENTS = frozenset((1114, 1184))


@cython.final
cdef class KeyedShape(RowShape):
    """The shape of rows as pairs: the value of one column, which is the key, and the row.

    With `positions` the column has the position of the key among those that were sent, from 1.
    """

    def __init__(self, rows not None, str column not None, bint positions=False):
        self.rows = rows
        self.column = column
        self.positions = positions

    def __repr__(self) -> str:
        return f'<rows by {self.column}>'

    cpdef RowPlan plan(self, Columns columns):
        """Return the plan for rows of these columns.

        Raises InterfaceError if the key column is missing, or there are two, or the class does not fit the others.
        """
        cdef:
            Py_ssize_t at = self.find(columns)
            Codec codec = columns.codecs[at]
            RowPlan inner
            Columns others
            bint whole = True
        if self.positions and codec.python != 'int':
            raise InterfaceError(
                f'the column {self.column} is expected to have the position of the key, got a column of type '
                f'{codec.name}',
                hint='Select the ordinality: FROM unnest($1::text[]) WITH ORDINALITY AS asked(key, ord).')
        try:
            inner = plan_rows(self.rows, columns)
        except InterfaceError as error:
            others = Columns(columns.names[:at] + columns.names[at + 1:], columns.codecs[:at] + columns.codecs[at + 1:])
            try:
                inner = plan_rows(self.rows, others)
            except InterfaceError:
                raise error from None
            whole = False
        if inner.grouped:
            raise InterfaceError('a loader cannot return objects with lists: each row is a result of its own',
                                 hint='With many=True it returns the rows of each key as a list.')
        self.key_codec = codec
        return KeyedPlan(columns, inner, at, whole, isinstance(self.rows, type))

    cdef Py_ssize_t find(self, Columns columns) except -1:
        """Return the index of the key column."""
        cdef int count = columns.names.count(self.column)
        if count == 1:
            return columns.names.index(self.column)
        if count > 1:
            raise InterfaceError(f'the query of the loader returns {count} columns {self.column}, expected one',
                                 hint='Rename one of them by AS.')
        if not columns.count:
            raise InterfaceError('the query of the loader returns no rows, expected a SELECT or a RETURNING')
        close = get_close_matches(self.column, columns.names, 1)
        raise InterfaceError(
            f'the query of the loader returns no column {self.column}, only {", ".join(columns.names)}',
            hint=f'Is {close[0]} meant?' if close else
            f'Each row must tell which key it belongs to: select that column, AS {self.column} if it has another name.')

    cdef int check_parameter(self, Codec element) except -1:
        """Raise InterfaceError if values of the key column can never be equal to keys of this type."""
        cdef Codec column = self.key_codec
        if self.positions or column is None or column.oid == element.oid:
            return 0
        if column.python == element.python:
            if column.oid not in MOMENTS or element.oid not in MOMENTS:
                return 0
        elif column.python in NUMBERS and element.python in NUMBERS or 'encoder' in column.python + element.python:
            # Nothing is known of what the codecs of a program return.
            return 0
        raise InterfaceError(
            f'the keys of the loader are sent as {element.name}, but the column {self.column} is of type {column.name}: '
            'no key can be equal to it',
            hint=f'Cast one of them, such as $1::{column.name}[].')


@cython.final
cdef class KeyedPlan(RowPlan):
    """How rows become pairs of a key and an object."""

    cdef:
        RowPlan inner                    # makes the object
        Py_ssize_t at                    # the key column
        bint whole                       # the object has the key column too
        bint records                     # it is a record

    def __cinit__(self, Columns columns not None, RowPlan inner not None, Py_ssize_t at, bint whole, bint records):
        self.columns = columns
        self.inner = inner
        self.at = at
        self.whole = whole
        self.records = records

    cdef object row(self, const char *data, Py_ssize_t size):
        cdef object made
        if self.records:
            made = self.inner.row(data, size)
            return pair(<object>record_get(made, self.at), made)
        if isinstance(self.inner, ObjectPlan):
            return self.with_object(<ObjectPlan>self.inner, data, size)
        raise InterfaceError(f'a loader cannot return rows that are made by {self.inner!r}')

    cdef tuple with_object(self, ObjectPlan inner, const char *data, Py_ssize_t size):
        cdef:
            Py_ssize_t count = self.columns.count
            Py_ssize_t i
            PyObject *few[FEW]
            PyObject **values = few
            object key
        if count > FEW:
            values = <PyObject **>PyMem_Malloc(<size_t>count * sizeof(PyObject *))
            if values == NULL:
                raise MemoryError()
        memset(values, 0, <size_t>count * sizeof(PyObject *))
        try:
            self.columns.decode(data, size, values)
            key = <object>values[self.at]
            if not self.whole:
                Py_XDECREF(values[self.at])
                memmove(values + self.at, values + self.at + 1, <size_t>(count - self.at - 1) * sizeof(PyObject *))
                values[count - 1] = NULL
            return pair(key, inner.make(values))
        finally:
            for i in range(count):
                Py_XDECREF(values[i])
            if values != few:
                PyMem_Free(values)


cdef tuple pair(object key, object row):
    cdef tuple made = PyTuple_New(2)
    Py_INCREF(key)
    PyTuple_SET_ITEM(made, 0, key)
    Py_INCREF(row)
    PyTuple_SET_ITEM(made, 1, row)
    return made
