"""A statement known to the server, with the plans made once for it; and the cache of them.

The life of a statement: NEW -> PREPARING (Parse and Describe are under way) -> READY. The plan says how each parameter
is written and each column read; it is made again only when the connection's codecs change. A statement that the server
no longer accepts goes back to NEW under another name: names are never reused, so a late reply cannot be taken for
another statement's.

Source: PostgreSQL documentation, "Extended Query" (protocol-flow-ext-query).
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM
from libc.stdlib cimport free, malloc
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from headrace._core.buffer cimport (
    begin_message, end_message, load_i32, load_u16, put_bytes, put_cstring, put_i16, put_i32,
)
from headrace._core.codecs.text cimport text_fallback
from headrace._core.frontend cimport put_parse
from headrace._core.record cimport describe, record_new, record_set, record_track

from headrace.errors import ArgumentError, InterfaceError, ProtocolError, argument_hint

cdef long names_given = 0

# Decoders hand over their reference; the row steals it.
ctypedef PyObject *(*raw_decode_t)(PyObject *codec, const char *data, Py_ssize_t size) except NULL


cdef bytes next_name():
    global names_given
    names_given += 1
    return b'headrace_%x' % names_given


cdef double monotonic() noexcept:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef class Statement:
    """One SQL text as the server knows it, and how its parameters and columns are coded."""

    def __cinit__(self, str query not None, TypeMap types not None, bint named, bytes name=None):
        self.query = query
        self.query_bytes = query.encode()
        if b'\0' in self.query_bytes:
            raise ValueError('the query must not contain a NUL character')
        self.types = types
        self.name = b'' if not named else name if name is not None else next_name()
        self.state = NEW
        self.waiting = []

    def __dealloc__(self):
        free(self.decoders)

    cdef bytes rename(self):
        """Forget the server's side after it refused the statement as stale; returns the name given up."""
        cdef bytes former = self.name
        if former:
            self.name = next_name()
        self.state = NEW
        return former

    cdef int described(self, tuple parameter_oids, list columns) except -1:
        """Take what ParameterDescription and RowDescription (None for NoData) said."""
        self.parameter_oids = parameter_oids
        self.returns_rows = columns is not None
        self.columns = columns if columns is not None else []
        self.generation += 1
        self.plan()
        self.state = READY
        return 0

    cdef int plan(self) except -1:
        """Choose the codecs, and prepare the parts of Bind that are alike for all executions."""
        cdef:
            Py_ssize_t i
            Codec codec
            WriteBuffer out = WriteBuffer()
            list inputs = [self._codec(oid) for oid in self.parameter_oids]
            list outputs = [self._codec(column[3]) for column in self.columns]
        self.parameter_codecs = tuple(inputs)
        self.column_codecs = tuple(outputs)
        self.n_columns = len(outputs)
        free(self.decoders)
        self.decoders = <decode_t *>malloc(<size_t>(max(self.n_columns, 1) * sizeof(decode_t)))
        if self.decoders == NULL:
            raise MemoryError()
        self.tracked = False
        for i in range(self.n_columns):
            codec = outputs[i]
            self.decoders[i] = codec.decode
            self.tracked = self.tracked or codec.kind != 'scalar'
        self.desc = describe(tuple([column[0] for column in self.columns]))

        put_cstring(out, self.name)
        put_formats(out, inputs)
        put_i16(out, <short>len(inputs))
        self.bind_head = out.take()
        put_formats(out, outputs)
        self.bind_tail = out.take()
        self.plan_version = self.types.version
        return 0

    cdef Codec _codec(self, uint32_t oid):
        cdef Codec codec = self.types.find(oid)
        return codec if codec is not None else text_fallback(oid, f'type with OID {oid}', '')

    cdef int put_parse(self, WriteBuffer out) except -1:
        return put_parse(out, self.name, self.query_bytes, ())

    cdef int put_bind(self, WriteBuffer out, bytes portal, object args, Py_ssize_t element) except -1:
        """Write Bind, after Parse where the statement is unnamed.

        `element` is the position in executemany()'s sequence, or -1. On an error nothing of this call is left in `out`.
        """
        cdef:
            Py_ssize_t count = len(self.parameter_codecs)
            Py_ssize_t start = out.length
            Py_ssize_t i = -1
            Py_ssize_t mark
            Codec codec
            object value
        if self.plan_version != self.types.version:
            self.plan()
        if len(args) != count:
            raise InterfaceError(wrong_count(count, len(args), element))
        if not self.name:
            self.put_parse(out)
        mark = begin_message(out, b'B')
        put_cstring(out, portal)
        put_bytes(out, <const char *>self.bind_head, len(self.bind_head))
        try:
            for i in range(count):
                value = args[i]
                if value is None:
                    put_i32(out, -1)
                else:
                    codec = <Codec>PyTuple_GET_ITEM(self.parameter_codecs, i)
                    codec.encode(codec, out, value)
            put_bytes(out, <const char *>self.bind_tail, len(self.bind_tail))
            end_message(out, mark)
        except BaseException as error:
            out.length = start
            if isinstance(error, Exception) and not isinstance(error, (InterfaceError, MemoryError)):
                raise self._bad_argument(i, value, element, error) from error
            raise
        return 0

    def _bad_argument(self, Py_ssize_t i, object value, Py_ssize_t element, object error):
        cdef:
            Codec codec = self.parameter_codecs[i]
            str shown
        try:
            shown = repr(value)
        except Exception:
            shown = f'<{type(value).__name__}>'
        if len(shown) > 200:
            shown = shown[:197] + '...'
        where = f' in element #{element} of executemany() sequence' if element >= 0 else ''
        kind = f'{codec.name} parameter, {type(value).__name__} given'
        hint = argument_hint(self.query, i + 1, codec.name, value)
        if hint is None:
            hint = (f'Pass {codec.python}, or cast the parameter in the query: ${i + 1}::text.'
                    if codec.name != 'text' else 'Pass str, or cast the parameter to the type meant: '
                    f'${i + 1}::int for instance.')
        return ArgumentError(f'invalid input for query argument ${i + 1}{where}: {shown} ({error}) [{kind}]', hint=hint)

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

    def parameter_types(self) -> tuple:
        """(oid, name, kind, schema) of each parameter."""
        return tuple([(oid, c.name, c.kind, c.schema)
                      for oid, c in zip(self.parameter_oids, self.parameter_codecs)])

    def column_types(self) -> tuple:
        """(column name, oid, type name, kind, schema) of each column."""
        return tuple([(column[0], column[3], c.name, c.kind, c.schema)
                      for column, c in zip(self.columns, self.column_codecs)])


cdef extern from "Python.h":
    PyObject *PyTuple_GET_ITEM_RAW "PyTuple_GET_ITEM" (object tuple, Py_ssize_t i)


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


cdef class StatementCache:
    """The statements of one connection by their text, least recently used out first.

    `size` 0 keeps none; `lifetime` (seconds, 0 for ever) counts from the preparation; texts longer than `max_length`
    characters (0: any length) are not kept.
    """

    def __cinit__(self, Py_ssize_t size, double lifetime, Py_ssize_t max_length):
        self.table = {}
        self.size = size
        self.lifetime = lifetime
        self.max_length = max_length

    def __len__(self) -> int:
        return len(self.table)

    def queries(self) -> list:
        """The texts kept, most recently used first."""
        cdef Statement statement = self.newest
        found = []
        while statement is not None:
            found.append(statement.query)
            statement = statement.older
        return found

    cdef bint takes(self, str query) except -1:
        return self.size > 0 and (self.max_length == 0 or len(query) <= self.max_length)

    cdef Statement get(self, str query):
        """The statement for the text, now the most recently used, or None."""
        cdef Statement statement = <Statement>self.table.get(query)
        if statement is None:
            return None
        if self.lifetime > 0 and monotonic() > statement.expires:
            return None
        if statement is not self.newest:
            self._unlink(statement)
            self._link(statement)
        return statement

    cdef list put(self, Statement statement):
        """Keep the statement; returns those that had to go."""
        cdef:
            list evicted = []
            Statement former = <Statement>self.table.get(statement.query)
        if former is not None:
            self.drop(former)
            evicted.append(former)
        while len(self.table) >= self.size:
            evicted.append(self.oldest)
            self.drop(self.oldest)
        self.table[statement.query] = statement
        statement.cached = True
        if self.lifetime > 0:
            statement.expires = monotonic() + self.lifetime
        self._link(statement)
        return evicted

    cdef int drop(self, Statement statement) except -1:
        if statement.cached and self.table.get(statement.query) is statement:
            del self.table[statement.query]
            self._unlink(statement)
        statement.cached = False
        return 0

    cdef list clear(self):
        """Keep nothing; returns what was kept."""
        cdef:
            list dropped = list(self.table.values())
            Statement statement
        for statement in dropped:
            self.drop(statement)
        return dropped

    cdef int _link(self, Statement statement) except -1:
        statement.older = self.newest
        if self.newest is not None:
            self.newest.newer = statement
        self.newest = statement
        if self.oldest is None:
            self.oldest = statement
        return 0

    cdef int _unlink(self, Statement statement) except -1:
        if statement.newer is not None:
            statement.newer.older = statement.older
        else:
            self.newest = statement.older
        if statement.older is not None:
            statement.older.newer = statement.newer
        else:
            self.oldest = statement.newer
        statement.newer = statement.older = None
        return 0
