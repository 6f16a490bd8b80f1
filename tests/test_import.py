"""Importing headrace, which every program pays for at its start."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from types import ModuleType

import pytest

import headrace


def shown(program: str) -> str:
    """Run a program in a new interpreter that finds the same modules, and return what it prints."""
    return subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}; {program}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize(
    "module",
    [
        "importlib.resources",
        "tempfile",
        "headrace.cluster",
        "headrace.copy.arrow",
        "headrace.insert.methods",
        "headrace.loader",
        "headrace.pool",
    ],
)
def test_import_leaves_out_what_few_programs_need(module: str) -> None:
    """The import of headrace does not bring in modules that are slow to import and not used by every program."""
    assert shown(f"import headrace; print({module!r} in sys.modules)") == "False\n"


def seen_by_type_checkers() -> dict[str, str]:
    """Return the names that headrace imports at their first use, each with the module that it is, or comes from."""
    (branch,) = [node for node in ast.parse(inspect.getsource(headrace)).body if isinstance(node, ast.If)]
    imports = [node for node in branch.body if isinstance(node, ast.ImportFrom)]
    return {
        name.name: f"headrace.{name.name}" if node.module == "headrace" else str(node.module)
        for node in imports
        for name in node.names
    }


def test_a_name_that_is_imported_later_is_the_one_that_type_checkers_see() -> None:
    names = seen_by_type_checkers()
    for name, module in names.items():
        value = getattr(headrace, name)
        assert value is (sys.modules[module] if isinstance(value, ModuleType) else getattr(sys.modules[module], name))
    assert set(names) <= set(dir(headrace))


@pytest.mark.parametrize("name", sorted(seen_by_type_checkers()))
def test_any_name_may_be_the_first_that_is_used(name: str) -> None:
    program = f"import headrace; first = headrace.{name}; from headrace import {name} as again; print(first is again)"
    assert shown(program) == "True\n"


def test_all_names_can_be_imported_at_once() -> None:
    program = "from headrace import *; import headrace; print(set(headrace.__all__) - set(globals()))"
    assert shown(program) == "set()\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'headrace' has no attribute 'nothing'"):
        headrace.nothing  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(headrace, "loader_of_nothing")
