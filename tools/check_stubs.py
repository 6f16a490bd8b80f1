"""Check the stubs of the compiled modules against the modules, with mypy's stubtest.

Every `.pyi` file under src/headrace is the stub of the compiled module beside it. The exit status is stubtest's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
OPTIONS = (
    *("--concise", "--mypy-config-file", "pyproject.toml"),
    *("--allowlist", "tools/stubtest_allowlist.txt", "--ignore-unused-allowlist"),
    # Every compiled class is a disjoint base, so marking each in the stubs would add nothing.
    "--ignore-disjoint-bases",
)


def stubbed_modules() -> list[str]:
    """Return the names of all modules that have a stub; exit if a stub has no compiled module."""
    stubs = sorted((SOURCE / "headrace").rglob("*.pyi"))
    orphans = [str(stub.relative_to(ROOT)) for stub in stubs if not stub.with_suffix(".pyx").exists()]
    if orphans:
        sys.exit(f"stubs without a .pyx beside them: {', '.join(orphans)}")
    return [".".join(stub.relative_to(SOURCE).with_suffix("").parts) for stub in stubs]


def main() -> int:
    """Run stubtest on all stubs; return its exit status."""
    modules = stubbed_modules()
    if not modules:
        return 0
    command = [sys.executable, "-m", "mypy.stubtest", *OPTIONS, *modules]
    environment = {**os.environ, "MYPYPATH": str(SOURCE)}
    return subprocess.run(command, check=False, cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
