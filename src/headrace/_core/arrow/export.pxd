# Chunks as the structures of Arrow's C interfaces.

from libc.stdint cimport int64_t

from headrace._core.arrow.abi cimport ArrowArray, ArrowArrayStream, ArrowSchema
from headrace._core.arrow.columns cimport Chunk

# One field of a schema. The strings belong to it.
cdef struct Node:
    char *format
    char *name
    char *metadata
    int64_t count
    Node *children
    Node *dictionary

cdef struct Tree:
    int64_t references
    Node root

# The chunks of a result, in order.
cdef struct Result:
    int64_t references
    int64_t count
    Chunk **chunks
    Tree *tree

cdef Tree *make_tree(object fields) except NULL
cdef void release_tree(Tree *tree) noexcept nogil
cdef Result *make_result(Tree *tree, int64_t count) except NULL
cdef void release_result(Result *result) noexcept nogil

cdef object schema_capsule(Tree *tree)
cdef object array_capsule(Chunk *chunk)
cdef object stream_capsule(Result *result)
