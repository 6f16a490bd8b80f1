"""Requests: one class for each thing that is asked of the server, from its first byte sent to its ReadyForQuery.

A request owns the wire up to its Sync (or, for Startup and SimpleQuery, up to the ReadyForQuery that the protocol sends of
itself). The session calls, in this order: `encode` in the caller, so that a bad argument raises there; `more` while the
request `has_more`; `receive` for each message of the reply but ErrorResponse, ReadyForQuery and the asynchronous
ones; `finished` to check that the reply was whole; `settle`.

A request knows neither the session nor any event loop; who waits for it, see Future.

Source: PostgreSQL documentation, "Message Flow" (protocol-flow).
"""

import re

cimport cython

from headrace._core.wire.backend cimport command_tag, parameter_description, row_description
from headrace._core.wire.frontend cimport (
    put_bind_nothing, put_close, put_copy_fail, put_describe, put_execute, put_parse, put_query, put_sync, query_bytes,
)
from headrace._core.arrow.result cimport ArrowShape, RowBuilder
from headrace._core.pipeline.arrow_plan cimport ArrowPlan, arrow_plan
from headrace._core.pipeline.first_run cimport FORMATS_DIFFER, all_binary
from headrace._core.pipeline.plan cimport make_plan, plan_again
from headrace._core.pipeline.statement_cache cimport MAX_PARAMETERS, READY, too_many_parameters
from headrace._core.pipeline.workload cimport boot_seconds
from headrace._core.rows.nested_rows cimport NestedPlan, NestedRows
from headrace._core.codecs.typemap cimport TypeMap
from headrace._core.rows.row_plan cimport AS_THEY_COME, FIRST_ALONE, HELD, IN_ORDER

from headrace.exceptions import (
    ArgumentError, ConnectionDoesNotExistError, FeatureNotSupportedError, InterfaceError, OutdatedSchemaCacheError,
    ProtocolError, UndefinedParameterError,
)
from headrace._sql.classify import classify
from headrace._sql.hints import statements

COPY_REFUSED = 'COPY FROM STDIN and COPY TO STDOUT cannot be run by execute() or fetch()'
COPY_HINT = 'Use copy_to_table(), copy_records_to_table(), copy_from_table() or copy_from_query().'

DEALLOCATES = re.compile(r'\b(?:deallocate\s+(?:prepare\s+)?|discard\s+)all\b').search


# The stage of a first run between ParseComplete and the description of the statement.
cdef enum:
    NOT_DESCRIBED = -1

# The kinds of requests. A property that depends on the request as well is a method below.
cdef enum:
    QUERY = RUNS_TEXT | STAGED | READS | REPEATABLE | REBINDABLE
    # Rows of a portal cannot be asked for twice.
    PORTAL_QUERY = RUNS_TEXT | STAGED
    UNPREPARED_QUERY = RUNS_TEXT | STAGED | READS
    SIMPLE_QUERY = RUNS_TEXT | READS | SIMPLE


# The chain of a queue is cut by the queue alone: see there.
@cython.no_gc_clear
cdef class Request(Future):
    """The base of all requests."""

    cdef int encode(self, WriteBuffer out) except -1:
        """Put the message together; raises on bad arguments, before anything is sent."""
        return 0

    cdef bytes more(self, WriteBuffer out):
        """The next bytes of a request that `has_more`; it clears that with the last."""
        raise NotImplementedError

    cdef bint stalls(self) except -1:
        """Return whether a request that `has_more` has nothing to send yet."""
        return False

    cdef int receive(self, char kind, const char *data, Py_ssize_t size) except -1:
        return self.unexpected(kind)

    cdef int unexpected(self, char kind) except -1:
        raise ProtocolError(f'unexpected message {chr(<unsigned char>kind)!r} from the server '
                            f'in reply to {type(self).__name__}')

    cdef str text_in_question(self):
        """Return the text that an error of the server is about."""
        cdef Ahead ahead = self.ahead
        if ahead is None or ahead.answered == ahead.count:
            return self.query
        return (<Command>ahead.commands[ahead.answered]).query

    cdef int finished(self) except -1:
        """ReadyForQuery came without an error: was the reply whole?"""
        return 0

    cdef str first_tag(self):
        """The command tag of its first statement, None if that returns rows."""
        return self.status

    cdef object outcome(self):
        """Return the result; asked for once, when it has ended without an error."""
        return None

    cdef int settle(self) except -1:
        """Give the outcome to the waiter."""
        cdef object error = self.error
        self.state = DONE
        self.forget_deadline()
        if self.work is not None:
            self.release()
        if not self.is_wanted():
            return 0
        if error is not None:
            if self.waiter is None or self.turn is not None:
                # The task that awaits gets it. Kept here, it would hold this request through its traceback's frames: a cycle
                # for each query that fails.
                self.error = None
            return self.deliver(None, presentable(error))
        try:
            value = self.outcome()
        except Exception as failure:
            return self.deliver(None, presentable(failure))
        return self.deliver(value, None)

    cdef int forget_deadline(self) except -1:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None
        return 0

    cdef int fail(self, object error) except -1:
        """Settle with the error, unless the request has one of its own."""
        if self.error is None:
            self.error = error
        return self.settle()

    cdef int ended(self, object failure) except -1:
        if self.observer is not None:
            self.observer.shared(self, self.timeout, failure)
        return 0

    cdef bint runs_text(self) except -1:
        """Return whether its text is run as it stands, so that it may begin or end a transaction."""
        return self.traits & RUNS_TEXT

    cdef bint not_bound(self) except -1:
        """Return whether the reply shows that the server has not come to execute it; never known of a simple query."""
        return self.traits & STAGED and self.stage < 2

    cdef bint is_unfinished(self) except -1:
        """Return whether the server has begun to execute it, and has not said that this is complete."""
        return self.traits & STAGED and self.stage == 2

    cdef bint only_reads(self) except -1:
        """Return whether running it a second time does no work twice."""
        return self.traits & READS and classify(self.query).plain_read

    cdef bint repeatable(self) except -1:
        """Return whether it can be run again after a 57014 that was not meant for it: it changes nothing, executed or not."""
        if self.ahead is not None:
            return False
        return self.traits & OWN or self.traits & REPEATABLE and classify(self.query).plain_read

    cdef bint rebindable(self) except -1:
        """Return whether it can be run again after the server has refused its statement, which it then had not begun."""
        return self.traits & REBINDABLE

    cdef bint session_safe(self) except -1:
        """Return whether what ran ahead of it may run behind it as well: it begins no transaction and changes no session."""
        if self.ahead is not None:
            return False
        return self.traits & OWN or not classify(self.query).session_state

    cdef bint can_encode_again(self) except -1:
        """Return whether its arguments are still there."""
        return True

    cdef int renew(self) except -1:
        """Make it as if it had never been sent, to be queued again: what has come of a reply is dropped."""
        self.state = WAITING
        self.message = None
        self.size = 0
        self.has_more = self.may_be_cancelled = self.counted = False
        self.repeated = 0
        self.moves_search_path = self.awaits_search_path = self.unprepared = False
        self.stage = 0
        self.error = None
        self.status = None
        self.urgent = None
        return 0

    cdef bytes withdrawal(self, WriteBuffer out):
        """Return the bytes that make the server end an abandoned request, or None."""
        return None

    cdef bint is_full(self) noexcept:
        """Return whether its reader has enough to do, so that the socket is left unread: of barriers alone."""
        return False

    def elapsed(self) -> float:
        """Seconds since a pool's caller has asked."""
        return boot_seconds() - self.asked_at

    @property
    def abandoned(self) -> bool:
        """Return whether it is in flight and nobody waits for it."""
        return self.state == ABANDONED

    @property
    def arguments(self):
        """The arguments, for query loggers."""
        return ()

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.query!r}>'


cdef object presentable(object error):
    """The error as a waiter may raise it: out of a coroutine StopIteration would look like a result (PEP 479)."""
    if not isinstance(error, StopIteration):
        return error
    raised = RuntimeError(f'a codec or an iterable of arguments raised {error!r}')
    raised.__cause__ = error
    return raised


cdef class Command(Request):
    """BEGIN, SAVEPOINT or RELEASE, put off until a request is sent behind it, which takes it along.

    Nobody waits for it. An observer is told of it if it was sent.
    """

    def __cinit__(self, str query not None, object begins=None):
        self.traits = RUNS_TEXT | PUT_OFF
        # It is neither pending nor among those that were ever queued.
        self.counted = True
        self.query = query
        self.begins = begins

    cdef int encode(self, WriteBuffer out) except -1:
        put_parse(out, b'', query_bytes(self.query), ())
        put_bind_nothing(out)
        put_execute(out, b'', 0)
        return 0

    cdef int receive(self, char kind, const char *data, Py_ssize_t size) except -1:
        if kind == b'1' and self.stage == 0:
            self.stage = 1
        elif kind == b'2' and self.stage == 1:
            self.stage = 2
        elif kind == b'C' and self.stage == 2:
            self.status = command_tag(data, size)
            self.stage = 3
        else:
            return self.unexpected(kind)
        return 0

    cdef int report(self, object error) except -1:
        """Tell the observer of its end."""
        self.state = DONE
        if self.observer is not None:
            self.observer.shared(self, None, error)
        return 0


cdef class Ahead:
    """The commands that a request has taken along: their bytes and replies go before its own, and its Sync is theirs."""

    def __cinit__(self):
        self.commands = []

    cdef int add(self, Command command) except -1:
        command.state = SENT
        if command.observer is not None:
            command.asked_at = boot_seconds()
            command.observer.sent()
        if command.begins is not None:
            self.block = command.begins
            self.alone = command.alone
        self.commands.append(command)
        self.count += 1
        return 0

    cdef bytes message(self):
        """Return the bytes of all commands."""
        cdef:
            WriteBuffer out = WriteBuffer()
            Command command
        for command in self.commands:
            command.encode(out)
        return out.take()

    cdef int receive(self, char kind, const char *data, Py_ssize_t size) except -1:
        cdef Command command = <Command>self.commands[self.answered]
        command.receive(kind, data, size)
        if command.stage == 3:
            self.answered += 1
            if command.begins is not None:
                command.begins.has_begun()
            command.report(None)
        return 0

    cdef int refuse(self, object error) except -1:
        """The server has refused the next command, and skips those behind it."""
        cdef Command command
        if self.error is not None:
            return 0
        self.error = error
        (<Command>self.commands[self.answered]).report(error)
        for command in self.commands[self.answered:]:
            command.is_refused = True
            command.state = DONE
            if command.observer is not None:
                command.observer.skipped(error)
        return 0

    cdef int settle(self, object error) except -1:
        """The connection is gone; `error` is an exception or a text."""
        cdef Command command
        if not isinstance(error, BaseException):
            error = ConnectionDoesNotExistError(f'connection was closed in the middle of operation: {error}')
        for command in self.commands[self.answered:]:
            if command.state != DONE:
                command.report(error)
        return 0


cdef class Opening(Request):
    """A Sync for commands whose follower cannot take them along. The follower is not sent if one of them is refused.

    The end of a block is sent all the same, unless that could not begin: the server would keep it open.
    """

    def __cinit__(self, Request follower not None):
        self.traits = UNCANCELLABLE | BARRIER
        self.query = ''
        self.follower = follower

    cdef int encode(self, WriteBuffer out) except -1:
        put_sync(out)
        self.message = out.take()
        return 0

    cdef int settle(self) except -1:
        cdef:
            Request follower = self.follower
            object error = self.error
            bint has_begun = self.ahead is None or self.ahead.block is None or self.ahead.block.is_begun
        self.follower = None
        Request.settle(self)
        if error is not None and follower.state != DONE and not (has_begun and follower.traits & UNCANCELLABLE):
            follower.fail(error)
        return 0

    cdef bint is_wanted(self) except -1:
        return self.follower is not None and self.follower.state != DONE and self.follower.is_wanted()


cdef class Prepare(Request):
    """Parse and Describe of one statement; its replies are kept until ReadyForQuery says that they hold."""

    def __cinit__(self, Statement statement not None):
        self.traits = OWN
        self.prepares = statement
        self.query = statement.query

    cdef int encode(self, WriteBuffer out) except -1:
        self.prepares.put_parse(out)
        put_describe(out, b'S', self.prepares.name)
        put_sync(out)
        self.message = out.take()
        return 0

    cdef int receive(self, char kind, const char *data, Py_ssize_t size) except -1:
        if kind == b'1' and self.stage == 0:
            self.stage = 1
        elif kind == b't' and self.stage == 1:
            if size > 2 + 4 * MAX_PARAMETERS:
                # Their number does not fit into its field, but the message is whole. The text did not show so many.
                self.error = too_many_parameters((size - 2) // 4)
            else:
                self.parameter_oids = parameter_description(data, size)
            self.stage = 2
        elif kind == b'T' and self.stage == 2:
            self.columns = row_description(data, size)
            self.stage = 3
        elif kind == b'n' and self.stage == 2:
            self.stage = 3
        else:
            return self.unexpected(kind)
        return 0

    cdef int finished(self) except -1:
        if self.stage != 3:
            raise ProtocolError('the server is ready for queries before it has described the statement')
        return 0


cdef class ExtendedQuery(Request):
    """A request that binds a prepared statement."""

    cdef int start(self, Plan plan) except -1:
        """Begin an execution by the plan.

        The state of an earlier execution is void: a request is bound again after its statement was prepared again.
        """
        if classify_copy(self.statement):
            raise InterfaceError(COPY_REFUSED, hint=COPY_HINT)
        if type(self.record_class) is ArrowShape and not isinstance(plan, ArrowPlan):
            plan = self.plan_of_columns(plan)
        # If rows cannot become what was asked for, nothing is sent.
        self.row_plan = plan.rows_as(self.record_class)
        if self.row_plan.grouped:
            self.row_plan = self.row_plan.begin(self.grouping())
        self.plan = plan
        self.stage = 0 if not self.statement.name else 1
        self.describing = self.statement.checked
        self.rows = None
        self.row = None
        self.error = None
        self.status = None
        return 0

    cdef Plan plan_of_columns(self, Plan plan):
        """Return the plan by which the statement gives columns in Arrow's format."""
        if (<ArrowShape>self.record_class).batch_rows and not self.statement.returns_rows:
            raise InterfaceError('query is expected to return rows: a SELECT, VALUES or TABLE, or what has RETURNING')
        return arrow_plan(plan, <ArrowShape>self.record_class, self.statement.results)

    cdef int described(self, char kind, const char *data, Py_ssize_t size) except -1:
        """Take the RowDescription or NoData of the portal that was just bound; the rows are read by it.

        If types have changed since Bind named the formats, the rows cannot be read, and the request fails although it
        is executed.
        """
        cdef:
            list columns
            Plan plan
            bint grouped = self.row_plan.grouped
        self.describing = False
        if kind == b'T' and self.plan.confirms(data, size):
            return 0
        columns = row_description(data, size) if kind == b'T' else []
        plan = self.plan.for_columns(columns, self.statement.types, self.statement.results)
        if plan is self.plan:
            if kind == b'T':
                plan.confirmed = data[:size]
            return 0
        self.plan = plan
        if plan is None:
            if self.statement.state == READY:
                self.statement.rename()
            self.error = columns_have_changed()
            return 0
        if self.statement.state == READY:
            self.statement.described(plan.parameter_oids, columns if kind == b'T' else None)
        try:
            self.row_plan = plan.rows_as(self.record_class)
            if self.row_plan.grouped:
                self.row_plan = self.row_plan.begin(self.grouping())
            if self.row_plan.grouped != grouped:
                # It was asked for as many rows as the other kind needs.
                self.error = columns_have_changed()
        except Exception as error:
            self.error = error
        return 0

    cdef Grouping grouping(self) noexcept:
        """Return how rows that belong to one object are read."""
        return IN_ORDER

    cdef int take(self, object made) except -1:
        """Take an object that its last row has completed."""
        if self.rows is None:
            self.rows = []
        self.rows.append(made)
        return 0

    cdef int take_last(self) except -1:
        """Take the object that is being read: there are no more rows of this execution."""
        cdef object made
        if self.error is None and self.state != ABANDONED:
            try:
                made = self.row_plan.last()
                if made is not HELD:
                    self.take(made)
            except Exception as error:
                self.error = error
        return 0

    cdef bint is_bound(self) except -1:
        """Return whether it executes what was bound already, and so needs no statement."""
        return False

    @property
    def schema(self):
        """The columns in Arrow's format, if that was asked for; None before the statement is bound."""
        return (<ArrowPlan>self.plan).schema if isinstance(self.plan, ArrowPlan) else None

    cdef int renew(self) except -1:
        Request.renew(self)
        # They are those of another session by now.
        self.statement = None
        self.plan = None
        self.row_plan = None
        self.refusal = None
        self.describing = False
        self.rows = None
        self.row = None
        return 0

    cdef int finished(self) except -1:
        if self.stage != 3:
            raise ProtocolError('the server is ready for queries before the command was complete')
        return 0


cdef object columns_have_changed():
    return OutdatedSchemaCacheError(
        'the columns of the query have changed since it was described: it was executed, but what it has '
        'returned cannot be read; asked again, it is described anew')


cdef bint classify_copy(Statement statement) except -1:
    """Return whether it is a COPY that would take over the wire."""
    cdef str start
    if statement.returns_rows or statement.parameter_oids:
        return False
    return 'copy' in statement.query.lower() and classify(statement.query).copy is not None


cdef class Query(ExtendedQuery):
    """Bind and Execute of one statement, whose rows are decoded as they come.

    `portal` b'' is the unnamed one, gone at the Sync. A named portal lives until the end of the transaction: one
    request opens it, others, which name that as their `opener`, fetch from it `limit` rows at a time (0: all, -1: bind
    it only).
    """

    def __cinit__(self, object waiter, object statement not None, object args, int kind, int limit, object column,
                  object record_class, bint shared=False, bytes portal=b'', Query opener=None):
        if args is not None and len(args) > MAX_PARAMETERS:
            raise too_many_parameters(len(args))
        self.waiter = waiter
        if type(statement) is str:
            self.query = <str>statement
        else:
            self.statement = <Statement?>statement
            self.query = self.statement.query
        self.args = args
        self.kind = <Result>kind
        self.limit = limit
        self.column = column
        self.record_class = record_class
        self.shared = shared
        self.portal = portal
        self.opener = opener
        self.traits = PORTAL_QUERY if portal else QUERY

    cdef int encode(self, WriteBuffer out) except -1:
        if self.first is not None:
            return self.encode_first(out)
        self.late = None
        if self.opener is None:
            self.start(self.statement.current_plan())
            self.statement.put_bind(out, self.plan, self.portal, self.args, -1)
        else:
            if self.opener.plan is None:
                raise InterfaceError('the cursor could not be opened')
            # The columns come in the formats that were asked for when the portal was bound.
            self.start(self.opener.plan)
            self.stage = 2
            self.describing = False
            if self.row_plan.grouped:
                # The object that is being read may have more rows.
                self.row_plan = self.opener.row_plan
        if self.limit >= 0:
            put_execute(out, self.portal, self.row_limit())
        put_sync(out)
        self.message = out.take()
        return 0

    cdef int row_limit(self) noexcept:
        """Return how many rows the server is asked for. The rows of the first object may be any number."""
        return 0 if self.row_plan.grouped and self.kind == FIRST_ROW else self.limit

    cdef Grouping grouping(self) noexcept:
        if self.kind == FIRST_ROW:
            return FIRST_ALONE
        return AS_THEY_COME if self.portal else IN_ORDER

    cdef int receive(self, char kind, const char *data, Py_ssize_t size) except -1:
        if kind == b'D' and self.stage == 2:
            if self.late is not None:
                self.late.append(data[:size])
            elif self.error is None and self.kind != STATUS and self.state != ABANDONED:
                try:
                    take_row(self, data, size)
                except ProtocolError:
                    raise
                except Exception as error:
                    # The wire is intact: this query fails, the rest of its rows are passed over.
                    if self.statement.results.cures(error) and not isinstance(self.plan, ArrowPlan):
                        self.late = [data[:size]]
                        self.reason = error
                    else:
                        self.error = error
            elif self.row_plan.grouped:
                # Their memory is free before the rest of the rows has come.
                self.rows = None
                self.row_plan.drop()
        elif kind == b'C' and self.stage == 2:
            self.status = command_tag(data, size)
            self.stage = 3
            if self.row_plan.grouped and self.late is None:
                self.take_last()
        elif kind == b'2' and self.stage == 1:
            self.stage = 2 if self.limit >= 0 or self.describing else 3
        elif (kind == b'T' or kind == b'n') and self.describing and self.stage == 2:
            self.described(kind, data, size)
            if self.limit < 0:
                self.stage = 3
        elif kind == b's' and self.stage == 2:
            self.suspended = True
            self.stage = 3
        elif kind == b'1' and self.stage == 0:
            self.stage = 1 if self.first is None else NOT_DESCRIBED
        elif kind == b'I' and self.stage == 2:
            self.stage = 3
        elif self.stage == NOT_DESCRIBED and self.first.take(kind, data, size):
            if self.first.is_described:
                self.described_first()
                self.stage = 1
        elif self.stage != 2 or not takes_copy(self, kind):
            return self.unexpected(kind)
        return 0

    cdef int encode_first(self, WriteBuffer out) except -1:
        """Put together the message of a first run."""
        self.late = None
        self.rows = None
        self.row = None
        self.error = None
        self.status = None
        self.suspended = False
        self.stage = 0
        self.first.put(out, self.args, self.limit)
        self.message = out.take()
        return 0

    cdef int described_first(self) except -1:
        """The columns of a first run are known: choose how its rows are read, if they can be read as they come."""
        cdef:
            FirstRun first = self.first
            TypeMap results = self.statement.results
            list columns = first.columns if first.returns_rows else []
            list oids = [column[3] for column in columns]
            RowPlan rows
        self.plan = make_plan(self.statement.name, first.parameter_oids, columns, self.statement.types, results)
        self.row_plan = self.plan.record_rows
        if self.kind == STATUS:
            return 0
        if not first.fits() or results.asks_again() and results.foreign(oids):
            self.error = FORMATS_DIFFER
        elif results.missing(oids):
            first.lacks_types = True
            self.late = []
        elif not all_binary(self.plan):
            self.error = FORMATS_DIFFER
        else:
            try:
                rows = self.plan.rows_as(self.record_class)
                if rows.grouped and self.kind == FIRST_ROW:
                    # It was asked for one row, and needs all rows of the first object.
                    self.error = FORMATS_DIFFER
                else:
                    self.row_plan = rows.begin(self.grouping()) if rows.grouped else rows
            except Exception as error:
                self.error = error
        return 0

    cdef bint read_first(self, Plan plan) except -1:
        """Read the rows of a first run, now that their types are known; returns False if it must be executed once more.

        If a value needs further types, the rows that are left are `late` once more.
        """
        cdef:
            bytes data
            list late = self.late
            RowPlan rows
        if not all_binary(plan):
            return False
        self.plan = plan
        try:
            rows = plan.rows_as(self.record_class)
            if rows.grouped and self.kind == FIRST_ROW:
                return False
            self.row_plan = rows.begin(self.grouping()) if rows.grouped else rows
        except Exception as error:
            self.error = error
        self.late = None
        self.stage = 2
        for data in late:
            Query.receive(self, b'D', data, len(data))
        self.stage = 3
        if self.row_plan.grouped and self.late is None:
            self.take_last()
        return True

    cdef int read_late(self) except -1:
        """Read the rows that had to wait, by the codecs of now."""
        cdef:
            RowPlan plan = plan_again(self.plan, self.statement.results, self.record_class)
            bytes data
            list rows = []
        if plan.grouped:
            return self.read_late_groups(plan)
        for data in self.late:
            rows.append(plan.row(data, len(data)))
            if self.kind != ROWS:
                break
        self.late = None
        if self.kind == ROWS:
            self.rows.extend(rows)
        else:
            self.row = rows[0]
        return 0

    cdef int read_late_groups(self, RowPlan plan) except -1:
        """Read the rows that had to wait; each may belong to the object of the row before it."""
        cdef:
            bytes data
            object made
            list late = self.late
        (<NestedRows?>self.row_plan).switch_to(<NestedPlan?>plan)
        while late:
            # If a type is still missing, these rows wait once more.
            data = late[0]
            made = self.row_plan.row(data, len(data))
            if made is not HELD:
                self.take(made)
            del late[0]
        self.late = None
        if not self.suspended:
            made = self.row_plan.last()
            if made is not HELD:
                self.take(made)
        return 0

    cdef int give_up_late(self, object cause) except -1:
        """Settle with what the rows could not be read for; `cause` is why nothing could be learnt of it, or None."""
        cdef object reason = self.reason
        self.late = self.reason = None
        if isinstance(cause, BaseException):
            reason.__cause__ = cause
        return self.fail(reason)

    cdef object outcome(self):
        cdef object rows = self.rows, row = self.row
        # They belong to the caller from here on: the request may live on for a while.
        self.rows = self.row = None
        if self.kind == ROWS:
            return rows if rows is not None else []
        if self.kind == STATUS:
            return self.status if self.status is not None else ''
        if self.kind == ARROW:
            return (<RowBuilder?>self.row_plan).table(rows if rows is not None else [])
        return row if row is None or self.kind == FIRST_ROW else row[self.column]

    cdef bint is_bound(self) except -1:
        return self.opener is not None and self.opener.plan is not None

    cdef int settle(self) except -1:
        cdef Query repetition
        if self.repetition is not None:
            if self.state == ABANDONED:
                # It has given way to another caller. Its own outcome does not count.
                self.state = DONE
                return self.release()
            repetition = self.repetition
            self.repetition = None
            self.owner.give_up(repetition)
        return Request.settle(self)

    cdef int deliver(self, object value, object error) except -1:
        if self.is_repetition:
            return deliver_repetition(self, value, error)
        return ExtendedQuery.deliver(self, value, error)

    cdef bint is_wanted(self) except -1:
        if self.is_repetition:
            return self.original is not None and self.original.is_wanted()
        return ExtendedQuery.is_wanted(self)

    cdef int take(self, object made) except -1:
        if self.kind == ROWS or self.kind == ARROW:
            return ExtendedQuery.take(self, made)
        self.row = made
        return 0

    cdef Query again(self):
        """Return a new request that asks the same."""
        return Query(None, self.query, self.args, self.kind, self.limit, self.column, self.record_class, True)

    cdef int renew(self) except -1:
        ExtendedQuery.renew(self)
        self.suspended = False
        self.late = None
        self.reason = None
        self.asked = None
        self.first = None
        self.prepares = None
        self.traits &= ~BARRIER
        return 0

    @property
    def arguments(self):
        return self.args

    @property
    def grouped(self):
        """Return whether several of its rows may become one object."""
        return self.row_plan is not None and self.row_plan.grouped


cdef int deliver_repetition(Query repetition, object value, object error) except -1:
    """Give the outcome of a repetition to the request that it repeats. The end of the connection is no outcome."""
    cdef Query original = repetition.original
    repetition.original = None
    if original is None or original.repetition is not repetition:
        return 0
    original.repetition = None
    if not original.is_wanted():
        return 0
    if isinstance(error, ConnectionDoesNotExistError) and original.work is not None and original.state != ABANDONED:
        return 0
    original.forget_deadline()
    original.deliver(value, error)
    # Its own reply is passed over when it comes.
    original.owner.give_up(original)
    return 0


cpdef Query repetition_of(Query original):
    """Return a second request for what `original`, a plain read, asks: while that is stuck, another connection is asked.

    The first outcome counts.
    """
    cdef Query request = original.again()
    request.is_repetition = True
    request.original = original
    # Its arguments are encoded as if the task that awaits the original had asked for it.
    request.context = original.context
    request.owner = original.owner
    request.wakeup_batch = original.wakeup_batch
    request.cost = original.cost
    request.ticket = original.ticket
    request.pipelined = False
    request.movable = original.movable
    request.asked_twice = original.asked_twice = True
    original.repetition = request
    return request


cdef class UnpreparedQuery(Request):
    """One statement without arguments, parsed and executed in one flight; the command tag is the result.

    The extended protocol takes one statement alone, so the server itself refuses two in one text.
    Source: protocol-flow-ext-query.
    """

    def __cinit__(self, object waiter, str query not None):
        self.traits = UNPREPARED_QUERY
        self.shared = True
        self.waiter = waiter
        self.query = query

    cdef int encode(self, WriteBuffer out) except -1:
        cdef str lowered = self.query.lower()
        if 'copy' in lowered and classify(self.query).copy is not None:
            raise InterfaceError(COPY_REFUSED, hint=COPY_HINT)
        self.renames = 'rename' in lowered and 'alter' in lowered
        put_parse(out, b'', query_bytes(self.query), ())
        put_bind_nothing(out)
        put_execute(out, b'', 0)
        put_sync(out)
        self.message = out.take()
        return 0

    cdef int receive(self, char kind, const char *data, Py_ssize_t size) except -1:
        if kind == b'1' and self.stage == 0:
            self.stage = 1
        elif kind == b'2' and self.stage == 1:
            self.stage = 2
        elif kind == b'D' and self.stage == 2:
            pass
        elif kind == b'C' and self.stage == 2:
            self.status = command_tag(data, size)
            self.stage = 3
        elif kind == b'I' and self.stage == 2:
            self.stage = 3
        elif self.stage != 2 or not takes_copy(self, kind):
            return self.unexpected(kind)
        return 0

    cdef int finished(self) except -1:
        if self.stage != 3:
            raise ProtocolError('the server is ready for queries before the command was complete')
        return 0

    cdef int settle(self) except -1:
        if self.error is not None and self.stage == 1 and getattr(self.error, 'sqlstate', None) == '08P01' \
                and self.error.server_source_function == 'exec_bind_message':
            # Bind found parameters and no arguments for them.
            self.error = UndefinedParameterError('there are parameters ($1, ...) in the query, and no arguments for them',
                                                 hint=statements.MISSING_ARGUMENTS)
            self.error.query = self.query
        return Request.settle(self)

    cdef object outcome(self):
        return self.status if self.status is not None else ''


cdef bint takes_copy(Request request, char kind) except -1:
    """Take a message of a COPY that is refused, and fail the request; returns whether the message is one."""
    if kind == b'G':
        request.error = refuse_copy(request)
    elif kind == b'H':
        request.error = FeatureNotSupportedError(COPY_REFUSED)
    else:
        return (kind == b'd' or kind == b'c') and request.error is not None
    return True


cdef object refuse_copy(Request request):
    """CopyInResponse although no COPY was announced: end it.

    The server has ignored the Sync sent behind it (protocol-copy), so another one goes with CopyFail.
    """
    cdef WriteBuffer out = WriteBuffer()
    put_copy_fail(out, COPY_REFUSED.encode())
    if not isinstance(request, SimpleQuery):
        put_sync(out)
    request.urgent = out.take()
    return FeatureNotSupportedError(COPY_REFUSED)


cdef class SimpleQuery(Request):
    """A simple Query message: any number of statements, no arguments, the last command tag as the result.

    Source: protocol-flow-simple-query.
    """

    def __cinit__(self, object waiter, str query not None, bint uncancellable=False):
        self.waiter = waiter
        self.query = query
        self.traits = SIMPLE_QUERY | UNCANCELLABLE if uncancellable else SIMPLE_QUERY

    cdef int encode(self, WriteBuffer out) except -1:
        cdef bytes encoded = query_bytes(self.query)
        cdef str lowered = self.query.lower()
        if 'copy' in lowered and classify(self.query).copy is not None:
            raise InterfaceError(COPY_REFUSED, hint=COPY_HINT)
        self.deallocates = ('deallocate' in lowered or 'discard' in lowered) and DEALLOCATES(lowered) is not None
        self.renames = 'rename' in lowered and 'alter' in lowered
        put_query(out, encoded)
        self.message = out.take()
        return 0

    cdef int receive(self, char kind, const char *data, Py_ssize_t size) except -1:
        if kind == b'C':
            self.status = command_tag(data, size)
            if self.stage == 0:
                self.first_status = self.status
            if self.status == 'COMMIT' or self.status == 'ROLLBACK':
                self.has_ended = True
            self.stage = 2
        elif kind == b'I':
            self.stage = 2
        elif kind == b'T' and self.stage != 1:
            self.stage = 1
        elif kind == b'D' and self.stage == 1:
            pass
        elif not takes_copy(self, kind):
            return self.unexpected(kind)
        return 0

    cdef int finished(self) except -1:
        if self.stage != 2 and self.error is None:
            raise ProtocolError('the server is ready for queries before the command was complete')
        return 0

    cdef str first_tag(self):
        return self.first_status

    cdef object outcome(self):
        return self.status if self.status is not None else ''


cdef class Closing(Request):
    """Close of prepared statements or portals that are no longer needed."""

    def __cinit__(self, object waiter, str what not None, list names not None):
        self.waiter = waiter
        self.query = 'CLOSE'
        self.what = what
        self.names = names
        self.traits = OWN | UNCANCELLABLE

    cdef int encode(self, WriteBuffer out) except -1:
        cdef bytes name
        for name in self.names:
            put_close(out, <char>ord(self.what), name)
        put_sync(out)
        self.message = out.take()
        return 0

    cdef int receive(self, char kind, const char *data, Py_ssize_t size) except -1:
        if kind != b'3':
            return self.unexpected(kind)
        return 0

