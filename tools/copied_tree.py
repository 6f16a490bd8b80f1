"""A copy of the tree to build in, where another kind of build leaves the extension modules of the tree alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

LEFT_OUT = ("__pycache__", "*.so", "*.egg-info")


def update(root: Path, copy: Path, names: Iterable[str]) -> None:
    """Copy the files and directories of these names from `root` to `copy`, if they are newer there.

    Files that were removed from `root` are removed from `copy`; extension modules that were built in `copy` stay.
    """
    for name in names:
        _copy(root, copy, root / name)
        _remove(root, copy, copy / name)


def _copy(root: Path, copy: Path, source: Path) -> None:
    for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
        target = copy / path.relative_to(root)
        if path.is_dir() or any(part.match(pattern) for part in [path, *path.parents] for pattern in LEFT_OUT):
            continue
        if not target.exists() or target.stat().st_mtime < path.stat().st_mtime:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)


def _remove(root: Path, copy: Path, copied: Path) -> None:
    for target in sorted(copied.rglob("*")) if copied.is_dir() else []:
        built = target.suffix in (".so", ".pyc")
        if target.is_file() and not built and not (root / target.relative_to(copy)).exists():
            target.unlink()
