"""Encoding of frontend messages.

Source: PostgreSQL documentation, "Message Formats" (protocol-message-formats), the messages marked (F). Bind is
written by the plan of a statement, which has the codecs.
"""

import struct

from headrace._core.wire.buffer cimport (
    WriteBuffer, begin_message, end_message, put_byte, put_bytes, put_cstring, put_i16, put_i32,
)

from headrace.exceptions import InterfaceError

cdef Py_ssize_t MAX_MESSAGE = 0x3ffffffe
# 256 bytes are enough for the other fields of Parse and Query.
cdef Py_ssize_t MAX_QUERY = MAX_MESSAGE - 256

cdef bytes BIND_NOTHING = b'B\0\0\0\x0c' + bytes(8)
cdef bytes SYNC = b'S\0\0\0\4'
cdef bytes TERMINATE = b'X\0\0\0\4'
cdef bytes COPY_DONE = b'c\0\0\0\4'


cdef bytes query_bytes(str query):
    """Return the text of a query in UTF-8; raises InterfaceError if it is too long or has a NUL character."""
    cdef bytes encoded
    if '\0' in query:
        raise InterfaceError('the query must not contain a NUL character')
    if len(query) <= MAX_QUERY:
        encoded = query.encode()
        if len(encoded) <= MAX_QUERY:
            return encoded
    raise InterfaceError(f'the query is expected to have at most {MAX_QUERY} bytes, got {len(query)} characters',
                         hint='Pass values as arguments, or load them with copy_records_to_table() or copy_to_table().')


cdef int put_query(WriteBuffer out, bytes query) except -1:
    cdef Py_ssize_t mark = begin_message(out, b'Q')
    put_cstring(out, query)
    return end_message(out, mark)


cdef int put_parse(WriteBuffer out, bytes name, bytes query, tuple parameter_oids) except -1:
    cdef:
        Py_ssize_t mark = begin_message(out, b'P')
        uint32_t oid
    put_cstring(out, name)
    put_cstring(out, query)
    put_i16(out, <short>len(parameter_oids))
    for oid in parameter_oids:
        put_i32(out, <int32_t>oid)
    return end_message(out, mark)


cdef int put_describe(WriteBuffer out, char what, bytes name) except -1:
    cdef Py_ssize_t mark = begin_message(out, b'D')
    put_byte(out, what)
    put_cstring(out, name)
    return end_message(out, mark)


cdef int put_bind_nothing(WriteBuffer out) except -1:
    """Bind the unnamed statement, which has no parameters, to the unnamed portal; results come as text."""
    return put_bytes(out, <const char *>BIND_NOTHING, 13)


cdef int put_execute(WriteBuffer out, bytes portal, int32_t limit) except -1:
    cdef Py_ssize_t mark = begin_message(out, b'E')
    put_cstring(out, portal)
    put_i32(out, limit)
    return end_message(out, mark)


cdef int put_close(WriteBuffer out, char what, bytes name) except -1:
    cdef Py_ssize_t mark = begin_message(out, b'C')
    put_byte(out, what)
    put_cstring(out, name)
    return end_message(out, mark)


cdef int put_sync(WriteBuffer out) except -1:
    return put_bytes(out, <const char *>SYNC, 5)


cdef int put_copy_fail(WriteBuffer out, bytes reason) except -1:
    cdef Py_ssize_t mark = begin_message(out, b'f')
    put_cstring(out, reason)
    return end_message(out, mark)


def startup_message(protocol: int, parameters: dict) -> bytes:
    """Return a StartupMessage for protocol version `protocol` (196608 is 3.0) with the given parameters.

    Raises ValueError for a NUL in a name or value: it would end the string early and could inject another parameter.
    """
    body = bytearray(struct.pack('!i', protocol))
    for name, value in parameters.items():
        for text in (name, value):
            if '\0' in text:
                raise ValueError(f'startup parameter {name!r} must not contain a NUL character')
            body += text.encode() + b'\0'
    body += b'\0'
    return struct.pack('!i', len(body) + 4) + bytes(body)


def ssl_request() -> bytes:
    """Return an SSLRequest, which is sent before the startup message."""
    return struct.pack('!ii', 8, 80877103)


def cancel_request(pid: int, secret: bytes) -> bytes:
    """Return a CancelRequest for the backend with that process id and secret key.

    The key has 4 to 256 bytes (protocol-flow-canceling).
    """
    return struct.pack('!iii', 12 + len(secret), 80877102, pid) + secret
