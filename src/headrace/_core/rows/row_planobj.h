/* Objects of a class of the caller's own, and dictionaries, filled from outside. */

#ifndef HEADRACE_ROWPLANOBJ_H
#define HEADRACE_ROWPLANOBJ_H

#include <Python.h>

enum { BY_NAME = -1 };

/* Where one attribute of an object goes, and what it is set to. */
typedef struct {
    PyObject *name; /* borrowed */
    Py_ssize_t column;
    Py_ssize_t slot;  /* the offset of its slot, or BY_NAME */
    Py_ssize_t place; /* its place among the inline values, or BY_NAME: for all that have no slot, or for none */
} Attribute;

/* An object without attributes, as object.__new__ makes it, or NULL with an exception. */
PyObject *bare_object(PyTypeObject *cls);

/* Whether it is known here how this interpreter lays out objects and dictionaries. */
extern const int KNOWS_LAYOUT;

/* Find out where the attributes go in objects of `cls`. */
void attributes_learn(PyTypeObject *cls, Attribute *attributes, Py_ssize_t count);

/* A new object of `cls` with these attributes, of which each takes over its value, or NULL with an exception. Values that
 * were taken over are NULL afterwards. */
PyObject *attributes_make(PyTypeObject *cls, const Attribute *attributes, Py_ssize_t count, PyObject **values);

/* A dictionary with these values for `keys`, which are those of `model` and in its order, or NULL with an exception. Values
 * that were taken over are NULL afterwards. */
PyObject *dict_make(PyObject *model, PyObject *keys, PyObject **values);

#endif
