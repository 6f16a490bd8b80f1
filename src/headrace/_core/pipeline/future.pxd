# The outcome of a request, and who waits for it.

from cpython.object cimport PyObject, PyTypeObject

from headrace._core.pipeline.workload cimport Claim


cdef extern from "awaited.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT

    ctypedef PySendResult (*sendfunc)(PyObject *, PyObject *, PyObject **) except PYGEN_ERROR
    void set_send(PyTypeObject *type, sendfunc send)
    PySendResult PyIter_Send(PyObject *, PyObject *, PyObject **) except PYGEN_ERROR
    int stop_with(object value) except -1


cdef class WakeupBatch:
    cdef:
        readonly object loop
        object cancellation
        bint in_tick                 # what is read in this tick of the loop may have come since `tick_before`
        double scheduled_at          # when run() was asked for
        double tick_before
        bint marks_ticks
        bint reading                 # the loop is reading a socket: its reader wakes the tasks
        list replies                 # whose tasks are to be woken

    cdef int add(self, Future reply) except -1
    cdef int schedule(self) except -1
    cdef int wake(self) except -1
    cdef int wake_or_schedule(self, bint now) except -1
    cdef int begin_tick(self, double before) except -1


cdef class Future(Claim):
    cdef:
        readonly object waiter       # set_result(value), set_exception(error), done(): waits in place of a task, or None
        WakeupBatch wakeup_batch              # for the task that awaits the reply; None if a waiter is told, or nothing waits
        object owner                 # give_up(reply): told when the task that awaits it is cancelled
        object turn                  # the iterator of the waiter being awaited
        object callback              # wakes the task that awaits the reply; called in `context`
        object context
        object value
        object failure
        bint delivered
        public bint _asyncio_future_blocking

    cdef int deliver(self, object value, object error) except -1
    cdef bint is_wanted(self) except -1
    cdef int call_back(self) except -1
    cdef int let_go(self) except -1
    cdef object taken(self)
    cdef int ended(self, object failure) except -1
