"""tools/preflight.py: what it says where headrace cannot be built."""

from __future__ import annotations

import ast
import sys
import sysconfig
from pathlib import Path

import pytest

from tools import preflight


def test_says_nothing_where_all_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert preflight.main() == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("compiler", "problem"),
    [
        ("nonsense-cc", "there is no C compiler: nonsense-cc is not found"),
        ("false --std=c99", "the C compiler false --std=c99 cannot compile a program with Python.h"),
    ],
)
def test_compiler_that_does_not_work_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], compiler: str, problem: str
) -> None:
    monkeypatch.setenv("CC", compiler)
    assert preflight.main() == 1
    said = capsys.readouterr().err
    assert problem in said
    assert "sudo apt-get install gcc" in said
    assert "sudo dnf install gcc" in said
    assert "xcode-select --install" in said


def test_missing_header_files_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    assert preflight.main() == 1
    assert f"Python's header files are missing: there is no {tmp_path}/Python.h" in capsys.readouterr().err


def test_old_python_is_refused_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    assert preflight.main() == 1
    said = capsys.readouterr().err
    assert f"Python 3.11 is needed; {sys.executable} is 3.10" in said
    assert "make PYTHON=python3.13" in said


def test_old_python_can_run_it_at_all() -> None:
    assert preflight.__file__ is not None
    ast.parse(Path(preflight.__file__).read_text(), feature_version=(3, 8))
