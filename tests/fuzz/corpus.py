"""The inputs that are kept: a text file a target, an input a line in hexadecimal, with a remark behind `#`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

PLACE = Path(__file__).parent / "corpus"

COMMENT = (
    "# Inputs for `python -m tests.fuzz {}`: what once went wrong, with a remark, and what showed something new.\n"
)


def load(name: str) -> list[bytes]:
    """Return the inputs kept for a target."""
    path = PLACE / f"{name}.txt"
    if not path.exists():
        return []
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [bytes.fromhex(line) for line in lines if line]


def add(name: str, inputs: Iterable[bytes]) -> int:
    """Keep more inputs for a target; return how many of them are new."""
    path = PLACE / f"{name}.txt"
    known = set(load(name))
    new = [data for data in dict.fromkeys(inputs) if data and data not in known]
    if new:
        with path.open("a") as file:
            if not file.tell():
                file.write(COMMENT.format(name))
            file.writelines(f"{data.hex()}\n" for data in new)
    return len(new)
