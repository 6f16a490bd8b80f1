# The send queue and the requests in flight.

from headrace._core.wire.buffer cimport WriteBuffer
from headrace._core.pipeline.queue cimport Queue
from headrace._core.pipeline.requests cimport Request
from headrace._core.pipeline.workload cimport Workload


cdef class SendQueue:
    cdef:
        Queue unsent
        Queue sent
        list urgent                       # bytes that go ahead of everything queued
        Request streaming                 # the last of those sent, while it has more to send
        bint held                         # a CancelRequest is under way: nothing else is written (cancel)
        Request last_may_be_cancelled     # in flight: the last that the signal may hit beside its target (cancel)
        Py_ssize_t bytes_in_flight
        Workload work                     # how far the server is with what is in flight
        WriteBuffer out                   # scratch space; None while a request is being encoded
        bint taking
        Py_ssize_t put_off                # the commands in `unsent`
        bint idle                         # no transaction block was open at the last ReadyForQuery

    cdef int encode(self, Request request) except -1
    cdef bytes next_chunk(self, Request request)
    cdef bint has_room(self) except -1
    cdef bint must_wait(self, Request request) except -1
    cdef Request next_carrier(self)
    cdef Request load(self, Request request)
    cdef Request first_put_off(self)
    cdef int append_own(self, Request request) except -1
    cdef int take_back(self, Request command) except -1
    cdef bint is_wanted(self) except -1
    cdef bytes take(self, bint urgent_only)
    cdef bytes collect(self)
    cdef int is_head(self, Request request) except -1
    cdef Request answered(self)
    cdef int end_stream(self, object error) except -1
    cdef bint withdraw(self, Request request) except -1
