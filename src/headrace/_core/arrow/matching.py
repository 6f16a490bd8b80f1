"""Which Arrow types go into which types of PostgreSQL, and the writers for them.

The rule is that a value arrives as it is, or raises an error. A type is refused if its values would have to be guessed
at: a timestamp without a zone is no point in time, and a number is no text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headrace._core.arrow import writers
from headrace._core.arrow.fields import INTEGERS, Field
from headrace._core.arrow.targets import Target
from headrace._core.arrow.tsvector import binary_tsvector
from headrace._core.arrow.writers import Writer
from headrace._core.codecs import builtin as _registered  # noqa: F401  registers the codecs
from headrace._core.codecs.base import builtin_codecs
from headrace._core.codecs.text_forms import TEXT_FORMS, interval_numbers

if TYPE_CHECKING:
    from headrace._core.codecs.base import Codec

__all__ = ["Mismatch", "writer_for"]

CODECS: Final = builtin_codecs()

STRINGS: Final = frozenset({"u", "U", "vu"})
BYTES: Final = frozenset({"z", "Z", "vz"})
LISTS: Final = frozenset({"+l", "+L", "+vl", "+vL"})
RUN_ENDS: Final = frozenset({"s", "i", "l"})

BOOL, BYTEA, TEXT, MONEY, INTERVAL, UUID, TSVECTOR = 16, 17, 25, 790, 1186, 2950, 3614

REG: Final = frozenset({24, 2202, 2203, 2204, 2205, 2206, 4096, 4089, 3734, 3769, 4191, 6490})
"""The types whose values are names in text and OIDs in binary."""

VECTORS: Final = frozenset({"vector_send", "halfvec_send"})
"""The functions that make the binary forms of pgvector's types."""

FLOATS: Final = frozenset({"e", "f", "g"})

TEXTS: Final = frozenset({19, 25, 114, 142, 705, 1042, 1043, 1790, 2275})
"""Types whose binary form is their text: name, text, json, xml, unknown, bpchar, varchar, refcursor and cstring."""

VERSIONED: Final = frozenset({3802, 4072})
"""jsonb and jsonpath: a byte with the version, and the text."""

TAKE_TEXT: Final = frozenset({650, 774, 829, 869, 1700, 2950})
"""Types whose codecs take text: cidr, macaddr8, macaddr, inet, numeric and uuid."""

NUMBERS: Final = {
    20: "int8",
    21: "int2",
    23: "int4",
    26: "oid",
    28: "oid",
    29: "oid",
    700: "float4",
    701: "float8",
    1700: "numeric",
    3220: "xid8",
    5069: "xid8",
    6437: "xid8",
    **dict.fromkeys(REG, "oid"),
}
"""Types that are numbers in binary, by the one that they look like. The reg* types are OIDs."""

TIMES: Final = {1082: "date", 1083: "time", 1114: "timestamp", 1184: "timestamptz", 1186: "interval"}

MAX_SCALE: Final = 1000
"""Scales beyond it are refused; numeric has at most 16,383 decimals."""

MAX_DIMENSIONS: Final = 6
"""MAXDIM in the server's array.h."""


class Mismatch(Exception):
    """An Arrow type cannot go into a type of PostgreSQL; the text says how to mend it."""

    def __init__(self, field: Field, target: Target, remedy: str) -> None:
        super().__init__(remedy)
        self.field = field
        self.target = target
        self.remedy = remedy

    def __str__(self) -> str:
        return f"Arrow type {self.field.type} for type {self.target.name}: {self.remedy}"


def writer_for(field: Field, target: Target) -> Writer:
    """Return the writer of an Arrow type for a type of PostgreSQL; raises Mismatch if there is none."""
    form = field.format
    if not field.is_known:
        raise Mismatch(field, target, "headrace does not know this format")
    if field.dictionary is not None:
        if form not in INTEGERS:
            raise Mismatch(field, target, "the indexes of its dictionary are not integers")
        return writers.dictionary_writer(form, writer_for(field.dictionary, target))
    if form == "n":
        return writers.null_writer()
    if form == "+r":
        if len(field.children) != 2 or field.children[0].format not in RUN_ENDS:
            raise Mismatch(field, target, "the ends of its runs are not integers")
        return writers.run_end_writer(field.children[0].format, writer_for(field.children[1], target))
    if form in STRINGS and target.codec is not None:
        writer = _from_text_form(form, target, target.codec)
        if writer is not None:
            return writer
    if target.send in VECTORS and _is_list(field):
        number = field.children[0]
        if number.format in FLOATS and number.dictionary is None:
            return writers.vector_writer(form, target.name, number.format, target.send == "halfvec_send")
    if target.send == "hstore_send" and form == "+m":
        return _hstore(field, target)
    if target.kind == "array":
        return _array(field, target)
    if target.kind == "composite":
        return _composite(field, target)
    if target.kind == "range":
        return _range(field, target)
    if target.kind == "multirange":
        return _multirange(field, target)
    writer = _scalar(field, target)
    if writer is None:
        raise Mismatch(field, target, _remedy(field, target))
    return writer


def _scalar(field: Field, target: Target) -> Writer | None:
    form, oid = field.format, target.base
    if form in STRINGS:
        return _from_string(form, target)
    if form in BYTES or form.startswith("w:"):
        if oid == UUID and form in (*BYTES, "w:16"):
            return writers.bytes_writer(form, target.name, "uuid")
        is_binary = oid == BYTEA or target.kind == "binary"
        return writers.bytes_writer(form, target.name, "plain") if is_binary else None
    if oid == BOOL:
        is_bool = form == "b" or (form == "c" and field.extension == "arrow.bool8")
        return writers.bool_writer(form) if is_bool else None
    if oid in NUMBERS:
        number = NUMBERS[oid]
        if form in INTEGERS:
            return writers.integer_writer(form, number)
        if form in ("e", "f", "g"):
            return writers.float_writer(form, number, CODECS[1700], TEXT_FORMS[700].to_text)
        if form.startswith("d:"):
            _, scale, bits = field.decimal
            if bits not in (32, 64, 128, 256) or not -MAX_SCALE <= scale <= MAX_SCALE:
                return None
            return writers.decimal_writer(bits, scale, number)
        return None
    return writers.time_writer(form, TIMES[oid]) if oid in TIMES else None


def _from_string(form: str, target: Target) -> Writer | None:
    oid = target.base
    if oid in TEXTS or target.kind in ("enum", "text"):
        return writers.bytes_writer(form, target.name, "text")
    if oid in VERSIONED or target.kind == "versioned":
        return writers.bytes_writer(form, target.name, "versioned")
    if oid == INTERVAL:
        return writers.bytes_writer(form, target.name, "interval", convert=interval_numbers)
    if oid == TSVECTOR:
        return writers.bytes_writer(form, target.name, "made", convert=binary_tsvector)
    codec = CODECS.get(oid)
    if codec is None or codec.format != 1 or oid == BYTEA or target.kind != "scalar":
        return None
    if oid in TAKE_TEXT:
        return writers.bytes_writer(form, target.name, "form", codec)
    if oid in TEXT_FORMS:
        return writers.bytes_writer(form, target.name, "form", codec, TEXT_FORMS[oid].from_text)
    return None


def _from_text_form(form: str, target: Target, codec: Codec) -> Writer | None:
    """Return the writer of the text form of an array, a range or a composite, None if there is none."""
    if target.base in TEXT_FORMS:  # int2vector and oidvector
        return writers.bytes_writer(form, target.name, "form", codec, TEXT_FORMS[target.base].from_text)
    return writers.parsed_writer(form, target.name, codec)


def _array(field: Field, target: Target) -> Writer:
    assert target.element is not None
    if not _is_list(field):
        raise Mismatch(field, target, "it is expected to be a list")
    # A list inside of a list is a dimension, unless the elements are arrays themselves, by way of a domain.
    lists = [field]
    while _is_list(lists[-1]) and target.element.kind not in ("array", "multirange"):
        lists.append(lists[-1].children[0])
    if target.element.kind in ("array", "multirange"):
        lists.append(field.children[0])
    *lists, items = lists
    if len(lists) > MAX_DIMENSIONS:
        raise Mismatch(field, target, f"an array has at most {MAX_DIMENSIONS} dimensions")
    writer = _inner(items, target.element, field, target)
    for depth, each in enumerate(reversed(lists)):
        writer = writers.list_writer(
            each.format, target.name, writer, nests=depth > 0, element=target.element.oid, lower=target.lower
        )
    return writer


def _composite(field: Field, target: Target) -> Writer:
    names = [child.name for child in field.children]
    if field.format != "+s":
        raise Mismatch(field, target, f"it is expected to be a struct with the fields {', '.join(target.names)}")
    unknown = [name for name in names if name not in target.names]
    if unknown or len(set(names)) < len(names):
        what = f"the type has no attribute {unknown[0]!r}" if unknown else "two fields have one name"
        raise Mismatch(field, target, f"{what}; its attributes are {', '.join(target.names)}")
    positions = tuple(names.index(name) if name in names else -1 for name in target.names)
    children = tuple(
        _inner(field.children[position], attribute, field, target) if position >= 0 else None
        for position, attribute in zip(positions, target.attributes, strict=True)
    )
    oids = tuple(attribute.oid for attribute in target.attributes)
    return writers.composite_writer(target.name, target.names, oids, children, positions)


def _range(field: Field, target: Target) -> Writer:
    assert target.element is not None
    names = [child.name for child in field.children]
    flags = ("lower_inc", "upper_inc", "empty")
    expected = (
        "it is expected to be a struct with lower and upper, and the bools lower_inc, upper_inc and empty or none"
    )
    if field.format != "+s" or len(set(names)) < len(names) or not {"lower", "upper"} <= set(names):
        raise Mismatch(field, target, expected)
    if not set(names) <= {"lower", "upper", *flags}:
        raise Mismatch(field, target, expected)
    positions = tuple(names.index(name) if name in names else -1 for name in ("lower", "upper", *flags))
    children: list[Writer | None] = [
        _inner(field.children[position], target.element, field, target) for position in positions[:2]
    ]
    for position in positions[2:]:
        if position >= 0 and field.children[position].format != "b":
            raise Mismatch(field, target, expected)
        children.append(writers.bool_writer("b") if position >= 0 else None)
    return writers.range_writer(target.name, tuple(children), positions)


def _hstore(field: Field, target: Target) -> Writer:
    text = Target(TEXT, "text", "scalar", TEXT)
    pairs = field.children[0] if len(field.children) == 1 else None
    if pairs is None or pairs.format != "+s" or len(pairs.children) != 2:
        raise Mismatch(field, target, "it is expected to be a map of strings to strings")
    key, value = (_inner(child, text, field, target) for child in pairs.children)
    return writers.hstore_writer(target.name, key, value)


def _multirange(field: Field, target: Target) -> Writer:
    assert target.element is not None
    if not _is_list(field):
        raise Mismatch(field, target, "it is expected to be a list of structs")
    return writers.multirange_writer(
        field.format, target.name, _inner(field.children[0], target.element, field, target)
    )


def _inner(field: Field, target: Target, outer: Field, outer_target: Target) -> Writer:
    """Return the writer of a part; a Mismatch of it is one of the whole."""
    try:
        return writer_for(field, target)
    except Mismatch as mismatch:
        raise Mismatch(
            outer, outer_target, f"{mismatch.field.type} for {mismatch.target.name}: {mismatch.remedy}"
        ) from None


def _is_list(field: Field) -> bool:
    is_list = field.format in LISTS or field.format.startswith("+w:")
    return is_list and field.is_known and field.dictionary is None and len(field.children) == 1


def _remedy(field: Field, target: Target) -> str:
    """Say how the data can be made to fit a type that is none of many parts."""
    form, oid = field.format, target.base
    if oid == 1184 and form.startswith("ts"):
        return "it has no time zone, so say which one is meant: cast it to timestamp[us, UTC] or localize it"
    if oid == 1114 and form.startswith("ts"):
        return (
            "it has a time zone, which the column would lose: cast it to timestamp[us], or make the column timestamptz"
        )
    if oid == 1082 and form.startswith("ts"):
        return "cast it to date32, which drops the time"
    if oid in TEXTS or target.kind in ("enum", "text", "versioned") or oid in VERSIONED:
        return "cast it to string"
    if target.send in VECTORS:
        return "cast it to a list of float32"
    if target.send == "hstore_send":
        return "make it a map of strings to strings, or copy the text into a column of type text and cast it there"
    if oid == BYTEA or target.kind == "binary":
        return "cast it to binary"
    if oid == UUID:
        return "cast it to string or fixed_size_binary[16]"
    if oid == BOOL:
        return "cast it to bool"
    if oid in REG:
        return "cast OIDs to uint32; copy names into a column of type text and cast it there"
    if oid == MONEY:
        return (
            "its binary form depends on the server's lc_monetary; copy decimals into a column of type numeric and cast "
            "it there"
        )
    if oid in NUMBERS:
        number = NUMBERS[oid]
        casts = {"int2": "int16", "int4": "int32", "int8": "int64", "oid": "uint32", "xid8": "uint64"}
        casts |= {"float4": "float32", "float8": "float64", "numeric": "decimal128"}
        return f"cast it to {casts[number]}"
    if oid in TIMES:
        casts = {"date": "date32", "time": "time64[us]", "timestamp": "timestamp[us]", "interval": "duration[us]"}
        return f"cast it to {casts.get(TIMES[oid], 'timestamp[us, UTC]')}"
    if target.kind == "unknown" or (oid in CODECS and CODECS[oid].format == 0):
        return (
            "the type has no binary form that headrace knows; copy a text into a column of type text and cast it "
            "there, or use copy_to_table() with format='csv'"
        )
    return "cast it to string, with the text form of the type"
