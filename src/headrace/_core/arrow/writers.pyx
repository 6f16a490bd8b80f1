"""Writers of the values of Arrow arrays in PostgreSQL's binary forms.

A Writer is made for a pair of types, by headrace._core.arrow.matching, and bound to the array of one batch after the
other. It writes the value at a position with its length, as in a row of COPY, an array or a composite. The forms are
those of the codecs in headrace._core.codecs.

An array is used as its producer describes it. Lengths, the number of buffers, and positions that come from the data
(offsets, indexes, run ends, views) are checked; addresses cannot be.

A value that the target cannot hold raises OverflowError or ValueError with a short text. The encoder adds the row, the
column and the types.

Source: Apache Arrow, "Arrow Columnar Format" and "The Arrow C data interface".
"""

import sys
from decimal import Decimal
from struct import pack

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.tuple cimport PyTuple_GET_ITEM
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.math cimport isfinite, isinf
from libc.stdint cimport INT64_MAX, int16_t, int32_t, int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy

from headrace._core.arrow.abi cimport ArrowArray
from headrace._core.arrow.convert cimport (
    LIMBS, NUMERIC_DIGITS, bit_at, half_to_double, limbs_digits, limbs_multiply, limbs_read, native_f32, native_f64,
    native_i16, native_i32, native_i64, native_i8, native_u16, native_u32, native_u64, native_u8,
)
from headrace._core.codecs.base cimport Codec
from headrace._core.codecs.calendar cimport date_text
from headrace._core.codecs.format_variants cimport text_variant
from headrace._core.codecs.text import NulError
from headrace._core.wire.buffer cimport (
    WriteBuffer, begin_length, end_length, load_i32, put_byte, put_bytes, put_i32, put_value, reserve, store_f32,
    store_f64, store_u16, store_u32, store_u64, value_too_long,
)

from headrace.exceptions import InterfaceError, ProtocolError
from headrace.exceptions._values import shown

cdef extern from *:
    """
    static inline int multiplied(int64_t value, int64_t factor, int64_t *product) {
        return !__builtin_mul_overflow(value, factor, product);
    }
    """
    bint multiplied(int64_t value, int64_t factor, int64_t *product)

# The kinds of values of fixed width, and their widths.
cdef enum:
    I8, U8, I16, U16, I32, U32, I64, U64, F16, F32, F64, BOOL, D32, D64, D128, D256

cdef dict KINDS = {
    'c': (I8, 1), 'C': (U8, 1), 's': (I16, 2), 'S': (U16, 2), 'i': (I32, 4), 'I': (U32, 4), 'l': (I64, 8),
    'L': (U64, 8), 'e': (F16, 2), 'f': (F32, 4), 'g': (F64, 8), 'b': (BOOL, 0),
    'd32': (D32, 4), 'd64': (D64, 8), 'd128': (D128, 16), 'd256': (D256, 32),
}

# The layouts of values of variable length.
cdef enum:
    OFFSETS_32, OFFSETS_64, VIEWS, FIXED, VIEWS_32, VIEWS_64

# The limits of array.h and rangetypes.h.
cdef enum:
    MAX_DIMENSIONS = 6
    RANGE_EMPTY = 0x01
    LOWER_INCLUSIVE = 0x02
    UPPER_INCLUSIVE = 0x04
    LOWER_INFINITE = 0x08
    UPPER_INFINITE = 0x10

cdef enum:
    NUMERIC_HEAD = 8
    NEGATIVE = 0x4000

# 2000-01-01, where PostgreSQL's calendar begins, from 1970-01-01.
cdef int64_t EPOCH_DAYS = 10957
cdef int64_t EPOCH = 946_684_800_000_000
cdef int64_t DAY = 86_400_000_000
# The first and the last day and microsecond that PostgreSQL has, from 2000-01-01 (timestamp.h).
cdef int64_t FIRST_DATE = -2_451_545
cdef int64_t LAST_DATE = 2_145_031_948
cdef int64_t FIRST_TIMESTAMP = -211_813_488_000_000_000
cdef int64_t LAST_TIMESTAMP = 9_223_371_331_199_999_999

cdef uint32_t[4] POWERS = [1, 10, 100, 1000]
cdef str ORDER = sys.byteorder
cdef const char *NOTHING = b''


cdef class Writer:
    """Writes the values of one array. This class writes NULLs, for Arrow's type null."""

    def __cinit__(self):
        self.put = put_null
        self.target = ''

    cdef int bind(self, const ArrowArray *array) except -1:
        """Use an array from now on. It must stay as it is while values are written."""
        return self.buffers(array, 0, False)

    cdef int buffers(self, const ArrowArray *array, int64_t count, bint has_validity) except -1:
        """Take the offset, the length and the validity bitmap of an array with at least so many buffers."""
        if array.length < 0 or array.offset < 0 or array.offset > MOST_VALUES - array.length:
            malformed('a length or an offset is negative or too large')
        if array.n_buffers < count or (count > 0 and array.buffers == NULL):
            malformed(f'an array has {array.n_buffers} buffers, and {count} are needed')
        self.offset = array.offset
        self.length = array.length
        self.validity = NULL
        # A null_count of -1 means that nobody has counted.
        if has_validity and array.null_count != 0:
            self.validity = <const char *>array.buffers[0]
            if self.validity == NULL and array.null_count > 0:
                malformed('an array has NULLs, and no validity bitmap')
        return 0


    cdef int check_width(self, int64_t width) except -1:
        """Raise InterfaceError if positions of values of this width are too large."""
        cdef int64_t product = 0
        if not multiplied(self.offset + self.length, width, &product):
            malformed('a length or an offset is too large')
        return 0


cdef int malformed(str what) except -1:
    raise InterfaceError(f'the data is not laid out as Arrow prescribes: {what}')


cdef int put_null(Writer writer, WriteBuffer out, int64_t i) except -1:
    return put_i32(out, -1)


def null_writer() -> Writer:
    """Return the writer of the type null."""
    return Writer.__new__(Writer)


# --- values of fixed width

cdef class FixedWriter(Writer):
    """Numbers, bools, decimals, dates and times."""

    cdef int bind(self, const ArrowArray *array) except -1:
        self.buffers(array, 2, True)
        self.data = <const char *>array.buffers[1]
        if self.data == NULL and array.length > 0:
            malformed('the values of an array are missing')
        if self.width and self.data != NULL:
            self.data += array.offset * self.width
        return 0


cdef FixedWriter fixed(str kind, str target, put_t put):
    cdef FixedWriter writer = FixedWriter.__new__(FixedWriter)
    writer.kind, writer.width = KINDS[kind]
    writer.target = target
    writer.put = put
    return writer


cdef int bad_range(FixedWriter writer, object value) except -1:
    raise OverflowError(
        f'value out of {writer.target} range: expected {bounds(writer)}, got {shown(value)}')


cdef object bounds(FixedWriter writer):
    if writer.high == -1:
        return f'0 to {2 ** 64 - 1}'
    return f'{writer.low} to {writer.high}'


cdef object integer_object(FixedWriter writer, int64_t i):
    """Return an integer or a decimal's digits as an int."""
    if writer.kind >= D32:
        return int.from_bytes(PyBytes_FromStringAndSize(writer.data + i * writer.width, writer.width), ORDER, signed=True)
    if writer.kind == U64:
        return native_u64(writer.data, i)
    return small_integer(writer, i)


cdef inline int64_t small_integer(FixedWriter writer, int64_t i) noexcept:
    """Return an integer of a kind that int64 can hold."""
    if writer.kind == I32:
        return native_i32(writer.data, i)
    if writer.kind == I64:
        return native_i64(writer.data, i)
    if writer.kind == I16:
        return native_i16(writer.data, i)
    if writer.kind == I8:
        return native_i8(writer.data, i)
    if writer.kind == U8:
        return native_u8(writer.data, i)
    if writer.kind == U16:
        return native_u16(writer.data, i)
    return native_u32(writer.data, i)


cdef int magnitude(FixedWriter writer, int64_t i, uint64_t *value, bint *negative) except -1:
    """Read the magnitude and the sign of an integer, or of a decimal without a scale."""
    cdef:
        uint32_t limbs[LIMBS]
        int64_t number
        int k
    if writer.kind >= D32:
        negative[0] = limbs_read(limbs, writer.data + i * writer.width, writer.width)
        for k in range(2, LIMBS):
            if limbs[k]:
                bad_range(writer, integer_object(writer, i))
        value[0] = <uint64_t>limbs[1] << 32 | limbs[0]
    elif writer.kind == U64:
        negative[0] = False
        value[0] = native_u64(writer.data, i)
    else:
        number = small_integer(writer, i)
        negative[0] = number < 0
        value[0] = 0 - <uint64_t>number if number < 0 else <uint64_t>number
    return 0


cdef inline int64_t integer(FixedWriter writer, int64_t i) except? -1:
    """Return an integer within the range of the target; raises OverflowError for any other."""
    cdef:
        int64_t number
        uint64_t value = 0
        bint negative = False
    if writer.kind < U64:
        number = small_integer(writer, i)
    else:
        magnitude(writer, i, &value, &negative)
        if value > <uint64_t>INT64_MAX:
            if not (negative and value == <uint64_t>INT64_MAX + 1):
                bad_range(writer, integer_object(writer, i))
            number = -INT64_MAX - 1
        else:
            number = -<int64_t>value if negative else <int64_t>value
    if number < writer.low or number > writer.high:
        bad_range(writer, number)
    return number


cdef int put_int2(Writer self, WriteBuffer out, int64_t i) except -1:
    cdef:
        int64_t value = integer(<FixedWriter>self, i)
        char *at = reserve(out, 6)
    store_u32(at, 2)
    store_u16(at + 4, <uint16_t>value)
    return 0


cdef int put_int4(Writer self, WriteBuffer out, int64_t i) except -1:
    cdef:
        int64_t value = integer(<FixedWriter>self, i)
        char *at = reserve(out, 8)
    store_u32(at, 4)
    store_u32(at + 4, <uint32_t>value)
    return 0


cdef int put_int8(Writer self, WriteBuffer out, int64_t i) except -1:
    cdef:
        int64_t value = integer(<FixedWriter>self, i)
        char *at = reserve(out, 12)
    store_u32(at, 8)
    store_u64(at + 4, <uint64_t>value)
    return 0


cdef int put_same_int4(Writer self, WriteBuffer out, int64_t i) except -1:
    cdef char *at = reserve(out, 8)
    store_u32(at, 4)
    store_u32(at + 4, native_u32(self.data, i))
    return 0


cdef int put_same_int8(Writer self, WriteBuffer out, int64_t i) except -1:
    cdef char *at = reserve(out, 12)
    store_u32(at, 8)
    store_u64(at + 4, native_u64(self.data, i))
    return 0


cdef int put_unsigned(Writer self, WriteBuffer out, int64_t i) except -1:
    cdef:
        uint64_t value = 0
        bint negative = False
        char *at
    magnitude(<FixedWriter>self, i, &value, &negative)
    if negative and value:
        bad_range(<FixedWriter>self, integer_object(<FixedWriter>self, i))
    at = reserve(out, 12)
    store_u32(at, 8)
    store_u64(at + 4, value)
    return 0


cdef int put_integer_numeric(Writer self, WriteBuffer out, int64_t i) except -1:
    cdef:
        uint32_t limbs[LIMBS]
        uint64_t value = 0
        bint negative = False
        int k
    magnitude(<FixedWriter>self, i, &value, &negative)
    for k in range(2, LIMBS):
        limbs[k] = 0
    limbs[0] = <uint32_t>value
    limbs[1] = <uint32_t>(value >> 32)
    return put_limbs(out, limbs, negative, 0)


cdef int put_integer_float8(Writer self, WriteBuffer out, int64_t i) except -1:
    """Write an integer as a float8; one that would be rounded is refused."""
    cdef:
        uint64_t value = 0
        bint negative = False
        double number
        char *at
    magnitude(<FixedWriter>self, i, &value, &negative)
    number = <double>value
    if number >= 18446744073709551616.0 or <uint64_t>number != value:
        raise ValueError(f'float8 cannot hold {integer_object(<FixedWriter>self, i)} exactly')
    at = reserve(out, 12)
    store_u32(at, 8)
    store_f64(at + 4, -number if negative else number)
    return 0


cdef int put_integer_float4(Writer self, WriteBuffer out, int64_t i) except -1:
    cdef:
        uint64_t value = 0
        bint negative = False
        float number
        char *at
    magnitude(<FixedWriter>self, i, &value, &negative)
    number = <float>value
    if number >= 18446744073709551616.0 or <uint64_t>number != value:
        raise ValueError(f'float4 cannot hold {integer_object(<FixedWriter>self, i)} exactly')
    at = reserve(out, 8)
    store_u32(at, 4)
    store_f32(at + 4, -number if negative else number)
    return 0


def integer_writer(kind: str, target: str) -> Writer | None:
    """Return the writer of an integer, or a decimal without a scale, for a type of PostgreSQL; None if there is none."""
    cdef FixedWriter writer = fixed(kind, target, put_int4)
    if target == 'int2':
        writer.low, writer.high, writer.put = -32768, 32767, put_int2
    elif target == 'int4':
        writer.low, writer.high = -2 ** 31, 2 ** 31 - 1
        if writer.kind == I32:
            writer.put = put_same_int4
    elif target == 'int8':
        writer.low, writer.high, writer.put = -INT64_MAX - 1, INT64_MAX, put_int8
        if writer.kind == I64:
            writer.put = put_same_int8
    elif target == 'oid':
        writer.low, writer.high = 0, 2 ** 32 - 1
        if writer.kind == U32:
            writer.put = put_same_int4
    elif target == 'xid8':
        writer.high = -1
        writer.put = put_unsigned
    elif target == 'numeric' and writer.kind < D32:
        writer.put = put_integer_numeric
    elif target == 'float8' and writer.kind < D32:
        writer.put = put_integer_float8
    elif target == 'float4' and writer.kind < D32:
        writer.put = put_integer_float4
    else:
        return None
    return writer


# --- decimals

cdef int put_limbs(WriteBuffer out, uint32_t *limbs, bint negative, int scale) except -1:
    """Write a numeric from its digits, an integer, and its scale. See headrace._core.codecs.numeric for the format."""
    cdef:
        uint16_t digits[NUMERIC_DIGITS]
        int pad, groups, total, count, k
        int trailing = 0
        char *at
    if scale > 0:
        pad = (4 - scale % 4) % 4
        groups = (scale + pad) // 4
    else:
        pad = -scale % 4
        groups = -(-scale // 4)
    if pad:
        limbs_multiply(limbs, LIMBS, POWERS[pad])
    total = limbs_digits(limbs, digits)
    while trailing < total and digits[trailing] == 0:
        trailing += 1
    count = total - trailing
    at = reserve(out, 4 + NUMERIC_HEAD + 2 * count)
    store_u32(at, <uint32_t>(NUMERIC_HEAD + 2 * count))
    store_u16(at + 4, <uint16_t>count)
    store_u16(at + 6, <uint16_t><int16_t>(total - 1 - groups) if total else 0)
    store_u16(at + 8, NEGATIVE if negative and total else 0)
    store_u16(at + 10, <uint16_t>(scale if scale > 0 else 0))
    at += 12
    for k in range(count):
        store_u16(at + 2 * k, digits[total - 1 - k])
    return 0


cdef int put_decimal(Writer self, WriteBuffer out, int64_t i) except -1:
    cdef:
        FixedWriter writer = <FixedWriter>self
        uint32_t limbs[LIMBS]
        bint negative = limbs_read(limbs, writer.data + i * writer.width, writer.width)
    return put_limbs(out, limbs, negative, writer.scale)


cdef int put_decimal_float(Writer self, WriteBuffer out, int64_t i) except -1:
    """Write a decimal as the nearest float. Python divides and multiplies integers with one rounding."""
    cdef:
        FixedWriter writer = <FixedWriter>self
        object digits = integer_object(writer, i)
        double number
    number = digits / 10 ** writer.scale if writer.scale > 0 else float(digits * 10 ** -writer.scale)
    return put_float(out, number, writer.target == 'float4')


def decimal_writer(bits: int, scale: int, target: str) -> Writer | None:
    """Return the writer of a decimal for a type of PostgreSQL; None if there is none."""
    cdef FixedWriter writer
    if target == 'numeric':
        writer = fixed(f'd{bits}', target, put_decimal)
        writer.scale = scale
        return writer
    if target in ('float4', 'float8'):
        writer = fixed(f'd{bits}', target, put_decimal_float)
        writer.scale = scale
        return writer
    return integer_writer(f'd{bits}', target) if scale == 0 else None


# --- floats

cdef inline double float_at(FixedWriter writer, int64_t i) noexcept:
    if writer.kind == F64:
        return native_f64(writer.data, i)
    if writer.kind == F32:
        return native_f32(writer.data, i)
    return half_to_double(native_u16(writer.data, i))


cdef int put_float(WriteBuffer out, double number, bint single) except -1:
    """Write a float8 or float4; raises OverflowError for a number that becomes infinite."""
    cdef:
        float narrowed
        char *at
    if not single:
        at = reserve(out, 12)
        store_u32(at, 8)
        store_f64(at + 4, number)
        return 0
    narrowed = <float>number
    if isinf(narrowed) and not isinf(number):
        raise OverflowError(f'value out of float4 range: expected -3.4028235e+38 to 3.4028235e+38, got {number}')
    at = reserve(out, 8)
    store_u32(at, 4)
    store_f32(at + 4, narrowed)
    return 0


cdef int put_float8(Writer self, WriteBuffer out, int64_t i) except -1:
    return put_float(out, float_at(<FixedWriter>self, i), False)


cdef int put_float4(Writer self, WriteBuffer out, int64_t i) except -1:
    return put_float(out, float_at(<FixedWriter>self, i), True)


cdef int put_float_numeric(Writer self, WriteBuffer out, int64_t i) except -1:
    """Write the shortest decimal number that stands for the float."""
    cdef:
        FixedWriter writer = <FixedWriter>self
        double number = float_at(writer, i)
        object text = repr(number)
    if writer.kind != F64 and isfinite(number):
        text = writer.convert(number)
    else:
        text = text.removesuffix('.0')
    return writer.codec.encode(writer.codec, out, Decimal(text))


def float_writer(kind: str, target: str, Codec numeric, single) -> Writer | None:
    """Return the writer of a float for a type of PostgreSQL; None if there is none.

    `numeric` is the codec of that type, and `single` writes a float4 with as few digits as possible.
    """
    cdef FixedWriter writer
    if target == 'float8':
        return fixed(kind, target, put_float8)
    if target == 'float4':
        return fixed(kind, target, put_float4)
    if target == 'numeric':
        writer = fixed(kind, target, put_float_numeric)
        writer.codec = numeric
        writer.convert = single
        return writer
    return None


# --- bools

cdef int put_bool(Writer self, WriteBuffer out, int64_t i) except -1:
    cdef char *at = reserve(out, 5)
    store_u32(at, 1)
    at[4] = bit_at(self.data, self.offset + i)
    return 0


cdef int put_bool8(Writer self, WriteBuffer out, int64_t i) except -1:
    cdef char *at = reserve(out, 5)
    store_u32(at, 1)
    at[4] = self.data[i] != 0
    return 0


def bool_writer(kind: str) -> Writer:
    """Return the writer of bools: bits, or bytes for the extension type arrow.bool8."""
    return fixed(kind, 'bool', put_bool if kind == 'b' else put_bool8)


# --- dates, times and intervals

cdef int put_days(WriteBuffer out, int64_t days) except -1:
    cdef char *at
    if not FIRST_DATE <= days - EPOCH_DAYS <= LAST_DATE:
        raise OverflowError(f'date out of range: expected the year 4714 BC to 5874897, got {days} days from 1970')
    at = reserve(out, 8)
    store_u32(at, 4)
    store_u32(at + 4, <uint32_t><int32_t>(days - EPOCH_DAYS))
    return 0


cdef int put_date32(Writer self, WriteBuffer out, int64_t i) except -1:
    return put_days(out, native_i32(self.data, i))


cdef int64_t date64(Writer self, int64_t i) except? -1:
    """Return the days of a date in milliseconds."""
    cdef int64_t value = native_i64(self.data, i)
    if value % 86_400_000:
        raise ValueError(f'a date64 is expected to be a whole day, got {value} milliseconds')
    return value // 86_400_000


cdef int put_date64(Writer self, WriteBuffer out, int64_t i) except -1:
    return put_days(out, date64(self, i))


cdef int put_microseconds(WriteBuffer out, int64_t value) except -1:
    cdef char *at = reserve(out, 12)
    store_u32(at, 8)
    store_u64(at + 4, <uint64_t>value)
    return 0


cdef int put_date_timestamp(Writer self, WriteBuffer out, int64_t i) except -1:
    """Write the midnight that a date begins with."""
    cdef int64_t days = (native_i32(self.data, i) if (<FixedWriter>self).width == 4 else date64(self, i)) - EPOCH_DAYS
    if not FIRST_DATE <= days <= LAST_TIMESTAMP // DAY:
        raise OverflowError(f'timestamp out of range: expected the year 4714 BC to 294276, got {date_text(days)}')
    return put_microseconds(out, days * DAY)


cdef int64_t microseconds_of(FixedWriter writer, int64_t i, str what) except? -1:
    """Return a time in microseconds. Nanoseconds must be whole microseconds, because PostgreSQL has no smaller unit."""
    cdef:
        int64_t value = native_i32(writer.data, i) if writer.width == 4 else native_i64(writer.data, i)
        int64_t product = 0
    if writer.factor == 0:
        if value % 1000:
            raise ValueError(f'{what} is expected in whole microseconds, got {value} nanoseconds')
        return value // 1000
    if writer.factor == 1:
        return value
    if not multiplied(value, writer.factor, &product):
        raise OverflowError(f'{what} out of range: {value} {"seconds" if writer.factor > 1000 else "milliseconds"}')
    return product


cdef int put_timestamp(Writer self, WriteBuffer out, int64_t i) except -1:
    cdef int64_t value = microseconds_of(<FixedWriter>self, i, 'a timestamp')
    if not FIRST_TIMESTAMP + EPOCH <= value or value - EPOCH > LAST_TIMESTAMP:
        raise OverflowError(
            f'timestamp out of range: expected the year 4714 BC to 294276, got {value} microseconds from 1970')
    return put_microseconds(out, value - EPOCH)


cdef int put_time(Writer self, WriteBuffer out, int64_t i) except -1:
    cdef int64_t value = microseconds_of(<FixedWriter>self, i, 'a time')
    if not 0 <= value <= DAY:
        raise OverflowError(f'time out of range: expected 00:00:00 to 24:00:00, got {value} microseconds')
    return put_microseconds(out, value)


cdef int put_interval(WriteBuffer out, int64_t microseconds, int32_t days, int32_t months) except -1:
    cdef char *at = reserve(out, 20)
    store_u32(at, 16)
    store_u64(at + 4, <uint64_t>microseconds)
    store_u32(at + 12, <uint32_t>days)
    store_u32(at + 16, <uint32_t>months)
    return 0


cdef int put_duration(Writer self, WriteBuffer out, int64_t i) except -1:
    return put_interval(out, microseconds_of(<FixedWriter>self, i, 'a duration'), 0, 0)


cdef int put_months(Writer self, WriteBuffer out, int64_t i) except -1:
    return put_interval(out, 0, 0, native_i32(self.data, i))


cdef int put_day_time(Writer self, WriteBuffer out, int64_t i) except -1:
    return put_interval(out, <int64_t>native_i32(self.data, 2 * i + 1) * 1000, native_i32(self.data, 2 * i), 0)


cdef int put_month_day_nano(Writer self, WriteBuffer out, int64_t i) except -1:
    """The fields are months and days, of 32 bits each, and nanoseconds."""
    cdef int64_t nanoseconds = native_i64(self.data, 2 * i + 1)
    if nanoseconds % 1000:
        raise ValueError(f'an interval is expected in whole microseconds, got {nanoseconds} nanoseconds')
    return put_interval(
        out, nanoseconds // 1000, native_i32(self.data, 4 * i + 1), native_i32(self.data, 4 * i))


cdef dict FACTORS = {'s': 1_000_000, 'm': 1000, 'u': 1, 'n': 0}


def time_writer(form: str, target: str) -> Writer | None:
    """Return the writer of dates, times and intervals for a type of PostgreSQL; None if there is none.

    `target` of a timestamp is timestamp or timestamptz, whichever fits the time zone of the source.
    """
    cdef:
        FixedWriter writer = None
        put_t put = put_null
    if form in ('tdD', 'tdm'):
        if target == 'date':
            put = put_date32 if form == 'tdD' else put_date64
        elif target == 'timestamp':
            put = put_date_timestamp
        else:
            return None
        return fixed('i' if form == 'tdD' else 'l', target, put)
    if target == 'interval' and form in ('tiM', 'tiD', 'tin'):
        writer = fixed('i' if form == 'tiM' else 'l', target, put_months if form == 'tiM' else put_day_time)
        if form == 'tin':
            writer.put = put_month_day_nano
            writer.width = 16
        return writer
    if form.startswith('ts') and target == ('timestamp' if form[4:] == '' else 'timestamptz'):
        writer = fixed('l', target, put_timestamp)
    elif form.startswith('tt') and target == 'time':
        writer = fixed('i' if form in ('tts', 'ttm') else 'l', target, put_time)
    elif form.startswith('tD') and target == 'interval':
        writer = fixed('l', target, put_duration)
    if writer is not None:
        writer.factor = FACTORS[form[2]]
    return writer


# --- strings and bytes

cdef dict LAYOUTS = {
    'u': OFFSETS_32, 'z': OFFSETS_32, 'U': OFFSETS_64, 'Z': OFFSETS_64, 'vu': VIEWS, 'vz': VIEWS,
    '+l': OFFSETS_32, '+L': OFFSETS_64, '+vl': VIEWS_32, '+vL': VIEWS_64,
}


cdef class BytesWriter(Writer):
    """Strings and bytes."""

    cdef int bind(self, const ArrowArray *array) except -1:
        if self.layout == FIXED:
            self.buffers(array, 2, True)
            self.data = <const char *>array.buffers[1]
            if self.data == NULL and array.length > 0 and self.width > 0:
                malformed('the values of an array are missing')
            self.check_width(self.width)
            return 0
        self.buffers(array, 3, True)
        self.offsets = <const char *>array.buffers[1]
        if self.offsets == NULL and array.length > 0:
            malformed('the offsets of an array are missing')
        if self.layout == VIEWS:
            self.n_pieces = array.n_buffers - 3
            self.pieces = <const char **>array.buffers + 2
            self.sizes = <const char *>array.buffers[array.n_buffers - 1]
            if self.n_pieces and self.sizes == NULL:
                malformed('the sizes of the buffers of views are missing')
        else:
            self.data = <const char *>array.buffers[2]
        return 0

    cdef const char *bytes_at(self, int64_t i, Py_ssize_t *size) except NULL:
        """Return a value's bytes, and their number."""
        cdef:
            int64_t start, end
            const char *view
            int32_t piece
        i += self.offset
        if self.layout == OFFSETS_32:
            start = native_i32(self.offsets, i)
            end = native_i32(self.offsets, i + 1)
        elif self.layout == OFFSETS_64:
            start = native_i64(self.offsets, i)
            end = native_i64(self.offsets, i + 1)
        elif self.layout == FIXED:
            size[0] = self.width
            return self.data + i * self.width if self.width else NOTHING
        else:
            view = self.offsets + 16 * i
            size[0] = native_i32(view, 0)
            if size[0] < 0:
                malformed('a view has a negative length')
            if size[0] <= 12:
                return view + 4
            piece = native_i32(view, 2)
            start = native_i32(view, 3)
            if piece < 0 or piece >= self.n_pieces or start < 0 or start + size[0] > native_i64(self.sizes, piece):
                malformed('a view lies outside of its buffer')
            if self.pieces[piece] == NULL:
                malformed('a buffer of views is missing')
            return self.pieces[piece] + start
        if start < 0 or end < start:
            malformed('an offset is less than the one before it')
        size[0] = end - start
        if end == start:
            return NOTHING
        if self.data == NULL:
            malformed('the bytes of an array are missing')
        return self.data + start


cdef int put_plain(Writer self, WriteBuffer out, int64_t i) except -1:
    cdef:
        Py_ssize_t size = 0
        const char *data = (<BytesWriter>self).bytes_at(i, &size)
    return put_value(out, data, size)


cdef int has_nul(const char *data, Py_ssize_t size) except -1:
    raise NulError('PostgreSQL text cannot hold the NUL character (found at byte '
                   f'{<const char *>memchr(data, 0, <size_t>size) - data}): use bytea, or take it out')


cdef int put_text(Writer self, WriteBuffer out, int64_t i) except -1:
    cdef:
        Py_ssize_t size = 0
        const char *data = (<BytesWriter>self).bytes_at(i, &size)
    if memchr(data, 0, <size_t>size) != NULL:
        has_nul(data, size)
    return put_value(out, data, size)


cdef int put_versioned(Writer self, WriteBuffer out, int64_t i) except -1:
    """Write a text behind a byte with the version of its format, which is 1, as jsonb has it."""
    cdef:
        Py_ssize_t size = 0
        const char *data = (<BytesWriter>self).bytes_at(i, &size)
        char *at
    if memchr(data, 0, <size_t>size) != NULL:
        has_nul(data, size)
    if size >= 0x7fffffff:
        value_too_long(size)
    at = reserve(out, size + 5)
    store_u32(at, <uint32_t>size + 1)
    at[4] = 1
    memcpy(at + 5, data, <size_t>size)
    return 0


cdef int put_uuid(Writer self, WriteBuffer out, int64_t i) except -1:
    cdef:
        Py_ssize_t size = 0
        const char *data = (<BytesWriter>self).bytes_at(i, &size)
    if size != 16:
        raise ValueError(f'a uuid is expected to have 16 bytes, got {size}')
    return put_value(out, data, size)


cdef int put_text_form(Writer self, WriteBuffer out, int64_t i) except -1:
    """Write the value that a text stands for, by the codec of its type."""
    cdef:
        BytesWriter writer = <BytesWriter>self
        Py_ssize_t size = 0
        const char *data = writer.bytes_at(i, &size)
        object value = PyUnicode_DecodeUTF8(data, size, NULL)
    if writer.convert is not None:
        try:
            value = writer.convert(value)
        except (ValueError, TypeError) as error:
            raise ValueError(f'expected the text form of {self.target}, got {shown(value)}') from error
    return writer.codec.encode(writer.codec, out, value)


cdef int put_made(Writer self, WriteBuffer out, int64_t i) except -1:
    """Write the binary form that `convert` makes of a text."""
    cdef:
        BytesWriter writer = <BytesWriter>self
        Py_ssize_t size = 0
        const char *data = writer.bytes_at(i, &size)
        bytes made
    if memchr(data, 0, <size_t>size) != NULL:
        has_nul(data, size)
    text = PyUnicode_DecodeUTF8(data, size, NULL)
    try:
        made = writer.convert(text)
    except ValueError as error:
        raise ValueError(f'expected the text form of {self.target}, got {shown(text)} ({error})') from error
    return put_value(out, made, len(made))


cdef int put_interval_form(Writer self, WriteBuffer out, int64_t i) except -1:
    cdef:
        BytesWriter writer = <BytesWriter>self
        Py_ssize_t size = 0
        const char *data = writer.bytes_at(i, &size)
    months, days, microseconds = writer.convert(PyUnicode_DecodeUTF8(data, size, NULL))
    return put_interval(out, microseconds, days, months)


cdef int put_parsed(Writer self, WriteBuffer out, int64_t i) except -1:
    """Write the value that a text stands for: a codec in text reads it, the one in binary writes it."""
    cdef:
        BytesWriter writer = <BytesWriter>self
        Py_ssize_t size = 0
        const char *data = writer.bytes_at(i, &size)
        Codec reader = <Codec>writer.convert
    try:
        value = reader.decode(reader, data, size)
    except (ProtocolError, ValueError, TypeError) as error:
        text = PyUnicode_DecodeUTF8(data, size, b'replace')
        raise ValueError(f'expected the text form of {self.target}, got {shown(text)}') from error
    return writer.codec.encode(writer.codec, out, value)


def parsed_writer(form: str, target: str, Codec codec) -> Writer | None:
    """Return the writer of the text form of an array or a range by its codec, None if a codec cannot read that form."""
    cdef:
        BytesWriter writer
        Codec reader = text_variant(codec) if codec.format == 1 else None
    if reader is None:
        return None
    writer = bytes_writer(form, target, 'form', codec, reader)
    writer.put = put_parsed
    return writer


def bytes_writer(form: str, target: str, how: str, Codec codec=None, convert=None) -> Writer:
    """Return the writer of strings or bytes.

    `how`: plain writes the bytes as they are, text refuses the NUL character, versioned puts a 1 before the text,
    uuid expects 16 bytes, form reads the text form by `convert` and writes the value by `codec`, interval writes the
    numbers that `convert` returns, and made the bytes.
    """
    cdef BytesWriter writer = BytesWriter.__new__(BytesWriter)
    if form.startswith('w:'):
        writer.layout = FIXED
        writer.width = int(form[2:])
    else:
        writer.layout = LAYOUTS[form]
    writer.target = target
    writer.codec = codec
    writer.convert = convert
    if how == 'plain':
        writer.put = put_plain
    elif how == 'text':
        writer.put = put_text
    elif how == 'versioned':
        writer.put = put_versioned
    elif how == 'uuid':
        writer.put = put_uuid
    elif how == 'interval':
        writer.put = put_interval_form
    elif how == 'made':
        writer.put = put_made
    else:
        writer.put = put_text_form
    return writer


# --- lists

cdef class ListWriter(Writer):
    """Lists, as arrays or multiranges."""

    cdef int bind(self, const ArrowArray *array) except -1:
        cdef int count = 1 if self.layout == FIXED else 3 if self.layout in (VIEWS_32, VIEWS_64) else 2
        self.buffers(array, count, True)
        if array.n_children != 1 or array.children == NULL or array.children[0] == NULL:
            malformed('a list has no values')
        if self.layout != FIXED:
            self.offsets = <const char *>array.buffers[1]
            self.sizes = <const char *>array.buffers[2] if count == 3 else NULL
            if array.length > 0 and (self.offsets == NULL or (count == 3 and self.sizes == NULL)):
                malformed('the offsets of a list are missing')
        else:
            self.check_width(self.width)
        return self.child.bind(array.children[0])

    cdef int span(self, int64_t i, int64_t *start, int64_t *count) except -1:
        """Find the values of a list among those of all lists."""
        cdef int64_t end
        i += self.offset
        if self.layout == FIXED:
            start[0] = i * self.width
            count[0] = self.width
        elif self.layout == VIEWS_32:
            start[0] = native_i32(self.offsets, i)
            count[0] = native_i32(self.sizes, i)
        elif self.layout == VIEWS_64:
            start[0] = native_i64(self.offsets, i)
            count[0] = native_i64(self.sizes, i)
        else:
            if self.layout == OFFSETS_32:
                start[0] = native_i32(self.offsets, i)
                end = native_i32(self.offsets, i + 1)
            else:
                start[0] = native_i64(self.offsets, i)
                end = native_i64(self.offsets, i + 1)
            count[0] = end - start[0] if 0 <= start[0] <= end else -1
        if start[0] < 0 or count[0] < 0 or start[0] > self.child.length or count[0] > self.child.length - start[0]:
            malformed('a list lies outside of the values')
        if count[0] > 0x7fffffff:
            raise ValueError(f'too many elements in an array: {count[0]}')
        return 0


cdef struct shape:
    int dimensions
    bint nulls
    int32_t length[MAX_DIMENSIONS]
    int64_t at[MAX_DIMENSIONS]
    bint in_element


cdef int put_array(Writer self, WriteBuffer out, int64_t i) except -1:
    """Write an array, by array_recv() in the server's arrayfuncs.c. The first lists give the lengths of its dimensions."""
    cdef:
        ListWriter writer = <ListWriter>self
        ListWriter level = writer
        shape dims
        Py_ssize_t mark
        int64_t position = i
        int64_t start = 0
        int64_t count = 0
        int64_t total = 1
        int k
        char *at
    dims.dimensions = 0
    dims.nulls = False
    dims.in_element = False
    while True:
        level.span(position, &start, &count)
        dims.length[dims.dimensions] = <int32_t>count
        dims.dimensions += 1
        total *= count > 0
        if count == 0 or not level.nests:
            break
        level = <ListWriter>level.child
        position = start
        if is_null(level, position):
            null_dimension()
    mark = begin_length(out)
    at = reserve(out, 12 + 8 * dims.dimensions)
    store_u32(at, <uint32_t>dims.dimensions)
    store_u32(at + 8, writer.element)
    for k in range(dims.dimensions):
        store_u32(at + 12 + 8 * k, <uint32_t>dims.length[k])
        store_u32(at + 16 + 8 * k, <uint32_t>writer.lower)
    try:
        put_level(writer, out, i, &dims, 0)
    except (ValueError, OverflowError) as error:
        if not dims.in_element:
            raise
        where = ', '.join([str(dims.at[k]) for k in range(dims.dimensions)])
        raise nested(error, f'element {where}') from error
    if writer.lower == 0 and (total == 0 or dims.nulls):
        raise ValueError(f'expected one or more numbers and no NULL: {self.target} holds nothing else')
    if total == 0:
        # PostgreSQL has one empty array, without dimensions.
        out.length = mark + 12
        store_u32(out.data + mark, 0)
    store_u32(out.data + mark + 4, dims.nulls)
    return end_length(out, mark)


cdef inline bint put_present(Writer writer, WriteBuffer out, int64_t i) except -1:
    """Write the length and the value at a position, or -1 for NULL; returns whether there is a value."""
    cdef Py_ssize_t begin = out.length
    put_slot(writer, out, i)
    # A value may turn out to be NULL only when it is written, such as that of a dictionary.
    return load_i32(out.data + begin) != -1


cdef int put_level(ListWriter writer, WriteBuffer out, int64_t i, shape *dims, int level) except -1:
    """Write the elements of one list of the dimension `level`."""
    cdef:
        int64_t start = 0
        int64_t count = 0
        int64_t k
        bint present
        Writer child = writer.child
    writer.span(i, &start, &count)
    if count != dims.length[level]:
        raise ValueError(
            'the lists inside of a list are expected to have one length, because PostgreSQL\'s arrays are rectangular: '
            f'got {dims.length[level]} and {count}')
    if not writer.nests:
        for k in range(start, start + count):
            dims.at[level] = k - start
            dims.in_element = True
            present = put_present(child, out, k)
            dims.in_element = False
            if not present:
                dims.nulls = True
        return 0
    for k in range(start, start + count):
        dims.at[level] = k - start
        if is_null(child, k):
            null_dimension()
        put_level(<ListWriter>child, out, k, dims, level + 1)
    return 0


cdef int null_dimension() except -1:
    raise ValueError('a list inside of a list is NULL: PostgreSQL\'s arrays are rectangular, so use an empty one for all')


cdef object nested(object error, str where):
    """Return the error of a value inside of another one, with the place of it."""
    kind = OverflowError if isinstance(error, OverflowError) else NulError if isinstance(error, NulError) else ValueError
    return kind(f'{where}: {error}')


cdef int put_multirange(Writer self, WriteBuffer out, int64_t i) except -1:
    cdef:
        ListWriter writer = <ListWriter>self
        Py_ssize_t mark = begin_length(out)
        int64_t start = 0
        int64_t count = 0
        int64_t k
    writer.span(i, &start, &count)
    put_i32(out, <int32_t>count)
    for k in range(start, start + count):
        if not put_present(writer.child, out, k):
            raise ValueError(f'range {k - start} of a multirange is NULL')
    return end_length(out, mark)


def list_writer(form: str, target: str, Writer child, *, nests: bool, element: int, lower: int) -> Writer:
    """Return the writer of lists as an array of the type `element`.

    If the child `nests`, it is the writer of the next dimension. `lower` is the lower bound that is sent.
    """
    cdef ListWriter writer = ListWriter.__new__(ListWriter)
    if form.startswith('+w:'):
        writer.layout = FIXED
        writer.width = int(form[3:])
    else:
        writer.layout = LAYOUTS[form]
    writer.target = target
    writer.child = child
    writer.nests = nests
    writer.element = element
    writer.lower = lower
    writer.put = put_array
    return writer


def multirange_writer(form: str, target: str, Writer child) -> Writer:
    """Return the writer of lists of structs as multiranges."""
    cdef ListWriter writer = list_writer(form, target, child, nests=False, element=0, lower=1)
    writer.put = put_multirange
    return writer


cdef int put_vector(Writer self, WriteBuffer out, int64_t i) except -1:
    """Write a vector or halfvec of pgvector: the dimensions and an unused field of 16 bits each, and the numbers."""
    cdef:
        ListWriter writer = <ListWriter>self
        FixedWriter child = <FixedWriter>writer.child
        Py_ssize_t mark
        int64_t start = 0
        int64_t count = 0
        int64_t k
        double number
        float narrowed
        bint halves = child.scale
        int width = 2 if halves else 4
        char *at
    writer.span(i, &start, &count)
    if not 0 < count <= 0x7fff:
        raise ValueError(f'a {self.target} is expected to have 1 to {0x7fff} dimensions, got {count}')
    mark = begin_length(out)
    at = reserve(out, 4 + count * width)
    store_u16(at, <uint16_t>count)
    store_u16(at + 2, 0)
    at += 4
    for k in range(start, start + count):
        if is_null(child, k):
            raise ValueError(f'element {k - start} is NULL: a {self.target} has numbers alone')
        number = float_at(child, k)
        if halves:
            store_u16(at, native_u16(child.data, k) if child.kind == F16 else half(number))
        else:
            narrowed = <float>number
            if isinf(narrowed) and not isinf(number):
                raise OverflowError(f'element {k - start} is out of float4 range: {number}')
            store_f32(at, narrowed)
        at += width
    return end_length(out, mark)


cdef uint16_t half(double number) except? 0xffff:
    """Return the nearest number of 16 bits; raises OverflowError for one that becomes infinite."""
    return int.from_bytes(pack('>e', number), 'big')


def vector_writer(form: str, target: str, kind: str, halves: bool) -> Writer:
    """Return the writer of lists of floats as a vector of pgvector, or as a halfvec."""
    cdef:
        FixedWriter child = fixed(kind, target, put_null)
        ListWriter writer = list_writer(form, target, child, nests=False, element=0, lower=1)
    child.scale = halves
    writer.put = put_vector
    return writer


# --- structs

cdef class StructWriter(Writer):
    """Structs, as composites or ranges."""

    cdef int bind(self, const ArrowArray *array) except -1:
        cdef:
            Py_ssize_t k
            Py_ssize_t position
            const ArrowArray *child
        self.buffers(array, 1, True)
        for k in range(self.n_fields):
            if self.children[k] is None:
                continue
            position = self.positions[k]
            if position >= array.n_children or array.children == NULL or array.children[position] == NULL:
                malformed('a struct has fewer columns than its schema')
            child = array.children[position]
            if child.length < array.offset + array.length:
                malformed('a column of a struct is shorter than the struct')
            self.child(k).bind(child)
        return 0

    cdef Writer child(self, Py_ssize_t k):
        return <Writer>PyTuple_GET_ITEM(self.children, k)


cdef int put_composite(Writer self, WriteBuffer out, int64_t i) except -1:
    """Write a composite, by record_recv() in the server's rowtypes.c."""
    cdef:
        StructWriter writer = <StructWriter>self
        Py_ssize_t mark = begin_length(out)
        Py_ssize_t k = 0
        uint32_t oid
    put_i32(out, <int32_t>writer.n_fields)
    try:
        for k in range(writer.n_fields):
            oid = <object>PyTuple_GET_ITEM(writer.oids, k)
            put_i32(out, <int32_t>oid)
            if <object>PyTuple_GET_ITEM(writer.children, k) is None:
                put_i32(out, -1)
            else:
                put_slot(writer.child(k), out, writer.offset + i)
    except (ValueError, OverflowError) as error:
        raise nested(error, f'attribute {writer.names[k]!r}') from error
    return end_length(out, mark)


cdef int flag(StructWriter writer, Py_ssize_t k, int64_t i, bint otherwise) except -1:
    """Return the bool of a range; `otherwise` if the field is missing or NULL."""
    cdef Writer child
    if <object>PyTuple_GET_ITEM(writer.children, k) is None:
        return otherwise
    child = writer.child(k)
    return otherwise if is_null(child, writer.offset + i) else bit_at(child.data, child.offset + writer.offset + i)


cdef int put_range(Writer self, WriteBuffer out, int64_t i) except -1:
    """Write a range, by range_recv() in the server's rangetypes.c, from the fields lower, upper, lower_inc, upper_inc
    and empty. A bound that is NULL is infinite."""
    cdef:
        StructWriter writer = <StructWriter>self
        Py_ssize_t mark = begin_length(out)
        Py_ssize_t begin
        int flags
    put_byte(out, RANGE_EMPTY)
    if flag(writer, 4, i, False):
        return end_length(out, mark)
    flags = LOWER_INCLUSIVE if flag(writer, 2, i, True) else 0
    flags |= UPPER_INCLUSIVE if flag(writer, 3, i, False) else 0
    begin = out.length
    if not put_present(writer.child(0), out, writer.offset + i):
        out.length = begin
        flags = flags & ~LOWER_INCLUSIVE | LOWER_INFINITE
    begin = out.length
    if not put_present(writer.child(1), out, writer.offset + i):
        out.length = begin
        flags = flags & ~UPPER_INCLUSIVE | UPPER_INFINITE
    out.data[mark] = <char>flags
    return end_length(out, mark)


cdef StructWriter struct_writer(str target, tuple names, tuple children, tuple positions):
    cdef StructWriter writer = StructWriter.__new__(StructWriter)
    writer.target = target
    writer.names = names
    writer.children = children
    writer.positions = positions
    writer.n_fields = len(children)
    return writer


def composite_writer(target: str, names: tuple, oids: tuple, children: tuple, positions: tuple) -> Writer:
    """Return the writer of structs as a composite. A child that is None writes NULL; positions are in the struct."""
    cdef StructWriter writer = struct_writer(target, names, children, positions)
    writer.oids = oids
    writer.put = put_composite
    return writer


def range_writer(target: str, children: tuple, positions: tuple) -> Writer:
    """Return the writer of structs as a range: lower and upper, and lower_inc, upper_inc and empty, which may be None."""
    cdef StructWriter writer = struct_writer(target, (), children, positions)
    writer.put = put_range
    return writer


# --- maps

cdef int put_hstore(Writer self, WriteBuffer out, int64_t i) except -1:
    """Write an hstore, by hstore_recv() in its hstore_io.c. Of keys that are equal the server keeps one."""
    cdef:
        ListWriter writer = <ListWriter>self
        StructWriter pairs = <StructWriter>writer.child
        Py_ssize_t mark = begin_length(out)
        int64_t start = 0
        int64_t count = 0
        int64_t k
    writer.span(i, &start, &count)
    put_i32(out, <int32_t>count)
    for k in range(start, start + count):
        if not put_present(pairs.child(0), out, pairs.offset + k):
            raise ValueError(f'key {k - start} of a map is NULL')
        put_slot(pairs.child(1), out, pairs.offset + k)
    return end_length(out, mark)


def hstore_writer(target: str, Writer key, Writer value) -> Writer:
    """Return the writer of maps as hstores, by the writers of their texts."""
    cdef ListWriter writer = list_writer(
        '+l', target, struct_writer(target, (), (key, value), (0, 1)), nests=False, element=0, lower=1)
    writer.put = put_hstore
    return writer


# --- dictionaries and runs

cdef class DictionaryWriter(Writer):
    """Indexes into a dictionary, whose values are written."""

    cdef int bind(self, const ArrowArray *array) except -1:
        self.buffers(array, 2, True)
        if array.dictionary == NULL:
            malformed('a dictionary is missing')
        self.data = <const char *>array.buffers[1]
        if self.data == NULL and array.length > 0:
            malformed('the indexes of a dictionary are missing')
        return self.values.bind(array.dictionary)


cdef int64_t index_at(int kind, const char *data, int64_t i) noexcept:
    if kind == I32:
        return native_i32(data, i)
    if kind == I8:
        return native_i8(data, i)
    if kind == I16:
        return native_i16(data, i)
    if kind == U32:
        return native_u32(data, i)
    if kind == U8:
        return native_u8(data, i)
    if kind == U16:
        return native_u16(data, i)
    return native_i64(data, i)


cdef int put_indexed(Writer self, WriteBuffer out, int64_t i) except -1:
    cdef:
        DictionaryWriter writer = <DictionaryWriter>self
        int64_t index = index_at(writer.kind, writer.data, writer.offset + i)
    if index < 0 or index >= writer.values.length:
        malformed('an index lies outside of its dictionary')
    return put_slot(writer.values, out, index)


def dictionary_writer(kind: str, Writer values) -> Writer:
    """Return the writer of indexes of a kind into a dictionary."""
    cdef DictionaryWriter writer = DictionaryWriter.__new__(DictionaryWriter)
    writer.kind, writer.width = KINDS[kind]
    writer.values = values
    writer.target = values.target
    writer.put = put_indexed
    return writer


cdef class RunEndWriter(Writer):
    """Runs of equal values: where each ends, and its value."""

    cdef int bind(self, const ArrowArray *array) except -1:
        cdef:
            const ArrowArray *ends
        self.buffers(array, 0, False)
        if array.n_children != 2 or array.children == NULL or array.children[0] == NULL or array.children[1] == NULL:
            malformed('the runs of an array are missing')
        ends = array.children[0]
        if ends.length < 0 or ends.offset < 0 or ends.offset > MOST_VALUES - ends.length:
            malformed('a length or an offset is negative or too large')
        if ends.n_buffers < 2 or ends.buffers == NULL or (ends.length > 0 and ends.buffers[1] == NULL):
            malformed('the ends of the runs of an array are missing')
        self.runs = min(ends.length, array.children[1].length)
        self.run = 0
        self.data = <const char *>ends.buffers[1]
        if self.data != NULL:
            self.data += ends.offset * self.width
        return self.values.bind(array.children[1])


cdef int put_run(Writer self, WriteBuffer out, int64_t i) except -1:
    cdef:
        RunEndWriter writer = <RunEndWriter>self
        int64_t position = writer.offset + i
        int64_t low, high, middle
    if writer.run > 0 and position < index_at(writer.kind, writer.data, writer.run - 1):
        writer.run = 0
    if writer.run < writer.runs and position >= index_at(writer.kind, writer.data, writer.run):
        # It is mostly the next run; a slice may begin far away.
        writer.run += 1
        if writer.run < writer.runs and position >= index_at(writer.kind, writer.data, writer.run):
            low = writer.run
            high = writer.runs
            while low < high:
                middle = low + (high - low) // 2
                if position >= index_at(writer.kind, writer.data, middle):
                    low = middle + 1
                else:
                    high = middle
            writer.run = low
    if writer.run >= writer.runs:
        malformed('the runs of an array end before it')
    return put_slot(writer.values, out, writer.run)


def run_end_writer(kind: str, Writer values) -> Writer:
    """Return the writer of runs whose ends are of a kind of integers."""
    cdef RunEndWriter writer = RunEndWriter.__new__(RunEndWriter)
    writer.kind, writer.width = KINDS[kind]
    writer.values = values
    writer.target = values.target
    writer.put = put_run
    return writer
