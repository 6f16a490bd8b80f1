# Parsing and writing the text forms of arrays, composites and ranges.

from headrace._core.wire.buffer cimport WriteBuffer
from headrace._core.codecs.base cimport Codec


cdef class Scanner:
    # A cursor over one text form, and the last word without its quotes and escapes.
    cdef:
        Codec codec
        const char *cursor
        const char *end
        const char *word
        Py_ssize_t size
        bint quoted
        WriteBuffer unescaped      # holds the word if it had escapes

    cdef int bad(self) except -1
    cdef char peek(self) except? -1
    cdef int expect(self, char wanted) except -1
    cdef int read_word(self, const char *stops, bint doubled) except -1
    cdef int unescape(self, const char *start, const char *stops, bint doubled) except -1
    cdef bint is_word(self, const char *text, Py_ssize_t size) noexcept
    cdef object decode_word(self, Codec codec)

cdef Scanner scan(Codec codec, const char *data, Py_ssize_t size)
cdef int put_quoted(WriteBuffer out, Codec codec, object value, bint doubled) except -1
