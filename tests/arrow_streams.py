"""Streams of the Arrow C stream interface written in Python, which count what is released."""

from __future__ import annotations

import ctypes
import errno
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

Pointer = ctypes.c_void_p


class ArrowArray(ctypes.Structure):
    """The C structure."""


ArrowArray._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(Pointer)),
    ("children", ctypes.POINTER(ctypes.POINTER(ArrowArray))),
    ("dictionary", ctypes.POINTER(ArrowArray)),
    ("release", Pointer),
    ("private_data", Pointer),
]


class ArrowSchema(ctypes.Structure):
    """The C structure."""


ArrowSchema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_char_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.POINTER(ctypes.POINTER(ArrowSchema))),
    ("dictionary", ctypes.POINTER(ArrowSchema)),
    ("release", Pointer),
    ("private_data", Pointer),
]

GET = ctypes.CFUNCTYPE(ctypes.c_int, Pointer, Pointer)
GET_ERROR = ctypes.CFUNCTYPE(Pointer, Pointer)
RELEASE = ctypes.CFUNCTYPE(None, Pointer)


class ArrowArrayStream(ctypes.Structure):
    """The C structure."""

    _fields_ = [
        ("get_schema", GET),
        ("get_next", GET),
        ("get_last_error", GET_ERROR),
        ("release", Pointer),
        ("private_data", Pointer),
    ]


new_capsule: Any = ctypes.pythonapi.PyCapsule_New
new_capsule.restype = ctypes.py_object
new_capsule.argtypes = [Pointer, ctypes.c_char_p, Pointer]


def capsule(structure: ctypes.Structure, name: bytes) -> Any:
    """Return a capsule around a structure that the caller keeps."""
    return new_capsule(ctypes.addressof(structure), name, None)


class Counted:
    """An object with `__arrow_c_stream__` whose batches come from an iterable, which runs in the reader's thread.

    An error of the iterable is one of the stream. `alive` counts the schemas and arrays that are not released yet,
    `twice` whatever was released more than once, and `released` is set when the stream is.
    """

    def __init__(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        self.schema = schema
        self.alive = 0
        self.twice = 0
        self.asked = 0
        self.threads: set[int] = set()
        self.released = threading.Event()
        self._batches: Iterator[pa.RecordBatch] = iter(batches)
        self._originals: dict[int, int] = {}
        self._message = ctypes.create_string_buffer(1)
        self._release = RELEASE(self._part_released)
        self._release_stream = RELEASE(self._stream_released)
        self._stream = ArrowArrayStream(
            GET(self._get_schema),
            GET(self._get_next),
            GET_ERROR(lambda _: ctypes.addressof(self._message)),
            ctypes.cast(self._release_stream, Pointer),
            None,
        )

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        return capsule(self._stream, b"arrow_array_stream")

    def _get_schema(self, _: int, out: int) -> int:
        self.schema._export_to_c(out)
        self._count(ArrowSchema.from_address(out))
        return 0

    def _get_next(self, _: int, out: int) -> int:
        self.asked += 1
        self.threads.add(threading.get_ident())
        array = ArrowArray.from_address(out)
        try:
            batch = next(self._batches, None)
        except Exception as error:
            self._message = ctypes.create_string_buffer(str(error).encode())
            return errno.EIO
        if batch is None:
            array.release = None
            return 0
        batch._export_to_c(out)
        self._count(array)
        return 0

    def _count(self, part: Any) -> None:
        """Have the release of a structure counted; `private_data` is moved along with it and tells which one it is."""
        self.alive += 1
        self._originals[part.private_data] = part.release
        part.release = ctypes.cast(self._release, Pointer).value

    def _part_released(self, address: int) -> None:
        # Schemas and arrays differ, but both end in release and private_data.
        is_array = False
        array, schema = ArrowArray.from_address(address), ArrowSchema.from_address(address)
        if array.private_data in self._originals:
            is_array = True
        part: Any = array if is_array else schema
        original = self._originals.pop(part.private_data, None)
        if original is None:
            self.twice += 1
            return
        self.alive -= 1
        part.release = original
        RELEASE(original)(address)

    def _stream_released(self, address: int) -> None:
        if self.released.is_set():
            self.twice += 1
        ArrowArrayStream.from_address(address).release = None
        self.released.set()

    @property
    def is_clean(self) -> bool:
        """True if every part that was exported has been released exactly once."""
        return self.released.is_set() and self.alive == 0 and self.twice == 0


pointer_of: Any = ctypes.pythonapi.PyCapsule_GetPointer
pointer_of.restype = ctypes.c_void_p
pointer_of.argtypes = [ctypes.py_object, ctypes.c_char_p]


def check_array(exported: Any, length: int) -> None:
    """Check what a capsule with an array says of itself: lengths, and the NULLs that it counts."""
    _check(ArrowArray.from_address(pointer_of(exported, b"arrow_array")), length)


def _check(array: Any, length: int) -> None:
    assert array.length >= length
    assert array.offset == 0
    assert 0 <= array.null_count <= array.length
    if array.n_buffers:
        validity = array.buffers[0]
        assert validity or not array.null_count, "NULLs without a bitmap"
        if validity:
            bits = int.from_bytes(ctypes.string_at(validity, (array.length + 7) // 8), "little")
            ones = (bits & ((1 << array.length) - 1)).bit_count()
            assert ones == array.length - array.null_count, f"{ones} of {array.length}, {array.null_count} NULLs"
    for child in range(array.n_children):
        _check(array.children[child].contents, 0)
