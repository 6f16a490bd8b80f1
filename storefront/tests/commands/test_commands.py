"""The list of the commands."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import pytest

from storefront import commands

MODULES = [module.name for module in pkgutil.iter_modules(commands.__path__)]

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.parametrize("name", MODULES)
def test_every_module_is_a_command_of_the_program(name: str) -> None:
    assert importlib.import_module(f"storefront.commands.{name}").app in commands.COMMANDS


@pytest.mark.parametrize("name", MODULES)
def test_every_command_is_in_the_readme(name: str) -> None:
    assert f"| `{name.rstrip('_')}" in README.read_text(encoding="utf-8")
