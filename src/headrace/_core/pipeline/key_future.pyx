"""The futures of a loader: what load() and load_many() return.

They have all methods of `asyncio.Future`, so gather(), wait(), wait_for(), shield() and tasks take them for one, and
`isinstance(future, asyncio.Future)` is true. They differ in what a result costs: the callbacks of all futures that get
theirs in one tick of the event loop are called by one callback of the loop, in the order of the results. A callback of
the loop for each, as asyncio has it, takes longer than everything else that a loader does for a key.

Source: asyncio documentation, "Futures".
"""

from cpython.contextvars cimport PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF

cdef extern from "awaited.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT

    ctypedef PySendResult (*sendfunc)(PyObject *, PyObject *, PyObject **) except PYGEN_ERROR
    void set_send(PyTypeObject *type, sendfunc send)


cdef class Wakeups:
    """Calls the callbacks of a loader's futures: those of one tick of the event loop by one callback in the next.

    The classes are asyncio's Future, CancelledError and InvalidStateError.
    """

    def __cinit__(self, loop not None, future_class not None, cancellation not None, invalid_state not None):
        self.loop = loop
        self.future_class = future_class
        self.cancellation = cancellation
        self.invalid_state = invalid_state
        self.ready = []

    cdef KeyFuture future(self):
        """Return the future of one key."""
        cdef KeyFuture future = KeyFuture.__new__(KeyFuture)
        future.wakeups = self
        return future

    cdef KeysFuture keys_future(self, list results, Py_ssize_t missing, bint return_errors):
        """Return the future of a list of results, of which some are missing."""
        cdef KeysFuture future = KeysFuture.__new__(KeysFuture)
        future.wakeups = self
        future.results = results
        future.missing = missing
        future.return_errors = return_errors
        if missing == 0:
            future.finish(results, None)
        return future

    def done(self, value):
        """Return a future that has a result."""
        cdef KeyFuture future = self.future()
        future.finish(value, None)
        return future

    cdef int add(self, KeyFuture future) except -1:
        if not self.ready:
            self.loop.call_soon(self.run)
        self.ready.append(future)
        return 0

    def run(self) -> None:
        """Call the callbacks of the futures that are done, as the loop would do for a callback of its own."""
        cdef:
            list ready = self.ready
            Py_ssize_t called = 0
            KeyFuture future
        self.ready = []
        try:
            for future in ready:
                called += 1
                future.call_back()
        finally:
            if called < len(ready):
                # An exception of one callback stops the loop. The others are called when it goes on.
                self.ready[:0] = ready[called:]
                self.loop.call_soon(self.run)


cdef class KeyFuture:
    """The future of one key. It is used like an `asyncio.Future`."""

    def __init__(self):
        raise TypeError('the futures of a loader are made by load() and load_many()')

    @property
    def __class__(self):
        """asyncio.Future, for isinstance()."""
        return self.wakeups.future_class

    # -- its outcome ---------------------------------------------------------------------------------------------------

    cdef int answer(self, Py_ssize_t at, object value, object error) except -1:
        """Take the value, or the error, for the key at a position of load_many(); load() has one key."""
        return self.finish(value, error)

    cdef int finish(self, object value, object error) except -1:
        if self.state != PENDING:
            return 0
        self.state = FINISHED
        self.batch = None
        if error is None:
            self.value = value
        else:
            self.error = error
            self.unread = True
        if self.callback is not None:
            self.wakeups.add(self)
        return 0

    cdef object outcome(self):
        """Return the result of a future that is done, or raise its error."""
        if self.state == FINISHED:
            if self.error is None:
                return self.value
            self.unread = False
            # Every caller gets a traceback of its own.
            raise self.error.with_traceback(None)
        if self.state == CANCELLED:
            raise self._make_cancelled_error()
        raise self.wakeups.invalid_state('Result is not set.')

    def _make_cancelled_error(self):
        if self.cancel_message is None:
            return self.wakeups.cancellation()
        return self.wakeups.cancellation(self.cancel_message)

    def result(self):
        return self.outcome()

    def exception(self):
        if self.state == FINISHED:
            self.unread = False
            return self.error
        if self.state == CANCELLED:
            raise self._make_cancelled_error()
        raise self.wakeups.invalid_state('Exception is not set.')

    def set_result(self, result, /):
        if self.state != PENDING:
            raise self.wakeups.invalid_state(f'{self!r} is done already')
        self.leave()
        self.finish(result, None)

    def set_exception(self, exception, /):
        if self.state != PENDING:
            raise self.wakeups.invalid_state(f'{self!r} is done already')
        if isinstance(exception, type):
            exception = exception()
        if not isinstance(exception, BaseException) or isinstance(exception, StopIteration):
            raise TypeError(f'expected an exception that a future can raise, got {exception!r}')
        self.leave()
        self.finish(None, exception)

    def cancel(self, msg=None):
        if self.state != PENDING:
            return False
        self.state = CANCELLED
        self.cancel_message = msg
        self.leave()
        if self.callback is not None:
            self.wakeups.add(self)
        return True

    cdef int leave(self) except -1:
        """Tell the batches that this future no longer waits for them."""
        cdef object batch = self.batch
        self.batch = None
        if type(batch) is list:
            for each in batch:
                each.left()
        elif batch is not None:
            batch.left()
        return 0

    def done(self):
        return self.state != PENDING

    def cancelled(self):
        return self.state == CANCELLED

    def get_loop(self):
        return self.wakeups.loop

    # asyncio itself uses these of its own futures; the last one shows call graphs, from Python 3.14 on.

    @property
    def _loop(self):
        return self.wakeups.loop

    @property
    def _cancel_message(self):
        return self.cancel_message

    @property
    def _asyncio_awaited_by(self):
        return None

    def __del__(self):
        if self.unread:
            self.wakeups.loop.call_exception_handler({
                'message': 'an error of Loader.load() was never retrieved', 'exception': self.error, 'future': self})

    def __repr__(self) -> str:
        state = ('pending', 'cancelled', 'finished')[<int>self.state]
        if self.state == FINISHED:
            state += f' exception={self.error!r:.100}' if self.error is not None else f' result={self.value!r:.100}'
        return f'<{type(self).__name__} {state}>'

    # -- callbacks -----------------------------------------------------------------------------------------------------

    def add_done_callback(self, fn, /, *, context=None):
        if context is None:
            context = PyContext_CopyCurrent()
        if self.state != PENDING:
            self.wakeups.loop.call_soon(fn, self, context=context)
        elif self.callback is None:
            self.callback = fn
            self.context = context
        else:
            if self.callbacks is None:
                self.callbacks = []
            self.callbacks.append((fn, context))

    def remove_done_callback(self, fn, /):
        cdef:
            list pairs = self.pairs()
            list kept = [pair for pair in pairs if pair[0] != fn]
        self.callback = self.context = self.callbacks = None
        for each, context in kept:
            if self.callback is None:
                self.callback = each
                self.context = context
            else:
                self.callbacks = kept[1:]
                break
        return len(pairs) - len(kept)

    cdef list pairs(self):
        if self.callback is None:
            return []
        return [(self.callback, self.context), *(self.callbacks or ())]

    cdef int call_back(self) except -1:
        cdef:
            list more = self.callbacks
            object callback = self.callback, context = self.context
        self.callback = self.context = self.callbacks = None
        if callback is None:
            return 0
        call(callback, self, context)
        if more is not None:
            for callback, context in more:
                call(callback, self, context)
        return 0

    # -- awaited -------------------------------------------------------------------------------------------------------

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        if self.state == PENDING:
            self._asyncio_future_blocking = True
            return self
        raise StopIteration(self.outcome())


cdef int call(object callback, KeyFuture future, object context) except -1:
    """Call a callback. Its error is reported to the loop; SystemExit and KeyboardInterrupt stop the loop."""
    try:
        PyContext_Enter(context)
        try:
            callback(future)
        finally:
            PyContext_Exit(context)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        future.wakeups.loop.call_exception_handler({
            'message': f'Exception in callback {callback!r}', 'exception': error, 'future': future})
    return 0


cdef class KeysFuture(KeyFuture):
    """The future of the results of several keys, in their order.

    It is done when every key has an answer. Its error is that of the first key that has failed, unless errors are to be
    returned in the places of their keys.
    """

    cdef int answer(self, Py_ssize_t at, object value, object error) except -1:
        if self.state != PENDING:
            return 0
        if error is None:
            self.results[at] = value
        elif self.return_errors:
            self.results[at] = error
        elif self.failed_with is None or at < self.failed_at:
            self.failed_at = at
            self.failed_with = error
        self.missing -= 1
        if self.missing > 0:
            return 0
        return self.finish(self.results if self.failed_with is None else None, self.failed_with)


cdef PySendResult send(PyObject *future, PyObject *value, PyObject **result) except PYGEN_ERROR:
    """Do what __next__ does, without an exception for the result."""
    cdef:
        KeyFuture self = <KeyFuture>future
        object given = self
        PySendResult what = PYGEN_NEXT
    if self.state == PENDING:
        self._asyncio_future_blocking = True
    else:
        given = self.outcome()
        what = PYGEN_RETURN
    Py_INCREF(given)
    result[0] = <PyObject *>given
    return what


set_send(<PyTypeObject *>KeyFuture, send)
set_send(<PyTypeObject *>KeysFuture, send)
