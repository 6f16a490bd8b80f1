# Codecs that users set: two Python functions, and the form of the values that they exchange.

from libc.stdint cimport int64_t, uint32_t

from headrace._core.codecs.base cimport Codec


cdef class CustomCodec(Codec):
    cdef:
        object encoder
        object decoder
        readonly str form          # text, binary, tuple or json
        readonly Codec inner       # the codec of the str, or of the tuple of a composite
        bint is_json               # the encoder may return bytes
        bint takes_bytes           # the decoder gets bytes instead of a str
        object scan                # of Python's json: a faster decoder; or None

cdef CustomCodec custom_codec(Codec base, str form, object encoder, object decoder, bint takes_lists=*)
cdef CustomCodec json_codec(Codec base, object functions)
cdef bint raised_by_decoder(object error) except -1
cdef CustomCodec with_inner(CustomCodec codec, Codec inner)
cdef Codec plain_text(Codec base, int format)
