# One query executed for each element of an iterable.

from headrace._core.pipeline.group cimport MeasuredQuery
from headrace._core.pipeline.requests cimport Query
from headrace._io.each_sender cimport EachSender


cdef class Unit:
    # One request of an iteration: a group, or a request of one element.
    cdef:
        Query request
        list elements                # None: the request asks for the server's settings
        bint is_group


cdef class Each:
    cdef:
        EachSender sender
        str query
        int kind
        int limit
        object column
        object record_class
        bint return_errors
        object timeout               # seconds to wait for a result; None for no limit
        Py_ssize_t window            # elements that are under way, or whose results wait for the consumer
        object source                # iterator of the elements; None once it has ended
        object feed                  # reads an asynchronous iterable; None for others
        object source_error          # what the source has raised
        Py_ssize_t remaining         # elements to come, as far as that is known; 0 or less if not
        list ahead                   # elements that were taken from the source and not sent
        Py_ssize_t pulled            # elements that were taken from the source
        bint filling                 # elements are being taken from the source
        int grouping                 # 1: elements share a Sync, -1: they do not, 0: not known yet
        object units                 # a deque of the requests under way, in the order of the elements
        Py_ssize_t under_way         # elements in them
        list results                 # of the unit that is being handed out
        Py_ssize_t at                # the next of them
        Py_ssize_t index             # of the next result
        double row_bytes             # bytes of a result, on average; -1 if not known yet
        double argument_bytes        # the same of the arguments
        object turn                  # the iterator that is awaited in place of a request
        object timer
        object context               # of the task that has begun the iteration
        bint timed_out
        bint ends                    # `turn` ends the iteration by an error
        bint asked                   # __anext__() was called, and its result has not been awaited yet
        bint waits                   # a task waits for the next result
        object waiting_task          # that task
        bint closed
        object watched               # the operation for query hooks; None if there are none, or they were told of the end
        bint begun                   # hooks were told of the start
        object __weakref__

    cdef object resume(self, bint *suspended)
    cdef object step(self, bint *suspended)
    cdef int consume(self, Unit unit) except -1
    cdef int measure(self, MeasuredQuery request, Py_ssize_t results) except -1
    cdef int log(self, Query request, list elements, list results) except -1
    cdef int log_abandoned(self, Unit unit, object error) except -1
    cdef object failed(self, error)
    cdef int finish(self) except -1
    cdef int refill(self) except -1
    cdef Py_ssize_t next_size(self) except -1
    cdef list pull(self, Py_ssize_t count)
    cdef int add(self, list elements, bint first) except -1
    cdef int ask_settings(self) except -1
    cdef list abandon(self, bint sent_too, object error)
    cdef int start_timer(self) except -1
    cdef int stop_timer(self) except -1
    cdef int tell_end(self, object error) except -1
