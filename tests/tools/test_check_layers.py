"""tools/check_layers.py: which imports it lets pass, in Python and in Cython."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import check_layers
from tools.check_layers import Layers, check, circles

LAYERS = Layers(["(pool)", "(cursor) : (copy)", "(driver)", "(_core.frontend) | (_core.backend)", "(_core.buffer)"])


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty package `headrace` that the check takes for the real one."""
    monkeypatch.setattr(check_layers, "ROOT", tmp_path)
    monkeypatch.setattr(check_layers, "SOURCE", tmp_path / "src")
    package = tmp_path / "src" / "headrace"
    (package / "_core").mkdir(parents=True)
    for name in "pool.py", "cursor.py", "copy.py", "driver.pyx", "_core/frontend.pyx", "_core/backend.pyx":
        (package / name).touch()
    (package / "_core" / "buffer.pxd").touch()
    return package


def complaints(package: Path, name: str, text: str) -> list[str]:
    """Write a source file into the package; return the complaints, each without the path and the line."""
    (package / name).write_text(text)
    return [line.partition(": ")[2] for line in check(package.rglob("*.*"), LAYERS)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pool.py", "from headrace import cursor, driver"),
        ("cursor.py", "from headrace.copy import nothing"),
        ("cursor.py", "import asyncio"),
        ("cursor.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from headrace.pool import Pool"),
        ("driver.pyx", "from headrace._core.buffer cimport (\n    WriteBuffer,  # a comment\n    put,\n)"),
        ("driver.pyx", "import asyncio"),
        ("_core/frontend.pyx", "cimport headrace._core.buffer as buffer"),
        ("_core/frontend.pyx", "from .buffer cimport WriteBuffer"),
        ("_core/frontend.pyi", "from asyncio import Future"),
    ],
)
def test_downward_imports_pass(package: Path, name: str, text: str) -> None:
    assert complaints(package, name, text) == []


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        (
            "cursor.py",
            "def late():\n    from headrace import pool",
            "cursor imports pool, which is in a layer above it",
        ),
        ("driver.pyx", "from headrace.cursor import Cursor", "driver imports cursor, which is in a layer above it"),
        (
            "_core/buffer.pxd",
            "from headrace._core.frontend cimport a",
            "_core.buffer imports _core.frontend, which is",
        ),
        ("_core/buffer.pxd", "cdef f():\n    from . cimport backend", "_core.buffer imports _core.backend, which is"),
        (
            "_core/frontend.pyx",
            "from headrace._core.backend cimport (\n a,\n b)",
            "beside it and independent of it",
        ),
        ("_core/frontend.pyx", "import asyncio", "_core.frontend imports asyncio, and _core must do no I/O"),
        ("cursor.py", "from headrace import connect", "from the package itself, which only re-exports"),
        ("novel.py", "", "novel has no layer: add it to the contract 'layers' in pyproject.toml"),
        ("cursor.py", "def", "invalid syntax"),
    ],
)
def test_others_are_complained_of_once(package: Path, name: str, text: str, complaint: str) -> None:
    (found,) = complaints(package, name, text)
    assert complaint in found


def test_package_itself_may_import_everything(package: Path) -> None:
    assert (
        complaints(package, "__init__.py", "from headrace.pool import Pool\nfrom headrace.driver import Driver") == []
    )


@pytest.mark.parametrize(
    ("name", "text", "circle"),
    [
        ("pool/lease.py", "from headrace.pool.acquire import acquire", "pool.acquire -> pool.lease -> pool.acquire"),
        (
            "pool/lease.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from headrace.pool import acquire",
            "pool.acquire -> pool.lease -> pool.acquire",
        ),
        (
            "pool/lease.pyx",
            "from headrace.pool.other cimport a",
            "pool.acquire -> pool.lease -> pool.other -> pool.acquire",
        ),
    ],
)
def test_a_circle_inside_a_package_is_named(package: Path, name: str, text: str, circle: str) -> None:
    (package / "pool.py").unlink()
    (package / "pool").mkdir()
    (package / "pool" / "acquire.py").write_text("from headrace.pool import lease")
    (package / "pool" / "other.pyx").write_text("from headrace.pool cimport acquire")
    (package / name).write_text(text)
    assert list(circles(package.rglob("*.*"))) == [f"imports go in a circle: {circle}"]
    (package / name).write_text("")
    assert list(circles(package.rglob("*.*"))) == []
