# One class per kind of request: what it sends and how it reads its replies.

from headrace._core.buffer cimport WriteBuffer
from headrace._core.statement cimport Statement

cdef enum Result:
    ROWS          # list of all rows
    FIRST_ROW     # the first row or None
    VALUE         # one column of the first row, or None
    STATUS        # the command tag

cdef enum RequestState:
    QUEUED
    SENT
    DONE


cdef class Request:
    cdef:
        Request next                 # the one behind it in its queue
        readonly object waiter       # set_result(value), set_exception(error), done(); None where nobody waits
        object owner                 # give_up(request): told when whoever awaits the request is cancelled
        object deadline              # cancel(): the timer that ends the wait
        object turn                  # the iterator of the waiter being awaited
        readonly str query
        readonly RequestState state
        bytes message                # what it sends
        Py_ssize_t size              # bytes it has in flight
        bint ready                   # may be sent
        bint streaming               # has more to send after `message`
        readonly bint abandoned      # nobody wants the reply any more: it is drained
        readonly bint cancelled      # a CancelRequest was aimed at it
        bint exposed                 # was in flight behind a CancelRequest
        bint repeated                # was run again once already
        bint kept                    # is sent and drained even when its waiter gives up (COMMIT, ROLLBACK)
        bint barrier                 # nothing is sent behind it until it is done
        int stage
        readonly object error
        readonly str status          # the last command tag
        bytes urgent                 # to be sent at once, ahead of everything queued

    cdef int encode(self, WriteBuffer out) except -1
    cdef bytes more(self, WriteBuffer out)
    cdef int receive(self, char kind, const char *data, Py_ssize_t size) except -1
    cdef int finished(self) except -1
    cdef object result(self)
    cdef int settle(self) except -1
    cdef int forget_deadline(self) except -1
    cdef int fail(self, object error) except -1
    cdef bint repeatable(self) except -1
    cdef bytes withdrawal(self, WriteBuffer out)
    cdef int unexpected(self, char kind) except -1


cdef class Startup(Request):
    cdef:
        bint authenticated
        object on_authentication

cdef class Prepare(Request):
    cdef:
        Statement statement
        tuple parameter_oids
        list columns

cdef class Bound(Request):
    cdef:
        Statement statement
        int generation
        bint shared                  # not a barrier for others while its statement is being prepared
        object record_class
        list rows
        object row                   # the first one, where no more are wanted

    cdef int start(self, WriteBuffer out) except -1

cdef class Query(Bound):
    cdef:
        object args
        Result kind
        int limit
        object column
        bytes portal
        bint opens                   # binds the portal (False: executes one bound before)
        readonly bint suspended      # the portal has more rows

cdef class Batch(Bound):
    cdef:
        object elements              # an iterator of argument sequences
        Py_ssize_t element
        bint collects

    cdef bytes _chunk(self, WriteBuffer out)

cdef class Script(Request):
    pass

cdef class Closing(Request):
    cdef:
        str what                     # S statements, P portals
        list names
