# Conversion of values that are not of the type an encoder expects first.

cdef object enum_value(object value)
cdef object whole_number(object value)
