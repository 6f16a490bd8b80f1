# The search_path that the texts of a session are read under.

from headrace._core.pipeline.requests cimport ExtendedQuery, Request
from headrace._core.pipeline.statement_cache cimport SearchPathEffect, StatementCache


cdef class SearchPath:
    cdef:
        StatementCache cache
        str first                    # the value that the session began with; None if that was not reported
        bint is_reported             # the server reports each new value
        bint names_catalogue         # it may have other schemas ahead of pg_catalog
        bint moved_in_block          # a new value was reported since the session was last outside of transactions
        list line                    # requests that may change it, and behind the first those that wait for its value
        str settled_by               # the last text that may have changed it outside of transactions
        str settled_at               # the value after that, as the cache has it
        str harmless                 # the last script that does not name it

    cdef int report(self, str value, bint starting) except -1
    cdef SearchPathEffect effect_of(self, str query) except *
    cdef int asked(self, Request request, SearchPathEffect effect) except -1
    cdef int asked_script(self, Request request) except -1
    cdef int answered(self, Request request, bint idle) except -1
    cdef int withdrawn(self, Request request) except -1
    cdef ExtendedQuery next_to_find(self)
