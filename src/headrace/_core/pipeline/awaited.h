/* The slot that a coroutine asks first for what it awaits: the result comes back without a StopIteration. Python 3.12 and
   newer ask tp_iternext instead. Source: Python/C API, "Async Object Structures". */

#ifndef HEADRACE_AWAITED_H
#define HEADRACE_AWAITED_H

#include <Python.h>

/* Subclasses that define no slot of the kind themselves share the structure. */
static inline void set_send(PyTypeObject *type, sendfunc send)
{
    type->tp_as_async->am_send = send;
}

/* Set StopIteration with a value, as a generator does that returns one: without making an exception if that is not
   necessary. */
static inline int stop_with(PyObject *value)
{
    if (PyTuple_Check(value) || PyExceptionInstance_Check(value)) {
        PyObject *error = PyObject_CallOneArg(PyExc_StopIteration, value);
        if (error != NULL) {
            PyErr_SetObject(PyExc_StopIteration, error);
            Py_DECREF(error);
        }
    } else {
        PyErr_SetObject(PyExc_StopIteration, value);
    }
    return -1;
}

#endif
