# Reading hexadecimal digits: the value of one, -1 for any other character.

cdef extern from 'hexadecimal.h':
    int hex_digit(char character) noexcept
