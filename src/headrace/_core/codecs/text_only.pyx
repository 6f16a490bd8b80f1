"""Types that are exchanged as str in the server's text form, and void.

Their binary form is missing, depends on the server's version, or says less than the text: money has no currency in it,
a reg* type is an OID instead of a name, tsvector leaves the quoting to the client. Parameters are str; the server
checks their contents.
"""

from libc.stdint cimport uint32_t

from headrace._core.wire.buffer cimport WriteBuffer
from headrace._core.codecs.base cimport Codec, bad_length, scalar
from headrace._core.codecs.text cimport decode_text, encode_text

cdef tuple TEXT_ONLY = (
    (790, 'money'),
    # xml_recv() reads the bytes in the encoding that an XML declaration names; the text form is always UTF-8.
    (142, 'xml'),
    (3614, 'tsvector'),
    (3615, 'tsquery'),
    (3642, 'gtsvector'),
    (1033, 'aclitem'),
    (24, 'regproc'),
    (2202, 'regprocedure'),
    (2203, 'regoper'),
    (2204, 'regoperator'),
    (2205, 'regclass'),
    (2206, 'regtype'),
    (4096, 'regrole'),
    (4089, 'regnamespace'),
    (3734, 'regconfig'),
    (3769, 'regdictionary'),
    (4191, 'regcollation'),
    (6490, 'regdatabase'),
    # Statistics and parse trees: the server sends them but does not accept them as input.
    (194, 'pg_node_tree'),
    (3361, 'pg_ndistinct'),
    (3402, 'pg_dependencies'),
    (5017, 'pg_mcv_list'),
    (4600, 'pg_brin_bloom_summary'),
    (4601, 'pg_brin_minmax_multi_summary'),
)

# Pseudo-types for arguments and results of functions (datatype-pseudo). A client receives values of them if a column
# of a catalogue is declared so: pg_stats.most_common_vals is an anyarray.
cdef tuple PSEUDO = (
    (2276, 'any'),
    (2283, 'anyelement'),
    (2277, 'anyarray'),
    (2776, 'anynonarray'),
    (3500, 'anyenum'),
    (3831, 'anyrange'),
    (4537, 'anymultirange'),
    (5077, 'anycompatible'),
    (5078, 'anycompatiblearray'),
    (5079, 'anycompatiblenonarray'),
    (5080, 'anycompatiblerange'),
    (4538, 'anycompatiblemultirange'),
    (2279, 'trigger'),
    (3838, 'event_trigger'),
    (32, 'pg_ddl_command'),
    (2280, 'language_handler'),
    (3115, 'fdw_handler'),
    (325, 'index_am_handler'),
    (269, 'table_am_handler'),
    (3310, 'tsm_handler'),
    (2281, 'internal'),
)


cdef object decode_void(Codec codec, const char *data, Py_ssize_t size):
    """Return None: void_send() sends no bytes."""
    if size != 0:
        bad_length(codec, size, 'no bytes')
    return None


cdef int encode_void(Codec codec, WriteBuffer out, object value) except -1:
    raise TypeError(f'void has no values: expected None, got {type(value).__name__}')


cdef int _register() except -1:
    cdef:
        uint32_t oid
        str name
        Codec codec
    for oid, name in TEXT_ONLY:
        scalar(oid, name, 'str', encode_text, decode_text, 0)
    for oid, name in PSEUDO:
        codec = scalar(oid, name, 'str', encode_text, decode_text, 0)
        codec.kind = 'pseudo'
    codec = scalar(2278, 'void', 'None', encode_void, decode_void)
    codec.kind = 'pseudo'
    return 0


_register()
