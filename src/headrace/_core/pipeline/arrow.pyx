"""Requests whose rows become columns in Arrow's format.

An ArrowQuery binds the same statement as any other query. Its plan asks for the columns in the formats that columns in
Arrow's format are made of, and each DataRow is added to a RowBuilder. The statement has to be described before, so there is
no first run: executed once more, a large result would cost twice as much.

An ArrowStream does the same outside of transaction blocks, where a portal ends with each Sync. It has the wire to itself until
its last row, and the socket is left unread while its reader has enough to do.
"""

from headrace._core.arrow.result cimport RecordBatch
from headrace._core.codecs.typemap cimport TypeMap
from headrace._core.pipeline.plan cimport make_plan
from headrace._core.pipeline.requests cimport ABANDONED, ARROW, BARRIER, ExtendedQuery, classify_copy
from headrace._core.rows.row_plan cimport RowPlan
from headrace._core.wire.buffer cimport WriteBuffer, put_i16

from headrace._core.arrow.schema import columns_of
from headrace._core.pipeline.requests import COPY_HINT, COPY_REFUSED
from headrace.exceptions import InterfaceError, ProtocolError

# A statement is asked for its rows in one way or a few.
cdef Py_ssize_t MOST_PLANS = 16
# Record batches that are held for a reader; with so many the socket is left unread.
cdef Py_ssize_t MOST_HELD = 2


cdef class ArrowPlan(Plan):
    """The plan of a statement whose columns come in the formats that Arrow's are made of."""

    cdef Plan for_columns(self, list columns, TypeMap types, TypeMap results):
        cdef ArrowPlan plan
        if [(column[0], column[3], column[5]) for column in columns] \
                == [(column[0], column[3], column[5]) for column in self.description]:
            return self
        if results.missing([column[3] for column in columns]):
            return None
        if results.asks_again() and results.foreign([column[3] for column in columns]):
            return None
        plan = arrow_plan(make_plan(self.name, self.parameter_oids, columns, types, results), self.shape, results)
        if plan.schema.formats != tuple([column[6] for column in columns]):
            return None
        return plan

    cdef RowPlan rows_as(self, object row_class):
        # It reads no rows, but an ExtendedQuery has one.
        return self.record_rows


cdef ArrowPlan arrow_plan(Plan plan, ArrowShape shape, TypeMap results):
    """Return the plan by which the same statement gives columns. It is made once for each shape."""
    cdef:
        ArrowPlan made
        WriteBuffer out
        int code
    if plan.arrow_plans is None:
        plan.arrow_plans = {}
    made = <ArrowPlan>plan.arrow_plans.get(shape.key)
    if made is not None:
        return made
    made = ArrowPlan.__new__(ArrowPlan)
    made.name = plan.name
    made.version = plan.version
    made.parameter_oids = plan.parameter_oids
    made.description = plan.description
    made.parameter_codecs = plan.parameter_codecs
    made.column_codecs = plan.column_codecs
    made.columns = plan.columns
    made.record_rows = plan.record_rows
    made.row_plans = plan.row_plans
    made.bind_head = plan.bind_head
    made.shape = shape
    made.schema = Schema(
        columns_of([(column[0], column[3], column[5]) for column in plan.description], results.catalogue.find, shape.decimal),
        shape.out_of_range)
    out = WriteBuffer()
    put_i16(out, <short>len(made.schema.fields))
    for code in made.schema.formats:
        put_i16(out, <short>code)
    made.bind_tail = out.take()
    if len(plan.arrow_plans) >= MOST_PLANS:
        plan.arrow_plans.clear()
    plan.arrow_plans[shape.key] = made
    return made


cdef class ArrowQuery(Query):
    """Bind and Execute of one statement; its result is an ArrowTable. The record class is an ArrowShape."""

    cdef int start(self, Plan plan) except -1:
        if classify_copy(self.statement):
            raise InterfaceError(COPY_REFUSED, hint=COPY_HINT)
        if not isinstance(plan, ArrowPlan):
            plan = arrow_plan(plan, <ArrowShape?>self.record_class, self.statement.results)
        self.plan = plan
        self.row_plan = plan.record_rows
        self.begin(<ArrowPlan>plan)
        if self.opener is not None:
            # Errors name the row by its number among all rows of the portal.
            self.builder.rows = (<ArrowQuery>self.opener).fetched
        self.stage = 0 if not self.statement.name else 1
        self.describing = self.statement.checked
        self.error = None
        self.status = None
        self.suspended = False
        return 0

    cdef int begin(self, ArrowPlan plan) except -1:
        self.builder = RowBuilder(plan.schema)
        return 0

    cdef int described(self, char kind, const char *data, Py_ssize_t size) except -1:
        cdef Plan former = self.plan
        Query.described(self, kind, data, size)
        if self.plan is not former and self.plan is not None:
            self.begin(<ArrowPlan>self.plan)
        return 0

    cdef int receive(self, char kind, const char *data, Py_ssize_t size) except -1:
        if kind != b'D' or self.stage != 2:
            return Query.receive(self, kind, data, size)
        if self.builder is None:
            return 0
        if self.error is not None or self.state == ABANDONED:
            # Its memory is free before the rest of its rows has come.
            self.builder = None
            return 0
        try:
            self.builder.append(data, size)
        except ProtocolError:
            raise
        except Exception as error:
            # The wire is intact: this query fails, the rest of its rows are passed over.
            self.fails(error)
        return 0

    cdef int fails(self, object error) except -1:
        self.statement.results.cures(error)
        self.error = error
        self.builder = None
        return 0

    cdef object outcome(self):
        cdef RowBuilder builder = self.builder
        # Its memory belongs to the caller from here on.
        self.builder = None
        if self.portal:
            (<ArrowQuery>(self if self.opener is None else self.opener)).fetched = builder.rows
        return builder.finish()

    @property
    def schema(self):
        """The columns; known once it is encoded."""
        return (<ArrowPlan?>self.plan).schema

    cdef Query again(self):
        return ArrowQuery(None, self.query, self.args, self.kind, self.limit, self.column, self.record_class, True)

    cdef int renew(self) except -1:
        Query.renew(self)
        self.builder = None
        return 0


cdef class ArrowStream(ArrowQuery):
    """All rows of one statement, as record batches for a reader that takes them as they come."""

    def __cinit__(self, *rest):
        self.traits |= BARRIER
        self.batch_rows = 1 << 16

    cdef int begin(self, ArrowPlan plan) except -1:
        self.builder = RowBuilder(plan.schema, most_rows=self.batch_rows)
        return 0

    cdef int receive(self, char kind, const char *data, Py_ssize_t size) except -1:
        ArrowQuery.receive(self, kind, data, size)
        if self.arrival is not None and (self.error is not None or self.builder is not None and self.builder.finished):
            self.arrived()
        return 0

    cdef int fails(self, object error) except -1:
        ArrowQuery.fails(self, error)
        self.unreadable = error
        return 0

    def arrived(self) -> None:
        """Wake the reader."""
        arrival, self.arrival = self.arrival, None
        if arrival is not None and not arrival.done():
            arrival.set_result(None)

    def next_batch(self) -> RecordBatch | None:
        """Return the next record batch; None if there is none yet, or no more."""
        if self.builder is None or not self.builder.finished:
            return None
        return self.builder.finished.pop(0)

    def drop(self) -> None:
        """Let go of what is held and of what still comes: it is not read."""
        self.builder = None

    cdef bint is_full(self) noexcept:
        return self.builder is not None and len(self.builder.finished) >= MOST_HELD and self.state != ABANDONED

    cdef bint repeatable(self) except -1:
        # Its first rows may have been taken.
        return False

    cdef bint can_encode_again(self) except -1:
        return True

    cdef object outcome(self):
        if self.builder is not None:
            self.builder.end_chunk()
        return None

    cdef int settle(self) except -1:
        ArrowQuery.settle(self)
        self.arrived()
        return 0
