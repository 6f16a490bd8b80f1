"""The text and binary variants of codecs.

A value of a composite type, an anonymous record and a row of binary COPY each have one format throughout, but the
codecs of the types inside may prefer either format. binary_variant() returns the binary variant of a codec that works
in text, text_variant() the text variant of a codec that works in binary.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, uint32_t

from headrace._core.wire.buffer cimport WriteBuffer, load_u32, put_i32, put_i64
from headrace._core.codecs.array cimport ArrayCodec, array_codec
from headrace._core.codecs.base cimport Codec, bad_length, builtin
from headrace._core.codecs.composite cimport CompositeCodec, composite_codec
from headrace._core.codecs.custom cimport CustomCodec, plain_text, with_inner
from headrace._core.codecs.domain cimport AliasCodec, alias_codec
from headrace._core.codecs.out_of_range cimport LENIENT, exact_text, is_lenient
from headrace._core.codecs.range cimport MultirangeCodec, RangeCodec, multirange_codec, range_codec
from headrace._core.codecs.text cimport decode_text, encode_text, text_fallback

from headrace._core.codecs.text_forms import TEXT_FORMS, interval_numbers
from headrace.exceptions._values import shown

# xml and pg_node_tree: their binary form is their text.
cdef frozenset TEXT_IN_BINARY = frozenset((142, 194))
# The reg* types, which are OIDs in binary.
cdef frozenset REG = frozenset((24, 2202, 2203, 2204, 2205, 2206, 4096, 4089, 3734, 3769, 4191, 6490))


cdef uint32_t INTERVAL = 1186


cdef class FormCodec(Codec):
    # Converts between the text of a built-in type and its Python objects.
    cdef:
        Codec base
        object to_text
        object from_text


cdef FormCodec form_codec(Codec base, int format):
    """Make a codec of text on the wire and objects in Python (format 0), or binary and str (format 1)."""
    cdef FormCodec codec = FormCodec.__new__(FormCodec)
    codec.oid = base.oid
    codec.name = base.name
    codec.schema = base.schema
    codec.kind = base.kind
    codec.python = base.python if format == 0 else 'str'
    codec.base = base
    codec.to_text, codec.from_text = TEXT_FORMS[base.oid]
    codec.format = format
    codec.decode = decode_text_variant if format == 0 else decode_binary_variant
    codec.encode = encode_text_variant if format == 0 else encode_binary_variant
    if format == 1 and base.oid in LENIENT:
        # A codec set by the user may be meant for values that Python's objects cannot hold.
        codec.decode = decode_exact_text
        if base.oid == INTERVAL:
            codec.encode = encode_interval
    return codec


cdef object decode_text_variant(Codec self, const char *data, Py_ssize_t size):
    return (<FormCodec>self).from_text(decode_text(self, data, size))


cdef object decode_lenient(Codec self, const char *data, Py_ssize_t size):
    text = decode_text(self, data, size)
    try:
        return (<FormCodec>self).from_text(text)
    except (ValueError, OverflowError):
        return text


cdef int encode_text_variant(Codec self, WriteBuffer out, object value) except -1:
    cdef:
        FormCodec codec = <FormCodec>self
        WriteBuffer scratch = WriteBuffer()
    # The binary encoder refuses values that the type does not accept.
    codec.base.encode(codec.base, scratch, value)
    value = codec.base.decode(codec.base, scratch.data + 4, scratch.length - 4)
    return encode_text(self, out, codec.to_text(value))


cdef object decode_binary_variant(Codec self, const char *data, Py_ssize_t size):
    cdef FormCodec codec = <FormCodec>self
    return codec.to_text(codec.base.decode(codec.base, data, size))


cdef int encode_binary_variant(Codec self, WriteBuffer out, object value) except -1:
    cdef FormCodec codec = <FormCodec>self
    if not isinstance(value, str):
        raise TypeError(f'expected str, got {type(value).__name__}')
    return codec.base.encode(codec.base, out, codec.from_text(value))


cdef object decode_exact_text(Codec self, const char *data, Py_ssize_t size):
    return exact_text((<FormCodec>self).base, data, size)


cdef int encode_interval(Codec self, WriteBuffer out, object value) except -1:
    """Write an interval from the numbers in its text: a timedelta has no months."""
    cdef object months, days, microseconds
    if not isinstance(value, str):
        raise TypeError(f'expected str, got {type(value).__name__}')
    months, days, microseconds = interval_numbers(value)
    put_i32(out, 16)
    put_i64(out, microseconds)
    put_i32(out, <int32_t>days)
    return put_i32(out, <int32_t>months)


cdef object decode_reg(Codec self, const char *data, Py_ssize_t size):
    if size != 4:
        bad_length(self, size, '4 bytes')
    return str(load_u32(data))


cdef int encode_reg(Codec self, WriteBuffer out, object value) except -1:
    if not isinstance(value, str) or not value.isdecimal():
        raise ValueError(f'expected the OID as digits, got {shown(value)}')
    put_i32(out, 4)
    return put_i32(out, <int32_t><uint32_t>int(value))


cdef object decode_bytes(Codec self, const char *data, Py_ssize_t size):
    return PyBytes_FromStringAndSize(data, size)


cdef Codec text_variant(Codec codec):
    """Return the text variant of a codec, or None."""
    cdef Codec inner
    if codec.format == 0:
        return codec
    if isinstance(codec, ArrayCodec):
        if codec.oid in TEXT_FORMS:
            return form_codec(codec, 0)
        inner = text_variant((<ArrayCodec>codec).element)
        if inner is None:
            return None
        return array_codec(codec.oid, codec.name, codec.schema, inner, (<ArrayCodec>codec).delimiter)
    if isinstance(codec, RangeCodec):
        inner = text_variant((<RangeCodec>codec).subtype)
        return None if inner is None else range_codec(codec.oid, codec.name, codec.schema, inner)
    if isinstance(codec, MultirangeCodec):
        inner = text_variant((<MultirangeCodec>codec).range)
        return None if inner is None else multirange_codec(codec.oid, codec.name, codec.schema, <RangeCodec>inner)
    if isinstance(codec, CompositeCodec):
        return composite_in(<CompositeCodec>codec, 0)
    if is_lenient(codec):
        inner = form_codec((<AliasCodec>codec).base, 0)
        inner.python = codec.python
        inner.decode = decode_lenient
        return inner
    if isinstance(codec, AliasCodec):
        inner = text_variant((<AliasCodec>codec).base)
        return None if inner is None else alias_codec(codec.oid, codec.name, codec.schema, codec.kind, inner)
    if isinstance(codec, CustomCodec):
        if (<CustomCodec>codec).inner is None:
            return None
        inner = text_variant((<CustomCodec>codec).inner)
        return None if inner is None else with_inner(<CustomCodec>codec, inner)
    if codec.python == 'str':
        return plain_text(codec, 0)
    if codec.oid in TEXT_FORMS and builtin(codec.oid) is codec:
        return form_codec(codec, 0)
    # For example an hstore that was set as dict.
    return None


cdef Codec binary_variant(Codec codec, int fallback=NONE):
    """Return the binary variant of a codec, or None.

    `fallback` says what to use for types without one. DIGITS: a reg* type, which is an OID in binary, becomes the
    digits of the OID. BYTES: besides that, any other type that is only known as text becomes the bytes of its binary
    form.
    """
    cdef Codec inner
    if codec.format == 1:
        return codec
    if isinstance(codec, ArrayCodec):
        inner = binary_variant((<ArrayCodec>codec).element, fallback)
        if inner is None:
            return None
        return array_codec(codec.oid, codec.name, codec.schema, inner, (<ArrayCodec>codec).delimiter)
    if isinstance(codec, RangeCodec):
        inner = binary_variant((<RangeCodec>codec).subtype, fallback)
        return None if inner is None else range_codec(codec.oid, codec.name, codec.schema, inner)
    if isinstance(codec, MultirangeCodec):
        inner = binary_variant((<MultirangeCodec>codec).range, fallback)
        return None if inner is None else multirange_codec(codec.oid, codec.name, codec.schema, <RangeCodec>inner)
    if isinstance(codec, CompositeCodec):
        return composite_in(<CompositeCodec>codec, 1, fallback) if fallback else None
    if isinstance(codec, AliasCodec):
        inner = binary_variant((<AliasCodec>codec).base, fallback)
        return None if inner is None else alias_codec(codec.oid, codec.name, codec.schema, codec.kind, inner)
    if isinstance(codec, CustomCodec):
        inner = builtin(codec.oid)
        if isinstance((<CustomCodec>codec).inner, CompositeCodec):
            inner = binary_variant((<CustomCodec>codec).inner, fallback)
        elif inner is not None and inner.format == 1 and inner.oid in TEXT_FORMS:
            inner = form_codec(inner, 1)
        else:
            inner = binary_variant((<CustomCodec>codec).inner, min(fallback, DIGITS))
        return None if inner is None else with_inner(<CustomCodec>codec, inner)
    if codec.oid in TEXT_IN_BINARY:
        return plain_text(codec, 1)
    if fallback and codec.oid in REG:
        inner = plain_text(codec, 1)
        inner.decode = decode_reg
        inner.encode = encode_reg
        return inner
    if fallback == BYTES:
        inner = plain_text(codec, 1)
        inner.python = 'bytes'
        inner.decode = decode_bytes
        return inner
    return None


cdef CompositeCodec composite_in(CompositeCodec codec, int format, int fallback=NONE):
    """Return a composite codec in a format, or None if an attribute has no codec in it."""
    cdef:
        list fields = []
        Codec attribute, field
    for attribute in codec.attributes:
        field = binary_variant(attribute, fallback) if format == 1 else text_variant(attribute)
        if field is None:
            return None
        fields.append(field)
    return composite_codec(
        codec.oid, codec.name, codec.schema, codec.names, codec.attributes, tuple(fields), format)


cdef Codec composite(uint32_t oid, str name, str schema, tuple names, tuple attributes):
    """Make the codec of a composite type: binary if all attributes allow it, else text by attributes, else one str."""
    cdef:
        list fields
        Codec attribute
    fields = [binary_variant(attribute) for attribute in attributes]
    if None not in fields:
        return composite_codec(oid, name, schema, names, attributes, tuple(fields), 1)
    fields = [text_variant(attribute) for attribute in attributes]
    if None not in fields:
        return composite_codec(oid, name, schema, names, attributes, tuple(fields), 0)
    return text_fallback(oid, name, schema)
