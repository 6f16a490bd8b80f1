# Codecs that users set: two Python functions, and the form of the values that they exchange.

from libc.stdint cimport int64_t, uint32_t

from headrace._core.codecs.base cimport Codec


cdef class CustomCodec(Codec):
    cdef:
        object encoder
        object decoder
        readonly str form          # text, binary or tuple
        readonly Codec inner       # the codec of the str, or of the tuple of a composite

cdef CustomCodec custom_codec(Codec base, str form, object encoder, object decoder)
cdef bint raised_by_decoder(object error) except -1
cdef CustomCodec with_inner(CustomCodec codec, Codec inner)
cdef Codec plain_text(Codec base, int format)
