"""The send queue and the requests in flight: the session's output.

Requests are taken from `unsent` in order, as long as those in flight leave room (invariant 5). A request that has
more owns the wire up to its Sync (invariant 2); nothing is sent behind a barrier until it is done (invariant 11);
nothing is written while the cancel window is open. Only what is urgent is: it belongs to what the server waits for.
"""

cimport cython
from cpython.contextvars cimport PyContext_Enter, PyContext_Exit

from headrace._core.pipeline.requests cimport BARRIER, DONE, PUT_OFF, QUEUED, SENT, SIMPLE, WAITING, Ahead, Command, Opening

cdef Py_ssize_t MAX_BYTES_IN_FLIGHT = 1 << 20
# Bytes that a request which has more gives at once: its owner may want to stop, or the server may have failed it.
cdef Py_ssize_t STREAM_BYTES = 1 << 17


@cython.final
cdef class SendQueue:
    """The queues on either side of the wire, and the bytes between them."""

    def __cinit__(self, Py_ssize_t max_pipeline):
        self.unsent = Queue()
        self.sent = Queue()
        self.sent.limit = max_pipeline
        self.urgent = []
        self.work = Workload()
        self.out = WriteBuffer()

    cdef int encode(self, Request request) except -1:
        """Have the request put its message together; it is QUEUED then.

        That runs code of the caller, in the context of the task that awaits the request, and any allocation may run
        finalisers: should these have another request encoded, it gets a buffer of its own.
        """
        cdef WriteBuffer out = self.out if self.out is not None else WriteBuffer()
        cdef object context
        self.out = None
        context = entered_context(request)
        try:
            request.encode(out)
            if request.state == WAITING:
                request.state = QUEUED
        finally:
            if context is not None:
                PyContext_Exit(context)
            out.length = 0
            self.out = out
        return 0

    cdef bytes next_chunk(self, Request request):
        """The next bytes of a request that has more; like encode() this runs code of the caller, in its context."""
        cdef WriteBuffer out = self.out if self.out is not None else WriteBuffer()
        cdef object context
        self.out = None
        context = entered_context(request)
        try:
            return request.more(out)
        finally:
            if context is not None:
                PyContext_Exit(context)
            out.length = 0
            self.out = out

    cdef bint has_room(self) except -1:
        """Return whether the first unsent request may be in flight together with those that are."""
        return self.sent.count == 0 or (
            self.sent.count < self.sent.limit and self.bytes_in_flight < MAX_BYTES_IN_FLIGHT
            and not self.sent.last.traits & BARRIER)

    cdef bint must_wait(self, Request request) except -1:
        """Return whether a request must not be written yet because one in flight may have to be run again, behind it."""
        return self.last_may_be_cancelled is not None and (self.unsent.first is not request or not request.session_safe())

    # -- commands put off --------------------------------------------------------------------------------------------

    cdef Request next_carrier(self):
        """Return the first request behind the commands at the front, if it can be sent; None if there are no commands."""
        cdef:
            Request command = self.unsent.first
            Request request
        while command.traits & PUT_OFF:
            request = command.next
            while request is not None and request.state == DONE:
                self.unsent.remove(request)
                request = command.next
            if request is None or not request.traits & PUT_OFF:
                return request if request is not None and request.state == QUEUED else None
            command = request
        return None

    cdef Request load(self, Request request):
        """Have a request take the commands at the front along; returns the one to be sent, which is out of the queue."""
        cdef:
            Ahead ahead = Ahead()
            Request carrier = request
        while self.unsent.first is not request:
            ahead.add(<Command>self.unsent.pop())
            self.put_off -= 1
        if request.traits & SIMPLE:
            carrier = Opening(request)
            self.encode(carrier)
            self.unsent.push_front(carrier)
        self.unsent.pop()
        carrier.ahead = ahead
        carrier.message = ahead.message() + carrier.message
        if ahead.block is not None and not (ahead.alone and carrier is request):
            # If BEGIN is refused, nothing else of the block may run. A lone COMMIT does no harm.
            carrier.traits |= BARRIER
        return carrier

    cdef Request first_put_off(self):
        """Return the first of the commands that nothing was queued behind, or None."""
        cdef Request request = self.unsent.last, found = None
        if self.put_off == 0 or request.state != DONE and not request.traits & PUT_OFF:
            return None
        request = self.unsent.first
        while request is not None:
            if not request.traits & PUT_OFF:
                if request.state != DONE:
                    found = None
            elif found is None:
                found = request
            request = request.next
        return found

    cdef int append_own(self, Request request) except -1:
        """Queue a request of the session's own behind all others; it does not cause commands to be sent."""
        cdef Request place = self.first_put_off()
        return self.unsent.append(request) if place is None else self.unsent.insert_before(request, place)

    cdef int take_back(self, Request command) except -1:
        """Drop a command that nothing was queued behind, and those that follow it."""
        cdef Request following
        while command is not None:
            following = command.next
            if command.traits & PUT_OFF:
                command.state = DONE
                self.unsent.remove(command)
                self.put_off -= 1
            command = following
        self.unsent.skip_done()
        return 0

    # -- output ------------------------------------------------------------------------------------------------------

    cdef bint is_wanted(self) except -1:
        """Return whether take() would give anything."""
        cdef Request request
        self.unsent.skip_done()
        if self.urgent:
            return True
        if self.held:
            return False
        if self.streaming is not None:
            return not self.streaming.stalls()
        request = self.unsent.first
        if request is not None and request.state != QUEUED:
            request = self.next_carrier()
        return request is not None and self.has_room() and not self.must_wait(request)

    cdef bytes take(self, bint urgent_only):
        """The bytes to be written now, b'' for none; the requests they belong to are in flight from here on."""
        cdef list urgent
        if self.taking:
            # Called from within an iterable of arguments: what comes now belongs behind the bytes being collected.
            return b''
        if self.urgent:
            urgent = self.urgent
            self.urgent = []
            return b''.join(urgent)
        if self.held or urgent_only:
            return b''
        self.taking = True
        try:
            return self.collect()
        finally:
            self.taking = False

    cdef bytes collect(self):
        cdef:
            list parts = []
            Request request
            bytes chunk
            Py_ssize_t taken = 0
        while True:
            if self.streaming is not None:
                request = self.streaming
                if request.stalls():
                    break
                chunk = self.next_chunk(request)
                if self.streaming is not request:
                    # Given up from within: what ends it is urgent by now, and stands in the chunk's place.
                    continue
                taken += len(chunk)
                parts.append(chunk)
                if not request.has_more:
                    self.streaming = None
                elif taken >= STREAM_BYTES or self.held:
                    break
                continue
            self.unsent.skip_done()
            request = self.unsent.first
            if request is not None and request.state != QUEUED:
                request = self.next_carrier()
            if request is None or not self.has_room() or self.held or self.must_wait(request):
                break
            if request is self.unsent.first:
                self.unsent.pop()
            else:
                request = self.load(request)
            request.state = SENT
            request.size = len(request.message)
            self.bytes_in_flight += request.size
            request.sent_at = self.work.now
            if request.prepares is not None:
                self.work.preparing += 1
            if self.sent.count == 0:
                self.is_head(request)
            taken += request.size
            parts.append(request.message)
            request.message = None
            self.sent.append(request)
            if request.has_more:
                self.streaming = request
        if self.urgent:
            # It came while an iterable of arguments ran, and belongs behind what was taken before.
            parts.extend(self.urgent)
            self.urgent.clear()
        if len(parts) == 1:
            return <bytes>parts[0]
        return b''.join(parts)

    cdef int is_head(self, Request request) except -1:
        """The server begins with a request."""
        self.work.head_since = self.work.now
        # As expected when it was sent: others may stand behind it because of that.
        self.work.head_cost = 0 if request.cost is None else max(request.expected, 0)
        self.work.begun = request if request.work is self.work else None
        return 0

    cdef Request answered(self):
        """Take out the request that ReadyForQuery came for."""
        cdef Request head = self.sent.pop()
        self.bytes_in_flight -= head.size
        if head.prepares is not None:
            self.work.preparing -= 1
        if head is self.last_may_be_cancelled:
            self.last_may_be_cancelled = None
        if self.sent.first is not None:
            self.is_head(self.sent.first)
        return head

    cdef int end_stream(self, object error) except -1:
        """End the request that has more as it is, or the Sync that lets the server answer would never be sent."""
        cdef Request request = self.streaming
        if request.error is None:
            request.error = error
        self.streaming = None
        self.urgent.append(self.next_chunk(request))
        return 0

    cdef bint withdraw(self, Request request) except -1:
        """Send what the server needs to end an abandoned request; returns whether there is such a thing."""
        cdef bytes withdrawal = request.withdrawal(WriteBuffer())
        if withdrawal is None:
            return False
        self.urgent.append(withdrawal)
        return True


cdef object entered_context(Request request):
    """Enter the context of the task that awaits a request; returns it, or None if there is nothing to leave."""
    cdef object context = request.context
    if context is None:
        return None
    try:
        PyContext_Enter(context)
    except RuntimeError:
        # It is the current one, or that of a task that shares it.
        return None
    return context
