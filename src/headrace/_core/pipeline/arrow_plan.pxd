# Plans of statements whose rows become columns in Arrow's format.

from headrace._core.arrow.result cimport ArrowShape, Schema
from headrace._core.codecs.typemap cimport TypeMap
from headrace._core.pipeline.plan cimport Plan


cdef class ArrowPlan(Plan):
    cdef:
        Schema schema
        ArrowShape shape


cdef ArrowPlan arrow_plan(Plan plan, ArrowShape shape, TypeMap results)
