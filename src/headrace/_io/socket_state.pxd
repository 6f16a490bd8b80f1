# What the kernel knows of a socket.

cdef class SocketState:
    cdef int descriptor

    cdef bint has_unread(self) noexcept
    cdef double lateness(self) noexcept
