"""The first request of a connection, and the protocol version that comes of it.

Source: PostgreSQL documentation, "Start-up" (protocol-flow-start-up).
"""

from headrace._core.pipeline.requests cimport BARRIER
from headrace._core.wire.buffer cimport load_i32

from headrace.exceptions import ProtocolError

# Versions as the startup message has them; 3.1 was never published.
cdef int PROTOCOL_3_0 = 0x30000
cdef int PROTOCOL_3_2 = 0x30002


cdef class Startup(Request):
    """From the startup message to the first ReadyForQuery (protocol-flow-start-up).

    `on_authentication(code, payload)` is called for each Authentication message; what it wants to answer is written by
    the driver. ParameterStatus and BackendKeyData are the session's. ReadyForQuery before AuthenticationOk is refused.
    `minimum` is the oldest version of the protocol that the client puts up with.
    """

    def __cinit__(self, object waiter, bytes message not None, object on_authentication, int minimum=PROTOCOL_3_0):
        if len(message) < 8:
            raise ValueError('a StartupMessage has 8 bytes at least')
        self.waiter = waiter
        self.query = ''
        self.message = message
        self.protocol = load_i32(<const char *>message + 4)
        self.minimum = minimum
        self.on_authentication = on_authentication
        self.traits = BARRIER

    cdef int receive(self, char kind, const char *data, Py_ssize_t size) except -1:
        cdef int code
        if kind == b'v' and not self.answered:
            self.answered = True
            return self.negotiate(data, size)
        self.answered = True
        if kind != b'R' or self.authenticated:
            return self.unexpected(kind)
        if size < 4:
            raise ProtocolError('an Authentication message from the server is cut short')
        code = load_i32(data)
        if code == 0:
            if size != 4:
                raise ProtocolError(f'AuthenticationOk from the server has {size - 4} bytes too many')
            self.authenticated = True
        self.on_authentication(code, data[4:size])
        return 0

    cdef int negotiate(self, const char *data, Py_ssize_t size) except -1:
        """Take NegotiateProtocolVersion: an older minor version than the client asked for, and nothing else."""
        cdef int version
        if size < 8:
            raise ProtocolError('NegotiateProtocolVersion from the server is cut short')
        version = load_i32(data)
        if load_i32(data + 4) != 0:
            raise ProtocolError('NegotiateProtocolVersion from the server refuses options that were not asked for')
        if size != 8:
            raise ProtocolError(f'NegotiateProtocolVersion from the server has {size - 8} bytes too many')
        if version >= self.protocol:
            raise ProtocolError(f'the server negotiates protocol {version_text(version)}, which is not older than the '
                                f'{version_text(self.protocol)} that was asked for')
        if version not in (PROTOCOL_3_0, PROTOCOL_3_2):
            raise ProtocolError(f'the server negotiates protocol {version_text(version)}, which does not exist')
        if version < self.minimum:
            raise ProtocolError(f'the server speaks protocol {version_text(version)} at most, '
                                f'min_protocol_version={version_text(self.minimum)} asks for more')
        self.protocol = version
        return 0

    cdef int check_key(self, Py_ssize_t size) except -1:
        """Check the length of BackendKeyData: process id and key, 4 bytes of it before protocol 3.2, then up to 256."""
        cdef Py_ssize_t longest = 256 if self.protocol >= PROTOCOL_3_2 else 4
        if not self.authenticated:
            raise ProtocolError('BackendKeyData from the server before it has authenticated the user')
        if size < 8 or size > 4 + longest:
            raise ProtocolError(f'BackendKeyData from the server with a key of {size - 4} bytes, expected '
                                + ('4' if longest == 4 else f'4 to {longest}')
                                + f' in protocol {version_text(self.protocol)}')
        return 0

    cdef int finished(self) except -1:
        if not self.authenticated:
            raise ProtocolError('the server is ready for queries before it has authenticated the user')
        return 0


cdef str version_text(int version):
    return f'{version >> 16}.{version & 0xffff}'
