# Which codec a connection uses for an OID.

from libc.stdint cimport uint32_t

from headrace._core.codecs.base cimport Codec
from headrace._core.codecs.record cimport CodecSource


cdef class TypeCatalogue:
    cdef:
        dict infos                 # OID -> TypeInfo
        set outdated               # OIDs to be looked up again
        object maps                # the TypeMaps in use
        dict asked                 # OID that a connection is looking up -> callbacks of the connections that wait

    cdef int changed(self) except -1
    cdef set made_of(self, oids)
    cdef list claim(self, list oids)
    cdef int release(self, list oids) except -1


cdef class TypeMap(CodecSource):
    cdef:
        readonly int version       # changes with the codecs; plans of an earlier version are made again
        readonly TypeCatalogue catalogue
        readonly object catalogues         # those of a pool, until the server is identified; or None
        readonly bint unidentified         # the first lookup of types asks which server it is
        readonly bint pooled               # a pooler may hand each statement to another backend
        readonly bint single_server        # the user says that all backends belong to one server
        public int backend_pid             # from BackendKeyData
        readonly set unseen        # unknown OIDs met in records
        dict _codecs               # OID -> codec, as found so far
        dict _customs              # OID -> (form, encoder, decoder), or (codec,)
        dict _names                # (schema, name) of a type with a codec set -> its OID at that time
        bint _lenient
        object _json               # JsonFunctions: json and jsonb are objects; None: they are str
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
    cdef Codec _as_json(self, Codec codec)
    cdef Codec _plain(self, uint32_t oid)
    cdef Codec _rebuilt(self, Codec codec)
    cdef Codec _built(self, object info)
    cdef Codec _part(self, uint32_t oid)
    cdef Codec _known(self, uint32_t oid)
