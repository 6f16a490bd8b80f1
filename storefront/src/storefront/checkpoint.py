"""How far a batch has come, kept beside its output so that a batch cut off can go on."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from storefront.errors import StorefrontError


@dataclass
class Tally:
    """What has become of the lines of an order so far."""

    lines: int = 0
    products: int = 0
    skus: int = 0
    without_skus: int = 0
    unknown: int = 0
    malformed: int = 0
    repeated: int = 0

    @property
    def all_found(self) -> bool:
        """Whether every line named a product that exists."""
        return not (self.unknown or self.malformed)


@dataclass(frozen=True)
class Checkpoint:
    """The state of a batch after a whole number of lines: what was read, what was written, and the tally.

    `input_digest` is the SHA-256 of the input as far as `input_offset`; offsets are in bytes.
    """

    input_offset: int
    input_digest: str
    output_offset: int
    tally: Tally

    @staticmethod
    def path_for(output: Path) -> Path:
        """Where the checkpoint of a batch that writes to `output` is kept."""
        return output.with_name(output.name + ".checkpoint")

    def save(self, path: Path) -> None:
        """Write the checkpoint so that a cut-off at any moment leaves the old one or the new one."""
        unfinished = path.with_name(path.name + ".new")
        with open(unfinished, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)

    @classmethod
    def load(cls, path: Path) -> Checkpoint | None:
        """Read a checkpoint; None where there is none, StorefrontError where it is none of ours."""
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{**fields, "tally": Tally(**fields["tally"])})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise StorefrontError(f"{path} is not a checkpoint of the storefront: remove it to begin anew") from error
