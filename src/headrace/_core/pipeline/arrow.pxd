# Requests whose rows become columns in Arrow's format.

from libc.stdint cimport int64_t

from headrace._core.arrow.result cimport ArrowShape, RowBuilder, Schema
from headrace._core.pipeline.plan cimport Plan
from headrace._core.pipeline.requests cimport Query


cdef class ArrowPlan(Plan):
    cdef:
        Schema schema
        ArrowShape shape


cdef class ArrowQuery(Query):
    cdef:
        RowBuilder builder
        int64_t fetched                  # rows that were fetched from the portal that it has opened

    cdef int begin(self, ArrowPlan plan) except -1
    cdef int fails(self, object error) except -1


cdef class ArrowStream(ArrowQuery):
    cdef:
        int64_t batch_rows
        readonly object unreadable       # the error that reading a row has failed with, or None
        public object task               # that reads it: what it asks of the connection meanwhile could never be answered
        public object arrival            # a future: its result is set when there is something to take, or the end

