"""The requests of fetch_each() and its kin on the connections of a pool."""

cimport cython

from headrace._io.each_sender cimport EachSender
from headrace._core.pipeline.requests cimport FIRST_ROW, Query
from headrace.pool.dispatcher cimport Dispatcher, QueryProfile

from headrace._io.each_sender import SETTINGS_QUERY
from headrace._core.rows.record import Record

# Requests of one element that may be under way for each connection, if they do not travel in groups: the callers of the
# pool's other methods wait behind them.
cdef Py_ssize_t DEPTH = 50
# As many may be under way even if they take long. One of them is sent, so that a reply finds the next one.
cdef Py_ssize_t LEAST_DEPTH = 4


@cython.final
cdef class PoolSender(EachSender):
    """Sends the requests of one iteration to the connections of a pool, as its scheduler decides.

    Plain reads are sent behind others. Each other request is sent on a connection with nothing in flight.
    """

    def __init__(self, Dispatcher dispatcher not None, str query not None):
        self.dispatcher = dispatcher
        self.loop = dispatcher.loop
        self.profile = dispatcher.profile(query)
        self.cost = self.profile.cost
        self.reads = self.profile.traits.plain_read and not self.profile.traits.reads_session
        self.width = dispatcher.scheduler.limits.max_size
        self.budget = dispatcher.scheduler.budget
        self.shared = True

    cdef Py_ssize_t depth(self) noexcept:
        """Return how many requests of one element may be under way for each connection.

        Results come in order, so nothing more is sent while the first one is late. The other connections go on as long
        as requests wait for them. Writes are sent one at a time, and other callers' writes wait behind all of them. So
        there may be as many as are expected to take no longer than the budget.
        """
        cdef double seconds = self.cost.mean
        if self.reads or self.cost.measured and seconds * DEPTH <= self.budget:
            return DEPTH
        if self.cost.measured == 0 or seconds * LEAST_DEPTH >= self.budget:
            return LEAST_DEPTH
        return <Py_ssize_t>(self.budget / seconds)

    cdef int check(self) except -1:
        if not self.dispatcher.running:
            self.dispatcher.maintenance.check()
        return 0

    cdef int explain(self, Query request, object error) except -1:
        if request.waits:
            self.dispatcher.maintenance.explain(error)
        return 0

    cdef int send(self, Query request) except -1:
        request.pipelined = self.profile.pipelined and self.reads
        request.movable = self.profile.movable
        self.dispatcher.submit(request, None)
        return 0

    cdef Query settings(self):
        cdef Query request = Query(None, SETTINGS_QUERY, (), FIRST_ROW, 1, 0, Record, True)
        request.cost = self.dispatcher.profile(SETTINGS_QUERY).cost
        # These settings are the same on all connections, so it may be asked again like the elements.
        self.send(request)
        return request
