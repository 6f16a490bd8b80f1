"""Read the lines of a job as they arrive, and store them in parts.

The lines are those of storefront.orders. A stored part is text compressed by zlib, with a line for each line of the
input: the product id, `=` and the id if an earlier line has the same id, or `!` and the problem with a malformed line.
So repeated ids are found once, when the job is created, and any part can be answered without the parts before it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from storefront.catalogue import MAX_ID
from storefront.errors import UsageError
from storefront.orders import BYTE_ORDER_MARK, MAX_LINE, OrderLine, SeenIds, read_product_id

REPEATED = "="
MALFORMED = "!"
"""The marks of stored lines that are not to be looked up."""


class JobLine(OrderLine):
    """A line of a job. It has no offset and no digest, because a job's input cannot change."""

    __slots__ = ()

    def __init__(
        self, number: int, product_id: int | None, malformed: str | None = None, repeated: bool = False
    ) -> None:
        self.number = number
        self.end = 0
        self.product_id = product_id
        self.malformed = malformed
        self.repeated = repeated


class LineReader:
    """Divides a stream of bytes into lines. Memory holds the lines of one piece, and the set of the ids seen.

    `stored` has the lines that were read and not taken yet, as they are stored.
    """

    def __init__(self) -> None:
        self.stored: list[str] = []
        self.count = 0
        self._seen = SeenIds()
        self._rest = b""
        self._begun = False

    def feed(self, piece: bytes) -> None:
        """Read the next piece of the stream. A line that is not complete yet is kept for the next one."""
        first, *others = piece.split(b"\n")
        # No more is kept of a line than is ever looked at, so that a line without an end does not fill the memory.
        self._rest += first[: max(0, MAX_LINE - len(self._rest))]
        if not others:
            return
        lines = [self._rest, *others]
        self._rest = lines.pop()[:MAX_LINE]
        self._read(lines)

    def end(self) -> None:
        """Read the last line, if it has no line feed."""
        if self._rest:
            self._read([self._rest])
            self._rest = b""

    def take(self, count: int | None = None) -> list[str]:
        """Take the first `count` lines out of `stored`, or all of them."""
        if count is None:
            taken, self.stored = self.stored, []
        else:
            taken, self.stored = self.stored[:count], self.stored[count:]
        return taken

    def _read(self, lines: list[bytes]) -> None:
        if not self._begun:
            self._begun = True
            lines[0] = lines[0].removeprefix(BYTE_ORDER_MARK)
        self.count += len(lines)
        seen, append = self._seen, self.stored.append
        for raw in lines:
            try:
                product_id = read_product_id(raw[:MAX_LINE])
            except UsageError as error:
                append(f"{MALFORMED}{error}")
                continue
            # No product has an id above MAX_ID, so there are no SKUs that were written before.
            repeated = product_id <= MAX_ID and not seen.add(product_id)
            append(f"{REPEATED}{product_id}" if repeated else str(product_id))


def pack_lines(stored: list[str]) -> bytes:
    """Return a part of the input as it is stored in job_input."""
    return zlib.compress("\n".join(stored).encode(), level=1)


def unpack_lines(data: bytes, first_line: int, *, start: int) -> Iterator[JobLine]:
    """Yield the lines of a stored part, which begins with `first_line`, from the line `start` on."""
    stored = zlib.decompress(data).decode().split("\n")
    for number, line in enumerate(stored[max(0, start - first_line) :], start=max(first_line, start)):
        if line.startswith(REPEATED):
            yield JobLine(number, int(line[1:]), repeated=True)
        elif line.startswith(MALFORMED):
            yield JobLine(number, None, malformed=line[1:])
        else:
            yield JobLine(number, int(line))
