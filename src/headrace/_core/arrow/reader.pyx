"""Reading what other libraries export through Arrow's C interfaces: a schema, and batches of columns.

The capsules of the Arrow PyCapsule interface hold C structures. Their contents are moved out of the capsule, so that they
are released here, once: a batch with its last reference, a stream by close() or with its last reference. The functions of
a stream are called without the GIL, because they may compute for long or need the GIL themselves.

Source: Apache Arrow, "The Arrow C data interface", "The Arrow C stream interface", "The Arrow PyCapsule interface".
"""

from cpython.exc cimport PyErr_Fetch, PyErr_Restore
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memset, strlen

from headrace._core.arrow.abi cimport ArrowArray, ArrowArrayStream, ArrowSchema
from headrace._core.arrow.convert cimport (
    array_release, schema_release, stream_error, stream_next, stream_release, stream_schema,
)

from headrace._core.arrow.fields import Field

from headrace.exceptions import InterfaceError
from headrace.exceptions._values import shown

cdef extern from "<string.h>" nogil:
    char *strerror(int number)

# The parts of a type are read no deeper than this.
cdef int MAX_DEPTH = 64

cdef bytes EXTENSION = b'ARROW:extension:name'


cdef class Batch:
    """Columns of equal length, as the children of a struct array. They are released with the last reference."""

    def __cinit__(self):
        memset(&self.array, 0, sizeof(self.array))

    def __dealloc__(self):
        release_array(&self.array)

    def __len__(self) -> int:
        return self.array.length

    def release(self) -> None:
        """Release the columns now, although there may be references to the batch."""
        release_array(&self.array)


cdef class BatchReader:
    """The batches of an object of the Arrow PyCapsule interface.

    Its methods may take long, so they are meant for a thread, one at a time. Raises TypeError for an object without the
    interface, and InterfaceError for an error of the stream, or for a schema that is no table's.
    """

    def __cinit__(self):
        memset(&self.stream, 0, sizeof(self.stream))

    def __init__(self, data) -> None:
        cdef ArrowSchema schema
        if not hasattr(data, '__arrow_c_array__'):
            take_stream(data.__arrow_c_stream__(), &self.stream)
            self.read_schema()
            return
        # A batch may have both methods.
        memset(&schema, 0, sizeof(schema))
        self.single = Batch.__new__(Batch)
        pair = data.__arrow_c_array__()
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise InterfaceError(f'__arrow_c_array__() is expected to return two capsules, got {shown(pair)}')
        take_schema(pair[0], &schema)
        try:
            self.field = read_field(&schema, 0)
        finally:
            release_schema(&schema)
        take_array(pair[1], &self.single.array)

    def __dealloc__(self):
        release_stream(&self.stream)

    cdef int read_schema(self) except -1:
        cdef:
            ArrowSchema schema
            int status
        memset(&schema, 0, sizeof(schema))
        with nogil:
            status = stream_schema(&self.stream, &schema)
        self.check(status, 'describe its columns')
        try:
            self.field = read_field(&schema, 0)
        finally:
            release_schema(&schema)
        return 0

    def next(self) -> Batch | None:
        """Return the next batch, None at the end. After close() there is none."""
        cdef:
            Batch batch
            int status
        if self.closed or self.ended:
            return None
        if self.single is not None:
            batch, self.single = self.single, None
            self.ended = True
            return batch
        if self.stream.release == NULL:
            return None
        if self.busy:
            raise InterfaceError('cannot read a batch while another one is read')
        batch = Batch.__new__(Batch)
        self.busy = True
        try:
            with nogil:
                status = stream_next(&self.stream, &batch.array)
            if status:
                # The specification leaves it open what an array holds after an error.
                memset(&batch.array, 0, sizeof(batch.array))
            self.check(status, 'return its next batch')
        finally:
            self.busy = False
            if self.closed:
                release_stream(&self.stream)
        if batch.array.release == NULL:
            self.ended = True
            return None
        return None if self.closed else batch

    cdef int check(self, int status, str doing) except -1:
        """Raise InterfaceError if a function of the stream has failed."""
        cdef const char *message
        if not status:
            return 0
        with nogil:
            message = stream_error(&self.stream)
        if message == NULL:
            text = (<bytes>strerror(status)).decode('utf-8', 'replace')
        else:
            text = (<bytes>message).decode('utf-8', 'replace')
        raise InterfaceError(f'the stream of the data could not {doing}: {text}')

    def close(self) -> None:
        """Release the stream; if a thread is inside of it, once that has returned. No batch comes after that."""
        self.closed = True
        self.single = None
        if not self.busy:
            release_stream(&self.stream)


def can_read(data) -> bool:
    """Return whether the object has the Arrow PyCapsule interface, for several batches or for one."""
    # A class has the method too, but cannot be called for data.
    return not isinstance(data, type) and (hasattr(data, '__arrow_c_stream__') or hasattr(data, '__arrow_c_array__'))


cdef int take_stream(object capsule, ArrowArrayStream *stream) except -1:
    """Move the stream out of its capsule, which then releases nothing."""
    cdef ArrowArrayStream *source = <ArrowArrayStream *>contents(capsule, b'arrow_array_stream')
    if source.release == NULL:
        raise InterfaceError('the stream of the data has been released: it was read before')
    memcpy(stream, source, sizeof(ArrowArrayStream))
    source.release = NULL
    return 0


cdef int take_schema(object capsule, ArrowSchema *schema) except -1:
    cdef ArrowSchema *source = <ArrowSchema *>contents(capsule, b'arrow_schema')
    if source.release == NULL:
        raise InterfaceError('the schema of the data has been released: it was read before')
    memcpy(schema, source, sizeof(ArrowSchema))
    source.release = NULL
    return 0


cdef int take_array(object capsule, ArrowArray *array) except -1:
    cdef ArrowArray *source = <ArrowArray *>contents(capsule, b'arrow_array')
    if source.release == NULL:
        raise InterfaceError('the array of the data has been released: it was read before')
    memcpy(array, source, sizeof(ArrowArray))
    source.release = NULL
    return 0


cdef void *contents(object capsule, bytes name) except NULL:
    if not PyCapsule_IsValid(capsule, name):
        raise InterfaceError(f'data is expected to export a capsule named {name.decode()!r}, got {shown(capsule)}')
    return PyCapsule_GetPointer(capsule, name)


# The functions that release structures belong to other libraries, and may run Python code. An exception that is being
# raised is kept from them.

cdef void release_array(ArrowArray *array) noexcept:
    cdef PyObject *kind
    cdef PyObject *value
    cdef PyObject *trace
    if array.release != NULL:
        PyErr_Fetch(&kind, &value, &trace)
        with nogil:
            array_release(array)
        PyErr_Restore(kind, value, trace)


cdef void release_schema(ArrowSchema *schema) noexcept:
    cdef PyObject *kind
    cdef PyObject *value
    cdef PyObject *trace
    if schema.release != NULL:
        PyErr_Fetch(&kind, &value, &trace)
        with nogil:
            schema_release(schema)
        PyErr_Restore(kind, value, trace)


cdef void release_stream(ArrowArrayStream *stream) noexcept:
    cdef PyObject *kind
    cdef PyObject *value
    cdef PyObject *trace
    if stream.release != NULL:
        PyErr_Fetch(&kind, &value, &trace)
        with nogil:
            stream_release(stream)
        PyErr_Restore(kind, value, trace)


# --- schemas

cdef object read_field(const ArrowSchema *schema, int depth):
    """Return the Field of a schema and of the schemas inside."""
    cdef int64_t i
    cdef list children = []
    if depth > MAX_DEPTH:
        raise InterfaceError(f'the schema of the data has types within types, more than {MAX_DEPTH} deep')
    if schema.format == NULL or schema.n_children < 0 or (schema.n_children > 0 and schema.children == NULL):
        raise InterfaceError('the schema of the data is malformed')
    for i in range(schema.n_children):
        if schema.children[i] == NULL:
            raise InterfaceError('the schema of the data is malformed')
        children.append(read_field(schema.children[i], depth + 1))
    return Field(
        text_of(schema.name),
        text_of(schema.format),
        tuple(children),
        None if schema.dictionary == NULL else read_field(schema.dictionary, depth + 1),
        extension_of(schema.metadata),
    )


cdef str text_of(const char *text):
    return '' if text == NULL else PyBytes_FromStringAndSize(text, <Py_ssize_t>strlen(text)).decode('utf-8', 'replace')


cdef str extension_of(const char *metadata):
    """Return the name of the extension type in the metadata of a field, '' if there is none."""
    cdef int32_t pairs, size
    cdef bint found
    if metadata == NULL:
        return ''
    memcpy(&pairs, metadata, 4)
    metadata += 4
    for _ in range(pairs):
        memcpy(&size, metadata, 4)
        if size < 0:
            raise InterfaceError('the schema of the data is malformed')
        found = PyBytes_FromStringAndSize(metadata + 4, size) == EXTENSION
        metadata += 4 + size
        memcpy(&size, metadata, 4)
        if size < 0:
            raise InterfaceError('the schema of the data is malformed')
        if found:
            return PyBytes_FromStringAndSize(metadata + 4, size).decode('utf-8', 'replace')
        metadata += 4 + size
    return ''
