/* One row: a fixed-size run of values, and the description that names them.
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

/* A row of `size` empty places. Values are put there by record_set() before anyone else sees the row. */
PyObject *record_alloc(PyTypeObject *type, PyObject *desc, Py_ssize_t size);

/* Steals the reference to `value`. */
static inline void record_set(PyObject *record, Py_ssize_t i, PyObject *value)
{
    ((RecordObject *)record)->items[i] = value;
}

/* Where its values stand, to be filled as record_set() does. */
static inline PyObject **record_places(PyObject *record)
{
    return ((RecordObject *)record)->items;
}

static inline PyObject *record_get(PyObject *record, Py_ssize_t i)
{
    return ((RecordObject *)record)->items[i];
}

/* Let the cycle collector see the row: needed only where a value may itself hold references. */
static inline void record_track(PyObject *record)
{
    if (!PyObject_GC_IsTracked(record)) {
        PyObject_GC_Track(record);
    }
}

#endif
