"""The search_path that the texts of a session are read under.

One text may mean different tables and types under different values, so each value has statements of its own in the cache.
PostgreSQL reports a new value right before ReadyForQuery, from version 18 on. While a request that may change the value is
pending, the value is unknown to the requests behind it: these wait for their statements until it is done.

The words of a text show whether it may change the value. A function of the program may do so unseen; then a request that
is already queued behind it takes the statement of the former value.

Source: PostgreSQL documentation, "Asynchronous Operations" (protocol-async).
"""

cimport cython

from headrace._core.pipeline.requests cimport DONE, WAITING
from headrace._core.pipeline.statement_cache cimport KEEPS, MOVES, RESETS, UNDOES

from headrace._sql.search_path import may_reset_search_path, may_set_search_path, may_undo_search_path


@cython.final
cdef class SearchPath:
    """The reported value, the requests that may change it, and those that wait for it."""

    def __cinit__(self, StatementCache cache not None):
        self.cache = cache
        self.line = []

    cdef int report(self, str value, bint starting) except -1:
        """The server reports a value; `starting`: the first one of the session."""
        if starting:
            self.first = value
        self.is_reported = True
        self.names_catalogue = 'pg_catalog' in value or 'pg_temp' in value
        self.moved_in_block = True
        self.cache.search_path = None if value == self.first else value
        self.cache.newest = None
        return 0

    cdef SearchPathEffect effect_of(self, str query) except *:
        if may_set_search_path(query):
            return MOVES
        if may_reset_search_path(query):
            return RESETS
        return UNDOES if may_undo_search_path(query) else KEEPS

    cdef int asked(self, Request request, SearchPathEffect effect) except -1:
        """A request with such an effect was queued."""
        if effect == KEEPS:
            return 0
        if effect != MOVES and not self.line and not self.moved_in_block \
                and (effect == UNDOES or self.cache.search_path is None):
            return 0
        request.moves_search_path = True
        if not request.awaits_search_path:
            self.line.append(request)
        return 0

    cdef int asked_script(self, Request request) except -1:
        """A simple query was queued.

        The same text as last time leaves the value where it is, if it is still what the text has led to. So what follows
        the reset of a pool need not wait.
        """
        if not self.line and not self.moved_in_block and self.settled_by == request.query \
                and self.settled_at == self.cache.search_path:
            return 0
        if request.query != self.harmless:
            if may_set_search_path(request.query):
                return self.asked(request, MOVES)
            # The reset of a pool is the same text each time.
            self.harmless = request.query
        if self.line or self.moved_in_block or self.cache.search_path is not None:
            return self.asked(request, self.effect_of(request.query))
        return 0

    cdef int answered(self, Request request, bint idle) except -1:
        """ReadyForQuery came for a request, after the value that it has led to was reported."""
        if request.moves_search_path and idle and request.error is None:
            self.settled_by = request.query
            self.settled_at = self.cache.search_path
        if idle:
            self.moved_in_block = False
        return 0

    cdef int withdrawn(self, Request request) except -1:
        """A request that was not sent goes to another connection."""
        if request.moves_search_path or request.awaits_search_path:
            request.moves_search_path = request.awaits_search_path = False
            if request in self.line:
                self.line.remove(request)
        return 0

    cdef ExtendedQuery next_to_find(self):
        """Take out the next request whose statement can be found now; None if there is none."""
        cdef Request request
        while self.line:
            request = <Request>self.line[0]
            if request.state == DONE or not request.moves_search_path and not request.awaits_search_path:
                del self.line[0]
                continue
            if not request.awaits_search_path:
                return None
            if not request.moves_search_path:
                del self.line[0]
            request.awaits_search_path = False
            return <ExtendedQuery>request
        return None
