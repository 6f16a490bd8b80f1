"""Results in Arrow's format: what is made of DataRow messages, and what users hold.

A RowBuilder is the row plan of a request whose rows become columns. It adds each row to the columns of a chunk, and returns
the chunk as a RecordBatch with its last row: after a number of rows, or if the next row might make a column larger than
2 GB. ArrowTable and RecordBatch give the chunks away by the Arrow PyCapsule interface. They copy nothing.

Source: Apache Arrow, "The Arrow PyCapsule Interface".
"""

cimport cython

from libc.stdint cimport INT32_MAX, INT64_MAX, int32_t, int64_t
from libc.stdlib cimport calloc
from libc.string cimport memset

from headrace._core.arrow.columns cimport (
    GROUPED, MAKE_NULL, REFUSE, SATURATE, Policy, append_null, count_up, free_column, largest, new_chunk,
    release_chunk, seal, shape_column, size_of,
)
from headrace._core.arrow.export cimport (
    array_capsule, make_result, make_tree, release_result, release_tree, schema_capsule, stream_capsule,
)
from headrace._core.rows.row_plan cimport HELD, Grouping
from headrace._core.wire.buffer cimport load_i32, load_u16

from headrace._core.arrow.schema import MOST_DIGITS
from headrace.exceptions import InterfaceError, ProtocolError, UnrepresentableValueError
from headrace.exceptions._values import shown

cdef dict POLICIES = {'error': REFUSE, 'null': MAKE_NULL, 'saturate': SATURATE}


@cython.final
cdef class ArrowShape(RowShape):
    """Rows as columns in Arrow's format.

    `decimal` has precision and scale for numerics that have none declared. `out_of_range` says what becomes of values that
    the Arrow type cannot hold. `batch_rows` is the number of rows in a record batch of a stream; a table has no such
    limit (0). Raises ValueError for others than there are.
    """

    def __init__(self, decimal=None, out_of_range='error', int64_t batch_rows=0):
        if decimal is not None:
            decimal = checked_decimal(decimal)
        if out_of_range not in POLICIES:
            raise ValueError(f"out_of_range is expected to be 'error', 'null' or 'saturate', got {shown(out_of_range)}")
        self.decimal = decimal
        self.out_of_range = out_of_range
        self.batch_rows = batch_rows
        # Batches of any number of rows have the same columns.
        self.key = (decimal, out_of_range)

    def __repr__(self) -> str:
        return f'<columns in Arrow format {self.key}>'


cdef tuple checked_decimal(object decimal):
    cdef list digits
    try:
        digits = list(decimal)
    except TypeError:
        digits = []
    if len(digits) != 2 or any([isinstance(number, bool) or not isinstance(number, int) for number in digits]) \
            or not 1 <= digits[0] <= MOST_DIGITS or not 0 <= digits[1] <= digits[0]:
        raise ValueError(f'decimal is expected to be (precision, scale), with at most {MOST_DIGITS} digits and a scale from 0 '
                         f'to the precision, got {shown(decimal)}')
    return int(digits[0]), int(digits[1])


@cython.final
cdef class Schema:
    """The columns of a result; `fields` are those of schema.py."""

    def __cinit__(self, tuple fields not None, str out_of_range not None='error'):
        cdef:
            Policy policy = <Policy><int>POLICIES[out_of_range]
            int i = 0
        self.fields = fields
        self.names = tuple([field.name for field in fields])
        self.labels = {}
        self.expands = any([has_numeric_text(field) for field in fields])
        self.tree = make_tree(fields)
        self.template.layout = GROUPED
        if fields:
            self.template.children = <Column *>calloc(<size_t>len(fields), sizeof(Column))
            if self.template.children == NULL:
                raise MemoryError()
            self.template.count = <int>len(fields)
            for field in fields:
                shape_column(&self.template.children[i], field, policy, self.labels)
                i += 1

    def __dealloc__(self):
        free_column(&self.template)
        release_tree(self.tree)

    def __arrow_c_schema__(self):
        """Return the schema as a capsule of an ArrowSchema."""
        return schema_capsule(self.tree)

    @property
    def formats(self) -> tuple:
        """The format code of each column: 1 binary, 0 text."""
        return tuple([field.wire for field in self.fields])


def has_numeric_text(field) -> bool:
    """Return whether a part of a field is a numeric that becomes text."""
    return field.kind == 'numeric' or any([has_numeric_text(child) for child in field.children])


@cython.final
cdef class RowBuilder(RowPlan):
    """Makes record batches of at most `most_rows` rows, and of DataRows of at most `most_bytes` bytes."""

    def __cinit__(self, Schema schema not None, *, most_rows=0, most_bytes=0):
        self.schema = schema
        self.grouped = True
        self.most_rows = most_rows or INT64_MAX
        # No value of the columns takes more bytes than its part of the message, but for numbers of fixed width, which
        # have no offsets to overflow.
        self.most_bytes = most_bytes or INT32_MAX

    def __dealloc__(self):
        if self.chunk != NULL:
            release_chunk(self.chunk)

    def add(self, bytes row not None) -> RecordBatch | None:
        """Add a row: the body of a DataRow message. Returns the batch that is complete, if one is."""
        made = self.row(row, len(row))
        return None if made is HELD else made

    def end(self) -> RecordBatch | None:
        """Return the rows that are left; None if there are none."""
        return self.end_chunk()

    cdef object row(self, const char *data, Py_ssize_t size):
        cdef RecordBatch complete = None
        if self.in_chunk and (self.wire + size > self.most_bytes or self.schema.expands and self.is_long()):
            complete = self.end_chunk()
        self.append(data, size)
        if self.in_chunk >= self.most_rows:
            # Only if a batch has one row alone, and then none was ended above.
            complete = self.end_chunk()
        return HELD if complete is None else complete

    cdef RowPlan begin(self, Grouping grouping):
        # ArrowPlan makes one for each execution.
        return self

    cdef object last(self):
        cdef RecordBatch complete = self.end_chunk()
        return HELD if complete is None else complete

    cdef int drop(self) except -1:
        if self.chunk != NULL:
            release_chunk(self.chunk)
            self.chunk = NULL
        self.in_chunk = self.wire = 0
        return 0

    cdef int append(self, const char *data, Py_ssize_t size) except -1:
        cdef:
            const char *end = data + size
            int count = self.schema.template.count
            int i = -1
            int32_t length
            Column *column
        if self.chunk == NULL:
            self.chunk = new_chunk(&self.schema.template)
        if size < 2 or load_u16(data) != count:
            raise ProtocolError(f'DataRow from the server with {load_u16(data) if size >= 2 else "no"} fields: '
                                f'RowDescription had {count}')
        data += 2
        column = self.chunk.root.children
        try:
            for i in range(count):
                if end - data < 4:
                    raise ProtocolError('DataRow from the server is cut short')
                length = load_i32(data)
                data += 4
                if length < 0:
                    if length != -1:
                        raise ProtocolError(f'DataRow from the server with a field of {length} bytes')
                    append_null(column)
                else:
                    if end - data < length:
                        raise ProtocolError(f'DataRow from the server with a field of {length} bytes, but only '
                                            f'{end - data} are left')
                    column.append(column, data, length)
                    data += length
                column += 1
        except (ValueError, OverflowError) as error:
            if isinstance(error, (InterfaceError, ProtocolError)):
                raise
            raise unrepresentable(self.schema.fields[i], self.rows + 1, error) from error
        if data != end:
            raise ProtocolError(f'DataRow from the server has {end - data} bytes too many')
        self.chunk.root.length += 1
        self.in_chunk += 1
        self.rows += 1
        self.wire += size
        return 0

    cdef bint is_long(self) noexcept:
        return largest(&self.chunk.root) > self.most_bytes // 2

    cdef RecordBatch end_chunk(self):
        """Finish the open chunk and return it; None if it has no rows."""
        cdef RecordBatch batch = None
        if self.in_chunk:
            self.chunk.rows = self.in_chunk
            seal(&self.chunk.root)
            batch = RecordBatch.__new__(RecordBatch)
            batch.schema = self.schema
            batch.chunk = self.chunk
            self.chunk = NULL
        self.drop()
        return batch

    def table(self, list batches not None) -> ArrowTable:
        """Return the table of all batches that it has made."""
        cdef:
            ArrowTable table = ArrowTable.__new__(ArrowTable)
            RecordBatch batch
        table.schema = self.schema
        table._batches = batches
        table.result = make_result(self.schema.tree, len(table._batches))
        for batch in table._batches:
            if self.schema.labels and len(table._batches) > 1:
                # All chunks have the same labels: those that were met last.
                seal(&batch.chunk.root)
            count_up(&batch.chunk.references)
            table.result.chunks[table.result.count] = batch.chunk
            table.result.count += 1
            table.num_rows += batch.chunk.rows
        return table


cdef object unrepresentable(object field, int64_t row, object error):
    """Return the error for a value that its column cannot hold."""
    cdef str hint = 'Pass out_of_range="null" or out_of_range="saturate", or cast the column to text.'
    if 'UTF-8' in str(error):
        hint = None
    elif 'dimensions' in str(error):
        hint = 'An Arrow list has one dimension: cast the column to text, or use to_jsonb(). out_of_range="null" makes it NULL.'
    made = UnrepresentableValueError(f'row {row}, column {field.name!r} of type {field.type_name}: {error}', hint=hint)
    made.column_name = field.name
    made.data_type_name = field.type_name
    return made


@cython.final
cdef class RecordBatch:
    """Some consecutive rows of a result, as columns in Arrow's format.

    `pyarrow.record_batch(batch)`, `polars.DataFrame(batch)` and others take it without a copy, any number of times.
    """

    def __init__(self, *args):
        raise TypeError('a RecordBatch is made by stream_arrow() or by ArrowTable.batches()')

    def __dealloc__(self):
        if self.chunk != NULL:
            release_chunk(self.chunk)

    @property
    def num_rows(self) -> int:
        """The number of rows."""
        return self.chunk.rows

    @property
    def num_columns(self) -> int:
        """The number of columns."""
        return len(self.schema.names)

    @property
    def column_names(self) -> list:
        """The names of the columns."""
        return list(self.schema.names)

    @property
    def nbytes(self) -> int:
        """The bytes that the values take."""
        return size_of(&self.chunk.root)

    def __len__(self) -> int:
        return self.chunk.rows

    def __repr__(self) -> str:
        return f'<headrace.arrow.RecordBatch of {self.num_rows} rows and {self.num_columns} columns>'

    def __arrow_c_schema__(self):
        """Return the schema as a capsule of an ArrowSchema."""
        return schema_capsule(self.schema.tree)

    def __arrow_c_array__(self, requested_schema=None):
        """Return capsules of an ArrowSchema and an ArrowArray. A `requested_schema` has no effect."""
        return schema_capsule(self.schema.tree), array_capsule(self.chunk)

    def __arrow_c_stream__(self, requested_schema=None):
        """Return a capsule of an ArrowArrayStream with this batch alone. A `requested_schema` has no effect."""
        cdef Result *result = make_result(self.schema.tree, 1)
        count_up(&self.chunk.references)
        result.chunks[0] = self.chunk
        result.count = 1
        try:
            return stream_capsule(result)
        finally:
            release_result(result)


@cython.final
cdef class ArrowTable:
    """The result of a query as columns in Arrow's format; `fetch_arrow()` returns it.

    `pyarrow.table(result)`, `polars.DataFrame(result)`, DuckDB, pandas and others take it without a copy, any number of
    times and in any thread. The memory is freed when nothing refers to it any more, here and there.
    """

    def __init__(self, *args):
        raise TypeError('an ArrowTable is made by fetch_arrow()')

    def __dealloc__(self):
        release_result(self.result)

    @property
    def num_columns(self) -> int:
        """The number of columns."""
        return len(self.schema.names)

    @property
    def column_names(self) -> list:
        """The names of the columns."""
        return list(self.schema.names)

    @property
    def nbytes(self) -> int:
        """The bytes that the values take."""
        return sum([batch.nbytes for batch in self._batches])

    def batches(self) -> list:
        """Return the record batches. There is one, unless a column takes more than 2 GB; none if there are no rows."""
        return list(self._batches)

    def __len__(self) -> int:
        return self.num_rows

    def __repr__(self) -> str:
        return f'<headrace.arrow.ArrowTable of {self.num_rows} rows and {self.num_columns} columns>'

    def __arrow_c_schema__(self):
        """Return the schema as a capsule of an ArrowSchema."""
        return schema_capsule(self.schema.tree)

    def __arrow_c_stream__(self, requested_schema=None):
        """Return a capsule of an ArrowArrayStream of the record batches. A `requested_schema` has no effect."""
        return stream_capsule(self.result)
