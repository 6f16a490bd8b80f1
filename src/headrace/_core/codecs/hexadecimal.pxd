# Reading hexadecimal digits.


cdef inline int hex_digit(char character) noexcept:
    """The value of a hexadecimal digit, -1 for any other character."""
    if c'0' <= character <= c'9':
        return character - c'0'
    if c'a' <= character <= c'f':
        return character - c'a' + 10
    if c'A' <= character <= c'F':
        return character - c'A' + 10
    return -1
