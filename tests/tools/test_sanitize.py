"""The copy that the core is built in under sanitizers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import sanitize


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sanitize, "ROOT", tmp_path)
    monkeypatch.setattr(sanitize, "COPY", tmp_path / "build" / "asan")
    monkeypatch.setattr(sanitize, "COPIED", ("src", "setup.py"))
    (tmp_path / "src" / "package").mkdir(parents=True)
    (tmp_path / "src" / "package" / "module.pyx").write_text("first")
    (tmp_path / "src" / "package" / "module.so").write_text("built without sanitizers")
    (tmp_path / "setup.py").write_text("setup")
    return tmp_path


def test_what_was_built_in_the_tree_stays_there(tree: Path) -> None:
    sanitize.copy()
    copied = {path.relative_to(tree / "build" / "asan").as_posix() for path in (tree / "build").rglob("*.*")}
    assert copied == {"src/package/module.pyx", "setup.py"}


def test_the_copy_follows_the_tree_and_keeps_what_was_built_in_it(tree: Path) -> None:
    sanitize.copy()
    built = tree / "build" / "asan" / "src" / "package" / "module.so"
    built.write_text("built under sanitizers")
    (tree / "src" / "package" / "other.pyx").write_text("new")
    (tree / "src" / "package" / "module.pyx").unlink()
    sanitize.copy()
    assert not built.with_suffix(".pyx").exists()
    assert built.with_name("other.pyx").read_text() == "new"
    assert built.read_text() == "built under sanitizers"


def test_the_copy_of_a_file_that_did_not_change_keeps_its_time(tree: Path) -> None:
    sanitize.copy()
    copied = tree / "build" / "asan" / "src" / "package" / "module.pyx"
    assert copied.stat().st_mtime == (tree / "src" / "package" / "module.pyx").stat().st_mtime
