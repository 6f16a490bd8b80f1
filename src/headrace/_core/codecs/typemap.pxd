# Which codec a connection uses for an OID.

from libc.stdint cimport uint32_t

from headrace._core.codecs.base cimport Codec
from headrace._core.codecs.record cimport CodecSource


cdef class TypeCatalogue:
    cdef:
        dict infos                 # OID -> TypeInfo
        set outdated               # OIDs to be looked up again
        object maps                # the TypeMaps in use
        dict asked                 # OID being looked up by one connection -> what the others want to be called then

    cdef int changed(self) except -1
    cdef set made_of(self, oids)
    cdef list claim(self, list oids)
    cdef int release(self, list oids) except -1


cdef class TypeMap(CodecSource):
    cdef:
        readonly int version       # changes whenever a codec may have changed: plans made earlier are made again
        readonly TypeCatalogue catalogue
        readonly object catalogues         # a pool's, that of the server to be found in it; None
        readonly bint unidentified         # the server is to be asked which one it is, with the first types looked up
        readonly bint pooled               # a pooler may hand each statement to another backend
        readonly bint single_server        # all backends are of one server: the operator says so
        public int backend_pid             # as the server told at the start
        readonly set unseen        # OIDs met within records that nothing is known of
        dict _codecs               # OID -> codec, as found so far
        dict _customs              # OID -> (form, encoder, decoder), or (codec,)
        dict _names                # (schema, name) of a type whose codec was set -> OID that it had then
        bint _lenient
        int _depth
        object __weakref__

    cdef bint asks_again(self) noexcept
    cdef list foreign(self, oids)
    cdef list to_look_up(self, oids)
    cdef int identified(self, list rows) except -1
    cdef int leave(self) except -1
    cdef bint cures(self, object error) except -1
    cdef int _changed(self) except -1
    cdef Codec _resolve(self, uint32_t oid)
    cdef Codec _plain(self, uint32_t oid)
    cdef Codec _rebuilt(self, Codec codec)
    cdef Codec _built(self, object info)
    cdef Codec _part(self, uint32_t oid)
    cdef Codec _known(self, uint32_t oid)
