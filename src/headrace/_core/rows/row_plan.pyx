"""Row plans: how the rows of one statement become objects of one class.

A plan is made once for a statement and a class, and is immutable. A request keeps the plan with which it was sent, so
its reply is read by the codecs of the formats that it asked for, even if the statement has changed since.

`RecordPlan` makes records. The others make objects of users' classes; headrace.rows chooses the plan for a class and
the column of each field. All of them decode the whole row before code of the class runs.
"""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New
from libc.stdint cimport int32_t
from libc.string cimport memset

from types import MemberDescriptorType

from headrace._core.wire.buffer cimport load_i32, load_u16
from headrace._core.codecs.base cimport Codec, decode_t
from headrace._core.codecs.custom cimport CustomCodec, raised_by_decoder
from headrace._core.codecs.domain cimport AliasCodec
from headrace._core.codecs.out_of_range cimport LENIENT
from headrace._core.rows.record cimport describe, record_array, record_new, record_track

from headrace._core.rows.record import Record
from headrace.exceptions import InterfaceError, ProtocolError, UnrepresentableValueError

cdef extern from "Python.h":
    """
    static PyObject *bare_tuple(PyTypeObject *cls, Py_ssize_t size)
    {
        return cls->tp_alloc(cls, size);
    }

    static PyObject *bare_object(PyTypeObject *cls, PyObject *no_arguments)
    {
        return PyBaseObject_Type.tp_new(cls, no_arguments, NULL);
    }

    static descrsetfunc setter_of(PyObject *descriptor)
    {
        return Py_TYPE(descriptor)->tp_descr_set;
    }
    """
    ctypedef int (*descrsetfunc)(PyObject *descriptor, PyObject *object, PyObject *value) except -1
    object bare_tuple(PyTypeObject *cls, Py_ssize_t size)
    object bare_object(PyTypeObject *cls, tuple no_arguments)
    descrsetfunc setter_of(PyObject *descriptor) noexcept
    int set_attribute "PyObject_GenericSetAttr" (PyObject *object, PyObject *name, PyObject *value) except -1
    dict copy_dict "PyDict_Copy" (dict model)
    int set_item "PyDict_SetItem" (dict dictionary, PyObject *key, PyObject *value) except -1
    PyObject *tuple_item "PyTuple_GET_ITEM" (object tuple, Py_ssize_t i) noexcept
    void tuple_set "PyTuple_SET_ITEM" (object tuple, Py_ssize_t i, PyObject *value) noexcept
    object vectorcall "PyObject_Vectorcall" (object function, PyObject **args, size_t count, PyObject *names)
    size_t PY_VECTORCALL_ARGUMENTS_OFFSET
    void Py_XDECREF(PyObject *value) noexcept

# Decoders return a new reference.
ctypedef PyObject *(*raw_decode_t)(PyObject *codec, const char *data, Py_ssize_t size) except NULL

# The values of rows of up to this many columns are kept on the stack.
cdef enum:
    FEW = 64

HELD = object()


@cython.final
cdef class Columns:
    """The columns of a statement's rows: their names and codecs."""

    def __cinit__(self, tuple names not None, tuple codecs not None):
        cdef:
            Py_ssize_t i
            Codec codec
        self.names = names
        self.codecs = codecs
        self.count = len(codecs)
        self.decoders = <decode_t *>PyMem_Malloc(<size_t>(max(self.count, 1) * sizeof(decode_t)))
        if self.decoders == NULL:
            raise MemoryError()
        for i in range(self.count):
            codec = codecs[i]
            self.decoders[i] = codec.decode
            self.tracked = self.tracked or holds_objects(codec)
        self.desc = describe(names)

    def __dealloc__(self):
        PyMem_Free(self.decoders)

    cdef int decode(self, const char *data, Py_ssize_t size, PyObject **values) except -1:
        """Decode one DataRow into `values`, which are NULL before. On an error, those already decoded are kept."""
        cdef:
            const char *end = data + size
            Py_ssize_t i
            int32_t length
            tuple codecs = self.codecs
        if size < 2 or load_u16(data) != self.count:
            raise ProtocolError(f'DataRow from the server with {load_u16(data) if size >= 2 else "no"} fields: '
                                f'RowDescription had {self.count}')
        data += 2
        try:
            for i in range(self.count):
                if end - data < 4:
                    raise ProtocolError('DataRow from the server is cut short')
                length = load_i32(data)
                data += 4
                if length < 0:
                    if length != -1:
                        raise ProtocolError(f'DataRow from the server with a field of {length} bytes')
                    Py_INCREF(None)
                    values[i] = <PyObject *>None
                else:
                    if end - data < length:
                        raise ProtocolError(f'DataRow from the server with a field of {length} bytes, but only '
                                            f'{end - data} are left')
                    values[i] = (<raw_decode_t>self.decoders[i])(tuple_item(codecs, i), data, length)
                    data += length
        except (ValueError, OverflowError) as error:
            if isinstance(error, InterfaceError) or raised_by_decoder(error):
                raise
            raise unrepresentable(self.names[i], codecs[i], error) from error
        if data != end:
            raise ProtocolError(f'DataRow from the server has {end - data} bytes too many')
        return 0


cdef bint holds_objects(Codec codec) except -1:
    """Return whether values of the type can hold other objects, and so be part of a reference cycle."""
    while codec.kind == 'domain' and isinstance(codec, AliasCodec):
        codec = (<AliasCodec>codec).base
    return codec.kind not in ('scalar', 'enum') or isinstance(codec, CustomCodec) or codec.python.startswith('dict')


cdef object unrepresentable(str column, Codec codec, object error):
    """Return the error for a valid value that its codec cannot convert to a Python object."""
    cdef str hint = 'Cast the column to text.'
    if codec.oid in LENIENT:
        hint = 'Cast the column to text, or connect with out_of_range="text".'
    made = UnrepresentableValueError(f'column {column!r} of type {codec.name}: {error}', hint=hint)
    made.column_name = column
    made.schema_name = codec.schema
    made.data_type_name = codec.name
    return made


cdef class RowPlan:
    """How rows of these columns become objects."""

    cdef object row(self, const char *data, Py_ssize_t size):
        """Return the object for one DataRow. A plan that is `grouped` returns the object that the row completes, or HELD."""
        raise NotImplementedError

    cdef RowPlan begin(self, Grouping grouping):
        """Return what reads the rows of one execution: a plan that is `grouped` keeps the state of that elsewhere."""
        return self

    cdef object last(self):
        """There are no more rows: return the object that is being read, or HELD if there is none."""
        return HELD

    cdef int drop(self) except -1:
        """Let go of the object that is being read: nobody wants it."""
        return 0


@cython.final
cdef class RecordPlan(RowPlan):
    """Rows are records, of Record or a subclass of it."""

    cdef object record_class

    def __cinit__(self, Columns columns not None, object record_class not None):
        if not issubclass(record_class, Record):
            raise TypeError(f'record_class must be a subclass of headrace.Record, got {record_class!r}')
        self.columns = columns
        self.record_class = record_class

    cdef object row(self, const char *data, Py_ssize_t size):
        cdef:
            Columns columns = self.columns
            object record = record_new(self.record_class, columns.desc, columns.count)
        columns.decode(data, size, record_array(record))
        if columns.tracked:
            record_track(record)
        return record


cdef class ObjectPlan(RowPlan):
    """Rows are objects of a user's class."""

    cdef object row(self, const char *data, Py_ssize_t size):
        cdef:
            Columns columns = self.columns
            Py_ssize_t count = columns.count
            Py_ssize_t i
            PyObject *few[FEW]
            PyObject **values = few
        if count > FEW:
            values = <PyObject **>PyMem_Malloc(<size_t>count * sizeof(PyObject *))
            if values == NULL:
                raise MemoryError()
        memset(values, 0, <size_t>count * sizeof(PyObject *))
        try:
            columns.decode(data, size, values)
            return self.make(values)
        finally:
            for i in range(count):
                Py_XDECREF(values[i])
            if values != few:
                PyMem_Free(values)

    cdef object make(self, PyObject **values):
        """Return the object for the values of one row. A value whose reference it steals is NULL afterwards."""
        raise NotImplementedError


# How one attribute of an object is set.
ctypedef struct Attribute:
    PyObject *name
    Py_ssize_t column
    PyObject *slot                       # the descriptor of its slot, or NULL
    descrsetfunc set_slot


@cython.final
cdef class AttributePlan(ObjectPlan):
    """Objects whose attributes are set without calling an `__init__` that would only do the same.

    `names` are set in this order, each to the column that `order` has for it. An attribute in a slot is set by the
    descriptor of the slot, any other as `object.__setattr__` does; a frozen class sets its own in the same way.
    """

    cdef:
        object cls
        tuple names
        tuple slots                      # the descriptor of each name, or None
        Attribute *attributes

    def __cinit__(self, Columns columns not None, object row_class not None, tuple names not None, tuple order not
    None):
        cdef Py_ssize_t i
        if not isinstance(row_class, type) or len(names) != columns.count or sorted(order) != list(range(columns.count)):
            raise ValueError(f'the attributes {names} do not take the {columns.count} columns {order}')
        self.columns = columns
        self.cls = row_class
        self.names = names
        self.slots = tuple([slot_of(row_class, name) for name in names])
        self.attributes = <Attribute *>PyMem_Malloc(<size_t>(max(columns.count, 1) * sizeof(Attribute)))
        if self.attributes == NULL:
            raise MemoryError()
        for i in range(columns.count):
            self.attributes[i].name = tuple_item(names, i)
            self.attributes[i].column = order[i]
            self.attributes[i].slot = NULL
            if self.slots[i] is not None:
                self.attributes[i].slot = tuple_item(self.slots, i)
                self.attributes[i].set_slot = setter_of(self.attributes[i].slot)

    def __dealloc__(self):
        PyMem_Free(self.attributes)

    cdef object make(self, PyObject **values):
        cdef:
            object made = bare_object(<PyTypeObject *>self.cls, ())
            Attribute *attribute
            Py_ssize_t i
        for i in range(self.columns.count):
            attribute = &self.attributes[i]
            if attribute.slot != NULL:
                attribute.set_slot(attribute.slot, <PyObject *>made, values[attribute.column])
            else:
                set_attribute(<PyObject *>made, attribute.name, values[attribute.column])
        return made


cdef object slot_of(object cls, object name):
    """Return the descriptor of the slot of an attribute, or None if it has no slot."""
    for base in cls.__mro__:
        if name in base.__dict__:
            descriptor = base.__dict__[name]
            return descriptor if isinstance(descriptor, MemberDescriptorType) else None
    return None


@cython.final
cdef class TuplePlan(ObjectPlan):
    """Tuples, or objects of a tuple class that only adds names. `order` has the column of each field, and all columns."""

    cdef:
        object cls
        Py_ssize_t *order

    def __cinit__(self, Columns columns not None, object row_class not None, tuple order not None):
        if not isinstance(row_class, type) or not issubclass(row_class, tuple) or sorted(order) != list(range(columns.count)):
            raise ValueError(f'the order {order} of {columns.count} columns does not make a {row_class.__name__}')
        self.columns = columns
        self.cls = row_class
        self.order = indices(order)

    def __dealloc__(self):
        PyMem_Free(self.order)

    cdef object make(self, PyObject **values):
        cdef:
            Py_ssize_t count = self.columns.count
            object made = PyTuple_New(count) if self.cls is tuple else bare_tuple(<PyTypeObject *>self.cls, count)
            Py_ssize_t i
        for i in range(count):
            tuple_set(made, i, values[self.order[i]])
            values[self.order[i]] = NULL
        return made


@cython.final
cdef class DictPlan(ObjectPlan):
    """Dictionaries with a key for each column."""

    cdef:
        tuple keys
        dict model

    def __cinit__(self, Columns columns not None, tuple keys not None):
        if len(keys) != columns.count:
            raise ValueError(f'{len(keys)} keys for {columns.count} columns')
        self.columns = columns
        self.keys = keys
        self.model = dict.fromkeys(keys)

    cdef object make(self, PyObject **values):
        # Copying a dictionary of the final size is faster than letting a new one grow.
        cdef:
            dict made = copy_dict(self.model)
            Py_ssize_t i
        for i in range(self.columns.count):
            set_item(made, tuple_item(self.keys, i), values[i])
        return made


@cython.final
cdef class CallPlan(ObjectPlan):
    """Objects that are made by calling their class.

    `order` has the column of each argument; the last arguments are passed by the names in `keywords`. `init` is given
    if calling the class means `object.__new__` and then this function; both are then called directly, which is faster.
    """

    cdef:
        object cls
        object init
        Py_ssize_t *order
        Py_ssize_t count
        tuple keywords

    def __cinit__(self, Columns columns not None, object row_class not None, tuple order not None, tuple keywords not
    None,
                  object init=None):
        if not isinstance(row_class, type) or any([not 0 <= column < columns.count for column in order]) or len(keywords) > len(order):
            raise ValueError(f'the order {order} of {columns.count} columns makes no call')
        self.columns = columns
        self.cls = row_class
        self.init = init
        self.order = indices(order)
        self.count = len(order)
        self.keywords = keywords or None

    def __dealloc__(self):
        PyMem_Free(self.order)

    cdef object make(self, PyObject **values):
        cdef:
            PyObject *few[FEW + 2]
            PyObject **args = few
            PyObject *names = NULL if self.keywords is None else <PyObject *>self.keywords
            size_t positional = <size_t>self.count
            object made
            Py_ssize_t i
        if self.keywords is not None:
            positional -= <size_t>len(self.keywords)
        if self.count > FEW:
            args = <PyObject **>PyMem_Malloc(<size_t>(self.count + 2) * sizeof(PyObject *))
            if args == NULL:
                raise MemoryError()
        # The callee may use args[0] (PY_VECTORCALL_ARGUMENTS_OFFSET); args[1] is self.
        for i in range(self.count):
            args[i + 2] = values[self.order[i]]
        try:
            if self.init is None:
                return vectorcall(self.cls, args + 2, positional | PY_VECTORCALL_ARGUMENTS_OFFSET, names)
            made = bare_object(<PyTypeObject *>self.cls, ())
            args[1] = <PyObject *>made
            if vectorcall(self.init, args + 1, (positional + 1) | PY_VECTORCALL_ARGUMENTS_OFFSET, names) is not None:
                raise TypeError(f'{self.cls.__qualname__}.__init__() should return None')
            return made
        finally:
            if args != few:
                PyMem_Free(args)


cdef class RowShape:
    """The base of the class shapes in headrace.rows: makes the row plans for a class."""

    cpdef RowPlan plan(self, Columns columns):
        """Return the plan for rows of these columns; raises InterfaceError if they do not match the class."""
        raise NotImplementedError


cdef RowPlan plan_rows(object row_class, Columns columns):
    """Return the plan for rows as `row_class`: Record, a subclass of it, or a RowShape."""
    if isinstance(row_class, RowShape):
        return (<RowShape>row_class).plan(columns)
    return RecordPlan(columns, row_class)


cdef Py_ssize_t *indices(tuple order) except NULL:
    """Return the indices as an array, to be freed by PyMem_Free()."""
    cdef:
        Py_ssize_t i
        Py_ssize_t *array = <Py_ssize_t *>PyMem_Malloc(<size_t>(max(len(order), 1) * sizeof(Py_ssize_t)))
    if array == NULL:
        raise MemoryError()
    for i in range(len(order)):
        array[i] = order[i]
    return array
