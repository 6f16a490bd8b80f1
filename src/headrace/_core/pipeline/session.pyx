"""The session: one FIFO of requests, and the bytes on either side of it.

Requests wait in `unsent` until take_output() returns their bytes. Then they are in flight, in `sent`, until their own
ReadyForQuery. The head of `sent` owns every reply message but the asynchronous ones. Nothing else matches replies to
requests: a message that does not fit the head is a ProtocolError, and that ends the session.

The pieces: send_queue has the two queues and what may be written; statements has the cache, and the requests that wait for
a statement; search_path has the search_path that texts are read under; commands has the BEGIN and SAVEPOINT that travel
with a request, and the note of the open block; cancel has all of cancellation; retry runs requests again that have failed for
no fault of their own; connection_lost has the errors at the end.

The rules, with numbers as in docs/design.md, and the module that keeps each of them if it is another one:
1.  There is one Sync for each request. A request leaves `sent` only on its own ReadyForQuery. An error settles its own
    request.
2.  A request owns the wire up to its Sync: if one has more to send, nothing else is taken (send_queue).
3.  Requests are sent in the order of the calls. A request that waits for its statement to be prepared holds back those
    behind it; a shared one is parked outside the queue and holds back nobody (statements).
4.  A request is encoded only if its statement is READY, that is after ReadyForQuery followed its ParseComplete
    (statements).
5.  The requests in flight are bounded by count and by bytes (send_queue).
7.  Notices, notifications and parameter changes go to `events`, whatever is at the head.
8.  After a loss the head gets the server's own error, all others ConnectionDoesNotExistError. Each says whether it is
    safe to retry. A request that may have started is never run again, unless it is a plain read (connection_lost).
9.  The transaction status is the byte of the last ReadyForQuery. A COMMIT that is answered by the tag ROLLBACK fails. Nothing
    is sent in a block that the server does not have (commands).
10. An error 25P02 has the error that failed the transaction as its __cause__.
11. Nothing is sent behind a barrier until it is done (send_queue).

Callers' code runs in here: encoders, decoders, iterables of arguments, waiters, and finalisers that the garbage collector
calls at any allocation. It may submit requests, cancel them and even end the session; it may not feed.

Interface. The transport and the driver use these members and no others, and the tests drive the same:

    submit(request)                   queues a request; an extended query without a statement gets that of its text
    statements                        holds and releases statements, and forgets those in the cache (Statements)
    cancellation                      cancels requests, and takes back those that were not sent (Cancellation)
    commands                          the commands put off, and the transaction that is open (Commands)
    wants_output(), take_output()     the bytes to be written; the first is asked for each request, so it is cheap
    receive(buffer, size)             the bytes that were read into a ReadBuffer; raises what ends the session
    close(reason)                     refuses more requests, and settles those that were not sent
    connection_lost(reason)           settles everything
    failure, check_open()             why no more requests are taken, or None; raises for it before arguments are read
    sent                              the queue in flight, to be looked at (Queue)
    count_pending(), request_count    requests that are not done, and all that were ever queued
    work                              how far the server is; the transport tells it the time (Workload)

A connection and its pool use the pieces among these, and three facts besides: `parameters`, the settings that the server
has reported; `types`, the TypeMap; and `fatal`, the server's last words. `events` (Events), which is given when a session is
made, is told of what belongs to no request.

There is no event loop and no socket here.
"""

cimport cython

from headrace._core.wire.backend cimport error_fields, notification, parameter_status
from headrace._core.wire.buffer cimport load_i32
from headrace._core.wire.frontend cimport TERMINATE
from headrace._core.wire.read_buffer cimport Message, ReadBuffer
from headrace._core.pipeline.connection_lost cimport UNKNOWN, Ending, is_parting, fail_lost, proof_of, text_of
from headrace._core.pipeline.first_run cimport FORMATS_DIFFER
from headrace._core.pipeline.prepare cimport Introspection
from headrace._core.pipeline.cancel cimport Cancellation
from headrace._core.pipeline.commands cimport Block, Commands
from headrace._core.pipeline.requests cimport (
    ABANDONED, DONE, QUEUED, WAITING, ExtendedQuery, UnpreparedQuery, Query, SimpleQuery,
)
from headrace._core.pipeline.startup cimport Startup
from headrace._core.pipeline.statement_cache cimport READY, StatementCache
from headrace._core.pipeline.workload cimport Cost

from libc.math cimport INFINITY

from headrace._core.pipeline.events import Events
from headrace._sql.hints.server import server_error
from headrace.exceptions import (
    InFailedSQLTransactionError, InterfaceError, NoActiveSQLTransactionError, ProtocolError, PostgresLogMessage, ending_error,
)
from headrace._sql.classify import classify


# The first words of statements that end a transaction and mean to keep it. The server answers them by the tag ROLLBACK if
# the transaction has failed. It refuses other statements there, COMMIT PREPARED and PREPARE of a statement among them.
cdef frozenset KEEPING = frozenset(('COMMIT', 'END', 'PREPARE'))

# Details of the 57014 of a call that nobody waits for.
cdef str CALL_TIMED_OUT = 'The call had timed out, so the server was asked to cancel it.'
cdef str CALL_CANCELLED = 'The call had been cancelled, so the server was asked to cancel it.'


cdef object commit_refused(Request request, object cause, bint in_block):
    """The error for a COMMIT or PREPARE TRANSACTION that was answered by ROLLBACK, or None if that was asked for.

    `in_block`: a transaction block was open before the request.
    """
    cdef:
        tuple keywords = classify(request.query).keywords
        str keyword
    if keywords and request.first_tag() == 'ROLLBACK' and keywords[0] in KEEPING:
        keyword = keywords[0]
    elif keywords and request.status == 'ROLLBACK' and keywords[len(keywords) - 1] in KEEPING:
        keyword = keywords[len(keywords) - 1]
    else:
        return None
    if keyword == 'PREPARE' and not in_block and len(keywords) == 1:
        # EndTransactionBlock() in xact.c warns, and the tag is all that PREPARE TRANSACTION then answers.
        error = NoActiveSQLTransactionError('PREPARE TRANSACTION was answered by ROLLBACK: no transaction was open')
    else:
        error = InFailedSQLTransactionError(
            f"{'PREPARE TRANSACTION' if keyword == 'PREPARE' else 'COMMIT'} was answered by ROLLBACK: a statement of the "
            f'transaction had {how_it_failed(cause)}, nothing was kept')
    error.query = request.query
    error.__cause__ = cause
    return error


cdef str how_it_failed(object cause):
    """In words, how the error that failed a transaction came about."""
    cdef str detail = getattr(cause, 'detail', None)
    if detail == CALL_TIMED_OUT:
        return 'been cancelled because its call had timed out'
    if detail == CALL_CANCELLED:
        return 'been cancelled because its call had been cancelled'
    return 'failed'


cdef int explain_cancellation(Request request) except -1:
    """Say in the error of a request whose caller has given up why the server was asked to cancel it."""
    cdef object error = request.error
    if request.state != ABANDONED or getattr(error, 'sqlstate', None) != '57014' or error.detail is not None:
        return 0
    if request.timed_out:
        error.detail = CALL_TIMED_OUT
        error.__cause__ = TimeoutError('the command timed out')
    else:
        error.detail = CALL_CANCELLED
    return 0


@cython.final
cdef class Session:
    """One conversation with a backend: requests in, replies out, in order.

    `max_pipeline` bounds the requests in flight (1: one at a time). `events` (Events) is told of what belongs to no request.
    With `unnamed_statements` what is cached of a statement is its description: it is parsed with each execution.
    """

    def __init__(self, TypeMap types not None, *, events=None, Py_ssize_t max_pipeline=100,
                 Py_ssize_t statement_cache_size=100, double max_cached_statement_lifetime=300,
                 Py_ssize_t max_cacheable_statement_size=15360, bint unnamed_statements=False):
        self.send_queue = SendQueue(max_pipeline)
        self.sent = self.send_queue.sent
        self.work = self.send_queue.work
        self.round_trip = INFINITY
        self.costs = []
        self.unsent = self.send_queue.unsent
        self.statements = Statements(types, self.send_queue, StatementCache(
            statement_cache_size, max_cached_statement_lifetime, max_cacheable_statement_size), unnamed_statements)
        self.search_path = self.statements.search_path
        self.retry = Retry(self.statements, self.send_queue)
        self.cancellation = Cancellation(self.send_queue, self.statements)
        self.commands = Commands(self.send_queue, self.statements)
        self.told = self.cancellation.events = events if events is not None else Events()
        self.parameters = {}

    # -- what callers ask for ------------------------------------------------------------------------------------

    cdef int check_open(self) except -1:
        cdef str reason
        if self.failure is not None:
            reason = text_of(self.failure)
            if reason != 'connection is closed' and not isinstance(self.failure, InterfaceError):
                reason = f'connection is closed: {reason}'
            if self.undone is not None:
                reason = f'{reason}; {self.undone}'
            raise InterfaceError(reason, safe_to_retry=self.ended and not self.closing and self.undone is None)
        if self.commands.block is not None:
            self.commands.check()
        return 0

    cpdef object submit(self, Request request):
        """Queue a request behind all others, preceded by the preparation of its statement if that is new.

        Raises the error of a bad argument, and InterfaceError if the session has ended. Nothing is queued then.
        """
        cdef ExtendedQuery bound
        self.check_open()
        if self.commands.block is not None:
            request.within = self.commands.block.number
        if isinstance(request, ExtendedQuery):
            bound = <ExtendedQuery>request
            if bound.statement is None:
                if self.search_path.line:
                    self.statements.find_later(bound)
                    return
                bound.statement = self.statements.find(bound.query)
            self.statements.bind(bound)
            if self.search_path.is_reported:
                self.statements.note_effect(bound)
            return
        if request.state == WAITING:
            self.send_queue.encode(request)
        self.unsent.append(request)
        if self.search_path.is_reported \
                and (isinstance(request, SimpleQuery) or isinstance(request, UnpreparedQuery) and not request.shared):
            self.search_path.asked_script(request)
        if isinstance(request, SimpleQuery) and (<SimpleQuery>request).deallocates:
            self.statements.renew()
        if isinstance(request, SimpleQuery) and (<SimpleQuery>request).renames \
                or isinstance(request, UnpreparedQuery) and (<UnpreparedQuery>request).renames:
            # Nothing in the values tells of a name: what is prepared from here on asks again.
            self.types.catalogue.forget()
            self.statements.forget_all()

    # -- output --------------------------------------------------------------------------------------------------

    cpdef bint wants_output(self) except -1:
        """Return whether take_output() would give anything."""
        return self.send_queue.is_wanted()

    cpdef bytes take_output(self, bint urgent_only=False):
        """The bytes to be written now, b'' for none; the requests they belong to are in flight from here on.

        With `urgent_only` no request is sent: the bytes are those that the server needs in order to go on.
        """
        return self.send_queue.take(urgent_only)

    # -- input ---------------------------------------------------------------------------------------------------

    cpdef bint receive(self, ReadBuffer buffer, Py_ssize_t size) except -1:
        """Take the messages out of a buffer: `size` bytes were written to what its writable() gave out.

        Returns whether more of a reply is to be expected at once. Raises what ends the session: ProtocolError for bytes
        that no server may send, and the server's last words (FATAL and PANIC), behind which nothing counts. The owner of the
        session calls connection_lost() then.
        """
        cdef Message message
        buffer.check_not_in_use()
        if not 0 <= size <= buffer.capacity - buffer.end:
            raise ValueError(f'{size} bytes do not fit in the buffer')
        buffer.end += size
        message.kind = 0
        buffer.in_use = True
        try:
            while not self.ended and self.fatal is None and buffer.next_message(&message):
                self.dispatch(message.kind, message.body, message.size)
            if self.replies:
                self.learn()
            if self.fatal is not None:
                raise self.fatal
            if self.ended:
                buffer.clear()
                return False
            return buffer.end > 0 or message.kind == b'D' or message.kind == b'd'
        except BaseException:
            buffer.clear()
            raise
        finally:
            buffer.in_use = False

    cdef int dispatch(self, char kind, const char *data, Py_ssize_t size) except -1:
        cdef Request head
        if kind == b'Z':
            return self.on_ready(data, size)
        if kind == b'E':
            return self.on_error(data, size)
        if kind == b'N':
            return self.on_notice(error_fields(data, size))
        if kind == b'A':
            self.told.notification(*notification(data, size))
            return 0
        if kind == b'S':
            name, value = parameter_status(data, size)
            if name == 'client_encoding' and value.upper().replace('-', '') not in ('UTF8', 'UNICODE', 'SQL_ASCII'):
                raise ProtocolError(f'the server changed client_encoding to {value}: headrace reads and writes UTF8 alone')
            self.parameters[name] = value
            if name == 'search_path':
                self.search_path.report(value, isinstance(self.sent.first, Startup))
            self.told.parameter(name, value)
            return 0
        head = self.sent.first
        if head is None:
            raise ProtocolError(f'unexpected message {chr(<unsigned char>kind)!r} from the server: nothing was asked')
        if kind == b'K' and isinstance(head, Startup):
            (<Startup>head).check_key(size)
            self.types.backend_pid = load_i32(data)
            self.cancellation.key = (self.types.backend_pid, data[4:size])
            return 0
        if head.ahead is not None and head.ahead.answered < head.ahead.count:
            return head.ahead.receive(kind, data, size)
        head.receive(kind, data, size)
        if head.urgent is not None:
            self.send_queue.urgent.append(head.urgent)
            head.urgent = None
        return 0

    cdef int on_notice(self, dict fields) except -1:
        cdef Request head = self.sent.first
        if is_parting(fields):
            self.parting = fields
        self.told.notice(PostgresLogMessage.new(fields, head.query if head is not None else None))
        return 0

    cdef int on_error(self, const char *data, Py_ssize_t size) except -1:
        """FATAL and PANIC are the server's last words: receive() raises them, and nothing that follows counts."""
        cdef Request head = self.sent.first
        error = server_error(error_fields(data, size), head.text_in_question() if head is not None else None)
        if error.severity_en in ('FATAL', 'PANIC') or error.severity_en is None and error.severity in ('FATAL', 'PANIC'):
            self.fatal = error if isinstance(head, Startup) else ending_error(error)
            self.take_no_more(error)
        elif head is None:
            raise ProtocolError(f'an error from the server that belongs to no request: {error}')
        if error.sqlstate == '25P02' and self.root_cause is not None:
            error.__cause__ = self.root_cause
        elif error.sqlstate == '25006':
            self.told.read_only(error)
        if isinstance(head, Startup):
            if head.error is None:
                head.error = error
                # Nothing can follow but the end, which a false server may keep back.
                head.settle()
        elif head is not None and self.fatal is None:
            if head.error is None:
                head.error = error
            if head.ahead is not None and head.ahead.answered < head.ahead.count:
                head.ahead.refuse(error)
        return 0

    cdef int on_ready(self, const char *data, Py_ssize_t size) except -1:
        cdef:
            Request head = self.sent.first
            bint cancelled = self.cancellation.target is head
            Block missing = None
        if size != 1 or data[0] not in b'ITE':
            raise ProtocolError('ReadyForQuery from the server with a malformed transaction status')
        if head is None:
            raise ProtocolError('ReadyForQuery from the server, which nothing asked for')
        if self.send_queue.streaming is head:
            raise ProtocolError('ReadyForQuery from the server before the whole request was sent')
        if head.error is None:
            head.finished()
            if head.status == 'ROLLBACK' or head.first_tag() == 'ROLLBACK':
                head.error = commit_refused(head, self.root_cause, self.commands.on_server() or head.ahead is not None)
        self.commands.status_byte = data[0]
        self.send_queue.idle = data[0] == b'I'
        if head.ahead is not None or self.commands.block is not None:
            missing = self.commands.answered(head, data[0] == b'I')
        if self.search_path.is_reported:
            self.search_path.answered(head, data[0] == b'I')
        self.measure(head)
        self.parting = None
        self.send_queue.answered()
        if data[0] != b'E':
            self.root_cause = None
        elif self.root_cause is None:
            self.root_cause = head.error
            explain_cancellation(head)
        if cancelled:
            self.cancellation.head_answered(head)
        if head.prepares is not None and isinstance(head, Query) and (<Query>head).first is not None:
            self.ran_first(<Query>head)
        elif head.error is None or head.ahead is not None and head.ahead.error is not None \
                or not self.retry.queue_again(head, self.send_queue.idle, self.told):
            if isinstance(head, Query) and (<Query>head).late is not None and head.error is None and head.state != ABANDONED:
                self.statements.read_late(<Query>head)
            else:
                if isinstance(head, ExtendedQuery) and head.error is not None:
                    self.learn_of(<ExtendedQuery>head)
                if head.error is None or not self.hand_over(head):
                    head.settle()
            if isinstance(head, Introspection) and (<Introspection>head).decodes is not None:
                self.statements.read_late((<Introspection>head).decodes)
            if head.prepares is not None:
                self.statements.prepared_with(head, self.send_queue.idle, cancelled, self.looked_up)
        if missing is not None:
            self.commands.fail_block(missing)
        if self.search_path.line:
            self.statements.find_waiting()
        self.cancellation.next_head()
        return 0

    cdef int ran_first(self, Query request) except -1:
        """ReadyForQuery came for the first run of a statement."""
        if self.statements.goes_on(request, self.looked_up):
            return 0
        if request.late is not None and request.error is None and request.state != ABANDONED:
            return self.statements.read_late(request)
        if request.error is not None:
            self.learn_of(request)
        return request.settle()

    cdef bint hand_over(self, Request request) except -1:
        """Offer a shared request that the server refused to begin with, because its statement is stale, to the owner."""
        cdef object error = request.error
        if not request.shared or not getattr(error, 'safe_to_retry', False) or not request.is_wanted():
            return False
        request.renew()
        if self.told.requeue(request, False):
            return True
        request.error = error
        return False

    cdef int measure(self, Request head) except -1:
        """Note how long the server has worked on a request; replies that come in one read share their time.

        The server began when the request had arrived there, or was done with the one before. The shortest round trip seen
        is taken off, so the network does not count.
        """
        cdef Workload work = self.work
        cdef double round_trip = work.arrived - head.sent_at
        if 0 < round_trip < self.round_trip:
            self.round_trip = round_trip
        if self.replies == 0:
            self.measured_since = max(head.sent_at + self.round_trip, work.replied_at)
            self.overran = work.overrun
            work.overrun = False
        self.replies += 1
        if head.cost is not None and (head.error is None or self.overran) and not (self.overran and self.replies > 1):
            self.costs.append(head.cost)
        return 0

    cdef int learn(self) except -1:
        """Learn the costs of all that has been answered in one read."""
        cdef:
            Cost cost
            double seconds = max(self.work.arrived - self.measured_since, 0)
        if not self.overran:
            # Those behind a head that has overrun have taken next to nothing of the time.
            seconds /= self.replies
        for cost in self.costs:
            cost.learn(seconds)
        self.costs.clear()
        self.replies = 0
        self.work.replied_at = self.work.arrived
        return 0

    cdef int learn_of(self, ExtendedQuery request) except -1:
        """If a request has failed because a type is not known as it is, see to it that the next one does not."""
        cdef Statement statement = request.statement
        if self.failure is None and statement.state == READY and statement.results.cures(request.error):
            self.statements.doubt(statement)
        return 0

    def looked_up(self, Statement statement not None) -> None:
        """Another connection has learnt of types, or failed to, that a statement here has waited for."""
        self.statements.looked_up(statement, self.looked_up)
        self.statements.find_waiting()
        self.told.queued()

    # -- the end -------------------------------------------------------------------------------------------------

    cdef int take_no_more(self, object reason) except -1:
        """Refuse requests from now on."""
        if self.failure is None:
            self.failure = self.statements.failure = reason
        return 0

    def close(self, reason) -> bytes:
        """Take no more requests; returns Terminate, to be written once everything sent is done."""
        cdef:
            Request request
            Ending ending
        self.take_no_more(reason)
        self.closing = True
        ending = Ending(self.failure, self.sent, self.unsent, self.commands.on_server())
        if self.send_queue.streaming is not None:
            self.send_queue.end_stream(ending.error_for(self.send_queue.streaming, UNKNOWN))
        for request in self.sent:
            if request.prepares is not None:
                self.statements.fail_waiting(request.prepares, ending)
        self.statements.fail_elsewhere(ending)
        self.fail_unsent(ending)
        return TERMINATE

    def connection_lost(self, reason) -> None:
        """The connection is gone: settle everything.

        `reason` is an exception or a text. The head gets the server's last words, if there were any, and if it is the
        session's own request, the first that waits for it; all others get ConnectionDoesNotExistError. `safe_to_retry` of
        each error says whether the server never started the request, or it only reads. Shared requests that may run again
        are first offered to `events`.
        """
        cdef:
            Request request = self.sent.first
            Statement statement
            Ending ending
            bint runs_first
        if self.ended:
            return
        self.ended = True
        proof = proof_of(self.fatal, self.parting)
        if self.fatal is None and self.parting is not None:
            self.fatal = ending_error(server_error(self.parting, request.query if request is not None else None))
        cause = self.fatal if self.fatal is not None else reason
        self.take_no_more(cause)
        ending = Ending(
            cause, self.sent, self.unsent, self.commands.on_server(), proof,
            self.fatal if self.fatal is not None else reason if isinstance(reason, ProtocolError) else None,
            None if self.closing else self.told)
        self.undone = ending.of_blocks()
        self.send_queue.streaming = None
        self.send_queue.urgent.clear()
        self.search_path.line.clear()
        self.cancellation.connection_lost()
        while self.sent.first is not None:
            request = self.send_queue.answered()
            statement = request.prepares
            runs_first = isinstance(request, Query) and (<Query>request).first is not None
            if statement is not None and not runs_first:
                # Preparing changes nothing: those that wait for it were never sent.
                self.statements.fail_waiting(statement, ending)
            if request.error is not None and (request.error is FORMATS_DIFFER
                                              or self.retry.can_retry(request, self.send_queue.idle)):
                request.error = None
            if request.ahead is not None:
                request.ahead.settle(cause)
            fail_lost(request, ending)
            ending.at_head = False
            if runs_first:
                self.statements.fail_waiting(statement, ending)
        ending.at_head = False
        self.statements.fail_elsewhere(ending)
        self.fail_unsent(ending)
        self.statements.cache.clear()

    cdef int fail_unsent(self, Ending ending) except -1:
        """Settle everything that was not sent with an error that says so."""
        cdef Request request
        self.commands.connection_lost()
        while self.unsent.first is not None:
            request = self.unsent.pop()
            if request.state != DONE:
                if request.prepares is not None:
                    self.statements.fail_waiting(request.prepares, ending)
                fail_lost(request, ending)
        return 0

    # -- what can be asked ---------------------------------------------------------------------------------------

    @property
    def request_count(self) -> int:
        """Requests ever queued; one that is run again counts once."""
        return self.unsent.total

    cpdef Py_ssize_t count_pending(self) noexcept:
        """Return how many requests are in flight or waiting."""
        return self.sent.count + self.unsent.count + self.statements.parked - self.send_queue.put_off

    @property
    def types(self):
        """The TypeMap that statements find their codecs in."""
        return self.statements.types
