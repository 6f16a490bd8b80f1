"""Read a partner's file of product ids, line by line.

The file has one id per line, in UTF-8, with or without a byte order mark. Lines end in LF or CRLF. No line is left out:
a line that is not an id, and a line that repeats an earlier id, are marked as such.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from storefront.catalogue import MAX_ID, MAX_WHOLE_NUMBER, parse_product_id
from storefront.errors import UsageError

MAX_LINE = 1_000
"""The number of bytes of a line that are read. An id has 19 digits at most; the rest of a longer line is skipped."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class _Block:
    """A part of the file: the SHA-256 of everything before it, and the pieces that were read since.

    A digest is asked for at few lines. Between them nothing is computed for a line.
    """

    PIECES = 64

    def __init__(self, before: _Block | None = None) -> None:
        self._hash = before.hash_of(self.PIECES) if before else hashlib.sha256()
        self.pieces: list[bytes] = []

    def followed_by(self, piece: bytes) -> _Block:
        """Add the next piece of the file. Return the block that it is in, which is a new one if this is full."""
        block = _Block(self) if len(self.pieces) == self.PIECES else self
        block.pieces.append(piece)
        return block

    def hash_of(self, pieces: int) -> hashlib._Hash:
        """Return the hash of the file up to the end of the first `pieces` pieces of this block."""
        result = self._hash.copy()
        result.update(b"".join(self.pieces[:pieces]))
        return result


@dataclass(slots=True)
class OrderLine:
    """A line of an order: an id to look up, or the reason why there is none.

    `end` is the offset of the next line in bytes.
    """

    number: int
    end: int
    _block: _Block = field(repr=False, compare=False)
    _pieces: int = field(repr=False, compare=False)
    product_id: int | None
    malformed: str | None = None
    repeated: bool = False

    @property
    def digest(self) -> str:
        """The SHA-256 of the file up to `end`, in hexadecimal.

        A resumed batch recognises by it whether the file has changed.
        """
        return self._block.hash_of(self._pieces).hexdigest()


class SeenIds:
    """The set of ids of products seen so far. An id takes two bytes or, among many neighbours, one bit.

    Ids have 31 bits. They are kept in pages of 65,536 by their first bits. A page is a sorted array of the other 16
    bits or, if it holds so many that this is smaller, a bitmap.
    """

    _PAGE = 65_536
    _MANY = _PAGE // 16

    def __init__(self) -> None:
        self._pages: dict[int, array[int] | bytearray] = {}

    def add(self, product_id: int) -> bool:
        """Add an id. Return whether it is new."""
        number, place = divmod(product_id, self._PAGE)
        page = self._pages.get(number)
        if page is None:
            self._pages[number] = array("H", (place,))
            return True
        if isinstance(page, bytearray):
            mask = 1 << (place & 7)
            if page[place >> 3] & mask:
                return False
            page[place >> 3] |= mask
            return True
        index = bisect_left(page, place)
        if index < len(page) and page[index] == place:
            return False
        page.insert(index, place)
        if len(page) == self._MANY:
            bitmap = self._pages[number] = bytearray(self._PAGE // 8)
            for each in page:
                bitmap[each >> 3] |= 1 << (each & 7)
        return True


class Order:
    """Iterates once over the lines of an order, from the beginning of a binary file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lines = self._read()

    def __iter__(self) -> Iterator[OrderLine]:
        return self._lines

    def __next__(self) -> OrderLine:
        return next(self._lines)

    def _read(self) -> Iterator[OrderLine]:
        seen, block = SeenIds(), _Block()
        number = end = 0
        while raw := self._file.readline(MAX_LINE):
            number += 1
            block = block.followed_by(raw)
            end += len(raw)
            rest = raw
            while len(rest) == MAX_LINE and not rest.endswith(b"\n"):
                rest = self._file.readline(MAX_LINE)
                block = block.followed_by(rest)
                end += len(rest)
            line = OrderLine(number, end, block, len(block.pieces), None)
            try:
                line.product_id = product_id = read_product_id(
                    raw.removeprefix(BYTE_ORDER_MARK) if number == 1 else raw
                )
            except UsageError as error:
                line.malformed = str(error)
            else:
                # No product has an id above MAX_ID, so there are no SKUs that were written before.
                line.repeated = product_id <= MAX_ID and not seen.add(product_id)
            yield line


def read_product_id(raw: bytes) -> int:
    """Read the product id on a line. Raises UsageError that says what is wrong with the line."""
    digits = raw.strip()
    if digits.isdigit() and len(digits) <= 19 and 1 <= (product_id := int(digits)) <= MAX_WHOLE_NUMBER:
        return product_id
    if not digits:
        raise UsageError("the line is empty: expected a product id")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise UsageError("the line is not text in UTF-8: expected a product id") from None
    return parse_product_id(text.rstrip("\r\n"))
