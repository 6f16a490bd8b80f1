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

#endif
