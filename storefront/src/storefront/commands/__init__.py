"""The commands of the program, one module each.

A module defines `app`, a `typer.Typer` with one command, or a named one with a group of them. The command declares its
options, calls a function of the package, and shows the outcome. A module is imported when its command is run, or shown
by `storefront --help`.
"""

from __future__ import annotations

import keyword
from functools import cache
from importlib import import_module
from typing import Any

import typer.main

COMMANDS = (
    "init",
    "load",
    "import",
    "lookup",
    "search",
    "batch",
    "export",
    "bench",
    "serve",
    "work",
    "demo",
    "brands",
    "partners",
)
"""In the order in which `storefront --help` lists them. A module has the name of its command."""


@cache
def find_command(name: str) -> Any:
    """Import the module of a command, and return the command for the command line's parser."""
    module = import_module(f"storefront.commands.{name}_" if keyword.iskeyword(name) else f"storefront.commands.{name}")
    parent = typer.Typer()
    parent.add_typer(module.app)
    return typer.main.get_group(parent).commands[name]
