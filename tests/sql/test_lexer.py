"""The SQL lexer: where tokens end, and what kind each is."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace._sql.classify import classify, split_statements
from headrace._sql.lexer import Kind, Token, highest_parameter, tokens
from tests.sql.texts import SQL

SPACE, COMMENT, WORD, QUOTED, STRING = Kind.SPACE, Kind.COMMENT, Kind.WORD, Kind.QUOTED, Kind.STRING
NUMBER, PARAMETER, OPERATOR, PUNCTUATION = Kind.NUMBER, Kind.PARAMETER, Kind.OPERATOR, Kind.PUNCTUATION
OTHER, UNTERMINATED = Kind.OTHER, Kind.UNTERMINATED


def significant(sql: str, *, standard_conforming_strings: bool = True) -> list[tuple[Kind, str]]:
    """Return the tokens without white space."""
    found = tokens(sql, standard_conforming_strings=standard_conforming_strings)
    return [(token.kind, token.text) for token in found if token.kind is not SPACE]


class TestTokens:
    @given(SQL, st.booleans())
    @example("E'a'\n'b", True)
    def test_no_text_raises_and_tokens_join_to_it_again(self, sql: str, conforming: bool) -> None:
        found = list(tokens(sql, standard_conforming_strings=conforming))
        assert "".join(token.text for token in found) == sql
        assert [token.start for token in found] == [
            sum(len(before.text) for before in found[:at]) for at in range(len(found))
        ]
        assert all(token.text for token in found)
        assert all(token.kind is not UNTERMINATED for token in found[:-1])

    def test_a_token_tells_kind_text_and_start(self) -> None:
        assert list(tokens("a -- b\n::c")) == [
            Token(WORD, "a", 0),
            Token(SPACE, " ", 1),
            Token(COMMENT, "-- b", 2),
            Token(SPACE, "\n", 6),
            Token(OPERATOR, "::", 7),
            Token(WORD, "c", 9),
        ]

    @pytest.mark.parametrize("word", ["a", "_a1", "a$b$", "naïve", "日本", "select", "e", "x", "u", "éa"])
    def test_words(self, word: str) -> None:
        assert significant(word) == [(WORD, word)]

    @pytest.mark.parametrize("quoted", ['"a b"', '"a""b"', '"--"', '"/*"', '"a\nb"', 'U&"d\\0061t"', 'u&"a"""'])
    def test_quoted_identifiers(self, quoted: str) -> None:
        assert significant(quoted) == [(QUOTED, quoted)]

    @pytest.mark.parametrize(
        "constant",
        [
            *("''", "'a'", "'it''s'", "';'", "'--'", "'/*'", "'a\nb'", "'\\'", "'$1'", "''''"),
            *("E'a'", "e'it\\'s'", "E'\\\\'", "E'it''s'", "E'\\\n'", "E'a\\''''"),
            *("B'0101'", "x'1F'", "N'a'", "n'it''s'", "U&'d\\0061t'", "u&'\\'"),
            *("$$a$$", "$$'$$", "$$;$$", "$a$ $b$ $$ $a$", "$a1$x$a1$", "$é$é$é$", "$$ $1 $$", "$x$ $x $x$"),
        ],
    )
    def test_constants(self, constant: str) -> None:
        assert significant(constant) == [(STRING, constant)]
        assert significant(f"({constant})") == [(PUNCTUATION, "("), (STRING, constant), (PUNCTUATION, ")")]

    @pytest.mark.parametrize("gap", ["\n", " \n ", "\r", "\n\n\t", " -- c\n", "\n-- c\n -- d\n", "-- it's\n"])
    @pytest.mark.parametrize("start", ["E'a'", "'a'", "B'1'", "U&'a'"])
    def test_a_constant_goes_on_behind_a_new_line(self, start: str, gap: str) -> None:
        sql = f"{start}{gap}'b'"
        assert significant(sql) == [(STRING, sql)]

    def test_the_rest_of_an_escape_constant_has_escapes_too(self) -> None:
        sql = "E'a'\n'it\\'s; still inside' ; select"
        assert split_statements(sql) == ["E'a'\n'it\\'s; still inside'", "select"]
        assert significant("E'a'\n'b\\'")[-1] == (UNTERMINATED, "E'a'\n'b\\'")

    def test_without_a_new_line_it_is_another_constant(self) -> None:
        assert significant("'a' 'b'") == [(STRING, "'a'"), (STRING, "'b'")]
        assert significant("E'a' '\\'") == [(STRING, "E'a'"), (STRING, "'\\'")]

    def test_a_letter_before_a_quote_counts_only_when_it_stands_alone(self) -> None:
        assert significant("be'\\'") == [(WORD, "be"), (STRING, "'\\'")]
        assert significant("U &'a'") == [(WORD, "U"), (OPERATOR, "&"), (STRING, "'a'")]

    def test_a_dollar_within_a_word_quotes_nothing(self) -> None:
        assert significant("a$b$c; $b$") == [(WORD, "a$b$c"), (PUNCTUATION, ";"), (UNTERMINATED, "$b$")]

    def test_a_lone_dollar_is_nothing(self) -> None:
        assert significant("$a b") == [(OTHER, "$"), (WORD, "a"), (WORD, "b")]

    @pytest.mark.parametrize("comment", ["--", "-- a 'b", "/* a */", "/* ' */", "/* /* ; */ */", "/*/**/*/", "/***/"])
    def test_comments(self, comment: str) -> None:
        assert significant(comment) == [(COMMENT, comment)]
        assert significant(f"{comment}\n1")[-1] == (NUMBER, "1")

    def test_a_line_comment_ends_at_either_kind_of_new_line(self) -> None:
        assert significant("--a\rb") == [(COMMENT, "--a"), (WORD, "b")]

    def test_parameters_and_numbers(self) -> None:
        assert significant("$1,$23") == [(PARAMETER, "$1"), (PUNCTUATION, ","), (PARAMETER, "$23")]
        for number in ("1", "1.5", ".5", "5.", "1e10", "1.5E-3", "0x1F", "0o17", "0b101", "1_000"):
            assert significant(number) == [(NUMBER, number)]
        assert significant("1..2") == [(NUMBER, "1"), (PUNCTUATION, ".."), (NUMBER, "2")]

    def test_the_highest_parameter(self) -> None:
        assert highest_parameter("SELECT $2, '$7', $10 -- $11") == 10
        assert highest_parameter(f"SELECT $1, ${'9' * 5000}") == 1
        assert highest_parameter("SELECT") == 0

    @pytest.mark.parametrize(
        ("sql", "operators"),
        [
            ("a::int", ["::"]),
            ("a ? 'b'", ["?"]),
            ("a ?| b @> c", ["?|", "@>"]),
            ("a #>> b -> c ->> d", ["#>>", "->", "->>"]),
            ("f(a := 1, b => 2)", [":=", "=>"]),
            ("a<>b!=c<=d", ["<>", "!=", "<="]),
            ("a=-1", ["=", "-"]),
            ("a@-1", ["@-"]),
            ("a*+-b", ["*", "+", "-"]),
            ("a+--b", ["+"]),
            ("a*/*c*/b", ["*"]),
        ],
    )
    def test_operators_end_where_the_server_ends_them(self, sql: str, operators: list[str]) -> None:
        assert [text for kind, text in significant(sql) if kind is OPERATOR] == operators

    @pytest.mark.parametrize(
        "rest",
        [
            "'a",
            "E'a\\'",
            "E'\\",
            "B'1",
            "x'",
            "n'",
            "U&'a",
            '"a',
            'U&"a',
            "$$a",
            "$a$ $b$",
            "/* /* */",
            "'a''",
        ],
    )
    def test_what_never_ends_is_the_last_token(self, rest: str) -> None:
        assert significant(f"a {rest}") == [(WORD, "a"), (UNTERMINATED, rest)]

    def test_without_standard_conforming_strings_a_backslash_escapes(self) -> None:
        sql = "'it\\'s' n'\\'' E'\\'' U&'\\'"
        assert significant(sql, standard_conforming_strings=False) == [
            (STRING, "'it\\'s'"),
            (STRING, "n'\\''"),
            (STRING, "E'\\''"),
            (STRING, "U&'\\'"),
        ]
        assert significant("'\\'") == [(STRING, "'\\'")]
        assert significant("'\\'", standard_conforming_strings=False) == [(UNTERMINATED, "'\\'")]

    @pytest.mark.parametrize(
        "hostile",
        [
            "+" * 100_000,
            "'" * 100_001,
            "E'" + "\\" * 100_001,
            "/*" * 50_000,
            "(" * 100_000,
            "$a" * 50_000,
            "E'a'" + " -- " * 50_000 + "\n x",
            "E'a'\n" * 20_000 + "'",
            "with a as () (" * 20_000,
            "explain " * 20_000,
            "1." * 50_000,
            "create temporary" * 10_000,
        ],
        ids=lambda text: text[:16],
    )
    def test_hostile_text_takes_linear_time(self, hostile: str) -> None:
        # A lexer that backtracks would not come to an end within the life of the test run.
        assert sum(len(token.text) for token in tokens(hostile)) == len(hostile)
        assert not classify(hostile).plain_read
