"""The driver: the requests on a connection, its timers and its end.

It queues requests in the session, and gives their awaitables. It runs the timers of deadlines and of cancellation, sends
CancelRequests, and ends the connection. The bytes are its transport's, and the policy of cancellation is the session's.
"""

cimport cython
from cpython.contextvars cimport PyContext_CopyCurrent

import asyncio
import errno
import logging
import socket
from asyncio import current_task, get_running_loop
from contextlib import contextmanager, suppress
from functools import partial
from weakref import ref

from headrace._core.pipeline.batch cimport Batch, StreamedBatch
from headrace._core.pipeline.cancel cimport FAIL, SIGNAL, CancelAction, Cancellation
from headrace._core.codecs.typemap cimport TypeMap
from headrace._core.pipeline.copy cimport Copy, CopyIn, CopyOut
from headrace._core.pipeline.group cimport MeasuredQuery
from headrace._core.pipeline.requests cimport ABANDONED, ARROW, BARRIER, DONE, ROWS, FIRST_ROW, STATUS, VALUE, ExtendedQuery, Closing, Command, QUEUED, Query, Request, SimpleQuery, UNCANCELLABLE, UnpreparedQuery
from headrace._core.pipeline.prepare cimport PrepareWaiter
from headrace._core.pipeline.future cimport WakeupBatch
from headrace._core.pipeline.row_stream cimport RowStream
from headrace._core.pipeline.session cimport Session
from headrace._core.pipeline.startup cimport Startup
from headrace._core.pipeline.statement_cache cimport Statement
from headrace._io.transport cimport Transport, TransportCallbacks, wake

from headrace._core.pipeline import cancel
from headrace._io.holder import Holder, Mark
from headrace._io.transport import Protocol
from headrace.exceptions import ConnectionDoesNotExistError, InterfaceError, PostgresError
from headrace._sql.named_parameters import bound, bound_each

log = logging.getLogger('headrace')

# The system's errors if no file descriptor is free, in the process or anywhere.
cdef tuple NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
# Seconds that closing waits if the caller set no limit.
CLOSE_TIMEOUT = 10.0


class Continuation:
    """A waiter that calls a function instead of waking a task."""

    __slots__ = ('_then',)

    def __init__(self, then):
        self._then = then

    def done(self):
        return False

    def set_result(self, value):
        self._then(value, None)

    def set_exception(self, error):
        self._then(None, error)


cdef class PoolCallbacks:
    """The callbacks of a driver if the callers of a pool share its connection."""

    cdef int replied(self, Driver driver) except -1:
        """Replies have been read, and what is queued now is written at once."""
        return 0

    cdef int held(self, Driver driver) except -1:
        """A CancelRequest is under way: nothing is written before its end."""
        return 0

    cdef int resumed(self, Driver driver) except -1:
        """There may be output again."""
        return 0

    cdef bint take_back(self, Driver driver, Request request, bint started) except -1:
        """Take a request back from a connection that has come to its end; returns whether it was taken."""
        return False

    cdef int reported(self, Driver driver, str name) except -1:
        """The server has reported a new value of a setting (ParameterStatus)."""
        return 0


@cython.final
cdef class Driver(TransportCallbacks):
    """One connection: its session and its transport, which is the protocol to give to asyncio."""

    def __init__(self, loop, make_session, cancel_sender=None):
        """`make_session(events)` returns a Session that tells the driver of what belongs to no request."""
        self.loop = loop
        self.session = make_session(self)
        self.transport = Protocol(loop, self.session, self)
        self.wakeup_batch = WakeupBatch(loop, asyncio.CancelledError)
        self.transport.wakeup_batch = self.wakeup_batch
        self.cancel_sender = cancel_sender
        self.idle_waiters = []
        self.tasks = set()
        self.streams = set()
        self.row_streams = set()

    # -- requests ----------------------------------------------------------------------------------------------------

    cdef int _check(self) except -1:
        """Refuse requests from another event loop, and what would wait for itself."""
        cdef Request last = self.session.sent.last
        self._check_loop('Use a connection only in the event loop that opened it; open another one here.')
        if last is not None and last.traits & BARRIER:
            self._check_copy(last)
        if self.streams:
            self._check_streams()
        if self.row_streams:
            self._check_row_streams()
        return 0

    def check(self) -> None:
        """Raise InterfaceError in another event loop, and in code that the request of the connection waits for."""
        self._check()

    cdef int _check_loop(self, str hint) except -1:
        if get_running_loop() is not self.loop:
            raise InterfaceError(
                'cannot perform operation: the connection belongs to another event loop', hint=hint)
        return 0

    cdef object _waiter(self):
        self._check()
        return self.loop.create_future()

    def query(self, query, tuple args, int kind, int limit, column, record_class):
        """Queue one execution of a statement, which is prepared first if it is new; returns the request.

        `query` is a text, or an object that stands for a text and its arguments. `kind`: ROWS, FIRST_ROW, VALUE (of
        `column`), STATUS or ARROW. Bad arguments raise here if the statement is known.
        """
        cdef Query request
        if type(query) is not str:
            query, args = bound(query, args)
        self._check()
        request = Query(None, query, args, kind, limit, column, record_class)
        request.wakeup_batch = self.wakeup_batch
        try:
            self.session.submit(request)
        except Exception as error:
            if not self.closed():
                self._refused(query, args, error)
            raise
        self.transport.flush_soon()
        return request

    def execute_statement(self, Statement statement not None, args, int kind, int limit, column, record_class):
        """Queue one execution of a prepared statement; returns the request."""
        self._check()
        return self._queue(Query(None, statement, args, kind, limit, column, record_class))

    def execute_portal(self, Statement statement not None, args, int limit, record_class, bytes portal not None,
                       Query opener=None):
        """Queue a request for rows of a portal, which `opener` has bound; returns the request, which counts their bytes."""
        self._check()
        return self._queue(MeasuredQuery(None, statement, args, ROWS, limit, 0, record_class, False, portal, opener))

    cdef object _queue(self, Query request):
        """Queue an execution of a prepared statement; returns it."""
        request.wakeup_batch = self.wakeup_batch
        try:
            self.session.submit(request)
        except Exception as error:
            self._refused(request.query, request.args, error)
            raise
        self.transport.flush_soon()
        return request

    def simple_query(self, str query not None, bint uncancellable=False):
        """Queue a simple query of any number of statements; returns the request, whose result is the last tag."""
        self._check()
        cdef Request request = self._script(None, query, uncancellable)
        request.wakeup_batch = self.wakeup_batch
        self.session.submit(request)
        self.transport.flush_soon()
        return request

    cdef object _script(self, object waiter, str query, bint uncancellable):
        """Return the request for a text without arguments: an extended query if it can take along what was put off."""
        cdef Request request
        if not self.session.commands.takes_along(query):
            return SimpleQuery(waiter, query, uncancellable)
        request = UnpreparedQuery(waiter, query)
        request.shared = False
        if uncancellable:
            request.traits |= UNCANCELLABLE
        return request

    def background(self, str query not None, bint vital=False, error=None, refused=None, bint flushes=True):
        """Queue a simple query without a waiter: it is sent and drained.

        Its error is passed over; if it is `vital`, the connection is dropped instead, and `refused()` is called first if
        the server refuses the query. `error` stands in for the server's, as the cause of what follows in a transaction
        that the query fails. If it is not to be flushed here, the caller calls `flush_next_tick()` later.
        """
        cdef Request request
        if not self.closed():
            request = self._script(Continuation(partial(self._after_vital, refused)) if vital else None, query, True)
            request.error = error
            self.session.submit(request)
            if flushes:
                # Late, so that what the next user of the connection asks goes in the same write.
                self.transport.flush_after_reading()

    def flush_next_tick(self):
        """Have what is queued written in the next tick of the event loop, behind the callbacks scheduled for it so far."""
        if self.session.wants_output():
            self.transport._schedule()

    def ping(self, double timeout, bint awaited=False):
        """Ping the server with an empty query; nothing is sent behind it until the answer comes.

        If none comes within `timeout` seconds the connection is dropped: what was held back had not been sent then.
        Returns the request, which is to be awaited if `awaited` says so.
        """
        cdef SimpleQuery request = SimpleQuery(self._waiter() if awaited else None, '', True)
        request.traits |= BARRIER
        request.deadline = self.loop.call_later(timeout, self._unanswered, timeout)
        self.session.submit(request)
        self.transport.flush_soon()
        return request

    def _unanswered(self, timeout):
        self.unanswered = True
        self.fail(ConnectionDoesNotExistError(
            f'the connection had lain idle, and the server did not answer within {timeout:g} seconds'))

    def _after_vital(self, refused, tag, error):
        if error is not None:
            if refused is not None and isinstance(error, PostgresError) \
                    and not isinstance(error, ConnectionDoesNotExistError):
                refused()
            self.fail(error)

    cdef int accept(self, Request request) except -1:
        """Queue a request that a pool has made; it is written when the driver is told to flush.

        Raises for bad arguments, and InterfaceError if the connection is closed.
        """
        if self.observer is not None or request.observer is not None:
            request.observer = self.observer if request.observer is None else request.observer.on(self)
        self.session.submit(request)
        return 0

    cdef bint is_head(self, Request request) except -1:
        """Return whether the server works on a request, or on the preparation that it waits for."""
        cdef Request head = self.session.sent.first
        return head is request or head is not None and isinstance(request, ExtendedQuery) and head.prepares is not None \
            and head.prepares is (<ExtendedQuery>request).statement

    cdef int join(self, PoolCallbacks pool, object pooled, WakeupBatch ticks) except -1:
        """Share the connection between the callers of a pool."""
        self.pool = pool
        self.pooled = pooled
        self.transport.ticks = ticks
        return 0

    def batch(self, query, elements, record_class, bint collects, Statement statement=None, int repeated=0):
        """Queue one statement for each element as one atomic request; returns the request.

        `repeated` is how often the caller has asked for it again because the statement was stale.
        """
        cdef Batch request
        self._check()
        if statement is None and type(query) is not str:
            query, elements = bound_each(query, elements)
        request = Batch(None, statement if statement is not None else query, elements, record_class, collects)
        request.wakeup_batch = self.wakeup_batch
        request.repeated = repeated
        try:
            self.session.submit(request)
        except Exception as error:
            if not self.closed():
                self._refused(request.query, elements, error)
            raise
        self.transport.flush_soon()
        return request

    def streamed_batch(self, Statement statement not None, source, record_class, bint collects):
        """Return a batch of a prepared statement, whose elements are added to it as they come from the source."""
        cdef StreamedBatch request = StreamedBatch(self._waiter(), statement, (), record_class, collects)
        request.owner = self
        request.open(source)
        return request

    def send_batch(self, StreamedBatch request not None):
        """Queue the batch, with the elements that were added so far."""
        self.session.submit(request)
        self.transport.flush_soon()

    @contextmanager
    def reading(self):
        """Refuse requests that the source of a batch makes while it is read: they would wait for the batch.

        Its requests are those of the code in the block, and of the tasks that are made there.
        """
        mark = Mark()
        self.streams.add(mark)
        try:
            yield
        finally:
            self.streams.discard(mark)

    cdef int _check_streams(self) except -1:
        for mark in self.streams:
            if mark.is_here():
                raise InterfaceError(
                    'cannot perform operation: executemany() or fetchmany() on this connection is reading its arguments '
                    'from the code that asks for it',
                    hint='Use another connection inside the asynchronous generator, or make a list of its elements first.')
        return 0

    def close_portal(self, bytes portal not None):
        """Queue the close of a named portal, without a waiter."""
        if not self.closed():
            self.session.submit(Closing(None, 'P', [portal]))
            self.transport.flush_soon()

    def prepare(self, Statement statement not None):
        """Queue the preparation of a statement; returns the request, whose result is the statement."""
        cdef PrepareWaiter request = PrepareWaiter(self._waiter(), statement)
        self.session.submit(request)
        self.transport.flush_soon()
        return request

    def hold(self, str query not None, *, bint named=True, name=None):
        """Return a statement that is kept until release(). Raises InterfaceError if the connection takes no requests."""
        self.session.check_open()
        return self.session.statements.hold(query, named=named, name=name)

    def release(self, Statement statement not None):
        """A prepared statement object is gone."""
        if not self.closed():
            self.session.statements.release(statement)
            if get_running() is self.loop:
                self.transport.flush_soon()

    def start(self, bytes message not None, on_authentication, int minimum=0x30000):
        """Send the startup message; returns the request, done at the first ReadyForQuery.

        `minimum` is the oldest version of the protocol to put up with, as in the startup message.
        """
        cdef Startup request = Startup(self._waiter(), message, on_authentication, minimum)
        self.session.submit(request)
        self.transport.flush()
        return request

    def answer(self, bytes data not None):
        """Write the answer to an authentication message. Only the startup message was sent before."""
        if self.transport.connected:
            self.transport.write(data)

    def reply(self, Request request not None, timeout, bint observed=True):
        """The awaitable for the request's result.

        On cancellation the request is dropped if it was not sent, drained if it waits behind others, and
        cancelled on the server if that works on it; the caller gets CancelledError at once. After `timeout` seconds
        (None: no limit) the same happens, and the caller gets TimeoutError. The observer is not told of a request that is
        not to be `observed`.
        """
        request.owner = self
        if timeout is not None and request.state != DONE:
            request.timeout = timeout
            if timeout <= 0:
                self.time_out(request)
            else:
                request.deadline = self.loop.call_later(timeout, self.time_out, request)
        if observed and self.observer is not None and not isinstance(request, PrepareWaiter):
            return self.observer.watch(request, timeout)
        return request

    cdef int _refused(self, str query, args, error) except -1:
        """Tell the observer of a request that was not queued."""
        if self.observer is not None:
            self.observer.refused(query, args, error)
        return 0

    # -- COPY --------------------------------------------------------------------------------------------------------

    cdef int _check_copy(self, Request last) except -1:
        """Refuse what the task that runs a COPY asks meanwhile, or a task that it has made: it would wait for itself."""
        if isinstance(last, Copy) and last.state != ABANDONED and (<Copy>last).flowing:
            caller = (<Copy>last).holder.caller()
            if caller is not None:
                raise InterfaceError(
                    f'cannot perform operation: {caller} is in the middle of a COPY on the connection',
                    hint='End the COPY first, or use another connection inside it.')
        return 0

    def copy_in(self, str query not None):
        """Queue a COPY FROM STDIN; returns the request, to be sent data once `began` has a result."""
        cdef CopyIn request = CopyIn(self._waiter(), self.loop.create_future(), query, Holder())
        self.session.submit(request)
        self.transport.flush_soon()
        return request

    def copy_out(self, str query not None, Statement statement=None, record_class=None):
        """Queue a COPY TO STDOUT; returns the request, which holds what comes: bytes, or rows of `statement`.

        While it holds much the socket is left unread; the reader then calls read_on().
        """
        cdef CopyOut request = CopyOut(self._waiter(), self.loop.create_future(), query, Holder(),
                                       statement, record_class)
        self.session.submit(request)
        self.transport.flush_soon()
        return request

    # -- streams of rows ---------------------------------------------------------------------------------------------

    def row_stream(self, query, tuple args not None, record_class, Py_ssize_t most_rows=0, origin=None):
        """Queue one execution of a text or a Statement whose rows are taken while they come; returns the request.

        While it holds many rows, or `most_rows` of them if that is not 0, the socket is left unread; the reader then calls
        read_on(). Until end_row_stream() its holder may ask for nothing else here: it would wait for itself. `origin` is
        the mark of the context in which the stream was made, or None.
        """
        cdef RowStream request
        self._check()
        request = RowStream(query, args, record_class, most_rows)
        request.holder = Holder(origin)
        request.context = PyContext_CopyCurrent()
        try:
            self.session.submit(request)
        except Exception as error:
            if not self.closed():
                self._refused(request.query, args, error)
            raise
        self.row_streams.add(request)
        self.transport.flush_soon()
        return request

    def reads_row_stream(self, RowStream request not None):
        """Note that the current task is the one that reads a stream."""
        if not request.holder.is_current_task():
            request.holder = request.holder.passed_on()

    def end_row_stream(self, RowStream request not None, error=None):
        """The reader has come to an end, early or not: let go of the rows that are left, and of the connection.

        `error` is raised to a reader that waits.
        """
        self.row_streams.discard(request)
        request.drop(error)
        self.give_up(request)

    def end_row_streams(self, error_of, owner):
        """End all streams that are open, if there are any: by the error that `error_of(owner)` returns."""
        if self.row_streams:
            error = error_of(owner)
            for request in list(self.row_streams):
                self.end_row_stream(request, error)

    cdef int _check_row_streams(self) except -1:
        """Refuse what the task that reads a stream asks meanwhile, or a task that it has made: it would wait for itself."""
        cdef RowStream request
        for request in self.row_streams:
            caller = request.holder.caller()
            if caller is not None:
                raise InterfaceError(
                    f'cannot perform operation: {caller} has a stream of rows open on the connection, which nothing else can '
                    'use until the stream has ended',
                    hint='Take the rows from pool.stream(), which has a connection of its own, or open the stream inside '
                         '`async with connection.transaction():`, where other queries run between its rows. To end a '
                         'stream early, write `async with connection.stream(...) as rows:`.')
        return 0

    # -- giving up -----------------------------------------------------------------------------------------------------

    def give_up(self, Request request not None):
        """The caller no longer waits for the request: drop it, drain it or cancel it on the server."""
        if request.state == DONE or self.loop.is_closed():
            # The loop is closed, and a coroutine that had waited is thrown away.
            return
        self._carry_out(self.session.cancellation.give_up(request))
        self.transport.read_on()
        self.transport.flush_urgent()
        if self.transport.connected:
            self.transport.flush_soon()

    def time_out(self, Request request not None):
        """The request's time is up: its waiter gets TimeoutError."""
        if request.is_wanted():
            request.timed_out = True
            request.deliver(None, TimeoutError(f'the command timed out after {max(request.timeout, 0):g} seconds'))
        self.give_up(request)

    def give_up_block(self, Command begin not None, Request commit not None):
        """Give up a block of one request, which was given up already, and the COMMIT behind it.

        Once BEGIN was sent COMMIT has to follow. It rolls back what has failed.
        """
        if commit.state > QUEUED:
            self.give_up(commit)
        elif self.session.commands.is_droppable(begin, commit):
            self.give_up(commit)
            self.session.commands.take_back(begin)

    def see_through(self, Request request not None):
        """Do not cancel a request on the server if its caller gives up."""
        request.traits |= UNCANCELLABLE

    cdef int _carry_out(self, CancelAction action) except -1:
        """Do what a cancellation asks for."""
        if action == FAIL:
            self.fail(self.session.cancellation.overdue)
        elif action == SIGNAL:
            if self.cancel_sender is None:
                self.fail(ConnectionDoesNotExistError('the connection cannot deliver a CancelRequest'))
                return 0
            if self.pool is not None:
                self.pool.held(self)
            task = self.loop.create_task(self._send_cancel_requests(self.session.cancellation.target))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        return 0

    async def _send_cancel_requests(self, target):
        """Send CancelRequests until the server has let go of the target.

        If no file descriptor is free the connection is closed, and the CancelRequest is sent with the descriptor that this
        frees.
        """
        cdef Cancellation cancellation = self.session.cancellation
        pause = cancel.CANCEL_PAUSE
        try:
            while True:
                try:
                    await asyncio.wait_for(self.cancel_sender(*cancellation.key), cancel.CANCEL_TIMEOUT)
                except OSError as error:
                    if error.errno not in NO_DESCRIPTOR or pause > cancel.CANCEL_TIMEOUT:
                        raise
                    self._undelivered(error)
                    # The transport closes the socket in a later tick, and another connection may take its descriptor.
                    await asyncio.sleep(pause)
                    pause *= 2
                    continue
                cancellation.delivered()
                if not cancellation.is_followed(pause, self.transport.connected):
                    return
                await asyncio.sleep(pause)
                pause *= 2
                if self.transport.connected and not cancellation.repeat(target):
                    return
        except Exception as error:
            self._undelivered(error)

    cdef int _undelivered(self, error) except -1:
        """Drop the connection because a CancelRequest could not be delivered."""
        reason = repr(error) if str(error) else f'{type(error).__name__} after at most {cancel.CANCEL_TIMEOUT:g} seconds'
        failure = ConnectionDoesNotExistError(f'a CancelRequest could not be delivered: {reason}')
        failure.__cause__ = error
        self.fail(failure)
        return 0

    def set_cancel_timer(self, double seconds):
        """Ask the cancellation what to do in so many seconds; 0: not at all."""
        if self.cancel_timer is not None:
            self.cancel_timer.cancel()
        self.cancel_timer = self.loop.call_later(seconds, self._cancel_timer_expired) if seconds else None

    def _cancel_timer_expired(self):
        self.cancel_timer = None
        self._carry_out(self.session.cancellation.time_is_up())

    # -- what the transport tells ----------------------------------------------------------------------------------------

    cdef int replied(self) except -1:
        if self.pool is not None:
            self.pool.replied(self)
        return 0

    cdef int answered_all(self) except -1:
        if self.idle_waiters:
            self._wake_idle_waiters()
        return 0

    # -- what the session tells ------------------------------------------------------------------------------------------

    def backends_switched(self):
        log.warning(
            'the server does not know statements that were prepared a moment ago: a pooler in front of it seems to switch '
            'backends between transactions; on this connection statements are parsed with each execution from now on. '
            'Connect with statement_mode="unnamed" to have that from the start.')

    def writable(self):
        """The cancel window has closed."""
        self._wake_idle_waiters()
        if self.pool is not None:
            self.pool.resumed(self)
        self.transport.flush_soon()

    def queued(self):
        """The session goes on because of what another connection has learnt."""
        if self.transport.connected:
            self.transport.flush_soon()

    def notice(self, message):
        if message.sqlstate == '01000' and message.server_source_function == 'SyncRepWaitForLSN':
            # An acknowledged commit may be lost with this server. Few programs listen to notices.
            log.warning('a commit is not known to be on a synchronous standby: %s', message.message)
        owner = self.owner
        if owner is not None:
            self.transport.told = True
            owner._on_notice(message)

    def notification(self, pid, channel, payload):
        owner = self.owner
        if owner is not None:
            self.transport.told = True
            owner._on_notification(pid, channel, payload)

    def parameter(self, name, value):
        if self.pool is not None:
            self.transport.told = True
            self.pool.reported(self, name)

    def requeue(self, request, started):
        """Hand a request that the connection cannot carry out to the pool that it comes from; returns whether it is taken."""
        return self.pool is not None and self.pool.take_back(self, request, started)

    def read_only(self, error):
        if self.watcher is not None:
            self.transport.told = True
            self.watcher(self, error)

    def watch(self, watcher):
        """Name the function watcher(driver, error) that is called if the server refuses to write (25006): a pool's."""
        self.watcher = watcher

    def attach(self, owner):
        """Name the connection that is told of notices (_on_notice), notifications (_on_notification) and the end (_on_lost).

        It is not kept alive: the event loop holds the driver for as long as the socket is open, and a connection that its
        program has forgotten is to be noticed.
        """
        self.owner_reference = ref(owner)

    @property
    def owner(self):
        """The connection, None if there is none (any more)."""
        return self.owner_reference() if self.owner_reference is not None else None

    # -- the end -----------------------------------------------------------------------------------------------------------

    async def drain(self):
        """Wait until nothing is in flight or waiting, or the connection is gone."""
        while self.transport.connected:
            # First, for this takes out of the queue what was dropped while it stood there.
            self.transport.flush_soon()
            if not self.session.count_pending():
                return
            await self._change()

    cdef object _change(self):
        """A future, done once nothing is in flight, a cancel window has closed, or the connection is gone."""
        waiter = self.loop.create_future()
        self.idle_waiters.append(waiter)
        return waiter

    cdef int _wake_idle_waiters(self) except -1:
        waiters, self.idle_waiters = self.idle_waiters, []
        return wake(waiters)

    cdef int fail(self, error) except -1:
        self.lost(error)
        return self.transport.abort()

    cdef int lost(self, reason) except -1:
        if not self.transport.connected:
            return 0
        self.transport.connected = False
        self.set_cancel_timer(0)
        if not self.dropped:
            for task in self.tasks:
                if task is not current_task(self.loop):
                    task.cancel()
        self.session.connection_lost(reason)
        self._wake_idle_waiters()
        self.transport.disconnect()
        owner = self.owner
        if owner is not None:
            owner._on_lost(reason)
        return 0

    async def close(self, timeout=None):
        """Cancel what is running, end the session and wait until the server has closed the connection.

        A server closes it when the backend is gone, with its locks and everything else that it held (PostgreSQL
        documentation, "Termination"). Nothing is closed on this side before that: a proxy might close its side too then.
        Requests that were not sent fail with an error that says so. Raises TimeoutError if `timeout` seconds do not suffice,
        and InterfaceError in another event loop. The connection is dropped after a time-out, after CLOSE_TIMEOUT if no
        `timeout` was given, and on cancellation.
        """
        if not self.transport.connected:
            return
        self._check_loop('Close a connection in the event loop that opened it, or drop it with terminate().')
        terminate = self.session.close('connection is closed')
        try:
            async with asyncio.timeout(timeout if timeout is not None else CLOSE_TIMEOUT):
                while self.session.sent.count and self.transport.connected:
                    self._carry_out(self.session.cancellation.interrupt())
                    self._discard_copy()
                    await self._change()
                if self.transport.connected and not self.terminated:
                    self.terminated = True
                    self.transport.write(terminate)
                while self.transport.connected:
                    await self._change()
        except TimeoutError as error:
            self.terminate()
            if timeout is not None:
                error.args = (f'close() timed out after {max(timeout, 0):g} seconds: the connection was dropped',)
                raise
        except BaseException:
            self.terminate()
            raise

    cdef int _discard_copy(self) except -1:
        """Get a COPY or a stream that is being interrupted out of the way."""
        cdef Request head = self.session.sent.first
        if isinstance(head, CopyOut):
            (<CopyOut>head).drop()
        elif isinstance(head, RowStream):
            (<RowStream>head).pass_over()
        self.transport.read_on()
        self.transport.flush_urgent()
        return 0

    def terminate(self):
        """Drop the socket at once; all requests fail.

        On a closed event loop nothing can be woken any more: the socket is closed, and that is all. From outside a loop
        that runs in another thread the drop is left to that loop.
        """
        # A cancellation under way is carried out: the backend might go on for a client that is gone.
        self.dropped = True
        if self.loop.is_closed():
            self._drop_without_loop()
        elif self.loop.is_running() and get_running() is not self.loop:
            self.loop.call_soon_threadsafe(self.terminate)
        else:
            self.fail('the connection was terminated')

    cdef int _drop_without_loop(self) except -1:
        if self.transport.connected:
            self.transport.connected = False
            close_without_loop(self.transport.transport)
        return 0

    def forgotten(self):
        """Drop the socket of a connection that nobody refers to any more, in the loop's next tick.

        May be called in any thread and at any point: the garbage collector finds out in the middle of other code.
        """
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.terminate)

    # -- for the pool --------------------------------------------------------------------------------------------------------

    @property
    def nobody_waits(self) -> bool:
        """True if nobody waits for any of the requests in flight."""
        cdef Request request = self.session.sent.first
        while request is not None:
            if request.is_wanted() and not isinstance(request.waiter, Continuation):
                return False
            request = request.next
        return True

    @property
    def pending(self) -> int:
        """Requests in flight and waiting."""
        return self.session.count_pending()

    @property
    def request_count(self) -> int:
        """Requests ever queued."""
        return self.session.request_count

    @property
    def is_idle(self) -> bool:
        """Return whether no transaction block is open, as the server said last."""
        return self.session.commands.status_byte == b'I'

    @property
    def is_closed(self) -> bool:
        return self.closed()

    cdef bint closed(self) except -1:
        """Return whether the connection is gone, or takes no more requests because it is ending."""
        return not self.transport.connected or self.session.failure is not None


cdef int close_without_loop(transport) except -1:
    """Close a transport of a closed event loop, which does the last part of abort() in a further tick."""
    with suppress(RuntimeError):
        transport.abort()
    # uvloop has closed the socket together with the loop.
    with suppress(OSError, TypeError):
        transport.get_extra_info('socket').shutdown(socket.SHUT_RDWR)
    # The names of asyncio's own transports, for TLS that of the one below. Without them the server learns of the end by
    # the shutdown, and the descriptor goes with the transport.
    lower = getattr(getattr(transport, '_ssl_protocol', None), '_transport', transport)
    with suppress(RuntimeError):
        getattr(lower, '_call_connection_lost', repr)(None)
    return 0


cdef object get_running():
    try:
        return get_running_loop()
    except RuntimeError:
        return None


KIND_ROWS = <int>ROWS
KIND_FIRST_ROW = <int>FIRST_ROW
KIND_VALUE = <int>VALUE
KIND_STATUS = <int>STATUS
KIND_ARROW = <int>ARROW
