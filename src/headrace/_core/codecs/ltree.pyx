"""ltree, lquery and ltxtquery as str.

The format is that of ltree_send(), lquery_send() and ltxtq_send() in the extension's ltree_io.c and ltxtquery_io.c: a
byte with the version of the format, which is 1, and the text.
"""

from libc.string cimport memmove

from headrace._core.wire.buffer cimport WriteBuffer, begin_length, end_length, put_byte
from headrace._core.codecs.base cimport Codec, bad_length
from headrace._core.codecs.custom cimport plain_text
from headrace._core.codecs.text cimport decode_text, encode_text

from headrace.exceptions import ProtocolError

cdef enum:
    VERSION = 1


cdef Codec ltree_codec(Codec base):
    """Make a codec for one of the three types; it is not registered."""
    cdef Codec codec = plain_text(base, 1)
    codec.decode = decode_ltree
    codec.encode = encode_ltree
    return codec


cdef object decode_ltree(Codec codec, const char *data, Py_ssize_t size):
    if size < 1:
        bad_length(codec, size, 'at least 1 byte')
    if data[0] != VERSION:
        raise ProtocolError(f'a {codec.name} value of version {<unsigned char>data[0]} from the server: expected 1')
    return decode_text(codec, data + 1, size - 1)


cdef int encode_ltree(Codec codec, WriteBuffer out, object value) except -1:
    cdef:
        Py_ssize_t mark = begin_length(out)
        Py_ssize_t text
    put_byte(out, VERSION)
    text = out.length
    encode_text(codec, out, value)
    # encode_text() writes a length before the text, which is removed here.
    memmove(out.data + text, out.data + text + 4, <size_t>(out.length - text - 4))
    out.length -= 4
    return end_length(out, mark)
