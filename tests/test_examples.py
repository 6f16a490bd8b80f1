"""Every program in examples/ runs to its end, without a warning."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.servers import Cluster

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NEEDS = {"loader_fastapi": ("fastapi", "httpx"), "loader_strawberry": ("strawberry",)}
"""Packages that an example is about. `make` installs them, but other environments may lack them."""
PATIENCE = 60.0
"""Seconds after which an example is taken for hanging."""


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.stem for example in EXAMPLES])
def test_example(example: Path, server: Cluster) -> None:
    for package in NEEDS.get(example.stem, ()):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    command = [sys.executable, "-W", "error", str(example)]
    with server.database() as name:
        done = subprocess.run(
            [*command, server.dsn(name)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE
        )
    if done.returncode or "Warning" in done.stderr.replace("PostgresWarning", ""):
        pytest.fail(f"{example.name}:\n{done.stdout}{done.stderr}", pytrace=False)


def test_each_is_in_the_list() -> None:
    listed = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert [example.name for example in EXAMPLES if f"({example.name})" not in listed] == []
