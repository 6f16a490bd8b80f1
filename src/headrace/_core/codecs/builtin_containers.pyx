"""The codecs of the arrays, ranges, multiranges and anonymous rows of pg_catalog; their OIDs are fixed."""

from headrace._core.codecs.array cimport ArrayCodec, array_codec
from headrace._core.codecs.base cimport Codec, add_builtin, builtin
from headrace._core.codecs.range cimport RangeCodec, multirange_codec, range_codec
from headrace._core.codecs.record cimport CodecSource, record_codec

from headrace._core.codecs.container_oids import ARRAYS, RANGES


cdef int _register_ranges() except -1:
    cdef RangeCodec made
    for oid, name, subtype_oid, multirange_oid, multirange_name in RANGES:
        made = range_codec(oid, name, 'pg_catalog', builtin(subtype_oid))
        add_builtin(made)
        add_builtin(multirange_codec(multirange_oid, multirange_name, 'pg_catalog', made))
    return 0


cdef int _register_arrays() except -1:
    cdef:
        Codec element
        ArrayCodec array
        str name, delimiter
    for oid, name, element_oid, delimiter in sorted(ARRAYS, key=depends_on_arrays):
        element = builtin(element_oid)
        if element is None:
            continue
        array = array_codec(oid, element.name + '[]', 'pg_catalog', element, <char>ord(delimiter))
        if not name.startswith('_'):
            # int2vectorrecv() and oidvectorrecv() accept only arrays that begin at 0.
            array.name = name
            array.lower = 0
        add_builtin(array)
    return 0


def depends_on_arrays(row: tuple) -> bool:
    """Return whether the elements are arrays themselves, as in int2vector[]: such types are registered last."""
    return row[2] in {other[0] for other in ARRAYS}


_register_ranges()
add_builtin(record_codec(CodecSource()))
_register_arrays()
