"""The list of the commands."""

from __future__ import annotations

import pkgutil
from pathlib import Path

import pytest

from storefront import commands

MODULES = [module.name for module in pkgutil.iter_modules(commands.__path__)]

README = Path(__file__).parents[2] / "README.md"


def test_every_module_is_a_command_of_the_program() -> None:
    assert sorted(name.rstrip("_") for name in MODULES) == sorted(commands.COMMANDS)


@pytest.mark.parametrize("name", MODULES)
def test_every_command_is_in_the_readme(name: str) -> None:
    assert f"| `{name.rstrip('_')}" in README.read_text(encoding="utf-8")
