"""The checkpoint of a batch, a file beside its output from which the batch can be resumed."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from storefront.errors import CannotResumeError


@dataclass
class Tally:
    """The number of lines of an order so far, by outcome."""

    lines: int = 0
    products: int = 0
    skus: int = 0
    without_skus: int = 0
    unknown: int = 0
    malformed: int = 0
    repeated: int = 0

    def add(self, other: Tally) -> None:
        """Add the lines of another tally."""
        self.lines += other.lines
        self.products += other.products
        self.skus += other.skus
        self.without_skus += other.without_skus
        self.unknown += other.unknown
        self.malformed += other.malformed
        self.repeated += other.repeated

    @property
    def all_found(self) -> bool:
        """True if every line names a product that exists."""
        return not (self.unknown or self.malformed)


@dataclass(frozen=True)
class Checkpoint:
    """The state of a batch after a whole number of lines: the input read, the output written, and the tally.

    Offsets are in bytes. `input_digest` is the SHA-256 of the input up to `input_offset`, where the input is not
    compressed. The output is cut back to `output_offset` or, if it consists of files until the end, to `output_parts`
    of them. The report is cut back to `report_offset`. `output_type` and `report` say how the batch was begun.
    """

    input_offset: int
    input_digest: str
    output_offset: int
    output_parts: int
    report_offset: int
    output_type: str
    report: str | None
    tally: Tally

    @staticmethod
    def path_for(output: Path) -> Path:
        """Return the path of the checkpoint of a batch that writes to `output`."""
        return output.with_name(output.name + ".checkpoint")

    def save(self, path: Path) -> None:
        """Write the checkpoint. An interruption at any moment leaves either the old one or the new one.

        Raises OSError if the disk is full. Then the old one is left.
        """
        unfinished = path.with_name(path.name + ".new")
        try:
            with open(unfinished, "w", encoding="utf-8") as file:
                json.dump(asdict(self), file, indent=1)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        os.replace(unfinished, path)
        sync_directory(path.parent)

    @classmethod
    def load(cls, path: Path) -> Checkpoint | None:
        """Read a checkpoint. Return None if there is none. Raises CannotResumeError if it is not a checkpoint."""
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{**fields, "tally": Tally(**fields["tally"])})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise CannotResumeError(
                f"{path} is not a checkpoint of the storefront: remove it to start again"
            ) from error


def sync_directory(path: Path) -> None:
    """Pass the names of the files in a directory to the disk, after one was created or replaced."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
