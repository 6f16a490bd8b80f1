"""The bytes received and not yet read: one buffer that the socket writes to, cut into messages.

Source: PostgreSQL documentation, "Message Formats" (protocol-message-formats): a type byte, and an int32 length that
counts itself.
"""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING
from libc.string cimport memcpy, memmove

from headrace._core.wire.buffer cimport load_i32

from headrace.exceptions import ProtocolError

cdef Py_ssize_t READ_CAPACITY = 1 << 17
# Bytes that are moved to the front for little, so that the socket can fill nearly all of the buffer in one go.
cdef Py_ssize_t FEW = 1 << 12
# A server message cannot be longer than what palloc hands out (MaxAllocSize).
cdef Py_ssize_t MAX_MESSAGE = 0x3fffffff
# Message types that may be longer than a few dozen kilobytes; anything else that claims to be is out of step.
cdef bytes LONG_MESSAGES = b'DdTtENAVRS'
cdef Py_ssize_t MAX_SHORT_MESSAGE = 30000


@cython.final
cdef class ReadBuffer:
    """Bytes `start` to `end` of a chunk of memory.

    The memory belongs to a bytearray of fixed size. To grow, another one is made and the rest copied: whoever still
    holds a view of the former keeps it alive.
    """

    def __cinit__(self):
        self._allocate(READ_CAPACITY)

    def __len__(self) -> int:
        return self.end - self.start

    cdef object writable(self):
        """The memory that the next bytes from the socket go to; never empty."""
        return self.view if self.end == 0 else self.view[self.end:]

    cdef Py_ssize_t fill(self, const unsigned char *data, Py_ssize_t size) except -1:
        """Copy bytes to where the socket would write them, as many as there is room for; returns how many."""
        size = min(size, self.capacity - self.end)
        memcpy(self.data + self.end, data, <size_t>size)
        return size

    cdef bint next_message(self, Message *message) except -1:
        """Take the next message out of the buffer; where it is not all there yet, make room for the rest of it.

        Returns whether there was one. Raises ProtocolError for a length that no message can have.
        """
        cdef:
            Py_ssize_t held = self.end - self.start
            Py_ssize_t size = 4
            const char *place
        if held >= 5:
            place = self.data + self.start
            size = load_i32(place + 1)
            if size < 4 or size > MAX_MESSAGE or (size > MAX_SHORT_MESSAGE and place[0] not in LONG_MESSAGES):
                raise ProtocolError(
                    f'a message of type {chr(<unsigned char>place[0])!r} and {size} bytes from the server: '
                    'this is not the PostgreSQL protocol, or it is out of step')
            if held > size:
                self.start += size + 1
                message.kind = place[0]
                message.body = place + 5
                message.size = size - 4
                return True
        self._make_room(size + 1)
        return False

    cdef int clear(self) except -1:
        """Forget all bytes."""
        self.start = self.end = 0
        return 0

    cdef int _make_room(self, Py_ssize_t wanted) except -1:
        """Make room for a message of `wanted` bytes, growing only as fast as bytes have come.

        The length is the server's word: a false one must not make us take memory for bytes that never come.
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
