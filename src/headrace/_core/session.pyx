"""The session: one FIFO of requests, and the bytes on either side of it.

Theory of operation. Requests wait in `unsent` until take_output() hands their bytes to whoever owns the socket; then
they stand in `sent` until their own ReadyForQuery. The head of `sent` owns every reply message but the asynchronous
ones. Nothing else matches replies to requests, so it cannot go wrong by halves: a message that does not fit its head
is a ProtocolError, and that ends the session.

The rules (numbers as in the design document):
1.  One Sync per request; a request leaves `sent` only on its own ReadyForQuery; an error settles its own request.
2.  A request owns the wire up to its Sync: while one is streaming, nothing else is taken.
3.  Requests are sent in the order of the calls. One that waits for its statement to be prepared stops take_output(),
    and so holds back those behind it; a shared one is parked outside the queue and holds back nobody.
4.  A request is encoded only when its statement is READY, that is after ReadyForQuery followed its ParseComplete.
5.  At most `max_pipeline` requests and MAX_BYTES_IN_FLIGHT bytes are in flight.
7.  Notices, notifications and parameter changes go to `events`, whatever is at the head.
8.  After a loss the head gets the server's own error, all others ConnectionDoesNotExistError.
9.  The transaction status is the byte of the last ReadyForQuery.
10. An error 25P02 has the error that failed the transaction as its __cause__.
11. Nothing is sent behind a barrier until it is done.

Nothing waits for ever: whatever in `unsent` waits for its statement has the request that prepares it ahead of it, in
`unsent` or in `sent`. Every change to the queue keeps that true.

Two kinds of failures are not their request's own, and it is run again, once and unseen: a statement that the server
refuses as stale, outside of transactions, and a CancelRequest that hit a neighbour of its target (see the cancel
window). Requests run again go ahead of all that was never sent.

Callers' code runs in here: encoders, decoders, iterables of arguments, waiters, finalisers that the garbage collector
calls at any allocation. It may submit, cancel and even lose; it may not feed.

No event loop and no socket here: submit(), take_output(), feed() and lost() are all that drives it.
"""

from headrace._core.backend cimport error_fields, notification, parameter_status
from headrace._core.buffer cimport load_i32
from headrace._core.frontend cimport TERMINATE
from headrace._core.incoming cimport Message
from headrace._core.preparation cimport Preparation, introspection
from headrace._core.request cimport DONE, QUEUED, SENT, Closing, Prepare, Startup
from headrace._core.statement cimport NEW, PREPARING, READY

from headrace._core.events import Events
from headrace.errors import (
    ConnectionDoesNotExistError, InterfaceError, ProtocolError, new_error, new_notice,
)

cdef Py_ssize_t MAX_BYTES_IN_FLIGHT = 1 << 20
cdef Py_ssize_t STREAM_BYTES = 1 << 17


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
        self.window = CancelWindow()
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
            self.bind(<Bound>request)
            return
        if not request.ready:
            self.encode(request)
        self.unsent.append(request)

    cdef int encode(self, Request request) except -1:
        """Have the request put its message together.

        That runs code of the caller, and any allocation may run finalisers: should these have another request encoded,
        it gets a buffer of its own.
        """
        cdef WriteBuffer out = self.out if self.out is not None else WriteBuffer()
        self.out = None
        try:
            request.encode(out)
        finally:
            out.length = 0
            self.out = out
        return 0

    cdef bytes next_chunk(self, Request request):
        """The next bytes of a streaming request; like encode() this runs code of the caller."""
        cdef WriteBuffer out = self.out if self.out is not None else WriteBuffer()
        self.out = None
        try:
            return request.more(out)
        finally:
            out.length = 0
            self.out = out

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

    cdef int bind(self, Bound request) except -1:
        cdef Statement statement = request.statement
        if statement.state == READY or request.is_bound():
            self.encode(request)
            self.unsent.append(request)
            return 0
        if statement.state == NEW:
            self.begin_prepare(statement, None)
        elif statement.prepare is not None:
            (<Prepare>statement.prepare).abandoned = False
        statement.waiting.append(request)
        if request.shared:
            self.parked += 1
        else:
            self.unsent.append(request)
        return 0

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
            self.close_name(statement)
        return 0

    cdef int close_name(self, Statement statement) except -1:
        """Have the server forget the statement, behind all that was asked so far; it is NEW again, by another name."""
        cdef:
            bytes name = statement.rename()
            Closing request
        if name and self.failure is None:
            request = Closing(None, 'S', [name])
            self.encode(request)
            self.unsent.append(request)
        return 0

    # -- preparing -----------------------------------------------------------------------------------------------

    cdef int begin_prepare(self, Statement statement, Request before) except -1:
        """Queue the preparation of a NEW statement ahead of `before`, or at the end."""
        cdef Prepare request = Prepare(statement)
        self.encode(request)
        statement.state = PREPARING
        statement.prepare = request
        if before is None:
            self.unsent.append(request)
        else:
            self.unsent.insert_before(request, before)
        self.prepared += 1
        return 0

    cdef int prepared_with(self, Request request) except -1:
        """ReadyForQuery came for a Prepare or an Introspection."""
        cdef:
            Statement statement = request.prepares
            Prepare prepare
            list oids, missing
        if request.error is not None:
            statement.prepare = None
            # What the server has parsed it keeps, even where describing it failed.
            if statement.name and (not isinstance(request, Prepare) or request.stage > 0):
                self.close_name(statement)
            else:
                statement.rename()
            # Cancelled because nobody waited any more: whoever has come since gets a preparation of his own.
            return self.statement_failed(statement, request.error, request.cancelled)
        if isinstance(request, Prepare):
            prepare = <Prepare>request
            statement.prepare = None
            statement.parameter_oids = prepare.parameter_oids
            statement.returns_rows = prepare.columns is not None
            statement.columns = prepare.columns
            oids = list(prepare.parameter_oids)
            if prepare.columns is not None:
                oids.extend([column[3] for column in prepare.columns])
            missing = self.types.missing(oids)
            if missing:
                request = introspection(statement, missing)
                self.encode(request)
                self.unsent.push_front(request)
                return 0
        return self.statement_ready(statement)

    cdef int statement_ready(self, Statement statement) except -1:
        cdef Bound request
        statement.described(statement.parameter_oids, statement.columns if statement.returns_rows else None)
        for request in self.no_longer_waiting(statement):
            if request.state == DONE:
                continue
            if self.failure is not None:
                # Closed or lost by what the encoding of another one has called.
                request.fail(lost_error(self.failure, False))
                continue
            try:
                self.encode(request)
            except BaseException as error:
                request.fail(error)
            else:
                if request.shared and request.state != DONE:
                    self.unsent.append(request)
        return self.let_go(statement)

    cdef int statement_failed(self, Statement statement, object error, bint unseen) except -1:
        """The first that waits gets the error, unless it is `unseen`; for the next the text is prepared again."""
        cdef:
            Bound request
            bint given = unseen
            bint more = False
        waiting = self.no_longer_waiting(statement)
        for request in waiting:
            if request.state == DONE:
                continue
            if given:
                self.park(request)
                more = True
            else:
                given = True
                request.fail(error)
        if more:
            return self.begin_prepare(statement, self.first_waiting(statement))
        if self.cache.get(statement.query) is statement:
            self.cache.drop(statement)
        return 0

    cdef int park(self, Bound request) except -1:
        """Have a request wait for its statement; where it is not shared it stands in the queue."""
        (<list>request.statement.waiting).append(request)
        if request.shared:
            self.parked += 1
        return 0

    cdef list no_longer_waiting(self, Statement statement):
        """Those that waited for the statement."""
        cdef:
            list waiting = statement.waiting
            Bound request
        statement.waiting = []
        for request in waiting:
            if request.shared:
                self.parked -= 1
        return waiting

    cdef Request first_waiting(self, Statement statement):
        """Which of those that wait for the statement stands first in the queue; None where all are parked."""
        cdef Request request = self.unsent.first
        while request is not None:
            if not request.ready and request.state != DONE and isinstance(request, Bound) \
                    and (<Bound>request).statement is statement:
                return request
            request = request.next
        return None

    # -- output --------------------------------------------------------------------------------------------------

    cdef bint has_room(self) except -1:
        """Whether the first unsent request may be in flight together with those that are."""
        return self.sent.count == 0 or (
            self.sent.count < self.max_pipeline and self.bytes_in_flight < MAX_BYTES_IN_FLIGHT
            and not self.sent.last.barrier)

    cpdef bint wants_output(self) except -1:
        """Whether take_output() would give anything."""
        if self.urgent:
            return True
        if self.window.is_open:
            return False
        if self.streaming is not None:
            return True
        self.unsent.skip_done()
        return self.unsent.first is not None and self.unsent.first.ready and self.has_room()

    cpdef bytes take_output(self):
        """The bytes to be written now, b'' for none; the requests they belong to are in flight from here on."""
        cdef list urgent
        if self.taking:
            # Called from within an iterable of arguments: what comes now belongs behind the bytes being collected.
            return b''
        if self.urgent:
            urgent = self.urgent
            self.urgent = []
            return b''.join(urgent)
        if self.window.is_open:
            return b''
        self.taking = True
        try:
            return self.collect()
        finally:
            self.taking = False

    cdef bytes collect(self):
        cdef:
            list parts = []
            Request request
            bytes chunk
            Py_ssize_t taken = 0
        while True:
            if self.streaming is not None:
                request = self.streaming
                chunk = self.next_chunk(request)
                if self.streaming is not request:
                    # Given up from within: what ends it is urgent by now, and stands in the chunk's place.
                    continue
                taken += len(chunk)
                parts.append(chunk)
                if not request.streaming:
                    self.streaming = None
                elif taken >= STREAM_BYTES or self.window.is_open:
                    break
                continue
            self.unsent.skip_done()
            request = self.unsent.first
            if request is None or not request.ready or not self.has_room() or self.window.is_open:
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
        if self.urgent:
            # It came while an iterable of arguments ran, and belongs behind what was taken before.
            parts.extend(self.urgent)
            self.urgent.clear()
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
        self.check_not_feeding()
        while place < source.shape[0] and not self.ended:
            size = self.incoming.fill(&source[place], source.shape[0] - place)
            place += size
            self.received(size)

    cdef int received(self, Py_ssize_t size) except -1:
        """`size` bytes were written to the buffer that incoming.writable() gave out."""
        self.check_not_feeding()
        self.incoming.end += size
        self.feeding = True
        try:
            return self.parse()
        except BaseException:
            self.incoming.clear()
            raise
        finally:
            self.feeding = False

    cdef int check_not_feeding(self) except -1:
        if self.feeding:
            # The bytes that the decoder reads would move.
            raise RuntimeError('a session cannot be fed from within a decoder')
        return 0

    cdef int parse(self) except -1:
        cdef Message message
        while not self.ended and self.incoming.next_message(&message):
            self.dispatch(message.kind, message.body, message.size)
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
            (<Startup>head).check_key(size)
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
            if isinstance(head, Startup):
                # Nothing can follow but the end, which a false server may keep back.
                head.settle()
        return 0

    cdef int on_ready(self, const char *data, Py_ssize_t size) except -1:
        cdef Request head = self.sent.first
        if size != 1 or data[0] not in b'ITE':
            raise ProtocolError('ReadyForQuery from the server with a malformed transaction status')
        if head is None:
            raise ProtocolError('ReadyForQuery from the server, which nothing asked for')
        if self.streaming is head:
            raise ProtocolError('ReadyForQuery from the server before the whole request was sent')
        if head.error is None:
            head.finished()
        self.status_byte = data[0]
        self.sent.pop()
        self.bytes_in_flight -= head.size
        if data[0] != b'E':
            self.root_cause = None
        elif self.root_cause is None:
            self.root_cause = head.error
        if self.window.is_open and self.window.answered(head):
            self.end_cancel_window()
        if head.error is None or not self.revive(head):
            head.settle()
            if head.prepares is not None:
                self.prepared_with(head)
        head = self.sent.first
        if head is not None and head.abandoned and not self.window.is_open:
            self.events.abandoned_head()
        return 0

    # -- running again -------------------------------------------------------------------------------------------

    cdef bint revive(self, Request request) except -1:
        """Queue a failed request again where its failure was not its own; returns whether it is."""
        cdef:
            Bound bound
            Statement statement
        if isinstance(request, Bound):
            bound = <Bound>request
            statement = bound.statement
            if statement.state == READY and statement.name and bound.plan.name == statement.name \
                    and statement.refused(bound.error):
                # The first to find out. Whoever uses it next has it prepared again.
                if bound.error.sqlstate == '26000':
                    statement.rename()
                else:
                    self.close_name(statement)
        if not self.innocent(request):
            return False
        if request.exposed and request.error.sqlstate == '57014':
            # Run again it is out of that signal's reach.
            request.exposed = False
        else:
            request.repeated = True
        return self.run_again(request)

    cdef bint innocent(self, Request request) except -1:
        """Whether a request has failed for a reason that is not its own, and can be run again."""
        if request.abandoned or self.status_byte != b'I':
            return False
        if getattr(request.error, 'sqlstate', None) == '57014':
            return request.exposed and request.repeatable()
        return isinstance(request, Bound) and not request.repeated and request.rebindable() \
            and (<Bound>request).statement.refused(request.error)

    cdef bint run_again(self, Request request) except -1:
        """Queue a request again, ahead of all that was never sent; returns False where its arguments are bad by now."""
        cdef:
            Statement statement
            Prepare prepare
        request.error = None
        request.state = QUEUED
        request.ready = False
        if isinstance(request, Prepare):
            # The server may have kept what it parsed.
            statement = request.prepares
            if request.stage > 0:
                self.close_name(statement)
            else:
                statement.rename()
            statement.state = PREPARING
        elif isinstance(request, Bound):
            statement = (<Bound>request).statement
            if statement.state != READY:
                self.park(<Bound>request)
                if not (<Bound>request).shared:
                    self.unsent.put_back(request)
                prepare = <Prepare>statement.prepare
                if statement.state == NEW:
                    self.begin_prepare(statement, self.unsent.first)
                elif prepare is not None and prepare.state == QUEUED:
                    # Its place may be behind the request by now.
                    self.unsent.remove(prepare)
                    self.unsent.push_front(prepare)
                return True
        request.stage = 0
        try:
            self.encode(request)
        except Exception as raised:
            request.error = raised
            return False
        if request.prepares is not None:
            self.unsent.push_front(request)
        else:
            self.unsent.put_back(request)
        return True

    # -- cancellation --------------------------------------------------------------------------------------------

    cpdef Cancellation cancel(self, Request request) except *:
        """Give up a request whose waiter is gone, without disturbing any other.

        DROPPED: it had not been sent. DRAINED: it was sent, its reply will be passed over. SIGNAL: nobody waits for what
        the server works on; nothing is written until the owner has sent a CancelRequest and called cancel_delivered().
        """
        cdef Request head = self.sent.first
        if request.state == DONE:
            return DRAINED
        if request.state == QUEUED:
            if request.kept:
                return DRAINED
            self.drop(request)
            return DROPPED
        request.abandoned = True
        if self.streaming is request:
            self.end_stream(InterfaceError('the caller has given up'))
        elif self.withdraw(request):
            # What else is needed is seen when it has stayed at the head for a while.
            self.events.abandoned_head()
            return DRAINED
        # Where the head was given up before, this may have been the last request that stood in the way of a signal.
        if (request is head or head.abandoned) and self.backend_secret is not None \
                and self.window.aim(head, self.status_byte == b'I'):
            return SIGNAL
        return DRAINED

    def cancel_head(self) -> Cancellation:
        """Give up waiting for an abandoned head to end by itself."""
        cdef Request head = self.sent.first
        if head is None or not head.abandoned:
            return DRAINED
        return self.cancel(head)

    def interrupt(self) -> Cancellation:
        """Cancel what the server works on, whoever waits for it: its waiter gets the server's QueryCanceledError."""
        cdef Request head = self.sent.first
        if head is None or head.kept or head.cancelled or self.window.is_open or self.backend_secret is None:
            return DRAINED
        if self.streaming is head:
            self.end_stream(InterfaceError('the connection is being closed'))
        else:
            self.withdraw(head)
        self.window.open(head)
        return SIGNAL

    def cancel_delivered(self) -> None:
        """The CancelRequest has done whatever it will do: the server has closed the connection that carried it."""
        if self.window.is_open and self.window.was_delivered():
            self.end_cancel_window()

    def cancel_again(self, Request target not None) -> bool:
        """Whether another CancelRequest is to be sent because the target goes on; the window stays open for it."""
        return self.window.reopen(target)

    cdef int end_cancel_window(self) except -1:
        self.events.writable()
        if self.sent.first is not None and self.sent.first.abandoned:
            self.events.abandoned_head()
        return 0

    cdef int end_stream(self, object error) except -1:
        """End the streaming request where it stands, or the Sync that lets the server answer would never be sent."""
        cdef Request request = self.streaming
        if request.error is None:
            request.error = error
        self.streaming = None
        self.urgent.append(self.next_chunk(request))
        return 0

    cdef bint withdraw(self, Request request) except -1:
        """Send what the server needs to end a request that nobody wants; returns whether there is such a thing."""
        cdef bytes withdrawal = request.withdrawal(WriteBuffer())
        if withdrawal is None:
            return False
        self.urgent.append(withdrawal)
        return True

    cdef int drop(self, Request request) except -1:
        """Forget a request that was not sent, and the preparation that it alone was waiting for."""
        cdef:
            Statement statement
            Prepare prepare
            Bound other
        request.state = DONE
        request.message = None
        request.forget_deadline()
        if not isinstance(request, Bound):
            return 0
        statement = (<Bound>request).statement
        prepare = <Prepare>statement.prepare
        if prepare is None:
            return 0
        for other in statement.waiting:
            if other.state != DONE:
                return 0
        if prepare.state == QUEUED:
            self.drop(prepare)
            self.no_longer_waiting(statement)
            statement.prepare = None
            statement.state = NEW
        else:
            # It may be waiting for a lock: the owner finds it at the head and cancels it.
            prepare.abandoned = True
            if self.sent.first is prepare:
                self.events.abandoned_head()
        return 0

    # -- the end -------------------------------------------------------------------------------------------------

    def send_now(self, bytes data not None) -> None:
        """Bytes to be written ahead of everything queued: the answers of authentication."""
        self.urgent.append(data)

    def close(self, reason) -> bytes:
        """Take no more requests; returns Terminate, to be written once everything sent is done."""
        cdef Request request
        if self.failure is None:
            self.failure = reason
        if self.streaming is not None:
            self.end_stream(lost_error(self.failure, True))
        for request in self.sent:
            if request.prepares is not None:
                self.fail_waiting(request.prepares, self.failure)
        self.fail_unsent(self.failure)
        return TERMINATE

    def lost(self, reason) -> None:
        """The connection is gone: settle everything.

        `reason` is an exception or a text. The head gets the server's last words where there were any; the others
        ConnectionDoesNotExistError, whose safe_to_retry says whether the request had never been sent.
        """
        cdef:
            Request request
            object blamed
        if self.ended:
            return
        self.ended = True
        if self.failure is None:
            self.failure = reason
        cause = self.fatal if self.fatal is not None else reason
        # What the head gets for itself, and where that is the session's own request, whoever waits for it first.
        blamed = self.fatal if self.fatal is not None else reason if isinstance(reason, ProtocolError) else None
        self.streaming = None
        self.urgent.clear()
        self.incoming.clear()
        self.window.close()
        while self.sent.first is not None:
            request = self.sent.pop()
            if request.prepares is not None:
                # Preparing changes nothing: those that wait for it were never sent.
                if blamed is not None:
                    self.blame(request.prepares, blamed)
                self.fail_waiting(request.prepares, cause)
            if request.error is not None and self.innocent(request):
                request.error = None
            if blamed is not None and (request.error is None or blamed is not self.fatal):
                request.error = blamed
            tell(request, lost_error(cause, True))
            blamed = None
        self.fail_unsent(cause)
        self.cache.clear()

    def blame(self, Statement statement not None, error):
        """Give the error to the first request that waits for the statement."""
        cdef Request request
        for request in statement.waiting:
            if request.state != DONE:
                tell(request, error)
                break

    cdef int fail_unsent(self, object reason) except -1:
        """Settle everything that was not sent with an error that says so."""
        cdef Request request
        while self.unsent.first is not None:
            request = self.unsent.pop()
            if request.state != DONE:
                if request.prepares is not None:
                    self.fail_waiting(request.prepares, reason)
                tell(request, lost_error(reason, False))
        return 0

    cdef int fail_waiting(self, Statement statement, object reason) except -1:
        """Settle all that waits for a statement, which will not be prepared any more."""
        cdef Request request
        statement.prepare = None
        for request in self.no_longer_waiting(statement):
            if request.state != DONE:
                tell(request, lost_error(reason, False))
        return 0

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
    def holding(self) -> bool:
        """Whether a CancelRequest is under way, and nothing is written."""
        return self.window.is_open

    @property
    def cancelling(self):
        """What a CancelRequest is aimed at, until its ReadyForQuery."""
        return self.window.target

    @property
    def load(self) -> int:
        """Requests in flight and waiting."""
        return self.under_way()

    cdef Py_ssize_t under_way(self) noexcept:
        return self.sent.count + self.unsent.count + self.parked

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight or waiting."""
        return self.under_way() == 0


cdef int tell(Request request, object error) except -1:
    """Settle a request with the error, unless it has one of its own."""
    try:
        request.fail(error)
    except Exception:
        # The waiter's event loop is closed, or the waiter broken: the others must learn of theirs all the same.
        pass
    return 0


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
