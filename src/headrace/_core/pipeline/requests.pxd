# One class per kind of request: what it sends and how it reads its replies.

from headrace._core.wire.buffer cimport WriteBuffer
from headrace._core.pipeline.plan cimport Plan
from headrace._core.pipeline.first_run cimport FirstRun
from headrace._core.pipeline.future cimport Future
from headrace._core.rows.row_plan cimport HELD, Grouping, RowPlan
from headrace._core.pipeline.statement_cache cimport Statement

cdef enum Result:
    ROWS          # list of all rows
    FIRST_ROW     # the first row or None
    VALUE         # one column of the first row, or None
    STATUS        # the command tag
    ARROW         # all rows, as an ArrowTable; the record class is an ArrowShape

# The life of a request. It only goes forward, but for one that is run again.
cdef enum RequestState:
    WAITING       # has no message yet, because its statement is not ready
    QUEUED        # has its message, and has not been sent
    SENT          # in flight: a part of it was sent at least
    ABANDONED     # in flight; its caller has given up, so its reply is passed over
    DONE          # has its outcome, or was dropped

# The properties of a kind of request; the table of the kinds is in requests.pyx.
cdef enum Trait:
    RUNS_TEXT = 1         # its text is run as it stands, so it may begin or end a transaction
    STAGED = 2            # the stages of its reply show how far the server has come
    READS = 4             # running it a second time does no work twice, if its text is a plain read
    REPEATABLE = 8        # it can be run again after a 57014 that was not meant for it, if its text is a plain read
    REBINDABLE = 16       # it can be run again after the server has refused its statement, which it then had not begun
    OWN = 32              # the session's: begins no transaction, changes no session, and can be repeated at any time
    UNCANCELLABLE = 64    # sent and drained even if its caller gives up
    BARRIER = 128         # nothing is sent behind it until it is done
    SIMPLE = 256          # a simple Query, which ends without a Sync: no commands can travel with it
    PUT_OFF = 512         # a Command: it is sent once a request behind it is


cdef class Ahead


cdef class Request(Future):
    cdef:
        Request next                 # the one behind it in its queue
        object deadline              # cancel(): the timer that ends the wait
        readonly str query
        readonly RequestState state
        bytes message                # what it sends
        Py_ssize_t size              # bytes it has in flight
        int traits                   # Trait flags
        bint has_more                # has more to send after `message`
        bint shared                  # any connection of a pool may run it, and nothing waits for its preparation but itself
        bint may_be_cancelled        # was in flight behind the target of a CancelRequest, which may hit it
        int repeated                 # how often it was run again, its statement having been stale
        bint counted                 # among those that were ever queued
        double sent_at               # when it was written
        double asked_at              # when its caller asked, in seconds
        public object observer       # shared(request, timeout, error): is told that it has ended; None if nobody is
        object timeout               # seconds that a pool's caller waits; None for no limit
        Request repetition           # asks the same on another connection
        long within                  # the number of the block that it was queued in (commands); 0 for none
        Py_ssize_t block             # the transaction block that it was in when the connection ended; 0 for none
        bint controls                # begins or ends a transaction block; known once the connection has ended
        bint moves_search_path       # may change the search_path (search_path)
        bint awaits_search_path      # its statement is found once the search_path is known
        public bint pinned           # another host must not answer it, only other connections of its pool may
        bint timed_out               # its caller has given up because its time limit was over
        int stage
        readonly object error
        readonly str status          # the last command tag
        Ahead ahead                  # the commands that it has taken along; None for none
        bytes urgent                 # to be sent at once, ahead of everything queued
        Statement prepares           # what it makes ready for others, which wait for that; None for users' requests

    cdef int encode(self, WriteBuffer out) except -1
    cdef bytes more(self, WriteBuffer out)
    cdef bint stalls(self) except -1
    cdef int receive(self, char kind, const char *data, Py_ssize_t size) except -1
    cdef int finished(self) except -1
    cdef str first_tag(self)
    cdef object outcome(self)
    cdef int settle(self) except -1
    cdef int forget_deadline(self) except -1
    cdef int fail(self, object error) except -1
    cdef bint runs_text(self) except -1
    cdef bint not_bound(self) except -1
    cdef bint is_unfinished(self) except -1
    cdef bint only_reads(self) except -1
    cdef bint can_encode_again(self) except -1
    cdef int renew(self) except -1
    cdef bint repeatable(self) except -1
    cdef bint rebindable(self) except -1
    cdef bint session_safe(self) except -1
    cdef bytes withdrawal(self, WriteBuffer out)
    cdef bint is_full(self) noexcept
    cdef int unexpected(self, char kind) except -1
    cdef str text_in_question(self)


cdef class Command(Request):
    cdef:
        object begins                # the Block that it begins; None for SAVEPOINT and RELEASE
        bint alone                   # the block is one request, and its COMMIT is queued right behind that
        readonly bint is_refused     # the server has refused it, or one ahead of it

    cdef int report(self, object error) except -1

cdef class Ahead:
    cdef:
        list commands
        Py_ssize_t count
        Py_ssize_t answered          # so many of them are complete
        object error                 # with which the server has refused the next one
        object block                 # that one of them begins; None
        bint alone                   # the request is the whole block

    cdef int add(self, Command command) except -1
    cdef bytes message(self)
    cdef int receive(self, char kind, const char *data, Py_ssize_t size) except -1
    cdef int refuse(self, object error) except -1
    cdef int settle(self, object error) except -1

cdef class Opening(Request):
    cdef Request follower            # waits until the commands were answered


cdef class Prepare(Request):
    cdef:
        tuple parameter_oids
        list columns

cdef class ExtendedQuery(Request):
    cdef:
        readonly Statement statement
        Plan plan                    # it was bound with this one
        RowPlan row_plan             # and reads its rows by this one
        object refusal               # the ArgumentError for which the statement is described once more
        bint describing              # the columns are to be described once more, ahead of the rows
        object record_class
        list rows
        object row                   # the first one, if no more are wanted

    cdef int start(self, Plan plan) except -1
    cdef Plan plan_of_columns(self, Plan plan)
    cdef int described(self, char kind, const char *data, Py_ssize_t size) except -1
    cdef bint is_bound(self) except -1
    cdef Grouping grouping(self) noexcept
    cdef int take(self, object made) except -1
    cdef int take_last(self) except -1

cdef class Query(ExtendedQuery):
    cdef:
        object args
        Result kind
        int limit
        object column
        bytes portal
        Query opener                 # bound the portal; None if this request binds it
        readonly bint suspended      # the portal has more rows
        list late                    # rows that cannot be read before types are looked up; None for none
        object reason                # why they cannot
        set asked                    # OIDs that were looked up for them
        FirstRun first               # it prepares its statement itself; None if not
        readonly bint is_repetition  # asks once more, on another connection, for what is stuck behind others
        Query original               # gets the outcome of a repetition, unless it has one of its own

    cdef int row_limit(self) noexcept
    cdef int encode_first(self, WriteBuffer out) except -1
    cdef int described_first(self) except -1
    cdef bint read_first(self, Plan plan) except -1
    cdef int read_late(self) except -1
    cdef int read_late_groups(self, RowPlan plan) except -1
    cdef int give_up_late(self, object cause) except -1
    cdef Query again(self)

cdef inline int take_row(Query request, const char *data, Py_ssize_t size) except -1:
    """Read one more row of the result, as a Query or a Group does for each DataRow."""
    cdef object made
    if request.kind == ROWS or request.kind == ARROW:
        if request.rows is None:
            request.rows = []
        made = request.row_plan.row(data, size)
        if made is not HELD:
            request.rows.append(made)
    elif request.row is None:
        made = request.row_plan.row(data, size)
        if made is not HELD:
            request.row = made
    elif request.row_plan.grouped:
        # It raises an error if rows of the first object come back.
        request.row_plan.row(data, size)
    return 0


cpdef Query repetition_of(Query original)
cdef bint takes_copy(Request request, char kind) except -1
cdef bint classify_copy(Statement statement) except -1

cdef class UnpreparedQuery(Request):
    cdef:
        bint renames                 # may give types or attributes other names

cdef class SimpleQuery(Request):
    cdef:
        str first_status             # the tag of its first command, if that returns no rows
        bint has_ended               # a command was answered by COMMIT or ROLLBACK, the latter perhaps to a savepoint
        bint deallocates             # has the server forget all prepared statements
        bint renames                 # may give types or attributes other names

cdef class Closing(Request):
    cdef:
        str what                     # S statements, P portals
        list names
