"""Build the compiled core: one extension module for every `.pyx` file under src/headrace.

Everything else about the package is in pyproject.toml. Environment:

    HEADRACE_DEBUG=1     assertions and bounds checks on, no optimisation, debug symbols
    HEADRACE_ASAN=1      the same under AddressSanitizer and UBSan (run python with libasan preloaded)
    HEADRACE_COVERAGE=1  every line reports that it runs, for coverage.py (tools/measure_coverage.py)

A module `x.pyx` is compiled together with `xobj.c` beside it, where that file exists. The C that Cython
generates goes to build/cython-<mode>, so that a `.c` file in the source tree is always one that a person
wrote.
"""

import os
import sysconfig
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCE = Path("src")
PACKAGE = SOURCE / "headrace"
BUILD = Path("build")

ASAN = bool(os.environ.get("HEADRACE_ASAN"))
DEBUG = ASAN or bool(os.environ.get("HEADRACE_DEBUG"))
COVERAGE = bool(os.environ.get("HEADRACE_COVERAGE"))
MODE = "asan" if ASAN else "debug" if DEBUG else "coverage" if COVERAGE else "release"

COMPILE = {
    # -g0: symbol names stay for profilers; line tables would triple the size of a wheel. Assertions that are
    # compiled away leave unused variables and helpers in Cython's C.
    "release": ["-O2", "-g0", "-Wno-unused-variable", "-Wno-unused-function"],
    "debug": ["-O0", "-g3", "-UNDEBUG"],
    "asan": ["-O1", "-g1", "-UNDEBUG", "-fsanitize=address,undefined", "-fno-omit-frame-pointer"],
    "coverage": ["-O0", "-g0", "-Wno-unused-variable", "-Wno-unused-function"],
}
LINK = {"release": [], "debug": [], "coverage": [], "asan": ["-fsanitize=address,undefined"]}
# Cython compiles `assert` away where this is defined.
MACROS = [] if DEBUG else [("CYTHON_WITHOUT_ASSERTIONS", "1")]
if COVERAGE:
    # Both are needed: the directive generates the calls, the macro compiles them in, for functions without the GIL too.
    MACROS.append(("CYTHON_TRACE_NOGIL", "1"))

DIRECTIVES = {
    "language_level": 3,
    # Lengths from the wire are checked by hand where they are read; the debug build checks every index too.
    "boundscheck": DEBUG,
    "wraparound": False,
    "cdivision": True,
    "linetrace": COVERAGE,
    "embedsignature": True,
    "embedsignature.format": "python",
    # The core relies on the GIL: one thread, one event loop, one connection.
    "freethreading_compatible": False,
}


def jobs() -> int:
    """Return how many modules to build at once: HEADRACE_JOBS, or as many as there are processors."""
    given = os.environ.get("HEADRACE_JOBS")
    if given:
        return max(1, int(given))
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def extensions() -> list[Extension]:
    """Return one Extension for each `.pyx` file, named by its place in the package."""
    headers = sorted(PACKAGE.rglob("*.h"))
    found = []
    for pyx in sorted(PACKAGE.rglob("*.pyx")):
        companion = pyx.with_name(pyx.stem + "obj.c")
        sources = [str(pyx)] + ([str(companion)] if companion.exists() else [])
        found.append(
            Extension(
                name=".".join(pyx.relative_to(SOURCE).with_suffix("").parts),
                sources=sources,
                include_dirs=sorted({str(header.parent) for header in headers}),
                depends=[str(header) for header in headers],
                define_macros=list(MACROS),
            )
        )
    return found


class BuildExt(build_ext):
    """build_ext that builds in parallel, in directories of their own for each mode and Python.

    distutils compares times alone, so a module built for another mode would look up to date to it. The
    directories also serve an editable install, which would otherwise compile all of it again in a temporary
    one.
    """

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or jobs()
        place = f"{MODE}-{sysconfig.get_config_var('SOABI')}"
        self.build_temp = str(BUILD / f"temp-{place}")
        if self.inplace:
            self.build_lib = str(BUILD / f"lib-{place}")

    def copy_extensions_to_source(self) -> None:
        # What lies in the source tree may come from another mode and be newer than what was just built.
        self.force = True
        super().copy_extensions_to_source()

    def build_extensions(self) -> None:
        if self.compiler.compiler_type == "unix":
            for extension in self.extensions:
                extension.extra_compile_args = COMPILE[MODE] + extension.extra_compile_args
                extension.extra_link_args = LINK[MODE] + extension.extra_link_args
        super().build_extensions()


# The guard matters: where processes are spawned and not forked, cythonize's workers import this file again.
if __name__ == "__main__":
    modules = extensions()
    setup(
        ext_modules=cythonize(
            modules,
            build_dir=str(BUILD / f"cython-{MODE}"),
            include_path=[str(SOURCE)],
            compiler_directives=DIRECTIVES,
            nthreads=jobs() if len(modules) > 1 else 0,
        )
        if modules
        else [],
        cmdclass={"build_ext": BuildExt},
    )
