"""Looks at a socket beside its event loop: what lies unread, and since when.

An event loop that is busy reads late. The scheduler must not take that for a slow server.
"""

cimport cython

cdef extern from *:
    """
    #include <string.h>
    #include <sys/types.h>
    #include <sys/socket.h>
    #include <netinet/in.h>
    #include <netinet/tcp.h>

    /* Milliseconds since the kernel received data last (tcp(7), TCP_INFO); -1 if it does not tell. */
    static long milliseconds_since_data(int descriptor)
    {
    #if defined(__linux__) && defined(TCP_INFO)
        struct tcp_info info;
        socklen_t size = sizeof info;
        memset(&info, 0, sizeof info);
        if (getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) == 0)
            return (long)info.tcpi_last_data_recv;
    #endif
        return -1;
    }
    """
    Py_ssize_t recv(int descriptor, char *place, Py_ssize_t room, int flags) noexcept
    long milliseconds_since_data(int descriptor) noexcept
    int MSG_DONTWAIT
    int MSG_PEEK


@cython.final
cdef class SocketState:
    """The socket of one connection."""

    def __cinit__(self, int descriptor):
        self.descriptor = descriptor

    cdef bint has_unread(self) noexcept:
        """Return whether there is something to read: data, or the end of the stream."""
        cdef char byte
        return recv(self.descriptor, &byte, 1, MSG_DONTWAIT | MSG_PEEK) >= 0

    cdef double lateness(self) noexcept:
        """Seconds that the last data have lain here; 0 if that is not known.

        The kernel counts in steps of some milliseconds, so very short times come out as 0.
        """
        cdef long milliseconds = milliseconds_since_data(self.descriptor)
        return milliseconds * 1e-3 if milliseconds > 0 else 0
