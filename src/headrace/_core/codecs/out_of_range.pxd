# Codecs that read dates and times out of Python's range as text.

from libc.stdint cimport uint32_t

from headrace._core.codecs.base cimport Codec

cdef frozenset LENIENT

cdef Codec lenient(Codec base)
cdef bint is_lenient(Codec codec) noexcept
cdef str exact_text(Codec base, const char *data, Py_ssize_t size)
