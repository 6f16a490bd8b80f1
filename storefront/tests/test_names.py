"""The names of the storefront: a reader who meets one of them never takes it for a name of the driver."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import headrace
import storefront


def public_names() -> dict[str, str]:
    """Return every public class and function that a module of the storefront defines, with that module."""
    names = {}
    for found in pkgutil.walk_packages(storefront.__path__, "storefront."):
        if found.name == "storefront.__main__":
            continue
        for name, value in vars(importlib.import_module(found.name)).items():
            if not name.startswith("_") and getattr(value, "__module__", None) == found.name:
                names[name] = found.name
    return names


def test_no_name_is_also_a_name_of_the_driver() -> None:
    drivers = set(headrace.__all__)
    assert {name: module for name, module in public_names().items() if name in drivers} == {}
    assert drivers.isdisjoint(storefront.__all__)


def test_every_name_is_imported_from_its_module_when_it_is_used() -> None:
    (types,) = [node for node in ast.parse(inspect.getsource(storefront)).body if isinstance(node, ast.If)]
    imports = [node for node in types.body if isinstance(node, ast.ImportFrom)]
    seen_by_type_checkers = {name.name: str(node.module) for node in imports for name in node.names}
    assert {name: getattr(storefront, name).__module__ for name in seen_by_type_checkers} == seen_by_type_checkers
    assert set(storefront.__all__) == set(seen_by_type_checkers)
    assert set(storefront.__all__) <= set(dir(storefront))
    with pytest.raises(AttributeError, match="module 'storefront' has no attribute 'nothing'"):
        storefront.nothing  # noqa: B018


def modules_after(*arguments: str) -> set[str]:
    """Return the modules that a command line has imported."""
    program = "import sys; import storefront.cli as cli\ntry: cli.app(sys.argv[1:])\nfinally: print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    return set(ran.stdout.splitlines()[-1].split())


NOWHERE = ("--dsn", "postgresql:///none?host=/none")
"""A server that is not there: the command imports what it needs, and fails to connect."""

LIBRARIES = {"fastapi", "jinja2", "matplotlib", "prometheus_client", "pyarrow", "uvicorn", "zstandard"}
"""Libraries that some commands need. They take longer to import than most commands take."""


@pytest.mark.parametrize(
    ("arguments", "left_out"),
    [
        (["--version"], {"storefront.batch", "storefront.embedded", "rich", "platformdirs", "headrace.pool"}),
        (["lookup", "5", *NOWHERE], {"storefront.batch", "storefront.tour", "headrace.cluster"}),
        (["batch", "none.txt"], {"storefront.tour", "storefront.importing"}),
        (["export", *NOWHERE], {"storefront.batch", "rich", "platformdirs", "headrace.pool", "headrace.cluster"}),
        (["export", "--help"], {"storefront.batch", "platformdirs", "headrace.pool", "headrace.cluster"}),
        (["--help"], set()),
    ],
    ids=["version", "lookup", "batch", "export", "help of export", "help"],
)
def test_a_command_imports_what_it_needs(arguments: list[str], left_out: set[str]) -> None:
    assert modules_after(*arguments) & (left_out | LIBRARIES) == set()
