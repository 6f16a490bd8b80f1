"""Read a partner's file of product ids, line by line.

The file has one id per line, in UTF-8, with or without a byte order mark. Lines end in LF or CRLF. No line is left out:
a line that is not an id, and a line that repeats an earlier id, are marked as such.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from storefront.catalogue import parse_product_id
from storefront.errors import UsageError

MAX_LINE = 1_000
"""The number of bytes of a line that are read. An id has ten digits at most; the rest of a longer line is skipped."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class OrderLine:
    """A line of an order: an id to look up, or the reason why there is none.

    `end` is the offset of the next line in bytes. `digest` is the SHA-256 of the file up to `end`, in hexadecimal. A
    resumed batch recognises by it whether the file has changed.
    """

    number: int
    end: int
    digest: str
    product_id: int | None
    malformed: str | None = None
    repeated: bool = False


class SeenIds:
    """The set of ids seen so far, one bit each. A thousand neighbouring ids take a few hundred bytes.

    Ids have 31 bits, which limits the size of the set for any file.
    """

    _PAGE = 4_096

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}

    def add(self, product_id: int) -> bool:
        """Add an id. Return whether it is new."""
        number, bit = divmod(product_id, self._PAGE)
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = bytearray(self._PAGE // 8)
        mask = 1 << (bit & 7)
        if page[bit >> 3] & mask:
            return False
        page[bit >> 3] |= mask
        return True


class Order:
    """Iterates once over the lines of an order, from the beginning of a binary file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._seen = SeenIds()
        self._hash = hashlib.sha256()
        self._number = 0
        self._end = 0

    def __iter__(self) -> Iterator[OrderLine]:
        return self

    def __next__(self) -> OrderLine:
        raw = self._read_line()
        if not raw:
            raise StopIteration
        self._number += 1
        if self._number == 1:
            raw = raw.removeprefix(BYTE_ORDER_MARK)
        line = partial(OrderLine, self._number, self._end, self._hash.hexdigest())
        try:
            product_id = _product_id(raw)
        except UsageError as error:
            return line(None, malformed=str(error))
        return line(product_id, repeated=not self._seen.add(product_id))

    def _read_line(self) -> bytes:
        """Read a line with its end. Return only the beginning of a line that is too long, and skip the rest of it."""
        line = piece = self._piece()
        while len(piece) == MAX_LINE and not piece.endswith(b"\n"):
            piece = self._piece()
        return line

    def _piece(self) -> bytes:
        piece = self._file.readline(MAX_LINE)
        self._hash.update(piece)
        self._end += len(piece)
        return piece


def _product_id(raw: bytes) -> int:
    if not raw.strip():
        raise UsageError("the line is empty: expected a product id")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise UsageError("the line is not text in UTF-8: expected a product id") from None
    return parse_product_id(text.rstrip("\r\n"))
