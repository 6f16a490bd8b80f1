"""Types of PostgreSQL's extensions as Python objects: pgvector, PostGIS and hstore.

The types of an extension have no fixed OIDs, so their codecs are set for each connection, on one by `register()` or on
all of a pool:

    await extensions.Pgvector().register(connection)
    pool = await headrace.create_pool(dsn, codecs=[extensions.Pgvector(), extensions.Postgis()])

citext and ltree need none of this: their values are str.
"""

from __future__ import annotations

import operator
import struct
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from headrace._client.type_codecs import Extension
from headrace.exceptions import ProtocolError
from headrace.exceptions._values import shown

if TYPE_CHECKING:
    from headrace._core.codecs.typemap import TypeMap

__all__ = ["Extension", "Hstore", "Pgvector", "Postgis", "SparseVector"]

Vectors = Literal["list", "array", "numpy"]

MAX_NUMBERS: Final = 16_000
"""The most numbers of a vector or halfvec, and the most elements of a sparsevec that are not zero."""

MAX_DIMENSIONS: Final = 1_000_000_000
"""The most dimensions of a sparsevec."""

LARGEST_ZERO: Final = 2.0**-150
"""The greatest number that is rounded to zero as float4."""


class Hstore(Extension):
    """hstore as `dict[str, str | None]`. A parameter may be any mapping."""

    extension = "hstore"
    typenames = ("hstore",)

    def __repr__(self) -> str:
        return "Hstore()"

    def _set(self, types: TypeMap, name: str, oid: int) -> None:
        types.set_builtin(oid, "pg_contrib.hstore")


# -- pgvector -------------------------------------------------------------------------------------------------------


def whole(name: str, value: Any) -> int:
    """Return a whole number as an int; raises TypeError for anything else."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is expected to be an int, got {shown(value)}") from None


class SparseVector:
    """A vector most of whose numbers are zero: pgvector's sparsevec. It is immutable.

    `SparseVector({0: 1.5, 7: -2.0}, 1000)` has 1,000 dimensions. Indices begin with 0, while the text of a sparsevec
    counts from 1. Elements that are zero as float4 are left out. Raises ValueError for an index outside of the
    dimensions, and TypeError for one that is no whole number.
    """

    __slots__ = ("_dimensions", "_indices", "_values")

    _dimensions: int
    _indices: tuple[int, ...]
    _values: tuple[float, ...]

    def __init__(self, elements: Mapping[int, float], dimensions: int) -> None:
        count = whole("dimensions", dimensions)
        if not 1 <= count <= MAX_DIMENSIONS:
            raise ValueError(f"dimensions is expected to be from 1 to {MAX_DIMENSIONS:,}, got {shown(dimensions)}")
        if not isinstance(elements, Mapping):
            raise TypeError(f"elements is expected to be a mapping of indices to numbers, got {shown(elements)}")
        found = {}
        for given, value in elements.items():
            index, number = whole("an index", given), float(value)
            if not 0 <= index < count:
                raise ValueError(f"an index is expected to be from 0 to {count - 1}, got {shown(given)}")
            if not abs(number) <= LARGEST_ZERO:  # NaN is left to the server
                found[index] = number
        self._dimensions = count
        self._indices = tuple(sorted(found))
        self._values = tuple(found[index] for index in self._indices)

    @classmethod
    def _made(cls, dimensions: int, indices: tuple[int, ...], values: tuple[float, ...]) -> SparseVector:
        made = cls.__new__(cls)
        made._dimensions, made._indices, made._values = dimensions, indices, values
        return made

    def dimensions(self) -> int:
        """Return the number of dimensions."""
        return self._dimensions

    def indices(self) -> list[int]:
        """Return the indices of the elements that are not zero, in ascending order."""
        return list(self._indices)

    def values(self) -> list[float]:
        """Return the elements that are not zero, in the order of their indices."""
        return list(self._values)

    def to_dict(self) -> dict[int, float]:
        """Return the elements that are not zero by their indices."""
        return dict(zip(self._indices, self._values, strict=True))

    def to_list(self) -> list[float]:
        """Return all numbers."""
        numbers = [0.0] * self._dimensions
        for index, value in zip(self._indices, self._values, strict=True):
            numbers[index] = value
        return numbers

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SparseVector):
            return NotImplemented
        return (self._dimensions, self._indices, self._values) == (other._dimensions, other._indices, other._values)

    def __hash__(self) -> int:
        return hash((self._dimensions, self._indices, self._values))

    def __repr__(self) -> str:
        return f"SparseVector({self.to_dict()!r}, {self._dimensions})"

    def __reduce__(self) -> tuple[Any, ...]:
        return SparseVector, (self.to_dict(), self._dimensions)


class Pgvector(Extension):
    """pgvector's types vector, halfvec and sparsevec. Its bit vectors are PostgreSQL's bit, which is a BitString.

    `vectors` says what a vector or halfvec becomes when it is read: "list", a list of floats; "array", an
    `array.array("f")`; "numpy", an array of float32 or, for halfvec, of float16. A parameter may be any of them,
    another sequence or one-dimensional buffer of numbers, an object with `to_list()`, or the text that the server
    prints. A sparsevec is a SparseVector.

    Raises ImportError for "numpy" if numpy is not installed, and ValueError for anything else.
    Source: pgvector, vector_send(), halfvec_send() and sparsevec_send() in src/.
    """

    extension = "vector"
    typenames = ("vector", "halfvec", "sparsevec")

    def __init__(self, vectors: Vectors = "list") -> None:
        if vectors not in DECODERS:
            raise ValueError(f"vectors is expected to be 'list', 'array' or 'numpy', got {shown(vectors)}")
        if vectors == "numpy":
            try:
                import numpy  # noqa: F401
            except ImportError as error:
                raise ImportError("Pgvector(vectors='numpy') needs numpy: pip install numpy") from error
        self.vectors = vectors

    def __repr__(self) -> str:
        return f"Pgvector(vectors={self.vectors!r})"

    def _set(self, types: TypeMap, name: str, oid: int) -> None:
        if name == "sparsevec":
            types.set_codec(oid, "binary", encode_sparse, decode_sparse)
            return
        half = name == "halfvec"
        types.set_codec(oid, "binary", encode_half if half else encode_vector, DECODERS[self.vectors][half], True)


def numbers_of(value: Any) -> Any:
    """Return the numbers of a vector as a one-dimensional memoryview or a sequence; raises TypeError and ValueError."""
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, str):
        return numbers_in(value)
    if hasattr(value, "to_list"):
        return value.to_list()
    if isinstance(value, (bytes, bytearray, Mapping, SparseVector)):
        raise TypeError(f"expected a list, array or numpy array of numbers, got {type(value).__name__}")
    try:
        view = memoryview(value)
    except TypeError:
        if isinstance(value, Sequence) or (hasattr(value, "__len__") and hasattr(value, "__getitem__")):
            return list(value)
        raise TypeError(f"expected a list, array or numpy array of numbers, got {type(value).__name__}") from None
    if view.ndim != 1:
        raise ValueError(f"expected one dimension, got an array of {view.ndim}")
    return view


def numbers_in(text: str) -> list[float]:
    """Return the numbers of the text form: "[1,2.5,-3]"."""
    inside = text.strip()
    if inside[:1] != "[" or inside[-1:] != "]":
        raise ValueError(f"expected the text of a vector such as '[1,2.5]', got {shown(text)}")
    return [float(number) for number in inside[1:-1].split(",")]


def head_of(count: int) -> bytes:
    """Return the head of a vector or halfvec: the number of dimensions and two bytes that are not used."""
    if not 1 <= count <= MAX_NUMBERS:
        raise ValueError(f"expected 1 to {MAX_NUMBERS:,} numbers, got {count:,}")
    return struct.pack(">HH", count, 0)


def encode_vector(value: Any) -> bytes:
    """Return the binary form of a vector: its head, and float4 numbers."""
    numbers = numbers_of(value)
    if isinstance(numbers, memoryview):
        if numbers.format == "f":
            packed = array("f", numbers.tobytes())
        else:
            packed = array("f", listed(numbers, value))
    else:
        packed = array("f", numbers)
    if sys.byteorder == "little":
        packed.byteswap()
    return head_of(len(packed)) + packed.tobytes()


def encode_half(value: Any) -> bytes:
    """Return the binary form of a halfvec: its head, and numbers of half precision."""
    numbers = numbers_of(value)
    if isinstance(numbers, memoryview):
        if numbers.format == "e":
            packed = array("H", numbers.tobytes())
            if sys.byteorder == "little":
                packed.byteswap()
            return head_of(len(packed)) + packed.tobytes()
        numbers = listed(numbers, value)
    head = head_of(len(numbers))
    return head + struct.pack(f">{len(numbers)}e", *numbers)


def listed(numbers: memoryview, value: Any) -> list[Any]:
    """Return the numbers of a buffer. Of some formats, such as half precision, the object alone knows them."""
    try:
        return numbers.tolist()
    except NotImplementedError:
        return list(value)


def size_of(data: bytes, width: int, name: str) -> int:
    """Return the number of dimensions of a vector or halfvec, whose numbers have `width` bytes."""
    count = int.from_bytes(data[:2], "big")
    if len(data) != 4 + width * count:
        raise ProtocolError(f"a {name} value of {len(data)} bytes and {count} dimensions from the server")
    return count


def decode_vector_list(data: bytes) -> list[float]:
    """Return the floats of a vector."""
    return list(struct.unpack_from(f">{size_of(data, 4, 'vector')}f", data, 4))


def decode_half_list(data: bytes) -> list[float]:
    """Return the floats of a halfvec."""
    return list(struct.unpack_from(f">{size_of(data, 2, 'halfvec')}e", data, 4))


def decode_vector_array(data: bytes) -> array[float]:
    """Return the array of a vector."""
    size_of(data, 4, "vector")
    numbers = array("f", data[4:])
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


def decode_half_array(data: bytes) -> array[float]:
    """Return the array of a halfvec, of single precision: Python's arrays have no other."""
    return array("f", decode_half_list(data))


def decode_vector_numpy(data: bytes) -> Any:
    """Return numpy's array of a vector."""
    import numpy

    size_of(data, 4, "vector")
    return numpy.frombuffer(data, ">f4", offset=4).astype(numpy.float32)


def decode_half_numpy(data: bytes) -> Any:
    """Return numpy's array of a halfvec."""
    import numpy

    size_of(data, 2, "halfvec")
    return numpy.frombuffer(data, ">f2", offset=4).astype(numpy.float16)


DECODERS: Final[dict[str, tuple[Callable[[bytes], Any], Callable[[bytes], Any]]]] = {
    "list": (decode_vector_list, decode_half_list),
    "array": (decode_vector_array, decode_half_array),
    "numpy": (decode_vector_numpy, decode_half_numpy),
}
"""`vectors` of Pgvector -> the decoders of vector and halfvec."""


def encode_sparse(value: Any) -> bytes:
    """Return the binary form of a sparsevec: dimensions, number of elements, zero, indices from 0, float4 numbers.

    The value is a SparseVector, or an object with its methods, such as that of the package pgvector.
    """
    try:
        dimensions, indices, values = value.dimensions(), value.indices(), value.values()
    except (AttributeError, TypeError):
        raise TypeError(f"expected a SparseVector, got {type(value).__name__}") from None
    count = len(indices)
    if count > MAX_NUMBERS:
        raise ValueError(f"expected at most {MAX_NUMBERS:,} elements that are not zero, got {count:,}")
    return struct.pack(f">iii{count}i{count}f", dimensions, count, 0, *indices, *values)


def decode_sparse(data: bytes) -> SparseVector:
    """Return the SparseVector of a sparsevec."""
    if len(data) >= 12:
        dimensions, count, _ = struct.unpack_from(">iii", data)
        if count >= 0 and len(data) == 12 + 8 * count:
            return SparseVector._made(
                dimensions,
                struct.unpack_from(f">{count}i", data, 12),
                struct.unpack_from(f">{count}f", data, 12 + 4 * count),
            )
    raise ProtocolError(f"a sparsevec value of {len(data)} bytes from the server is not whole")


# -- PostGIS --------------------------------------------------------------------------------------------------------


SHORTEST_EWKB: Final = 5
"""The bytes of the byte order and of the type, which all EWKB begins with."""


class Postgis(Extension):
    """PostGIS's types geometry and geography, as shapely's geometries, or as bytes with `shapely=False`.

    The bytes are EWKB: well-known binary with the SRID. With shapely a parameter may also be EWKB as bytes, or an
    object with `__geo_interface__`. The SRID is that of the geometry (`shapely.set_srid()`), 0 if it has none.

    Raises ImportError if shapely is not installed: `pip install 'headrace[postgis]'`.
    Source: PostGIS documentation, ST_AsEWKB and ST_GeomFromEWKB.
    """

    extension = "postgis"
    typenames = ("geometry", "geography")

    def __init__(self, *, shapely: bool = True) -> None:
        self.shapely = shapely
        if shapely:
            self._encode, self._decode = shapely_functions()
        else:
            self._encode, self._decode = ewkb_of, bytes

    def __repr__(self) -> str:
        return f"Postgis(shapely={self.shapely!r})"

    def _set(self, types: TypeMap, name: str, oid: int) -> None:
        types.set_codec(oid, "binary", self._encode, self._decode)


def whole_ewkb(value: bytes | bytearray | memoryview) -> Any:
    """Return EWKB as it is; raises ValueError if it is too short. PostGIS 3.3 reads past the end of an empty value."""
    size = memoryview(value).nbytes
    if size < SHORTEST_EWKB:
        raise ValueError(f"expected EWKB, which has {SHORTEST_EWKB} bytes or more, got {size}")
    return value


def ewkb_of(value: Any) -> Any:
    """Return EWKB as it is; raises TypeError for anything but bytes."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return whole_ewkb(value)
    raise TypeError(f"expected EWKB as bytes, got {type(value).__name__}: register Postgis() for shapely's geometries")


def shapely_functions() -> tuple[Callable[[Any], Any], Callable[[bytes], Any]]:
    """Return the encoder and the decoder of shapely's geometries."""
    try:
        import shapely
    except ImportError as error:
        raise ImportError(
            "Postgis() needs shapely: pip install 'headrace[postgis]', or pass shapely=False for EWKB as bytes"
        ) from error
    from shapely.geometry import shape

    def encode(value: Any) -> Any:
        if isinstance(value, shapely.Geometry):
            return shapely.to_wkb(value, include_srid=True)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return whole_ewkb(value)
        if hasattr(value, "__geo_interface__"):
            return shapely.to_wkb(shape(value), include_srid=True)
        raise TypeError(f"expected a geometry of shapely, or EWKB as bytes, got {type(value).__name__}")

    return encode, shapely.from_wkb
