"""Replies: the outcome of a request, and who waits for it.

A reply is awaited by one task, and is itself what that task waits for: it has what asyncio asks of a Future-like object
(asyncio documentation, "Futures": isfuture()) and nothing more, so that a query needs no Future beside its request.
Instead, a waiter can be told: then the reply, if it is awaited, passes the waiter's own iterator through.

When the waiting task is cancelled, or its coroutine closed, the owner learns of it.

The tasks whose replies come in one read are woken right behind it, in the order of the replies. A callback of the event
loop for each, and the tick that it would take, would be a large part of what a small query costs. If a task is running, as
when a call is cancelled, one callback wakes all of them in the next tick.
"""

cimport cython
from cpython.contextvars cimport PyContext_Enter, PyContext_Exit
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF

from headrace._core.pipeline.workload cimport boot_seconds


# So many rows that freeing them takes as long as a round trip.
cdef Py_ssize_t MANY_ROWS = 64


@cython.final
cdef class WakeupBatch:
    """Wakes the tasks of one event loop, which are cancelled by the exception `cancellation`.

    A transport that reads sets `reading`, and calls wake_or_schedule() when it has read.

    With `marks_ticks` it knows whether the loop is in a tick that began with tasks to wake. Then the loop had not slept:
    a reply that it reads in this tick came at some point since the tick before. The same holds in the rest of a tick in
    which tasks were woken that took long.
    """

    def __cinit__(self, loop, cancellation not None, bint marks_ticks=False):
        self.loop = loop
        self.marks_ticks = marks_ticks
        self.cancellation = cancellation
        self.replies = []

    cdef int add(self, Future reply) except -1:
        if not self.replies and not self.reading:
            self.schedule()
        self.replies.append(reply)
        return 0

    cdef int schedule(self) except -1:
        """Have the tasks woken by a callback of the loop, in its next tick."""
        self.loop.call_soon(self.run)
        if self.marks_ticks:
            self.scheduled_at = boot_seconds()
        return 0

    cdef int wake_or_schedule(self, bint now) except -1:
        """Wake the tasks whose replies were read, either now or by a callback."""
        self.reading = False
        if not self.replies:
            return 0
        if not now:
            return self.schedule()
        try:
            self.wake()
        except BaseException as error:
            # It stops the loop. The caller is a transport, which may take it for an error of its own.
            self.loop.call_soon(raise_again, error)
            if self.replies:
                self.schedule()
        return 0

    cdef int begin_tick(self, double before) except -1:
        """Note that what is read in this tick of the loop may have come at any point since a time."""
        self.in_tick = True
        self.tick_before = before
        self.loop.call_soon(self.end_tick)
        return 0

    def end_tick(self):
        """The next tick of the loop has begun."""
        self.in_tick = False

    def run(self):
        """Wake the tasks: the callback of the loop."""
        if self.marks_ticks and len(self.replies) > 1:
            self.begin_tick(self.scheduled_at)
        try:
            self.wake()
        except BaseException:
            if self.replies:
                self.schedule()
            raise

    cdef int wake(self) except -1:
        """Do for each reply what the loop would do for a callback of its own.

        If the exception of a task is to stop the loop, it is raised, and the other replies are left for when it goes on.
        """
        cdef:
            list replies = self.replies
            Py_ssize_t woken = 0
            Future reply
            object rows = None
        self.replies = []
        try:
            for reply in replies:
                replies[woken] = None
                woken += 1
                # Should the task drop them at once and ask for the next, the server gets to work before they are freed.
                rows = reply.value if type(reply.value) is list and len(<list>reply.value) >= MANY_ROWS else None
                try:
                    reply.call_back()
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    self.loop.call_exception_handler({
                        'message': f'Exception in callback of {reply!r}', 'exception': error})
        finally:
            if woken < len(replies):
                self.replies[:0] = replies[woken:]
        return 0


def raise_again(error):
    """Raise an exception that stops the event loop, as its callback."""
    raise error


cdef class Future(Claim):
    """The outcome of a request, delivered to one waiter or awaited by one task."""

    cdef int deliver(self, object value, object error) except -1:
        """Give the value, or the error, to its waiter, or to the task that awaits it, unless that was cancelled."""
        cdef object waiter = self.waiter
        if waiter is not None:
            if self.turn is not None:
                # The task that awaits holds the waiter. Kept here, an error would hold this reply through its traceback's
                # frames: a cycle for each query that fails.
                self.waiter = None
            if waiter.done():
                return 0
            if error is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result(value)
            return 0
        if self.delivered or self.wakeup_batch is None:
            return 0
        self.delivered = True
        self.value = value
        self.failure = error
        if self.callback is not None:
            self.wakeup_batch.add(self)
        return 0

    cdef int call_back(self) except -1:
        cdef object callback = self.callback, context = self.context
        self.callback = self.context = None
        if callback is None:
            return 0
        if context is None:
            callback(self)
            return 0
        PyContext_Enter(context)
        try:
            callback(self)
        finally:
            PyContext_Exit(context)
        return 0

    cdef bint is_wanted(self) except -1:
        """Return whether a task or a waiter still waits for it."""
        if self.waiter is not None:
            return not self.waiter.done()
        return self.wakeup_batch is not None and not self.delivered

    cdef int let_go(self) except -1:
        """Tell the owner that the task has stopped waiting."""
        self.turn = self.callback = self.context = self.value = self.failure = None
        self.delivered = True
        if self.owner is not None:
            self.owner.give_up(self)
        return 0

    # -- awaited -------------------------------------------------------------------------------------------------------

    def __await__(self):
        if self.waiter is not None:
            self.turn = self.waiter.__await__()
        return self

    def __iter__(self):
        return self

    def __next__(self):
        if self.turn is not None:
            return next(self.turn)
        if not self.delivered:
            self._asyncio_future_blocking = True
            return self
        self.ended(self.failure)
        raise StopIteration(self.taken())

    def send(self, value):
        return next(self)

    def throw(self, kind, value=None, traceback=None):
        self.let_go()
        if value is None:
            value = kind() if isinstance(kind, type) else kind
        self.ended(value)
        raise value

    def close(self):
        self.let_go()
        self.ended(GeneratorExit())

    cdef int ended(self, object failure) except -1:
        """The task that awaits it goes on: with the value if `failure` is None, otherwise with that exception."""
        return 0

    cdef object taken(self):
        """The outcome, for the task that has waited for it."""
        cdef object value = self.value, failure = self.failure
        self.value = self.failure = None
        if failure is not None:
            raise failure
        return value

    # -- as asyncio's tasks see it -------------------------------------------------------------------------------------

    def get_loop(self):
        return self.wakeup_batch.loop

    def add_done_callback(self, callback, *, context=None):
        if self.callback is not None:
            raise RuntimeError(f'{self!r} is awaited already')
        self.callback = callback
        self.context = context
        if self.delivered:
            self.wakeup_batch.add(self)

    def cancel(self, msg=None):
        if self.delivered:
            return False
        self.delivered = True
        self.failure = self.wakeup_batch.cancellation() if msg is None else self.wakeup_batch.cancellation(msg)
        if self.callback is not None:
            self.wakeup_batch.add(self)
        return True

    def done(self):
        return self.delivered

    def result(self):
        """Raise the cancellation if that is the outcome; any other goes to the coroutine, which asks for it."""
        if isinstance(self.failure, self.wakeup_batch.cancellation):
            self.taken()


cdef PySendResult send(PyObject *reply, PyObject *value, PyObject **result) except PYGEN_ERROR:
    """Do what __next__ does, without an exception for the result."""
    cdef Future self = <Future>reply
    cdef PySendResult what = PYGEN_NEXT
    cdef object given
    if self.turn is not None:
        return PyIter_Send(<PyObject *>self.turn, value, result)
    if self.delivered:
        what = PYGEN_RETURN
        self.ended(self.failure)
        given = self.taken()
    else:
        self._asyncio_future_blocking = True
        given = self
    Py_INCREF(given)
    result[0] = <PyObject *>given
    return what


set_send(<PyTypeObject *>Future, send)
