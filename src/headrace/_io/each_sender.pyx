"""How the requests of fetch_each() and its kin reach the server: the interface, and its form on one connection."""

cimport cython

from headrace._core.pipeline.requests cimport FIRST_ROW, Query
from headrace._core.pipeline.workload cimport Cost, boot_seconds
from headrace._io.driver cimport Driver

from headrace._core.rows.record import Record
from headrace._sql.classify import classify

# Expected seconds of work in one group: a cancellation of one element takes those of its group along.
cdef double BUDGET = 0.005

SETTINGS_QUERY = (
    "SELECT pg_catalog.current_setting('default_transaction_isolation'), "
    "pg_catalog.current_setting('transaction_timeout', true)")


cdef class EachSender:
    """How the requests of one iteration reach the server: on one connection, or on those of a pool."""

    cdef int send(self, Query request) except -1:
        """Send a request; raises if no more can be sent. An argument that cannot be encoded fails the request alone."""
        raise NotImplementedError

    cdef Py_ssize_t depth(self) noexcept:
        """Return how many requests of one element may be under way for each connection."""
        return 1

    cdef Query settings(self):
        """Send the query for the settings that decide about groups; returns the request."""
        raise NotImplementedError

    cdef bint in_block(self) except -1:
        """Return whether a transaction block is open: all elements are in one transaction anyway."""
        return False

    cdef int check(self) except -1:
        """Raise InterfaceError if nothing can be sent."""
        return 0

    cdef int explain(self, Query request, object error) except -1:
        """Add to a TimeoutError why there is no outcome of the request."""
        return 0


@cython.final
cdef class ConnectionSender(EachSender):
    """Sends the requests of one iteration on a connection.

    Plain reads are pipelined. Other requests are sent one after another, each after the reply to the one before, unless
    `pipeline_writes` is set. `still_valid()` raises InterfaceError once the connection is no longer the caller's.
    """

    def __init__(self, Driver driver not None, str query not None, still_valid, *, bint pipeline_writes=False):
        self.driver = driver
        self.still_valid = still_valid
        self.loop = driver.loop
        self.cost = Cost()
        self.reads = classify(query).plain_read
        self.width = 1
        self.max_pipeline = driver.session.sent.limit if self.reads or pipeline_writes else 1
        self.budget = BUDGET

    cdef Py_ssize_t depth(self) noexcept:
        return self.max_pipeline

    cdef int check(self) except -1:
        self.still_valid()
        self.driver._check()
        return self.driver.session.check_open()

    cdef int send(self, Query request) except -1:
        cdef Driver driver = self.driver
        self.check()
        request.wakeup_batch = driver.wakeup_batch
        request.owner = driver
        request.observer = driver.observer
        request.asked_at = boot_seconds()
        try:
            driver.session.submit(request)
        except Exception as error:
            request.fail(error)
            return 0
        driver.transport.flush_soon()
        return 0

    cdef Query settings(self):
        cdef Query request = Query(None, SETTINGS_QUERY, (), FIRST_ROW, 1, 0, Record)
        self.send(request)
        return request

    cdef bint in_block(self) except -1:
        return self.driver.session.commands.in_block()
