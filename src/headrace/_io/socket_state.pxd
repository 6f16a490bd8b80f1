# The state of a socket in the kernel.

cdef class SocketState:
    cdef int descriptor

    cdef bint has_unread(self) noexcept
    cdef double lateness(self) noexcept
