"""A copy of the tree in which another kind of build is made, so that the extension modules of the tree stay."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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


def build(copy: Path, mode: str, purpose: str) -> None:
    """Compile the extension modules of the copy. `mode` is the variable of setup.py that selects the kind of build.

    Prints the compiler's output and exits if that fails.
    """
    print(f"compiling headrace {purpose} (a few minutes the first time)", flush=True)
    log = copy / "compile.log"
    with log.open("w") as output:
        done = subprocess.run(
            [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"],
            cwd=copy, env=os.environ | {mode: "1"}, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    if done.returncode != 0:
        print(log.read_text(), file=sys.stderr)
        raise SystemExit(f"the build {purpose} failed; {log} has all of it")


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
