"""The plan of a statement: which codecs write its parameters and read its columns.

A plan never changes. A request keeps the one it was bound with until its last row: when a codec is set, or the
statement prepared again, while its reply is under way, that makes another plan, and the formats asked for in Bind stay
those in which the columns are read.

Source: PostgreSQL documentation, "Message Formats" (protocol-message-formats): Bind, DataRow.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM
from libc.stdint cimport int32_t, uint32_t
from libc.stdlib cimport free, malloc

from headrace._core.buffer cimport (
    begin_message, end_message, load_i32, load_u16, put_bytes, put_cstring, put_i16, put_i32,
)
from headrace._core.codecs.base cimport Codec
from headrace._core.codecs.text cimport text_fallback
from headrace._core.frontend cimport MAX_MESSAGE
from headrace._core.record cimport describe, record_new, record_set, record_track

from headrace.errors import ArgumentError, InterfaceError, ProtocolError, argument_hint

# Decoders hand over their reference; the row steals it.
ctypedef PyObject *(*raw_decode_t)(PyObject *codec, const char *data, Py_ssize_t size) except NULL

cdef extern from "Python.h":
    PyObject *PyTuple_GET_ITEM_RAW "PyTuple_GET_ITEM" (object tuple, Py_ssize_t i)


cdef class Plan:
    """The codecs of one statement's parameters and columns, and the parts of Bind that are alike for all executions."""

    def __dealloc__(self):
        free(self.decoders)

    cdef int check_count(self, Py_ssize_t given, Py_ssize_t element) except -1:
        cdef Py_ssize_t expected = len(self.parameter_codecs)
        if given != expected:
            raise InterfaceError(wrong_count(expected, given, element))
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
                    # What follows the arguments, the formats of at most 1,664 columns, has to fit in too.
                    if out.length - mark > MAX_MESSAGE - 4096:
                        raise InterfaceError(
                            f'the arguments take more than {MAX_MESSAGE} bytes, which no server takes in one message',
                            hint='Split the values, or load them with copy_records_to_table() or copy_to_table().')
            put_bytes(out, <const char *>self.bind_tail, len(self.bind_tail))
            end_message(out, mark)
        except (InterfaceError, MemoryError):
            raise
        except Exception as error:
            raise bad_argument(self.parameter_codecs, i, value, element, query, error) from error
        return 0

    cdef object row(self, const char *data, Py_ssize_t size, object record_class):
        """Decode one DataRow."""
        cdef:
            const char *end = data + size
            Py_ssize_t i
            int32_t length
            object record
            PyObject *value
            tuple codecs = self.column_codecs
        if size < 2 or load_u16(data) != self.n_columns:
            raise ProtocolError(f'DataRow from the server with {load_u16(data) if size >= 2 else "no"} fields: '
                                f'RowDescription had {self.n_columns}')
        data += 2
        record = record_new(record_class, self.desc, self.n_columns)
        for i in range(self.n_columns):
            if end - data < 4:
                raise ProtocolError('DataRow from the server is cut short')
            length = load_i32(data)
            data += 4
            if length < 0:
                if length != -1:
                    raise ProtocolError(f'DataRow from the server with a field of {length} bytes')
                Py_INCREF(None)
                record_set(record, i, <PyObject *>None)
            else:
                if end - data < length:
                    raise ProtocolError(f'DataRow from the server with a field of {length} bytes where '
                                        f'{end - data} are left')
                value = (<raw_decode_t>self.decoders[i])(PyTuple_GET_ITEM_RAW(codecs, i), data, length)
                record_set(record, i, value)
                data += length
        if data != end:
            raise ProtocolError(f'DataRow from the server has {end - data} bytes too many')
        if self.tracked:
            record_track(record)
        return record


cdef Plan make_plan(bytes name, tuple parameter_oids, list columns, TypeMap types):
    """Choose the codecs for a statement of these parameters and columns (as in RowDescription)."""
    cdef:
        Plan plan = Plan.__new__(Plan)
        Py_ssize_t i
        Codec codec
        WriteBuffer out = WriteBuffer()
        list inputs, outputs
    # Read first: a codec that is set while those below are found makes this plan an outdated one.
    plan.version = types.version
    inputs = [codec_of(types, oid) for oid in parameter_oids]
    outputs = [codec_of(types, column[3]) for column in columns]
    plan.name = name
    plan.parameter_codecs = tuple(inputs)
    plan.column_codecs = tuple(outputs)
    plan.n_columns = len(outputs)
    plan.decoders = <decode_t *>malloc(<size_t>(max(plan.n_columns, 1) * sizeof(decode_t)))
    if plan.decoders == NULL:
        raise MemoryError()
    for i in range(plan.n_columns):
        codec = outputs[i]
        plan.decoders[i] = codec.decode
        plan.tracked = plan.tracked or codec.kind != 'scalar'
    plan.desc = describe(tuple([column[0] for column in columns]))

    put_cstring(out, name)
    put_formats(out, inputs)
    put_i16(out, <short>len(inputs))
    plan.bind_head = out.take()
    put_formats(out, outputs)
    plan.bind_tail = out.take()
    return plan


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


cdef str wrong_count(Py_ssize_t expected, Py_ssize_t given, Py_ssize_t element):
    where = f' in element #{element} of executemany() sequence' if element >= 0 else ''
    return (f'the server expects {expected} argument{"" if expected == 1 else "s"} for this query, '
            f'{given} {"was" if given == 1 else "were"} passed{where}; '
            'HINT: pass one argument for each of $1, $2, ... in the query')


cdef object bad_argument(tuple codecs, Py_ssize_t i, object value, Py_ssize_t element, str query, object error):
    """The error for an argument that its codec does not take."""
    cdef:
        Codec codec = codecs[i]
        str shown
    try:
        # Of a long text or bytes only the start is shown: its repr would be four times as long.
        shown = repr(value[:200] if isinstance(value, (str, bytes, bytearray)) else value)
    except Exception:
        shown = f'<{type(value).__name__}>'
    if len(shown) > 200:
        shown = shown[:197] + '...'
    where = f' in element #{element} of executemany() sequence' if element >= 0 else ''
    kind = f'{codec.name} parameter, {type(value).__name__} given'
    hint = argument_hint(query, i + 1, codec.name, value)
    if hint is None:
        hint = (f'Pass {codec.python}, or cast the parameter in the query: ${i + 1}::text.'
                if codec.name != 'text' else 'Pass str, or cast the parameter to the type meant: '
                f'${i + 1}::int for instance.')
    return ArgumentError(f'invalid input for query argument ${i + 1}{where}: {shown} ({error}) [{kind}]', hint=hint)
