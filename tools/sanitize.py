"""Build the core under AddressSanitizer and UBSan, and test it: python tools/sanitize.py [ARGUMENTS FOR PYTEST]

By default it runs the tests that need no server, those of Arrow, and the fuzzing corpus. Everything runs in a copy of
the tree, build/asan, so the extension modules of the tree do not change. Only changed files are copied and compiled
again. This tool needs gcc with libasan and libubsan, which Debian's gcc includes.

A memory error or undefined behaviour stops the run at once, with a report. Leaks are not detected here, because the
interpreter itself leaves too much allocated; tests/core/pipeline/test_leaks.py tests for leaks.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tools import copied_tree  # noqa: E402

COPY = ROOT / "build" / "asan"
COPIED = ("src", "tests", "tools", "docs", "setup.py", "pyproject.toml", "conftest.py", "README.md", "LICENSE")

DEFAULT = [
    "tests/core",
    "tests/connect",
    "tests/exceptions",
    "tests/pool",
    "tests/sql",
    "tests/test_types.py",
    "-m",
    "not server and not slow",
    "--hypothesis-profile=sanitized",
    # These start an interpreter of their own, which has no sanitizer loaded.
    "--deselect=tests/core/pipeline/test_reentrancy.py::test_a_long_queue_that_is_dropped_whole",
    "--deselect=tests/core/rows/test_record.py::test_another_process_needs_no_connection",
]

ARROW = [
    "tests/arrow",
    "tests/copy/test_arrow.py",
    "tests/copy/test_arrow_types.py",
    "tests/copy/test_arrow_random.py",
    "-m",
    "not slow",
    "--pg",
    "18",
]
"""Arrow's data goes to and from other libraries by addresses, so its tests with a server run as well."""

LIBRARIES = ("libasan.so", "libubsan.so")

# Processes that the tests start, such as PostgreSQL, must run without the sanitizers.
LAUNCHER = """\
import os, runpy, sys
del os.environ["LD_PRELOAD"]
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""

ENVIRONMENT = {
    # The interpreter's own allocator would hide objects from AddressSanitizer in its arenas.
    "PYTHONMALLOC": "malloc",
    "PYTHONPATH": "src",
    "PYTHONDONTWRITEBYTECODE": "1",
    # Tests request absurd amounts of memory. malloc() must return NULL then, as without a sanitizer.
    "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=0",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
}


def main(arguments: list[str]) -> int:
    """Copy, build and run; return the exit status."""
    copy()
    copied_tree.build(COPY, "HEADRACE_ASAN", "under sanitizers")
    status = run("pytest", "-p", "no:cacheprovider", *(arguments or DEFAULT))
    if status == 0 and not arguments:
        status = run("pytest", "-p", "no:cacheprovider", *ARROW)
    if status == 0 and not arguments:
        status = run("tests.fuzz", "--replay")
    return status


def copy() -> None:
    """Bring the copy up to date; what is newer there was built there."""
    copied_tree.update(ROOT, COPY, COPIED)


def run(*module: str) -> int:
    """Run a Python module in the copy, with the libraries of the sanitizers loaded first."""
    compiler = (os.environ.get("CC") or str(sysconfig.get_config_var("CC") or "gcc")).split()[0]
    libraries = []
    for name in LIBRARIES:
        found = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
        path = Path(found.stdout.strip())
        if not path.is_absolute():
            raise SystemExit(f"{compiler} has no {name}: install gcc's sanitizers")
        libraries.append(str(path))
    environment = os.environ | ENVIRONMENT | {"LD_PRELOAD": " ".join(libraries)}
    return subprocess.run([sys.executable, "-c", LAUNCHER, *module], cwd=COPY, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
