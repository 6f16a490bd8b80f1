"""The line: one socket, and the session that speaks over it.

It writes what the session has, in one go and at most once a turn of the event loop; it reads into the session's buffer.
Reading goes on whatever happens to writing: a backend that cannot get rid of its replies stops reading, and both sides
would wait for ever. The one reply whose reader may be slower than the server is that of a COPY, behind which nothing is
in flight.
"""

from headrace._core.pipeline.copy cimport CopyIn, CopyOut
from headrace._core.wire.read_buffer cimport ReadBuffer
from headrace._core.pipeline.requests cimport DONE, Request
from headrace._core.pipeline.workload cimport Workload, boot_seconds

# Bytes of a reply that are taken in at most before the event loop has its turn.
cdef Py_ssize_t FOLLOWED_BYTES = 1 << 18


# Seconds since the last reply after which a look at the socket goes ahead of a request.
cdef double LOOK_AFTER = 1
# Seconds of work at a head beyond which it is found out whether the reply was only read late.
cdef double SUSPICIOUS = 0.001


cdef class Sharing:
    """Is told what happens to a connection that the callers of a pool share."""

    cdef int replied(self, Line line) except -1:
        """Replies have been read, and what is queued now is written at once."""
        return 0

    cdef int held(self, Line line) except -1:
        """A CancelRequest is under way: nothing is written before its end."""
        return 0

    cdef int resumed(self, Line line) except -1:
        """There may be output again."""
        return 0

    cdef bint take_back(self, Line line, Request request, bint started) except -1:
        """Take a request back from a connection that has come to its end; returns whether it was taken."""
        return False

    cdef int reported(self, Line line, str name) except -1:
        """The server has reported a new value of a setting (ParameterStatus)."""
        return 0


cdef class Line:
    """What of a connection is bytes and ticks of the event loop; `Driver` is the whole of it."""

    def __init__(self, loop, Session session not None):
        self.loop = loop
        self.session = session
        self.flush_later = self._flush_now
        self.idle_waiters = []
        self.room = []

    # -- asyncio's BufferedProtocol --------------------------------------------------------------------------------

    def connection_made(self, transport):
        self.transport = transport
        self.connected = True
        sock = transport.get_extra_info('socket')
        if sock is not None and transport.get_extra_info('sslcontext') is None:
            self.busy_poll = BusyPoll(sock.fileno())
        if sock is not None:
            self.socket_state = SocketState(sock.fileno())
        self.session.work.replied_at = boot_seconds()

    def get_buffer(self, sizehint):
        return self.session.read_buffer.writable()

    def buffer_updated(self, Py_ssize_t size):
        cdef:
            Workload work = self.session.work
            double now = boot_seconds()
        try:
            work.now = work.arrived = now
            if self.ticks is not None and self.ticks.in_tick:
                # The loop is busy: it may have come long ago, but it had not when the turn before began.
                work.arrived = max(self.ticks.tick_before, work.head_since)
            elif now - work.head_since > SUSPICIOUS and self.session.sent.count and self.socket_state is not None:
                work.arrived = max(now - self.socket_state.lateness(), work.head_since)
            self.session.received(size)
            self._hold_back()
            if self.session.flowing and self.busy_poll is not None:
                self._follow()
            if self.session.fatal is not None:
                # The server's last words: nothing can follow but the end, which something in between may keep back.
                self._break_off(self.session.fatal)
                return
            if self.sharing is not None:
                self.sharing.replied(self)
            if self.session.wants_output():
                self._flush()
        except BaseException as error:
            self._break_off(error)
            if not isinstance(error, Exception):
                raise
            return
        if self.idle_waiters and self.session.sent.count == 0:
            self._wake_idle_waiters()

    cdef int _follow(self) except -1:
        """Take in what comes at once of a reply that is under way."""
        cdef:
            ReadBuffer read_buffer = self.session.read_buffer
            Py_ssize_t size
            Py_ssize_t taken = 0
        while self.session.flowing and self.session.fatal is None and self.connected and not self.unread and taken < FOLLOWED_BYTES:
            size = self.busy_poll.receive(read_buffer.data + read_buffer.end, read_buffer.capacity - read_buffer.end)
            if size <= 0:
                break
            taken += size
            self.session.work.now = boot_seconds()
            if self.ticks is None or not self.ticks.in_tick:
                self.session.work.arrived = self.session.work.now
            self.session.received(size)
            self._hold_back()
        return 0

    def eof_received(self):
        return False

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False
        self._flush()
        if not self.paused:
            self._make_room()

    def connection_lost(self, exc):
        reason = exc if exc is not None else 'the server closed the connection'
        if exc is not None and self.connected:
            try:
                self._read_rest()
            except Exception as error:
                reason = error
        self._lost(reason)

    cdef int _read_rest(self) except -1:
        """Take in what the server had said before a write failed: its last words tell what has become of the requests.

        The socket is still open at this point, with asyncio and uvloop alike. Under TLS it is not, and nothing is read.
        """
        cdef:
            ReadBuffer read_buffer = self.session.read_buffer
            Py_ssize_t size
        if self.busy_poll is None or self.session.feeding or not self.busy_poll.is_of(self.transport):
            return 0
        while self.connected and self.session.fatal is None:
            read_buffer.writable()
            size = self.busy_poll.rest(read_buffer.data + read_buffer.end, read_buffer.capacity - read_buffer.end)
            if size <= 0:
                break
            self.session.received(size)
        return 0

    # -- writing ---------------------------------------------------------------------------------------------------

    cdef int _flush(self) except -1:
        """Write what the session has, until it has no more or the transport asks for a pause."""
        cdef bytes data
        if not self.connected:
            return 0
        self.session.work.now = boot_seconds()
        data = self.session.take_output(self.paused)
        if data:
            self.transport.write(data)
            if not self.paused and self.session.wants_output():
                self._schedule()
        return 0

    cdef int _flush_urgent(self) except -1:
        """Write what the server needs in order to go on, even if the transport has asked for a pause."""
        cdef bytes data
        if self.connected:
            data = self.session.take_output(True)
            if data:
                self.transport.write(data)
        return 0

    cdef int _schedule(self) except -1:
        if not self.flush_scheduled:
            self.flush_scheduled = True
            self.loop.call_soon(self.flush_later)
        return 0

    cdef int _write(self) except -1:
        try:
            self._flush()
        except BaseException as error:
            self._break_off(error)
            if not isinstance(error, Exception):
                raise
        return 0

    def _flush_now(self):
        self.flush_scheduled = False
        self._write()

    cdef int _submitted(self) except -1:
        if self.session.sent.count == 0 and not self.session.feeding:
            # The server has nothing to do. What else comes in this turn of the loop is written at its end.
            if self.session.wants_output() and not self._is_gone():
                self._write()
        elif not self.flush_scheduled and self.session.wants_output():
            # While replies are outstanding the window may be full: the next reply flushes then.
            self._schedule()
        return 0

    cdef bint _is_gone(self) except -1:
        """Whether the server has ended the session; it is looked at where that may have gone unnoticed for a while.

        A machine that sleeps, or a process that is stopped, does not read: what the server has said lies unread, and
        nothing must be sent before it is read.
        """
        cdef Py_ssize_t size
        if boot_seconds() - self.session.work.replied_at <= LOOK_AFTER or self.socket_state is None or self.unread \
                or not self.connected:
            return False
        self.session.work.replied_at = boot_seconds()
        while self.connected and self.socket_state.has_unread():
            if self.busy_poll is None:
                # It is encrypted: the event loop reads it, and what is to be sent waits for that.
                self._schedule_later()
                return True
            size = self.busy_poll.receive(self.session.read_buffer.data + self.session.read_buffer.end,
                                         self.session.read_buffer.capacity - self.session.read_buffer.end)
            if size <= 0:
                self._break_off('the server closed the connection')
            else:
                self.buffer_updated(size)
        return not self.connected

    cdef int _schedule_later(self) except -1:
        """Have the flush come after what the loop is going to read."""
        if not self.flush_scheduled:
            self.flush_scheduled = True
            self.loop.call_soon(self.loop.call_soon, self.flush_later)
        return 0

    def flush_soon(self) -> None:
        """See to it that what the session has queued is written in this turn of the loop."""
        self._submitted()

    # -- COPY --------------------------------------------------------------------------------------------------------

    def send_data(self, CopyIn request not None, bytes messages not None) -> bool:
        """Write CopyData or CopyDone of the COPY under way; returns whether the transport takes more.

        Does nothing where the server has ended the COPY: the request's waiter says why.
        """
        if request.state != DONE and self.connected:
            self.transport.write(messages)
        return not self.paused

    async def wait_for_room(self):
        """Wait until the transport takes more, or the connection is gone."""
        while self.paused and self.connected:
            waiter = self.loop.create_future()
            self.room.append(waiter)
            await waiter

    cdef int _make_room(self) except -1:
        waiters, self.room = self.room, []
        return wake(waiters)

    cdef int _hold_back(self) except -1:
        """Leave the socket unread while the reader of a COPY has enough to do. Nothing else is in flight then."""
        cdef Request head = self.session.sent.first
        if head is not None and isinstance(head, CopyOut) and (<CopyOut>head).full() and not self.unread:
            self.unread = True
            self.transport.pause_reading()
        return 0

    def read_on(self) -> None:
        """The reader of a COPY has caught up."""
        if self.unread:
            self.unread = False
            if self.connected:
                self.transport.resume_reading()

    # -- until it is quiet --------------------------------------------------------------------------------------------

    async def drain(self):
        """Wait until nothing is in flight or waiting, or the connection is gone."""
        while self.connected:
            # First, for this takes out of the queue what was dropped while it stood there.
            self._submitted()
            if not self.session.count_pending():
                return
            await self._change()

    cdef object _change(self):
        """A future, done once nothing is in flight, a cancel window has closed, or the connection is gone."""
        watcher = self.loop.create_future()
        self.idle_waiters.append(watcher)
        return watcher

    cdef int _wake_idle_waiters(self) except -1:
        idle_waiters, self.idle_waiters = self.idle_waiters, []
        return wake(idle_waiters)

    # -- the end -----------------------------------------------------------------------------------------------------------

    def _break_off(self, error):
        """The connection can no longer be trusted: settle everything and drop the socket."""
        self._lost(error)
        if self.transport is not None:
            self.transport.abort()

    def _lost(self, reason):
        """The connection is gone, or is to be: settle everything."""
        raise NotImplementedError


cdef int wake(list futures) except -1:
    for future in futures:
        if not future.done():
            future.set_result(None)
    return 0
