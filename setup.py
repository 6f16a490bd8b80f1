"""Build the compiled core: one extension module for every `.pyx` file under src/headrace, and one that they share.

Everything else about the package is in pyproject.toml. Environment:

    HEADRACE_DEBUG=1        assertions and bounds checks on, no optimisation, debug symbols
    HEADRACE_ASAN=1         the same under AddressSanitizer and UBSan (run python with libasan preloaded)
    HEADRACE_COVERAGE=1     every line reports that it runs, for coverage.py (tools/measure_coverage.py)
    HEADRACE_JOBS=4         how many modules to build at once; by default as many as there are processors
    HEADRACE_PROGRESS_FD=3  a file descriptor for the line that counts modules; by default standard error

A module `x.pyx` is compiled together with `xobj.c` beside it, if that file exists. `headrace._cython` has no source
here: Cython writes it, and it holds once what would otherwise be a copy in each module (functions, memory views).

Two directories keep what was built, and `build_ext --inplace`, `pip install .` and an editable install all use them:

    build/cython-MODE        the C that Cython generates; a `.c` file under src is always one that a person wrote
    build/lib-MODE-SOABI     the extension modules

Times of files decide nothing. Beside each file there lies a `.key`, a hash of everything that the file was made of.
For generated C that is the version of Cython, its options, the text of the `.pyx` file and of every file that it
cimports or includes, and the names of all `.pxd` files. For an extension module it is the generated C, all headers,
the compiler's version and command line, and the Python. A file is used again if its key is still the same, and is
made anew in all other cases.
"""

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterable
from pathlib import Path

import Cython
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

SOURCE = Path("src")
PACKAGE = SOURCE / "headrace"
BUILD = Path("build")

ASAN = bool(os.environ.get("HEADRACE_ASAN"))
DEBUG = ASAN or bool(os.environ.get("HEADRACE_DEBUG"))
COVERAGE = bool(os.environ.get("HEADRACE_COVERAGE"))
MODE = "asan" if ASAN else "debug" if DEBUG else "coverage" if COVERAGE else "release"
GENERATED = BUILD / f"cython-{MODE}"
PLACE = f"{MODE}-{sysconfig.get_config_var('SOABI')}"

SHARED = "headrace._cython"

INLINING = ["-finline-small-functions", "-findirect-inlining", "-fpartial-inlining", "-foptimize-sibling-calls"]

COMPILE = {
    # -g0: symbol names stay for profilers (but not in wheels); line tables would triple the size. Assertions that are
    # compiled away leave unused variables and helpers in Cython's C.
    # -O1 with the inlining of -O2 compiles in two thirds of the time of -O2. A look-up takes 1.7 % fewer instructions
    # then, decoding a number or an array 1.5 % more.
    "release": ["-O1", *INLINING, "-g0", "-Wno-unused-variable", "-Wno-unused-function"],
    "debug": ["-O0", "-g3", "-UNDEBUG"],
    "asan": ["-O1", "-g1", "-UNDEBUG", "-fsanitize=address,undefined", "-fno-omit-frame-pointer"],
    "coverage": ["-O0", "-g0", "-Wno-unused-variable", "-Wno-unused-function"],
}
LINK = {"release": [], "debug": [], "coverage": [], "asan": ["-fsanitize=address,undefined"]}
# Cython compiles `assert` away if this is defined.
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
    # No object of the core can be pickled; two methods for each class would only say so.
    "auto_pickle": False,
    # coverage.py finds the lines of a source by these comments.
    "emit_code_comments": DEBUG or COVERAGE,
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


def digest(parts: Iterable[object]) -> str:
    """Return a hash of these values and of the contents of the files among them."""
    hashed = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else repr(part).encode()
        hashed.update(b"%d:%s" % (len(content), content))
    return hashed.hexdigest()


def key_file(built: Path) -> Path:
    """Return the file that holds the key of a built file."""
    return built.with_name(built.name + ".key")


def is_current(built: Path, key: str) -> bool:
    """Return whether a file was built from exactly what this key stands for."""
    return built.exists() and key_file(built).exists() and key_file(built).read_text() == key


class Progress:
    """A line that counts the modules built: rewritten in a terminal, and in a log a line for each tenth of them."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._lock = threading.Lock()
        descriptor = int(os.environ.get("HEADRACE_PROGRESS_FD") or 2)
        self._stream = os.fdopen(os.dup(descriptor), "w")
        self._terminal = self._stream.isatty()

    def __enter__(self) -> "Progress":
        self._show()
        return self

    def __exit__(self, *error: object) -> None:
        if self._terminal:
            self._stream.write("\n")
        self._stream.close()

    def step(self) -> None:
        """Count one module; called by the threads that build."""
        with self._lock:
            self._done += 1
            tenth = self._done * 10 // self._total != (self._done - 1) * 10 // self._total
            if self._terminal or tenth:
                self._show()

    def _show(self) -> None:
        text = f"headrace: compiled {self._done} of {self._total} modules"
        self._stream.write(f"\r{text}" if self._terminal else f"{text}\n")
        self._stream.flush()


def say(text: str) -> None:
    """Write a line where the progress is shown."""
    os.write(int(os.environ.get("HEADRACE_PROGRESS_FD") or 2), f"headrace: {text}\n".encode())


def extensions() -> list[Extension]:
    """Return one Extension for each `.pyx` file, named by its place in the package, and the shared one."""
    headers = sorted(PACKAGE.rglob("*.h"))
    sources = {}
    for pyx in sorted(PACKAGE.rglob("*.pyx")):
        companion = pyx.with_name(pyx.stem + "obj.c")
        name = ".".join(pyx.relative_to(SOURCE).with_suffix("").parts)
        sources[name] = [str(pyx)] + ([str(companion)] if companion.exists() else [])
    if sources:
        sources[SHARED] = [str(SOURCE.joinpath(*SHARED.split(".")).with_suffix(".c"))]
    return [
        Extension(
            name=name,
            sources=files,
            include_dirs=sorted({str(header.parent) for header in headers}),
            depends=[str(header) for header in headers],
            define_macros=list(MACROS),
            libraries=["ws2_32"] if sys.platform == "win32" else [],
        )
        for name, files in sources.items()
    ]


def generated_c(extension: Extension) -> Path:
    """Return the file that Cython writes for an extension which was not cythonized yet."""
    return GENERATED / Path(extension.sources[0]).with_suffix(".c")


def generated_key(c_file: Path) -> str:
    """Return the key of a generated file, by the dependencies that Cython wrote down when it made it."""
    depfile = c_file.with_name(c_file.name + ".dep")
    listed = depfile.read_text().partition(":")[2].replace("\\\n", " ") if depfile.exists() else ""
    names = sorted(shlex.split(listed))
    # A new .pxd file can take the place of another one, or belong to a module that had none.
    declarations = sorted(str(path) for pattern in ("*.pxd", "*.pxi") for path in SOURCE.rglob(pattern))
    texts = [Path(name) if Path(name).exists() else "gone" for name in names]
    return digest([Cython.__version__, sorted(DIRECTIVES.items()), SHARED, declarations, names, *texts])


def translate(found: list[Extension]) -> list[Extension]:
    """Return the extensions with their C sources; Cython generates those that are not current."""
    files = [generated_c(extension) for extension in found]
    old = [path for path in files if not is_current(path, generated_key(path))]
    for path in old:
        path.unlink(missing_ok=True)
        key_file(path).unlink(missing_ok=True)
    for path in set(files) - set(old):
        os.utime(path)  # cythonize goes by times
    if old:
        say(f"translating {len(old)} of {len(files)} modules to C")
    result: list[Extension] = cythonize(
        found,
        build_dir=str(GENERATED),
        include_path=[str(SOURCE)],
        compiler_directives=DIRECTIVES,
        shared_utility_qualified_name=SHARED,
        depfile=True,
        nthreads=jobs() if len(old) > 1 else 0,
    )
    for path in old:
        key_file(path).write_text(generated_key(path))
    return result


class Build(build):
    """build that starts with an empty directory: setuptools would put files of an earlier tree into the wheel."""

    def run(self) -> None:
        if BUILD.resolve() in Path(self.build_lib).resolve().parents:
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


class BuildExt(build_ext):
    """build_ext that builds in parallel and keeps the modules in a directory for each mode and Python."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or jobs()
        self.build_temp = str(BUILD / f"temp-{PLACE}")
        self._target = self.build_lib
        self.build_lib = str(BUILD / f"lib-{PLACE}")

    def run(self) -> None:
        super().run()
        if not self.inplace:
            kept, self.build_lib = self.build_lib, self._target
            for extension in self.extensions:
                target = Path(self.get_ext_fullpath(extension.name))
                self.mkpath(str(target.parent))
                shutil.copy2(Path(kept) / target.relative_to(self.build_lib), target)

    def copy_extensions_to_source(self) -> None:
        # A module in the source tree may come from another mode and be newer than the one just built.
        self.force = True
        super().copy_extensions_to_source()
        # A module whose source has gone would still be imported, and before a `.py` file of the same name.
        current = {(SOURCE / self.get_ext_filename(extension.name)).resolve() for extension in self.extensions}
        for module in PACKAGE.rglob(f"*{sysconfig.get_config_var('EXT_SUFFIX')}"):
            if module.resolve() not in current:
                module.unlink()

    def build_extensions(self) -> None:
        if self.compiler.compiler_type == "unix":
            for extension in self.extensions:
                extension.extra_compile_args = COMPILE[MODE] + extension.extra_compile_args
                extension.extra_link_args = LINK[MODE] + extension.extra_link_args
        toolchain = self._toolchain()
        self._keys = {extension.name: self._key(extension, toolchain) for extension in self.extensions}
        old = [extension for extension in self.extensions if not self._is_current(extension)]
        if not old:
            return
        # The longest first, so that no processor is left waiting for the last one.
        self.extensions.sort(key=lambda extension: -sum(os.path.getsize(source) for source in extension.sources))
        with Progress(len(old)) as self._progress:
            super().build_extensions()

    def build_extension(self, extension: Extension) -> None:
        if self._is_current(extension):
            return
        module = Path(self.get_ext_fullpath(extension.name))
        module.unlink(missing_ok=True)
        super().build_extension(extension)
        key_file(module).write_text(self._keys[extension.name])
        self._progress.step()

    def _is_current(self, extension: Extension) -> bool:
        return is_current(Path(self.get_ext_fullpath(extension.name)), self._keys[extension.name])

    def _toolchain(self) -> list[object]:
        """Return what tells one compiler, linker and Python from another."""
        commands = [getattr(self.compiler, name, None) for name in ("compiler_so", "linker_so")]
        versions = [
            subprocess.run([command[0], "--version"], capture_output=True).stdout for command in commands if command
        ]
        directories = [self.compiler.include_dirs, self.compiler.library_dirs]
        return [sys.version, self.debug, commands, versions, directories]

    def _key(self, extension: Extension, toolchain: list[object]) -> str:
        options = [extension.extra_compile_args, extension.extra_link_args, extension.define_macros]
        return digest([*toolchain, *options, *map(Path, sorted({*extension.sources, *extension.depends}))])


# The guard matters: where processes are spawned and not forked, cythonize's workers import this file again.
if __name__ == "__main__":
    setup(ext_modules=translate(extensions()), cmdclass={"build": Build, "build_ext": BuildExt})
