"""The part for Windows of `_connect/platform.py`, run here under its name, and the error for Unix sockets there."""

from __future__ import annotations

import importlib.util
import os
import sys
from types import ModuleType

import pytest

from headrace._connect import platform
from headrace._connect.params import address
from headrace._connect.params.resolve import resolve
from headrace.exceptions import ClientConfigurationError


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as Windows loads it."""
    monkeypatch.setattr(sys, "platform", "win32")
    for flag in ("O_BINARY", "O_NOINHERIT"):
        monkeypatch.setattr(os, flag, 0, raising=False)
    spec = importlib.util.spec_from_file_location("headrace_windows_platform", platform.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_systems_answer_the_same_questions(windows: ModuleType) -> None:
    def names(module: ModuleType) -> set[str]:
        return {name for name in vars(module) if not name.startswith("_")} - {"pwd"}

    assert names(windows) == names(platform)


def test_the_files_of_the_user_are_in_appdata(windows: ModuleType) -> None:
    home = windows.home({"APPDATA": "C:", "HOME": "/elsewhere"})
    assert home == os.path.join("C:", "postgresql")
    assert windows.home({"HOME": "/elsewhere"}) is None


def test_a_mode_says_nothing_of_who_may_read_a_file(windows: ModuleType) -> None:
    everyone = os.stat_result((0o100666, *[0] * 9))
    assert platform.open_to_others(everyone)
    assert not windows.open_to_others(everyone)


def test_a_group_may_share_a_file_of_root() -> None:
    of_root = os.stat_result((0o100640, 0, 0, 1, 0, 0, 0, 0, 0, 0))
    assert platform.open_to_others(of_root)
    assert not platform.open_to_others(of_root, root_may_share=True)


def test_without_unix_sockets_a_directory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "UNIX_SOCKETS", False)
    with pytest.raises(ClientConfigurationError, match="Unix socket, '/run/postgresql', which this operating system"):
        resolve("host=/run/postgresql user=u", environ={})
