"""Programs written for asyncpg, each run by itself: what stands in for asyncpg does so for a whole process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]

PATIENCE = 120.0
"""Seconds after which a program is taken for hanging."""


def run(name: str, *args: str) -> None:
    """Run a program in development mode; fail, with what it wrote, where it does not come to its end."""
    command = [sys.executable, "-X", "dev", str(HERE / f"{name}_program.py"), *args]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)
    if done.returncode or not done.stdout.endswith("done\n"):
        pytest.fail(f"{name} on headrace:\n{done.stdout}{done.stderr}", pytrace=False)
