"""A query executed for each element of an iterable: results in the order of the elements, and no task for each.

`Each` is the asynchronous iterator that a caller gets. It keeps requests for a window of elements under way, hands out
their results in order, and sends more as results are taken.

- A plain read travels in groups (see group): the server is expected to execute one within the budget. A text whose
  cost is not known goes alone first. An element that fails keeps its error; those behind it are sent again, because the
  server has not started them.
- Plain reads do not share a Sync if that could be seen: in a text that reads the time of its transaction, and if the
  server isolates transactions by more than READ COMMITTED, or limits their time. The server is asked for these settings
  while it executes the first element.
- Everything else has a Sync for each element.

If the iteration ends early, requests that were not sent are dropped, and plain reads are cancelled. Other requests that
were sent are waited for: they may have an effect. So are plain reads in an open transaction block, because a
cancellation would fail the block.
"""

cimport cython
from cpython.contextvars cimport PyContext_CopyCurrent
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF

from headrace._core.pipeline.batch cimport checked_element
from headrace._core.pipeline.future cimport PYGEN_ERROR, PYGEN_NEXT, PYGEN_RETURN, PySendResult, set_send, stop_with
from headrace._core.pipeline.group cimport Failure, Group, GroupCost, MeasuredQuery
from headrace._core.pipeline.requests cimport QUEUED, Query
from headrace._io.each_sender cimport EachSender

import asyncio
from collections import deque
from functools import partial
from itertools import islice
from operator import length_hint
from weakref import ref

from headrace._io.stream import further
from headrace._sql.classify import reads_transaction
from headrace.exceptions import ArgumentError, InterfaceError, PostgresError

# Most elements in a group, and bytes that their arguments and rows are expected to take at most.
cdef Py_ssize_t MAX_GROUP = 256
cdef double MAX_GROUP_ARGUMENTS = 1 << 16
cdef double MAX_GROUP_ROWS = 1 << 20
# Groups that may be under way for each connection: the server executes one while another one arrives.
cdef Py_ssize_t GROUPS_EACH = 2
# Bytes of arguments and rows that may be under way or wait for the consumer, as expected from those before.
cdef double MAX_BUFFERED = 1 << 24


@cython.final
cdef class Unit:
    """One request of an iteration, and the elements that it is for."""

    def __cinit__(self, Query request not None, list elements, bint is_group):
        self.request = request
        self.elements = elements
        self.is_group = is_group


class Feed:
    """The elements of an asynchronous iterable, read ahead by a task: `size` of them at most."""

    def __init__(self, source, size, loop, notify):
        self._source = source
        self._size = size
        self._loop = loop
        self._notify = notify
        self._room = None
        self._arrival = None
        self._stopped = False
        self.elements = deque()
        self.error = None
        self.ended = False
        self._task = loop.create_task(self._read())

    async def _read(self):
        try:
            async for element in self._source:
                # The source may use one list for all of them.
                self.elements.append(tuple(element) if type(element) is list else element)
                self._tell()
                while len(self.elements) >= self._size:
                    self._room = self._loop.create_future()
                    await self._room
        except Exception as error:
            self.error = error
        except asyncio.CancelledError as error:
            # Unless it was stopped, the iterable has raised it, or the program cancels all its tasks.
            if self._stopped:
                raise
            self.error = error
        finally:
            try:
                close = getattr(self._source, 'aclose', None)
                if close is not None:
                    await close()
            except Exception as error:
                if self.error is None:
                    self.error = error
            finally:
                self.ended = True
                self._tell()

    def _tell(self):
        self._notify()
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def take(self, count):
        """Return up to `count` elements that have arrived."""
        taken = [self.elements.popleft() for _ in range(min(count, len(self.elements)))]
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        return taken

    def arrival(self):
        """Return a future that is done when an element arrives, or the iterable ends."""
        self._arrival = self._loop.create_future()
        return self._arrival

    def wake(self):
        """End the wait for an arrival."""
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def stop(self):
        """Read no more. The iterable is closed in the task."""
        self._stopped = True
        self._task.cancel()

    async def stopped(self):
        """Wait until the task has ended."""
        await asyncio.wait([self._task])


@cython.final
cdef class Each:
    """The results of a query for each element of `args`.

    It is an asynchronous iterator, and the awaitable of its next result as well. `aclose()` ends it.
    """

    def __init__(self, EachSender sender not None, str query not None, args, int kind, int limit, column, record_class, *,
                 bint return_errors=False, timeout=None, Py_ssize_t window=4096, watched=None):
        self.sender = sender
        self.query = query
        self.kind = kind
        self.limit = limit
        self.column = column
        self.record_class = record_class
        self.return_errors = return_errors
        self.timeout = timeout
        self.window = window
        self.watched = watched
        self.argument_bytes = self.row_bytes = -1
        # Encoders run in it, whatever has an element sent: a result that is taken, a reply, a connection that is free.
        self.context = PyContext_CopyCurrent()
        self.units = deque()
        self.ahead = []
        self.grouping = 0 if sender.reads and not reads_transaction(query) else -1
        if hasattr(args, '__aiter__'):
            self.source = args
        else:
            self.source = iter(args)
            self.remaining = length_hint(args, 0)

    # -- awaited ----------------------------------------------------------------------------------------------------

    def __aiter__(self):
        return self

    def __anext__(self):
        if self.asked:
            return further(self)
        self.asked = True
        return self

    def await_further(self):
        """Return the iterator for the await of a `Further`."""
        return self.__await__()

    def __await__(self):
        # anext() with a default asks for this whenever it goes on.
        if self.waits and self.waiting_task is not asyncio.current_task():
            raise InterfaceError('another task is waiting for the next result of this iterator',
                                 hint='Give each task an iterator of its own, or pass the results on through a queue.')
        return self

    def __iter__(self):
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
        if self.ends and turn is not None:
            # asyncio.timeout() in _end() has to see that it is cancelled.
            try:
                return turn.throw(value)
            except BaseException as error:
                self.turn = self.waiting_task = None
                self.waits = False
                self.tell_end(error)
                raise
        self.turn = self.waiting_task = None
        self.waits = False
        self.stop_timer()
        self.closed = True
        self.abandon(True, value)
        if turn is not None:
            turn.close()
        self.tell_end(value)
        raise value

    def close(self):
        cdef object turn = self.turn
        self.turn = self.waiting_task = None
        self.waits = False
        self.stop_timer()
        self.closed = True
        self.abandon(True, GeneratorExit())
        if turn is not None:
            turn.close()
        self.tell_end(GeneratorExit())

    async def aclose(self):
        """End the iteration.

        Requests that were not sent are dropped, and plain reads outside of transaction blocks are cancelled. Other
        requests that were sent are waited for: `timeout` seconds at most, if the iterator has a time limit; then they
        are cancelled.
        """
        if self.waits:
            raise InterfaceError('another task is waiting for the next result of this iterator',
                                 hint='Cancel that task instead; this ends the iteration.')
        if self.closed:
            return
        self.closed = True
        try:
            await self._end(None, self.abandon(False, GeneratorExit()))
        finally:
            self.tell_end(None)

    def __del__(self):
        if self.closed or not self.units and self.feed is None and (self.watched is None or not self.begun):
            return
        loop = self.sender.loop
        if loop.is_closed():
            return
        self.closed = True
        if asyncio._get_running_loop() is loop:
            self._forget()
        else:
            loop.call_soon_threadsafe(self._forget)

    def _forget(self):
        """Nobody refers to the iterator any more."""
        cdef Unit unit
        for number, unit in self.abandon(False, GeneratorExit()):
            # It goes on, and nobody learns how it ends.
            self.log_abandoned(unit, GeneratorExit())
        self.context.run(self._tell_forgotten)

    def _tell_forgotten(self):
        self.tell_end(None)

    cdef int tell_end(self, object error) except -1:
        """Tell query hooks that the iteration has ended, by an error or without one."""
        cdef object watched = self.watched
        self.watched = None
        if watched is not None and self.begun:
            watched.end(error, None, self.index)
        return 0

    cdef object resume(self, bint *suspended):
        cdef object value
        self.waits = self.asked = False
        try:
            value = self.step(suspended)
        except BaseException as error:
            self.waiting_task = None
            self.stop_timer()
            if not isinstance(error, Exception) and not self.closed:
                # Elements may have been lost.
                self.closed = True
                self.abandon(True, error)
            if self.watched is not None and self.closed:
                self.tell_end(None if isinstance(error, StopAsyncIteration) else error)
            raise
        if suspended[0]:
            self.waits = True
            self.waiting_task = asyncio.current_task()
        else:
            self.waiting_task = None
        if self.timer is not None and not suspended[0]:
            self.stop_timer()
        return value

    cdef object step(self, bint *suspended):
        """Return the next result; or what the task is to wait for, if `suspended` is set."""
        cdef:
            object result
            Unit unit
            Query request
        while True:
            if self.timed_out:
                self.timed_out = False
                self.closed = True
                error = TimeoutError(f'no result for element #{self.index} of args within {self.timeout:g} seconds')
                if self.units:
                    self.sender.explain((<Unit>self.units[0]).request, error)
                self.abandon(True, error)
                raise error
            if self.turn is not None:
                try:
                    result = next(self.turn)
                except StopIteration:
                    self.turn = None
                    continue
                except BaseException:
                    self.turn = None
                    raise
                suspended[0] = True
                return result
            if self.results is not None:
                if self.at < len(self.results):
                    result = self.results[self.at]
                    self.results[self.at] = None
                    self.at += 1
                    self.index += 1
                    if type(result) is not Failure:
                        return result
                    result = self.failed((<Failure>result).error)
                    if result is not None:
                        return result
                    continue
                self.under_way -= len(self.results)
                self.results = None
                self.refill()
            if self.closed:
                raise StopAsyncIteration
            if not self.units:
                self.refill()
                if not self.units:
                    if self.feed is None or self.source is None:
                        self.finish()
                    self.start_timer()
                    self.turn = self.feed.arrival().__await__()
                    continue
            unit = <Unit>self.units[0]
            request = unit.request
            if not request.delivered:
                if request._asyncio_future_blocking:
                    # No task has waited for it, so this would go on for ever.
                    raise InterfaceError('the results of fetch_each() and its kin are expected to be read by `async for` '
                                         'or `await anext()`, got `for` or next()')
                self.start_timer()
                request._asyncio_future_blocking = True
                suspended[0] = True
                return request
            self.consume(unit)

    cdef int consume(self, Unit unit) except -1:
        """Take the outcome of the first request; what it has left undone is sent again, ahead of the others."""
        cdef:
            Query request = unit.request
            Py_ssize_t count
            bint alone = False
            list results
            object value
        self.units.popleft()
        try:
            value = request.taken()
        except Exception as error:
            if unit.elements is None:
                self.grouping = -1
                return self.refill()
            results = [Failure(error)]
        else:
            if unit.elements is None:
                isolation, limit = value
                self.grouping = 1 if isolation in ('read committed', 'read uncommitted') \
                    and (limit is None or limit == '0') else -1
                return self.refill()
            results = <list>value if unit.is_group else [value]
        if unit.is_group:
            for count in range(len(results)):
                if type(results[count]) is Failure and (<Failure>results[count]).alone:
                    alone = True
                    del results[count:]
                    break
        if results:
            self.measure(<MeasuredQuery>request, len(results))
        if request.observer is not None:
            self.log(request, unit.elements, results)
        count = len(results)
        self.results = results
        self.at = 0
        if count < len(unit.elements):
            self.under_way -= len(unit.elements) - count
            try:
                if count + alone < len(unit.elements):
                    self.add(unit.elements[count + alone:], True)
                if alone:
                    self.add(unit.elements[count:count + 1], True)
            except Exception as error:
                # The results of the others would be out of order.
                self.abandon(True, error)
                self.source_error = error
        return self.refill()

    cdef int measure(self, MeasuredQuery request, Py_ssize_t results) except -1:
        """Learn how many bytes an element takes. More is believed at once, less by and by."""
        cdef double size
        if request.encoded > 0 and request.size > 0:
            size = <double>request.size / request.encoded
            self.argument_bytes = size if size > self.argument_bytes else \
                self.argument_bytes + (size - self.argument_bytes) * 0.25
        size = <double>request.received / results
        self.row_bytes = size if size > self.row_bytes else self.row_bytes + (size - self.row_bytes) * 0.25
        return 0

    cdef int log(self, Query request, list elements, list results) except -1:
        """Tell the query loggers of each execution."""
        if not request.observer.loggers:
            return 0
        cdef object seconds = (<MeasuredQuery>request).seconds()
        for args, result in zip(elements, results):
            request.observer.finished(self.query, args, self.timeout, seconds,
                                      (<Failure>result).error if type(result) is Failure else None)
        return 0

    cdef int log_abandoned(self, Unit unit, object error) except -1:
        """Tell the query loggers of what was sent and has no outcome that anybody takes."""
        cdef Query request = unit.request
        if request.observer is None or unit.elements is None or request.state <= QUEUED:
            return 0
        return self.log(request, unit.elements, [Failure(error)] * len(unit.elements))

    cdef object failed(self, error):
        """Return the error of an element in place of its result; or end the iteration by it, and return None."""
        if isinstance(error, (StopIteration, StopAsyncIteration)):
            # Out of __anext__() it would look like a result, or like the end.
            raised = RuntimeError(f'a codec raised {error!r}')
            raised.__cause__ = error
            error = raised
        error.add_note(f'This is the error of element #{self.index - 1} of args.')
        if self.return_errors and not (is_of_server(error) and self.sender.in_block()):
            return error
        self.closed = True
        sent = self.abandon(False, GeneratorExit())
        self.results = None
        self.stop_timer()
        self.ends = True
        self.turn = self._end(error, sent).__await__()
        return None

    async def _end(self, error, list sent):
        """Wait for what was sent, and raise the error, unless that is None."""
        cdef Unit unit
        outcomes = []
        waited = 0
        try:
            async with asyncio.timeout(self.timeout):
                for number, unit in sent:
                    # It is logged as it is awaited.
                    waited += 1
                    try:
                        await unit.request
                    except Exception as failure:
                        outcomes.append(f'#{number} failed ({type(failure).__name__})')
                    else:
                        outcomes.append(f'#{number} was executed')
        except TimeoutError:
            outcomes += [f'#{number} is unknown' for number, _ in sent[len(outcomes):]]
        finally:
            for number, unit in sent[waited:]:
                self.log_abandoned(unit, asyncio.CancelledError())
                unit.request.let_go()
        if self.feed is not None:
            await self.feed.stopped()
        if error is not None:
            if outcomes and not self.sender.reads:
                error.add_note(f'Later elements that had been sent: {", ".join(outcomes)}.')
            raise error

    cdef int finish(self) except -1:
        """End the iteration after the last result."""
        cdef object error = self.source_error
        self.closed = True
        if error is None:
            raise StopAsyncIteration
        self.source_error = None
        if isinstance(error, (StopIteration, StopAsyncIteration)):
            raise RuntimeError(f'the iterable of arguments raised {error!r}') from error
        raise error

    # -- sent --------------------------------------------------------------------------------------------------------

    cdef int refill(self) except -1:
        """Send requests for more elements, as the window allows."""
        cdef:
            Py_ssize_t size
            list elements
        if self.closed or self.source is None or self.filling:
            return 0
        if self.watched is not None and not self.begun:
            self.begun = True
            self.watched.begin()
        if self.feed is None and hasattr(self.source, '__aiter__'):
            self.feed = Feed(self.source, min(self.window, 1024), self.sender.loop, partial(fed, ref(self)))
        self.filling = True
        try:
            self.sender.check()
            while self.source is not None:
                size = self.next_size()
                if size <= 0:
                    break
                elements = self.pull(size)
                if not elements or self.closed:
                    # Nothing is left, or the source has closed this iterator.
                    break
                self.add(elements, False)
        except Exception as error:
            self.source = None
            self.source_error = error
        finally:
            self.filling = False
        return 0

    cdef Py_ssize_t next_size(self) except -1:
        """Return how many elements the next request is for; 0 if none is to be sent now."""
        cdef:
            EachSender sender = self.sender
            double seconds
            double expected_bytes = max(self.row_bytes, 0) + max(self.argument_bytes, 0)
            Py_ssize_t room = self.window - self.under_way, size
        if expected_bytes > 0:
            room = min(room, <Py_ssize_t>(MAX_BUFFERED / expected_bytes) + 1 - self.under_way)
        if room <= 0:
            return 0
        if self.grouping < 0:
            # The bytes of an element are not known before the first result.
            return 1 if len(self.units) < sender.width * (sender.depth() if self.row_bytes >= 0 else 1) else 0
        if self.grouping == 0 and not sender.in_block():
            if self.units:
                return 0
            self.ahead = self.pull(2)
            if len(self.ahead) == 2 and not self.closed:
                self.add([self.ahead.pop(0)], False)
                self.ask_settings()
                return 0
            return len(self.ahead)
        seconds = sender.cost.expected()
        if seconds < 0:
            return 0 if self.units else 1
        if len(self.units) >= sender.width * GROUPS_EACH:
            return 0
        size = MAX_GROUP
        if seconds * size > sender.budget:
            size = max(1, <Py_ssize_t>(sender.budget / seconds))
        if self.row_bytes * size > MAX_GROUP_ROWS:
            size = max(1, <Py_ssize_t>(MAX_GROUP_ROWS / self.row_bytes))
        if self.argument_bytes * size > MAX_GROUP_ARGUMENTS:
            size = max(1, <Py_ssize_t>(MAX_GROUP_ARGUMENTS / self.argument_bytes))
        if self.remaining > 0:
            # The last elements are spread over the connections.
            size = min(size, (self.remaining + sender.width - 1) // sender.width)
        return min(size, room)

    cdef list pull(self, Py_ssize_t count):
        """Take up to `count` elements from the source; none if it has ended or, for the moment, gives none."""
        cdef:
            list found = self.ahead
            object source
        if found:
            self.ahead = []
            return found
        try:
            if self.feed is not None:
                source = self.feed.take(count)
                if not source and self.feed.ended:
                    self.source_error = self.feed.error
                    self.source = None
            else:
                source = islice(self.source, count)
            found = []
            for args in source:
                if type(args) is not tuple:
                    # The source may use one list for all of them.
                    args = tuple(args if isinstance(args, (tuple, list))
                                 else checked_element(args, self.pulled + len(found), 'args'))
                found.append(args)
            if len(found) < count and self.feed is None:
                self.source = None
        except Exception as error:
            # Those ahead of it are sent.
            self.source = None
            self.source_error = error
        self.remaining -= len(found)
        self.pulled += len(found)
        return found

    cdef int add(self, list elements, bint first) except -1:
        """Send a request for some elements; as the `first` one, if its results come before those of the others."""
        cdef:
            EachSender sender = self.sender
            MeasuredQuery request
            bint is_group = len(elements) > 1
        if is_group:
            request = Group(None, self.query, elements, self.kind, self.limit, self.column, self.record_class, sender.shared)
            request.cost = GroupCost(sender.cost, len(elements))
        else:
            request = MeasuredQuery(None, self.query, None, self.kind, self.limit, self.column, self.record_class,
                                    sender.shared)
            # If there are too many, that is the error of this element.
            request.args = elements[0]
            request.cost = sender.cost
        request.limited = self.timeout is not None
        request.context = self.context
        unit = Unit(request, elements, is_group)
        if first:
            self.units.appendleft(unit)
        else:
            self.units.append(unit)
        self.under_way += len(elements)
        try:
            sender.send(request)
        except BaseException:
            self.units.remove(unit)
            self.under_way -= len(elements)
            raise
        return 0

    cdef int ask_settings(self) except -1:
        self.units.append(Unit(self.sender.settings(), None, False))
        return 0

    def _fed(self):
        """Elements have arrived, or the asynchronous iterable has ended."""
        if not self.closed:
            self.refill()

    # -- ended early ---------------------------------------------------------------------------------------------------

    cdef list abandon(self, bint sent_too, object error):
        """Drop what was not sent, cancel plain reads outside of blocks, and with `sent_too` everything else.

        Query loggers are told of `error` as the outcome of what was sent. Returns the units that are to be waited for,
        with the numbers of their elements.
        """
        cdef:
            Unit unit
            Py_ssize_t number = self.index
            list sent = []
        if self.sender.reads and not sent_too:
            # A cancellation fails an open block.
            sent_too = not self.sender.in_block()
        if self.results is not None:
            number += len(self.results) - self.at
        for unit in self.units:
            if sent_too or unit.request.state <= QUEUED and not unit.request.delivered:
                self.log_abandoned(unit, error)
                unit.request.let_go()
            else:
                sent.append((number, unit))
            number += 0 if unit.elements is None else len(unit.elements)
        self.units.clear()
        self.source = None
        self.ahead = []
        if self.feed is not None:
            self.feed.stop()
        return sent

    cdef int start_timer(self) except -1:
        if self.timeout is not None and self.timer is None:
            self.timer = self.sender.loop.call_later(self.timeout, self._expire)
        return 0

    cdef int stop_timer(self) except -1:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        return 0

    def _expire(self):
        """The next result has taken too long."""
        cdef Query request
        self.timer = None
        if self.turn is not None:
            self.timed_out = True
            self.feed.wake()
            return
        request = (<Unit>self.units[0]).request
        if not request.delivered:
            self.timed_out = True
            request.deliver(None, TimeoutError())


cdef PySendResult send(PyObject *each, PyObject *value, PyObject **result) except PYGEN_ERROR:
    """Do what __next__ does, without an exception for the result."""
    cdef Each self = <Each>each
    cdef bint suspended = False
    cdef object given = self.resume(&suspended)
    Py_INCREF(given)
    result[0] = <PyObject *>given
    return PYGEN_NEXT if suspended else PYGEN_RETURN


set_send(<PyTypeObject *>Each, send)


def fed(reference):
    """Tell an iteration, if it still exists, of elements that have arrived."""
    each = reference()
    if each is not None:
        each._fed()


cdef bint is_of_server(object error) except -1:
    """Return whether an error is one that fails a transaction block, and not of arguments or values."""
    return isinstance(error, PostgresError) and not isinstance(error, ArgumentError)
