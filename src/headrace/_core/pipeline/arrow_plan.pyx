"""Plans of statements whose rows become columns in Arrow's format.

Such a plan binds the same statement as any other. It asks for the columns in the formats that columns in Arrow's format are
made of, and its row plan is a RowBuilder, which returns a record batch with the row that completes it. So every request
that reads rows can read batches instead. The statement has to be described before, so there is no first run: executed once
more, a large result would cost twice as much.
"""

from headrace._core.arrow.result cimport ArrowShape, RowBuilder, Schema
from headrace._core.codecs.typemap cimport TypeMap
from headrace._core.pipeline.plan cimport bind_alike, make_plan
from headrace._core.rows.row_plan cimport RowPlan
from headrace._core.wire.buffer cimport WriteBuffer, put_i16

from headrace._core.arrow.schema import columns_of

# A statement is asked for its rows in one way or a few.
cdef Py_ssize_t MOST_PLANS = 16


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
        return RowBuilder(self.schema, most_rows=(<ArrowShape?>row_class).batch_rows)


cdef ArrowPlan arrow_plan(Plan plan, ArrowShape shape, TypeMap results):
    """Return the plan by which the same statement gives columns. It is made once for each schema."""
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
    bind_alike(made, plan)
    made.description = plan.description
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
