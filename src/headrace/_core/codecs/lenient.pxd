# Dates and times of which no value is an error.

from libc.stdint cimport uint32_t

from headrace._core.codecs.base cimport Codec

cdef Codec lenient(Codec base)
