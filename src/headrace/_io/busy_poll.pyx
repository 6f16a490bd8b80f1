"""BusyPoll: the rest of a long reply, taken from the socket as it arrives.

A server sends a long reply 8 kB at a time (PQ_SEND_BUFFER_SIZE in its pqcomm.c), some ten microseconds apart. A client
that goes to sleep in between is woken for each piece. That costs the server a system call that takes as long as making
the piece did, and the client a tick of the event loop; the quicker a client is, the more often it pays. So in the middle
of a reply the next piece is waited for, about as long as sleep and waking would take. If nothing came, what is next is
left to the event loop, and each time for longer: the network is slow then, or the query is.
"""

cimport cython

cdef extern from "platform.h":
    double monotonic_seconds() noexcept
    Py_ssize_t receive_now(int descriptor, char *place, Py_ssize_t room) noexcept
    Py_ssize_t send_now(int descriptor, const char *data, Py_ssize_t size) noexcept

# Seconds.
cdef double PATIENCE = 20e-6
cdef int LONGEST_SETBACK = 1024


@cython.final
cdef class BusyPoll:
    """The bytes that arrive at a socket, outside of the event loop that it belongs to."""

    def __cinit__(self, int descriptor):
        self.descriptor = descriptor

    cdef bint is_of(self, transport) except -1:
        """Return whether the socket is still open, and the transport's: a closed one's descriptor may be another's by now."""
        sock = transport.get_extra_info('socket')
        return sock is not None and sock.fileno() == self.descriptor

    cdef Py_ssize_t rest(self, char *place, Py_ssize_t room) noexcept:
        """Receive what is there; returns the number of bytes, and 0 or less if there are none, or no more."""
        return receive_now(self.descriptor, place, room)

    cdef Py_ssize_t send(self, const char *data, Py_ssize_t size) noexcept:
        """Send what the socket takes at once; returns the number of bytes, and less than 0 for none or an error."""
        return send_now(self.descriptor, data, size)

    cdef Py_ssize_t receive(self, char *place, Py_ssize_t room) noexcept:
        """Receive what is there, or arrives in a moment; returns the number of bytes, and 0 if there are none.

        The end of the stream and errors are not told apart from that: the event loop comes upon them by itself.
        """
        cdef:
            double deadline = 0
            Py_ssize_t size = receive_now(self.descriptor, place, room)
        if size < 0 and self.passed_over > 0:
            self.passed_over -= 1
            return 0
        while size < 0:
            if deadline == 0:
                deadline = monotonic_seconds() + PATIENCE
            elif monotonic_seconds() > deadline:
                self.setback = min(2 * self.setback + 1, LONGEST_SETBACK)
                self.passed_over = self.setback
                return 0
            size = receive_now(self.descriptor, place, room)
        if deadline != 0:
            self.setback //= 2
        return size
