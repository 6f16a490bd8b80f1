"""Print what building headrace requires, from pyproject.toml, one requirement a line without spaces.

For `pip install` ahead of a build without isolation: the same list then serves pip, `make` and the sdist.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


def build_requires() -> list[str]:
    """Return `build-system.requires`."""
    with PYPROJECT.open("rb") as file:
        requires: list[str] = tomllib.load(file)["build-system"]["requires"]
    return [requirement.replace(" ", "") for requirement in requires]


if __name__ == "__main__":
    print("\n".join(build_requires()))
