# Columns in Arrow's layout, to which values are added from the server's binary form.
#
# Nothing here is a Python object but the labels of enumerated types, so a finished chunk can be released by any thread.

from libc.stdint cimport int32_t, int64_t, uint32_t

cdef extern from "columns.h" nogil:
    void count_up(int64_t *references) noexcept
    bint count_down(int64_t *references) noexcept
    bint is_utf8(const char *text, int64_t size) noexcept
    void store_integer(char *at, const uint32_t *digits, int count) noexcept

# Which buffers a column has, besides the bitmap of what is not NULL.
cdef enum Layout:
    FIXED           # values of `width` bytes each
    BITS            # a bit for each value
    BYTES           # offsets, and bytes
    LISTED          # offsets, and a child with the elements
    GROUPED         # children alone

# The treatment of values that the Arrow type cannot hold.
cdef enum Policy:
    REFUSE          # an error
    MAKE_NULL       # NULL
    SATURATE        # the nearest value that it holds; NULL for NaN

cdef struct Column

# Adds a value; it must check `size` before it reads. Raises ProtocolError for malformed bytes, and ValueError for a value
# that the column cannot hold.
ctypedef int (*append_t)(Column *column, const char *data, int32_t size) except -1

# The labels of an enumerated type at some point; it does not change.
cdef struct Dictionary:
    int64_t references
    int64_t count
    int32_t *offsets
    char *bytes

cdef struct Column:
    append_t append
    char *values
    int32_t *offsets
    unsigned char *validity      # NULL as long as no value is NULL; a bit is 0 for each that is
    int64_t length               # values, and how many there is room for
    int64_t capacity
    int64_t used                 # bytes in `values` of layout BYTES, and how many there is room for
    int64_t room
    int64_t null_count
    Column *children
    int count                    # of children
    Layout layout
    int width
    Policy policy
    int precision
    int scale
    uint32_t oid                 # of the type, as the server names it in arrays and composites
    void *labels                 # Labels of an enumerated type, borrowed from the builder
    Dictionary *dictionary       # and the labels as they were when the chunk was finished
    void *field                  # the Field, borrowed from the builder

# Rows that belong together: a record batch.
cdef struct Chunk:
    int64_t references
    int64_t rows
    Column root                  # its children are the columns

cdef class Labels:
    cdef:
        int64_t count
        int32_t *offsets
        int64_t capacity
        char *bytes
        int64_t used
        int64_t room
        int32_t *table           # open addressing: an index + 1, or 0
        int64_t slots
        Dictionary *latest

    cdef int32_t find(self, const char *label, int32_t size) except -1
    cdef int _rehash(self) except -1
    cdef Dictionary *snapshot(self) except NULL

cdef int shape_column(Column *column, object field, Policy policy, dict labels) except -1
cdef Chunk *new_chunk(Column *template) except NULL
cdef int append_null(Column *column) except -1
cdef int seal(Column *column) except -1
cdef int64_t largest(Column *column) noexcept
cdef int64_t size_of(Column *column) noexcept
cdef void free_column(Column *column) noexcept nogil
cdef void release_chunk(Chunk *chunk) noexcept nogil
