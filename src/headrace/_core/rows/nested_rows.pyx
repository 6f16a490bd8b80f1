"""Objects with lists: consecutive rows that agree in the columns of an object become that object.

Rows of one object are recognised by the bytes of its key columns, so the columns of the object are decoded once. The object
is made when its rows have ended: then its list is complete, and the code of the class (`__post_init__`, validators) sees all
of it. Therefore a plan alone does not suffice. `NestedPlan.begin()` returns a `NestedRows`, which has the object that is
being read, for one execution.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.string cimport memcmp, memcpy

from headrace._core.wire.buffer cimport load_i32, load_u16
from headrace._core.codecs.custom cimport raised_by_decoder
from headrace._core.rows.row_plan cimport FIRST_ALONE, HELD, IN_ORDER, unrepresentable

from headrace.exceptions import InterfaceError, ProtocolError

cdef extern from "Python.h":
    void Py_XDECREF(PyObject *value) noexcept
    PyObject *tuple_item "PyTuple_GET_ITEM" (object tuple, Py_ssize_t i) noexcept

# Decoders return a new reference.
ctypedef PyObject *(*raw_decode_t)(PyObject *codec, const char *data, Py_ssize_t size) except NULL


@cython.final
cdef class NestedPlan(RowPlan):
    """How consecutive rows become one object with a list of objects."""

    def __cinit__(self, Columns columns not None, ObjectPlan parent not None, ObjectPlan element not None,
                  tuple outer not None, tuple inner not None, tuple key not None, tuple required not None,
                  str name not None):
        if sorted(outer + inner) != list(range(columns.count)) or parent.columns.count != len(outer) + 1 \
                or element.columns.count != len(inner) or not set(key) <= set(outer) or not required \
                or not set(required) <= set(inner):
            raise ValueError(f'the {columns.count} columns do not make a {name}')
        self.columns = columns
        self.grouped = True
        self.parent = parent
        self.element = element
        self.name = name
        key = tuple(sorted(key))
        self.positions = (outer, inner, key, required)
        self.outer = indices(outer)
        self.outers = len(outer)
        self.inner = indices(inner)
        self.inners = len(inner)
        self.key = indices(key)
        self.keys = len(key)
        self.required = indices(required)
        self.requireds = len(required)
        self.adjacent = self.keys > 0 and self.key[self.keys - 1] - self.key[0] == self.keys - 1

    def __dealloc__(self):
        PyMem_Free(self.outer)
        PyMem_Free(self.inner)
        PyMem_Free(self.key)
        PyMem_Free(self.required)

    cdef object row(self, const char *data, Py_ssize_t size):
        raise InterfaceError(f'rows that become {self.name} were asked for one by one')

    cdef RowPlan begin(self, Grouping grouping):
        return NestedRows(self, grouping)

    cdef int locate(self, const char *data, Py_ssize_t size, Field *fields) except -1:
        """Find the fields of one DataRow."""
        cdef:
            const char *end = data + size
            Py_ssize_t count = self.columns.count
            Py_ssize_t i
            int32_t length
        if size < 2 or load_u16(data) != count:
            raise ProtocolError(f'DataRow from the server with {load_u16(data) if size >= 2 else "no"} fields: '
                                f'RowDescription had {count}')
        data += 2
        for i in range(count):
            if end - data < 4:
                raise ProtocolError('DataRow from the server is cut short')
            length = load_i32(data)
            fields[i].data = data
            fields[i].length = length
            data += 4
            if length < 0:
                if length != -1:
                    raise ProtocolError(f'DataRow from the server with a field of {length} bytes')
            else:
                if end - data < length:
                    raise ProtocolError(f'DataRow from the server with a field of {length} bytes, but only '
                                        f'{end - data} are left')
                data += length
        if data != end:
            raise ProtocolError(f'DataRow from the server has {end - data} bytes too many')
        return 0

    cdef int decode(self, Columns columns, Py_ssize_t *positions, Py_ssize_t count, Field *fields,
                    PyObject **values) except -1:
        """Decode the fields at these positions into `values`. On an error none is left there."""
        cdef:
            tuple codecs = columns.codecs
            Field *field
            Py_ssize_t i
        try:
            for i in range(count):
                field = &fields[positions[i]]
                if field.length < 0:
                    Py_INCREF(None)
                    values[i] = <PyObject *>None
                else:
                    values[i] = (<raw_decode_t>columns.decoders[i])(tuple_item(codecs, i), field.data + 4, field.length)
        except BaseException as error:
            clear(values, count)
            if not isinstance(error, (ValueError, OverflowError)) or isinstance(error, InterfaceError) \
                    or raised_by_decoder(error):
                raise
            raise unrepresentable(self.columns.names[positions[i]], codecs[i], error) from error
        return 0

    cdef object element_of(self, Field *fields, PyObject **values):
        """Return the element of the list that a row has, or HELD for a row without one."""
        cdef Py_ssize_t i
        for i in range(self.requireds):
            if fields[self.required[i]].length >= 0:
                break
        else:
            return HELD
        self.decode(self.element.columns, self.inner, self.inners, fields, values)
        try:
            return self.element.make(values)
        finally:
            clear(values, self.inners)

    cdef bytes key_of(self, Field *fields):
        """Return the bytes of the key columns, with the length of each in front."""
        cdef:
            Field *field
            Py_ssize_t size = 0
            Py_ssize_t i
            bytes key
            char *place
        if self.adjacent:
            field = &fields[self.key[self.keys - 1]]
            size = field.data - fields[self.key[0]].data + taken(field)
            return PyBytes_FromStringAndSize(fields[self.key[0]].data, size)
        for i in range(self.keys):
            size += taken(&fields[self.key[i]])
        key = PyBytes_FromStringAndSize(NULL, size)
        place = PyBytes_AS_STRING(key)
        for i in range(self.keys):
            field = &fields[self.key[i]]
            memcpy(place, field.data, <size_t>taken(field))
            place += taken(field)
        return key

    cdef bint agrees(self, bytes key, Field *fields) noexcept:
        """Return whether `key_of()` the row is this key."""
        cdef:
            Field *field
            const char *place = PyBytes_AS_STRING(key)
            Py_ssize_t left = PyBytes_GET_SIZE(key)
            Py_ssize_t i, size
        if self.adjacent:
            field = &fields[self.key[self.keys - 1]]
            size = field.data - fields[self.key[0]].data + taken(field)
            return size == left and memcmp(place, fields[self.key[0]].data, <size_t>size) == 0
        for i in range(self.keys):
            field = &fields[self.key[i]]
            size = taken(field)
            if size > left or memcmp(place, field.data, <size_t>size) != 0:
                return False
            place += size
            left -= size
        return left == 0


cdef inline Py_ssize_t taken(Field *field) noexcept:
    """Return the bytes that a field takes in its message."""
    return 4 + (field.length if field.length > 0 else 0)


cdef int clear(PyObject **values, Py_ssize_t count) noexcept:
    """Let go of values."""
    cdef:
        Py_ssize_t i
        PyObject *value
    for i in range(count):
        value = values[i]
        values[i] = NULL
        Py_XDECREF(value)
    return 0


cdef Py_ssize_t *indices(tuple positions) except NULL:
    """Return the positions as an array, to be freed by PyMem_Free()."""
    cdef:
        Py_ssize_t i
        Py_ssize_t *array = <Py_ssize_t *>PyMem_Malloc(<size_t>(max(len(positions), 1) * sizeof(Py_ssize_t)))
    if array == NULL:
        raise MemoryError()
    for i in range(len(positions)):
        array[i] = positions[i]
    return array


@cython.final
cdef class NestedRows(RowPlan):
    """The rows of one execution, as objects with lists.

    A row that raises an error leaves the object that is being read as it was.
    """

    def __cinit__(self, NestedPlan plan not None, int grouping):
        self.columns = plan.columns
        self.grouped = True
        self.plan = plan
        self.grouping = <Grouping>grouping
        self.outers = plan.outers
        self.fields = <Field *>PyMem_Malloc(<size_t>(max(plan.columns.count, 1) * sizeof(Field)))
        self.values = <PyObject **>PyMem_Calloc(<size_t>(2 * (plan.outers + 1) + plan.inners), sizeof(PyObject *))
        if self.fields == NULL or self.values == NULL:
            raise MemoryError()
        self.next_values = self.values + plan.outers + 1
        self.element_values = self.next_values + plan.outers + 1
        if self.grouping == IN_ORDER:
            self.seen = set()

    def __dealloc__(self):
        # The two are swapped for each object.
        cdef PyObject **values = self.values if self.values < self.next_values else self.next_values
        if values != NULL:
            clear(self.values, self.outers + 1)
        PyMem_Free(values)
        PyMem_Free(self.fields)

    cdef object row(self, const char *data, Py_ssize_t size):
        cdef:
            NestedRows kept = self       # the code of a class may have the request let go of it
            NestedPlan plan = self.plan
            object element
            bytes key
        plan.locate(data, size, self.fields)
        if self.key is None:
            return self.open()
        if plan.agrees(self.key, self.fields):
            if self.ended:
                raise scattered(plan)
            element = plan.element_of(self.fields, self.element_values)
            if element is not HELD:
                self.elements.append(element)
            return HELD
        if self.ended:
            return HELD
        if self.grouping == FIRST_ALONE:
            # The key is kept, to see whether it comes back.
            key = self.key
            element = self.close()
            self.ended = True
            self.key = key
            return element
        return self.open()

    cdef object open(self):
        """Begin the object of the row; return the one before it, or HELD if there is none."""
        cdef:
            NestedPlan plan = self.plan
            PyObject **values = self.next_values
            bytes key = plan.key_of(self.fields)
            object element, made
        if self.seen is not None and key in self.seen:
            raise scattered(plan)
        plan.decode(plan.parent.columns, plan.outer, plan.outers, self.fields, values)
        try:
            element = plan.element_of(self.fields, self.element_values)
            made = HELD if self.key is None else self.close()
        except BaseException:
            clear(values, plan.outers)
            raise
        self.next_values = self.values
        self.values = values
        # A list that is made with its first element has no room for more, which most lists would not use.
        self.elements = [element] if element is not HELD else []
        self.key = key
        if self.seen is not None:
            self.seen.add(key)
        return made

    cdef object close(self):
        """Make the object whose rows have ended."""
        cdef Py_ssize_t count = self.outers
        self.key = None
        Py_INCREF(self.elements)
        self.values[count] = <PyObject *>self.elements
        self.elements = None
        try:
            return self.plan.parent.make(self.values)
        finally:
            clear(self.values, count + 1)

    cdef object last(self):
        cdef:
            NestedRows kept = self
            bint reading = self.key is not None and not self.ended
        self.ended = False
        if self.seen is not None:
            self.seen = set()
        if reading:
            return self.close()
        self.key = None
        return HELD

    cdef int switch_to(self, NestedPlan plan) except -1:
        """Read the rows that follow by another plan for the same columns and classes."""
        if plan.positions != self.plan.positions:
            raise InterfaceError(f'the columns of {plan.name} have changed')
        self.columns = plan.columns
        self.plan = plan
        return 0


cdef object scattered(NestedPlan plan):
    cdef list names = [plan.columns.names[position] for position in plan.positions[2]]
    return InterfaceError(
        f'rows of one {plan.name} are not consecutive, so its list would be incomplete: ORDER BY is missing',
        hint=f'Sort the rows so that those of one {plan.name} follow each other: ORDER BY {", ".join(names)}.')
