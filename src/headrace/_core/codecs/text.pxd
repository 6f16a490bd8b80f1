# The codecs of strings, and their functions for other codecs.

from libc.stdint cimport uint32_t

from headrace._core.wire.buffer cimport WriteBuffer
from headrace._core.codecs.base cimport Codec

cdef const char *utf8_of(object value, Py_ssize_t *size) except NULL
cdef object decode_text(Codec codec, const char *data, Py_ssize_t size)
cdef int encode_text(Codec codec, WriteBuffer out, object value) except -1
cdef object argument_error(object error)
cdef Codec text_fallback(uint32_t oid, str name, str schema)
