"""A stream of rows, as the program sees it: an asynchronous iterator and context manager.

Rows come in batches. Those of a batch are handed out without a coroutine for each, and without a look at the event loop: the
stream is its own awaitable, and most of the time that is done at once. A batch comes from a `source`, which has

    open()        a coroutine function: gets the connection and sends the query, unless that was done before
    more()        a coroutine function: returns the next rows as a list of its own, an empty one at the end
    close()       a coroutine function: ends the query and gives the connection back
    abandon()     the same without waiting

If more() raises, it has closed the source before.
"""

from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF

from headrace._core.pipeline.future cimport (
    PYGEN_ERROR, PYGEN_NEXT, PYGEN_RETURN, PyIter_Send, PySendResult, set_send, stop_with,
)

from asyncio import current_task
from types import GenericAlias

from headrace.exceptions import InterfaceError

cdef extern from "Python.h":
    PyObject *list_item "PyList_GET_ITEM" (PyObject *list, Py_ssize_t i) noexcept
    void list_set "PyList_SET_ITEM" (PyObject *list, Py_ssize_t i, PyObject *item) noexcept


async def further(iterator):
    """Wait for a result that is asked for before the result asked for last was awaited.

    The iterator itself is the awaitable of the one before. gather() would take the same object for the same result.
    """
    return await Further(iterator)


class Further:
    """The awaitable of a further result."""

    __slots__ = ('iterator',)

    def __init__(self, iterator):
        self.iterator = iterator

    def __await__(self):
        return (yield from self.iterator.await_further())


cdef class Stream:
    """The rows of a query, one after the other.

    `async for row in connection.stream(...)`, or `async with connection.stream(...) as rows`, which ends it at the end of the
    block. It has `aclose()`, as asynchronous generators have, for `contextlib.aclosing()`.
    """

    def __init__(self, source):
        self.source = source

    __class_getitem__ = classmethod(GenericAlias)

    def __aiter__(self):
        return self

    def __anext__(self):
        if self.asked:
            return further(self)
        self.asked = True
        return self

    def await_further(self):
        """Return the iterator for the await of a `Further`."""
        self.asked = True
        return self

    async def __aenter__(self):
        if self.closed:
            raise InterfaceError('a stream cannot be used again after its end: call stream() or stream_arrow() once more')
        try:
            await self.source.open()
        except BaseException:
            self.end()
            raise
        return self

    async def __aexit__(self, kind, error, traceback):
        await self.aclose()

    async def aclose(self):
        """End the stream: the query is cancelled on the server if that has not come to its end.

        The connection is free for others as soon as the server has confirmed that, and goes back to its pool. Does nothing after
        the end. Raises InterfaceError while another task waits for a row.
        """
        if self.closed:
            return
        if self.turn is not None:
            raise InterfaceError('another task is waiting for the next row of this stream',
                                 hint='Cancel that task instead; this ends the stream.')
        self.end()
        await self.source.close()

    # -- awaited -------------------------------------------------------------------------------------------------------

    def __await__(self):
        # anext() with a default asks for this whenever it goes on.
        if not self.asked and self.turn is None:
            raise InterfaceError('the result of stream() is not awaited: it gives the rows one by one',
                                 hint='Write `async for row in connection.stream(...)`.')
        return self

    def __iter__(self):
        if not self.asked and self.turn is None:
            raise InterfaceError('the rows of stream() are expected to be read by `async for`, got `for`',
                                 hint='Write `async for row in connection.stream(...)`.')
        return self

    def __next__(self):
        cdef bint suspended = False
        cdef object value = self.resume(&suspended)
        if suspended:
            return value
        stop_with(value)

    def send(self, value):
        return next(self)

    def throw(self, kind, value=None, traceback=None):
        cdef object turn = self.turn
        if value is None:
            value = kind() if isinstance(kind, type) else kind
        if turn is None:
            raise value
        try:
            return turn.throw(value)
        except StopIteration as stop:
            self.turn = self.waiting_task = None
            raise StopIteration(self.begin(stop.value))
        except BaseException:
            self.end()
            raise

    def close(self):
        """Called if the coroutine that waits for a row is closed."""
        cdef object turn = self.turn
        if turn is not None:
            self.end()
            turn.close()

    def __del__(self):
        cdef object turn = self.turn
        if turn is not None:
            # It abandons the source.
            self.end()
            turn.close()
        elif not self.closed:
            self.end()
            self.source.abandon()

    cdef object resume(self, bint *suspended):
        """Return the next row; or what the task is to wait for, if `suspended` is set."""
        cdef object row
        if self.at < self.count:
            row = <object>take_next(self)
            Py_DECREF(row)
            return row
        return self.fetch(suspended)

    cdef object fetch(self, bint *suspended):
        """Go on with the next batch; returns its first row, or what is to be waited for."""
        cdef:
            PyObject *result = NULL
            PySendResult what
            object given, turn
        if self.turn is None:
            if self.closed:
                raise StopAsyncIteration
            self.rows = None
            self.at = self.count = 0
            self.waiting_task = current_task()
            self.turn = self.source.more()
        elif self.waiting_task is not current_task():
            raise InterfaceError('another task is waiting for the next row of this stream',
                                 hint='Let one task read the rows, and pass them on through a queue.')
        turn = self.turn
        try:
            what = PyIter_Send(<PyObject *>turn, <PyObject *>None, &result)
        except StopAsyncIteration as error:
            # A codec or a class has raised it. The loop would take it for the end.
            self.end()
            raise RuntimeError(f'the code that makes rows raised {error!r}') from error
        except BaseException:
            self.end()
            raise
        given = <object>result
        Py_DECREF(given)
        if what == PYGEN_NEXT:
            suspended[0] = True
            return given
        self.turn = self.waiting_task = None
        return self.begin(given)

    cdef object begin(self, list rows):
        """Begin with a batch; returns its first row."""
        cdef object row
        if not rows:
            self.end()
            raise StopAsyncIteration
        row = rows[0]
        rows[0] = None
        self.rows = rows
        self.count = len(rows)
        self.at = 1
        self.asked = False
        return row

    cdef int end(self) except -1:
        self.closed = True
        self.asked = False
        self.turn = self.waiting_task = self.rows = None
        self.at = self.count = 0
        return 0


cdef inline PyObject *take_next(Stream self) noexcept:
    """Take the next row out of the batch, which must have one; the reference to it is the caller's."""
    cdef PyObject *row = list_item(<PyObject *>self.rows, self.at)
    Py_INCREF(None)
    list_set(<PyObject *>self.rows, self.at, <PyObject *>None)
    self.at += 1
    self.asked = False
    return row


cdef PySendResult send(PyObject *stream, PyObject *value, PyObject **result) except PYGEN_ERROR:
    """Do what __next__ does, without an exception for the row."""
    cdef bint suspended = False
    cdef object given
    if (<Stream>stream).at < (<Stream>stream).count:
        result[0] = take_next(<Stream>stream)
        return PYGEN_RETURN
    given = (<Stream>stream).resume(&suspended)
    Py_INCREF(given)
    result[0] = <PyObject *>given
    return PYGEN_NEXT if suspended else PYGEN_RETURN


set_send(<PyTypeObject *>Stream, send)
