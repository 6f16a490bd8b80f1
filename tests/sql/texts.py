"""Random texts of SQL, whole and broken, for the tests of whatever reads SQL."""

from __future__ import annotations

from hypothesis import strategies as st

FRAGMENTS = st.sampled_from(
    [
        *(
            "select",
            "E",
            "b",
            "N",
            "u&",
            "begin",
            "atomic",
            "end",
            "case",
            "with",
            "as",
            "into",
            "copy",
            "create",
        ),
        *(
            "'",
            "''",
            "\\",
            "\\'",
            '"',
            '""',
            "$",
            "$$",
            "$a$",
            "$1",
            "a$",
            "--",
            "/*",
            "*/",
            "\n",
            "\r",
            " ",
            "\f",
        ),
        *(
            ";",
            "(",
            ")",
            "[",
            "]",
            ",",
            ".",
            "..",
            ":",
            "::",
            ":=",
            "+",
            "-",
            "=",
            "@",
            "?",
            "|",
            "1",
            "0x",
            "1e",
            "_",
        ),
        *("é", "\x00", "\ud800", "{", "\N{NO-BREAK SPACE}"),
    ]
)
SQL = st.one_of(st.text(), st.lists(FRAGMENTS, max_size=30).map("".join))
