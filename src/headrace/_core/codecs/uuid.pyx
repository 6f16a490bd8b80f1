"""uuid, in the format of uuid_send(): the 16 bytes in network order.

Decoding makes uuid.UUID objects by setting their slots: the constructor is Python code and takes ten times as long. If
the class has no such slots, the constructor is used.
"""

from uuid import UUID, SafeUUID

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_Check
from libc.string cimport memcpy

from headrace._core.wire.buffer cimport WriteBuffer, reserve, store_u32
from headrace._core.codecs.base cimport Codec, bad_length, scalar, wrong_type
from headrace._core.codecs.coercion cimport enum_value
from headrace._core.codecs.hexadecimal cimport hex_digit
from headrace._core.codecs.slots cimport load_u128, store_u128
from headrace._core.codecs.slots cimport slot_fill, slot_offset, slot_value, slotted_new
from headrace._core.codecs.text cimport utf8_of
from headrace.exceptions._values import shown

cdef:
    Py_ssize_t INT = slot_offset(UUID, 'int')
    Py_ssize_t IS_SAFE = slot_offset(UUID, 'is_safe')
    object UNKNOWN = SafeUUID.unknown
    bint slotted = INT > 0 and IS_SAFE > 0


cdef object decode_uuid(Codec codec, const char *data, Py_ssize_t size):
    cdef object value
    if size != 16:
        bad_length(codec, size, '16 bytes')
    if not slotted:
        return UUID(bytes=PyBytes_FromStringAndSize(data, 16))
    value = slotted_new(UUID)
    slot_fill(value, INT, load_u128(data))
    slot_fill(value, IS_SAFE, UNKNOWN)
    return value


cdef int encode_uuid(Codec codec, WriteBuffer out, object value) except -1:
    if type(value) is UUID and slotted:
        return write_uuid(out, slot_value(value, INT))
    value = enum_value(value)
    if isinstance(value, UUID):
        return write_uuid(out, value.int)
    if PyUnicode_Check(value):
        return encode_hex(out, value)
    wrong_type('UUID, or its text in a str', value)


cdef inline int write_uuid(WriteBuffer out, object number) except -1:
    cdef char *at = reserve(out, 20)
    store_u32(at, 16)
    return store_u128(at + 4, number)


cdef int encode_hex(WriteBuffer out, object value) except -1:
    """Write a UUID from 32 hexadecimal digits with or without hyphens between bytes; uuid.UUID reads other forms."""
    cdef:
        Py_ssize_t size = 0
        const char *text = utf8_of(value, &size)
        const char *end = text + size
        char data[16]
        char *at
        int count = 0, byte
    # The text ends with a NUL, which is no digit.
    while count < 16:
        byte = hex_digit(text[0])
        if byte >= 0:
            byte = byte << 4 | hex_digit(text[1])
        if byte < 0:
            break
        data[count] = <char>byte
        count += 1
        text += 2
        if text[0] == c'-' and count < 16:
            text += 1
    if count < 16 or text != end:
        return write_uuid(out, unusual(value))
    at = reserve(out, 20)
    store_u32(at, 16)
    memcpy(at + 4, data, 16)
    return 0


cdef object unusual(str text):
    try:
        return UUID(text).int
    except ValueError:
        raise ValueError(f'invalid UUID {shown(text)}: expected 32 hexadecimal digits') from None


cdef int _check_slots() except -1:
    """Use the slots only if an object made by them equals one made by the constructor."""
    global slotted
    cdef object usual = UUID(bytes=bytes(range(16))), made
    if slotted:
        made = decode_uuid(None, usual.bytes, 16)
        slotted = made == usual and made.is_safe is usual.is_safe and hash(made) == hash(usual)
    return 0


_check_slots()
scalar(2950, 'uuid', 'uuid.UUID', encode_uuid, decode_uuid)
