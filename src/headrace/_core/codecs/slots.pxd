# Objects of slotted Python classes, made and read without running their Python code.

cdef extern from 'slots.h':
    Py_ssize_t slot_offset(object cls, const char *name)
    object slotted_new(object cls)
    void slot_fill(object target, Py_ssize_t offset, object value)
    object slot_value(object source, Py_ssize_t offset)
    object load_u128(const char *at)
    int store_u128(char *at, object number) except -1
