"""The figures of `make coverage`."""

from __future__ import annotations

import sys

import pytest

from tools import measure_coverage
from tools.measure_coverage import Covered, percent, summarize


@pytest.mark.parametrize(
    ("lines", "missed", "said"),
    [(1000, 0, "100.0 %"), (1000, 500, "50.0 %"), (1000, 1000, "0.0 %"), (100_000, 1, "99.9 %"), (0, 0, "100.0 %")],
)
def test_only_a_file_whose_lines_all_ran_has_100_percent(lines: int, missed: int, said: str) -> None:
    assert percent(lines, missed) == said


def test_the_files_with_the_most_lines_that_did_not_run_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    summarize("Cython", [Covered("a.pyx", 10, 1), Covered("whole.pyx", 1000, 0), Covered("b.pyx", 1000, 2)])
    total, *files = capsys.readouterr().out.split("\n")[:3]
    assert total == "Cython: 99.8 % of 2,010 lines in 3 files; 3 did not run"
    assert [line.split()[0] for line in files] == ["b.pyx", "a.pyx"]


def test_a_python_whose_compiled_lines_cannot_be_seen_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    with pytest.raises(SystemExit, match=r"older than 3\.13, and this is 3\.13"):
        measure_coverage.main([])
