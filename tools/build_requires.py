"""Print the build requirements of headrace from pyproject.toml, one per line without spaces.

They are for `pip install` before a build without isolation, so that pip, `make` and the sdist use the same list.
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
