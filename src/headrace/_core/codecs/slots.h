/* Making and reading objects of slotted Python classes (uuid.UUID, ipaddress.IPv4Address) without their Python code.
 *
 * The offset of a slot comes from the class's own member descriptor, so nothing is assumed about the class's
 * layout. If the class does not keep the attribute in a slot, the offset is 0, and callers use its constructor.
 */
#ifndef HEADRACE_SLOTS_H
#define HEADRACE_SLOTS_H

#include <Python.h>
#include "wire.h"

#if PY_VERSION_HEX < 0x030C0000
#include <structmember.h>
#define HR_OBJECT_SLOT T_OBJECT_EX
#else
#define HR_OBJECT_SLOT Py_T_OBJECT_EX
#endif

/* The offset of a slot in instances of the class, or 0. */
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

/* An unsigned 128-bit integer in network byte order, as an int.
 *
 * Python's own conversions go byte by byte. If an int's digits have 30 bits, they are cut out of the two
 * halves directly, and copied into an int made by _PyLong_New(), from 3.14 on by PyLongWriter.
 */
static inline PyObject *load_u128(const char *at) {
#if PYLONG_BITS_IN_DIGIT == 30
    uint64_t high = load_u64(at), low = load_u64(at + 8);
    digit digits[5];
    digits[0] = (digit)(low & PyLong_MASK);
    digits[1] = (digit)((low >> 30) & PyLong_MASK);
    digits[2] = (digit)((low >> 60 | high << 4) & PyLong_MASK);
    digits[3] = (digit)((high >> 26) & PyLong_MASK);
    digits[4] = (digit)(high >> 56);
    if (digits[4] != 0) {
#if PY_VERSION_HEX >= 0x030E0000
        void *room;
        PyLongWriter *writer = PyLongWriter_Create(0, 5, &room);
        if (writer == NULL)
            return NULL;
        memcpy(room, digits, sizeof digits);
        return PyLongWriter_Finish(writer);
#else
        PyLongObject *number = _PyLong_New(5);
        if (number == NULL)
            return NULL;
#if PY_VERSION_HEX >= 0x030C0000
        memcpy(number->long_value.ob_digit, digits, sizeof digits);
#else
        memcpy(number->ob_digit, digits, sizeof digits);
#endif
        return (PyObject *)number;
#endif
    }
#endif
#if PY_VERSION_HEX >= 0x030D0000
    return PyLong_FromUnsignedNativeBytes(at, 16, Py_ASNATIVEBYTES_BIG_ENDIAN);
#else
    return _PyLong_FromByteArray((const unsigned char *)at, 16, 0, 0);
#endif
}

/* Write an int as an unsigned 128-bit integer, big-endian; -1 and an exception if it does not fit. */
static inline int store_u128(char *at, PyObject *number) {
    if (!PyLong_Check(number)) {
        PyErr_Format(PyExc_TypeError, "expected int, got %.100s", Py_TYPE(number)->tp_name);
        return -1;
    }
#if PY_VERSION_HEX >= 0x030D0000
    Py_ssize_t needed = PyLong_AsNativeBytes(number, at, 16,
        Py_ASNATIVEBYTES_BIG_ENDIAN | Py_ASNATIVEBYTES_UNSIGNED_BUFFER | Py_ASNATIVEBYTES_REJECT_NEGATIVE);
    if (needed > 16)
        PyErr_SetString(PyExc_OverflowError, "int too big for 128 bits");
    return needed < 0 || needed > 16 ? -1 : 0;
#else
    return _PyLong_AsByteArray((PyLongObject *)number, (unsigned char *)at, 16, 0, 0);
#endif
}

#endif
