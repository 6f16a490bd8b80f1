"""Decoding of the bodies of backend messages. Every length is checked before it is used.

Source: PostgreSQL documentation, "Message Formats" (protocol-message-formats), the messages marked (B), and
"Error and Notice Message Fields" (protocol-error-fields). DataRow is decoded in rows/row_plan.pyx.
"""

from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, uint32_t
from libc.string cimport memchr

from headrace._core.wire.buffer cimport load_i16, load_i32, load_u16, load_u32

from headrace.exceptions import ProtocolError


cdef class Reader:
    """A cursor over one message body; reading past its end raises ProtocolError."""

    cdef:
        const char *cursor
        const char *end
        str message

    cdef int need(self, Py_ssize_t size) except -1:
        if self.end - self.cursor < size:
            raise ProtocolError(f'{self.message} from the server is cut short')
        return 0

    cdef int32_t int32(self) except? -1:
        self.need(4)
        self.cursor += 4
        return load_i32(self.cursor - 4)

    cdef int int16(self) except? -1:
        self.need(2)
        self.cursor += 2
        return load_i16(self.cursor - 2)

    cdef str cstring(self):
        cdef:
            const char *start = self.cursor
            const char *stop = <const char *>memchr(start, 0, <size_t>(self.end - start))
        if stop == NULL:
            raise ProtocolError(f'{self.message} from the server holds a string without its end')
        self.cursor = stop + 1
        return text(start, stop - start)

    cdef int done(self) except -1:
        if self.cursor != self.end:
            raise ProtocolError(f'{self.message} from the server has {self.end - self.cursor} bytes too many')
        return 0


cdef Reader reader(str message, const char *data, Py_ssize_t size):
    cdef Reader made = Reader.__new__(Reader)
    made.message = message
    made.cursor = data
    made.end = data + size
    return made


cdef str text(const char *data, Py_ssize_t size):
    """Decode UTF-8. Other bytes, as in messages sent before the encoding is set, become U+FFFD."""
    return PyUnicode_DecodeUTF8(data, size, 'replace')


cdef dict error_fields(const char *data, Py_ssize_t size):
    """Return the fields of an ErrorResponse or NoticeResponse by their one-letter codes."""
    cdef:
        Reader body = reader('ErrorResponse or NoticeResponse', data, size)
        dict fields = {}
        char code
    while True:
        body.need(1)
        code = body.cursor[0]
        body.cursor += 1
        if code == 0:
            break
        fields[chr(<unsigned char>code)] = body.cstring()
    body.done()
    return fields


cdef tuple parameter_description(const char *data, Py_ssize_t size):
    """Return the OIDs of a statement's parameters."""
    cdef:
        Py_ssize_t count, i
        list oids = []
    if size < 2:
        raise ProtocolError('ParameterDescription from the server is cut short')
    count = load_u16(data)
    if size != 2 + 4 * count:
        raise ProtocolError(f'ParameterDescription from the server: {size} bytes for {count} parameters')
    for i in range(count):
        oids.append(load_u32(data + 2 + 4 * i))
    return tuple(oids)


cdef list row_description(const char *data, Py_ssize_t size):
    """Return the columns: (name, table OID, attribute number, type OID, type length, type modifier, format)."""
    cdef:
        Reader body = reader('RowDescription', data, size)
        int count = body.int16()
        int i
        list columns = []
    if count < 0:
        raise ProtocolError(f'RowDescription from the server with {count} columns')
    for i in range(count):
        name = body.cstring()
        table = <uint32_t>body.int32()
        attribute = body.int16()
        oid = <uint32_t>body.int32()
        length = body.int16()
        modifier = body.int32()
        columns.append((name, table, attribute, oid, length, modifier, body.int16()))
    body.done()
    return columns


cdef tuple notification(const char *data, Py_ssize_t size):
    """Return a NotificationResponse as (process id, channel, payload)."""
    cdef Reader body = reader('NotificationResponse', data, size)
    pid = body.int32()
    channel = body.cstring()
    payload = body.cstring()
    body.done()
    return pid, channel, payload


cdef tuple parameter_status(const char *data, Py_ssize_t size):
    """Return a ParameterStatus as (name, value)."""
    cdef Reader body = reader('ParameterStatus', data, size)
    name = body.cstring()
    value = body.cstring()
    body.done()
    return name, value


cdef str command_tag(const char *data, Py_ssize_t size):
    """Return the tag of a CommandComplete, such as "INSERT 0 1"."""
    if size < 1 or data[size - 1] != 0:
        raise ProtocolError('CommandComplete from the server holds a string without its end')
    return text(data, size - 1)
