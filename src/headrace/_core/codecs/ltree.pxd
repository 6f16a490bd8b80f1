# The codec of ltree, lquery and ltxtquery, types of an extension.

from headrace._core.codecs.base cimport Codec

cdef Codec ltree_codec(Codec base)
