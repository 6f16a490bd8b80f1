"""tools/check_language.py: the sentences and words that it complains about."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.check_language import check, complaints


@pytest.mark.parametrize(
    "text",
    [
        "Whoever waits is woken.",
        "Return it. What is left is dropped.",
        "Who waits is woken.",
        "Whether the connection is closed.",
        "The end.\n\nWhere there is none, None.",
        "A note: whoever reads this knows.",
        "The connection stands in line.",
        "The server gave no sign of\nlife.",
    ],
)
def test_riddles_and_retired_words_are_found(text: str) -> None:
    assert len(list(complaints(text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "Return whether the connection is closed.",
        "What does a pool cost?",
        "Whereas one is read, the other is not.",
        "It says what is left, where it is and who asked.",
        "A connection waits in the wait queue.",
    ],
)
def test_plain_sentences_pass(text: str) -> None:
    assert list(complaints(text)) == []


def test_docstrings_comments_and_pages_are_read_but_code_is_not(tmp_path: Path) -> None:
    (tmp_path / "src" / "package").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    (tmp_path / "src" / "package" / "module.pyx").write_text(
        '"""Good."""\n\n# What is\n# commented.\ncdef int f():\n    """Where it is."""\n    return "What is it."\n'
    )
    (tmp_path / "docs" / "page.md").write_text("# A page\n\n```\nWhat is code.\n```\n\n- Where there is a list.\n")
    assert [line.split(" ")[0] for line in check(tmp_path)] == [
        "src/package/module.pyx:3:",
        "src/package/module.pyx:6:",
        "docs/page.md:7:",
    ]
