"""inet and cidr, in the format of inet_send() and inet_recv() in utils/adt/network.c.

A value is the address family, the number of network bits, whether it is a cidr, the number of address bytes,
and the address. An inet whose network is the single address becomes an IPv4Address or IPv6Address, any other
an Interface; a cidr is always a Network.
"""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from ipaddress import ip_interface, ip_network

from cpython.long cimport PyLong_AsUnsignedLong
from cpython.unicode cimport PyUnicode_Check
from libc.stdint cimport uint32_t
from libc.string cimport memchr, memcpy

from headrace.exceptions import ProtocolError

from headrace._core.wire.buffer cimport WriteBuffer, reserve, store_u32
from headrace._core.codecs.addresses cimport make_address, make_interface, make_network, number_of
from headrace._core.codecs.base cimport Codec, bad_length, scalar, wrong_type
from headrace._core.codecs.coercion cimport enum_value
from headrace._core.codecs.slots cimport store_u128
from headrace._core.codecs.text cimport utf8_of

cdef extern from 'platform.h' nogil:
    int AF_INET
    int AF_INET6
    int inet_pton(int family, const char *text, void *address)

cdef enum:
    HEAD = 4
    INET = 2    # PGSQL_AF_INET and PGSQL_AF_INET6, which are the same on every operating system
    INET6 = 3


# From the server

cdef int check_head(Codec codec, const char *data, Py_ssize_t size) except -1:
    """Check the header and the length of a value; return the number of address bytes, 4 or 16."""
    cdef int family, bits, count
    if size < HEAD:
        bad_length(codec, size, 'at least 4 bytes')
    family = <unsigned char>data[0]
    bits = <unsigned char>data[1]
    count = <unsigned char>data[3]
    if count != (4 if family == INET else 16 if family == INET6 else 0) or bits > 8 * count:
        raise ProtocolError(
            f'a {codec.name} value of family {family} with {bits} bits and {count} bytes from the server')
    if size != HEAD + count:
        bad_length(codec, size, f'{HEAD + count} bytes')
    return count


cdef object decode_inet(Codec codec, const char *data, Py_ssize_t size):
    cdef int count = check_head(codec, data, size)
    cdef int bits = <unsigned char>data[1]
    if bits == 8 * count:
        return make_address(data + HEAD, count)
    return make_interface(data + HEAD, count, bits)


cdef object decode_cidr(Codec codec, const char *data, Py_ssize_t size):
    cdef int count = check_head(codec, data, size)
    cdef int bits = <unsigned char>data[1]
    if not ends_in_zeros(data + HEAD, count, bits):  # the server accepts no such cidr
        raise ProtocolError(f'a cidr value with bits set behind its {bits} network bits from the server')
    return make_network(data + HEAD, count, bits)


cdef bint ends_in_zeros(const char *address, int count, int bits) noexcept:
    """Return whether all bits after the network part of the address are zero."""
    cdef int index
    for index in range(count):
        if bits < 8:
            if address[index] & (0xff >> bits):
                return False
            bits = 0
        else:
            bits -= 8
    return True


# To the server

cdef char *start(WriteBuffer out, int count, int bits, bint is_cidr) except NULL:
    """Write the header, and return the position of the `count` bytes of the address."""
    cdef char *at = reserve(out, 4 + HEAD + count)
    store_u32(at, HEAD + count)
    at[4] = INET if count == 4 else INET6
    at[5] = <char>bits
    at[6] = is_cidr
    at[7] = <char>count
    return at + 8


cdef int write_address(WriteBuffer out, object address, int bits, bint is_cidr) except -1:
    """Write an IPv4Address or IPv6Address, or the address of an interface, and the length of its network part."""
    cdef:
        object number
        bint six = isinstance(address, IPv6Address)
    if six and address.scope_id is not None:
        raise ValueError(
            f'PostgreSQL cannot hold the scope id of {address}: pass the address without %{address.scope_id}')
    number = number_of(address, six)
    if six:
        store_u128(start(out, 16, bits, is_cidr), number)
    else:
        store_u32(start(out, 4, bits, is_cidr), <uint32_t>PyLong_AsUnsignedLong(number))
    return 0


cdef bint write_text(WriteBuffer out, object value, bint is_cidr) except -1:
    """Write an address, with or without /bits, from its text; return False if ipaddress must parse the text.

    That is needed for masks written as addresses, scope ids and a cidr with bits to the right of its network. Invalid
    text also returns False, so that ipaddress raises the error.
    """
    cdef:
        Py_ssize_t size = 0
        const char *text = utf8_of(value, &size)
        const char *slash = <const char *>memchr(text, c'/', <size_t>size)
        const char *end = text + size
        char alone[64]
        char address[16]
        int count, bits
    if slash != NULL:
        if slash - text >= <Py_ssize_t>sizeof(alone) or end - slash < 2 or end - slash > 4:
            return False
        memcpy(alone, text, <size_t>(slash - text))
        alone[slash - text] = 0
        text = alone
    if inet_pton(AF_INET, text, address) == 1:
        count = 4
    elif inet_pton(AF_INET6, text, address) == 1:
        count = 16
    else:
        return False
    bits = 8 * count
    if slash != NULL:
        bits = 0
        slash += 1
        while slash < end:
            if slash[0] < c'0' or slash[0] > c'9':
                return False
            bits = bits * 10 + (slash[0] - c'0')
            slash += 1
        if bits > 8 * count:
            return False
    if is_cidr and not ends_in_zeros(address, count, bits):
        return False
    memcpy(start(out, count, bits, is_cidr), address, <size_t>count)
    return True


cdef int encode_inet(Codec codec, WriteBuffer out, object value) except -1:
    cdef object kind = type(value)
    if kind is IPv4Address:
        return write_address(out, value, 32, False)
    if kind is IPv6Address:
        return write_address(out, value, 128, False)
    value = enum_value(value)
    if PyUnicode_Check(value):
        if write_text(out, value, False):
            return 0
        value = ip_interface(value)
    if isinstance(value, (IPv4Interface, IPv6Interface)):
        return write_address(out, value, value.network.prefixlen, False)
    if isinstance(value, (IPv4Network, IPv6Network)):
        return write_address(out, value.network_address, value.prefixlen, False)
    if isinstance(value, IPv4Address):
        return write_address(out, value, 32, False)
    if isinstance(value, IPv6Address):
        return write_address(out, value, 128, False)
    wrong_type('an address, interface or network of ipaddress, or its text in a str', value)


cdef int encode_cidr(Codec codec, WriteBuffer out, object value) except -1:
    value = enum_value(value)
    if not isinstance(value, (IPv4Network, IPv6Network)):
        if PyUnicode_Check(value):
            if write_text(out, value, True):
                return 0
        elif not isinstance(value, (IPv4Address, IPv6Address)):
            wrong_type('a network of ipaddress, or its text in a str', value)
        value = ip_network(value)  # raises ValueError for an address with bits to the right of its network
    return write_address(out, value.network_address, value.prefixlen, True)


scalar(869, 'inet', 'ipaddress.IPv4Address, IPv6Address, IPv4Interface or IPv6Interface',
       encode_inet, decode_inet)
scalar(650, 'cidr', 'ipaddress.IPv4Network or IPv6Network', encode_cidr, decode_cidr)
