"""The text forms of values of the built-in types: writing them as the server does, and reading them.

They are needed in two rare cases. A text codec set by the user gets a value inside a composite, which came in binary,
as text that is made here. If one column of a composite can only be sent as text, the whole composite is text, and the
other columns are read and written here.

The forms are those of the output functions under DateStyle ISO, IntervalStyle postgres and bytea_output hex. Time zones
are always UTC. A type that is not in TEXT_FORMS is exchanged as str.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
import struct
import uuid
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

from headrace._core.codecs.calendar import interval_form
from headrace.exceptions._values import shown
from headrace.types import BitString, Box, Circle, Line, LineSegment, Path, Point, Polygon

__all__ = ["SAME_TEXT", "TEXT_FORMS", "Form", "interval_numbers"]


class Form(NamedTuple):
    """The functions that write and read the text form of one type."""

    to_text: Callable[[Any], str]
    from_text: Callable[[str], Any]


def _same(text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"expected str, got {type(text).__name__}")
    return text


def _write_bool(value: object) -> str:
    return "t" if value else "f"


def _read_bool(text: str) -> bool:
    if text not in ("t", "f", "true", "false"):
        raise ValueError(f"expected t or f, got {shown(text)}")
    return text.startswith("t")


def _write_int(value: Any) -> str:
    return str(int(value.__index__()))


_SPECIAL: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def _write_float8(value: Any) -> str:
    return _shortest(repr(float(value)), 15)


def _write_float4(value: Any) -> str:
    single = _single(float(value))
    for digits in range(1, 10):
        text = f"{single:.{digits}g}"
        # With few digits the number may be rounded up beyond the largest single.
        if abs(float(text)) < _NO_SINGLE and _single(float(text)) == single:
            break
    return _shortest(text, 6)


_NO_SINGLE: Final = 2.0**128 - 2.0**103
"""The smallest number that is not rounded to a finite single."""


def _single(number: float) -> float:
    # struct checks the range of standard sizes; that of native sizes only from Python 3.14 on.
    try:
        (single,) = struct.unpack(">f", struct.pack(">f", number))
    except OverflowError:
        raise OverflowError(
            f"value out of float32 range: expected -3.4028235e+38 to 3.4028235e+38, got {shown(number)}"
        ) from None
    return float(single)


def _shortest(text: str, longest: int) -> str:
    """Format the shortest digits of a number as the server does (d2s.c, f2s.c).

    There is an exponent below 1e-4, and from the power of ten `longest` on. If a number has two shortest texts, the
    server may choose the other one.
    """
    if text in _SPECIAL:
        return _SPECIAL[text]
    number = Decimal(text).normalize()
    point = number.adjusted()
    if not number or -4 <= point < longest:
        return f"{number:f}"
    sign, digits, _ = number.as_tuple()
    fraction = "".join(map(str, digits[1:]))
    return f"{'-' * sign}{digits[0]}{'.' * bool(fraction)}{fraction}e{point:+03}"


def _read_float4(text: str) -> float:
    return _single(float(text))


def _write_numeric(value: Any) -> str:
    number = Decimal(value)
    return _SPECIAL[str(float(number))] if not number.is_finite() else f"{number:f}"


def _read_numeric(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError(f"expected a number, got {shown(text)}") from None


def _write_bytea(value: Any) -> str:
    return "\\x" + bytes(value).hex()


def _read_bytea(text: str) -> bytes:
    if text.startswith("\\x"):
        return bytes.fromhex(text[2:])
    # bytea_output = escape
    octal = re.sub(rb"\\([0-7]{3})", lambda found: bytes((int(found[1], 8),)), text.encode())
    return octal.replace(b"\\\\", b"\\")


def _write_char(value: Any) -> str:
    """Write one byte as charout() does: empty for the byte 0, in octal if it is not ASCII."""
    (byte,) = bytes(value)
    return "" if byte == 0 else chr(byte) if byte < 0x80 else f"\\{byte:03o}"


def _read_char(text: str) -> bytes:
    if len(text) == 4:
        return bytes((int(text[1:], 8),))
    return text.encode() or b"\0"


def _write_date(value: Any) -> str:
    if value == datetime.date.max:
        return "infinity"
    return "-infinity" if value == datetime.date.min else f"{value.year:04}-{value.month:02}-{value.day:02}"


def _read_date(text: str) -> datetime.date:
    if text == "infinity":
        return datetime.date.max
    return datetime.date.min if text == "-infinity" else datetime.date.fromisoformat(text)


def _write_time(value: Any) -> str:
    return _trimmed(value.isoformat())


def _as_datetime(value: datetime.date) -> datetime.datetime:
    if isinstance(value, datetime.datetime):
        return value
    return datetime.datetime(value.year, value.month, value.day)


def _write_timestamp(value: datetime.date) -> str:
    moment = _as_datetime(value)
    if moment.replace(tzinfo=None) == datetime.datetime.max:
        return "infinity"
    if moment.replace(tzinfo=None) == datetime.datetime.min:
        return "-infinity"
    return _trimmed(moment.isoformat(" "))


def _write_timestamptz(value: datetime.date) -> str:
    text = _write_timestamp(value)
    return text if text.endswith("infinity") else _write_timestamp(_as_datetime(value).astimezone(datetime.UTC))


def _read_timestamp(text: str) -> datetime.datetime:
    if text == "infinity":
        return datetime.datetime.max
    return datetime.datetime.min if text == "-infinity" else datetime.datetime.fromisoformat(text)


def _read_timestamptz(text: str) -> datetime.datetime:
    value = _read_timestamp(text)
    return value if text.endswith("infinity") else value.astimezone(datetime.UTC)


def _trimmed(text: str) -> str:
    """Remove the zeros at the end of the fraction, and the minutes of a zone of whole hours."""
    text = re.sub(r"(\.\d*[1-9])0+(?!\d)", r"\1", text)
    return re.sub(r"([+-]\d\d):00$", r"\1", text)


_INTERVAL: Final = re.compile(
    r"(?:([+-]?\d+) years? ?)?(?:([+-]?\d+) mons? ?)?(?:([+-]?\d+) days? ?)?"
    r"(?:([+-]?)(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?)?"
)


def _write_interval(value: Any) -> str:
    return interval_form(0, value.days, value.seconds * 1_000_000 + value.microseconds)


_INT32, _INT64 = 2**31 - 1, 2**63 - 1


def interval_numbers(text: str) -> tuple[int, int, int]:
    """Return the months, days and microseconds of an interval's text under IntervalStyle postgres.

    Raises ValueError for any other text, OverflowError for numbers out of range.
    """
    if text == "infinity":
        return _INT32, _INT32, _INT64
    if text == "-infinity":
        return -_INT32 - 1, -_INT32 - 1, -_INT64 - 1
    found = _INTERVAL.fullmatch(text)
    if found is None or not text:
        raise ValueError(f"expected an interval as under IntervalStyle postgres, got {shown(text)}")
    years, months, days = (int(part or 0) for part in found.group(1, 2, 3))
    months += years * 12
    hours, minutes, seconds = (int(part or 0) for part in found.group(5, 6, 7))
    time = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + int((found[8] or "0").ljust(6, "0"))
    if found[4] == "-":
        time = -time
    for number, most in ((months, _INT32), (days, _INT32), (time, _INT64)):
        if not -most - 1 <= number <= most:
            raise OverflowError(f"the interval {shown(text)} is out of range")
    return months, days, time


def _read_interval(text: str) -> datetime.timedelta:
    if text.endswith("infinity"):
        raise OverflowError(f"the interval {text} does not fit datetime.timedelta")
    months, days, time = interval_numbers(text)
    whole, rest = divmod(abs(months), 12)
    spread = (whole * 365 + rest * 30) * (1 if months >= 0 else -1)
    return datetime.timedelta(days=days + spread, microseconds=time)


def _read_inet(text: str) -> object:
    return ipaddress.ip_interface(text) if "/" in text else ipaddress.ip_address(text)


def _write_tid(value: Any) -> str:
    block, offset = value
    return f"({block:d},{offset:d})"


def _read_tid(text: str) -> tuple[int, int]:
    block, offset = text.strip("()").split(",")
    return int(block), int(offset)


def _write_lsn(value: Any) -> str:
    return f"{value >> 32:X}/{value & 0xFFFFFFFF:X}"


def _read_lsn(text: str) -> int:
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def _write_bits(value: Any) -> str:
    return BitString(value).as_string().replace(" ", "")


def _write_vector(value: Any) -> str:
    return " ".join(map(str, value))


def _read_vector(text: str) -> list[int]:
    return [int(number) for number in text.split()]


def _write_snapshot(value: Any) -> str:
    xmin, xmax, running = value
    return f"{xmin}:{xmax}:{','.join(map(str, running))}"


def _read_snapshot(text: str) -> tuple[int, int, tuple[int, ...]]:
    xmin, xmax, running = text.split(":")
    return int(xmin), int(xmax), tuple(int(number) for number in running.split(",") if number)


# Geometric types, as written by path_encode() and others in geo_ops.c. Only their numbers are read.


def _numbers(value: Any) -> str:
    return ",".join(map(_write_float8, value))


def _write_point(value: Any) -> str:
    return f"({_numbers(value)})"


def _points(value: Any) -> str:
    return ",".join(map(_write_point, value))


def _write_path(value: Any) -> str:
    return f"({_points(value)})" if value.is_closed else f"[{_points(value)}]"


def _read_numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"[^][(){}<>,]+", text)]


def _read_points(text: str) -> list[Point]:
    numbers = _read_numbers(text)
    return [Point(x, y) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]


def _read_circle(text: str) -> Circle:
    x, y, radius = _read_numbers(text)
    return Circle((x, y), radius)


_TEXT: Final = Form(_same, _same)
_INT: Final = Form(_write_int, int)

TEXT_FORMS: Final[dict[int, Form]] = {
    16: Form(_write_bool, _read_bool),
    17: Form(_write_bytea, _read_bytea),
    18: Form(_write_char, _read_char),
    # int2vector and oidvector are arrays with a text form of their own.
    **dict.fromkeys((22, 30), Form(_write_vector, _read_vector)),
    **dict.fromkeys((20, 21, 23, 26, 28, 29, 5069, 6437), _INT),
    **dict.fromkeys((19, 25, 114, 142, 705, 774, 829, 1042, 1043, 1790, 2275, 3802, 4072), _TEXT),
    27: Form(_write_tid, _read_tid),
    600: Form(_write_point, lambda text: Point(*_read_numbers(text))),
    601: Form(lambda value: f"[{_points(value)}]", lambda text: LineSegment(*_read_points(text))),
    602: Form(_write_path, lambda text: Path(*_read_points(text), is_closed=text.startswith("("))),
    603: Form(_points, lambda text: Box(*_read_points(text))),
    604: Form(_write_path, lambda text: Polygon(*_read_points(text))),
    628: Form(lambda value: f"{{{_numbers(value)}}}", lambda text: Line(*_read_numbers(text))),
    650: Form(str, ipaddress.ip_network),
    700: Form(_write_float4, _read_float4),
    701: Form(_write_float8, float),
    718: Form(lambda value: f"<{_write_point(value.center)},{_write_float8(value.radius)}>", _read_circle),
    869: Form(str, _read_inet),
    1082: Form(_write_date, _read_date),
    1083: Form(_write_time, datetime.time.fromisoformat),
    1114: Form(_write_timestamp, _read_timestamp),
    1184: Form(_write_timestamptz, _read_timestamptz),
    1186: Form(_write_interval, _read_interval),
    1266: Form(_write_time, datetime.time.fromisoformat),
    1560: Form(_write_bits, BitString),
    1562: Form(_write_bits, BitString),
    1700: Form(_write_numeric, _read_numeric),
    2950: Form(str, uuid.UUID),
    **dict.fromkeys((2970, 5038), Form(_write_snapshot, _read_snapshot)),
    3220: Form(_write_lsn, _read_lsn),
}
"""OID of a built-in type -> its text form; the objects are those of the type's binary codec."""

SAME_TEXT: Final = frozenset(oid for oid, form in TEXT_FORMS.items() if form is _TEXT)
"""The types whose codecs exchange the server's text as str."""
