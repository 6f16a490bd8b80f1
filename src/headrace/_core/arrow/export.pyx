"""Chunks as the structures of Arrow's C interfaces, in capsules.

A library may release a structure that it has taken in any thread, without the GIL. So all that a structure needs is C: a
schema, a chunk and a result each have a count of their references, and are freed with the last one. A structure only
refers to the memory of its chunk. Nothing is copied, and one result can be taken any number of times.

A child may be moved out of its parent by the one who takes it, so each has a reference of its own.

Source: Apache Arrow, "The Arrow C data interface", "The Arrow C stream interface", "The Arrow PyCapsule Interface".
"""

from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from libc.errno cimport ENOMEM
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from headrace._core.arrow.abi cimport ARROW_FLAG_NULLABLE
from headrace._core.arrow.columns cimport BITS, BYTES, FIXED, LISTED, Column, Dictionary, count_down, count_up, release_chunk

# --- schemas

cdef Tree *make_tree(object fields) except NULL:
    """Make the schema of columns: the fields of a struct that has no name."""
    cdef Tree *tree = <Tree *>calloc(1, sizeof(Tree))
    if tree == NULL:
        raise MemoryError()
    tree.references = 1
    try:
        fill_node(&tree.root, b'+s', b'', b'', fields)
    except BaseException:
        release_tree(tree)
        raise
    return tree


cdef int fill_node(Node *node, bytes format, bytes name, bytes metadata, object children) except -1:
    cdef int64_t i = 0
    node.format = copied(format + b'\0')
    node.name = copied(name + b'\0')
    if metadata:
        node.metadata = copied(metadata)
    if children:
        node.children = <Node *>calloc(<size_t>len(children), sizeof(Node))
        if node.children == NULL:
            raise MemoryError()
        node.count = len(children)
        for child in children:
            fill_node(&node.children[i], child.format.encode(), child.name.encode(), metadata_of(child), child.children)
            if child.kind == 'enum':
                node.children[i].dictionary = <Node *>calloc(1, sizeof(Node))
                if node.children[i].dictionary == NULL:
                    raise MemoryError()
                fill_node(node.children[i].dictionary, b'u', b'', b'', ())
            i += 1
    return 0


cdef char *copied(bytes data) except NULL:
    cdef char *made = <char *>calloc(<size_t>(len(data) + 1), 1)
    if made == NULL:
        raise MemoryError()
    memcpy(made, <const char *>data, <size_t>len(data))
    return made


cdef bytes metadata_of(object field):
    """Return the metadata of an extension type: the number of pairs, and each key and value with its length in front."""
    if not field.extension:
        return b''
    return number(2) + with_length(b'ARROW:extension:name') + with_length(field.extension.encode()) \
        + with_length(b'ARROW:extension:metadata') + with_length(b'')


cdef bytes number(int32_t value):
    return (<char *>&value)[:4]


cdef bytes with_length(bytes text):
    return number(<int32_t>len(text)) + text


cdef void free_node(Node *node) noexcept nogil:
    cdef int64_t i
    free(node.format)
    free(node.name)
    free(node.metadata)
    for i in range(node.count):
        free_node(&node.children[i])
    free(node.children)
    if node.dictionary != NULL:
        free_node(node.dictionary)
        free(node.dictionary)


cdef void release_tree(Tree *tree) noexcept nogil:
    if tree != NULL and count_down(&tree.references):
        free_node(&tree.root)
        free(tree)


cdef struct SchemaPrivate:
    Tree *tree
    ArrowSchema *storage         # of the children, and of the dictionary behind them
    ArrowSchema **children


cdef int export_schema(Tree *tree, Node *node, ArrowSchema *out) noexcept nogil:
    """Fill a structure; returns 0, or ENOMEM with nothing left to be released."""
    cdef:
        int64_t i
        SchemaPrivate *private = <SchemaPrivate *>calloc(1, sizeof(SchemaPrivate))
    memset(out, 0, sizeof(ArrowSchema))
    if private == NULL:
        return ENOMEM
    private.storage = <ArrowSchema *>calloc(<size_t>(node.count + 1), sizeof(ArrowSchema))
    private.children = <ArrowSchema **>calloc(<size_t>(node.count + 1), sizeof(ArrowSchema *))
    count_up(&tree.references)
    private.tree = tree
    out.private_data = private
    out.release = schema_released
    if private.storage == NULL or private.children == NULL:
        schema_released(out)
        return ENOMEM
    out.format = node.format
    out.name = node.name
    out.metadata = node.metadata
    out.flags = ARROW_FLAG_NULLABLE
    out.children = private.children
    for i in range(node.count):
        if export_schema(tree, &node.children[i], &private.storage[i]):
            schema_released(out)
            return ENOMEM
        private.children[i] = &private.storage[i]
        out.n_children = i + 1
    if node.dictionary != NULL:
        if export_schema(tree, node.dictionary, &private.storage[node.count]):
            schema_released(out)
            return ENOMEM
        out.dictionary = &private.storage[node.count]
    return 0


cdef void schema_released(ArrowSchema *schema) noexcept nogil:
    cdef:
        int64_t i
        SchemaPrivate *private = <SchemaPrivate *>schema.private_data
    for i in range(schema.n_children):
        if schema.children[i].release != NULL:
            schema.children[i].release(schema.children[i])
    if schema.dictionary != NULL and schema.dictionary.release != NULL:
        schema.dictionary.release(schema.dictionary)
    free(private.storage)
    free(private.children)
    release_tree(private.tree)
    free(private)
    schema.release = NULL


# --- arrays

cdef struct ArrayPrivate:
    Chunk *chunk
    const void *buffers[3]
    ArrowArray *storage
    ArrowArray **children


cdef int export_array(Chunk *chunk, Column *column, ArrowArray *out) noexcept nogil:
    """Fill a structure; returns 0, or ENOMEM with nothing left to be released."""
    cdef:
        int64_t i
        ArrayPrivate *private = array_private(chunk, column.count, out)
    if private == NULL:
        return ENOMEM
    out.length = column.length
    out.null_count = column.null_count
    private.buffers[0] = column.validity
    out.n_buffers = 1
    if column.layout == FIXED or column.layout == BITS:
        private.buffers[1] = column.values
        out.n_buffers = 2
    elif column.layout == BYTES:
        private.buffers[1] = column.offsets
        private.buffers[2] = column.values
        out.n_buffers = 3
    elif column.layout == LISTED:
        private.buffers[1] = column.offsets
        out.n_buffers = 2
    for i in range(column.count):
        if export_array(chunk, &column.children[i], &private.storage[i]):
            array_released(out)
            return ENOMEM
        private.children[i] = &private.storage[i]
        out.n_children = i + 1
    if column.dictionary != NULL:
        if export_dictionary(chunk, column.dictionary, &private.storage[column.count]):
            array_released(out)
            return ENOMEM
        out.dictionary = &private.storage[column.count]
    return 0


cdef int export_dictionary(Chunk *chunk, Dictionary *dictionary, ArrowArray *out) noexcept nogil:
    cdef ArrayPrivate *private = array_private(chunk, 0, out)
    if private == NULL:
        return ENOMEM
    # The chunk has a reference to the dictionary.
    out.length = dictionary.count
    private.buffers[1] = dictionary.offsets
    private.buffers[2] = dictionary.bytes
    out.n_buffers = 3
    return 0


cdef ArrayPrivate *array_private(Chunk *chunk, int64_t count, ArrowArray *out) noexcept nogil:
    """Begin a structure with so many children, and perhaps a dictionary; returns NULL if there is no memory."""
    cdef ArrayPrivate *private = <ArrayPrivate *>calloc(1, sizeof(ArrayPrivate))
    memset(out, 0, sizeof(ArrowArray))
    if private == NULL:
        return NULL
    private.storage = <ArrowArray *>calloc(<size_t>(count + 1), sizeof(ArrowArray))
    private.children = <ArrowArray **>calloc(<size_t>(count + 1), sizeof(ArrowArray *))
    count_up(&chunk.references)
    private.chunk = chunk
    out.private_data = private
    out.release = array_released
    out.buffers = private.buffers
    out.children = private.children
    if private.storage == NULL or private.children == NULL:
        array_released(out)
        return NULL
    return private


cdef void array_released(ArrowArray *array) noexcept nogil:
    cdef:
        int64_t i
        ArrayPrivate *private = <ArrayPrivate *>array.private_data
    for i in range(array.n_children):
        if array.children[i].release != NULL:
            array.children[i].release(array.children[i])
    if array.dictionary != NULL and array.dictionary.release != NULL:
        array.dictionary.release(array.dictionary)
    free(private.storage)
    free(private.children)
    release_chunk(private.chunk)
    free(private)
    array.release = NULL


# --- streams

cdef Result *make_result(Tree *tree, int64_t count) except NULL:
    """Make a result of so many chunks, which are to be filled in."""
    cdef Result *result = <Result *>calloc(1, sizeof(Result))
    if result == NULL:
        raise MemoryError()
    result.references = 1
    result.chunks = <Chunk **>calloc(<size_t>(count + 1), sizeof(Chunk *))
    if result.chunks == NULL:
        free(result)
        raise MemoryError()
    count_up(&tree.references)
    result.tree = tree
    return result


cdef void release_result(Result *result) noexcept nogil:
    cdef int64_t i
    if result != NULL and count_down(&result.references):
        for i in range(result.count):
            release_chunk(result.chunks[i])
        free(result.chunks)
        release_tree(result.tree)
        free(result)


cdef struct StreamPrivate:
    Result *result
    int64_t next


cdef int stream_schema(ArrowArrayStream *stream, ArrowSchema *out) noexcept nogil:
    cdef Tree *tree = (<StreamPrivate *>stream.private_data).result.tree
    return export_schema(tree, &tree.root, out)


cdef int stream_next(ArrowArrayStream *stream, ArrowArray *out) noexcept nogil:
    cdef:
        StreamPrivate *private = <StreamPrivate *>stream.private_data
        Chunk *chunk
        int failed
    if private.next == private.result.count:
        # A released structure marks the end.
        memset(out, 0, sizeof(ArrowArray))
        return 0
    chunk = private.result.chunks[private.next]
    failed = export_array(chunk, &chunk.root, out)
    if not failed:
        private.next += 1
    return failed


cdef const char *stream_error(ArrowArrayStream *stream) noexcept nogil:
    return NULL


cdef void stream_released(ArrowArrayStream *stream) noexcept nogil:
    release_result((<StreamPrivate *>stream.private_data).result)
    free(stream.private_data)
    stream.release = NULL


# --- capsules

cdef object schema_capsule(Tree *tree):
    cdef ArrowSchema *made = <ArrowSchema *>calloc(1, sizeof(ArrowSchema))
    if made == NULL or export_schema(tree, &tree.root, made):
        free(made)
        raise MemoryError()
    try:
        return PyCapsule_New(made, b'arrow_schema', schema_dropped)
    except BaseException:
        schema_released(made)
        free(made)
        raise


cdef void schema_dropped(object capsule) noexcept:
    cdef ArrowSchema *schema = <ArrowSchema *>PyCapsule_GetPointer(capsule, b'arrow_schema')
    if schema.release != NULL:
        schema.release(schema)
    free(schema)


cdef object array_capsule(Chunk *chunk):
    cdef ArrowArray *made = <ArrowArray *>calloc(1, sizeof(ArrowArray))
    if made == NULL or export_array(chunk, &chunk.root, made):
        free(made)
        raise MemoryError()
    try:
        return PyCapsule_New(made, b'arrow_array', array_dropped)
    except BaseException:
        array_released(made)
        free(made)
        raise


cdef void array_dropped(object capsule) noexcept:
    cdef ArrowArray *array = <ArrowArray *>PyCapsule_GetPointer(capsule, b'arrow_array')
    if array.release != NULL:
        array.release(array)
    free(array)


cdef object stream_capsule(Result *result):
    cdef:
        ArrowArrayStream *made = <ArrowArrayStream *>calloc(1, sizeof(ArrowArrayStream))
        StreamPrivate *private = <StreamPrivate *>calloc(1, sizeof(StreamPrivate))
    if made == NULL or private == NULL:
        free(made)
        free(private)
        raise MemoryError()
    count_up(&result.references)
    private.result = result
    made.private_data = private
    made.get_schema = stream_schema
    made.get_next = stream_next
    made.get_last_error = stream_error
    made.release = stream_released
    try:
        return PyCapsule_New(made, b'arrow_array_stream', stream_dropped)
    except BaseException:
        stream_released(made)
        free(made)
        raise


cdef void stream_dropped(object capsule) noexcept:
    cdef ArrowArrayStream *stream = <ArrowArrayStream *>PyCapsule_GetPointer(capsule, b'arrow_array_stream')
    if stream.release != NULL:
        stream.release(stream)
    free(stream)
