"""Batches of columns as CopyData messages in COPY's binary format.

Source: PostgreSQL documentation, COPY, "Binary Format" (sql-copy).
"""

from cpython.tuple cimport PyTuple_GET_ITEM
from libc.stdint cimport int64_t

from headrace._core.arrow.abi cimport ArrowArray
from headrace._core.arrow.reader cimport Batch
from headrace._core.arrow.writers cimport MOST_VALUES, Writer, put_slot
from headrace._core.codecs.text cimport argument_error
from headrace._core.wire.buffer cimport WriteBuffer, begin_message, end_message, put_bytes, put_i16

from headrace.exceptions import InterfaceError

cdef bytes HEADER = b'PGCOPY\n\xff\r\n\0' + bytes(8)


cdef class BatchEncoder:
    """Rows of batches as CopyData messages.

    `names` are those of the table's columns, `fields` the fields of the data that go there, `positions` those of the
    fields in the batches, and `writers` their writers.
    """

    def __cinit__(self, tuple names not None, tuple fields not None, tuple positions not None, tuple writers not None):
        cdef Writer writer
        for writer in writers:
            if writer is None:
                raise TypeError('expected a Writer for each column')
        self.names = names
        self.fields = fields
        self.positions = positions
        self.writers = writers
        self.width = len(writers)
        self.out = WriteBuffer()
        self.mark = begin_message(self.out, b'd')
        put_bytes(self.out, <const char *>HEADER, len(HEADER))

    @property
    def binary(self) -> bool:
        """True: the rows are in COPY's binary format."""
        return True

    @property
    def size(self) -> int:
        """Bytes encoded and not yet taken."""
        return self.out.length

    @property
    def has_rows(self) -> bool:
        """True if rows of the batch are left to encode."""
        return self.batch is not None

    def start(self, Batch batch not None) -> None:
        """Encode the rows of a batch from now on; raises InterfaceError if it is malformed."""
        cdef:
            const ArrowArray *array = &batch.array
            const ArrowArray *child
            Writer writer
            Py_ssize_t position, k
        if array.length < 0 or array.offset < 0 or array.offset > MOST_VALUES - array.length:
            raise InterfaceError('the data is not laid out as Arrow prescribes: the length or the offset of a batch is negative '
                                 'or too large')
        if array.n_children > 0 and array.children == NULL:
            raise InterfaceError('the data is not laid out as Arrow prescribes: a batch has no columns')
        if array.null_count != 0:
            check_valid(array)
        for k in range(self.width):
            position = self.positions[k]
            if position >= array.n_children or array.children[position] == NULL:
                raise InterfaceError('the data is not laid out as Arrow prescribes: a batch has fewer columns than its '
                                     'schema')
            child = array.children[position]
            if child.length < array.offset + array.length:
                raise InterfaceError('the data is not laid out as Arrow prescribes: a column is shorter than its batch')
            writer = <Writer>PyTuple_GET_ITEM(self.writers, k)
            writer.bind(child)
        self.next_row = 0
        self.batch = batch
        if array.length == 0:
            self.drop()

    def fill(self, Py_ssize_t limit) -> bool:
        """Encode rows of the batch until `limit` bytes are there; returns whether the batch may have more.

        Raises ArgumentError for a value that does not fit, which names row, column and types.
        """
        if self.batch is not None:
            self.put_rows(limit)
        return self.batch is not None

    cdef int put_rows(self, Py_ssize_t limit) except -1:
        cdef:
            WriteBuffer out = self.out
            int64_t row = self.next_row
            int64_t offset = self.batch.array.offset
            int64_t length = self.batch.array.length
            int64_t first = row
            Py_ssize_t k = 0
            short width = <short>self.width
        try:
            while row < length and out.length < limit:
                put_i16(out, width)
                for k in range(self.width):
                    put_slot(<Writer>PyTuple_GET_ITEM(self.writers, k), out, offset + row)
                row += 1
        except Exception as error:
            if isinstance(error, (InterfaceError, MemoryError)):
                raise
            self.rows += row - first
            self.drop()
            raise self.bad_value(k, error) from error
        self.rows += row - first
        self.next_row = row
        if row >= length:
            self.drop()
        return 0

    def drop(self) -> None:
        """Release the batch; its rows that are left are not encoded."""
        if self.batch is not None:
            self.batch.release()
            self.batch = None

    def bad_value(self, Py_ssize_t k, object error):
        """Return the error for a value of the row behind those encoded."""
        cdef Writer writer = self.writers[k]
        return argument_error(error)(
            f'invalid input for row {self.rows + 1}, column {self.names[k]!r}: {error} '
            f'[{writer.target} column, {self.fields[k].type} given]')

    def take(self) -> bytes:
        """Return the messages encoded so far."""
        end_message(self.out, self.mark)
        data = self.out.take()
        self.mark = begin_message(self.out, b'd')
        return data

    def end(self) -> bytes:
        """Return the last messages: those not taken yet, and the trailer."""
        put_i16(self.out, -1)
        end_message(self.out, self.mark)
        return self.out.take()


cdef int check_valid(const ArrowArray *array) except -1:
    """Raise InterfaceError if a row of a batch is NULL: a row of a table cannot be."""
    cdef:
        const unsigned char *bits = NULL
        int64_t i
    if array.n_buffers > 0 and array.buffers != NULL:
        bits = <const unsigned char *>array.buffers[0]
    if bits == NULL and array.null_count < 0:
        # Nobody has counted.
        return 0
    if bits == NULL:
        raise InterfaceError('the data is not laid out as Arrow prescribes: an array has NULLs, and no validity bitmap')
    for i in range(array.offset, array.offset + array.length):
        if not bits[i >> 3] >> (i & 7) & 1:
            raise InterfaceError(f'row {i - array.offset + 1} of a batch is NULL: a row of a table cannot be')
    return 0
