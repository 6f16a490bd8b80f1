"""PostgreSQL types that Python has no type for, and descriptions of types, columns and servers.

All of them are immutable, hashable and picklable, and compare by value. The names, constructors and attributes are
asyncpg's.
"""

from __future__ import annotations

import builtins
import operator
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import (
    Any,
    Final,
    Generic,
    Literal,
    NamedTuple,
    Protocol,
    Self,
    SupportsFloat,
    SupportsIndex,
    TypeVar,
    overload,
)

from headrace.exceptions._values import shown

__all__ = [
    "Attribute",
    "BitString",
    "Box",
    "Circle",
    "Line",
    "LineSegment",
    "Path",
    "Point",
    "Polygon",
    "Range",
    "ServerVersion",
    "Type",
    "parse_server_version",
]


class Type(NamedTuple):
    """A data type of the database."""

    oid: int
    """The OID of its row in pg_type."""

    name: str
    """Its name. The name of an array type ends in []."""

    kind: str
    """Its kind: scalar, array, composite, range ..."""

    schema: str
    """The schema it belongs to."""


class Attribute(NamedTuple):
    """A column of a result or a member of a composite type."""

    name: str
    type: Type


class ServerVersion(NamedTuple):
    """The version of a server, in the form of sys.version_info.

    Since version 10 a major version is one number: 15.18 is major 15, minor 0, micro 18. Before that it was
    two numbers: 9.6.24 is major 9, minor 6, micro 24.
    """

    major: int
    minor: int
    micro: int
    releaselevel: str
    """final, or alpha, beta, rc or devel."""

    serial: int
    """Number of the alpha, beta or release candidate, otherwise 0."""


_VERSION: Final = re.compile(
    r"(?P<first>[0-9]+)(?:\.(?P<second>[0-9]+))?(?:\.(?P<third>[0-9]+))?"
    r"(?:(?P<level>alpha|beta|rc|devel)(?P<serial>[0-9]*))?"
)


def parse_server_version(version: str) -> ServerVersion:
    """Parse the version that a server reports in server_version or by version().

    Text that packagers and vendors add is ignored: '15.18 (Debian 15.18-0+deb12u1)', '18beta1', 'PostgreSQL
    14.2-YB-2.21'. Raises ValueError if it contains no number.
    """
    found = _VERSION.search(version)
    if found is None:
        raise ValueError(f"expected a PostgreSQL version such as '17.5' or '18beta1', got {shown(version)}")
    first, second, third = (int(found[part] or 0) for part in ("first", "second", "third"))
    minor, micro = (0, second) if first >= 10 else (second, third)
    return ServerVersion(first, minor, micro, found["level"] or "final", int(found["serial"] or 0))


class _Ordered(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...
    def __gt__(self, other: Any, /) -> bool: ...


_T = TypeVar("_T", bound=_Ordered)


class Range(Generic[_T]):
    """A value of a range type: `Range(1, 5)` is [1, 5).

    A bound of None is infinite and never inclusive. `empty=True` makes the empty range and ignores the bounds. The
    bounds are kept as given: the server checks their order, and turns (1, 5] into [2, 6) for types with discrete
    values.
    """

    __slots__ = ("_empty", "_lower", "_lower_inc", "_upper", "_upper_inc")

    _lower: _T | None
    _upper: _T | None
    _lower_inc: bool
    _upper_inc: bool
    _empty: bool

    def __init__(
        self,
        lower: _T | None = None,
        upper: _T | None = None,
        *,
        lower_inc: bool = True,
        upper_inc: bool = False,
        empty: bool = False,
    ) -> None:
        self._empty = bool(empty)
        self._lower = None if empty else lower
        self._upper = None if empty else upper
        self._lower_inc = self._lower is not None and bool(lower_inc)
        self._upper_inc = self._upper is not None and bool(upper_inc)

    @property
    def lower(self) -> _T | None:
        """The lower bound; None if it is infinite or the range is empty."""
        return self._lower

    @property
    def lower_inc(self) -> bool:
        """True if the lower bound belongs to the range."""
        return self._lower_inc

    @property
    def lower_inf(self) -> bool:
        """True if the range has no lower bound."""
        return self._lower is None and not self._empty

    @property
    def upper(self) -> _T | None:
        """The upper bound; None if it is infinite or the range is empty."""
        return self._upper

    @property
    def upper_inc(self) -> bool:
        """True if the upper bound belongs to the range."""
        return self._upper_inc

    @property
    def upper_inf(self) -> bool:
        """True if the range has no upper bound."""
        return self._upper is None and not self._empty

    @property
    def isempty(self) -> bool:
        """True if this is the empty range. Only `empty=True` makes it so, because the values in [1, 1) depend on the
        type."""
        return self._empty

    def issubset(self, other: Range[_T]) -> bool:
        """Return whether every value in this range is also in the other."""
        if not isinstance(other, Range):
            raise TypeError(f"expected a Range, got {type(other).__name__}")
        if self._empty or other._empty:
            return self._empty
        return self._starts_within(other) and self._ends_within(other)

    def issuperset(self, other: Range[_T]) -> bool:
        """Return whether every value in the other range is also in this one."""
        if not isinstance(other, Range):
            raise TypeError(f"expected a Range, got {type(other).__name__}")
        return other.issubset(self)

    def _starts_within(self, other: Range[_T]) -> bool:
        if other._lower is None:
            return True
        if self._lower is None:
            return False
        if self._lower == other._lower:
            return other._lower_inc or not self._lower_inc
        return self._lower > other._lower

    def _ends_within(self, other: Range[_T]) -> bool:
        if other._upper is None:
            return True
        if self._upper is None:
            return False
        if self._upper == other._upper:
            return other._upper_inc or not self._upper_inc
        return self._upper < other._upper

    def _key(self) -> tuple[object, ...]:
        return self._lower, self._upper, self._lower_inc, self._upper_inc, self._empty

    def __bool__(self) -> bool:
        return not self._empty

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Range):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        if self._empty:
            return "<Range empty>"
        lower = "" if self._lower is None else repr(self._lower)
        upper = "" if self._upper is None else repr(self._upper)
        return f"<Range {'[' if self._lower_inc else '('}{lower}, {upper}{']' if self._upper_inc else ')'}>"


_BitOrder = Literal["big", "little"]
_BITS: Final[dict[object, str]] = {"0": "0", "1": "1", 0: "0", 1: "1", " ": ""}
_BIT_VALUES: Final = {0: "0", 1: "1"}


def _bit(bit: object, position: int) -> str:
    """Return one item of a bit string as a digit."""
    if not isinstance(bit, str | int) or bit not in _BITS:
        raise ValueError(f"invalid bit value at position {position}: expected 0 or 1, got {shown(bit)}")
    return _BITS[bit]


class BitString:
    """A value of type bit or bit varying.

    `BitString("1010 0001")` takes the bits from text, `BitString(b"1010")` from ASCII bytes, and any other iterable
    must contain 0 and 1; spaces are skipped. `frombytes` makes a bit string from the bits of bytes.

    Raises ValueError for anything that is not a bit, with its position.
    """

    __slots__ = ("_bytes", "_length")

    _bytes: builtins.bytes
    _length: int

    def __init__(self, bitstring: str | builtins.bytes | Iterable[str | int] | None = None) -> None:
        if isinstance(bitstring, builtins.bytes | bytearray):
            bitstring = bitstring.decode("latin-1").translate(_BIT_VALUES)
        elif bitstring is not None and not isinstance(bitstring, str):
            bitstring = "".join(_bit(bit, position) for position, bit in enumerate(bitstring))
        digits = (bitstring or "").replace(" ", "")
        if not {"0", "1"}.issuperset(digits):
            for position, bit in enumerate(bitstring or ""):
                _bit(bit, position)
        self._set(int(digits or "0", 2), len(digits))

    def _set(self, value: int, length: int) -> None:
        size = (length + 7) // 8
        self._bytes = (value << (size * 8 - length)).to_bytes(size, "big")
        self._length = length

    def _unsigned(self) -> int:
        return int.from_bytes(self._bytes, "big") >> (len(self._bytes) * 8 - self._length)

    @classmethod
    def frombytes(cls, bytes_: builtins.bytes | None = None, bitlength: int | None = None) -> Self:
        """Return a bit string of the bits of bytes, from the highest bit of the first byte on.

        `bitlength` is how many of them to use; None means all. It must fall into the last byte, otherwise ValueError is
        raised.
        """
        data = bytes(bytes_ or b"")
        length = len(data) * 8 if bitlength is None else bitlength
        unused = len(data) * 8 - length
        if not 0 <= unused < 8 or length < 0:
            raise ValueError(f"invalid bit length specified: expected one that needs {len(data)} bytes, got {length}")
        bits = cls()
        bits._set(int.from_bytes(data, "big") >> unused, length)
        return bits

    @classmethod
    def from_int(cls, x: int, length: int, bitorder: _BitOrder = "big", *, signed: bool = False) -> Self:
        """Return a bit string of `length` bits from an integer, as `int.to_bytes` returns bytes.

        `bitorder` is the position of the highest bit: "big" is left, "little" right. `signed` allows negative integers,
        in two's complement. Raises OverflowError if the integer needs more bits, ValueError for a negative length or
        another bit order.
        """
        _check_bitorder(bitorder)
        if length < 0:
            raise ValueError(f"length argument must be non-negative, got {length}")
        if x < 0 and not signed:
            raise OverflowError(f"can't convert negative int to unsigned: {x}; signed=True stores two's complement")
        lowest, highest = (-(1 << length >> 1), (1 << length >> 1) - 1) if signed else (0, (1 << length) - 1)
        if not lowest <= x <= max(highest, 0):
            raise OverflowError(
                f"int too big to convert: {x} needs more than {length} bits{' with its sign' if signed else ''}"
            )
        bits = cls()
        value = x & ((1 << length) - 1)
        bits._set(value if bitorder == "big" else _mirrored(value, length), length)
        return bits

    def to_int(self, bitorder: _BitOrder = "big", *, signed: bool = False) -> int:
        """Return the integer with these bits. The arguments are those of `from_int`."""
        _check_bitorder(bitorder)
        value = self._unsigned()
        if bitorder == "little":
            value = _mirrored(value, self._length)
        if signed and self._length and value >> (self._length - 1):
            value -= 1 << self._length
        return value

    @property
    def bytes(self) -> builtins.bytes:
        """The bits as bytes, from the highest bit of the first byte on. Unused bits of the last byte are 0."""
        return self._bytes

    def as_string(self) -> str:
        """Return the bits as text, in groups of four."""
        bits = f"{self._unsigned():0{self._length}b}" if self._length else ""
        return " ".join(bits[at : at + 4] for at in range(0, len(bits), 4))

    def __iter__(self) -> Iterator[int]:
        for at in range(self._length):
            yield self._bytes[at >> 3] >> (7 - (at & 7)) & 1

    @overload
    def __getitem__(self, index: SupportsIndex) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> BitString: ...
    def __getitem__(self, index: SupportsIndex | slice) -> int | BitString:
        if isinstance(index, slice):
            return BitString(list(self)[index])
        at = operator.index(index)
        if at < 0:
            at += self._length
        if not 0 <= at < self._length:
            raise IndexError(f"index out of range: {operator.index(index)} is not within the {self._length} bits")
        return self._bytes[at >> 3] >> (7 - (at & 7)) & 1

    def __len__(self) -> int:
        return self._length

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BitString):
            return NotImplemented
        return self._length == other._length and self._bytes == other._bytes

    def __hash__(self) -> int:
        return hash((self._length, self._bytes))

    def __repr__(self) -> str:
        return f"<BitString {self.as_string()}>"


def _check_bitorder(bitorder: str) -> None:
    if bitorder not in ("big", "little"):
        raise ValueError(f"bitorder must be either 'big' or 'little', got {shown(bitorder)}")


def _mirrored(value: int, length: int) -> int:
    """Return the integer with its lowest `length` bits reversed."""
    return int(f"{value:0{length}b}"[::-1], 2) if length else 0


_Coordinate = SupportsFloat | SupportsIndex | str | bytes | bytearray


def _as_point(value: Sequence[_Coordinate]) -> Point:
    """Return an object with two coordinates as a Point."""
    if isinstance(value, Point):
        return value
    try:
        return Point(*value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"expected a point, two numbers such as (0, 1.5), got {shown(value)}") from None


class _Point(NamedTuple):
    x: float
    y: float


class Point(_Point):
    """A value of type point: a tuple of two floats."""

    __slots__ = ()

    def __new__(cls, x: _Coordinate, y: _Coordinate) -> Self:
        return super().__new__(cls, float(x), float(y))


class _Line(NamedTuple):
    A: float
    B: float
    C: float


class Line(_Line):
    """A value of type line, as the coefficients of Ax + By + C = 0."""

    __slots__ = ()

    def __new__(cls, A: _Coordinate, B: _Coordinate, C: _Coordinate) -> Self:  # noqa: N803
        return super().__new__(cls, float(A), float(B), float(C))


class _LineSegment(NamedTuple):
    p1: Point
    p2: Point


class LineSegment(_LineSegment):
    """A value of type lseg: a tuple of its two end points."""

    __slots__ = ()

    def __new__(cls, p1: Sequence[_Coordinate], p2: Sequence[_Coordinate]) -> Self:
        return super().__new__(cls, _as_point(p1), _as_point(p2))


class _Box(NamedTuple):
    high: Point
    low: Point


class Box(_Box):
    """A value of type box: a tuple of two opposite corners.

    The server stores the upper right and the lower left corner, in that order, from any two opposite corners.
    """

    __slots__ = ()

    def __new__(cls, high: Sequence[_Coordinate], low: Sequence[_Coordinate]) -> Self:
        return super().__new__(cls, _as_point(high), _as_point(low))


class _Circle(NamedTuple):
    center: Point
    radius: float


class Circle(_Circle):
    """A value of type circle: a tuple of its center and its radius."""

    __slots__ = ()

    def __new__(cls, center: Sequence[_Coordinate], radius: _Coordinate) -> Self:
        return super().__new__(cls, _as_point(center), float(radius))


class Path:
    """A value of type path: a sequence of points, `Path((0, 0), (1, 1))`.

    `is_closed` is whether the last point is joined to the first.
    """

    __slots__ = ("_is_closed", "_points")

    _points: tuple[Point, ...]
    _is_closed: bool

    def __init__(self, *points: Sequence[_Coordinate], is_closed: bool = False) -> None:
        self._points = tuple(map(_as_point, points))
        self._is_closed = bool(is_closed)

    @property
    def points(self) -> tuple[Point, ...]:
        """The points in order."""
        return self._points

    @property
    def is_closed(self) -> bool:
        """True if the last point is joined to the first."""
        return self._is_closed

    def __len__(self) -> int:
        return len(self._points)

    def __iter__(self) -> Iterator[Point]:
        return iter(self._points)

    def __contains__(self, point: object) -> bool:
        return point in self._points

    @overload
    def __getitem__(self, index: SupportsIndex) -> Point: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Point, ...]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Point | tuple[Point, ...]:
        return self._points[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Path):
            return NotImplemented
        return self._points == other._points and self._is_closed == other._is_closed

    def __hash__(self) -> int:
        return hash((self._points, self._is_closed))

    def __repr__(self) -> str:
        points = [str(tuple(point)) for point in self._points]
        return f"{type(self).__name__}({', '.join([*points, f'is_closed={self._is_closed}'])})"


class Polygon(Path):
    """A value of type polygon: the closed path along its corners."""

    __slots__ = ()

    def __init__(self, *points: Sequence[_Coordinate]) -> None:
        super().__init__(*points, is_closed=True)

    def __repr__(self) -> str:
        return f"Polygon({', '.join(str(tuple(point)) for point in self._points)})"
