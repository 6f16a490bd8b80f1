# The rest of a long reply, taken from the socket as it arrives.

cdef class BusyPoll:
    cdef:
        int descriptor
        int passed_over         # how many more times not to wait
        int setback             # how many times it was not waited after the last wait in vain

    cdef bint is_of(self, transport) except -1
    cdef Py_ssize_t rest(self, char *place, Py_ssize_t room) noexcept
    cdef Py_ssize_t receive(self, char *place, Py_ssize_t room) noexcept
    cdef Py_ssize_t send(self, const char *data, Py_ssize_t size) noexcept
