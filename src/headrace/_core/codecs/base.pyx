"""The codec of one PostgreSQL type, and the registry of the built-in codecs.

Each group of types has a module in this package, which registers its codecs when it is imported. OIDs below 10,000 are
assigned by hand in the server's own catalogue and never change (bki-overview, "OID Assignment").
"""

from headrace.exceptions import ProtocolError

cdef dict BUILTIN = {}


cdef class Codec:
    """How values of one PostgreSQL type are read from and written to the wire."""

    def __repr__(self) -> str:
        return f'<Codec {self.schema}.{self.name} oid={self.oid} {"binary" if self.format else "text"}>'


cdef Codec scalar(uint32_t oid, str name, str python, encode_t encode, decode_t decode, int format=1):
    """Make a codec for a type of pg_catalog and add it to the registry."""
    cdef Codec codec = Codec.__new__(Codec)
    codec.oid = oid
    codec.name = name
    codec.schema = 'pg_catalog'
    codec.kind = 'scalar'
    codec.python = python
    codec.format = format
    codec.encode = encode
    codec.decode = decode
    return add_builtin(codec)


cdef Codec add_builtin(Codec codec):
    """Add a codec to the registry of types with fixed OIDs."""
    BUILTIN[codec.oid] = codec
    return codec


cdef Codec builtin(uint32_t oid):
    """Return the built-in codec of an OID, or None."""
    return <Codec>BUILTIN.get(oid)


def builtin_codecs() -> dict:
    """Return all built-in codecs by OID, in the order in which they were registered."""
    return dict(BUILTIN)


cdef int bad_length(Codec codec, Py_ssize_t size, str expected) except -1:
    """Raise ProtocolError for a value whose length its type does not allow."""
    raise ProtocolError(f'a {codec.name} value of {size} bytes from the server: expected {expected}')


cdef object missing_attribute(str expected, object value, str attribute):
    """Raise TypeError for a Python value that the codec does not take; name the attribute that it lacks."""
    found = type(value).__name__
    cause = '' if hasattr(value, attribute) else f": '{found}' object has no attribute '{attribute}'"
    raise TypeError(f'expected {expected}, got {found}{cause}')


cdef object wrong_type(str expected, object value):
    """Raise TypeError for a Python value of a type that the codec does not take."""
    raise TypeError(f'expected {expected}, got {type(value).__name__}')
