"""A group: several executions of one plain read in one request, each with its own result.

They share a Sync, which costs a server more than a small query. If one of them fails, the server skips those behind it up
to the Sync: these never started, and are asked for again by another group. So a group may give fewer results than it has
elements. The same happens if the elements do not fit into one message, or if one of them cannot be encoded.

Source: PostgreSQL documentation, "Pipelining" (protocol-flow-pipelining).
"""

cimport cython

from headrace._core.wire.buffer cimport WriteBuffer
from headrace._core.wire.frontend cimport put_execute, put_sync
from headrace._core.pipeline.requests cimport ABANDONED, FIRST_ROW, ROWS, Query, take_row
from headrace._core.pipeline.workload cimport boot_seconds
from headrace._core.rows.row_plan cimport HELD

from headrace.exceptions import ConnectionDoesNotExistError, ProtocolError

# Bytes of arguments in a group; one element may take more.
cdef Py_ssize_t MAX_BYTES = 1 << 16


@cython.final
cdef class Failure:
    """The error of one element."""

    def __cinit__(self, error, bint alone=False):
        self.error = error
        self.alone = alone


@cython.final
cdef class GroupCost(Cost):
    """The cost of a group, learnt and expected for each execution alike."""

    def __cinit__(self, Cost element not None, Py_ssize_t count):
        self.element = element
        self.count = count

    cdef int learn(self, double seconds) except -1:
        return self.element.learn(seconds / self.count)

    cdef double expected(self) noexcept:
        cdef double seconds = self.element.expected()
        return seconds * self.count if seconds > 0 else seconds


cdef class MeasuredQuery(Query):
    """A query that knows the bytes of its rows, and how long its outcome was in coming."""

    cdef int encode(self, WriteBuffer out) except -1:
        self.received = 0
        self.encoded = 1
        return Query.encode(self, out)

    cdef int receive(self, char kind, const char *data, Py_ssize_t size) except -1:
        if kind == b'D':
            self.received += size
        return Query.receive(self, kind, data, size)

    cdef int deliver(self, object value, object error) except -1:
        if self.ended_at == 0:
            self.ended_at = boot_seconds()
        return Query.deliver(self, value, error)

    cdef double seconds(self) noexcept:
        """Return the seconds from the call to the outcome, or until now."""
        return (self.ended_at if self.ended_at > 0 else boot_seconds()) - self.asked_at


@cython.final
cdef class Group(MeasuredQuery):
    """Bind and Execute of one statement for each element, and one Sync.

    The result is a list of the results of the first elements. The last one may be a Failure: the error of that
    execution, behind which the server has executed nothing.
    """

    def __cinit__(self, object waiter, object statement not None, list elements not None, int kind, int limit,
                  object column, object record_class, bint shared=False):
        self.elements = elements

    cdef int encode(self, WriteBuffer out) except -1:
        cdef Py_ssize_t at = -1
        self.start(self.statement.current_plan())
        self.results = []
        self.failed = None
        self.encoded = self.received = 0
        for args in self.elements:
            try:
                self.statement.put_bind(out, self.plan, b'', args, at)
            except Exception:
                if self.encoded == 0:
                    raise
                # It raises again at the head of a group of its own.
                break
            put_execute(out, b'', self.row_limit())
            self.encoded += 1
            at = self.encoded
            if out.length >= MAX_BYTES:
                break
        put_sync(out)
        if self.cost is not None:
            (<GroupCost>self.cost).count = self.encoded
        self.message = out.take()
        return 0

    cdef int receive(self, char kind, const char *data, Py_ssize_t size) except -1:
        if kind == b'D' and self.stage == 2:
            self.received += size
            if self.failed is None and self.error is None and self.state != ABANDONED:
                try:
                    take_row(self, data, size)
                except ProtocolError:
                    raise
                except Exception as error:
                    # A type that is not known yet is looked up by a request of one element.
                    self.failed = Failure(error, self.statement.results.cures(error))
        elif (kind == b'C' or kind == b's' or kind == b'I') and self.stage == 2:
            self.stage = 3
            self.complete()
        elif kind == b'2' and (self.stage == 1 or self.stage == 3):
            self.stage = 2
        elif (kind == b'T' or kind == b'n') and self.describing and self.stage == 2:
            self.described(kind, data, size)
        elif kind == b'1' and self.stage == 0:
            self.stage = 1
        else:
            return self.unexpected(kind)
        return 0

    cdef int complete(self) except -1:
        """Take the result of one execution."""
        cdef object result, row, made
        if self.error is not None:
            # The columns have changed, so neither these rows nor those that follow can be read.
            return 0
        if self.row_plan.grouped:
            try:
                made = self.row_plan.last()
                if made is not HELD and self.failed is None:
                    self.take(made)
            except Exception as error:
                if self.failed is None:
                    self.failed = Failure(error)
        result = self.failed
        row = self.row
        self.failed = self.row = None
        if result is not None:
            self.rows = None
        elif self.kind == ROWS:
            result, self.rows = self.rows, None
            if result is None:
                result = []
        elif row is None or self.kind == FIRST_ROW:
            result = row
        else:
            try:
                result = row[self.column]
            except Exception as error:
                result = Failure(error)
        self.results.append(result)
        return 0

    cdef int finished(self) except -1:
        if self.stage != 3 or len(self.results) != self.encoded:
            raise ProtocolError(
                f'the server is ready for queries after {len(self.results)} of {self.encoded} executions')
        return 0

    cdef int settle(self) except -1:
        if self.error is not None and self.results is not None \
                and not (self.is_repetition and isinstance(self.error, ConnectionDoesNotExistError)):
            # Those ahead of it have their results. For a repetition the end of its connection is no outcome.
            self.results.append(Failure(self.error))
            self.error = None
        return Query.settle(self)

    cdef object outcome(self):
        cdef list results = self.results
        self.results = None
        return results

    cdef Query again(self):
        cdef Group group = Group(None, self.query, self.elements, self.kind, self.limit, self.column, self.record_class, True)
        return group

    cdef int renew(self) except -1:
        Query.renew(self)
        self.results = self.failed = None
        return 0

    @property
    def arguments(self):
        """Return the arguments of the first execution: if the group is refused, that is because of them."""
        return self.elements[0]
