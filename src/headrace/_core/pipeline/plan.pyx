"""The plan of a statement: which codecs write its parameters and read its columns.

A plan never changes. A request keeps the one it was bound with until its last row: when a codec is set, or the
statement prepared again, while its reply is under way, that makes another plan, and the formats asked for in Bind stay
those in which the columns are read. How rows become objects is in rowplan.

Source: PostgreSQL documentation, "Message Formats" (protocol-message-formats): Bind.
"""

from cpython.tuple cimport PyTuple_GET_ITEM
from libc.stdint cimport uint32_t
from libc.string cimport memcmp

from headrace._core.wire.buffer cimport (
    begin_message, end_message, put_bytes, put_cstring, put_i16, put_i32,
)
from headrace._core.codecs.base cimport Codec
from headrace._core.codecs.composite cimport accepted
from headrace._core.codecs.format_variants cimport DIGITS, binary_variant, text_variant
from headrace._core.codecs.text cimport argument_error, text_fallback
from headrace._core.wire.frontend cimport MAX_MESSAGE
from headrace._core.rows.row_plan cimport Columns, RowPlan, plan_rows

from headrace._core.rows.record import Record
from headrace._sql.hints.arguments import Parameter, argument_hint, count_hint
from headrace.exceptions import InterfaceError
from headrace.exceptions._values import shown

# A statement is asked for its rows as one class or a few. More are a program that makes classes as it goes: these must
# not be kept for ever.
cdef Py_ssize_t MAX_ROW_PLANS = 16


cdef class Plan:
    """The codecs of one statement's parameters and columns, and the parts of Bind that are alike for all executions."""

    cdef int check_count(self, object args, Py_ssize_t element, str query) except -1:
        if len(args) != len(self.parameter_codecs):
            raise wrong_count(len(self.parameter_codecs), args, element, query)
        return 0

    cdef int put_bind(self, WriteBuffer out, bytes portal, object args, Py_ssize_t element, str query) except -1:
        """Write Bind for as many arguments as there are parameters.

        `element` is the position in executemany()'s sequence, or -1. On an error part of the message is left in `out`.
        """
        cdef:
            Py_ssize_t i = -1
            Py_ssize_t mark = begin_message(out, b'B')
            Codec codec
            object value = None
        put_cstring(out, portal)
        put_bytes(out, <const char *>self.bind_head, len(self.bind_head))
        try:
            for i in range(len(self.parameter_codecs)):
                value = args[i]
                if value is None:
                    put_i32(out, -1)
                else:
                    codec = <Codec>PyTuple_GET_ITEM(self.parameter_codecs, i)
                    codec.encode(codec, out, value)
                    # The formats of the columns, at most 1,664, follow the arguments and must fit in too.
                    if out.length - mark > MAX_MESSAGE - 4096:
                        raise InterfaceError(
                            f'the arguments take more than {MAX_MESSAGE} bytes, which no server takes in one message',
                            hint='Split the values, or load them with copy_records_to_table() or copy_to_table().')
            put_bytes(out, <const char *>self.bind_tail, len(self.bind_tail))
            end_message(out, mark)
        except MemoryError:
            raise
        except InterfaceError as error:
            if out.length - mark > MAX_MESSAGE - 4096:
                raise
            raise error.with_msg(f'query argument ${i + 1}: {error.args[0]}') from error.__cause__
        except Exception as error:
            raise bad_argument(self.parameter_codecs, i, value, element, query, error) from error
        return 0

    cdef bint confirms(self, const char *data, Py_ssize_t size) except -1:
        """Return whether this RowDescription is, byte for byte, one that the plan is known to fit."""
        return self.confirmed is not None and len(self.confirmed) == size \
            and memcmp(<const char *>self.confirmed, data, <size_t>size) == 0

    cdef Plan for_columns(self, list columns, TypeMap types, TypeMap results):
        """The plan for rows that are under way and have these columns, bound by this plan.

        It is this one where they have not changed, and None where their values cannot be read: of types that nothing is
        known of, or in other formats than their codecs read.
        """
        cdef:
            Plan plan
            Codec codec
        if [(column[0], column[3]) for column in columns] == [(column[0], column[3]) for column in self.description]:
            return self
        if results.missing([column[3] for column in columns]):
            return None
        if results.asks_again() and results.foreign([column[3] for column in columns]):
            # Another backend has answered than the one that its types were looked up on.
            return None
        plan = make_plan(self.name, self.parameter_oids, columns, types, results)
        for codec, column in zip(plan.column_codecs, columns):
            if codec.format != column[6]:
                return None
        return plan

    cdef RowPlan rows_as(self, object row_class):
        """How rows become `row_class`: Record, a subclass of it, or a RowShape. Worked out once for each.

        Raises InterfaceError where a shape does not fit the columns.
        """
        cdef RowPlan rows
        if row_class is Record:
            return self.record_rows
        rows = <RowPlan>self.row_plans.get(row_class)
        if rows is None:
            rows = plan_rows(row_class, self.columns)
            if len(self.row_plans) >= MAX_ROW_PLANS:
                self.row_plans.clear()
            self.row_plans[row_class] = rows
        return rows


cdef Plan make_plan(bytes name, tuple parameter_oids, list columns, TypeMap types, TypeMap results):
    """Choose the codecs for a statement of these parameters and columns (as in RowDescription).

    `types` has those of the parameters, `results` those of the columns.
    """
    cdef:
        Plan plan = Plan.__new__(Plan)
        WriteBuffer out = WriteBuffer()
        list inputs, outputs
    # Read first: a codec that is set while those below are found makes this plan an outdated one.
    plan.version = types.version
    inputs = [codec_of(types, oid) for oid in parameter_oids]
    outputs = [codec_of(results, column[3]) for column in columns]
    plan.name = name
    plan.parameter_oids = parameter_oids
    plan.description = columns
    plan.parameter_codecs = tuple(inputs)
    plan.column_codecs = tuple(outputs)
    plan.columns = Columns(tuple([column[0] for column in columns]), plan.column_codecs)
    plan.record_rows = plan_rows(Record, plan.columns)
    plan.row_plans = {}

    put_cstring(out, name)
    put_formats(out, inputs)
    put_i16(out, <short>len(inputs))
    plan.bind_head = out.take()
    put_formats(out, outputs)
    plan.bind_tail = out.take()
    return plan


cdef int bind_alike(Plan plan, Plan other) except -1:
    """Have a new plan bind the same statement as another, with the same parameters. How its rows are read is its own."""
    plan.name = other.name
    plan.version = other.version
    plan.parameter_oids = other.parameter_oids
    plan.parameter_codecs = other.parameter_codecs
    plan.bind_head = other.bind_head
    return 0


cdef RowPlan plan_again(Plan former, TypeMap types, object row_class):
    """How rows become `row_class` that were asked for by an earlier plan: in its formats, by the codecs of now.

    Raises InterfaceError where there is no codec in such a format any more.
    """
    cdef:
        Codec codec, found
        list codecs = []
    for codec in former.column_codecs:
        found = codec_of(types, codec.oid)
        if found.format != codec.format:
            found = binary_variant(found, DIGITS) if codec.format == 1 else text_variant(found)
            if found is None:
                raise InterfaceError(f'values of type {codec.name} came in a format that nothing is known to read')
        codecs.append(found)
    return plan_rows(row_class, Columns(former.columns.names, tuple(codecs)))


cdef Codec codec_of(TypeMap types, uint32_t oid):
    cdef Codec codec = types.find(oid)
    return codec if codec is not None else text_fallback(oid, f'type with OID {oid}', '')


cdef int put_formats(WriteBuffer out, list codecs) except -1:
    """The format codes of parameters or columns: one where all are alike."""
    cdef Codec codec
    cdef set formats = {(<Codec>codec).format for codec in codecs}
    if not formats:
        put_i16(out, 0)
    elif len(formats) == 1:
        put_i16(out, 1)
        put_i16(out, <short>(<int>formats.pop()))
    else:
        put_i16(out, <short>len(codecs))
        for codec in codecs:
            put_i16(out, <short>codec.format)
    return 0


cdef object wrong_count(Py_ssize_t expected, object args, Py_ssize_t element, str query):
    """The error for a number of arguments that is not that of the parameters."""
    cdef Py_ssize_t given = len(args)
    where = f' in element #{element} of executemany() sequence' if element >= 0 else ''
    return InterfaceError(
        f'the server expects {expected} argument{"" if expected == 1 else "s"} for this query, '
        f'{given} {"was" if given == 1 else "were"} passed{where}', hint=count_hint(query, expected, args))


cdef object bad_argument(tuple codecs, Py_ssize_t i, object value, Py_ssize_t element, str query, object error):
    """The error for an argument that its codec does not take."""
    cdef Codec codec = codecs[i]
    where = f' in element #{element} of executemany() sequence' if element >= 0 else ''
    kind = f'{codec.name} parameter, {type(value).__name__} given'
    hint = argument_hint(query, Parameter(i + 1, codec.name, codec.schema, accepted(codec)), value)
    return argument_error(error)(
        f'invalid input for query argument ${i + 1}{where}: {shown(value)} ({error}) [{kind}]', hint=hint)
