"""Write rows as CSV to a binary file."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

from storefront.errors import UsageError


class RowWriter:
    """Writes rows of CSV to a binary file and keeps track of the position in it.

    The format is RFC 4180 in UTF-8, but a line ends in a line feed alone. An empty field stands for a null. The file is
    binary because a batch is resumed at an offset in bytes.
    """

    def __init__(self, file: BinaryIO, position: int = 0) -> None:
        self._file = file
        self._line = io.StringIO()
        self._csv = csv.writer(self._line, lineterminator="\n")
        self.position = position

    def write(self, row: Iterable[object]) -> None:
        """Write one row. Raises OSError if the file cannot be written, as on a full disk."""
        self._csv.writerow(row)
        encoded = self._line.getvalue().encode()
        self._line.seek(0)
        self._line.truncate()
        self._file.write(encoded)
        self.position += len(encoded)

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
