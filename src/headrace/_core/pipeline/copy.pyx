"""COPY FROM STDIN and COPY TO STDOUT as requests, and rows in COPY's binary format.

Both use the simple query protocol, in which the server needs no Sync: after an error it drops the CopyData that is still
on its way and is ready for the next query at once. Both are barriers: nothing is sent behind a COPY until it is done,
because while it copies in, the server takes all that comes for data, and while it copies out, the socket may be left
unread until the reader has caught up.

A CopyIn is sent its data by its owner, once `began` has a result and as long as `flowing`; a CopyOut collects what
comes until the reader takes it.

Source: PostgreSQL documentation, "COPY Operations" (protocol-copy), and COPY, "Binary Format" (sql-copy).
"""

from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM
from libc.string cimport memcmp

from headrace._core.wire.backend cimport command_tag
from headrace._core.wire.buffer cimport (
    WriteBuffer, begin_message, end_message, load_i16, load_i32, load_u16, put_byte, put_bytes, put_i16,
    put_i32,
)
from headrace._core.codecs.base cimport Codec
from headrace._core.codecs.composite cimport accepted
from headrace._core.codecs.format_variants cimport binary_variant, text_variant
from headrace._core.codecs.text cimport argument_error, text_fallback
from headrace._core.codecs.typemap cimport TypeMap
from headrace._core.wire.frontend cimport COPY_DONE, put_copy_fail, put_query
from headrace._core.pipeline.requests cimport ABANDONED, BARRIER, SIMPLE, Request
from headrace._core.pipeline.statement_cache cimport Statement
from headrace._core.rows.row_plan cimport AS_THEY_COME, HELD

from headrace.exceptions import ArgumentError, InterfaceError, ProtocolError
from headrace.exceptions._values import shown
from headrace._sql.hints.arguments import Parameter, column_hint

# Bytes held for a reader that is slower than the server; beyond them the socket is left unread.
cdef Py_ssize_t MOST_HELD = 1 << 18

cdef bytes SIGNATURE = b'PGCOPY\n\xff\r\n\0'
cdef bytes HEADER = SIGNATURE + bytes(8)
cdef int WITH_OIDS = 1 << 16


cdef class Copy(Request):
    """The base of both directions."""

    def __cinit__(self, object waiter, object began, str query not None, object holder, *rest):
        self.waiter = waiter
        self.began = began
        self.query = query
        self.holder = holder
        self.traits = BARRIER | SIMPLE

    cdef int encode(self, WriteBuffer out) except -1:
        try:
            put_query(out, self.query.encode())
        except ValueError:
            out.length = 0
            raise InterfaceError('names and options of COPY must not contain a NUL character or a lone surrogate') \
                from None
        self.message = out.take()
        return 0

    cdef int begin(self, const char *data, Py_ssize_t size) except -1:
        """Take CopyInResponse or CopyOutResponse."""
        if size < 3 or size != 3 + 2 * load_u16(data + 1):
            raise ProtocolError(f'CopyInResponse or CopyOutResponse from the server of {size} bytes')
        self.binary = data[0] != 0
        self.columns = load_u16(data + 1)
        self.stage = 1
        self.flowing = self.state != ABANDONED
        if not self.began.done():
            self.began.set_result(True)
        return 0

    cdef int finished(self) except -1:
        if self.stage != 3:
            raise ProtocolError('the server is ready for queries before the COPY was complete')
        return 0

    cdef object outcome(self):
        return self.status

    cdef int settle(self) except -1:
        self.flowing = False
        if not self.began.done():
            self.began.set_result(False)
        return Request.settle(self)


cdef class CopyIn(Copy):
    """COPY FROM STDIN."""

    cdef int receive(self, char kind, const char *data, Py_ssize_t size) except -1:
        if kind == b'G' and self.stage == 0:
            self.begin(data, size)
            if self.state == ABANDONED:
                self.urgent = self.withdrawal(WriteBuffer())
        elif kind == b'C' and self.stage == 2:
            self.status = command_tag(data, size)
            self.stage = 3
        else:
            return self.unexpected(kind)
        return 0

    cdef bytes withdrawal(self, WriteBuffer out):
        """CopyFail: the server waits for data and looks at no CancelRequest before the next message comes."""
        if self.stage != 1:
            return None
        self.stage = 2
        self.flowing = False
        put_copy_fail(out, f'the source failed with {type(self.error).__name__}'.encode()
                      if self.error is not None else b'the client has given up')
        return out.take()

    def failed(self, error: BaseException) -> None:
        """Note why the source failed: the cause of what a failed transaction says from now on."""
        if self.error is None:
            self.error = error

    def data_message(self, data: bytes) -> bytes:
        """CopyData with these bytes, to be sent while the data flows."""
        cdef:
            WriteBuffer out = WriteBuffer()
            const unsigned char[:] view = data
            Py_ssize_t mark = begin_message(out, b'd')
        if view.shape[0]:
            put_bytes(out, <const char *>&view[0], view.shape[0])
        end_message(out, mark)
        return out.take()

    def end(self) -> bytes:
        """CopyDone: there is no more data."""
        self.stage = 2
        self.flowing = False
        return COPY_DONE


cdef class CopyOut(Copy):
    """COPY TO STDOUT: what comes is held until it is taken, as bytes or decoded as rows of `statement`."""

    def __cinit__(self, object waiter, object began, str query not None, object holder, Statement statement=None,
                  object record_class=None):
        self.statement = statement
        if statement is not None:
            self.row_plan = statement.current_plan().rows_as(record_class).begin(AS_THEY_COME)
        self.held = WriteBuffer()
        self.rows = []

    cdef int receive(self, char kind, const char *data, Py_ssize_t size) except -1:
        if kind == b'd' and self.stage == 1:
            self.received += size
            if self.state == ABANDONED or self.unwanted or self.error is not None:
                return 0
            if self.statement is None:
                put_bytes(self.held, data, size)
            else:
                try:
                    self.row(data, size)
                except ProtocolError:
                    raise
                except Exception as error:
                    # The wire is intact: what the server still sends is passed over. If types were altered, the
                    # next COPY looks them up.
                    self.statement.results.cures(error)
                    self.error = error
            self.backlog += size
        elif kind == b'c' and self.stage == 1:
            self.stage = 2
        elif kind == b'C' and self.stage == 2:
            self.status = command_tag(data, size)
            self.stage = 3
        elif kind == b'H' and self.stage == 0:
            self.begin(data, size)
        else:
            return self.unexpected(kind)
        if self.arrival is not None:
            self.arrived()
        return 0

    def arrived(self):
        """Wake the reader."""
        arrival, self.arrival = self.arrival, None
        if arrival is not None and not arrival.done():
            arrival.set_result(None)

    cdef bint is_full(self) noexcept:
        return self.backlog > MOST_HELD and self.state != ABANDONED

    cdef int row(self, const char *data, Py_ssize_t size) except -1:
        """Decode one CopyData message: "messages sent from the backend will always correspond to single data rows".

        The header comes with the first of them. A row is laid out as a DataRow.
        """
        cdef:
            int extension
            object made
        if not self.headed:
            if size < 19 or memcmp(data, <const char *>SIGNATURE, 11) != 0:
                raise ProtocolError('binary COPY data from the server without its header')
            extension = load_i32(data + 15)
            if load_i32(data + 11) & WITH_OIDS or extension < 0 or extension > size - 19:
                raise ProtocolError('binary COPY data from the server with a malformed header')
            data += 19 + extension
            size -= 19 + extension
            self.headed = True
            if size == 0:
                return 0
        if self.trailed:
            raise ProtocolError('binary COPY data from the server behind its trailer')
        if size == 2 and load_i16(data) == -1:
            self.trailed = True
            made = self.row_plan.last()
        else:
            made = self.row_plan.row(data, size)
        if made is not HELD:
            self.rows.append(made)
        return 0

    cdef int settle(self) except -1:
        Copy.settle(self)
        self.arrived()
        return 0

    def take(self) -> bytes:
        """The bytes held, b'' for none."""
        self.backlog = 0
        return self.held.take() if self.held.length else b''

    def take_rows(self) -> list:
        """The rows held."""
        rows = self.rows
        self.rows = []
        self.backlog = 0
        return rows

    @property
    def failure(self):
        """The error that decoding a row has failed with, or None."""
        return self.error

    def drop(self):
        """Let go of what is held and of what still comes: it is not read."""
        self.unwanted = True
        self.held = WriteBuffer()
        self.rows = []
        self.backlog = 0


cdef class RowEncoder:
    """Rows as CopyData messages: `names` and `oids` are those of the columns and their types.

    They are in COPY's binary format, or in its text format if values of a column travel as text alone.
    """

    def __cinit__(self, TypeMap types not None, list names not None, list oids not None, str table not None):
        cdef:
            Codec codec
            list found = []
            list codecs
        for name, oid in zip(names, oids, strict=True):
            codec = types.find(oid)
            if codec is None:
                codec = text_fallback(oid, f'type with OID {oid}', '')
            found.append(codec)
        codecs = [binary_variant(codec) for codec in found]
        self.binary = None not in codecs
        if not self.binary:
            codecs = self.as_text(found, codecs, names, table)
        self.names = tuple(names)
        self.codecs = tuple(codecs)
        self.width = len(codecs)
        self.out = WriteBuffer()
        self.begin_message()
        if self.binary:
            put_bytes(self.out, <const char *>HEADER, len(HEADER))
        else:
            self.scratch = WriteBuffer()

    def as_text(self, list found, list binary, list names, str table) -> list:
        """The text variants of all columns' codecs; raises InterfaceError if one has none."""
        cdef:
            Codec codec, obstacle
            list codecs = [text_variant(codec) for codec in found]
        if None in codecs:
            codec = found[binary.index(None)]
            obstacle = found[codecs.index(None)]
            raise InterfaceError(
                f'cannot copy into {table}: values of column {names[binary.index(None)]!r} (type {codec.name}) travel '
                f'as text, those of column {names[codecs.index(None)]!r} (type {obstacle.name}) in binary',
                hint=f"Set a codec for {codec.name} with format='binary' or one for {obstacle.name} with "
                     "format='text', or use copy_to_table(..., format='csv') or executemany().")
        return codecs

    cdef int begin_message(self) except -1:
        self.mark = begin_message(self.out, b'd')
        return 0

    @property
    def size(self) -> int:
        """Bytes encoded and not yet taken."""
        return self.out.length

    def add(self, row) -> None:
        """Encode one row; raises ArgumentError for one that does not fit, and nothing of it is kept."""
        self.put_row(row)

    def fill(self, rows, Py_ssize_t limit) -> bool:
        """Encode rows from an iterator until `limit` bytes are there; returns whether there may be more."""
        for row in rows:
            self.put_row(row)
            if self.out.length >= limit:
                return True
        return False

    cdef int put_row(self, object row) except -1:
        cdef:
            Py_ssize_t start = self.out.length
            Py_ssize_t i = -1
            tuple values
            Codec codec
            PyObject *value
        if PyTuple_CheckExact(row):
            values = <tuple>row
        else:
            values = checked_row(row, self.rows + 1)
        if len(values) != self.width:
            raise self.wrong_width(values)
        if self.binary:
            put_i16(self.out, <short>self.width)
        try:
            for i in range(self.width):
                value = PyTuple_GET_ITEM_RAW(values, i)
                if not self.binary:
                    if i > 0:
                        put_byte(self.out, b'\t')
                    self.put_field(<Codec>PyTuple_GET_ITEM(self.codecs, i), <object>value)
                elif <object>value is None:
                    put_i32(self.out, -1)
                else:
                    codec = <Codec>PyTuple_GET_ITEM(self.codecs, i)
                    codec.encode(codec, self.out, <object>value)
            if not self.binary:
                put_byte(self.out, b'\n')
        except BaseException as error:
            self.out.length = start
            if isinstance(error, Exception) and not isinstance(error, MemoryError):
                raise self.bad_value(i, values[i], error) from error
            raise
        self.rows += 1
        return 0

    cdef int put_field(self, Codec codec, object value) except -1:
        """Write one value in COPY's text format (sql-copy, "Text Format")."""
        cdef:
            Py_ssize_t i, start = 4
            char each, letter
        if value is None:
            return put_bytes(self.out, b'\\N', 2)
        self.scratch.length = 0
        codec.encode(codec, self.scratch, value)
        if load_i32(self.scratch.data) < 0:
            return put_bytes(self.out, b'\\N', 2)
        for i in range(4, self.scratch.length):
            each = self.scratch.data[i]
            if each == b'\\':
                letter = b'\\'
            elif each == b'\t':
                letter = b't'
            elif each == b'\n':
                letter = b'n'
            elif each == b'\r':
                letter = b'r'
            else:
                continue
            put_bytes(self.out, self.scratch.data + start, i - start)
            put_byte(self.out, b'\\')
            put_byte(self.out, letter)
            start = i + 1
        return put_bytes(self.out, self.scratch.data + start, self.scratch.length - start)

    def take(self) -> bytes:
        """The messages encoded so far."""
        end_message(self.out, self.mark)
        self.encoded += self.out.length
        data = self.out.take()
        self.begin_message()
        return data

    def end(self) -> bytes:
        """The last messages: what was not taken yet, and the trailer."""
        if self.binary:
            put_i16(self.out, -1)
        end_message(self.out, self.mark)
        self.encoded += self.out.length
        return self.out.take()

    def wrong_width(self, tuple values):
        names = ', '.join(self.names)
        return ArgumentError(
            f'invalid input for row {self.rows + 1}: {len(values)} value{"" if len(values) == 1 else "s"} '
            f'for {self.width} column{"" if self.width == 1 else "s"}: {shown(values)}',
            hint=f'Pass one value for each of ({names}), or name the columns meant by columns=.')

    def bad_value(self, Py_ssize_t i, object value, object error):
        cdef Codec codec = self.codecs[i]
        return argument_error(error)(
            f'invalid input for row {self.rows + 1}, column {self.names[i]!r}: {shown(value)} ({error}) '
            f'[{codec.name} column, {type(value).__name__} given]',
            hint=column_hint(Parameter(0, codec.name, codec.schema, accepted(codec)), value))


cdef extern from "Python.h":
    PyObject *PyTuple_GET_ITEM_RAW "PyTuple_GET_ITEM" (object tuple, Py_ssize_t i)


cdef tuple checked_row(object row, long long number):
    """The values of a row that is not a tuple."""
    if isinstance(row, (str, bytes, bytearray, memoryview, dict, set, frozenset)) or not hasattr(row, '__getitem__') \
            or not hasattr(row, '__len__'):
        hint = 'Pass one tuple or list of values for each row.'
        if isinstance(row, dict):
            hint = 'Pass the values alone, in the order of the columns: tuple(row.values()) for instance.'
        raise ArgumentError(
            f'invalid input for row {number}: expected a sequence of values, got {type(row).__name__} {shown(row)}',
            hint=hint)
    return tuple(row)


def text_columns(Statement statement not None) -> list:
    """The positions of the columns whose values travel as text, which binary COPY does not have."""
    cdef Codec codec
    return [i for i, codec in enumerate(statement.current_plan().column_codecs) if codec.format != 1]
