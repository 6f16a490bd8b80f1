"""Importing headrace, which every program pays for at its start."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["importlib.resources", "tempfile"])
def test_import_leaves_out_what_few_programs_need(module: str) -> None:
    """The import of headrace does not bring in modules that are slow to import and seldom used."""
    program = f"import sys, headrace; print({module!r} in sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}; {program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "False\n"
