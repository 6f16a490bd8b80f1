# The codec of hstore, a type of an extension.

from libc.stdint cimport uint32_t

from headrace._core.codecs.base cimport Codec

cdef Codec hstore_codec(uint32_t oid, str name, str schema)
