# The statements of one session, and the requests that wait for them.

from headrace._core.codecs.typemap cimport TypeMap
from headrace._core.pipeline.send_queue cimport SendQueue
from headrace._core.pipeline.first_run cimport FirstRun
from headrace._core.pipeline.plan cimport Plan
from headrace._core.pipeline.requests cimport ExtendedQuery, Query, Request
from headrace._core.pipeline.search_path cimport SearchPath
from headrace._core.pipeline.statement_cache cimport Statement, StatementCache


cdef class Statements:
    cdef:
        TypeMap types
        StatementCache cache
        SearchPath search_path
        SendQueue send_queue
        readonly Py_ssize_t parked        # shared requests that wait for their statements, outside the queues
        readonly long long prepared       # how many were prepared, for statistics
        readonly bint unnamed             # the server is asked to keep none: a pooler may switch backends
        set described_first               # texts whose first run had to be executed once more
        list elsewhere                    # statements that wait for types another connection asks for
        object failure                    # why nothing is prepared or closed any more, or None

    cdef Statement find(self, str query)
    cdef int find_later(self, ExtendedQuery request) except -1
    cdef int find_waiting(self) except -1
    cdef int find_in_place(self, ExtendedQuery request) except -1
    cdef int note_effect(self, ExtendedQuery request) except -1
    cdef int see_prepared(self, Statement statement, Request before) except -1
    cdef bint is_ahead(self, Request one, Request other) except -1
    cdef int bind(self, ExtendedQuery request) except -1
    cdef bint run_first(self, ExtendedQuery request) except -1
    cdef FirstRun first_run_of(self, Query request)
    cdef bint is_outside_block(self) except -1
    cdef int take_off(self, Query request) except -1
    cdef bint goes_on(self, Query request, object resume) except -1
    cdef int describe_first(self, Statement statement) except -1
    cdef bint runs_again(self, Query request) except -1
    cdef bint reads_first(self, Query request, Statement statement) except -1
    cdef bint describe_again(self, ExtendedQuery request, object error, Request before) except -1
    cdef int compare(self, Statement probe, bint same, bint accepted) except -1
    cdef int park(self, ExtendedQuery request) except -1
    cdef list no_longer_waiting(self, Statement statement)
    cdef Request first_waiting(self, Statement statement)
    cdef int let_go(self, Statement statement) except -1
    cdef int use_no_names(self) except -1
    cdef int renew(self) except -1
    cdef int close_name(self, Statement statement) except -1
    cdef int begin_prepare(self, Statement statement, Request before) except -1
    cdef int hurry(self, Statement statement) except -1
    cdef int prepared_with(self, Request request, bint idle, bint cancelled, object resume) except -1
    cdef int go_on(self, Statement statement, object resume, Plan plan=*) except -1
    cdef int identify(self, Statement statement) except -1
    cdef int look_up(self, Statement statement, list missing, object resume) except -1
    cdef int await_others(self, Statement statement, object resume) except -1
    cdef int looked_up(self, Statement statement, object resume) except -1
    cdef int fail_elsewhere(self, object reason) except -1
    cdef int doubt(self, Statement statement) except -1
    cdef int read_late(self, Query request) except -1
    cdef int ask(self, list oids, Query decodes) except -1
    cdef int is_ready(self, Statement statement, Plan plan=*) except -1
    cdef int has_failed(self, Statement statement, object error, bint unseen) except -1
    cdef int dropped(self, ExtendedQuery request) except -1
    cdef int fail_waiting(self, Statement statement, object reason) except -1
