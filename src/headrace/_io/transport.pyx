"""The transport: the bytes of one connection, between the socket and the session.

It writes what the session has, in one go and at most once a tick of the event loop; it reads into a buffer for the session.
Reading goes on while writing is paused: a backend that cannot get rid of its replies stops reading, and both sides
would wait for ever. There is one exception. The reader of a COPY TO STDOUT or of a stream may be slower than the server, so
the socket is left unread while it has enough to do; nothing is in flight behind these.

Its driver is told when replies were read, when reading or writing has failed, and when the connection is gone.
"""

import asyncio
from asyncio import current_task

from headrace._core.pipeline.copy cimport CopyIn
from headrace._core.wire.read_buffer cimport ReadBuffer
from headrace._core.pipeline.requests cimport BARRIER, DONE, Request
from headrace._core.pipeline.workload cimport Workload, boot_seconds

cdef extern from "platform.h":
    bint READS_DESCRIPTORS

# Bytes of a reply that are taken in at most before the event loop goes on.
cdef Py_ssize_t FOLLOWED_BYTES = 1 << 18
# Seconds since the last reply after which the socket is looked at before a request is written.
cdef double LOOK_AFTER = 1
# Seconds of work at a head beyond which it is found out whether the reply was only read late.
cdef double SUSPICIOUS = 0.001
# Seconds in tasks that were woken beyond which other connections' replies count as read late.
cdef double LONG = 50e-6


cdef class TransportCallbacks:
    """The callbacks of a Transport."""

    cdef int replied(self) except -1:
        """Replies have been read; what is queued now is written at once."""
        return 0

    cdef int answered_all(self) except -1:
        """Nothing is in flight after a read."""
        return 0

    cdef int fail(self, error) except -1:
        """The connection can no longer be trusted: settle everything, and abort the transport."""
        return 0

    cdef int lost(self, reason) except -1:
        """The connection is gone: settle everything."""
        return 0


cdef class Transport:
    """One socket, with flow control; Protocol makes it a protocol of asyncio."""

    def __init__(self, loop, Session session not None, TransportCallbacks driver not None):
        self.loop = loop
        self.session = session
        self.driver = driver
        self.read_buffer = ReadBuffer()
        self.flush_later = self._flush_now
        self.room = []

    # -- asyncio's BufferedProtocol --------------------------------------------------------------------------------

    def connection_made(self, transport):
        self.transport = transport
        self.connected = True
        sock = transport.get_extra_info('socket') if READS_DESCRIPTORS else None
        if sock is not None:
            self.socket_state = SocketState(sock.fileno())
            if transport.get_extra_info('sslcontext') is None:
                self.busy_poll = BusyPoll(sock.fileno())
                self.direct = True
        self.session.work.replied_at = boot_seconds()

    def get_buffer(self, sizehint):
        return self.read_buffer.writable()

    def buffer_updated(self, Py_ssize_t size):
        self.wakeup_batch.reading = True
        if self.ticks is not None:
            self.ticks.reading = True
        try:
            self._take_in(size)
        finally:
            self._wake()

    cdef int _wake(self) except -1:
        """Wake the tasks whose replies were read.

        A callback of the loop would do so in the next tick. That tick costs more than the driver spends on a small query. It is
        used if listeners, or what the pool does about a changed server, come first, which are callbacks of the loop.
        """
        cdef:
            WakeupBatch own = self.wakeup_batch, shared = self.ticks
            double began
            bint now = self.connected and not self.told
        self.told = False
        if not own.replies and (shared is None or not shared.replies):
            own.reading = False
            if shared is not None:
                shared.reading = False
            return 0
        # asyncio's loop reads outside of any task; other loops, and a flush of TLS, may do so inside of one.
        now = now and current_task(self.loop) is None
        if shared is None:
            return own.wake_or_schedule(now)
        began = boot_seconds()
        own.wake_or_schedule(now)
        shared.wake_or_schedule(now)
        if now and not shared.in_tick and boot_seconds() - began > LONG:
            # The replies that are read from other connections in this tick may have come meanwhile.
            shared.begin_tick(began)
        return 0

    cdef int _take_in(self, Py_ssize_t size) except -1:
        """Take in what was read."""
        cdef:
            Workload work = self.session.work
            double now = boot_seconds()
            bint flowing
        try:
            work.now = work.arrived = now
            if self.ticks is not None and self.ticks.in_tick:
                # The loop is busy: the reply may have come long ago, but it had not at that time.
                work.arrived = max(self.ticks.tick_before, work.head_since)
            elif now - work.head_since > SUSPICIOUS and self.session.sent.count and self.socket_state is not None:
                work.arrived = max(now - self.socket_state.lateness(), work.head_since)
            flowing = self.session.receive(self.read_buffer, size)
            self._hold_back()
            if flowing and self.busy_poll is not None:
                self._follow()
            self.driver.replied()
            if self.session.wants_output():
                self.flush()
        except BaseException as error:
            # After the server's last words nothing can follow but the end, which something in between may keep back.
            self.driver.fail(error)
            if not isinstance(error, Exception):
                raise
            return 0
        if self.session.sent.count == 0:
            self.driver.answered_all()
        return 0

    cdef int _follow(self) except -1:
        """Take in what comes at once of a reply that is under way."""
        cdef:
            ReadBuffer read_buffer = self.read_buffer
            bint flowing = True
            Py_ssize_t size
            Py_ssize_t taken = 0
        while flowing and self.connected and not self.unread and taken < FOLLOWED_BYTES:
            size = self.busy_poll.receive(read_buffer.data + read_buffer.end, read_buffer.capacity - read_buffer.end)
            if size <= 0:
                break
            taken += size
            self.session.work.now = boot_seconds()
            if self.ticks is None or not self.ticks.in_tick:
                self.session.work.arrived = self.session.work.now
            flowing = self.session.receive(read_buffer, size)
            self._hold_back()
        return 0

    def eof_received(self):
        self.direct = False
        return False

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False
        self.flush()
        if not self.paused:
            self._make_room()

    def connection_lost(self, exc):
        self.direct = False
        reason = exc if exc is not None else 'the server closed the connection'
        if exc is not None and self.connected:
            try:
                self._read_rest()
            except Exception as error:
                reason = error
        self.driver.lost(reason)

    cdef int _read_rest(self) except -1:
        """Take in what the server had said before a write failed: its last words tell what has become of the requests.

        The socket is still open at this point, with asyncio and uvloop alike. Under TLS it is not, and nothing is read.
        """
        cdef:
            ReadBuffer read_buffer = self.read_buffer
            Py_ssize_t size
        if self.busy_poll is None or read_buffer.in_use or not self.busy_poll.is_of(self.transport):
            return 0
        while self.connected:
            read_buffer.writable()
            size = self.busy_poll.rest(read_buffer.data + read_buffer.end, read_buffer.capacity - read_buffer.end)
            if size <= 0:
                break
            self.session.receive(read_buffer, size)
        return 0

    # -- writing ---------------------------------------------------------------------------------------------------

    cdef int flush(self) except -1:
        """Write what the session has, until it has no more or asyncio's transport asks for a pause."""
        cdef bytes data
        if not self.connected:
            return 0
        self.session.work.now = boot_seconds()
        data = self.session.take_output(self.paused)
        if data:
            self.write(data)
            if not self.paused and self.session.wants_output():
                self._schedule()
        return 0

    cdef int write(self, bytes data) except -1:
        """Write to the socket itself if nothing is in the way, otherwise to asyncio's transport."""
        cdef Py_ssize_t sent = 0
        if self.direct:
            if self.buffered:
                self.buffered = self.transport.get_write_buffer_size() > 0
            if not self.buffered:
                sent = self.busy_poll.send(data, len(data))
                if sent == len(data):
                    return 0
                self.buffered = True
        # asyncio's transport has the rest, and comes upon errors by itself.
        self.transport.write(data[sent:] if sent > 0 else data)
        return 0

    cdef int flush_urgent(self) except -1:
        """Write what the server needs in order to go on, even during a pause."""
        cdef bytes data
        if self.connected:
            data = self.session.take_output(True)
            if data:
                self.write(data)
        return 0

    cpdef int flush_soon(self) except -1:
        """Have what the session has queued written in this tick of the event loop.

        If the server has nothing to do it is written at once, and what else is queued in this tick at its end.
        """
        if self.session.sent.count == 0 and not self.read_buffer.in_use:
            if self.session.wants_output() and not self.is_gone():
                self._try_to_flush()
        elif not self.flush_scheduled and self.session.wants_output():
            # While replies are outstanding no more may be allowed in flight: the next reply flushes then.
            self._schedule()
        return 0

    cdef int flush_after_reading(self) except -1:
        """Have the flush come one tick later than usual, after what the loop is going to read."""
        if not self.flush_scheduled:
            self.flush_scheduled = True
            self.loop.call_soon(self.loop.call_soon, self.flush_later)
        return 0

    cdef int _schedule(self) except -1:
        if not self.flush_scheduled:
            self.flush_scheduled = True
            self.loop.call_soon(self.flush_later)
        return 0

    cdef int _try_to_flush(self) except -1:
        try:
            self.flush()
        except BaseException as error:
            self.driver.fail(error)
            if not isinstance(error, Exception):
                raise
        return 0

    def _flush_now(self):
        self.flush_scheduled = False
        self._try_to_flush()

    cdef bint is_gone(self) except -1:
        """Return whether the server has ended the session. The socket is looked at if that may have gone unnoticed for a while.

        A machine that sleeps, or a process that is stopped, does not read: the server's words lie unread, and nothing
        must be sent before they are read.
        """
        cdef Py_ssize_t size
        if boot_seconds() - self.session.work.replied_at <= LOOK_AFTER or self.socket_state is None or self.unread \
                or not self.connected:
            return False
        self.session.work.replied_at = boot_seconds()
        while self.connected and self.socket_state.has_unread():
            if self.busy_poll is None:
                # It is encrypted: the event loop reads it, and what is to be sent waits for that.
                self.flush_after_reading()
                return True
            size = self.busy_poll.receive(self.read_buffer.data + self.read_buffer.end,
                                          self.read_buffer.capacity - self.read_buffer.end)
            if size <= 0:
                self.driver.fail('the server closed the connection')
            else:
                self._take_in(size)
        return not self.connected

    # -- COPY --------------------------------------------------------------------------------------------------------

    def send_data(self, CopyIn request not None, bytes messages not None) -> bool:
        """Write CopyData or CopyDone of the COPY under way; returns whether more can be written at once.

        Does nothing if the server has ended the COPY: the request's waiter says why.
        """
        if request.state != DONE and self.connected:
            self.write(messages)
        return not self.paused

    async def wait_for_room(self):
        """Wait until more can be written, or the connection is gone."""
        while self.paused and self.connected:
            waiter = self.loop.create_future()
            self.room.append(waiter)
            await waiter

    cdef int _make_room(self) except -1:
        waiters, self.room = self.room, []
        return wake(waiters)

    cdef int _hold_back(self) except -1:
        """Leave the socket unread while the reader of a COPY or a stream has enough to do. Nothing else is in flight then."""
        cdef Request head = self.session.sent.first
        if head is not None and head.traits & BARRIER and head.is_full() and not self.unread:
            self.unread = True
            self.transport.pause_reading()
        return 0

    def read_on(self) -> None:
        """The reader of a COPY or a stream has caught up."""
        if self.unread:
            self.unread = False
            if self.connected:
                self.transport.resume_reading()

    # -- the end -----------------------------------------------------------------------------------------------------

    cdef int disconnect(self) except -1:
        """Write nothing more, and wake those who wait for that."""
        self.connected = self.direct = False
        return self._make_room()

    cdef int abort(self) except -1:
        """Drop the socket."""
        if self.transport is not None:
            self.transport.abort()
        return 0

    def get_extra_info(self, name, default=None):
        """Return what asyncio's transport tells of itself."""
        return self.transport.get_extra_info(name, default)


class Protocol(Transport, asyncio.BufferedProtocol):
    """A Transport as asyncio wants its protocols."""


cdef int wake(list futures) except -1:
    for future in futures:
        if not future.done():
            future.set_result(None)
    return 0
