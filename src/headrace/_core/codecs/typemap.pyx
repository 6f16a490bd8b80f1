"""Which codec a connection uses for an OID."""

from headrace._core.codecs.base cimport Codec, builtin


INTROSPECTION_QUERY = 'SELECT 1 WHERE $1::oid[] IS NULL'
INTROSPECTION_COLUMNS = [('?column?', 23)]


cdef class TypeMap:
    """The codecs of one connection, by OID."""

    def __cinit__(self):
        self.version = 1
        self._codecs = {}

    cdef Codec find(self, uint32_t oid):
        """The codec for the type, or None where its type has not been learnt yet."""
        cdef Codec codec = <Codec>self._codecs.get(oid)
        if codec is None:
            codec = builtin(oid)
        return codec

    def missing(self, oids: list) -> list:
        """The OIDs among these that nothing is known of."""
        return []

    def learn(self, asked: list, rows: list) -> None:
        """Take what the introspection query said."""
