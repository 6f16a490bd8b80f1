"""The session: one FIFO of requests, and the bytes on either side of it.

Theory of operation. Requests wait in `unsent` until take_output() hands their bytes to whoever owns the socket; then
they stand in `sent` until their own ReadyForQuery. The head of `sent` owns every reply message but the asynchronous
ones. Nothing else matches replies to requests, so it cannot go wrong by halves: a message that does not fit its head
is a ProtocolError, and that ends the session.

The rules (numbers as in the design document):
1.  One Sync per request; a request leaves `sent` only on its own ReadyForQuery; an error settles its own request.
2.  A request owns the wire up to its Sync: while one is streaming, nothing else is taken.
3.  Requests are sent in the order of the calls. One that waits for its statement to be prepared stops take_output(),
    and so holds back those behind it; a shared one waits outside the queue and holds back nobody.
4.  A request is encoded only when its statement is READY, that is after ReadyForQuery followed its ParseComplete.
5.  At most `max_pipeline` requests and MAX_BYTES_IN_FLIGHT bytes are in flight.
7.  Notices, notifications and parameter changes go to `events`, whatever is at the head.
8.  After a loss the head gets the server's own error, all others ConnectionDoesNotExistError.
9.  The transaction status is the byte of the last ReadyForQuery.
10. An error 25P02 has the error that failed the transaction as its __cause__.

Cancellation has a window: from the moment cancel() answers SIGNAL until both the CancelRequest's delivery and the
target's ReadyForQuery are known, nothing is written. A signal that comes late can then hit only requests that were
already in flight (`exposed`); one of these that gets a 57014 is run again.

No event loop and no socket here: submit(), take_output(), feed() and lost() are all that drives it.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING
from libc.string cimport memcpy, memmove

from headrace._core.backend cimport error_fields, notification, parameter_status
from headrace._core.buffer cimport load_i32
from headrace._core.frontend cimport TERMINATE
from headrace._core.request cimport DONE, QUEUED, SENT, Closing, Query, Startup, ROWS
from headrace._core.statement cimport NEW, PREPARING, READY

from headrace._core.codecs.typemap import INTROSPECTION_COLUMNS, INTROSPECTION_QUERY
from headrace._core.record import Record
from headrace.errors import (
    ConnectionDoesNotExistError, InterfaceError, ProtocolError, new_error, new_notice,
)

cdef Py_ssize_t MAX_BYTES_IN_FLIGHT = 1 << 20
cdef int OID_ARRAY = 1028
cdef Py_ssize_t STREAM_BYTES = 1 << 17
cdef Py_ssize_t READ_CAPACITY = 1 << 17
# A server message cannot be longer than what palloc hands out (MaxAllocSize).
cdef Py_ssize_t MAX_MESSAGE = 0x3fffffff
# Message types that may be longer than a few dozen kilobytes; anything else that claims to be is out of step.
cdef bytes LONG_MESSAGES = b'DdTtENAVRS'
cdef Py_ssize_t MAX_SHORT_MESSAGE = 30000


class Events:
    """What a session tells its owner; every method may be overridden."""

    def notice(self, message): ...
    def notification(self, pid, channel, payload): ...
    def parameter(self, name, value): ...
    def abandoned_head(self): ...
    def writable(self): ...


class Continuation:
    """A waiter for the session's own requests: calls a function instead of waking a task."""

    __slots__ = ('_then',)

    def __init__(self, then):
        self._then = then

    def done(self):
        return False

    def set_result(self, value):
        self._then(value, None)

    def set_exception(self, error):
        self._then(None, error)


cdef class Queue:
    """Requests in order, linked through their `next`."""

    cdef int append(self, Request request) except -1:
        if self.last is None:
            self.first = request
        else:
            self.last.next = request
        self.last = request
        self.count += 1
        self.total += 1
        return 0

    cdef int push_front(self, Request request) except -1:
        request.next = self.first
        self.first = request
        if self.last is None:
            self.last = request
        self.count += 1
        self.total += 1
        return 0

    cdef int insert_before(self, Request request, Request place) except -1:
        cdef Request ahead = self.first
        if place is None:
            return self.append(request)
        if ahead is place:
            return self.push_front(request)
        while ahead is not None and ahead.next is not place:
            ahead = ahead.next
        if ahead is None:
            return self.append(request)
        request.next = place
        ahead.next = request
        self.count += 1
        self.total += 1
        return 0

    cdef Request pop(self):
        cdef Request request = self.first
        self.first = request.next
        request.next = None
        if self.first is None:
            self.last = None
        self.count -= 1
        return request

    def __iter__(self):
        cdef Request request = self.first
        while request is not None:
            yield request
            request = request.next


cdef class ReadBuffer:
    """The bytes received and not yet read.

    The memory belongs to a bytearray of fixed size. To grow, another one is made and the rest copied: whoever still
    holds a view of the former keeps it alive.
    """

    def __cinit__(self):
        self.allocate(READ_CAPACITY)

    cdef int allocate(self, Py_ssize_t capacity) except -1:
        cdef:
            object chunk = bytearray(capacity)
            char *data = PyByteArray_AS_STRING(chunk)
        if self.end > self.start:
            memcpy(data, self.data + self.start, <size_t>(self.end - self.start))
        self.end -= self.start
        self.start = 0
        self.chunk = chunk
        self.view = memoryview(chunk)
        self.data = data
        self.capacity = capacity
        return 0

    cdef int make_room(self, Py_ssize_t wanted) except -1:
        """Make room for a message of `wanted` bytes, growing only as fast as bytes have come."""
        cdef Py_ssize_t held = self.end - self.start
        if held == 0:
            self.start = self.end = 0
            if self.capacity > READ_CAPACITY and wanted <= READ_CAPACITY:
                self.allocate(READ_CAPACITY)
        if self.capacity - self.start >= wanted and self.capacity > self.end:
            return 0
        if held and self.start:
            memmove(self.data, self.data + self.start, <size_t>held)
            self.start = 0
            self.end = held
        if self.capacity < wanted and self.capacity - self.end < self.capacity // 4:
            self.allocate(min(max(self.capacity * 2, READ_CAPACITY), max(wanted, READ_CAPACITY)))
        return 0

    cdef object writable(self):
        return self.view if self.end == 0 else self.view[self.end:]


cdef class Session:
    """One conversation with a backend: requests in, replies out, in order.

    `max_pipeline` bounds the requests in flight (1: one at a time). `events` is told of what belongs to no request.
    """

    def __init__(self, TypeMap types not None, *, events=None, Py_ssize_t max_pipeline=100,
                 Py_ssize_t statement_cache_size=100, double max_cached_statement_lifetime=300,
                 Py_ssize_t max_cacheable_statement_size=15360):
        self.types = types
        self.events = events if events is not None else Events()
        self.max_pipeline = max_pipeline
        self.cache = StatementCache(statement_cache_size, max_cached_statement_lifetime, max_cacheable_statement_size)
        self.out = WriteBuffer()
        self.incoming = ReadBuffer()
        self.sent = Queue()
        self.unsent = Queue()
        self.urgent = []
        self.parameters = {}

    # -- what callers ask for ------------------------------------------------------------------------------------

    cdef int check_open(self) except -1:
        if self.failure is not None:
            raise InterfaceError(f'connection is closed: {self.failure}'
                                 if not isinstance(self.failure, InterfaceError) else str(self.failure))
        return 0

    cpdef object submit(self, Request request):
        """Queue a request behind all others; its bad arguments raise here, and nothing is queued then."""
        self.check_open()
        if isinstance(request, Bound):
            return self.bind(<Bound>request)
        if not request.ready:
            request.encode(self.out)
        self.unsent.append(request)

    cdef Statement statement_for(self, str query):
        """The statement for the text: from the cache, or a new one."""
        cdef:
            Statement statement = self.cache.get(query)
            Statement evicted
        if statement is None:
            if self.cache.takes(query):
                statement = Statement(query, self.types, True)
                for evicted in self.cache.put(statement):
                    self.let_go(evicted)
            else:
                statement = Statement(query, self.types, False)
        return statement

    cdef object bind(self, Bound request):
        cdef Statement statement = request.statement
        if statement.state == READY:
            request.encode(self.out)
            self.unsent.append(request)
            return None
        if not request.shared:
            self.unsent.append(request)
        statement.waiting.append(request)
        if statement.prepare is not None:
            (<Prepare>statement.prepare).abandoned = False
        if statement.state == NEW:
            self.begin_prepare(statement, None if request.shared else request)

    def statement(self, str query not None, *, bint named=True, name=None):
        """A statement of its own for a prepared statement object: shared with the cache unless it is named by the user."""
        cdef Statement statement
        self.check_open()
        if name is not None:
            statement = Statement(query, self.types, True, name.encode())
        elif named and self.cache.takes(query):
            statement = self.statement_for(query)
        else:
            statement = Statement(query, self.types, named)
        statement.users += 1
        return statement

    def prepare(self, Statement statement not None, waiter):
        """Make sure that the statement is READY; the waiter gets it, or the error."""
        cdef Preparation request
        self.check_open()
        request = Preparation(waiter, statement)
        if statement.state == READY:
            request.settle()
        else:
            self.bind(request)
        return request

    def release(self, Statement statement not None):
        """A prepared statement object is gone."""
        statement.users -= 1
        self.let_go(statement)

    def forget_statements(self):
        """Empty the statement cache; statements in use stay until they are done with."""
        cdef Statement statement
        for statement in self.cache.clear():
            self.let_go(statement)

    def cached_queries(self) -> list:
        """The texts of the cached statements, most recently used first."""
        return self.cache.queries()

    cdef int let_go(self, Statement statement) except -1:
        """Close a statement on the server once neither the cache nor any user needs it."""
        if not statement.cached and statement.users == 0 and not statement.waiting and statement.state == READY:
            name = statement.rename()
            if name and self.failure is None:
                self.close_names('S', name)
        return 0

    cdef int close_names(self, str what, bytes name) except -1:
        cdef Closing request = Closing(None, what, [name])
        request.encode(self.out)
        return self.unsent.append(request)

    # -- preparing -----------------------------------------------------------------------------------------------

    cdef int begin_prepare(self, Statement statement, Request before) except -1:
        """Queue the preparation: right before the request that waits for it, or at the end."""
        cdef Prepare request = Prepare(statement)
        statement.state = PREPARING
        statement.prepare = request
        request.encode(self.out)
        self.unsent.insert_before(request, before)
        self.prepared += 1
        return 0

    cdef int prepared_with(self, Prepare request) except -1:
        """ReadyForQuery after Parse and Describe."""
        cdef:
            Statement statement = request.statement
            list oids, missing
        statement.prepare = None
        if request.error is not None:
            # Cancelled because nobody waited any more: whoever has come since gets a preparation of his own.
            return self.statement_failed(statement, request.error, request.cancelled)
        statement.parameter_oids = request.parameter_oids
        statement.returns_rows = request.columns is not None
        statement.columns = request.columns
        oids = list(request.parameter_oids)
        if request.columns is not None:
            oids.extend([column[3] for column in request.columns])
        missing = self.types.missing(oids)
        if missing:
            return self.learn_types(statement, missing)
        return self.statement_ready(statement)

    cdef int learn_types(self, Statement statement, list missing) except -1:
        """Ask the server about types met for the first time, ahead of everything that waits."""
        cdef Statement question = introspection(self.types)

        def learnt(rows, error):
            if error is None:
                self.types.learn(missing, rows)
                self.statement_ready(statement)
            else:
                self.statement_failed(statement, error)

        cdef Query request = Query(Continuation(learnt), question, (missing,), ROWS, 0, 0, Record)
        request.encode(self.out)
        self.unsent.push_front(request)
        return 0

    cdef int statement_ready(self, Statement statement) except -1:
        cdef:
            list waiting = statement.waiting
            Bound request
        statement.waiting = []
        statement.described(statement.parameter_oids, statement.columns if statement.returns_rows else None)
        for request in waiting:
            if request.state == DONE:
                continue
            try:
                request.encode(self.out)
            except BaseException as error:
                self.out.length = 0
                request.fail(error)
            else:
                if request.shared:
                    self.unsent.append(request)
        self.let_go(statement)
        return 0

    cdef int statement_failed(self, Statement statement, object error, bint unseen=False) except -1:
        """The first that waits gets the error; for the next the text is prepared again, at its place."""
        cdef:
            list waiting = statement.waiting
            Bound request
        statement.rename()
        while waiting and not unseen:
            request = waiting.pop(0)
            if request.state != DONE:
                request.fail(error)
                break
        while waiting and (<Bound>waiting[0]).state == DONE:
            waiting.pop(0)
        if waiting:
            request = waiting[0]
            return self.begin_prepare(statement, None if request.shared else request)
        if self.cache.get(statement.query) is statement:
            self.cache.drop(statement)
        return 0

    # -- output --------------------------------------------------------------------------------------------------

    cpdef bint wants_output(self) except -1:
        """Whether take_output() would give anything."""
        cdef Request request = self.unsent.first
        if self.urgent:
            return True
        if self.holding:
            return False
        if self.streaming is not None:
            return True
        while request is not None and request.state == DONE:
            request = request.next
        return (request is not None and request.ready and self.sent.count < self.max_pipeline
                and (self.bytes_in_flight < MAX_BYTES_IN_FLIGHT or self.sent.count == 0)
                and (self.sent.last is None or not self.sent.last.barrier))

    cpdef bytes take_output(self):
        """The bytes to be written now, b'' for none; the requests they belong to are in flight from here on."""
        cdef:
            list parts
            Request request
            Py_ssize_t taken = 0
        if self.urgent:
            parts = self.urgent
            self.urgent = []
            return b''.join(parts)
        if self.holding:
            return b''
        parts = []
        while True:
            if self.streaming is not None:
                chunk = self.streaming.more(self.out)
                taken += len(chunk)
                parts.append(chunk)
                if not self.streaming.streaming:
                    self.streaming = None
                elif taken >= STREAM_BYTES:
                    break
                continue
            request = self.unsent.first
            if request is None:
                break
            if request.state == DONE:
                self.unsent.pop()
                continue
            if not request.ready or self.sent.count >= self.max_pipeline:
                break
            if self.bytes_in_flight >= MAX_BYTES_IN_FLIGHT and self.sent.count:
                break
            if self.sent.last is not None and self.sent.last.barrier:
                break
            self.unsent.pop()
            request.state = SENT
            request.size = len(request.message)
            self.bytes_in_flight += request.size
            taken += request.size
            parts.append(request.message)
            request.message = None
            self.sent.append(request)
            if request.streaming:
                self.streaming = request
        if len(parts) == 1:
            return <bytes>parts[0]
        return b''.join(parts)

    # -- input ---------------------------------------------------------------------------------------------------

    def feed(self, data) -> None:
        """Take bytes from the server, in pieces of any size.

        Raises ProtocolError where they are not what a server may send; the session is then of no further use and its
        owner calls lost().
        """
        cdef:
            const unsigned char[:] source = data
            Py_ssize_t place = 0
            Py_ssize_t size
        while place < source.shape[0]:
            self.incoming.make_room(1)
            size = min(self.incoming.capacity - self.incoming.end, source.shape[0] - place)
            memcpy(self.incoming.data + self.incoming.end, &source[place], <size_t>size)
            place += size
            self.received(size)

    cdef int received(self, Py_ssize_t size) except -1:
        """`size` bytes were written to the buffer that incoming.writable() gave out."""
        self.incoming.end += size
        if self.feeding:
            raise RuntimeError('a session cannot be fed from within a decoder')
        self.feeding = True
        try:
            return self.parse()
        finally:
            self.feeding = False

    cdef int parse(self) except -1:
        cdef:
            ReadBuffer incoming = self.incoming
            Py_ssize_t size = 0
            Py_ssize_t held
            const char *place
            char kind
        while True:
            held = incoming.end - incoming.start
            if held < 5:
                size = 4
                break
            place = incoming.data + incoming.start
            kind = place[0]
            size = load_i32(place + 1)
            if size < 4 or size > MAX_MESSAGE or (size > MAX_SHORT_MESSAGE and kind not in LONG_MESSAGES):
                raise ProtocolError(f'a message of type {chr(<unsigned char>kind)!r} and {size} bytes from the server: '
                                    'this is not the PostgreSQL protocol, or it is out of step')
            if held < size + 1:
                break
            incoming.start += size + 1
            self.dispatch(kind, place + 5, size - 4)
        incoming.make_room(size + 1)
        return 0

    cdef int dispatch(self, char kind, const char *data, Py_ssize_t size) except -1:
        cdef Request head
        if kind == b'Z':
            return self.on_ready(data, size)
        if kind == b'E':
            return self.on_error(data, size)
        if kind == b'N':
            self.events.notice(new_notice(error_fields(data, size)))
            return 0
        if kind == b'A':
            self.events.notification(*notification(data, size))
            return 0
        if kind == b'S':
            name, value = parameter_status(data, size)
            if name == 'client_encoding' and value.upper().replace('-', '') not in ('UTF8', 'UNICODE', 'SQL_ASCII'):
                raise ProtocolError(f'the server changed client_encoding to {value}: headrace reads and writes UTF8 alone')
            self.parameters[name] = value
            self.events.parameter(name, value)
            return 0
        head = self.sent.first
        if head is None:
            raise ProtocolError(f'unexpected message {chr(<unsigned char>kind)!r} from the server: nothing was asked')
        if kind == b'K' and isinstance(head, Startup):
            if size < 8 or size > 260:
                raise ProtocolError(f'BackendKeyData from the server of {size} bytes: expected 8 to 260')
            self.backend_pid = load_i32(data)
            self.backend_secret = data[4:size]
            return 0
        head.receive(kind, data, size)
        if head.urgent is not None:
            self.urgent.append(head.urgent)
            head.urgent = None
        return 0

    cdef int on_error(self, const char *data, Py_ssize_t size) except -1:
        cdef Request head = self.sent.first
        error = new_error(error_fields(data, size), head.query if head is not None else None)
        if error.severity_en in ('FATAL', 'PANIC') or error.severity_en is None and error.severity in ('FATAL', 'PANIC'):
            self.fatal = error
        elif head is None:
            raise ProtocolError(f'an error from the server that belongs to no request: {error}')
        if error.sqlstate == '25P02' and self.root_cause is not None:
            error.__cause__ = self.root_cause
        if head is not None and head.error is None:
            head.error = error
        return 0

    cdef int on_ready(self, const char *data, Py_ssize_t size) except -1:
        cdef:
            Request head = self.sent.first
            Request follower
        if size != 1 or data[0] not in b'ITE':
            raise ProtocolError('ReadyForQuery from the server with a malformed transaction status')
        if head is None:
            raise ProtocolError('ReadyForQuery from the server, which nothing asked for')
        if self.streaming is head and head.error is None:
            raise ProtocolError('the server is ready for queries before the whole request was sent')
        if head.error is None:
            head.finished()
        self.status_byte = data[0]
        if self.streaming is not head:
            self.sent.pop()
            self.bytes_in_flight -= head.size
        else:
            raise ProtocolError('ReadyForQuery from the server before Sync was sent')
        if data[0] != b'E':
            self.root_cause = None
        elif self.root_cause is None:
            self.root_cause = head.error
        if self.cancelling is head:
            self.cancelling = None
            if self.delivered:
                self.end_cancel_window()
        if head.error is None or not self.revive(head):
            head.settle()
            if isinstance(head, Prepare):
                self.prepared_with(<Prepare>head)
        follower = self.sent.first
        if follower is not None and follower.abandoned and not self.holding:
            self.events.abandoned_head()
        return 0

    cdef bint revive(self, Request request) except -1:
        """Queue a failed request again where its failure was not its own."""
        cdef:
            Statement statement
            Bound bound
        sqlstate = getattr(request.error, 'sqlstate', None)
        if sqlstate == '57014':
            if not request.exposed or request.abandoned or request.repeated or self.status_byte != b'I' \
                    or not request.repeatable():
                return False
            request.repeated = True
            request.exposed = False
            request.error = None
            request.stage = 0
            request.state = QUEUED
            if isinstance(request, Bound):
                self.bind_again(<Bound>request)
            else:
                request.encode(self.out)
                self.unsent.insert_before(request, self.behind_revived())
            return True
        if not isinstance(request, Query) or not (
                sqlstate == '26000' or
                (sqlstate == '0A000' and request.error.server_source_function == 'RevalidateCachedQuery')):
            return False
        # The server no longer accepts the statement (DDL, DEALLOCATE, DISCARD): its next use prepares it again.
        bound = <Bound>request
        statement = bound.statement
        if statement.state == READY and statement.generation == bound.generation and statement.name:
            name = statement.rename()
            if sqlstate == '0A000':
                self.close_names('S', name)
        if self.status_byte != b'I' or bound.repeated or bound.abandoned or (<Query>bound).portal:
            return False
        bound.repeated = True
        bound.error = None
        bound.state = QUEUED
        self.bind_again(bound)
        return True

    cdef int bind_again(self, Bound bound) except -1:
        """Queue a request once more, after its statement was prepared again where it has to be."""
        cdef Statement statement = bound.statement
        if statement.state == READY:
            bound.encode(self.out)
            return self.unsent.insert_before(bound, self.behind_revived())
        bound.ready = False
        statement.waiting.append(bound)
        if not bound.shared:
            self.unsent.insert_before(bound, self.behind_revived())
        if statement.state == NEW:
            self.begin_prepare(statement, None if bound.shared else bound)
        return 0

    cdef Request behind_revived(self):
        """The place of a request that is run again: ahead of all that was never sent, behind those revived before it.

        Ahead of them it would wait for a preparation that it holds back itself.
        """
        cdef Request place = self.unsent.first
        while place is not None and (place.repeated or isinstance(place, Prepare)):
            place = place.next
        return place

    # -- cancellation --------------------------------------------------------------------------------------------

    cpdef Cancellation cancel(self, Request request) except *:
        """Give up a request whose waiter is gone, without disturbing any other.

        DROPPED: it had not been sent. DRAINED: it was sent, its reply will be passed over. SIGNAL: it is what the
        server works on; nothing is written until the owner has sent a CancelRequest and called cancel_delivered().
        """
        cdef Request other
        if request.state == DONE:
            return DRAINED
        if request.state == QUEUED:
            if request.kept:
                return DRAINED
            self.drop(request)
            return DROPPED
        request.abandoned = True
        if self.streaming is request:
            # It ends here, or the Sync that lets the server answer would never be sent.
            if request.error is None:
                request.error = InterfaceError('the caller has given up')
            self.urgent.append(request.more(self.out))
            self.streaming = None
        withdrawal = request.withdrawal(self.out)
        if withdrawal is not None:
            # What else is needed is seen when it has stayed at the head for a while.
            self.urgent.append(withdrawal)
            self.events.abandoned_head()
            return DRAINED
        if request is not self.sent.first or self.holding or request.kept or self.backend_secret is None:
            return DRAINED
        if request.next is not None:
            # A signal that comes late could hit a neighbour: it is sent only if each could be run again unseen.
            if self.status_byte != b'I' or not request.repeatable():
                return DRAINED
            other = request.next
            while other is not None:
                if not (other.abandoned or other.repeatable()):
                    return DRAINED
                other = other.next
            other = request.next
            while other is not None:
                other.exposed = True
                other = other.next
        request.cancelled = True
        self.cancelling = request
        self.delivered = False
        self.holding = True
        return SIGNAL

    def cancel_head(self) -> Cancellation:
        """Give up waiting for an abandoned head to end by itself."""
        cdef Request head = self.sent.first
        if head is None or not head.abandoned:
            return DRAINED
        return self.cancel(head)

    def interrupt(self) -> Cancellation:
        """Cancel what the server works on, whoever waits for it: its waiter gets the server's QueryCanceledError."""
        cdef Request head = self.sent.first
        if head is None or self.holding or self.backend_secret is None:
            return DRAINED
        withdrawal = head.withdrawal(self.out)
        if withdrawal is not None:
            self.urgent.append(withdrawal)
        head.cancelled = True
        self.cancelling = head
        self.delivered = False
        self.holding = True
        return SIGNAL

    def cancel_delivered(self) -> None:
        """The CancelRequest has done whatever it will do: the server has closed the connection that carried it."""
        self.delivered = True
        if self.cancelling is None:
            self.end_cancel_window()

    cdef int end_cancel_window(self) except -1:
        # What is in flight stays exposed: the server may not have got to the signal yet. What is written from here on
        # cannot be hit: a backend drops a cancel that reaches it while it reads its next command.
        self.holding = False
        self.events.writable()
        if self.sent.first is not None and self.sent.first.abandoned:
            self.events.abandoned_head()
        return 0

    cdef int drop(self, Request request) except -1:
        """Forget a request that was not sent, and the preparation that it alone was waiting for."""
        cdef:
            Statement statement
            Prepare prepare
            Bound other
        request.state = DONE
        request.message = None
        request.forget_deadline()
        if isinstance(request, Bound):
            statement = (<Bound>request).statement
            if statement.prepare is not None:
                for other in statement.waiting:
                    if other.state != DONE:
                        return 0
                prepare = <Prepare>statement.prepare
                if prepare.state == SENT:
                    # It may be waiting for a lock: the owner finds it at the head and cancels it.
                    prepare.abandoned = True
                    if self.sent.first is prepare:
                        self.events.abandoned_head()
        return 0

    # -- the end -------------------------------------------------------------------------------------------------

    def fail_unsent(self, reason) -> None:
        """Settle everything that was not sent with an error that says so."""
        cdef Request request
        cdef Statement statement
        while self.unsent.first is not None:
            request = self.unsent.pop()
            if request.state != DONE:
                if isinstance(request, Prepare):
                    statement = (<Prepare>request).statement
                    self.fail_waiting(statement, reason)
                request.fail(lost_error(reason, False))

    def fail_waiting(self, Statement statement not None, reason):
        cdef Request request
        waiting, statement.waiting = statement.waiting, []
        for request in waiting:
            if request.state != DONE:
                request.fail(lost_error(reason, False))

    def lost(self, reason) -> None:
        """The connection is gone: settle everything.

        `reason` is an exception or a text. The head gets the server's last words where there were any; the others
        ConnectionDoesNotExistError, whose safe_to_retry says whether the request had never been sent.
        """
        cdef:
            Request request
            bint first = True
        if self.failure is None:
            self.failure = reason
        cause = self.fatal if self.fatal is not None else reason
        while self.sent.first is not None:
            request = self.sent.pop()
            if isinstance(request, Prepare):
                # Preparing changes nothing: those that wait for it were never sent.
                if first and (self.fatal is not None or isinstance(cause, ProtocolError)):
                    self.fail_first((<Prepare>request).statement, cause)
                self.fail_waiting((<Prepare>request).statement, cause)
            if request.error is not None and request.error is not self.fatal and not first:
                request.settle()
            elif first and self.fatal is not None:
                request.fail(self.fatal)
            elif first and isinstance(reason, ProtocolError):
                request.error = None
                request.fail(reason)
            else:
                request.fail(lost_error(cause, True))
            first = False
        self.streaming = None
        self.holding = False
        self.fail_unsent(cause)
        for statement in self.cache.clear():
            self.fail_waiting(statement, cause)

    def fail_first(self, Statement statement not None, error):
        cdef Request request
        for request in statement.waiting:
            if request.state != DONE:
                request.fail(error)
                break

    def send_now(self, bytes data not None) -> None:
        """Bytes to be written ahead of everything queued: the answers of authentication."""
        self.urgent.append(data)

    def close(self, reason) -> bytes:
        """Take no more requests; returns Terminate, to be written once everything sent is done."""
        if self.failure is None:
            self.failure = reason
        self.fail_unsent(reason)
        return TERMINATE

    # -- what can be asked ---------------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """The transaction status of the last ReadyForQuery: I idle, T in a transaction, E in a failed one; '' before."""
        return chr(self.status_byte) if self.status_byte else ''

    @property
    def failed_by(self):
        """The error that failed the open transaction, or None."""
        return self.root_cause

    @property
    def load(self) -> int:
        """Requests in flight and queued."""
        return self.sent.count + self.unsent.count

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight or queued."""
        return self.sent.count == 0 and self.unsent.count == 0


cdef class Preparation(Bound):
    """Waits for a statement to be READY; nothing is sent for it."""

    def __cinit__(self, object waiter, Statement statement not None):
        self.waiter = waiter
        self.statement = statement
        self.query = statement.query

    cdef int encode(self, WriteBuffer out) except -1:
        self.settle()
        return 0

    cdef object result(self):
        return self.statement


cdef Statement introspection(TypeMap types):
    """The statement that asks for types by OID: unnamed, its description known beforehand."""
    cdef Statement statement = Statement(INTROSPECTION_QUERY, types, False)
    statement.described((OID_ARRAY,), [(name, 0, 0, oid, -1, -1, 0) for name, oid in INTROSPECTION_COLUMNS])
    return statement


cdef object lost_error(object reason, bint sent):
    if sent:
        error = ConnectionDoesNotExistError(
            f'connection was closed in the middle of operation: {reason}; the request had been sent, '
            'whether the server has carried it out is unknown')
    else:
        error = ConnectionDoesNotExistError(
            f'connection was closed: {reason}; the request had not been sent, it is safe to retry')
        error.safe_to_retry = True
    if isinstance(reason, BaseException):
        error.__cause__ = reason
    return error
