"""Check that imports of all modules, also compiled ones, point downwards, form no cycle, and keep the core pure.

The layers are those of the import-linter contract "layers" in pyproject.toml. lint-imports checks the Python modules
only. This check also reads Cython's cimports, and imports between Python and compiled modules. It prints one line for
each problem, and then exits with status 1.
"""

from __future__ import annotations

import ast
import graphlib
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PACKAGE = "headrace"
SOURCE = ROOT / "src"
CONTRACT = "layers"

IO = ("asyncio", "socket", "ssl", "select", "selectors", "threading", "concurrent", "subprocess", "uvloop")

# Modules that these modules, and the modules below them, must not import.
PURE = {
    "_core": IO,  # handles bytes, values and requests; tests run it without a loop and without a server
    "_sql": IO,
    "pool.scheduler": IO,  # makes decisions, which others carry out
    "_connect.scram": IO,
    "_connect.hosts": IO,
    "_connect.race": IO,
    "_connect.roles": IO,
}

SUFFIXES = (".py", ".pyx", ".pxd", ".pyi")

# `from a.b cimport c, d`, `from a.b import (`, `cimport a.b as c`, at any indentation. Names in brackets may continue
# on further lines.
CYTHON_FROM = re.compile(r"^[ \t]*from[ \t]+([.\w]+)[ \t]+c?import[ \t]+(\([^)]*\)|[^\n#]+)", re.MULTILINE)
CYTHON_IMPORT = re.compile(r"^[ \t]*c?import[ \t]+([^\n#(]+)", re.MULTILINE)


class Import(NamedTuple):
    """One import: its line, and the dotted name of the module or of a name in it."""

    line: int
    name: str


@dataclass(frozen=True)
class Position:
    """The position of a module: its layer, counted from the top, and its entry in the table."""

    level: int
    entry: str
    independent: bool
    """True if entries of this layer must not import each other."""


class Layers:
    """The table, which maps each module to an entry."""

    def __init__(self, rows: Iterable[str]) -> None:
        self._positions: dict[str, Position] = {}
        for level, row in enumerate(rows):
            for entry in re.split(r"[|:]", row):
                name = entry.strip().strip("()")
                self._positions[name] = Position(level, name, "|" in row)

    def position(self, module: str) -> Position | None:
        """Return the position of a module, named without `headrace.`, or of the nearest package above it."""
        while module:
            if module in self._positions:
                return self._positions[module]
            module = module.rpartition(".")[0]
        return None

    def is_above_entries(self, module: str) -> bool:
        """Return whether `module` is a package such as _core, without an entry but with entries for its modules."""
        return any(name.startswith(module + ".") for name in self._positions)


def read_layers() -> Layers:
    """Return the table of pyproject.toml."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (rows,) = (contract["layers"] for contract in contracts if contract["id"] == CONTRACT)
    return Layers(rows)


def module_name(path: Path) -> str:
    """Return the name of a source file's module without `headrace.`; empty for the package itself."""
    parts = path.relative_to(SOURCE / PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def absolute(name: str, package: str) -> str:
    """Return a possibly relative module name as an absolute one; `package` is the importing module's."""
    dots = len(name) - len(name.lstrip("."))
    if not dots:
        return name
    base = package.split(".")[: len(package.split(".")) - dots + 1]
    return ".".join([*base, *filter(None, [name[dots:]])])


def python_imports(text: str, package: str, *, for_types: bool = False) -> Iterator[Import]:
    """Yield the imports of Python source; those under `if TYPE_CHECKING` only with `for_types`."""
    waiting: list[ast.AST] = [ast.parse(text)]
    while waiting:
        node = waiting.pop()
        if not for_types and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting.extend(node.orelse)
        elif isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = absolute("." * node.level + (node.module or ""), package)
            yield from (Import(node.lineno, f"{module}.{alias.name}") for alias in node.names)
        else:
            waiting.extend(ast.iter_child_nodes(node))


def cython_imports(text: str, package: str) -> Iterator[Import]:
    """Yield the imports and cimports of Cython source."""
    for found in CYTHON_FROM.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        names = re.sub(r"#[^\n]*", "", found[2]).strip("() \t\n").split(",")
        for name in filter(None, (each.split(" as ")[0].strip() for each in names)):
            yield Import(line, f"{absolute(found[1], package)}.{name}")
    for found in CYTHON_IMPORT.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        for each in found[1].split(","):
            yield Import(line, each.split(" as ")[0].strip())


def imports(path: Path, *, for_types: bool = False) -> Iterator[Import]:
    """Yield the imports of a source file, by absolute name. A stub has none."""
    if path.suffix == ".pyi":
        return
    module = f"{PACKAGE}.{module_name(path)}".rstrip(".")
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    if path.suffix == ".py":
        yield from python_imports(path.read_text(), package, for_types=for_types)
    else:
        yield from cython_imports(path.read_text(), package)


def target(name: str, modules: set[str]) -> str | None:
    """Return the headrace module that an import reaches: empty for the package itself, None for other packages."""
    if name != PACKAGE and not name.startswith(PACKAGE + "."):
        return None
    inside = name[len(PACKAGE) + 1 :]
    while inside and inside not in modules:
        inside = inside.rpartition(".")[0]
    return inside


def complaint(importer: str, each: Import, modules: set[str], layers: Layers) -> str | None:
    """Return the problem with an import in module `importer`, or None."""
    for pure, banned in PURE.items():
        if (importer == pure or importer.startswith(pure + ".")) and each.name.split(".")[0] in banned:
            return f"imports {each.name}, and {pure} must do no I/O"
    imported = target(each.name, modules)
    if imported is None:
        return None
    if imported == "":
        return f"imports {each.name} from the package itself, which only re-exports"
    here, there = layers.position(importer), layers.position(imported)
    if here is None or there is None or here.entry == there.entry:
        return None  # a module without a position is reported once, by check()
    if here.level == there.level and here.independent:
        return f"imports {imported}, which is beside it and independent of it"
    if here.level > there.level:
        return f"imports {imported}, which is in a layer above it"
    return None


def check(paths: Iterable[Path], layers: Layers) -> Iterator[str]:
    """Yield a line for each problem in these source files."""
    named = [(path, module_name(path)) for path in sorted(paths)]
    modules = {module for _, module in named if module}
    without_layer: set[str] = set()
    for path, module in named:
        shown = path.relative_to(ROOT)
        if module == "":
            continue  # the public names, re-exported
        if layers.position(module) is None and not layers.is_above_entries(module) and module not in without_layer:
            without_layer.add(module)
            yield f"{shown}: {module} has no layer: add it to the contract {CONTRACT!r} in pyproject.toml"
        try:
            complaints = [(each.line, complaint(module, each, modules, layers)) for each in imports(path)]
        except SyntaxError as error:
            yield f"{shown}:{error.lineno}: {error.msg}"
            continue
        # Several names from one module count as one problem.
        for line, found in dict.fromkeys(complaints):
            if found is not None:
                yield f"{shown}:{line}: {module} {found}"


def circles(paths: Iterable[Path]) -> Iterator[str]:
    """Yield a line for each cycle of imports between modules. Imports for type checkers count too."""
    named = [(path, module_name(path)) for path in sorted(paths) if path.suffix in SUFFIXES]
    modules = {module for _, module in named if module}
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for path, module in named:
        if module:
            reached = {target(each.name, modules) for each in imports(path, for_types=True)}
            graph[module] |= {name for name in reached if name and name != module}
    while True:
        try:
            tuple(graphlib.TopologicalSorter(graph).static_order())
        except graphlib.CycleError as error:
            # The error lists each module before those that import it.
            cycle = error.args[1][::-1]
            first = cycle.index(min(cycle))
            cycle = [*cycle[first:-1], *cycle[:first], cycle[first]]
            yield f"imports go in a circle: {' -> '.join(cycle)}"
            graph[cycle[0]].discard(cycle[1])
        else:
            return


def main() -> int:
    """Check the package; return the exit status."""
    paths = [path for path in (SOURCE / PACKAGE).rglob("*") if path.suffix in SUFFIXES]
    found = [*check(paths, read_layers()), *circles(paths)]
    for line in found:
        print(line, file=sys.stderr)
    if not found:
        print(f"layers: {len(paths)} source files import downwards only")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
