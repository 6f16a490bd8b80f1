"""Objects of ipaddress, made by setting their attributes.

The constructors of ipaddress are Python code and take half a microsecond for an address, two or three for a network or
an interface. The objects have little state: an int in a slot, and two or three attributes. At import, objects made here
are compared with objects from the constructors. If they differ in some version of Python, the constructors are used.
"""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from cpython.long cimport PyLong_FromUnsignedLong
from libc.string cimport memcpy, memset

from headrace._core.wire.buffer cimport load_u32
from headrace._core.codecs.slots cimport load_u128, slot_fill, slot_offset, slot_value, slotted_new

cdef:
    Py_ssize_t IP4 = slot_offset(IPv4Address, '_ip')
    Py_ssize_t IP6 = slot_offset(IPv6Address, '_ip')
    Py_ssize_t SCOPE_ID = slot_offset(IPv6Address, '_scope_id')
    list MASKS4 = [IPv4Network((0, bits)).netmask for bits in range(33)]
    list MASKS6 = [IPv6Network((0, bits)).netmask for bits in range(129)]
    bint slotted = IP4 > 0 and IP6 > 0 and SCOPE_ID > 0


cdef inline object fill(object target, const char *data, int count):
    """Set the slots that addresses and interfaces have in common."""
    if count == 4:
        slot_fill(target, IP4, PyLong_FromUnsignedLong(load_u32(data)))
    else:
        slot_fill(target, IP6, load_u128(data))
        slot_fill(target, SCOPE_ID, None)
    return target


cdef object make_address(const char *data, int count):
    """Make an IPv4Address or IPv6Address."""
    cdef object cls = IPv4Address if count == 4 else IPv6Address
    if not slotted:
        return cls(data[:count])
    return fill(slotted_new(cls), data, count)


cdef object make_network(const char *data, int count, int bits):
    """Make an IPv4Network or IPv6Network. The caller has checked that the bits after the network part are zero."""
    cdef object cls = IPv4Network if count == 4 else IPv6Network, network
    if not slotted or bits >= 8 * count - 1:  # the constructor gives the two smallest networks a `hosts` of their own
        return cls((data[:count], bits))
    network = slotted_new(cls)
    network.network_address = make_address(data, count)
    network.netmask = MASKS4[bits] if count == 4 else MASKS6[bits]
    network._prefixlen = bits
    return network


cdef object make_interface(const char *data, int count, int bits):
    """Make an IPv4Interface or IPv6Interface: an address and its network."""
    cdef:
        object cls = IPv4Interface if count == 4 else IPv6Interface, interface
        char start[16]
        int whole = bits // 8
    if not slotted:
        return cls((data[:count], bits))
    memset(start, 0, 16)
    memcpy(start, data, <size_t>whole)
    if whole < count:
        start[whole] = data[whole] & <char>(0xff00 >> bits % 8)
    interface = fill(slotted_new(cls), data, count)
    interface.network = make_network(start, count, bits)
    interface.netmask = MASKS4[bits] if count == 4 else MASKS6[bits]
    interface._prefixlen = bits
    return interface


cdef object number_of(object address, bint six):
    """Return the address as an int."""
    return slot_value(address, IP6 if six else IP4) if slotted else int(address)


cdef bint same(object made, object usual) except -1:
    """Return whether two objects agree in their attributes, equality, hash and text."""
    return (
        getattr(made, '__dict__', None) == getattr(usual, '__dict__', None)
        and made == usual and hash(made) == hash(usual) and str(made) == str(usual))


cdef int _check_slots() except -1:
    global slotted
    cdef:
        bytes four = bytes([192, 0, 2, 129]), six = bytes([32, 1, 13, 184, *range(1, 13)])
        bytes net4 = bytes([192, 0, 2, 128]), net6 = bytes([32, 1, 13, 184, 1, *[0] * 11])
    slotted = (
        slotted
        and same(make_address(four, 4), IPv4Address(four)) and same(make_address(six, 16), IPv6Address(six))
        and same(make_network(net4, 4, 25), IPv4Network((net4, 25)))
        and same(make_network(net6, 16, 41), IPv6Network((net6, 41)))
        and same(make_interface(four, 4, 25), IPv4Interface((four, 25)))
        and same(make_interface(six, 16, 41), IPv6Interface((six, 41))))
    return 0


_check_slots()
