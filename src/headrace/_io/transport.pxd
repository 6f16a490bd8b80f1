# The bytes of one connection: its socket, and what is read and written there.

from headrace._core.pipeline.session cimport Session
from headrace._io.busy_poll cimport BusyPoll
from headrace._io.socket_state cimport SocketState
from headrace._core.pipeline.future cimport WakeupBatch
from headrace._core.wire.read_buffer cimport ReadBuffer


cdef class TransportCallbacks:
    # Called by a Transport: the driver.
    cdef int replied(self) except -1
    cdef int answered_all(self) except -1
    cdef int fail(self, error) except -1
    cdef int lost(self, reason) except -1


cdef class Transport:
    cdef:
        readonly object loop
        readonly object transport        # asyncio's
        readonly bint connected
        Session session
        TransportCallbacks driver
        ReadBuffer read_buffer
        BusyPoll busy_poll               # None if the bytes are encrypted, or the socket cannot be got at
        SocketState socket_state         # None if there is no socket to look at
        WakeupBatch wakeup_batch         # of the driver
        WakeupBatch ticks                # of the pool; None outside of one
        bint paused
        bint told                        # listeners, or the pool, are told of something that came in this read
        bint direct                      # the socket may be written to
        bint buffered                    # asyncio's transport may have bytes that are not written yet
        bint unread                      # the socket is left unread until the reader of a COPY or a stream has caught up
        bint flush_scheduled
        object flush_later
        list room                        # futures of those who wait until more can be written

    cdef int _take_in(self, Py_ssize_t size) except -1
    cdef int _wake(self) except -1
    cdef int flush(self) except -1
    cdef int flush_urgent(self) except -1
    cdef int flush_after_reading(self) except -1
    cpdef int flush_soon(self) except -1
    cdef int write(self, bytes data) except -1
    cdef bint is_gone(self) except -1
    cdef int disconnect(self) except -1
    cdef int abort(self) except -1
    cdef int _follow(self) except -1
    cdef int _read_rest(self) except -1
    cdef int _schedule(self) except -1
    cdef int _try_to_flush(self) except -1
    cdef int _make_room(self) except -1
    cdef int _hold_back(self) except -1


cdef int wake(list futures) except -1
