"""Looks at a socket beside its event loop: what lies unread, and since when.

An event loop that is busy reads late. The scheduler must not take that for a slow server.
"""

cimport cython

cdef extern from "platform.h":
    bint descriptor_has_unread "has_unread"(int descriptor) noexcept

cdef extern from *:
    """
    #include <string.h>
    #ifdef __linux__
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #endif

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
    long milliseconds_since_data(int descriptor) noexcept


@cython.final
cdef class SocketState:
    """The socket of one connection."""

    def __cinit__(self, int descriptor):
        self.descriptor = descriptor

    cdef bint has_unread(self) noexcept:
        """Return whether there is something to read: data, or the end of the stream."""
        return descriptor_has_unread(self.descriptor)

    cdef double lateness(self) noexcept:
        """Seconds that the last data have lain here; 0 if that is not known.

        The kernel counts in steps of some milliseconds, so very short times come out as 0.
        """
        cdef long milliseconds = milliseconds_since_data(self.descriptor)
        return milliseconds * 1e-3 if milliseconds > 0 else 0
