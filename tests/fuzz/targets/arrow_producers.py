"""Batches of a producer that lies, into rows of binary COPY.

An input is a program: it says, byte by byte, what schema and what array a producer exports, and whether the two agree.
Addresses are good, and buffers are longer than any position that can pass the checks, because nobody can check these.
All else may be wrong: lengths, offsets, numbers of buffers and children, formats, NULLs, dictionaries, runs, views and
metadata.
"""

from __future__ import annotations

import ctypes
import re
import struct
from collections.abc import Iterable
from typing import Any

from headrace import exceptions
from headrace._core.arrow.encoder import BatchEncoder
from headrace._core.arrow.matching import Mismatch, writer_for
from headrace._core.arrow.reader import BatchReader
from headrace._core.arrow.targets import target
from headrace._core.codecs.base import builtin_codecs
from tests.arrow_streams import ArrowArray, ArrowSchema, capsule
from tests.core.codecs.types_known import TYPES
from tests.fuzz.target import Target

FORMATS = (
    *b"n b c C s S i I l L e f g z Z vz u U vu w:16 w:0 w:3 w:-1 w: w:x w:99999999999 d:9,2 d:38,0 d:76,3,256".split(),
    *b"d:9,-2,64 d:5,1,32 d: d:x,y d:1 d:9,2,77 d:9,5000 tdD tdm tts ttm ttu ttn tt tss: tsm: tsu: tsn:".split(),
    *b"tsu:UTC tsx: ts tDs tDm tDu tDn tDx tiM tiD tin +l +L +vl +vL +w:2 +w:0 +w:-1 +w: +w:x +s +m +r".split(),
    *(b"+ud:0,1", b"q", b"", b"\xff", b"u\xff"),
)
"""Format strings: of every type, and some that are none."""

METADATA = (
    None,
    struct.pack("=i", 0),
    struct.pack("=i", -1),
    struct.pack("=ii20si10s", 1, 20, b"ARROW:extension:name", 10, b"arrow.uuid"),
    struct.pack("=ii20si11s", 1, 20, b"ARROW:extension:name", 11, b"arrow.bool8"),
    struct.pack("=ii20si", 1, 20, b"ARROW:extension:name", -5),
    struct.pack("=iii", 1, -1, 0),
    struct.pack("=iiii", 2, 0, -(2**31), 0),
)
"""Metadata that a field may have."""

OIDS = (
    16, 17, 20, 21, 23, 25, 26, 30, 114, 142, 600, 700, 701, 790, 869, 1005, 1007, 1009, 1082, 1083, 1114, 1184, 1185,
    1186, 1266, 1560, 1700, 1231, 2950, 3614, 3615, 3802, 3904, 3906, 4451, 5069, *(info.oid for info in TYPES),
)  # fmt: skip
"""The types of PostgreSQL that data is copied into."""

SPACE = 10_000
"""Bytes of each buffer: more than any position that passes the checks can reach."""

MOST_DEPTH = 3
MOST_PARTS = 12
"""Fields of a schema, so that an input does not grow into thousands of them."""

RELEASE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def _nothing(address: int) -> None:
    """Release nothing: Python owns the memory."""


nothing = RELEASE(_nothing)
NOTHING = ctypes.cast(nothing, ctypes.c_void_p).value


class Program:
    """Reads an input: numbers, which are 0 behind its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        """Return a byte."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def odd(self) -> bool:
        """Return whether something rare is meant."""
        return self.byte() >= 240

    def small(self) -> int:
        """Return a number that may be negative."""
        return (self.byte() ^ 0x80) - 0x80

    def bytes(self, count: int) -> bytes:
        """Return so many bytes."""
        return bytes(self.byte() for _ in range(count))


class Lying:
    """An object with `__arrow_c_array__` that an input describes."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._kept: list[Any] = []
        self._parts = 0
        width = 1 + program.byte() % 3
        formats = [FORMATS[program.byte() % len(FORMATS)] for _ in range(width)]
        fields = [self._field(form, f"c{k}".encode(), 0) for k, form in enumerate(formats)]
        self._schema = self._new_schema(b"+s", b"", fields)
        self._array = self._columns(fields)

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[Any, Any]:
        return capsule(self._schema, b"arrow_schema"), capsule(self._array, b"arrow_array")

    # -- schemas

    def _field(self, form: bytes, name: bytes, depth: int) -> ArrowSchema:
        program = self._program
        self._parts += 1
        count = self._children_of(form)
        if program.odd():
            count = program.byte() % 4
        if depth >= MOST_DEPTH or self._parts > MOST_PARTS:
            count = 0
        names = ((b"lower", b"upper"), (b"a", b"b"), (b"key", b"value"), (b"kind", b"count"))[program.byte() % 4]
        children = [self._field(FORMATS[program.byte() % len(FORMATS)], names[k % 2], depth + 1) for k in range(count)]
        made = self._new_schema(form, name, children)
        if program.odd():
            made.metadata = METADATA[program.byte() % len(METADATA)]
        if program.odd() and depth < MOST_DEPTH:
            values = self._field(FORMATS[program.byte() % len(FORMATS)], b"", depth + 1)
            self._kept.append(values)
            made.dictionary = ctypes.pointer(values)
        if program.odd():
            self._spoil_schema(made)
        return made

    def _children_of(self, form: bytes) -> int:
        if form[:2] in (b"+l", b"+L", b"+v", b"+w", b"+m"):
            return 1
        return 2 if form[:1] == b"+" else 0

    def _spoil_schema(self, made: Any) -> None:
        kind = self._program.byte() % 5
        if kind == 0:
            made.format = None
        elif kind == 1:
            made.name = None
        elif kind == 2:
            made.n_children = -1
        elif kind == 3:
            made.children = None
        elif made.n_children > 0:
            made.children[0] = None

    def _new_schema(self, form: bytes, name: bytes, children: list[ArrowSchema]) -> ArrowSchema:
        made = ArrowSchema(format=form, name=name, n_children=len(children), release=NOTHING)
        made.children = self._pointers(ArrowSchema, children)
        return made

    # -- arrays

    def _columns(self, fields: list[ArrowSchema]) -> ArrowArray:
        program = self._program
        length = program.byte() % 5
        made = self._new_array(length, [None], [self._array_of(field, length) for field in fields])
        if program.odd():
            self._spoil_array(made)
        return made

    def _array_of(self, field: Any, least: int) -> ArrowArray:
        """Return an array for a field, of the length that is needed for most part."""
        program = self._program
        form = bytes(field.format or b"")
        offset = program.byte() % 3 if program.odd() else 0
        length = program.byte() % 6 if program.odd() else least
        validity = struct.pack("=I", program.byte() | 0xFFFFFF00) if program.odd() else None
        buffers = [validity, *self._buffers(form, length + offset)]
        children = []
        if field.n_children > 0 and field.children:
            # Lists have values for two each.
            inner = 2 * (length + offset) if form[:2] != b"+s" else length + offset
            children = [
                self._array_of(field.children[k].contents, inner) for k in range(field.n_children) if field.children[k]
            ]
        made = self._new_array(length, buffers, children, offset)
        if field.dictionary and not program.odd():
            values = self._array_of(field.dictionary.contents, 1 + program.byte() % 3)
            self._kept.append(values)
            made.dictionary = ctypes.pointer(values)
        if program.odd():
            self._spoil_array(made)
        return made

    def _buffers(self, form: bytes, count: int) -> list[bytes | None]:
        program = self._program
        if form in (b"u", b"z", b"+l", b"+m", b"U", b"Z", b"+L"):
            offsets = self._offsets(count + 1)
            code = "q" if form in (b"U", b"Z", b"+L") else "i"
            found: list[bytes | None] = [struct.pack(f"={count + 1}{code}", *offsets)]
            return found if form[:1] == b"+" else [*found, program.bytes(program.byte() % 32)]
        if form in (b"vu", b"vz"):
            views = b"".join(
                struct.pack("=iiii", program.byte() % 32, 0x20202020, program.small(), program.small())
                if program.odd()
                else struct.pack("=i12s", program.byte() % 13, program.bytes(3))
                for _ in range(count)
            )
            sizes = struct.pack("=q", program.small())
            return [views, program.bytes(8), sizes]
        if form in (b"+vl", b"+vL"):
            code = "q" if form == b"+vL" else "i"
            numbers = [struct.pack(f"={count}{code}", *self._numbers(count)) for _ in range(2)]
            return list(numbers)
        if form[:1] == b"+":
            return []
        return [program.bytes(min(count, 8) * 16)]

    def _offsets(self, count: int) -> list[int]:
        """Return offsets; they ascend for most part."""
        found = [0]
        for _ in range(count - 1):
            found.append(self._program.small() if self._program.odd() else found[-1] + self._program.byte() % 3)
        return found

    def _numbers(self, count: int) -> list[int]:
        return [self._program.small() if self._program.odd() else self._program.byte() % 2 for _ in range(count)]

    def _spoil_array(self, made: Any) -> None:
        program = self._program
        kind = program.byte() % 12
        if kind == 0:
            made.length = program.small()
        elif kind == 1:
            made.offset = program.small()
        elif kind == 2:
            made.null_count = program.small()
        elif kind == 3:
            made.n_buffers = program.byte() % (made.n_buffers + 1)
        elif kind == 4:
            made.n_buffers = -1
        elif kind == 5:
            made.buffers = None
        elif kind == 6 and made.n_buffers > 0:
            made.buffers[program.byte() % made.n_buffers] = None
        elif kind == 7:
            made.n_children = program.byte() % (made.n_children + 1) - 1
        elif kind == 8:
            made.children = None
        elif kind == 9 and made.n_children > 0:
            made.children[program.byte() % made.n_children] = None
        elif kind == 10:
            made.release = None
        elif kind == 11:
            made.offset, made.length = 2**63 - 1, 2**63 - 1

    def _new_array(
        self, length: int, buffers: list[bytes | None], children: list[ArrowArray], offset: int = 0
    ) -> ArrowArray:
        kept = [None if data is None else ctypes.create_string_buffer(data, SPACE) for data in buffers]
        addresses = (ctypes.c_void_p * max(len(kept), 1))(
            *(None if data is None else ctypes.addressof(data) for data in kept)
        )
        self._kept += [kept, addresses]
        made = ArrowArray(
            length=length,
            null_count=-1 if buffers[0] is not None else 0,
            offset=offset,
            n_buffers=len(kept),
            n_children=len(children),
            release=NOTHING,
        )
        made.buffers = ctypes.cast(addresses, ctypes.POINTER(ctypes.c_void_p))
        made.children = self._pointers(ArrowArray, children)
        return made

    def _pointers(self, kind: Any, parts: list[Any]) -> Any:
        pointers = (ctypes.POINTER(kind) * max(len(parts), 1))(*(ctypes.pointer(part) for part in parts))
        self._kept += [parts, pointers]
        return ctypes.cast(pointers, ctypes.POINTER(ctypes.POINTER(kind)))


class ArrowProducers(Target):
    """See above."""

    name = "arrow_producers"
    # A Mismatch becomes an ArgumentError that names its column.
    allowed = (exceptions.InterfaceError, Mismatch)
    share = 2.0

    def __init__(self) -> None:
        self._find = {info.oid: info for info in TYPES}.get
        self._codecs = builtin_codecs()

    def seeds(self) -> Iterable[bytes]:
        for number in range(len(FORMATS)):
            # Mutation brings the other types.
            for oid in range(number % 8, len(OIDS), 8):
                # One column of one format, for one type, in three rows.
                yield bytes((oid, 0, number)) + bytes(4) + b"\3" + bytes(range(40))
        yield from (bytes((oid, 2, 16, 6, 30)) + bytes(range(60)) for oid in range(len(OIDS)))
        yield b"\xff" * 100

    def run(self, data: bytes) -> object:
        program = Program(data)
        oid = OIDS[program.byte() % len(OIDS)]
        producer = Lying(program)  # it owns the memory
        reader = BatchReader(producer)
        fields = reader.field.children
        writers = tuple(writer_for(field, target(oid, self._find)) for field in fields)
        names = tuple(field.name for field in fields)
        encoder = BatchEncoder(names, fields, tuple(range(len(fields))), writers)
        try:
            while (batch := reader.next()) is not None:
                encoder.start(batch)
                while encoder.fill(1 << 24):
                    pass
        except exceptions.ArgumentError as error:
            check_place(str(error), names)
            raise
        finally:
            encoder.drop()
            reader.close()
        check(encoder.end(), len(fields))
        return oid, tuple(field.format for field in fields)


def check_place(message: str, names: tuple[str, ...]) -> None:
    """Check that an error names the row and the column."""
    place = re.match(r"invalid input for row ([0-9]+), column '([^']*)': ", message)
    assert place, f"no row and column: {message}"
    assert int(place[1]) >= 1
    assert place[2] in names, message


def check(message: bytes, width: int) -> None:
    """Check that a CopyData message has whole rows of so many columns."""
    assert message[:1] == b"d"
    assert struct.unpack("!i", message[1:5])[0] == len(message) - 1
    at = 24
    while (found := struct.unpack_from("!h", message, at)[0]) != -1:
        assert found == width
        at += 2
        for _ in range(width):
            (size,) = struct.unpack_from("!i", message, at)
            assert size >= -1
            at += 4 + max(size, 0)
    assert at + 2 == len(message)
