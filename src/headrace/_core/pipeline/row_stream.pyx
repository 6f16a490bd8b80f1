"""A stream: one execution of a statement, whose rows are taken while they come.

It is one Bind, Execute and Sync, as a query. A reader takes the rows that have been read so far, and is woken when there are
more. While enough rows are held for it, the socket is left unread (transport), so the server waits. Therefore a stream is a
barrier, as COPY is: nothing is sent behind it until it is done.

Rows are read by a row plan, as those of a query are. A plan that makes one object of several rows returns it with the row that
completes it, and the rest at the end (RowPlan.row, RowPlan.last). Rows that are part of an object count as held only once the
object is complete. The record batches in Arrow's format are such objects.

A row that cannot be read ends the stream. Its error is raised after the rows before it, and its owner gives the request up. If a type
was not known, it is looked up when the statement is executed the next time.

Source: PostgreSQL documentation, "Extended Query" (protocol-flow-ext-query).
"""

from headrace._core.arrow.result cimport ArrowShape
from headrace._core.wire.backend cimport command_tag
from headrace._core.wire.buffer cimport WriteBuffer
from headrace._core.wire.frontend cimport put_execute, put_sync
from headrace._core.pipeline.requests cimport ABANDONED, BARRIER, READS, REBINDABLE, RUNS_TEXT, STAGED, Request, takes_copy
from headrace._core.pipeline.statement_cache cimport MAX_PARAMETERS, Statement, too_many_parameters
from headrace._core.rows.row_plan cimport AS_THEY_COME, HELD, Grouping

from headrace.exceptions import ProtocolError

# Bytes of rows held for a reader that is slower than the server; beyond them the socket is left unread.
cdef Py_ssize_t MOST_HELD = 1 << 18
# Bytes of a message in front of its body.
cdef Py_ssize_t MESSAGE_HEAD = 5


cdef class RowStream(ExtendedQuery):
    """One execution of a statement, whose rows are held until they are taken."""

    def __cinit__(self, object statement not None, object args not None, object record_class, Py_ssize_t most_rows=0):
        if len(args) > MAX_PARAMETERS:
            raise too_many_parameters(len(args))
        if type(statement) is str:
            self.query = <str>statement
        else:
            self.statement = <Statement?>statement
            self.query = self.statement.query
        self.args = args
        self.record_class = record_class
        self.most_rows = most_rows
        # Of record batches the next one is read while the reader comes for the one before.
        self.least = 2 if type(record_class) is ArrowShape else 1
        self.rows = []
        # Rows cannot be taken back. So it is not run again for a CancelRequest that was not meant for it, and nothing is
        # cancelled on the server while it waits behind that.
        self.traits = RUNS_TEXT | STAGED | READS | REBINDABLE | BARRIER

    cdef int encode(self, WriteBuffer out) except -1:
        self.start(self.statement.current_plan())
        self.rows = []
        self.statement.put_bind(out, self.plan, b'', self.args, -1)
        put_execute(out, b'', 0)
        put_sync(out)
        self.message = out.take()
        # A reader may wait for the columns.
        return self.wake()

    cdef Grouping grouping(self) noexcept:
        # Keys of all objects that were handed out would need memory without bound.
        return AS_THEY_COME

    cdef int receive(self, char kind, const char *data, Py_ssize_t size) except -1:
        cdef object made
        if kind == b'D' and self.stage == 2:
            self.received += size
            if self.error is not None or self.unwanted or self.state == ABANDONED:
                return 0
            try:
                made = self.row_plan.row(data, size)
            except ProtocolError:
                raise
            except Exception as error:
                # The wire is intact: what the server still sends is passed over.
                self.statement.results.cures(error)
                return self.fails(error)
            self.backlog += size + MESSAGE_HEAD
            if made is not HELD:
                self.rows.append(made)
                if self.arrival is not None:
                    self.wake()
        elif kind == b'C' and self.stage == 2:
            self.status = command_tag(data, size)
            self.stage = 3
            if self.row_plan.grouped and not self.unwanted:
                self.take_last()
                if self.arrival is not None:
                    self.wake()
        elif kind == b'2' and self.stage == 1:
            self.stage = 2
        elif (kind == b'T' or kind == b'n') and self.describing and self.stage == 2:
            self.described(kind, data, size)
            if self.error is not None:
                return self.fails(self.error)
        elif kind == b'1' and self.stage == 0:
            self.stage = 1
        elif kind == b'I' and self.stage == 2:
            self.stage = 3
        elif self.stage != 2 or not takes_copy(self, kind):
            return self.unexpected(kind)
        return 0

    cdef int fails(self, object error) except -1:
        """Rows cannot be read from here on."""
        self.error = self.unreadable = error
        self.row_plan.drop()
        return self.wake()

    cdef bint is_full(self) noexcept:
        return len(self.rows) >= self.least and not self.unwanted and self.state != ABANDONED \
            and (self.backlog > MOST_HELD or 0 < self.most_rows <= len(self.rows))

    cdef bint only_reads(self) except -1:
        """Return whether it can be asked again as a whole: not if a reader has acted on rows of it."""
        return not self.handed_out and ExtendedQuery.only_reads(self)

    cdef bint is_wanted(self) except -1:
        return not self.delivered

    cdef int deliver(self, object value, object error) except -1:
        self.delivered = True
        self.failure = error
        return self.wake()

    cdef int wake(self) except -1:
        """Wake the reader."""
        cdef object arrival = self.arrival
        self.arrival = None
        if arrival is not None and not arrival.done():
            arrival.set_result(None)
        return 0

    def take_rows(self) -> list:
        """The rows held, in order; of large record batches the first alone, since the others count as held until taken."""
        cdef:
            list rows = self.rows
            Py_ssize_t count = len(rows)
        if count > 1 and self.least > 1 and self.backlog // count > MOST_HELD:
            self.backlog -= self.backlog // count
            self.handed_out = True
            return [rows.pop(0)]
        if rows:
            self.rows = []
            self.handed_out = True
        self.backlog = 0
        return rows

    def is_over(self) -> bool:
        """Return whether no more rows will come, once those held were taken; raises the error that has ended the stream."""
        cdef object error = self.unreadable
        if error is None:
            if not self.delivered:
                return False
            error = self.failure
        # Kept here, it would hold this request through its traceback's frames.
        self.unreadable = self.failure = None
        if error is not None:
            raise error
        return True

    def drop(self, error=None) -> None:
        """Let go of what is held and of what still comes. `error` is raised to a reader that waits."""
        self.unwanted = True
        self.rows = []
        self.backlog = 0
        if self.row_plan is not None:
            self.row_plan.drop()
        if not self.delivered:
            self.deliver(None, error)

    def pass_over(self) -> None:
        """Read no more rows, but keep the outcome for the reader: the connection is being closed."""
        self.unwanted = True

    @property
    def arguments(self):
        return self.args

    @property
    def full(self) -> bool:
        """Return whether the socket is to be left unread until rows are taken."""
        return self.is_full()
