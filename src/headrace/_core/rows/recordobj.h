/* One row: a fixed number of values, and the description that names them.
 *
 * Like a tuple it holds its values in itself, so a row is one allocation; a description is a pair
 * (names: tuple[str, ...], index: dict[str, int]) shared by all rows of a statement.
 */
#ifndef HEADRACE_RECORDOBJ_H
#define HEADRACE_RECORDOBJ_H

#include <Python.h>

typedef struct {
    PyObject_VAR_HEAD
    Py_hash_t hash;      /* -1 until asked for */
    PyObject *desc;
    PyObject *items[1];
} RecordObject;

extern PyTypeObject RecordType;

/* Make Record ready for use; once, by the module that owns it. Returns 0 or -1. */
int record_ready(void);

/* A row of `size` values that are NULL. Set them by record_set() before other code sees the row. */
PyObject *record_alloc(PyTypeObject *type, PyObject *desc, Py_ssize_t size);

/* Steals the reference to `value`. */
static inline void record_set(PyObject *record, Py_ssize_t i, PyObject *value)
{
    ((RecordObject *)record)->items[i] = value;
}

/* The array of its values; a caller that fills it hands over its references, as with record_set(). */
static inline PyObject **record_array(PyObject *record)
{
    return ((RecordObject *)record)->items;
}

static inline PyObject *record_get(PyObject *record, Py_ssize_t i)
{
    return ((RecordObject *)record)->items[i];
}

/* Let the cycle collector see the row: needed only if a value can itself hold references. */
static inline void record_track(PyObject *record)
{
    if (!PyObject_GC_IsTracked(record)) {
        PyObject_GC_Track(record);
    }
}

#endif
