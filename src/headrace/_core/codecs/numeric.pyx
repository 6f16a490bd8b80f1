"""numeric, in the format of numeric_send() and numeric_recv() in utils/adt/numeric.c.

A value is a header of four 16-bit words (number of digits, weight of the first digit, sign, display scale) and
then its digits in base 10000. Zero digits at either end are left out: the weight says where the digits begin
and the display scale how many decimals are shown, so 1.50 is the digits [1, 5000], weight 0, scale 2.

Both directions use the number's decimal notation. _decimal reads and writes it much faster than a tuple of digits, and
it keeps every trailing zero.
"""

from decimal import Context, Decimal, InvalidOperation
from enum import Enum
from numbers import Rational, Real

from cpython.float cimport PyFloat_Check
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_Check, PyLong_CheckExact
from cpython.number cimport PyIndex_Check, PyNumber_Index
from cpython.object cimport PyObject_Str
from cpython.unicode cimport PyUnicode_Check
from libc.stdint cimport int16_t, int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from headrace.exceptions import ProtocolError
from headrace.exceptions._values import shown

from headrace._core.wire.buffer cimport WriteBuffer, load_i16, load_u16, reserve, store_u16, store_u32
from headrace._core.codecs.base cimport Codec, bad_length, scalar

cdef extern from 'Python.h':
    unicode PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    void *PyUnicode_DATA(object value)
    const char *PyUnicode_AsUTF8AndSize(object value, Py_ssize_t *size) except NULL

cdef enum:
    HEAD = 8                # the four words
    POSITIVE = 0x0000
    NEGATIVE = 0x4000
    NAN = 0xC000
    PLUS_INFINITY = 0xD000
    MINUS_INFINITY = 0xF000
    MAX_SCALE = 16383       # NUMERIC_DSCALE_MASK
    MAX_WEIGHT = 32767      # the weight is an int16: 131,072 digits before the decimal point

# Conversions to Decimal are exact and do not depend on the traps of the caller's context.
cdef object EXACT = Context(traps=[InvalidOperation])
cdef object NOT_A_NUMBER = Decimal('NaN')
cdef object INFINITY = Decimal('Infinity')
cdef object NEGATIVE_INFINITY = Decimal('-Infinity')


# From the server

cdef object decode_numeric(Codec codec, const char *data, Py_ssize_t size):
    cdef:
        Py_ssize_t count
        int weight, scale
        uint16_t sign
    if size < HEAD:
        bad_length(codec, size, 'at least 8 bytes')
    count = load_u16(data)
    weight = load_i16(data + 2)
    sign = load_u16(data + 4)
    scale = load_u16(data + 6)
    if size != HEAD + 2 * count:
        bad_length(codec, size, f'{HEAD + 2 * count} bytes for {count} digits')
    if sign == NAN:
        return NOT_A_NUMBER
    if sign == PLUS_INFINITY:
        return INFINITY
    if sign == MINUS_INFINITY:
        return NEGATIVE_INFINITY
    if (sign != POSITIVE and sign != NEGATIVE) or scale > MAX_SCALE:
        raise ProtocolError(f'a numeric value with sign {sign:#06x} and scale {scale} from the server')
    return Decimal(notation(data + HEAD, count, weight, sign == NEGATIVE, scale))


cdef str notation(const char *digits, Py_ssize_t count, int weight, bint negative, int scale):
    """Return the decimal notation of a finite value, as written by get_str_from_var() in the server."""
    cdef:
        int first = 0
        Py_ssize_t length, index
        str text
        char *at
        char *end
        char last[4]
    if weight >= 0 and count > 0:
        first = base_10000(digits, 0, count)
    length = 1 if first < 10 else 2 if first < 100 else 3 if first < 1000 else 4
    if weight > 0:
        length += 4 * weight
    length += negative + (1 + scale if scale > 0 else 0)

    text = PyUnicode_New(length, 127)
    at = <char *>PyUnicode_DATA(text)
    end = at + length
    if negative:
        at[0] = c'-'
        at += 1
    if first >= 1000:
        at[0] = c'0' + first // 1000
        at += 1
    if first >= 100:
        at[0] = c'0' + first // 100 % 10
        at += 1
    if first >= 10:
        at[0] = c'0' + first // 10 % 10
        at += 1
    at[0] = c'0' + first % 10
    at += 1
    for index in range(1, weight + 1):
        if index >= count:
            memset(at, c'0', <size_t>(4 * (weight + 1 - index)))
            at += 4 * (weight + 1 - index)
            break
        four_digits(at, base_10000(digits, index, count))
        at += 4
    if scale > 0:
        at[0] = c'.'
        at += 1
        index = weight + 1
        while end - at >= 4:
            four_digits(at, base_10000(digits, index, count))
            at += 4
            index += 1
        if at < end:
            four_digits(last, base_10000(digits, index, count))
            for index in range(end - at):
                at[index] = last[index]
    return text


cdef inline int base_10000(const char *digits, Py_ssize_t index, Py_ssize_t count) except -1:
    """Return the digit at `index`; digits that were left out on either side are zero."""
    cdef int digit
    if index < 0 or index >= count:
        return 0
    digit = load_u16(digits + 2 * index)
    if digit > 9999:
        raise ProtocolError(f'a numeric value with the digit {digit} in base 10000 from the server')
    return digit


cdef inline void four_digits(char *at, int digit) noexcept:
    cdef int high = digit // 100, low = digit % 100
    at[0] = c'0' + high // 10
    at[1] = c'0' + high % 10
    at[2] = c'0' + low // 10
    at[3] = c'0' + low % 10


# To the server

cdef int encode_numeric(Codec codec, WriteBuffer out, object value) except -1:
    cdef:
        int overflow = 0
        int64_t number
        Py_ssize_t size = 0
        const char *text
    if type(value) is not Decimal:
        if not PyLong_CheckExact(value):
            value = exact_number(value)
        if PyLong_Check(value):
            number = PyLong_AsLongLongAndOverflow(value, &overflow)
            if overflow == 0:
                return write_int64(out, number)
            if value.bit_length() > 500_000:
                too_large()
            value = Decimal(value)
    value = PyObject_Str(value)
    text = PyUnicode_AsUTF8AndSize(value, &size)
    return write_notation(out, text, size)


cdef object exact_number(object value):
    """Return an int or a Decimal equal to the value."""
    if isinstance(value, Enum):
        value = value.value
    if PyLong_Check(value):
        return value
    if isinstance(value, Decimal):
        return Decimal(value)  # a subclass may have a different str()
    if PyUnicode_Check(value):
        try:
            return Decimal(value, EXACT)
        except InvalidOperation:
            raise ValueError(f'expected a number, got {shown(value)}') from None
    if PyIndex_Check(value):
        return PyNumber_Index(value)
    if PyFloat_Check(value) or (isinstance(value, Real) and not isinstance(value, Rational)):
        return Decimal.from_float(float(value))
    raise TypeError(f'conversion from {type(value).__name__} to Decimal is not supported: '
                    'expected Decimal, int, float or a number in a str')


cdef int too_large() except -1:
    raise OverflowError('value out of numeric range: expected at most 131072 digits before the decimal point')


cdef inline char *write_head(
        char *at, Py_ssize_t count, Py_ssize_t weight, uint16_t sign, Py_ssize_t scale) noexcept:
    """Write the length word and the header; return the position of the digits."""
    store_u32(at, <uint32_t>(HEAD + 2 * count))
    store_u16(at + 4, <uint16_t>count)
    store_u16(at + 6, <uint16_t><int16_t>weight)
    store_u16(at + 8, sign)
    store_u16(at + 10, <uint16_t>scale)
    return at + 12


cdef int write_int64(WriteBuffer out, int64_t number) except -1:
    cdef:
        uint64_t rest = <uint64_t>number if number >= 0 else 0 - <uint64_t>number
        uint16_t digits[5]
        Py_ssize_t total = 0, trailing = 0, count, index
        char *at
    while rest:
        digits[total] = rest % 10000  # the lowest first
        rest //= 10000
        total += 1
    while trailing < total and digits[trailing] == 0:
        trailing += 1
    count = total - trailing
    at = reserve(out, 4 + HEAD + 2 * count)
    at = write_head(at, count, total - 1 if total else 0, NEGATIVE if number < 0 else POSITIVE, 0)
    for index in range(count):
        store_u16(at + 2 * index, digits[total - 1 - index])
    return 0


cdef int write_notation(WriteBuffer out, const char *text, Py_ssize_t size) except -1:
    """Write a number in the notation of str(Decimal): digits, a point, an exponent; or a special name."""
    cdef:
        const char *end = text + size
        uint16_t sign = POSITIVE
        const char *cursor
        const char *stop
        int64_t exponent = 0, top, weight
        Py_ssize_t digits = 0, decimals = 0, scale, count, written, start
        bint negative_exponent = False, point = False
        int digit, room
        char *at

    if text[0] == c'-':
        sign = NEGATIVE
        text += 1
    if text[0] < c'0' or text[0] > c'9':
        write_head(reserve(out, 4 + HEAD), 0, 0,
                   NAN if text[0] != c'I' else MINUS_INFINITY if sign == NEGATIVE else PLUS_INFINITY, 0)
        return 0

    # First pass: skip leading zeros, and count the digits up to the exponent.
    while text < end and (text[0] == c'0' or text[0] == c'.'):
        if point:
            decimals += 1
        elif text[0] == c'.':
            point = True
        text += 1
    cursor = text
    while cursor < end and cursor[0] != c'E' and cursor[0] != c'e':
        if cursor[0] == c'.':
            point = True
        else:
            digits += 1
            decimals += point
        cursor += 1
    stop = cursor
    if cursor < end:
        cursor += 1
        negative_exponent = cursor[0] == c'-'
        cursor += 1
        while cursor < end:
            exponent = exponent * 10 + (cursor[0] - c'0')  # _decimal keeps it within 18 digits
            cursor += 1
        if negative_exponent:
            exponent = -exponent
    exponent -= decimals  # of the last digit
    if exponent < -MAX_SCALE:
        raise ValueError(
            'cannot encode Decimal value into numeric: exponent is too small: '
            f'numeric holds at most {MAX_SCALE} digits after the decimal point, got {-exponent}')
    scale = -exponent if exponent < 0 else 0
    if digits == 0:
        write_head(reserve(out, 4 + HEAD), 0, 0, POSITIVE, scale)  # numeric has no negative zero
        return 0
    top = exponent + digits - 1  # of the first digit
    weight = top // 4 if top >= 0 else -((3 - top) // 4)
    if weight > MAX_WEIGHT:
        too_large()

    # Second pass: `room` is the number of decimal digits that the current base-10000 digit still takes.
    start = out.length
    at = reserve(out, 4 + HEAD + 2 * (digits // 4 + 2)) + 4 + HEAD
    room = <int>(top - 4 * weight) + 1
    count = written = 0
    digit = 0
    cursor = text
    while cursor < stop:
        if cursor[0] != c'.':
            digit = digit * 10 + (cursor[0] - c'0')
            room -= 1
            if room == 0:
                store_u16(at + 2 * written, <uint16_t>digit)
                written += 1
                if digit != 0:
                    count = written
                digit = 0
                room = 4
        cursor += 1
    if digit != 0:
        while room > 0:
            digit *= 10
            room -= 1
        store_u16(at + 2 * written, <uint16_t>digit)
        count = written + 1
    write_head(out.data + start, count, weight, sign, scale)
    out.length = start + 4 + HEAD + 2 * count
    return 0


scalar(1700, 'numeric', 'decimal.Decimal', encode_numeric, decode_numeric)
