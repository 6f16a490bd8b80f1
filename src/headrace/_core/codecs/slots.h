/* Objects of slotted Python classes (uuid.UUID, ipaddress.IPv4Address), made and read without running their Python code.
 *
 * The offset of a slot comes from the class's own member descriptor, so nothing is assumed about the class's layout; a
 * class that keeps the attribute any other way has offset 0, and callers then use its constructor.
 */
#ifndef HEADRACE_SLOTS_H
#define HEADRACE_SLOTS_H

#include <Python.h>

#if PY_VERSION_HEX < 0x030C0000
#include <structmember.h>
#define HR_OBJECT_SLOT T_OBJECT_EX
#else
#define HR_OBJECT_SLOT Py_T_OBJECT_EX
#endif

/* Where instances of the class keep the slot, or 0. */
static inline Py_ssize_t slot_offset(PyObject *cls, const char *name) {
    Py_ssize_t offset = 0;
    PyObject *member = PyObject_GetAttrString(cls, name);
    if (member == NULL) {
        PyErr_Clear();
        return 0;
    }
    if (Py_TYPE(member) == &PyMemberDescr_Type) {
        PyMemberDef *def = ((PyMemberDescrObject *)member)->d_member;
        if (def->type == HR_OBJECT_SLOT && def->offset > 0)
            offset = def->offset;
    }
    Py_DECREF(member);
    return offset;
}

/* A new instance with empty slots. */
static inline PyObject *slotted_new(PyObject *cls) {
    return ((PyTypeObject *)cls)->tp_alloc((PyTypeObject *)cls, 0);
}

/* Fill an empty slot. */
static inline void slot_fill(PyObject *object, Py_ssize_t offset, PyObject *value) {
    Py_INCREF(value);
    *(PyObject **)((char *)object + offset) = value;
}

/* The value of a slot as a new reference, None if it is empty. */
static inline PyObject *slot_value(PyObject *object, Py_ssize_t offset) {
    PyObject *value = *(PyObject **)((char *)object + offset);
    if (value == NULL)
        value = Py_None;
    Py_INCREF(value);
    return value;
}

/* An unsigned 128-bit integer in network byte order, as an int. */
static inline PyObject *load_u128(const char *place) {
#if PY_VERSION_HEX >= 0x030D0000
    return PyLong_FromUnsignedNativeBytes(place, 16, Py_ASNATIVEBYTES_BIG_ENDIAN);
#else
    return _PyLong_FromByteArray((const unsigned char *)place, 16, 0, 0);
#endif
}

/* Write an int as an unsigned 128-bit integer in network byte order. Returns -1 with an exception if it is none. */
static inline int store_u128(char *place, PyObject *number) {
    if (!PyLong_Check(number)) {
        PyErr_Format(PyExc_TypeError, "expected int, got %.100s", Py_TYPE(number)->tp_name);
        return -1;
    }
#if PY_VERSION_HEX >= 0x030D0000
    Py_ssize_t needed = PyLong_AsNativeBytes(number, place, 16,
        Py_ASNATIVEBYTES_BIG_ENDIAN | Py_ASNATIVEBYTES_UNSIGNED_BUFFER | Py_ASNATIVEBYTES_REJECT_NEGATIVE);
    if (needed > 16)
        PyErr_SetString(PyExc_OverflowError, "int too big for 128 bits");
    return needed < 0 || needed > 16 ? -1 : 0;
#else
    return _PyLong_AsByteArray((PyLongObject *)number, (unsigned char *)place, 16, 0, 0);
#endif
}

#endif
