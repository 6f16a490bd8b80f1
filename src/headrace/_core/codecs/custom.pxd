# Codecs that users set: a pair of Python functions, and the form in which values are passed to them.

from libc.stdint cimport int64_t, uint32_t

from headrace._core.codecs.base cimport Codec


cdef class CustomCodec(Codec):
    cdef:
        object encoder
        object decoder
        readonly str form          # text, binary or tuple
        readonly Codec inner       # what carries the str, or the tuple of a composite

cdef CustomCodec custom_codec(Codec base, str form, object encoder, object decoder)
cdef bint is_noted(object error) except -1
cdef CustomCodec with_inner(CustomCodec codec, Codec inner)
cdef Codec plain_text(Codec base, int format)
