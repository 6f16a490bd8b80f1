# Objects of ipaddress from addresses in network byte order; `count` is 4 or 16, the number of bytes.

cdef object make_address(const char *data, int count)
cdef object make_network(const char *data, int count, int bits)
cdef object make_interface(const char *data, int count, int bits)
cdef object number_of(object address, bint six)
