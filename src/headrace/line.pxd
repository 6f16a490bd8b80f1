# One socket, and the session that speaks over it.

from headrace._core.session cimport Session
from headrace.arrivals cimport Arrivals


cdef class Line:
    cdef:
        readonly Session session
        readonly object loop
        readonly object transport
        readonly bint connected
        Arrivals arrivals                # None where what arrives is encrypted, or cannot be got at
        bint paused
        bint unread                      # the socket is left unread until the reader of a COPY has caught up
        bint flush_scheduled
        object flush_later
        list watchers                    # futures of those who wait until it is quiet
        list room                        # futures of those who wait for the transport to take more

    cdef int _follow(self) except -1
    cdef int _flush(self) except -1
    cdef int _schedule(self) except -1
    cdef int _write(self) except -1
    cdef int _submitted(self) except -1
    cdef int _make_room(self) except -1
    cdef int _hold_back(self) except -1
    cdef object _change(self)
    cdef int _wake_watchers(self) except -1
