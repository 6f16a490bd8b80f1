"""Every program in examples/ runs to its end, without a warning.

The listings in examples/listings/ print what their docstrings say, and leave nothing in the database.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

import pytest

from tests.servers import Cluster

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LISTINGS = sorted((ROOT / "examples" / "listings").glob("*.py"))
NEEDS = {
    "arrow_frames": ("polars", "pyarrow"),
    "cluster_fastapi": ("fastapi", "httpx"),
    "loader_fastapi": ("fastapi", "httpx"),
    "loader_strawberry": ("strawberry",),
    "23_take_aiostream": ("aiostream",),
}
"""Packages that an example is about. `make` installs them, but other environments may lack them."""
PATIENCE = 60.0
"""Seconds after which an example is taken for hanging."""


def run(example: Path, dsn: str) -> str:
    """Run an example, and return its output. The test fails if the example does, or warns."""
    for package in NEEDS.get(example.stem, ()):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    command = [sys.executable, "-W", "error", str(example), dsn]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)
    if done.returncode or "Warning" in done.stderr.replace("PostgresWarning", ""):
        pytest.fail(f"{example.name}:\n{done.stdout}{done.stderr}", pytrace=False)
    return done.stdout


def announced(listing: Path) -> str:
    """Return the output that the docstring of a listing announces below "Prints:"."""
    docstring = ast.get_docstring(ast.parse(listing.read_text(encoding="utf-8"))) or ""
    _, heading, output = docstring.partition("\nPrints:\n")
    assert heading, f'{listing.name} is expected to have a docstring that ends with "Prints:" and the output'
    return dedent(output)


def is_as_announced(output: str, announcement: str) -> bool:
    """Compare an output with its announcement, in which "..." stands for a part of a line that varies."""
    pattern = ".+".join(re.escape(part) for part in announcement.split("..."))
    return re.fullmatch(pattern, output.rstrip("\n")) is not None


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.stem for example in EXAMPLES])
def test_example(example: Path, server: Cluster) -> None:
    with server.database() as name:
        run(example, server.dsn(name))


@pytest.mark.any_server
@pytest.mark.parametrize("listing", LISTINGS, ids=[listing.stem for listing in LISTINGS])
def test_listing_prints_what_it_announces(listing: Path, server: Cluster) -> None:
    announcement = announced(listing)
    with server.database() as name:
        output = run(listing, server.dsn(name))
        left = server.sql("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'listing%'", database=name)
    assert is_as_announced(output, announcement), f"announced:\n{announcement}\nprinted:\n{output}"
    assert left == []


@pytest.mark.parametrize(
    ("output", "announcement", "same"),
    [
        ("1 row in 0.5 ms\n", "1 row in ... ms", True),
        ("2 rows in 0.5 ms\n", "1 row in ... ms", False),
        ("1 row in 0.5 ms\nand more\n", "1 row in ... ms", False),
        ("one\ntwo\n", "one...", False),
    ],
)
def test_comparison_allows_only_what_varies(output: str, announcement: str, same: bool) -> None:
    assert is_as_announced(output, announcement) is same


@pytest.mark.parametrize(
    ("directory", "programs"), [(".", EXAMPLES), ("listings", LISTINGS)], ids=["examples", "listings"]
)
def test_each_is_in_the_list(directory: str, programs: list[Path]) -> None:
    listed = (ROOT / "examples" / directory / "README.md").read_text(encoding="utf-8")
    assert programs
    assert [program.name for program in programs if f"({program.name})" not in listed] == []
