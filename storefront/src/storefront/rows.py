"""Write rows to standard output, to a file that gets its name at the end, or in parts that can be cut back."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from storefront.errors import CannotResumeError, StorefrontError, UsageError
from storefront.formats import (
    Compression,
    Compressor,
    CsvEncoder,
    Encoder,
    Format,
    ParquetFile,
    compressor,
    encoder,
    join_parquet,
    require,
)


class RowWriter:
    """Writes rows of CSV to a binary file and keeps track of the position in it. See formats.CsvEncoder."""

    def __init__(self, file: BinaryIO, position: int = 0) -> None:
        self._file = file
        self._encoder = CsvEncoder(())
        self.position = position

    def write(self, row: Iterable[object]) -> None:
        """Write one row. Raises OSError if the file cannot be written, as on a full disk."""
        self.write_all((row,))

    def write_all(self, rows: Iterable[Iterable[object]]) -> None:
        """Write several rows at once, which costs less than one after another. Raises OSError as `write` does."""
        self.write_encoded(self._encoder.rows(rows))

    def write_encoded(self, rows: bytes) -> None:
        """Write whole rows that are CSV already, such as those of COPY. Raises OSError as `write` does."""
        self._file.write(rows)
        self.position += len(rows)

    def flush(self) -> None:
        """Pass everything written to the operating system."""
        self._file.flush()


def open_alone(path: Path, *, name: Path | None = None) -> BinaryIO:
    """Open a file to write that no other command is writing, with what is in it. It is created if it is not there.

    Raises UsageError if that fails or if another command has it open by this function. `name` is the file in messages.
    """
    while True:
        try:
            file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666), "wb")
        except OSError as error:
            raise UsageError(f"cannot write {name or path}: {error.strerror}") from error
        try:
            _lock(file.fileno(), name or path)
            # The other command may have given the file another name meanwhile.
            if os.path.samestat(os.stat(path), os.fstat(file.fileno())):
                return file
        except FileNotFoundError:
            pass
        except BaseException:
            file.close()
            raise
        file.close()


def _lock(descriptor: int, name: Path) -> None:
    """Lock a file or a directory until its descriptor is closed. Raises UsageError if another command has done so."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"another command is writing {name}: wait for its end, or choose another file") from None
    except OSError:
        # Some file systems have no locks.
        return


def open_binary(path: Path, mode: Literal["rb", "wb"], *, name: Path | None = None) -> BinaryIO:
    """Open a file in binary mode. Raises UsageError with the reason if that fails, and with `name` if it is given."""
    try:
        return open(path, mode)
    except OSError as error:
        raise UsageError(f"cannot {'read' if mode == 'rb' else 'write'} {name or path}: {error.strerror}") from error


def same_file(path: Path, other: Path) -> bool:
    """Return whether two paths name the same file, which need not exist."""
    try:
        return path.samefile(other)
    except OSError:
        return os.path.realpath(path) == os.path.realpath(other)


class Output(Protocol):
    """A file for rows of one format. `encoder` makes the bytes that `write` takes."""

    encoder: Encoder

    def write(self, data: bytes) -> object:
        """Write encoded rows. Raises OSError if that fails, as on a full disk."""


@contextmanager
def output_file(
    path: Path | None, chosen: Format, compression: Compression, columns: Sequence[str]
) -> Iterator[Output]:
    """Open a file for rows, or standard output if `path` is None. The header comes before the first rows or the end.

    Raises UsageError if the file cannot be opened, and StorefrontError with its name if it cannot be written. A regular
    file gets its name when the `with` block ends without an error, so a file of that name is always complete.
    """
    if path is None:
        with naming("standard output"):
            stream = _Stream(sys.stdout.buffer, chosen, compression, columns)
            yield stream
            stream.close()
        return
    whole = not path.exists() or path.is_file()
    target = path.with_name(path.name + ".new") if whole else path
    # If another command writes it, it is not removed.
    opened = open_alone(target, name=path) if whole else open_binary(target, "wb")
    try:
        with naming(path), opened as file:
            if whole:
                file.truncate()
            output: _Stream | ParquetOutput
            if chosen is Format.PARQUET:
                output = ParquetOutput(file, columns)
            else:
                output = _Stream(file, chosen, compression, columns)
            yield output
            output.close()
            file.flush()
            if whole:
                os.replace(target, path)
    except BaseException:
        if whole:
            with suppress(OSError):
                target.unlink()
        raise


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Raise StorefrontError, with the name of the file, for an error that says that a file cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno in _CANNOT_WRITE and error.filename is None:
            raise StorefrontError(f"cannot write {path}: {error.strerror}") from error
        raise


_CANNOT_WRITE = (errno.EBADF, errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO, errno.EROFS)


class _Stream:
    """Writes CSV or NDJSON to a file that is open already."""

    def __init__(self, file: BinaryIO, chosen: Format, compression: Compression, columns: Sequence[str]) -> None:
        self.encoder = encoder(chosen, columns)
        self._file = file
        self._compressor = compressor(compression)
        # The header waits for rows: nothing is printed if the query fails.
        self._header: bytes | None = self.encoder.header()

    def write(self, data: bytes) -> None:
        if self._header is not None:
            data, self._header = self._header + data, None
        self._file.write(self._compressor.compress(data))

    def close(self) -> None:
        self.write(b"")
        self._file.write(self._compressor.end())
        self._file.flush()


class ParquetOutput:
    """Writes Parquet to a file that is open already. It takes rows as CSV, and as record batches in Arrow's format."""

    def __init__(self, file: BinaryIO, columns: Sequence[str]) -> None:
        self.encoder = encoder(Format.PARQUET, columns)
        self._file = ParquetFile(file, columns)
        self.write = self._file.write
        self.write_batch = self._file.write_batch
        self.close = self._file.close


class PartedOutput(Protocol):
    """A file that is written in parts, and can be cut back to the end of any part.

    `offset` and `parts` say where the last part ends. Methods raise OSError if the file cannot be written.
    """

    encoder: Encoder
    offset: int
    parts: int

    def write(self, data: bytes) -> object:
        """Write encoded rows to the part."""

    def end_part(self) -> None:
        """End the part and pass it to the disk. `offset` and `parts` are those of its end."""

    def finish(self) -> None:
        """Make the file of its parts, the last of which was ended."""

    def close(self) -> None:
        """Close the file, complete or not."""


class PartedFile:
    """Writes CSV or NDJSON in parts. Each part is a gzip member or a zstd frame, if the file is compressed.

    A new file begins with the header. An existing one is cut back to `offset`. Raises UsageError if the file cannot be
    opened, and CannotResumeError if it is shorter than `offset`.
    """

    parts = 0

    def __init__(
        self, path: Path, chosen: Format, compression: Compression, columns: Sequence[str], offset: int | None
    ) -> None:
        self.encoder = encoder(chosen, columns)
        self._compressor: Compressor = compressor(compression)
        if offset is not None and not os.path.exists(path):
            raise UsageError(f"cannot write {path}: {os.strerror(errno.ENOENT)}")
        self._file = open_alone(path)
        self.offset = offset or 0
        if offset is None:
            self._file.truncate()
            self.write(self.encoder.header())
            return
        if self._file.seek(0, os.SEEK_END) < offset:
            self._file.close()
            raise CannotResumeError(f"{path} is shorter than when the batch was interrupted")
        self._file.truncate(offset)
        self._file.seek(offset)

    def write(self, data: bytes) -> None:
        self._file.write(self._compressor.compress(data))

    def end_part(self) -> None:
        self._file.write(self._compressor.end())
        self._file.flush()
        os.fsync(self._file.fileno())
        self.offset = self._file.tell()

    def finish(self) -> None:
        """Do nothing: the parts are the file."""

    def close(self) -> None:
        try:
            self._file.close()
        except OSError:
            # Only rows after the last part were lost. The caller already has this error, from `write` or `end_part`.
            with suppress(OSError):
                self._file.raw.close()  # type: ignore[attr-defined]


class PartedParquet:
    """Writes Parquet in parts, which are files in a directory beside the output until they are joined.

    The footer of a Parquet file is at its end, so a file that was cut off cannot be read. Files after the first `parts`
    are removed. Raises UsageError if the directory cannot be made, and CannotResumeError if a file is missing.
    """

    offset = 0

    def __init__(self, path: Path, columns: Sequence[str], parts: int | None) -> None:
        # Without pyarrow the batch fails before it begins.
        require("pyarrow.parquet", "Parquet")
        self.encoder = encoder(Format.PARQUET, columns)
        self._path = path
        self._columns = columns
        self.directory = self.directory_for(path)
        self._part: tuple[BinaryIO, ParquetFile] | None = None
        self.parts = parts or 0
        if path.is_dir():
            raise UsageError(f"cannot write {path}: Is a directory")
        try:
            self.directory.mkdir(exist_ok=True)
            self._descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise UsageError(f"cannot write {self.directory}: {error.strerror}") from error
        try:
            _lock(self._descriptor, path)
            kept = self._files()
            for file in self.directory.iterdir():
                if file not in kept:
                    file.unlink()
            missing = [file for file in kept if not file.exists()]
            if missing:
                raise CannotResumeError(f"{missing[0]} is missing, which was there when the batch was interrupted")
        except OSError as error:
            os.close(self._descriptor)
            raise UsageError(f"cannot write {self.directory}: {error.strerror}") from error
        except UsageError:
            os.close(self._descriptor)
            raise

    @staticmethod
    def directory_for(path: Path) -> Path:
        """Return the directory of the parts of a file."""
        return path.with_name(path.name + ".parts")

    def _file_of(self, number: int) -> Path:
        return self.directory / f"{number:08}.parquet"

    def _files(self) -> list[Path]:
        return [self._file_of(number) for number in range(1, self.parts + 1)]

    def write(self, data: bytes) -> None:
        if self._part is None:
            file = open(self._file_of(self.parts + 1), "wb")  # noqa: SIM115 - closed by end_part or close
            self._part = file, ParquetFile(file, self._columns)
        self._part[1].write(data)

    def end_part(self) -> None:
        if self._part is None:
            return
        file, rows = self._part
        rows.close()
        file.flush()
        os.fsync(file.fileno())
        file.close()
        self._part = None
        self.parts += 1

    def finish(self) -> None:
        unfinished = self._path.with_name(self._path.name + ".new")
        try:
            with open(unfinished, "wb") as file:
                join_parquet(self._files(), file, self._columns)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        os.replace(unfinished, self._path)

    def close(self) -> None:
        if self._part is not None:
            file, rows = self._part
            self._part = None
            with suppress(OSError):
                rows.abandon()
            with suppress(OSError):
                file.close()
        os.close(self._descriptor)
