"""The send queue and the requests in flight: the session's output.

Requests are taken from `unsent` in order, as long as those in flight leave room (invariant 5). A request that has
more owns the wire up to its Sync (invariant 2); nothing is sent behind a barrier until it is done (invariant 11);
nothing is written while the cancel window is open. Only what is urgent is: it belongs to what the server waits for.
"""

cimport cython
from cpython.contextvars cimport PyContext_Enter, PyContext_Exit

from headrace._core.pipeline.requests cimport BARRIER, QUEUED, SENT, WAITING

cdef Py_ssize_t MAX_BYTES_IN_FLIGHT = 1 << 20
# Bytes that a request which has more gives at once: its owner may want to stop, or the server may have failed it.
cdef Py_ssize_t STREAM_BYTES = 1 << 17


@cython.final
cdef class SendQueue:
    """The queues on either side of the wire, and the bytes between them."""

    def __cinit__(self, Py_ssize_t max_pipeline):
        self.max_pipeline = max_pipeline
        self.unsent = Queue()
        self.sent = Queue()
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
            self.sent.count < self.max_pipeline and self.bytes_in_flight < MAX_BYTES_IN_FLIGHT
            and not self.sent.last.traits & BARRIER)

    cdef bint must_wait(self, Request request) except -1:
        """Return whether a request must not be written yet because one in flight may have to be run again, behind it."""
        return self.last_may_be_cancelled is not None and not request.session_safe()

    cdef bint is_wanted(self) except -1:
        """Return whether take() would give anything."""
        self.unsent.skip_done()
        if self.urgent:
            return True
        if self.held:
            return False
        if self.streaming is not None:
            return not self.streaming.stalls()
        return self.unsent.first is not None and self.unsent.first.state == QUEUED and self.has_room() \
            and not self.must_wait(self.unsent.first)

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
            if request is None or request.state != QUEUED or not self.has_room() or self.held \
                    or self.must_wait(request):
                break
            self.unsent.pop()
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
