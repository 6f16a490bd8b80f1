# One socket, and the session that speaks over it.

from headrace._core.pipeline.future cimport WakeupBatch
from headrace._core.pipeline.requests cimport Request
from headrace._core.pipeline.session cimport Session
from headrace._io.busy_poll cimport BusyPoll
from headrace._io.socket_state cimport SocketState


cdef class Sharing:
    # What a pool is told by the connections that its callers share.
    cdef int replied(self, Line line) except -1
    cdef int held(self, Line line) except -1
    cdef int resumed(self, Line line) except -1
    cdef bint take_back(self, Line line, Request request, bint started) except -1
    cdef int reported(self, Line line, str name) except -1


cdef class Line:
    cdef:
        readonly Session session
        readonly object loop
        readonly object transport
        readonly bint connected
        BusyPoll busy_poll                # None where what arrives is encrypted, or cannot be got at
        SocketState socket_state         # None if there is no socket to look at
        Sharing sharing                  # the pool's, told when there are replies; None outside of a pool
        WakeupBatch ticks                    # of the pool; None outside of one
        bint paused
        bint unread                      # the socket is left unread until the reader of a COPY has caught up
        bint flush_scheduled
        object flush_later
        list idle_waiters                    # futures of those who wait until it is quiet
        list room                        # futures of those who wait for the transport to take more

    cdef bint _is_gone(self) except -1
    cdef int _schedule_later(self) except -1
    cdef int _follow(self) except -1
    cdef int _read_rest(self) except -1
    cdef int _flush(self) except -1
    cdef int _flush_urgent(self) except -1
    cdef int _schedule(self) except -1
    cdef int _write(self) except -1
    cdef int _submitted(self) except -1
    cdef int _make_room(self) except -1
    cdef int _hold_back(self) except -1
    cdef object _change(self)
    cdef int _wake_idle_waiters(self) except -1
