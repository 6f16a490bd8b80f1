"""The names and signatures that a program written for asyncpg uses, against the list in surface.py.

headrace may have more: further parameters, as long as they have defaults and cannot be met by position.
"""

from __future__ import annotations

import asyncio
import builtins
import importlib
import inspect
import re
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, create_autospec

import pytest

import headrace
from headrace._connect.params.resolve import ConnectArguments
from headrace.compat import SUBMODULES
from tests.compat import surface

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def found(name: str) -> Any:
    """Return `headrace.<name>`, which a program reaches by the name of asyncpg's module."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(f"headrace.{module}".rstrip(".")), attribute)


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def written(signature: str) -> tuple[str, bool, inspect.Signature]:
    """Take a line of the list apart: name, whether it is a coroutine function, and the signature."""
    is_async = signature.startswith("async ")
    signature = re.sub(r"\s+", " ", signature.removeprefix("async "))
    name, _, parameters = signature.partition("(")
    scope: dict[str, Any] = {}
    exec(f"def {name}({parameters}: pass", scope)  # the list is this test's own
    return name, is_async, inspect.signature(scope[name])


def explicit(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a function by name, without self; keywords of a TypedDict count one by one."""
    parameters = dict(inspect.signature(function).parameters)
    parameters.pop("self", None)
    for parameter in list(parameters.values()):
        if parameter.kind is parameter.VAR_KEYWORD and "ConnectArguments" in str(parameter.annotation):
            for name in typing.get_type_hints(ConnectArguments):
                parameters[name] = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=...)
    return parameters


def check_signature(function: Callable[..., Any], line: str) -> None:
    name, is_async, expected = written(line)
    if name == "__aexit__":
        return  # called by `async with` alone
    ours = explicit(function)
    if is_async:
        returned = inspect.signature(function).return_annotation
        assert (
            inspect.iscoroutinefunction(inspect.unwrap(function))
            or "Coroutine" in str(returned)
            or ("Awaitable" in str(returned))
        ), f"{name}() returns no coroutine"
    for parameter in expected.parameters.values():
        if parameter.kind in VARIABLE:
            assert parameter.kind in [each.kind for each in ours.values()], f"{name}() takes no {parameter}"
            continue
        assert parameter.name in ours, f"{name}() has no parameter {parameter.name}"
        mine = ours[parameter.name]
        assert mine.kind in (parameter.kind, inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            assert mine.kind is parameter.kind, f"{name}() does not take {parameter.name} by position"
        if parameter.default is parameter.empty:
            assert mine.default is mine.empty, f"{name}() has a default for {parameter.name}"
        elif parameter.default is not ... and mine.default is not ...:
            assert mine.default == parameter.default, f"{name}() has another default for {parameter.name}"
    positional = [p.name for p in expected.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [p.name for p in ours.values() if p.kind is p.POSITIONAL_OR_KEYWORD] == positional
    for mine in ours.values():
        if mine.name not in expected.parameters and mine.kind not in VARIABLE:
            assert mine.default is not mine.empty, f"{name}() demands {mine.name}"


MEMBERS = [(cls, line) for cls, text in surface.CLASSES.items() for line in lines(text)]


@pytest.mark.parametrize(("cls", "line"), MEMBERS, ids=[f"{cls}.{line.split('(')[0]}" for cls, line in MEMBERS])
def test_members_of_classes(cls: str, line: str) -> None:
    name = line.removeprefix("async ").partition("(")[0]
    member = getattr(found(cls), name)
    if "(" in line:
        check_signature(member, line)


@pytest.mark.parametrize("name", surface.FUNCTIONS)
def test_functions_and_constructors(name: str) -> None:
    check_signature(found(name), surface.FUNCTIONS[name])


@pytest.mark.parametrize("module", surface.MODULES)
def test_names_of_modules(module: str) -> None:
    for name in surface.MODULES[module].split():
        assert found(f"{module}.{name}" if module else name) is not None
        if module == "exceptions":
            assert found(name) is found(f"exceptions.{name}") or name in ("PostgresMessage", "InterfaceMessage")


def test_the_list_covers_every_submodule() -> None:
    assert set(surface.MODULES) == {"", *SUBMODULES}


@pytest.mark.parametrize("line", lines(surface.ANCESTRY))
def test_what_exceptions_are_caught_as(line: str) -> None:
    name, *bases = line.split()
    for base in bases:
        assert issubclass(getattr(headrace, name), getattr(headrace, base, None) or getattr(builtins, base))


@pytest.mark.parametrize("line", lines(surface.SQLSTATES))
def test_a_class_for_each_sqlstate(line: str) -> None:
    sqlstate, name = line.split()
    assert getattr(headrace, name).sqlstate == sqlstate
    assert getattr(headrace, name) is getattr(headrace.exceptions, name)


def test_attributes_of_errors() -> None:
    error = headrace.UniqueViolationError("message")
    for name in surface.ERROR_ATTRIBUTES.split():
        assert hasattr(error, name)


PROGRAM = """
import headrace
headrace.install_as_asyncpg()
headrace.install_as_asyncpg()
import asyncpg, functools, sys
assert asyncpg is headrace
modules = sys.argv[1:]
for name in modules:
    module, _, attributes = name.partition(":")
    found = __import__("asyncpg." + module if module else "asyncpg", fromlist=["*"])
    for attribute in attributes.split(","):
        getattr(found, attribute)
    if module:
        assert functools.reduce(getattr, module.split("."), asyncpg) is found, module
import asyncpg.exceptions, asyncpg.pool, asyncpg.connection
from asyncpg.connection import Connection, LoggedQuery
from asyncpg import exceptions as e
assert e.UniqueViolationError is asyncpg.UniqueViolationError
assert Connection is asyncpg.Connection is headrace.Connection
"""


def test_installed_as_asyncpg_every_name_is_imported_as_programs_do() -> None:
    names = [f"{module}:{','.join(text.split())}" for module, text in surface.MODULES.items()]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *names], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_program_in_which_asyncpg_is_replaced_by_headrace_imports_all_of_it() -> None:
    """As `sed s/asyncpg/headrace/` leaves it: every import statement that worked goes on working."""
    program = "\n".join(
        f"import headrace.{module}\nfrom headrace.{module} import {', '.join(names.split())}"
        for module, names in surface.MODULES.items()
        if module
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_imported_under_asyncpgs_name_it_has_the_submodules_too() -> None:
    program = (
        "import functools, sys, headrace as asyncpg\n"
        "for name in sys.argv[1:]: functools.reduce(getattr, name.split('.'), asyncpg)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *SUBMODULES], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_submodule_that_nothing_stands_in_for_is_missing() -> None:
    """It is not looked for among headrace's own: errors of a module that is loaded twice are caught by nobody."""
    program = (
        "import headrace; headrace.install_as_asyncpg()\n"
        "for name in ('cluster', 'copy', 'rows', 'exceptions._sqlstate', 'pool.scheduler'):\n"
        "    try: __import__('asyncpg.' + name)\n"
        "    except ModuleNotFoundError as error: assert error.name == 'asyncpg.' + name, error\n"
        "    else: raise AssertionError(name)\n"
        "from asyncpg.exceptions._base import PostgresError\n"
        "assert PostgresError is headrace.PostgresError"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_returns_a_coroutine_passes_for_a_coroutine_function() -> None:
    """unittest.mock decides by that which mocks are to be awaited, and frameworks what to await."""
    # From Python 3.12 on inspect knows the mark that asyncio alone knew before.
    passes = inspect.iscoroutinefunction if sys.version_info >= (3, 12) else asyncio.iscoroutinefunction
    for name in ("execute", "executemany", "fetch", "fetchmany", "fetchrow", "fetchval", "copy_from_table", "close"):
        for cls in (headrace.Connection, headrace.Pool, headrace.pool.PoolConnectionProxy):
            if hasattr(cls, name):
                assert passes(getattr(cls, name)), f"{cls.__name__}.{name}"
    assert isinstance(create_autospec(headrace.Pool).fetch, AsyncMock)


EACH = ("fetch_each", "fetchrow_each", "fetchval_each")
SHARED = {
    "add_query_hook",
    "copy_arrow_to_table",
    "copy_in",
    "copy_out",
    "fetch_arrow",
    "insert_records",
    "remove_query_hook",
    "stream",
    "stream_arrow",
    *EACH,
}


@pytest.mark.parametrize(
    ("cls", "more"),
    [
        ("Connection", SHARED),
        ("Pool", {*SHARED, "listen", "run", "stats", "transaction"}),
    ],
)
def test_a_subclass_has_all_other_names_to_itself(cls: str, more: set[str]) -> None:
    """What headrace adds to asyncpg's classes is little: a program's `connection_class` may use any other name."""
    names = {name for name in dir(getattr(headrace, cls)) if not name.startswith("_")}
    kept = {line.removeprefix("async ").partition("(")[0] for line in lines(surface.CLASSES[cls])}
    assert names - kept == more


def test_it_does_not_take_the_place_of_an_asyncpg_that_is_in_use() -> None:
    program = (
        "import sys, types; sys.modules['asyncpg'] = types.ModuleType('asyncpg')\n"
        "import headrace\n"
        "try: headrace.install_as_asyncpg()\n"
        "except RuntimeError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "asyncpg has been imported already" in done.stdout
