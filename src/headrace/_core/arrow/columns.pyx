"""Columns in Arrow's layout, to which values are added as they come from the server.

A column has up to three buffers, which grow by doubling: a bitmap of what is not NULL, made with the first NULL; offsets;
and values. Lists and structs have children. There is one function for each type that adds a value in its binary form, so
no Python object is made for a value. Lengths from the wire are checked before anything is read.

Text is checked to be UTF-8: libraries that take Arrow's data rely on it without a check of their own.

Source: Apache Arrow, "Arrow Columnar Format"; the binary forms are those of the send functions in the server's utils/adt.
"""

from libc.stdint cimport (
    INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t,
)
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from headrace._core.wire.buffer cimport load_i16, load_i32, load_i64, load_u16, load_u32, load_u64
from headrace._core.codecs.calendar cimport interval_text, timestamp_text

from headrace.exceptions import OutdatedSchemaCacheError, ProtocolError

cdef enum:
    # Multiples of eight.
    FIRST_CAPACITY = 64
    FIRST_NESTED = 16
    FIRST_BYTES = 1024

    # numeric.c
    NUMERIC_HEAD = 8
    POSITIVE = 0x0000
    NEGATIVE = 0x4000
    NAN = 0xC000
    PLUS_INFINITY = 0xD000
    MINUS_INFINITY = 0xF000
    MAX_SCALE = 16383

    # rangetypes.h
    RANGE_EMPTY = 0x01
    LOWER_INCLUSIVE = 0x02
    UPPER_INCLUSIVE = 0x04
    LOWER_INFINITE = 0x08
    UPPER_INFINITE = 0x10

    # The 32-bit digits of a decimal256.
    MOST_LIMBS = 8

cdef int64_t DAYS_TO_2000 = 10957
cdef int64_t MICROSECONDS_TO_2000 = 946684800000000
cdef int64_t DAY = 86400000000

cdef int64_t[19] POWERS
cdef int _power
POWERS[0] = 1
for _power in range(1, 19):
    POWERS[_power] = POWERS[_power - 1] * 10


# --- memory

cdef void *resized(void *memory, int64_t size) except NULL:
    cdef void *found = realloc(memory, <size_t>size)
    if found == NULL:
        raise MemoryError()
    return found


cdef int allocate(Column *column, int64_t capacity) except -1:
    """Have room for so many values: a multiple of eight."""
    cdef int64_t former = column.capacity
    if column.layout == FIXED:
        column.values = <char *>resized(column.values, capacity * column.width)
    elif column.layout == BITS:
        column.values = <char *>resized(column.values, capacity // 8)
        memset(column.values + former // 8, 0, <size_t>((capacity - former) // 8))
    elif column.layout == BYTES or column.layout == LISTED:
        column.offsets = <int32_t *>resized(column.offsets, (capacity + 1) * 4)
        if former == 0:
            column.offsets[0] = 0
    if column.layout == BYTES and column.values == NULL:
        column.values = <char *>resized(NULL, FIRST_BYTES)
        column.room = FIRST_BYTES
    if column.validity != NULL:
        column.validity = <unsigned char *>resized(column.validity, capacity // 8)
        memset(column.validity + former // 8, 0xff, <size_t>((capacity - former) // 8))
    column.capacity = capacity
    return 0


cdef int make_room(Column *column, int64_t size) except -1:
    """Have room for so many more bytes."""
    cdef int64_t room
    if column.used + size > INT32_MAX:
        raise OverflowError('the values of one chunk take more than 2 GB, which Arrow offsets of 32 bits cannot count')
    room = max(column.room * 2, column.used + size)
    column.values = <char *>resized(column.values, room)
    column.room = room
    return 0


cdef void free_column(Column *column) noexcept nogil:
    """Free all that a column has, but not the structure itself."""
    cdef int i
    free(column.values)
    free(column.offsets)
    free(column.validity)
    release_dictionary(column.dictionary)
    if column.children != NULL:
        for i in range(column.count):
            free_column(&column.children[i])
        free(column.children)
    column.values = NULL
    column.offsets = NULL
    column.validity = NULL
    column.dictionary = NULL
    column.children = NULL


cdef int clone(Column *column, Column *template, int64_t capacity) except -1:
    """Make an empty column like another one. On an error free_column() frees what there is."""
    cdef int i
    column[0] = template[0]
    column.values = NULL
    column.offsets = NULL
    column.validity = NULL
    column.dictionary = NULL
    column.children = NULL
    column.length = column.capacity = column.used = column.room = column.null_count = 0
    if template.count:
        column.children = <Column *>calloc(<size_t>template.count, sizeof(Column))
        if column.children == NULL:
            raise MemoryError()
        for i in range(template.count):
            clone(&column.children[i], &template.children[i], FIRST_NESTED if template.layout == LISTED else capacity)
    return allocate(column, capacity)


cdef Chunk *new_chunk(Column *template) except NULL:
    """Make an empty chunk, whose columns are like those of the template."""
    cdef Chunk *chunk = <Chunk *>calloc(1, sizeof(Chunk))
    if chunk == NULL:
        raise MemoryError()
    chunk.references = 1
    try:
        clone(&chunk.root, template, FIRST_CAPACITY)
    except BaseException:
        release_chunk(chunk)
        raise
    return chunk


cdef void release_chunk(Chunk *chunk) noexcept nogil:
    if count_down(&chunk.references):
        free_column(&chunk.root)
        free(chunk)


cdef int seal(Column *column) except -1:
    """Finish a column: give back memory that it does not need, and note the labels as they are now."""
    cdef:
        int i
        Dictionary *former = column.dictionary
    if column.labels != NULL:
        column.dictionary = (<Labels>column.labels).snapshot()
        release_dictionary(former)
    if column.layout == FIXED and column.capacity > 2 * FIRST_CAPACITY:
        column.values = <char *>resized(column.values, max(column.length, 1) * column.width)
    elif column.layout == BYTES and column.room > 2 * FIRST_BYTES:
        column.values = <char *>resized(column.values, max(column.used, 1))
    for i in range(column.count):
        seal(&column.children[i])
    return 0


cdef int64_t largest(Column *column) noexcept:
    """Return the bytes of the largest buffer of bytes."""
    cdef:
        int64_t found = column.used
        int i
    for i in range(column.count):
        found = max(found, largest(&column.children[i]))
    return found


cdef int64_t size_of(Column *column) noexcept:
    """Return the bytes that the values take."""
    cdef:
        int64_t size = 0
        int i
    if column.layout == FIXED:
        size = column.length * column.width
    elif column.layout == BITS:
        size = (column.length + 7) // 8
    elif column.layout != GROUPED:
        size = (column.length + 1) * 4 + column.used
    if column.validity != NULL:
        size += (column.length + 7) // 8
    for i in range(column.count):
        size += size_of(&column.children[i])
    return size


# --- labels

cdef void release_dictionary(Dictionary *dictionary) noexcept nogil:
    if dictionary != NULL and count_down(&dictionary.references):
        free(dictionary.offsets)
        free(dictionary.bytes)
        free(dictionary)


cdef class Labels:
    """The labels of an enumerated type, in its order; labels that were added to it since come last."""

    def __cinit__(self, labels=()):
        cdef bytes label
        self.slots = 64
        self.table = <int32_t *>calloc(<size_t>self.slots, 4)
        self.offsets = <int32_t *>calloc(33, 4)
        if self.table == NULL or self.offsets == NULL:
            raise MemoryError()
        self.capacity = 32
        for text in labels:
            label = text.encode()
            self.find(label, <int32_t>len(label))

    def __dealloc__(self):
        free(self.table)
        free(self.offsets)
        free(self.bytes)
        release_dictionary(self.latest)

    cdef int32_t find(self, const char *label, int32_t size) except -1:
        """Return the index of a label, which is added if it is new."""
        cdef:
            uint64_t at = hash_of(label, size)
            int32_t index
            int64_t room
        while True:
            at &= <uint64_t>(self.slots - 1)
            index = self.table[at]
            if index == 0:
                break
            index -= 1
            if self.offsets[index + 1] - self.offsets[index] == size \
                    and memcmp(self.bytes + self.offsets[index], label, <size_t>size) == 0:
                return index
            at += 1
        if not is_utf8(label, size):
            raise not_utf8(label, size)
        if self.used + size > INT32_MAX:
            raise ProtocolError('the labels of an enumerated type take more than 2 GB')
        if self.count == self.capacity:
            self.offsets = <int32_t *>resized(self.offsets, (2 * self.capacity + 1) * 4)
            self.capacity *= 2
        if self.used + size > self.room:
            room = max(2 * self.room, self.used + size + 64)
            self.bytes = <char *>resized(self.bytes, room)
            self.room = room
        memcpy(self.bytes + self.used, label, <size_t>size)
        self.used += size
        self.count += 1
        self.offsets[self.count] = <int32_t>self.used
        self.table[at] = <int32_t>self.count
        if 2 * self.count > self.slots:
            self._rehash()
        return <int32_t>(self.count - 1)

    cdef int _rehash(self) except -1:
        cdef:
            int64_t slots = 2 * self.slots
            int32_t *table = <int32_t *>calloc(<size_t>slots, 4)
            uint64_t at
            int64_t i
        if table == NULL:
            raise MemoryError()
        for i in range(self.count):
            at = hash_of(self.bytes + self.offsets[i], self.offsets[i + 1] - self.offsets[i]) & <uint64_t>(slots - 1)
            while table[at]:
                at = (at + 1) & <uint64_t>(slots - 1)
            table[at] = <int32_t>(i + 1)
        free(self.table)
        self.table = table
        self.slots = slots
        return 0

    cdef Dictionary *snapshot(self) except NULL:
        """Return the labels as they are now: a new reference."""
        cdef Dictionary *made
        if self.latest == NULL or self.latest.count != self.count:
            made = <Dictionary *>calloc(1, sizeof(Dictionary))
            if made == NULL:
                raise MemoryError()
            made.references = 1
            made.offsets = <int32_t *>malloc(<size_t>(self.count + 1) * 4)
            made.bytes = <char *>malloc(<size_t>(self.used + 1))
            if made.offsets == NULL or made.bytes == NULL:
                release_dictionary(made)
                raise MemoryError()
            made.count = self.count
            memcpy(made.offsets, self.offsets, <size_t>(self.count + 1) * 4)
            if self.used:
                memcpy(made.bytes, self.bytes, <size_t>self.used)
            release_dictionary(self.latest)
            self.latest = made
        count_up(&self.latest.references)
        return self.latest


cdef uint64_t hash_of(const char *data, int64_t size) noexcept:
    cdef:
        uint64_t found = 14695981039346656037U
        int64_t i
    for i in range(size):
        found = (found ^ <uint8_t>data[i]) * 1099511628211U
    return found ^ (found >> 29)


# --- errors

cdef str name_of(Column *column):
    return (<object>column.field).type_name


cdef int bad_length(Column *column, int64_t size, str expected) except -1:
    raise ProtocolError(f'a {name_of(column)} value of {size} bytes from the server: expected {expected}')


cdef int cut_short(Column *column) except -1:
    raise ProtocolError(f'a {name_of(column)} value from the server is cut short')


cdef int bad_field(Column *column, int32_t length, int64_t left) except -1:
    raise ProtocolError(f'a {name_of(column)} value from the server with a part of {length} bytes, but only {left} are left')


cdef object not_utf8(const char *text, int64_t size):
    cdef bytes start = text[:min(size, 40)]
    return ValueError(f'the text {start!r} is not UTF-8, as happens in a SQL_ASCII database: cast it to bytea, or convert '
                      "it with convert_from(value::bytea, 'LATIN1')")


cdef int no_place(Column *column, str shown) except -1:
    """A value that the type has no place for: NULL, or an error."""
    if column.policy != REFUSE:
        return append_null(column)
    raise ValueError(f'{shown} does not fit {(<object>column.field).arrow_name}')


# --- adding values

cdef inline int grow(Column *column) except -1:
    if column.length == column.capacity:
        allocate(column, 2 * column.capacity)
    return 0


cdef int append_null(Column *column) except -1:
    cdef int i
    grow(column)
    if column.validity == NULL:
        column.validity = <unsigned char *>resized(NULL, column.capacity // 8)
        memset(column.validity, 0xff, <size_t>(column.capacity // 8))
    column.validity[column.length >> 3] &= ~(<unsigned char>1 << (column.length & 7))
    if column.layout == FIXED:
        memset(column.values + column.length * column.width, 0, <size_t>column.width)
    elif column.layout == BYTES or column.layout == LISTED:
        column.offsets[column.length + 1] = column.offsets[column.length]
    elif column.layout == GROUPED:
        for i in range(column.count):
            append_null(&column.children[i])
    column.length += 1
    column.null_count += 1
    return 0


cdef int append_bool(Column *column, const char *data, int32_t size) except -1:
    if size != 1:
        bad_length(column, size, '1 byte')
    put_bit(column, data[0] != 0)
    return 0


cdef inline int put_bit(Column *column, bint value) except -1:
    grow(column)
    if value:
        (<unsigned char *>column.values)[column.length >> 3] |= <unsigned char>1 << (column.length & 7)
    column.length += 1
    return 0


cdef int append_2(Column *column, const char *data, int32_t size) except -1:
    if size != 2:
        bad_length(column, size, '2 bytes')
    grow(column)
    (<uint16_t *>column.values)[column.length] = load_u16(data)
    column.length += 1
    return 0


cdef int append_4(Column *column, const char *data, int32_t size) except -1:
    if size != 4:
        bad_length(column, size, '4 bytes')
    grow(column)
    (<uint32_t *>column.values)[column.length] = load_u32(data)
    column.length += 1
    return 0


cdef int append_8(Column *column, const char *data, int32_t size) except -1:
    if size != 8:
        bad_length(column, size, '8 bytes')
    grow(column)
    (<uint64_t *>column.values)[column.length] = load_u64(data)
    column.length += 1
    return 0


cdef int append_uuid(Column *column, const char *data, int32_t size) except -1:
    if size != 16:
        bad_length(column, size, '16 bytes')
    grow(column)
    memcpy(column.values + 16 * column.length, data, 16)
    column.length += 1
    return 0


cdef int append_bytes(Column *column, const char *data, int32_t size) except -1:
    grow(column)
    if column.room - column.used < size:
        make_room(column, size)
    memcpy(column.values + column.used, data, <size_t>size)
    column.used += size
    column.length += 1
    column.offsets[column.length] = <int32_t>column.used
    return 0


cdef int append_text(Column *column, const char *data, int32_t size) except -1:
    if not is_utf8(data, size):
        raise not_utf8(data, size)
    return append_bytes(column, data, size)


cdef int append_jsonb(Column *column, const char *data, int32_t size) except -1:
    if size < 1 or data[0] != 1:
        raise ProtocolError('a jsonb value from the server in another version than 1')
    return append_text(column, data + 1, size - 1)


cdef int append_char(Column *column, const char *data, int32_t size) except -1:
    """Add a "char" as charout() of PostgreSQL 16 prints it: nothing for 0, and an escape above ASCII."""
    cdef:
        char[4] escaped
        unsigned char byte
    if size != 1:
        bad_length(column, size, '1 byte')
    byte = <unsigned char>data[0]
    if byte == 0:
        return append_bytes(column, data, 0)
    if byte < 0x80:
        return append_bytes(column, data, 1)
    escaped[0] = c'\\'
    escaped[1] = c'0' + (byte >> 6)
    escaped[2] = c'0' + (byte >> 3 & 7)
    escaped[3] = c'0' + (byte & 7)
    return append_bytes(column, escaped, 4)


cdef int append_enum(Column *column, const char *data, int32_t size) except -1:
    cdef int32_t index = (<Labels>column.labels).find(data, size)
    grow(column)
    (<int32_t *>column.values)[column.length] = index
    column.length += 1
    return 0


# --- dates and times

cdef inline int put_8(Column *column, int64_t value) except -1:
    grow(column)
    (<int64_t *>column.values)[column.length] = value
    column.length += 1
    return 0


cdef int append_date(Column *column, const char *data, int32_t size) except -1:
    cdef int64_t days
    if size != 4:
        bad_length(column, size, '4 bytes')
    days = load_i32(data)
    if days == INT32_MAX or days == INT32_MIN or days + DAYS_TO_2000 > INT32_MAX:
        if column.policy != SATURATE:
            return no_place(column, 'the date -infinity' if days == INT32_MIN else 'the date infinity')
        days = INT32_MIN if days == INT32_MIN else INT32_MAX
    else:
        days += DAYS_TO_2000
    grow(column)
    (<int32_t *>column.values)[column.length] = <int32_t>days
    column.length += 1
    return 0


cdef int append_timestamp(Column *column, const char *data, int32_t size) except -1:
    cdef:
        int64_t value
        str shown
    if size != 8:
        bad_length(column, size, '8 bytes')
    value = load_i64(data)
    if value > INT64_MAX - MICROSECONDS_TO_2000 or value == INT64_MIN:
        if column.policy != SATURATE:
            shown = 'infinity' if value == INT64_MAX else '-infinity' if value == INT64_MIN else timestamp_text(value, '')
            return no_place(column, f'the timestamp {shown}')
        return put_8(column, INT64_MIN if value == INT64_MIN else INT64_MAX)
    return put_8(column, value + MICROSECONDS_TO_2000)


cdef int append_time(Column *column, const char *data, int32_t size) except -1:
    cdef int64_t value
    if size != 8:
        bad_length(column, size, '8 bytes')
    value = load_i64(data)
    if value < 0 or value > DAY:
        raise ProtocolError(f'a time value from the server of {value} microseconds')
    if value == DAY:
        if column.policy != SATURATE:
            return no_place(column, 'the time 24:00:00')
        value = DAY - 1
    return put_8(column, value)


cdef int append_interval(Column *column, const char *data, int32_t size) except -1:
    """Add an interval: months and days of 32 bits, and nanoseconds of 64."""
    cdef:
        int64_t microseconds
        int32_t days, months
        char *at
    if size != 16:
        bad_length(column, size, '16 bytes')
    microseconds = load_i64(data)
    days = load_i32(data + 8)
    months = load_i32(data + 12)
    if microseconds > INT64_MAX // 1000 or microseconds < INT64_MIN // 1000:
        # Those of infinity are the largest there are.
        if column.policy != SATURATE:
            if months == INT32_MAX and days == INT32_MAX and microseconds == INT64_MAX:
                return no_place(column, 'the interval infinity')
            if months == INT32_MIN and days == INT32_MIN and microseconds == INT64_MIN:
                return no_place(column, 'the interval -infinity')
            return no_place(column, f'the interval {interval_text(months, days, microseconds)}')
        microseconds = INT64_MAX if microseconds > 0 else INT64_MIN
    else:
        microseconds *= 1000
    grow(column)
    at = column.values + 16 * column.length
    memcpy(at, &months, 4)
    memcpy(at + 4, &days, 4)
    memcpy(at + 8, &microseconds, 8)
    column.length += 1
    return 0


# --- numeric

cdef struct Numeric:
    int count
    int weight
    bint negative
    int scale
    const char *digits


cdef uint16_t numeric_head(Column *column, const char *data, int32_t size, Numeric *number) except 1:
    """Read the header and check the value; returns its sign, or what it is instead of a number."""
    cdef:
        uint16_t sign
        int i
    if size < NUMERIC_HEAD:
        bad_length(column, size, 'at least 8 bytes')
    number.count = load_u16(data)
    number.weight = load_i16(data + 2)
    sign = load_u16(data + 4)
    number.scale = load_u16(data + 6)
    number.digits = data + NUMERIC_HEAD
    if size != NUMERIC_HEAD + 2 * number.count:
        bad_length(column, size, f'{NUMERIC_HEAD + 2 * number.count} bytes for {number.count} digits')
    if sign == NAN or sign == PLUS_INFINITY or sign == MINUS_INFINITY:
        return sign
    if (sign != POSITIVE and sign != NEGATIVE) or number.scale > MAX_SCALE:
        raise ProtocolError(f'a numeric value with sign {sign:#06x} and scale {number.scale} from the server')
    number.negative = sign == NEGATIVE
    for i in range(number.count):
        if load_u16(number.digits + 2 * i) > 9999:
            raise ProtocolError('a numeric value with a digit above 9999 in base 10000 from the server')
    while number.count > 0 and load_u16(number.digits) == 0:
        number.digits += 2
        number.count -= 1
        number.weight -= 1
    return sign


cdef inline int digit_at(Numeric *number, int i) noexcept:
    """Return a digit in base 10000; those that were left out on either side are zero."""
    return load_u16(number.digits + 2 * i) if 0 <= i < number.count else 0


cdef inline void multiply_add(uint32_t *limbs, int count, uint32_t factor, uint32_t summand) noexcept:
    cdef:
        uint64_t carry = summand
        int i
    for i in range(count):
        carry += <uint64_t>limbs[i] * factor
        limbs[i] = <uint32_t>carry
        carry >>= 32


cdef int put_decimal(Column *column, uint32_t *limbs, bint negative) except -1:
    """Add a number, which has no sign so far."""
    cdef:
        int count = column.width // 4
        uint64_t carry = 1
        int i
    if negative:
        for i in range(count):
            carry += <uint32_t>(~limbs[i])
            limbs[i] = <uint32_t>carry
            carry >>= 32
    grow(column)
    store_integer(column.values + column.length * column.width, limbs, count)
    column.length += 1
    return 0


cdef int saturated_decimal(Column *column, bint negative) except -1:
    """Add the number with the largest absolute value that the type holds."""
    cdef:
        uint32_t[MOST_LIMBS] limbs
        int i
    memset(limbs, 0, sizeof(limbs))
    for i in range(column.precision):
        multiply_add(limbs, column.width // 4, 10, 9)
    return put_decimal(column, limbs, negative)


cdef bint exceeds(Column *column, uint32_t *limbs) noexcept:
    """Return whether a number that has been rounded up has one digit too many now."""
    cdef:
        uint32_t[MOST_LIMBS] limit
        int count = column.width // 4
        int i
    memset(limit, 0, sizeof(limit))
    limit[0] = 1
    for i in range(column.precision):
        multiply_add(limit, count, 10, 0)
    return memcmp(limit, limbs, <size_t>(4 * count)) == 0


cdef int append_decimal(Column *column, const char *data, int32_t size) except -1:
    """Add a numeric as a whole number of units of its scale. Digits behind that are rounded, as by a cast in the server."""
    cdef:
        Numeric number
        uint32_t[MOST_LIMBS] limbs
        uint16_t sign = numeric_head(column, data, size, &number)
        int count = column.width // 4
        int scale = column.scale
        int before = 0
        int groups, part, first, dropped, i
        int64_t value = 0
        bint up = False
    if sign == NAN:
        return no_place(column, 'NaN')
    if sign == PLUS_INFINITY or sign == MINUS_INFINITY:
        if column.policy == SATURATE:
            return saturated_decimal(column, sign == MINUS_INFINITY)
        return no_place(column, 'Infinity' if sign == PLUS_INFINITY else '-Infinity')
    if number.count > 0 and number.weight >= 0:
        first = digit_at(&number, 0)
        before = 4 * number.weight + (1 if first < 10 else 2 if first < 100 else 3 if first < 1000 else 4)
    if before > column.precision - scale:
        if column.policy == SATURATE:
            return saturated_decimal(column, number.negative)
        return no_place(column, f'the number {numeric_text(&number)}')
    # Groups of four digits that are taken whole, and how many digits of the next one.
    groups = number.weight + 1 + scale // 4
    part = scale % 4
    dropped = digit_at(&number, groups)
    if part:
        up = dropped % POWERS[4 - part] >= 5 * POWERS[3 - part]
        dropped //= <int>POWERS[4 - part]
    else:
        up = dropped >= 5000
    if before + scale <= 18:
        for i in range(min(groups, number.count)):
            value = value * 10000 + digit_at(&number, i)
        if groups > number.count:
            value *= POWERS[4 * (groups - number.count)] if number.count > 0 else 0
        value = value * POWERS[part] + (dropped if part else 0) + up
        if up and value >= POWERS[min(column.precision, 18)] and column.precision <= 18:
            return too_long(column, &number)
        memset(limbs, 0, sizeof(limbs))
        limbs[0] = <uint32_t>value
        limbs[1] = <uint32_t>(value >> 32)
        return put_decimal(column, limbs, number.negative)
    memset(limbs, 0, sizeof(limbs))
    for i in range(groups):
        multiply_add(limbs, count, 10000, <uint32_t>digit_at(&number, i))
    if part:
        multiply_add(limbs, count, <uint32_t>POWERS[part], <uint32_t>dropped)
    if up:
        multiply_add(limbs, count, 1, 1)
        if exceeds(column, limbs):
            return too_long(column, &number)
    return put_decimal(column, limbs, number.negative)


cdef int too_long(Column *column, Numeric *number) except -1:
    """A number has one digit too many once it is rounded."""
    if column.policy == SATURATE:
        return saturated_decimal(column, number.negative)
    return no_place(column, f'the number {numeric_text(number)}')


cdef int append_numeric(Column *column, const char *data, int32_t size) except -1:
    """Add a numeric as text, as numeric_out() prints it."""
    cdef:
        Numeric number
        uint16_t sign = numeric_head(column, data, size, &number)
        int64_t length
        int written
    if sign == NAN:
        return append_bytes(column, b'NaN', 3)
    if sign == PLUS_INFINITY:
        return append_bytes(column, b'Infinity', 8)
    if sign == MINUS_INFINITY:
        return append_bytes(column, b'-Infinity', 9)
    length = longest_text(&number)
    grow(column)
    if column.room - column.used < length:
        make_room(column, length)
    written = write_numeric(column.values + column.used, &number)
    column.used += written
    column.length += 1
    column.offsets[column.length] = <int32_t>column.used
    return 0


cdef int64_t longest_text(Numeric *number) noexcept:
    return 8 + 4 * <int64_t>max(number.weight + 1, 1) + number.scale


cdef str numeric_text(Numeric *number):
    """Return the start of a number's text, for an error."""
    cdef:
        bytes text = bytes(longest_text(number))
        int size = write_numeric(<char *>text, number)
    return text[:size].decode() if size <= 60 else f'{text[:57].decode()}...'


cdef int write_numeric(char *start, Numeric *number) noexcept:
    """Write the text of a number, as get_str_from_var() in the server does; returns its length."""
    cdef:
        char *at = start
        int i, j, digit
        int left = number.scale
        char[4] four
        bint leading = True
    if number.negative and number.count > 0:
        at[0] = c'-'
        at += 1
    for i in range(number.weight + 1):
        digit = digit_at(number, i)
        four_digits(four, digit)
        for j in range(4):
            if leading and four[j] == c'0':
                continue
            leading = False
            at[0] = four[j]
            at += 1
    if leading:
        at[0] = c'0'
        at += 1
    if left > 0:
        at[0] = c'.'
        at += 1
        i = 0
        while left > 0:
            digit = digit_at(number, number.weight + 1 + i)
            four_digits(four, digit)
            for j in range(min(left, 4)):
                at[0] = four[j]
                at += 1
            left -= 4
            i += 1
    return <int>(at - start)


cdef inline void four_digits(char *at, int digit) noexcept:
    at[0] = c'0' + digit // 1000
    at[1] = c'0' + digit // 100 % 10
    at[2] = c'0' + digit // 10 % 10
    at[3] = c'0' + digit % 10


# --- types with parts

cdef inline int append_part(Column *column, Column *child, const char **cursor, const char *end) except -1:
    """Add a part that has its length in front: an element, an attribute or a bound."""
    cdef:
        const char *data = cursor[0]
        int32_t length
    if end - data < 4:
        cut_short(column)
    length = load_i32(data)
    data += 4
    if length < 0:
        if length != -1:
            bad_field(column, length, end - data)
        append_null(child)
    else:
        if end - data < length:
            bad_field(column, length, end - data)
        child.append(child, data, length)
        data += length
    cursor[0] = data
    return 0


cdef inline int end_list(Column *column) except -1:
    grow(column)
    column.length += 1
    column.offsets[column.length] = <int32_t>column.children[0].length
    return 0


cdef int append_array(Column *column, const char *data, int32_t size) except -1:
    """Add an array of one dimension, whatever its lower bound, or an empty one."""
    cdef:
        const char *end = data + size
        Column *child = &column.children[0]
        int32_t dimensions, length, i
    if size < 12:
        bad_length(column, size, 'at least 12 bytes')
    dimensions = load_i32(data)
    if dimensions < 0 or dimensions > 6:
        raise ProtocolError(f'a {name_of(column)} value with {dimensions} dimensions from the server')
    if load_u32(data + 8) != child.oid:
        raise ProtocolError(f'a {name_of(column)} value from the server with elements of OID {load_u32(data + 8)}, '
                            f'not {child.oid}')
    data += 12
    if end - data < 8 * dimensions:
        cut_short(column)
    if dimensions > 1:
        return no_place(column, f'an array of {dimensions} dimensions')
    if dimensions == 1:
        length = load_i32(data)
        data += 8
        if length < 0 or length > (end - data) // 4:
            raise ProtocolError(f'a {name_of(column)} value of {size} bytes from the server cannot hold {length} elements')
        if child.length + length > INT32_MAX:
            raise OverflowError('the lists of one chunk have too many elements for Arrow offsets of 32 bits')
        for i in range(length):
            append_part(column, child, &data, end)
    if data != end:
        raise ProtocolError(f'a {name_of(column)} value from the server has {end - data} bytes too many')
    return end_list(column)


cdef int append_multirange(Column *column, const char *data, int32_t size) except -1:
    cdef:
        const char *end = data + size
        Column *child = &column.children[0]
        int32_t length, i
    if size < 4:
        bad_length(column, size, 'at least 4 bytes')
    length = load_i32(data)
    data += 4
    if length < 0 or length > (end - data) // 4:
        raise ProtocolError(f'a {name_of(column)} value of {size} bytes from the server cannot hold {length} ranges')
    for i in range(length):
        append_part(column, child, &data, end)
    if data != end:
        raise ProtocolError(f'a {name_of(column)} value from the server has {end - data} bytes too many')
    return end_list(column)


cdef int append_range(Column *column, const char *data, int32_t size) except -1:
    """Add a range: its bounds, NULL for none, and whether it includes them and is empty."""
    cdef:
        const char *end = data + size
        int flags
    if size < 1:
        bad_length(column, size, 'at least 1 byte')
    flags = <unsigned char>data[0]
    data += 1
    if flags & (RANGE_EMPTY | LOWER_INFINITE):
        append_null(&column.children[0])
    else:
        append_part(column, &column.children[0], &data, end)
    if flags & (RANGE_EMPTY | UPPER_INFINITE):
        append_null(&column.children[1])
    else:
        append_part(column, &column.children[1], &data, end)
    if data != end:
        raise ProtocolError(f'a {name_of(column)} value from the server has {end - data} bytes too many')
    put_bit(&column.children[2], flags & LOWER_INCLUSIVE != 0)
    put_bit(&column.children[3], flags & UPPER_INCLUSIVE != 0)
    put_bit(&column.children[4], flags & RANGE_EMPTY != 0)
    grow(column)
    column.length += 1
    return 0


cdef int append_composite(Column *column, const char *data, int32_t size) except -1:
    cdef:
        const char *end = data + size
        int32_t count, i
    if size < 4:
        bad_length(column, size, 'at least 4 bytes')
    count = load_i32(data)
    data += 4
    if count < 0 or count > (end - data) // 8:
        raise ProtocolError(f'a {name_of(column)} value of {size} bytes from the server cannot hold {count} columns')
    if count != column.count:
        outdated(column, f'expected {column.count} attributes, the server sent {count}')
    for i in range(count):
        if end - data < 4:
            cut_short(column)
        if load_u32(data) != column.children[i].oid:
            outdated(column, f'attribute {(<object>column.children[i].field).name!r} is now of the type with OID '
                             f'{load_u32(data)}')
        data += 4
        append_part(column, &column.children[i], &data, end)
    if data != end:
        raise ProtocolError(f'a {name_of(column)} value from the server has {end - data} bytes too many')
    grow(column)
    column.length += 1
    return 0


cdef int outdated(Column *column, str what) except -1:
    error = OutdatedSchemaCacheError(
        f'the composite type {name_of(column)} has been altered: {what}; it is looked up when the query is run again',
        data_type=name_of(column))
    error.type_oid = column.oid
    raise error


# --- which column a field gets

cdef struct Kind:
    append_t append
    Layout layout
    int width


cdef int kind_of(str name, Kind *kind) except -1:
    """Find the function and the layout for a kind of field (schema.py)."""
    kind.layout = FIXED
    kind.width = 0
    if name == 'bool':
        kind.append, kind.layout = append_bool, BITS
    elif name == 'fixed2':
        kind.append, kind.width = append_2, 2
    elif name == 'fixed4':
        kind.append, kind.width = append_4, 4
    elif name == 'fixed8':
        kind.append, kind.width = append_8, 8
    elif name == 'uuid':
        kind.append, kind.width = append_uuid, 16
    elif name == 'date':
        kind.append, kind.width = append_date, 4
    elif name == 'timestamp':
        kind.append, kind.width = append_timestamp, 8
    elif name == 'time':
        kind.append, kind.width = append_time, 8
    elif name == 'interval':
        kind.append, kind.width = append_interval, 16
    elif name == 'decimal128':
        kind.append, kind.width = append_decimal, 16
    elif name == 'decimal256':
        kind.append, kind.width = append_decimal, 32
    elif name == 'enum':
        kind.append, kind.width = append_enum, 4
    elif name == 'text':
        kind.append, kind.layout = append_text, BYTES
    elif name == 'bytes':
        kind.append, kind.layout = append_bytes, BYTES
    elif name == 'jsonb':
        kind.append, kind.layout = append_jsonb, BYTES
    elif name == 'char':
        kind.append, kind.layout = append_char, BYTES
    elif name == 'numeric':
        kind.append, kind.layout = append_numeric, BYTES
    elif name == 'array':
        kind.append, kind.layout = append_array, LISTED
    elif name == 'multirange':
        kind.append, kind.layout = append_multirange, LISTED
    elif name == 'range':
        kind.append, kind.layout = append_range, GROUPED
    elif name == 'composite':
        kind.append, kind.layout = append_composite, GROUPED
    else:
        raise ValueError(f'no column for a field of kind {name!r}')
    return 0


cdef int shape_column(Column *column, object field, Policy policy, dict labels) except -1:
    """Give a column, which is all zero, the shape of a field. It has no buffers: it is the model for others.

    `labels` has the Labels of each enumerated type by its OID. On an error free_column() frees what there is.
    """
    cdef:
        Kind kind
        int i = 0
    kind_of(field.kind, &kind)
    column.append = kind.append
    column.layout = kind.layout
    column.width = kind.width
    column.policy = policy
    column.precision = field.precision
    column.scale = field.scale
    column.oid = field.oid
    column.field = <void *>field
    if kind.append == append_enum:
        if field.oid not in labels:
            labels[field.oid] = Labels(field.labels)
        column.labels = <void *>labels[field.oid]
    if field.children:
        column.children = <Column *>calloc(<size_t>len(field.children), sizeof(Column))
        if column.children == NULL:
            raise MemoryError()
        column.count = <int>len(field.children)
        for child in field.children:
            shape_column(&column.children[i], child, policy, labels)
            i += 1
    return 0
