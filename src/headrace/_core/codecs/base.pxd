# The base of all codecs: one PostgreSQL type, and how its values are read and written.

from libc.stdint cimport uint32_t

from headrace._core.wire.buffer cimport WriteBuffer

# A decoder gets the value's bytes without the length word; it must check `size` before it reads, must not keep `data`
# past any call into Python code, and raises ProtocolError, as by bad_length(), for malformed bytes.
ctypedef object (*decode_t)(Codec codec, const char *data, Py_ssize_t size)
# An encoder writes the int32 length word and the value; it raises TypeError, ValueError or OverflowError with a short
# text ("expected int, got str"). The statement adds the argument's position, its PostgreSQL type and a remedy.
ctypedef int (*encode_t)(Codec codec, WriteBuffer out, object value) except -1


cdef class Codec:
    cdef:
        decode_t decode
        encode_t encode
        readonly uint32_t oid
        readonly int format          # 0 text, 1 binary (protocol-overview, format codes)
        readonly str name
        readonly str schema
        readonly str kind            # scalar, array, composite, range, multirange, enum, domain, pseudo
        readonly str python          # the Python type, for error messages and docs/types.md


cdef Codec scalar(uint32_t oid, str name, str python, encode_t encode, decode_t decode, int format=*)
cdef Codec add_builtin(Codec codec)
cdef Codec builtin(uint32_t oid)
cdef int bad_length(Codec codec, Py_ssize_t size, str expected) except -1
cdef object missing_attribute(str expected, object value, str attribute)
cdef object wrong_type(str expected, object value)
