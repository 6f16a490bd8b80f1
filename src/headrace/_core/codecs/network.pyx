"""inet and cidr, as inet_send() and inet_recv() in utils/adt/network.c have them.

A value is the address family, the number of network bits, whether it is a cidr, the number of address bytes, and the
address. An inet whose network is the single address becomes an IPv4Address or IPv6Address, any other an Interface; a cidr
is always a Network. As with uuid, plain addresses are made through their slots.
"""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from ipaddress import ip_interface, ip_network

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.long cimport PyLong_AsUnsignedLong, PyLong_FromUnsignedLong
from cpython.unicode cimport PyUnicode_Check
from libc.stdint cimport uint32_t

from headrace.errors import ProtocolError

from headrace._core.buffer cimport WriteBuffer, load_u32, reserve, store_u32
from headrace._core.codecs.base cimport Codec, bad_length, scalar, wrong_type
from headrace._core.codecs.coercion cimport enum_value
from headrace._core.codecs.slots cimport load_u128, slot_fill, slot_offset, slot_value, slotted_new, store_u128

cdef enum:
    HEAD = 4
    INET = 2    # PGSQL_AF_INET, not the AF_INET6 of any operating system's own headers
    INET6 = 3

cdef:
    Py_ssize_t IP4 = slot_offset(IPv4Address, '_ip')
    Py_ssize_t IP6 = slot_offset(IPv6Address, '_ip')
    Py_ssize_t SCOPE_ID = slot_offset(IPv6Address, '_scope_id')
    bint slotted = IP4 > 0 and IP6 > 0 and SCOPE_ID > 0


# From the server

cdef int check_head(Codec codec, const char *data, Py_ssize_t size) except -1:
    """The number of address bytes, 4 or 16, after everything about it has been checked."""
    cdef:
        int family, bits, count
    if size < HEAD:
        bad_length(codec, size, 'at least 4 bytes')
    family = <unsigned char>data[0]
    bits = <unsigned char>data[1]
    count = <unsigned char>data[3]
    if not (family == INET and count == 4 and bits <= 32) and not (family == INET6 and count == 16 and bits <= 128):
        raise ProtocolError(
            f'a {codec.name} value of family {family} with {bits} network bits and {count} bytes from the server')
    if size != HEAD + count:
        bad_length(codec, size, f'{HEAD + count} bytes')
    return count


cdef object address4(const char *data):
    cdef object value
    if not slotted:
        return IPv4Address(PyBytes_FromStringAndSize(data, 4))
    value = slotted_new(IPv4Address)
    slot_fill(value, IP4, PyLong_FromUnsignedLong(load_u32(data)))
    return value


cdef object address6(const char *data):
    cdef object value
    if not slotted:
        return IPv6Address(PyBytes_FromStringAndSize(data, 16))
    value = slotted_new(IPv6Address)
    slot_fill(value, IP6, load_u128(data))
    slot_fill(value, SCOPE_ID, None)
    return value


cdef object decode_inet(Codec codec, const char *data, Py_ssize_t size):
    cdef int count = check_head(codec, data, size)
    cdef int bits = <unsigned char>data[1]
    if count == 4:
        if bits == 32:
            return address4(data + HEAD)
        return IPv4Interface((PyBytes_FromStringAndSize(data + HEAD, 4), bits))
    if bits == 128:
        return address6(data + HEAD)
    return IPv6Interface((PyBytes_FromStringAndSize(data + HEAD, 16), bits))


cdef object decode_cidr(Codec codec, const char *data, Py_ssize_t size):
    cdef int count = check_head(codec, data, size)
    cdef int bits = <unsigned char>data[1]
    cdef bytes address = PyBytes_FromStringAndSize(data + HEAD, count)
    try:
        return IPv4Network((address, bits)) if count == 4 else IPv6Network((address, bits))
    except ValueError as error:  # bits to the right of the network, which the server never lets in
        raise ProtocolError(f'a cidr value that is no network from the server: {error}') from None


# To the server

cdef int write_inet(WriteBuffer out, object address, int bits, bint is_cidr) except -1:
    """Write an IPv4Address or IPv6Address (or one of their interfaces) and the length of its network."""
    cdef:
        char *place
        bint six = isinstance(address, IPv6Address)
        object number
    if six and address.scope_id is not None:
        raise ValueError(f'PostgreSQL cannot hold the scope id of {address}: pass the address without %{address.scope_id}')
    number = slot_value(address, IP6 if six else IP4) if slotted else int(address)
    place = reserve(out, 4 + HEAD + (16 if six else 4))
    store_u32(place, HEAD + (16 if six else 4))
    place[4] = INET6 if six else INET
    place[5] = <char>bits
    place[6] = is_cidr
    place[7] = 16 if six else 4
    if six:
        store_u128(place + 8, number)
    else:
        store_u32(place + 8, <uint32_t>PyLong_AsUnsignedLong(number))
    return 0


cdef int encode_inet(Codec codec, WriteBuffer out, object value) except -1:
    cdef object kind = type(value)
    if kind is IPv4Address:
        return write_inet(out, value, 32, False)
    if kind is IPv6Address:
        return write_inet(out, value, 128, False)
    value = enum_value(value)
    if PyUnicode_Check(value):
        value = ip_interface(value)
    if isinstance(value, (IPv4Interface, IPv6Interface)):
        return write_inet(out, value, value.network.prefixlen, False)
    if isinstance(value, (IPv4Network, IPv6Network)):
        return write_inet(out, value.network_address, value.prefixlen, False)
    if isinstance(value, IPv4Address):
        return write_inet(out, value, 32, False)
    if isinstance(value, IPv6Address):
        return write_inet(out, value, 128, False)
    wrong_type('an address, interface or network of ipaddress, or its text in a str', value)


cdef int encode_cidr(Codec codec, WriteBuffer out, object value) except -1:
    value = enum_value(value)
    if not isinstance(value, (IPv4Network, IPv6Network)):
        if not PyUnicode_Check(value) and not isinstance(value, (IPv4Address, IPv6Address)):
            wrong_type('a network of ipaddress, or its text in a str', value)
        value = ip_network(value)  # refuses an address with bits to the right of its network
    return write_inet(out, value.network_address, value.prefixlen, True)


cdef int _check_slots() except -1:
    """Keep to the constructors unless objects made through their slots equal those that the constructors made."""
    global slotted
    cdef object four = IPv4Address('192.0.2.1'), six = IPv6Address('2001:db8::1')
    if slotted:
        slotted = (
            address4(four.packed) == four and str(address4(four.packed)) == str(four)
            and address6(six.packed) == six and str(address6(six.packed)) == str(six))
    return 0


_check_slots()
scalar(869, 'inet', 'ipaddress.IPv4Address, IPv6Address, IPv4Interface or IPv6Interface', encode_inet, decode_inet)
scalar(650, 'cidr', 'ipaddress.IPv4Network or IPv6Network', encode_cidr, decode_cidr)
