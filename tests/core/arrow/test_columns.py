"""Columns in Arrow's format: which values come of the server's bytes, and what is refused how.

The bytes were taken from PostgreSQL 18 with the types' send functions, as by
`SELECT encode(numeric_send('1.50'), 'hex')`.
"""

from __future__ import annotations

import datetime
import struct
import uuid
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any

import pyarrow
import pytest

from headrace._core.arrow.result import ArrowShape, RowBuilder
from headrace._core.codecs.introspection import TypeInfo
from headrace.exceptions import DataError, OutdatedSchemaCacheError, ProtocolError, UnrepresentableValueError
from tests.core.arrow.columns import modifier, part, row, schema, table, taken, values
from tests.core.codecs.types_known import info

BOOL, BYTEA, CHAR, INT8, INT2, INT4, TEXT, OID, JSON = 16, 17, 18, 20, 21, 23, 25, 26, 114
FLOAT4, FLOAT8, DATE, TIME, TIMESTAMP, TIMESTAMPTZ, INTERVAL, NUMERIC = 700, 701, 1082, 1083, 1114, 1184, 1186, 1700
UUID, JSONB, INT4RANGE, NUMRANGE, INT4MULTIRANGE = 2950, 3802, 3904, 3906, 4451
INT4S, TEXTS, NUMERICS, MONEY, INET, INETS = 1007, 1009, 1231, 790, 869, 1041
MOOD, MOODS, PAIR, PRICE, PRICES = range(90_001, 90_006)

NAN = bytes.fromhex("00000000c0000000")
INFINITY, MINUS_INFINITY = bytes.fromhex("00000000d0000020"), bytes.fromhex("00000000f0000020")
UTC = datetime.UTC


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    """Have the arithmetic of the tests round nothing."""
    with localcontext(prec=1000):
        yield


def number(text: str) -> bytes:
    """Return a numeric as numeric_send() sends it."""
    value = Decimal(text)
    sign, _, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    scale = max(-exponent, 0)
    whole, _, fraction = f"{value.copy_abs():f}".partition(".")
    whole = whole.lstrip("0").rjust(-(-len(whole.lstrip("0")) // 4) * 4, "0")
    fraction = fraction.ljust(-(-len(fraction) // 4) * 4, "0")
    groups = [int((whole + fraction)[i : i + 4]) for i in range(0, len(whole + fraction), 4)]
    weight = len(whole) // 4 - 1
    while groups and groups[0] == 0:
        groups.pop(0)
        weight -= 1
    while groups and groups[-1] == 0:
        groups.pop()
    return struct.pack(f"!hhHH{len(groups)}h", len(groups), weight if groups else 0, 0x4000 * sign, scale, *groups)


def array(element: int, *items: bytes | None, lower: int = 1) -> bytes:
    """Return an array of one dimension, or an empty one, as array_send() sends it."""
    if not items:
        return struct.pack("!iiI", 0, 0, element)
    return struct.pack("!iiIii", 1, int(None in items), element, len(items), lower) + b"".join(map(part, items))


def enum(*labels: str) -> TypeInfo:
    return info(MOOD, "mood", "e", send="enum_send", labels=labels)


def pair(*attributes: int, modifiers: tuple[int, ...] = ()) -> TypeInfo:
    names = tuple("abcdefgh"[: len(attributes)])
    return info(PAIR, "pair", "c", attribute_names=names, attribute_types=attributes, attribute_modifiers=modifiers)


def composite(*attributes: tuple[int, bytes | None]) -> bytes:
    return struct.pack("!i", len(attributes)) + b"".join(
        struct.pack("!I", oid) + part(data) for oid, data in attributes
    )


# -- types of one value ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("oid", "wire", "value", "arrow"),
    [
        (BOOL, "01", True, pyarrow.bool_()),
        (BOOL, "00", False, pyarrow.bool_()),
        (INT2, "8000", -32768, pyarrow.int16()),
        (INT4, "7fffffff", 2**31 - 1, pyarrow.int32()),
        (INT8, "8000000000000000", -(2**63), pyarrow.int64()),
        (OID, "ffffffff", 2**32 - 1, pyarrow.uint32()),
        (FLOAT4, "3fc00000", 1.5, pyarrow.float32()),
        (FLOAT8, "8000000000000000", -0.0, pyarrow.float64()),
        (TEXT, "c3a4e282acf09f9880", "ä€😀", pyarrow.string()),
        (TEXT, "", "", pyarrow.string()),
        (1043, "616263", "abc", pyarrow.string()),
        (CHAR, "61", "a", pyarrow.string()),
        (CHAR, "00", "", pyarrow.string()),
        (CHAR, "ff", "\\377", pyarrow.string()),
        (BYTEA, "00ff", b"\0\xff", pyarrow.binary()),
        (DATE, "00000000", datetime.date(2000, 1, 1), pyarrow.date32()),
        (DATE, "ffffd533", datetime.date(1970, 1, 1), pyarrow.date32()),
        (TIME, "000000141dd75fff", datetime.time(23, 59, 59, 999999), pyarrow.time64("us")),
        (TIMESTAMP, "0000000000000001", datetime.datetime(2000, 1, 1, 0, 0, 0, 1), pyarrow.timestamp("us")),
        (TIMESTAMPTZ, "0000000000000000", datetime.datetime(2000, 1, 1, tzinfo=UTC), pyarrow.timestamp("us", "UTC")),
        (
            INTERVAL,
            "ffffffffffffffff0000000200000003",
            pyarrow.MonthDayNano([3, 2, -1000]),
            pyarrow.month_day_nano_interval(),
        ),
        (UUID, "00112233445566778899aabbccddeeff", uuid.UUID("00112233445566778899aabbccddeeff"), pyarrow.uuid()),
        (JSON, "5b315d", "[1]", pyarrow.json_(pyarrow.string())),
        (JSONB, "015b315d", "[1]", pyarrow.json_(pyarrow.string())),
        (5069, "ffffffffffffffff", 2**64 - 1, pyarrow.uint64()),
    ],
)
def test_a_value_of_each_type(oid: int, wire: str, value: object, arrow: pyarrow.DataType) -> None:
    found = taken(table(schema(("c", oid, -1)), row(bytes.fromhex(wire)), row(None), row(bytes.fromhex(wire))))
    assert found.schema.field("c").type == arrow
    assert found.column("c").to_pylist() == [value, None, value]
    assert str(found.column("c").to_pylist()[0]) == str(value)


@pytest.mark.parametrize("oid", [BOOL, INT2, INT4, INT8, FLOAT4, FLOAT8, DATE, TIME, TIMESTAMP, INTERVAL, UUID, CHAR])
def test_a_value_of_another_length_is_a_protocol_error(oid: int) -> None:
    for size in (0, 3, 17):
        with pytest.raises(ProtocolError, match=f"of {size} bytes"):
            values(oid, bytes(size))


@pytest.mark.parametrize("oid", [MONEY, INET, INETS, 1266, 600, 2249, 12_345_678])
def test_a_type_without_a_form_of_its_own_is_asked_for_as_text(oid: int) -> None:
    columns = schema(("c", oid, -1), ("n", INT4, -1))
    assert columns.formats == (0, 1)
    assert taken(table(columns, row(b"as printed", None))).to_pylist() == [{"c": "as printed", "n": None}]


@pytest.mark.parametrize(
    "text",
    [b"\xff", b"abcdefgh\x80", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xf0\x80\x80\x80"],
)
def test_text_that_is_not_utf_8_never_gets_into_a_column(text: bytes) -> None:
    for oid in (TEXT, JSON, MONEY):
        with pytest.raises(UnrepresentableValueError, match="row 1, column 'c' of type .*not UTF-8"):
            values(oid, text)
    assert values(BYTEA, text) == [text]


def test_bitmaps_and_offsets_hold_across_many_values() -> None:
    columns = schema(("n", INT4, -1), ("b", BOOL, -1), ("t", TEXT, -1))
    expected = [(i if i % 3 else None, None if i % 5 == 0 else i % 2 == 0, str(i) * (i % 7)) for i in range(10_000)]
    rows = [
        row(None if n is None else struct.pack("!i", n), None if b is None else bytes([b]), t.encode())
        for n, b, t in expected
    ]
    found = taken(table(columns, *rows))
    assert [tuple(each.values()) for each in found.to_pylist()] == expected
    assert found.column("n").null_count == sum(n is None for n, _, _ in expected)


# -- values that the Arrow type cannot hold ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("oid", "wire", "shown", "nearest"),
    [
        (DATE, "7fffffff", "the date infinity does not fit date32", 2**31 - 1),
        (DATE, "80000000", "the date -infinity does not fit date32", -(2**31)),
        (TIMESTAMP, "7fffffffffffffff", "the timestamp infinity does not fit timestamp", 2**63 - 1),
        (TIMESTAMPTZ, "8000000000000000", "the timestamp -infinity does not fit timestamp", -(2**63)),
        # The server counts from 2000, Arrow from 1970.
        (TIMESTAMP, "7ffca2fec4c82000", "the timestamp 294247-01-10 04:00:54.775808 does not fit", 2**63 - 1),
        (TIME, "000000141dd76000", "the time 24:00:00 does not fit time64", 86_399_999_999),
    ],
)
def test_a_date_or_time_without_a_place(oid: int, wire: str, shown: str, nearest: int) -> None:
    data = bytes.fromhex(wire)
    with pytest.raises(DataError, match=f"row 2, column 'c' of type .*{shown}") as caught:
        values(oid, None, data)
    assert isinstance(caught.value, UnrepresentableValueError)
    assert caught.value.column_name == "c"
    assert 'out_of_range="null"' in str(caught.value.hint)
    assert values(oid, data, out_of_range="null") == [None]
    found = taken(table(schema(("c", oid, -1), out_of_range="saturate"), row(data)))
    width = pyarrow.int32() if oid == DATE else pyarrow.int64()
    assert found.column("c").chunk(0).cast(width, safe=False).to_pylist() == [nearest]


def test_the_last_timestamp_that_has_a_place() -> None:
    last = 2**63 - 1 - 946_684_800_000_000
    found = taken(table(schema(("c", TIMESTAMP, -1)), row(struct.pack("!q", last))))
    assert found.column("c").cast(pyarrow.int64()).to_pylist() == [2**63 - 1]
    with pytest.raises(UnrepresentableValueError):
        values(TIMESTAMP, struct.pack("!q", last + 1))


def test_an_interval_whose_time_does_not_fit_nanoseconds() -> None:
    most = (2**63 - 1) // 1000
    assert values(INTERVAL, struct.pack("!qii", most, 0, 0)) == [pyarrow.MonthDayNano([0, 0, most * 1000])]
    for microseconds, days, months, shown in (
        (most + 1, 0, 0, "the interval 2562047:47:16.854776"),
        (2**63 - 1, 2**31 - 1, 2**31 - 1, "the interval infinity"),
        (-(2**63), -(2**31), -(2**31), "the interval -infinity"),
    ):
        data = struct.pack("!qii", microseconds, days, months)
        with pytest.raises(UnrepresentableValueError, match=f"{shown} does not fit month_day_nano_interval"):
            values(INTERVAL, data)
        assert values(INTERVAL, data, out_of_range="null") == [None]
        (nearest,) = values(INTERVAL, data, out_of_range="saturate")
        assert nearest == pyarrow.MonthDayNano([months, days, 2**63 - 1 if microseconds > 0 else -(2**63)])


# -- numeric -----------------------------------------------------------------------------------------------------------

NUMBERS = [
    "0", "0.00", "1", "-1", "1.5", "-0.01", "9999", "10000", "123456.78", "-99999999.99", "0.0001", "12345678.9",
]  # fmt: skip


@pytest.mark.parametrize(("precision", "scale"), [(12, 4), (18, 5), (19, 6), (30, 7), (38, 8), (39, 9), (76, 40)])
def test_a_numeric_of_declared_scale_is_a_decimal(precision: int, scale: int) -> None:
    rows = [*(row(number(text)) for text in NUMBERS), row(None)]
    found = taken(table(schema(("c", NUMERIC, modifier(precision, scale))), *rows))
    kind = pyarrow.decimal128 if precision <= 38 else pyarrow.decimal256
    assert found.schema.field("c").type == kind(precision, scale)
    assert found.column("c").to_pylist() == [
        *(Decimal(text).quantize(Decimal(1).scaleb(-scale)) for text in NUMBERS),
        None,
    ]


@pytest.mark.parametrize("precision", [5, 18, 19, 37, 38, 39, 75, 76])
def test_the_largest_decimals(precision: int) -> None:
    for scale in range(5):
        digits = "9" * precision
        text = f"{digits[scale:]}.{digits[:scale]}" if scale else digits
        found = values(NUMERIC, number(text), number(f"-{text}"), typmod=modifier(precision, scale))
        assert [str(value) for value in found] == [text, f"-{text}"]


@pytest.mark.parametrize(
    ("precision", "scale", "kind"),
    [
        (77, 0, pyarrow.string()),
        (1000, 500, pyarrow.string()),
        (10, -2, pyarrow.string()),
        (3, 5, pyarrow.decimal128(5, 5)),
        (2, 39, pyarrow.decimal256(39, 39)),
        (2, 77, pyarrow.string()),
    ],
)
def test_scales_of_numeric_that_a_decimal_has_not(precision: int, scale: int, kind: pyarrow.DataType) -> None:
    columns = schema(("c", NUMERIC, modifier(precision, scale)))
    assert pyarrow.schema(columns).field("c").type == kind
    assert columns.formats == (0 if kind == pyarrow.string() else 1,)


def test_a_numeric_without_a_scale_is_text_or_what_the_caller_says() -> None:
    assert schema(("c", NUMERIC, -1)).formats == (0,)
    assert values(NUMERIC, b"1.50") == ["1.50"]
    assert values(NUMERIC, number("1.5"), decimal=(10, 3)) == [Decimal("1.500")]
    assert values(NUMERIC, number("1.5"), typmod=modifier(5, 1), decimal=(10, 3)) == [Decimal("1.5")], "it is declared"


ROUNDED = {
    "1.004": "1.00",
    "1.005": "1.01",
    "-1.005": "-1.01",
    "0.00499999": "0.00",
    "0.005": "0.01",
    "0.00005": "0.00",
    "0.000000005": "0.00",
    "33.3333333333333333": "33.33",
    "66.6666666666666667": "66.67",
    "12345.99500001": "12346.00",
    "9999.995": "10000.00",
}


@pytest.mark.parametrize("precision", [10, 18, 19, 38, 60])
def test_digits_behind_the_scale_are_rounded_as_by_the_server(precision: int) -> None:
    found = values(NUMERIC, *map(number, ROUNDED), decimal=(precision, 2))
    assert [str(value) for value in found] == list(ROUNDED.values())


@pytest.mark.parametrize(("scale", "text"), [(0, "0.5"), (4, "0.00005"), (8, "0.000000005"), (3, "0.0005")])
def test_rounding_at_the_edge_of_a_group(scale: int, text: str) -> None:
    assert values(NUMERIC, number(text), decimal=(38, scale)) == [Decimal(1).scaleb(-scale)]


@pytest.mark.parametrize("precision", [4, 18, 19, 38, 39, 76])
def test_a_number_with_too_many_digits(precision: int) -> None:
    for text in ("1" + "0" * (precision - 1), "-" + "8" * precision):
        data = number(text)
        with pytest.raises(UnrepresentableValueError, match=r"row 1, .*does not fit decimal"):
            values(NUMERIC, data, decimal=(precision, 1))
        with pytest.raises(UnrepresentableValueError, match=r"row 1, .*does not fit decimal"):
            values(NUMERIC, number("9" * (precision - 1) + ".95"), decimal=(precision, 1))
        assert values(NUMERIC, data, decimal=(precision, 0)) == [Decimal(text).quantize(Decimal(1), ROUND_HALF_UP)]
    nearest = "9" * (precision - 1) + ".9"
    assert values(NUMERIC, number("-1e90"), out_of_range="saturate", decimal=(precision, 1)) == [-Decimal(nearest)]
    assert values(NUMERIC, number("9" * (precision - 1) + ".99"), out_of_range="saturate", decimal=(precision, 1)) == [
        Decimal(nearest)
    ]


def test_what_is_no_number_has_no_decimal() -> None:
    for data, shown in ((NAN, "NaN"), (INFINITY, "Infinity"), (MINUS_INFINITY, "-Infinity")):
        with pytest.raises(DataError, match=f"row 1, column 'c' of type numeric: {shown} does not fit decimal128"):
            values(NUMERIC, data, typmod=modifier(5, 2))
        assert values(NUMERIC, data, typmod=modifier(5, 2), out_of_range="null") == [None]
    found = values(NUMERIC, NAN, INFINITY, MINUS_INFINITY, typmod=modifier(5, 2), out_of_range="saturate")
    assert found == [None, Decimal("999.99"), Decimal("-999.99")]


def test_a_numeric_inside_another_type_becomes_text_as_the_server_prints_it() -> None:
    texts = [*NUMBERS, "1E+30", "123456789012345678901234567890.12345", "0.00000000000001", "1e-20"]
    (found,) = values(NUMERICS, array(NUMERIC, *map(number, texts), NAN, None, INFINITY, MINUS_INFINITY))
    assert found == [*(f"{Decimal(text):f}" for text in texts), "NaN", None, "Infinity", "-Infinity"]


@pytest.mark.parametrize(
    "wire",
    [
        "",
        "0000000000",
        "0001000000000000",
        "00010000000000002710",
        "00000000800000ff",
        "0000000000004000",
        "ffff000000000000",
    ],
)
def test_hostile_numerics(wire: str) -> None:
    for typmod, decimal in ((modifier(10, 2), None), (modifier(60, 2), None), (-1, (38, 0))):
        with pytest.raises(ProtocolError):
            values(NUMERIC, bytes.fromhex(wire), typmod=typmod, decimal=decimal)
    with pytest.raises(ProtocolError):
        values(NUMERICS, array(NUMERIC, bytes.fromhex(wire)))


@pytest.mark.parametrize(("weight", "count"), [(32767, 0), (-32768, 0), (32767, 3), (-32768, 3), (-2, 200), (0, 200)])
def test_numerics_of_extreme_weight(weight: int, count: int) -> None:
    data = struct.pack(f"!Hhhh{count}h", count, weight, 0, 0, *[1234] * count)
    for precision, scale in ((4, 4), (18, 3), (38, 38), (39, 2), (76, 76)):
        try:
            (found,) = values(NUMERIC, data, decimal=(precision, scale))
        except UnrepresentableValueError:
            assert count
            assert weight >= 0
        else:
            exact = sum(Decimal(1234).scaleb(4 * (weight - i)) for i in range(min(count, 60)))
            assert abs(found - exact) <= Decimal(1).scaleb(-scale)
    values(NUMERICS, array(NUMERIC, data))


# -- types with parts --------------------------------------------------------------------------------------------------


def int4(value: int) -> bytes:
    return struct.pack("!i", value)


def test_arrays_are_lists() -> None:
    columns = schema(("c", INT4S, -1))
    assert pyarrow.schema(columns).field("c").type == pyarrow.list_(pyarrow.int32())
    rows = [array(INT4, int4(1), None, int4(3)), array(INT4), None, array(INT4, int4(4), lower=-5)]
    assert values(INT4S, *rows) == [[1, None, 3], [], None, [4]], "a lower bound has no place in a list"
    assert values(TEXTS, array(TEXT, b"a", b"", None)) == [["a", "", None]]
    assert values(NUMERICS, array(NUMERIC, number("1.5")), typmod=modifier(5, 2)) == [[Decimal("1.50")]]


def test_an_array_of_two_dimensions_is_out_of_range() -> None:
    data = struct.pack("!iiIiiii", 2, 0, INT4, 1, 1, 2, 1) + part(int4(1)) + part(int4(2))
    with pytest.raises(UnrepresentableValueError, match="an array of 2 dimensions does not fit list<int32>") as caught:
        values(INT4S, data)
    assert "to_jsonb()" in str(caught.value.hint)
    assert values(INT4S, data, out_of_range="null") == [None]


def test_an_enumerated_type_is_a_dictionary_of_its_labels_in_order() -> None:
    columns = schema(("c", MOOD, -1), types=[enum("sad", "ok", "happy")])
    found = taken(table(columns, row(b"happy"), row(None), row(b"sad")))
    assert found.schema.field("c").type == pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    assert found.column("c").to_pylist() == ["happy", None, "sad"]
    assert found.column("c").chunk(0).dictionary.to_pylist() == ["sad", "ok", "happy"]
    assert taken(table(columns)).column("c").to_pylist() == []


def test_a_label_that_was_added_since_the_type_was_looked_up_comes_last() -> None:
    columns = schema(("c", MOOD, -1), types=[enum("sad", "ok")])
    found = taken(table(columns, row(b"ok"), row(b"glad"), row(b"sad"), most_rows=1))
    assert found.column("c").to_pylist() == ["ok", "glad", "sad"]
    assert [chunk.dictionary.to_pylist() for chunk in found.column("c").chunks] == [["sad", "ok", "glad"]] * 3
    again = taken(table(columns, row(b"glad")))
    assert again.column("c").chunk(0).dictionary.to_pylist() == ["sad", "ok", "glad"]


def test_an_enumerated_type_of_many_labels() -> None:
    labels = [f"label {i}" for i in range(1000)]
    columns = schema(("c", MOOD, -1), ("d", MOOD, -1), types=[enum(*labels[:300])])
    found = taken(table(columns, *[row(label.encode(), labels[-1].encode()) for label in labels]))
    assert found.column("c").to_pylist() == labels
    assert found.column("c").chunk(0).dictionary.to_pylist() == [*labels[:300], labels[-1], *labels[300:-1]]


def test_enumerated_types_inside_other_types() -> None:
    types = [enum("sad", "ok"), info(MOODS, "_mood", element=MOOD), pair(MOOD, INT4)]
    found = values(MOODS, array(MOOD, b"ok", None, b"sad"), types=types)
    assert found == [["ok", None, "sad"]]
    assert values(PAIR, composite((MOOD, b"sad"), (INT4, None)), types=types) == [{"a": "sad", "b": None}]


def test_a_composite_is_a_struct() -> None:
    types = [pair(INT4, TEXT, NUMERIC, modifiers=(-1, -1, modifier(5, 2)))]
    columns = schema(("c", PAIR, -1), types=types)
    assert pyarrow.schema(columns).field("c").type == pyarrow.struct(
        [("a", pyarrow.int32()), ("b", pyarrow.string()), ("c", pyarrow.decimal128(5, 2))]
    )
    data = composite((INT4, int4(1)), (TEXT, None), (NUMERIC, number("2.5")))
    found = taken(table(columns, row(data), row(None), row(data)))
    one = {"a": 1, "b": None, "c": Decimal("2.50")}
    assert found.column("c").to_pylist() == [one, None, one]


def test_a_composite_that_was_altered_is_looked_up_again() -> None:
    types = [pair(INT4, TEXT)]
    for data in (composite((INT4, int4(1))), composite((TEXT, b"1"), (INT4, int4(1)))):
        with pytest.raises(OutdatedSchemaCacheError, match="the composite type pair has been altered") as caught:
            values(PAIR, data, types=types)
        assert caught.value.type_oid == PAIR  # type: ignore[attr-defined]


def test_a_range_is_a_struct_of_its_bounds() -> None:
    def found(oid: int, *data: bytes) -> list[Any]:
        return [tuple(value.values()) for value in values(oid, *data)]

    assert found(
        INT4RANGE,
        b"\x02" + part(int4(1)) + part(int4(5)),
        b"\x01",
        b"\x18",
        b"\x08" + part(int4(9)),
        b"\x12" + part(int4(1)),
    ) == [
        (1, 5, True, False, False),
        (None, None, False, False, True),
        (None, None, False, False, False),
        (None, 9, False, False, False),
        (1, None, True, False, False),
    ]
    assert found(NUMRANGE, b"\x06" + part(number("1.5")) + part(number("2.50"))) == [("1.5", "2.50", True, True, False)]
    assert values(INT4RANGE, None) == [None]


def test_a_multirange_is_a_list_of_ranges() -> None:
    one = b"\x02" + part(int4(1)) + part(int4(5))
    found = values(INT4MULTIRANGE, struct.pack("!i", 1) + part(one), struct.pack("!i", 0))
    assert found == [[{"lower": 1, "upper": 5, "lower_inc": True, "upper_inc": False, "empty": False}], []]


def test_a_domain_is_what_it_is_based_on() -> None:
    types = [
        info(PRICE, "price", "d", base=NUMERIC, modifier=modifier(8, 2)),
        info(PRICES, "_price", element=PRICE),
        pair(PRICE, PRICES),
    ]
    assert values(PRICES, array(PRICE, number("1.5")), types=types) == [[Decimal("1.50")]]
    data = composite((PRICE, number("2")), (PRICES, array(PRICE, None)))
    assert values(PAIR, data, types=types) == [{"a": Decimal("2.00"), "b": [None]}]


def test_a_type_with_a_part_that_has_no_form_of_its_own_is_text() -> None:
    types = [pair(INT4, INET), info(PRICES, "_pair", element=PAIR)]
    for oid in (PAIR, PRICES):
        columns = schema(("c", oid, -1), types=types)
        assert columns.formats == (0,)
        assert pyarrow.schema(columns).field("c").type == pyarrow.string()


def test_a_type_that_contains_itself_ends() -> None:
    types = [info(PAIR, "pair", "c", attribute_names=("a",), attribute_types=(PAIR,))]
    assert schema(("c", PAIR, -1), types=types).formats == (0,)


@pytest.mark.parametrize(
    ("oid", "wire"),
    [
        (INT4S, ""),
        (INT4S, "00000001" + "00000000" + "00000017" + "00000001"),
        (INT4S, "00000007" + "00000000" + "00000017"),
        (INT4S, "ffffffff" + "00000000" + "00000017"),
        (INT4S, "00000000" + "00000000" + "00000014"),
        (INT4S, "00000001" + "00000000" + "00000017" + "7fffffff" + "00000001"),
        (INT4S, "00000001" + "00000000" + "00000017" + "00000001" + "00000001" + "00000004"),
        (INT4S, "00000001" + "00000000" + "00000017" + "00000001" + "00000001" + "fffffffe"),
        (INT4S, "00000000" + "00000000" + "00000017" + "00"),
        (INT4RANGE, ""),
        (INT4RANGE, "02"),
        (INT4RANGE, "0100"),
        (INT4RANGE, "02000000040000"),
        (INT4MULTIRANGE, "000000"),
        (INT4MULTIRANGE, "00000001"),
        (INT4MULTIRANGE, "7fffffff00000001"),
        (INT4MULTIRANGE, "0000000000"),
        (PAIR, ""),
        (PAIR, "00000001"),
        (PAIR, "00000001" + "00000017" + "00000005" + "00"),
        (PAIR, "00000001" + "00000017" + "ffffffff" + "00"),
        (JSONB, ""),
        (JSONB, "02"),
        (TIME, "ffffffffffffffff"),
        (TIME, "000000141dd76001"),
    ],
)
def test_hostile_values_are_protocol_errors(oid: int, wire: str) -> None:
    with pytest.raises(ProtocolError):
        values(oid, bytes.fromhex(wire), types=[pair(INT4)])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\0\0",
        b"\0\2",
        b"\0\1",
        b"\0\1\0\0",
        b"\0\1\0\0\0\4\0",
        b"\0\1\xff\xff\xff\xfe",
        row(int4(1)) + b"\0",
    ],
)
def test_hostile_rows_are_protocol_errors(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        RowBuilder(schema(("c", INT4, -1))).add(data)


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decimal", [5, (5,), (0, 0), (77, 2), (5, 6), (5, -1), ("5", 2), (True, 0), (5, 2, 1)])
def test_a_decimal_that_there_is_not(decimal: Any) -> None:
    with pytest.raises(ValueError, match=r"decimal is expected to be \(precision, scale\), with at most 76 digits"):
        ArrowShape(decimal)


def test_an_out_of_range_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="out_of_range is expected to be 'error', 'null' or 'saturate', got 'text'"):
        ArrowShape(None, "text")
