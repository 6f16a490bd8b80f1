#include "recordobj.h"

#include <stddef.h>
#include <string.h>

#define DESC_NAMES(record) PyTuple_GET_ITEM((record)->desc, 0)
#define DESC_INDEX(record) PyTuple_GET_ITEM((record)->desc, 1)

/* Short rows are kept for reuse, in one free list for each length. */
#define FREE_LENGTHS 21
#define FREE_EACH 512

static RecordObject *free_list[FREE_LENGTHS];
static int free_count[FREE_LENGTHS];

PyObject *record_alloc(PyTypeObject *type, PyObject *desc, Py_ssize_t size)
{
    RecordObject *record;

    if (type == &RecordType) {
        if (size < FREE_LENGTHS && free_list[size] != NULL) {
            record = free_list[size];
            free_list[size] = (RecordObject *)record->desc;
            free_count[size]--;
            _Py_NewReference((PyObject *)record);
        } else {
            record = PyObject_GC_NewVar(RecordObject, type, size);
            if (record == NULL) {
                return NULL;
            }
        }
        memset(record->items, 0, (size_t)size * sizeof(PyObject *));
    } else {
        /* A subclass may have a __dict__: its allocator clears the memory and tracks the object. */
        record = (RecordObject *)type->tp_alloc(type, size);
        if (record == NULL) {
            return NULL;
        }
    }
    record->hash = -1;
    record->desc = Py_NewRef(desc);
    return (PyObject *)record;
}

static PyObject *record_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyErr_Format(PyExc_TypeError, "cannot create '%.100s' instances: rows come from queries", type->tp_name);
    return NULL;
}

static void record_dealloc(RecordObject *record)
{
    Py_ssize_t size = Py_SIZE(record);

    PyObject_GC_UnTrack(record);
    Py_TRASHCAN_BEGIN(record, record_dealloc)
    Py_CLEAR(record->desc);
    for (Py_ssize_t i = 0; i < size; i++) {
        Py_CLEAR(record->items[i]);
    }
    if (Py_IS_TYPE(record, &RecordType) && size < FREE_LENGTHS && free_count[size] < FREE_EACH) {
        record->desc = (PyObject *)free_list[size];
        free_list[size] = record;
        free_count[size]++;
    } else {
        Py_TYPE(record)->tp_free((PyObject *)record);
    }
    Py_TRASHCAN_END
}

static int record_traverse(RecordObject *record, visitproc visit, void *arg)
{
    Py_VISIT(record->desc);
    for (Py_ssize_t i = 0; i < Py_SIZE(record); i++) {
        Py_VISIT(record->items[i]);
    }
    return 0;
}

static int record_clear(RecordObject *record)
{
    /* Values may form cycles. The description cannot, and methods need it. */
    for (Py_ssize_t i = 0; i < Py_SIZE(record); i++) {
        Py_CLEAR(record->items[i]);
    }
    return 0;
}

static Py_ssize_t record_length(RecordObject *record)
{
    return Py_SIZE(record);
}

/* A new reference to the i-th value; an item that the cycle collector has cleared reads as None. */
static PyObject *record_value(RecordObject *record, Py_ssize_t i)
{
    PyObject *value = record->items[i];
    return Py_NewRef(value != NULL ? value : Py_None);
}

static PyObject *record_item(RecordObject *record, Py_ssize_t i)
{
    if (i < 0 || i >= Py_SIZE(record)) {
        PyErr_SetString(PyExc_IndexError, "record index out of range");
        return NULL;
    }
    return record_value(record, i);
}

static PyObject *record_slice(RecordObject *record, Py_ssize_t start, Py_ssize_t step, Py_ssize_t count)
{
    PyObject *values = PyTuple_New(count);
    if (values == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyTuple_SET_ITEM(values, i, record_value(record, start + i * step));
    }
    return values;
}

static PyObject *record_values_tuple(RecordObject *record)
{
    return record_slice(record, 0, 1, Py_SIZE(record));
}

/* The value under `key`: a new reference; NULL without an exception if there is no such column. */
static PyObject *record_by_name(RecordObject *record, PyObject *key)
{
    PyObject *position = PyDict_GetItemWithError(DESC_INDEX(record), key);
    Py_ssize_t i;
    if (position == NULL) {
        return NULL;
    }
    i = PyLong_AsSsize_t(position);
    if (i == -1 && PyErr_Occurred()) {
        return NULL;
    }
    return record_item(record, i);
}

/* Raise KeyError with a note that lists the columns, the first ones of many. */
#define LISTED_COLUMNS 30

static void record_no_column(RecordObject *record, PyObject *key)
{
    PyObject *names = PyTuple_GetSlice(DESC_NAMES(record), 0, LISTED_COLUMNS);
    PyObject *comma = PyUnicode_FromString(", ");
    PyObject *listed = names != NULL && comma != NULL ? PyUnicode_Join(comma, names) : NULL;
    PyObject *error = listed != NULL ? PyObject_CallOneArg(PyExc_KeyError, key) : NULL;
    PyObject *note = NULL, *added = NULL;

    if (error != NULL) {
        note = PyUnicode_FromFormat("The columns are: %U%s", listed, Py_SIZE(record) > LISTED_COLUMNS ? ", ..." : "");
    }
    if (note != NULL) {
        added = PyObject_CallMethod(error, "add_note", "O", note);
    }
    if (added != NULL) {
        PyErr_SetObject(PyExc_KeyError, error);
    }
    Py_XDECREF(names);
    Py_XDECREF(comma);
    Py_XDECREF(listed);
    Py_XDECREF(error);
    Py_XDECREF(note);
    Py_XDECREF(added);
}

static PyObject *record_subscript(RecordObject *record, PyObject *key)
{
    if (PyUnicode_Check(key)) {
        PyObject *value = record_by_name(record, key);
        if (value == NULL && !PyErr_Occurred()) {
            record_no_column(record, key);
        }
        return value;
    }
    if (PyIndex_Check(key)) {
        Py_ssize_t i = PyNumber_AsSsize_t(key, PyExc_IndexError);
        if (i == -1 && PyErr_Occurred()) {
            return NULL;
        }
        return record_item(record, i < 0 ? i + Py_SIZE(record) : i);
    }
    if (PySlice_Check(key)) {
        Py_ssize_t start, stop, step, count;
        if (PySlice_Unpack(key, &start, &stop, &step) < 0) {
            return NULL;
        }
        count = PySlice_AdjustIndices(Py_SIZE(record), &start, &stop, step);
        return record_slice(record, start, step, count);
    }
    PyErr_Format(PyExc_TypeError, "record keys are column names, indices or slices, not %.100s",
                 Py_TYPE(key)->tp_name);
    return NULL;
}

static int record_contains(RecordObject *record, PyObject *key)
{
    if (!PyUnicode_Check(key)) {
        return 0;
    }
    return PyDict_Contains(DESC_INDEX(record), key);
}

static PyObject *record_iter(RecordObject *record)
{
    PyObject *values = record_values_tuple(record), *iterator;
    if (values == NULL) {
        return NULL;
    }
    iterator = PyObject_GetIter(values);
    Py_DECREF(values);
    return iterator;
}

static Py_hash_t record_hash(RecordObject *record)
{
    if (record->hash == -1) {
        PyObject *values = record_values_tuple(record);
        if (values == NULL) {
            return -1;
        }
        record->hash = PyObject_Hash(values);
        Py_DECREF(values);
    }
    return record->hash;
}

static PyObject *record_richcompare(PyObject *left, PyObject *right, int op)
{
    PyObject *a, *b, *result = NULL;

    if (!(PyTuple_Check(left) || PyObject_TypeCheck(left, &RecordType))
        || !(PyTuple_Check(right) || PyObject_TypeCheck(right, &RecordType))) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    a = PyTuple_Check(left) ? Py_NewRef(left) : record_values_tuple((RecordObject *)left);
    b = PyTuple_Check(right) ? Py_NewRef(right) : record_values_tuple((RecordObject *)right);
    if (a != NULL && b != NULL) {
        result = PyTuple_Type.tp_richcompare(a, b, op);
    }
    Py_XDECREF(a);
    Py_XDECREF(b);
    return result;
}

static PyObject *record_repr(RecordObject *record)
{
    PyObject *parts, *text, *space, *joined;
    Py_ssize_t size = Py_SIZE(record);
    const char *dot = strrchr(Py_TYPE(record)->tp_name, '.');
    const char *name = dot != NULL ? dot + 1 : Py_TYPE(record)->tp_name;
    int entered = Py_ReprEnter((PyObject *)record);

    if (entered != 0) {
        return entered > 0 ? PyUnicode_FromFormat("<%s ...>", name) : NULL;
    }
    parts = PyList_New(0);
    for (Py_ssize_t i = 0; parts != NULL && i < size; i++) {
        PyObject *value = record_value(record, i);
        text = PyUnicode_FromFormat("%U=%R", PyTuple_GET_ITEM(DESC_NAMES(record), i), value);
        Py_DECREF(value);
        if (text == NULL || PyList_Append(parts, text) < 0) {
            Py_CLEAR(parts);
        }
        Py_XDECREF(text);
    }
    Py_ReprLeave((PyObject *)record);
    if (parts == NULL) {
        return NULL;
    }
    space = PyUnicode_FromString(" ");
    joined = space != NULL ? PyUnicode_Join(space, parts) : NULL;
    Py_XDECREF(space);
    Py_DECREF(parts);
    if (joined == NULL) {
        return NULL;
    }
    text = size ? PyUnicode_FromFormat("<%s %U>", name, joined) : PyUnicode_FromFormat("<%s>", name);
    Py_DECREF(joined);
    return text;
}

static PyObject *record_keys(RecordObject *record, PyObject *unused)
{
    return PyObject_GetIter(DESC_NAMES(record));
}

static PyObject *record_values(RecordObject *record, PyObject *unused)
{
    return record_iter(record);
}

static PyObject *record_items(RecordObject *record, PyObject *unused)
{
    PyObject *pairs = PyTuple_New(Py_SIZE(record)), *iterator;
    if (pairs == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < Py_SIZE(record); i++) {
        PyObject *value = record_value(record, i);
        PyObject *pair = PyTuple_Pack(2, PyTuple_GET_ITEM(DESC_NAMES(record), i), value);
        Py_DECREF(value);
        if (pair == NULL) {
            Py_DECREF(pairs);
            return NULL;
        }
        PyTuple_SET_ITEM(pairs, i, pair);
    }
    iterator = PyObject_GetIter(pairs);
    Py_DECREF(pairs);
    return iterator;
}

static PyObject *record_get_method(RecordObject *record, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *value;
    if (nargs < 1 || nargs > 2) {
        PyErr_Format(PyExc_TypeError, "get() takes 1 or 2 arguments (%zd given)", nargs);
        return NULL;
    }
    value = record_by_name(record, args[0]);
    if (value == NULL && !PyErr_Occurred()) {
        return Py_NewRef(nargs == 2 ? args[1] : Py_None);
    }
    return value;
}

/* The number of the form in which records are pickled: (number, description, values). */
#define PICKLE_FORM 1

/* For pickle and copy, see the documentation of pickle, "object.__reduce__()". The description is pickled once for all
 * rows that share it. The state is that of a subclass: its attributes. */
static PyObject *record_reduce(RecordObject *record, PyObject *unused)
{
    PyObject *restore, *values = NULL, *state = NULL, *reduced = NULL;

    restore = PyObject_GetAttrString((PyObject *)Py_TYPE(record), "_from_pickle");
    if (restore != NULL) {
        values = record_values_tuple(record);
    }
    if (values != NULL) {
        state = PyObject_CallMethod((PyObject *)record, "__getstate__", NULL);
    }
    if (state != NULL) {
        reduced = Py_BuildValue("O(iOO)O", restore, PICKLE_FORM, record->desc, values, state);
    }
    Py_XDECREF(restore);
    Py_XDECREF(values);
    Py_XDECREF(state);
    return reduced;
}

/* Raise pickle.UnpicklingError; the text has one %R, for `given`. */
static PyObject *bad_pickle(const char *text, PyObject *given)
{
    PyObject *pickle = PyImport_ImportModule("pickle"), *error;
    if (pickle == NULL) {
        return NULL;
    }
    error = PyObject_GetAttrString(pickle, "UnpicklingError");
    Py_DECREF(pickle);
    if (error != NULL) {
        PyErr_Format(error, text, given);
        Py_DECREF(error);
    }
    return NULL;
}

/* Whether methods can rely on the description: (names: tuple[str, ...], index: dict), with `size` names. The numbers in
 * the index are checked when they are used. */
static int is_description(PyObject *desc, Py_ssize_t size)
{
    PyObject *names;
    if (!PyTuple_CheckExact(desc) || PyTuple_GET_SIZE(desc) != 2) {
        return 0;
    }
    names = PyTuple_GET_ITEM(desc, 0);
    if (!PyTuple_CheckExact(names) || PyTuple_GET_SIZE(names) != size || !PyDict_CheckExact(PyTuple_GET_ITEM(desc, 1))) {
        return 0;
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        if (!PyUnicode_Check(PyTuple_GET_ITEM(names, i))) {
            return 0;
        }
    }
    return 1;
}

static PyObject *record_from_pickle(PyObject *type, PyObject *args)
{
    PyObject *form, *desc, *values, *record;

    if (PyTuple_GET_SIZE(args) < 1) {
        return bad_pickle("this is no pickled record: %R", args);
    }
    form = PyTuple_GET_ITEM(args, 0);
    if (!PyLong_CheckExact(form) || PyLong_AsLong(form) != PICKLE_FORM) {
        PyErr_Clear();
        return bad_pickle("a record that was pickled by another version of headrace, in form %R: this version reads form 1",
                          form);
    }
    if (PyTuple_GET_SIZE(args) != 3 || !PyTuple_CheckExact(PyTuple_GET_ITEM(args, 2))) {
        return bad_pickle("this is no pickled record: %R", args);
    }
    desc = PyTuple_GET_ITEM(args, 1);
    values = PyTuple_GET_ITEM(args, 2);
    if (!is_description(desc, PyTuple_GET_SIZE(values))) {
        return bad_pickle("this is no pickled record: %R", args);
    }
    record = record_alloc((PyTypeObject *)type, desc, PyTuple_GET_SIZE(values));
    if (record == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(values); i++) {
        record_set(record, i, Py_NewRef(PyTuple_GET_ITEM(values, i)));
    }
    record_track(record);
    return record;
}

static PyMethodDef record_methods[] = {
    {"__reduce__", (PyCFunction)record_reduce, METH_NOARGS, "For pickle and copy."},
    {"_from_pickle", (PyCFunction)record_from_pickle, METH_VARARGS | METH_CLASS,
     "Make the record that __reduce__() has taken apart."},
    {"keys", (PyCFunction)record_keys, METH_NOARGS, "An iterator over the column names."},
    {"values", (PyCFunction)record_values, METH_NOARGS, "An iterator over the values."},
    {"items", (PyCFunction)record_items, METH_NOARGS, "An iterator over (column name, value) pairs."},
    {"get", (PyCFunction)(void (*)(void))record_get_method, METH_FASTCALL,
     "get(key, default=None): the value of the column, or the default if there is no such column."},
    {NULL, NULL, 0, NULL},
};

static PySequenceMethods record_as_sequence = {
    .sq_length = (lenfunc)record_length,
    .sq_item = (ssizeargfunc)record_item,
    .sq_contains = (objobjproc)record_contains,
};

static PyMappingMethods record_as_mapping = {
    .mp_length = (lenfunc)record_length,
    .mp_subscript = (binaryfunc)record_subscript,
};

PyTypeObject RecordType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "headrace.Record",
    .tp_doc = "One row of a result: values by index, by column name or by slice.",
    .tp_basicsize = offsetof(RecordObject, items),
    .tp_itemsize = sizeof(PyObject *),
    .tp_dealloc = (destructor)record_dealloc,
    .tp_repr = (reprfunc)record_repr,
    .tp_as_sequence = &record_as_sequence,
    .tp_as_mapping = &record_as_mapping,
    .tp_hash = (hashfunc)record_hash,
    .tp_getattro = PyObject_GenericGetAttr,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .tp_traverse = (traverseproc)record_traverse,
    .tp_clear = (inquiry)record_clear,
    .tp_richcompare = record_richcompare,
    .tp_iter = (getiterfunc)record_iter,
    .tp_methods = record_methods,
    .tp_new = record_tp_new,
    .tp_free = PyObject_GC_Del,
};

int record_ready(void)
{
    return PyType_Ready(&RecordType);
}
