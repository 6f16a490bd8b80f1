"""Write rows as CSV to a binary file."""

from __future__ import annotations

import csv
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Literal

import headrace
from storefront.errors import UsageError

_QUOTED = re.compile(r'[",\r\n]')


def _field(text: str) -> str:
    """Return a text as a field of CSV."""
    return '"{}"'.format(text.replace('"', '""')) if _QUOTED.search(text) else text


_name = lru_cache(1_024)(_field)
"""Returns the name of a colour or a size as a field of CSV. There are few of them."""


class RowWriter:
    """Writes rows of CSV to a binary file and keeps track of the position in it.

    The format is RFC 4180 in UTF-8, but a line ends in a line feed alone. An empty field stands for a null. The file is
    binary because a batch is resumed at an offset in bytes.
    """

    def __init__(self, file: BinaryIO, position: int = 0) -> None:
        self._file = file
        self._lines = io.StringIO()
        self._csv = csv.writer(self._lines, lineterminator="\n")
        self.position = position

    def write(self, row: Iterable[object]) -> None:
        """Write one row. Raises OSError if the file cannot be written, as on a full disk."""
        self.write_all((row,))

    def write_all(self, rows: Iterable[Iterable[object]]) -> None:
        """Write several rows at once, which costs less than one after another. Raises OSError as `write` does."""
        self._csv.writerows(rows)
        encoded = self._lines.getvalue().encode()
        self._lines.seek(0)
        self._lines.truncate()
        self.write_encoded(encoded)

    def write_product(self, rows: Sequence[headrace.Record]) -> None:
        """Write the rows of one product, which have the columns of the catalogue. Raises OSError as `write` does.

        They agree in their first three columns, which are put into CSV only once.
        """
        product_id, product_name, brand_id, *_ = rows[0]
        product = f"{product_id},{_field(product_name)},{brand_id}"
        lines = [f"{product},{sku_id},{_name(color)},{_name(size)}\n" for _, _, _, sku_id, color, size in rows]
        self.write_encoded("".join(lines).encode())

    def write_encoded(self, rows: bytes) -> None:
        """Write whole rows that are CSV already, such as those of COPY. Raises OSError as `write` does."""
        self._file.write(rows)
        self.position += len(rows)

    def flush(self) -> None:
        """Pass everything written to the operating system."""
        self._file.flush()


def open_binary(path: Path, mode: Literal["rb", "wb", "r+b"]) -> BinaryIO:
    """Open a file in binary mode. Raises UsageError with the reason if that fails."""
    try:
        return open(path, mode)
    except OSError as error:
        raise UsageError(f"cannot {'read' if mode == 'rb' else 'write'} {path}: {error.strerror}") from error


@contextmanager
def output_file(path: Path | None) -> Iterator[RowWriter]:
    """Open a file for rows, or standard output if `path` is None. Raises UsageError if the file cannot be opened.

    A regular file gets its name when the `with` block ends without an error, so a file of that name is always complete.
    """
    if path is None:
        writer = RowWriter(sys.stdout.buffer)
        yield writer
        writer.flush()
        return
    whole = not path.exists() or path.is_file()
    target = path.with_name(path.name + ".new") if whole else path
    try:
        with open_binary(target, "wb") as file:
            yield RowWriter(file)
    except BaseException:
        if whole:
            target.unlink(missing_ok=True)
        raise
    if whole:
        os.replace(target, path)
