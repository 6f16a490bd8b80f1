# The text forms of arrays, composites and ranges, taken apart and put together.

from headrace._core.wire.buffer cimport WriteBuffer
from headrace._core.codecs.base cimport Codec


cdef class Scanner:
    # A cursor over one text form, and what the last item was after its quotes and escapes were taken off.
    cdef:
        Codec codec
        const char *place
        const char *end
        const char *word
        Py_ssize_t size
        bint quoted
        WriteBuffer unescaped      # where the word is put together if it does not stand in the text as it is

    cdef int bad(self) except -1
    cdef char peek(self) except? -1
    cdef int expect(self, char wanted) except -1
    cdef int read_word(self, const char *stops, bint doubled) except -1
    cdef int unescape(self, const char *start, const char *stops, bint doubled) except -1
    cdef bint is_word(self, const char *text, Py_ssize_t size) noexcept
    cdef object decode_word(self, Codec codec)

cdef Scanner scan(Codec codec, const char *data, Py_ssize_t size)
cdef int put_quoted(WriteBuffer out, Codec codec, object value, bint doubled) except -1
