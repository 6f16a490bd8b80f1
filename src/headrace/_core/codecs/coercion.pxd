# What an encoder does with a value that is not of the one type it takes at full speed.

cdef object enum_value(object value)
cdef object whole_number(object value)
