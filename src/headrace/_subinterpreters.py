"""Loads a copy of each compiled module for each subinterpreter.

The compiled modules keep objects in C variables, which is fast. So one loaded module belongs to one interpreter.
CPython refuses to load such a module in an interpreter with a GIL of its own, and Cython's code refuses to load it in a
second interpreter of any kind. But the dynamic linker loads a copy of the file as another library, with variables of
its own. The main interpreter loads the files themselves, and each subinterpreter loads copies. No copy is loaded twice.

Source: Python documentation, "Isolating Extension Modules" and importlib.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder
from types import ModuleType

PACKAGE = "headrace."

DESCRIPTORS = "/proc/self/fd/"
"""The directory with the process's open files, on Linux."""


def in_subinterpreter() -> bool:
    """Return whether this is a subinterpreter; always False before Python 3.13, where datetime does not work in one."""
    if sys.version_info < (3, 13):
        return False
    try:
        import _interpreters  # type: ignore[import-not-found,unused-ignore]  # concurrent.interpreters is of 3.14
    except ImportError:  # it is CPython's own
        return False
    return bool(_interpreters.get_current()[0] != _interpreters.get_main()[0])


@contextmanager
def copied(module: str) -> Iterator[str]:
    """Yield the path of a new copy of a file, which is gone when the block ends, and if the process is killed before.

    The copy is in memory. If the system has no files in memory, it is in a temporary directory, which outlives a
    process that is killed. Raises OSError if there is no such directory that can be written to.
    """
    try:
        if sys.platform != "linux" or not os.path.exists(DESCRIPTORS):
            raise FileNotFoundError(DESCRIPTORS)
        descriptor = os.memfd_create(os.path.basename(module))
    except (AttributeError, OSError):
        import shutil
        import tempfile

        with tempfile.TemporaryDirectory(prefix="headrace-", ignore_cleanup_errors=True) as directory:
            yield shutil.copy(module, directory)
        return
    try:
        with open(module, "rb") as source, open(descriptor, "wb", closefd=False) as target:
            target.write(source.read())
        yield _unique_path(descriptor)
    finally:
        os.close(descriptor)


def _unique_path(descriptor: int) -> str:
    """Return a path of an open file that no other file has had.

    The dynamic linker takes equal paths for the same library, and the number of a descriptor is used again. The number
    of an inode is not, as long as the file is loaded, so its bits go into the path: "./" for 1 and "/" for 0.
    """
    bits = f"{os.fstat(descriptor).st_ino:b}"
    return DESCRIPTORS + "".join("./" if bit == "1" else "/" for bit in bits) + str(descriptor)


class CopyLoader(ExtensionFileLoader):
    """Loads a copy of a compiled module."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module, not yet executed. Raises ImportError if there is no place for the copy."""
        try:
            with copied(self.path) as path, _unchecked():
                module = super().create_module(ModuleSpec(spec.name, self, origin=path))
        except OSError as error:
            raise ImportError(
                f"headrace cannot be imported in a subinterpreter, which needs a copy of {self.path}: {error}."
                " Name a directory that can be written to in the environment variable TMPDIR.",
                name=spec.name,
                path=self.path,
            ) from error
        module.__file__ = self.path
        return module


def _unchecked() -> AbstractContextManager[object]:
    """Return a context in which this interpreter loads modules that do not declare support for subinterpreters.

    Declaring it would be wrong, because it holds for copies only.
    """
    allow: Callable[..., AbstractContextManager[object]] | None = getattr(
        importlib.util, "_incompatible_extension_module_restrictions", None
    )
    return nullcontext() if allow is None else allow(disable_check=True)


class Copies:
    """Finds the compiled modules of headrace, to be loaded as copies. Other finders find everything else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the specification of a compiled module of headrace, None for any other module."""
        if not fullname.startswith(PACKAGE):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or not isinstance(spec.loader, ExtensionFileLoader):
            return None
        spec.loader = CopyLoader(fullname, spec.loader.path)
        return spec


if in_subinterpreter():
    sys.meta_path.insert(0, Copies())
