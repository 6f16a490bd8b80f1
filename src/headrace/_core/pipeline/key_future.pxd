# The futures of a loader: what load() and load_many() return.

cdef enum FutureState:
    PENDING
    CANCELLED
    FINISHED


cdef class Wakeups:
    cdef:
        readonly object loop
        readonly object future_class     # asyncio.Future
        object cancellation              # asyncio.CancelledError
        object invalid_state             # asyncio.InvalidStateError
        list ready                       # futures whose callbacks are called in the loop's next tick

    cdef int add(self, KeyFuture future) except -1
    cdef KeyFuture future(self)
    cdef KeysFuture keys_future(self, list results, Py_ssize_t missing, bint return_errors)


cdef class KeyFuture:
    cdef:
        Wakeups wakeups
        FutureState state
        object batch                     # the batch, or the list of batches, that is to answer; None if there is none
        object value
        object error
        object cancel_message
        object callback                  # the first callback, and its context
        object context
        list callbacks                   # pairs of those added after it, or None
        bint unread                      # it has an error that nobody has asked for
        public bint _asyncio_future_blocking
        object __weakref__

    cdef int answer(self, Py_ssize_t at, object value, object error) except -1
    cdef int finish(self, object value, object error) except -1
    cdef list pairs(self)
    cdef int leave(self) except -1
    cdef int call_back(self) except -1
    cdef object outcome(self)


cdef class KeysFuture(KeyFuture):
    cdef:
        list results
        Py_ssize_t missing               # keys without an answer
        bint return_errors
        Py_ssize_t failed_at             # the first key that failed
        object failed_with               # and its error; None if there is none
