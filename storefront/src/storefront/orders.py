"""A partner's file of product ids, read line by line and judged.

One id a line, in UTF-8 (with or without a byte order mark), lines ending in LF or CRLF. What is not an id,
and what was asked for before, is told from what can be looked up; no line is passed over.
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
"""Bytes of a line that are looked at. An id has ten; a longer line is malformed, never in memory whole."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class OrderLine:
    """One line of an order: either an id to look up or the reason why not.

    `end` is the offset in bytes at which the next line begins, and `digest` the SHA-256 of the file up to
    there, in hexadecimal: after a cut-off it shows whether the file is still the one that was begun.
    """

    number: int
    end: int
    digest: str
    product_id: int | None
    malformed: str | None = None
    repeated: bool = False


class SeenIds:
    """The set of ids seen so far, a bit each: a thousand neighbouring ids take a few hundred bytes.

    Ids are 31 bits wide, so even a file made to be unpleasant cannot make it grow without limit.
    """

    _PAGE = 4_096

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}

    def add(self, product_id: int) -> bool:
        """Note an id; return whether it is new."""
        number, place = divmod(product_id, self._PAGE)
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = bytearray(self._PAGE // 8)
        mask = 1 << (place & 7)
        if page[place >> 3] & mask:
            return False
        page[place >> 3] |= mask
        return True


class Order:
    """The lines of an order, iterated once, from the beginning of a binary file."""

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
        """Read a line with its end; of one that is too long the beginning, passing over the rest."""
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
