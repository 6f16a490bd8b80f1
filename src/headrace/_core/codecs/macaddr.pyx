"""macaddr and macaddr8 as str, in the notation the server prints: 08:00:2b:01:02:03.

On the wire they are 6 or 8 bytes (macaddr_send(), macaddr8_send()). Parameters may have all notations that the server's
input functions accept (datatype-net-types, macaddr).
"""

from cpython.unicode cimport PyUnicode_Check
from libc.string cimport memmove

from headrace._core.wire.buffer cimport WriteBuffer, put_value
from headrace._core.codecs.base cimport Codec, bad_length, scalar, wrong_type
from headrace._core.codecs.coercion cimport enum_value
from headrace._core.codecs.hexadecimal cimport hex_digit
from headrace._core.codecs.text cimport utf8_of
from headrace.exceptions._values import shown

cdef extern from 'Python.h':
    unicode PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    void *PyUnicode_DATA(object value)

cdef const char *HEX = b'0123456789abcdef'


cdef object decode_macaddr(Codec codec, const char *data, Py_ssize_t size):
    if size != 6:
        bad_length(codec, size, '6 bytes')
    return colon_separated(data, size)


cdef object decode_macaddr8(Codec codec, const char *data, Py_ssize_t size):
    if size != 8:
        bad_length(codec, size, '8 bytes')
    return colon_separated(data, size)


cdef str colon_separated(const char *data, Py_ssize_t size):
    cdef:
        str text = PyUnicode_New(3 * size - 1, 127)
        char *at = <char *>PyUnicode_DATA(text)
        Py_ssize_t index
        unsigned char byte
    for index in range(size):
        byte = <unsigned char>data[index]
        if index > 0:
            at[3 * index - 1] = c':'
        at[3 * index] = HEX[byte >> 4]
        at[3 * index + 1] = HEX[byte & 15]
    return text


cdef int parse(object value, char *bytes_, int limit) except -1:
    """Read bytes of two hexadecimal digits, with or without one kind of separator (: - or .) between them.

    If all bytes are separated, a byte may have one digit: 8:0:2b:1:2:3. Returns the number of bytes, or -2 if the text
    is invalid.
    """
    cdef:
        object text = value.strip(' \t\n\v\f\r')
        Py_ssize_t size = 0
        const char *at = utf8_of(text, &size)
        const char *end = at + size
        char separator = 0
        int count = 0, separators = 0, digit
        bint short = False
    while at < end:
        if count > 0 and (at[0] == c':' or at[0] == c'-' or at[0] == c'.'):
            if separator != 0 and at[0] != separator:
                return -2
            separator = at[0]
            separators += 1
            at += 1
        digit = hex_digit(at[0])  # at the end this is the terminating NUL
        if digit < 0 or count == limit:
            return -2
        at += 1
        bytes_[count] = <char>digit
        digit = hex_digit(at[0])
        if digit >= 0:
            bytes_[count] = bytes_[count] << 4 | digit
            at += 1
        else:
            short = True
        count += 1
    if short and separators != count - 1:
        return -2
    return count


cdef int encode_macaddr(Codec codec, WriteBuffer out, object value) except -1:
    cdef char address[6]
    value = enum_value(value)
    if not PyUnicode_Check(value):
        wrong_type('str', value)
    if parse(value, address, 6) != 6:
        raise ValueError(f'expected a MAC address of 6 bytes such as 08:00:2b:01:02:03, got {shown(value)}')
    return put_value(out, address, 6)


cdef int encode_macaddr8(Codec codec, WriteBuffer out, object value) except -1:
    """Write a macaddr8. A macaddr is converted as by the server, with ff:fe in its middle."""
    cdef:
        char address[8]
        int count
    value = enum_value(value)
    if not PyUnicode_Check(value):
        wrong_type('str', value)
    count = parse(value, address, 8)
    if count == 6:
        memmove(address + 5, address + 3, 3)
        address[3] = <char>0xff
        address[4] = <char>0xfe
    elif count != 8:
        raise ValueError(
            f'expected a MAC address of 8 or 6 bytes such as 08:00:2b:01:02:03:04:05, got {shown(value)}')
    return put_value(out, address, 8)


scalar(829, 'macaddr', 'str', encode_macaddr, decode_macaddr)
scalar(774, 'macaddr8', 'str', encode_macaddr8, decode_macaddr8)
