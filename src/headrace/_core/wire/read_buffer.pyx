"""The buffer that the socket writes to, divided into messages.

Source: PostgreSQL documentation, "Message Formats" (protocol-message-formats): a type byte, and an int32 length that
includes itself.
"""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING
from libc.string cimport memcpy, memmove

from headrace._core.wire.buffer cimport load_i32

from headrace.exceptions import ProtocolError

cdef Py_ssize_t READ_CAPACITY = 1 << 17
# Up to this many bytes are moved to the front, so that one read from the socket can fill most of the buffer.
cdef Py_ssize_t FEW = 1 << 12
# No server message is longer than the limit of palloc (MaxAllocSize).
cdef Py_ssize_t MAX_MESSAGE = 0x3fffffff
# Messages of these types may be longer than MAX_SHORT_MESSAGE. Any other long message means that the protocol is out of
# step.
cdef bytes LONG_MESSAGES = b'DdTtENAVRS'
cdef Py_ssize_t MAX_SHORT_MESSAGE = 30000


@cython.final
cdef class ReadBuffer:
    """The bytes from `start` to `end` in a chunk of memory.

    The memory belongs to a bytearray of fixed size. The buffer grows by copying its bytes to a new one; views of the
    old one stay valid.
    """

    def __cinit__(self):
        self._allocate(READ_CAPACITY)

    def __len__(self) -> int:
        return self.end - self.start

    cpdef object writable(self):
        """Return the memory for the next bytes from the socket; it is never empty."""
        self.check_not_in_use()
        return self.view if self.end == 0 else self.view[self.end:]

    cdef int check_not_in_use(self) except -1:
        """Raise RuntimeError if a decoder that reads from the buffer asks for what would move its bytes."""
        if self.in_use:
            raise RuntimeError('a session cannot be fed from within a decoder')
        return 0

    cdef bint next_message(self, Message *message) except -1:
        """Take the next message out of the buffer; if it is incomplete, make room for the rest.

        Returns whether a message was complete. Raises ProtocolError for a length that no message can have.
        """
        cdef:
            Py_ssize_t held = self.end - self.start
            Py_ssize_t size = 4
            const char *at
        if held >= 5:
            at = self.data + self.start
            size = load_i32(at + 1)
            if size < 4 or size > MAX_MESSAGE or (size > MAX_SHORT_MESSAGE and at[0] not in LONG_MESSAGES):
                raise ProtocolError(
                    f'a message of type {chr(<unsigned char>at[0])!r} and {size} bytes from the server: '
                    'this is not the PostgreSQL protocol, or it is out of step')
            if held > size:
                self.start += size + 1
                message.kind = at[0]
                message.body = at + 5
                message.size = size - 4
                return True
        self._make_room(size + 1)
        return False

    cdef int clear(self) except -1:
        """Discard all bytes."""
        self.start = self.end = 0
        return 0

    cdef int _make_room(self, Py_ssize_t wanted) except -1:
        """Make room for a message of `wanted` bytes, growing only as fast as bytes arrive.

        A wrong length must not allocate memory for bytes that never arrive.
        """
        cdef Py_ssize_t held = self.end - self.start
        if held == 0:
            self.start = self.end = 0
            if self.capacity > READ_CAPACITY and wanted <= READ_CAPACITY:
                self._allocate(READ_CAPACITY)
        if held > FEW and self.capacity - self.start >= wanted and self.capacity > self.end:
            return 0
        if held and self.start:
            memmove(self.data, self.data + self.start, <size_t>held)
            self.start = 0
            self.end = held
        if self.capacity < wanted and self.capacity - self.end < self.capacity // 4:
            self._allocate(min(max(self.capacity * 2, READ_CAPACITY), max(wanted, READ_CAPACITY)))
        return 0

    cdef int _allocate(self, Py_ssize_t capacity) except -1:
        cdef:
            object chunk = bytearray(capacity)
            object view = memoryview(chunk)
            char *data = PyByteArray_AS_STRING(chunk)
        if self.end > self.start:
            memcpy(data, self.data + self.start, <size_t>(self.end - self.start))
        self.end -= self.start
        self.start = 0
        self.chunk = chunk
        self.view = view
        self.data = data
        self.capacity = capacity
        return 0
