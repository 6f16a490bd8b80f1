"""Parsing and writing the text forms of arrays, composites and ranges.

They are needed if values inside can only be sent as text: types without binary functions (aclitem), types whose text
says more than their binary form (regclass), and types with a text codec set by set_type_codec(). Sources: arrays-io,
rowtypes-io and rangetypes-io in the PostgreSQL documentation; array_out(), record_out() and range_out() in the server.

One rule differs: within quotes an array escapes by backslash, a composite or a range doubles the character. Both are
accepted when reading, as by the server; `doubled` says which one is written.
"""

from headrace._core.wire.buffer cimport WriteBuffer, load_i32, put_byte, put_bytes
from headrace._core.codecs.base cimport Codec

from headrace.exceptions import ProtocolError


cdef class Scanner:
    """A cursor over one text form from the server."""

    cdef int bad(self) except -1:
        raise ProtocolError(f'a malformed {self.codec.name} value in text form from the server')

    cdef char peek(self) except? -1:
        """Return the next character; raises ProtocolError at the end."""
        if self.cursor >= self.end:
            self.bad()
        return self.cursor[0]

    cdef int expect(self, char wanted) except -1:
        if self.cursor >= self.end or self.cursor[0] != wanted:
            self.bad()
        self.cursor += 1
        return 0

    cdef int read_word(self, const char *stops, bint doubled) except -1:
        """Read up to one of the characters `stops` outside quotes, and leave the cursor at it.

        A word without escapes is not copied, whether it is in quotes or not.
        """
        cdef:
            const char *start = self.cursor
            char each = self.peek()
        self.quoted = each == b'"'
        if self.quoted:
            start += 1
            self.cursor += 1
            while self.peek() != b'"' and self.cursor[0] != b'\\':
                self.cursor += 1
            if self.cursor[0] == b'"' and self.end - self.cursor > 1 and is_one_of(self.cursor[1], stops):
                self.word = start
                self.size = self.cursor - start
                self.cursor += 1
                return 0
            start -= 1
        else:
            while not is_one_of(each, stops) and each != b'"' and each != b'\\':
                self.cursor += 1
                each = self.peek()
            if is_one_of(each, stops):
                self.word = start
                self.size = self.cursor - start
                return 0
        return self.unescape(start, stops, doubled)

    cdef int unescape(self, const char *start, const char *stops, bint doubled) except -1:
        """Read a word with escapes, which begins at `start`, into `unescaped`."""
        cdef:
            char each
            bint inside = False
        if self.unescaped is None:
            self.unescaped = WriteBuffer()
        self.unescaped.length = 0
        self.cursor = start
        while True:
            each = self.peek()
            if each == b'\\':
                self.cursor += 1
                each = self.peek()
            elif each == b'"':
                self.cursor += 1
                if inside and doubled and self.cursor < self.end and self.cursor[0] == b'"':
                    pass                      # "" within quotes is one quote
                else:
                    inside = not inside
                    self.quoted = True
                    continue
            elif not inside and is_one_of(each, stops):
                break
            put_byte(self.unescaped, each)
            self.cursor += 1
        self.word = self.unescaped.data
        self.size = self.unescaped.length
        return 0

    cdef bint is_word(self, const char *text, Py_ssize_t size) noexcept:
        """Return whether the word is `text`, without quotes, in any case."""
        cdef Py_ssize_t i
        if self.quoted or self.size != size:
            return False
        for i in range(size):
            if self.word[i] | 0x20 != text[i]:
                return False
        return True

    cdef object decode_word(self, Codec codec):
        return codec.decode(codec, self.word, self.size)


cdef inline bint is_one_of(char each, const char *characters) noexcept:
    while characters[0] != 0:
        if characters[0] == each:
            return True
        characters += 1
    return False


cdef Scanner scan(Codec codec, const char *data, Py_ssize_t size):
    """Return a scanner for a value of the codec's type; its errors name that type."""
    cdef Scanner scanner = Scanner.__new__(Scanner)
    scanner.codec = codec
    scanner.cursor = data
    scanner.end = data + size
    return scanner


cdef int put_quoted(WriteBuffer out, Codec codec, object value, bint doubled) except -1:
    """Write a value in quotes, as the text that its codec makes of it."""
    cdef:
        WriteBuffer text = WriteBuffer()
        Py_ssize_t i
        char each
    codec.encode(codec, text, value)
    if load_i32(text.data) < 0:
        raise ValueError('an encoder must not turn a value within another one into NULL')
    put_byte(out, b'"')
    for i in range(4, text.length):
        each = text.data[i]
        if each == b'"' or each == b'\\':
            put_byte(out, each if doubled else b'\\')
        put_byte(out, each)
    put_byte(out, b'"')
    return 0
