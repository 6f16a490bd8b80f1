# ltree, lquery and ltxtquery, an extension's types.

from headrace._core.codecs.base cimport Codec

cdef Codec ltree_codec(Codec base)
