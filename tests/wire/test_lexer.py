"""The SQL lexer: where tokens and statements end, and what the driver concludes from a text."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.lexer import Kind, Token, classify, highest_parameter, split_statements, tokens

SPACE, COMMENT, WORD, QUOTED, STRING = Kind.SPACE, Kind.COMMENT, Kind.WORD, Kind.QUOTED, Kind.STRING
NUMBER, PARAMETER, OPERATOR, PUNCTUATION = Kind.NUMBER, Kind.PARAMETER, Kind.OPERATOR, Kind.PUNCTUATION
OTHER, UNTERMINATED = Kind.OTHER, Kind.UNTERMINATED

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
        assert not classify(hostile).plain


class TestSplitting:
    @pytest.mark.parametrize(
        ("sql", "statements"),
        [
            ("", []),
            (" ; ;; -- nothing\n /* nothing; */", []),
            ("select 1", ["select 1"]),
            ("select 1; select 2;", ["select 1", "select 2"]),
            (
                "select ';', \";\", $$;$$, E'\\';' /* ; */ -- ;",
                ["select ';', \";\", $$;$$, E'\\';' /* ; */ -- ;"],
            ),
            (" /* a */ select 1 ;\n-- b\nselect 2", ["/* a */ select 1", "-- b\nselect 2"]),
            (
                "create rule r as on insert to t do (a; b); c",
                ["create rule r as on insert to t do (a; b)", "c"],
            ),
            ("select 'a; b", ["select 'a; b"]),
            ("select 1); commit", ["select 1)", "commit"]),
        ],
    )
    def test_at_semicolons(self, sql: str, statements: list[str]) -> None:
        assert split_statements(sql) == statements

    def test_the_body_of_a_routine_is_one_with_it(self) -> None:
        routine = (
            "CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC"
            " INSERT INTO t SELECT CASE WHEN true THEN 1 END AS end; DELETE FROM t; END"
        )
        assert split_statements(f"{routine}; SELECT 1") == [routine, "SELECT 1"]

    def test_begin_without_atomic_opens_no_body(self) -> None:
        assert len(split_statements("create function begin() returns int return 1; begin; select 1; end")) == 4

    @given(SQL)
    def test_splitting_loses_no_statement(self, sql: str) -> None:
        assert len(split_statements(sql)) == classify(sql).statements


class TestClassifying:
    def test_statements_are_counted_and_named_by_their_first_keyword(self) -> None:
        traits = classify("-- a\nBegin; ((select 1)); insert into t values (1);; /* ; */ 'x'; COMMIT")
        assert traits.statements == 5
        assert traits.keywords == ("BEGIN", "SELECT", "INSERT", "", "COMMIT")

    @pytest.mark.parametrize(
        "sql",
        [
            "select 1",
            "  /* a */ SELECT 1 -- b\n;",
            "(select 1) union all (select 2)",
            "((table t))",
            "table t",
            "values (1), (2)",
            "select * from t where a in ($1, $2) for update skip locked",
            "insert into t values (1) on conflict do nothing returning *",
            "insert into temp values (1)",
            "update t set a = 1",
            "delete from t using u where t.a = u.a",
            "merge into t using u on t.a = u.a when not matched then insert values (u.a)",
            "with a as (select 1) select * from a",
            "with a as (insert into t values (1) returning *) select * from a",
            "with recursive t(n) as (values (1) union all select n + 1 from t) select n from t",
            "with update as (select 1), insert as materialized (select 2) delete from t",
            "with a as (select 1) merge into t using a on true when matched then do nothing",
            "with a as (select 1) (select * from a)",
            "with recursive s as (select 1) search depth first by a set update select * from s",
            "with recursive s as (select 1) cycle a set insert to true default false using delete table s",
            "select a as into, t.into from t",
            "select 'begin; commit', $$copy t from stdin$$, \"set\" from t -- ; commit",
            "select pg_advisory_xact_lock(1), set_config from t",
            "select 'pg_temp.t'",
            "select nextval('s')",
        ],
    )
    def test_plain(self, sql: str) -> None:
        traits = classify(sql)
        assert traits.plain
        assert not traits.session_state

    @pytest.mark.parametrize(
        "sql",
        [
            "",
            "select 1; select 2",
            "select 1 into t",
            "with a as (select 1) select * into t from a",
            "create table t (a int)",
            "create unlogged table t (a int)",
            "create table temp (a int)",
            "create index temp on t (a)",
            "create view v as select 1",
            "create function f() returns int language sql as 'select set_config(1)'",
            "create trigger g after insert on t execute function f()",
            "drop table t",
            "alter table t rename column a to temp",
            "truncate t",
            "vacuum t",
            "analyze t",
            "grant select on t to r",
            "comment on table t is 'x'",
            "notify c, 'x'",
            "show all",
            "copy t from stdin",
            "copy (select 1) to '/tmp/x'",
            "explain select 1",
            "explain (analyze, verbose) insert into t values (1)",
            "explain analyze (select 1)",
            "explain ((select 1))",
            "refresh materialized view v",
        ],
    )
    def test_not_plain_but_fit_for_a_shared_connection(self, sql: str) -> None:
        traits = classify(sql)
        assert not traits.plain
        assert not traits.session_state

    @pytest.mark.parametrize(
        "sql",
        [
            *("begin", "START TRANSACTION", "commit", "end", "rollback", "abort", "savepoint s", "release s"),
            *(
                "prepare p as select 1",
                "execute p",
                "deallocate p",
                "prepare transaction 'x'",
                "commit prepared 'x'",
            ),
            *("declare c cursor for select 1", "fetch c", "move c", "close c"),
            *(
                "set a = 1",
                "set local a = 1",
                "reset all",
                "discard all",
                "listen c",
                "unlisten *",
                "load 'x'",
            ),
            *("lock t", "call p()", "do $$ begin end $$"),
            *(
                "create temp table t (a int)",
                "create temporary sequence s",
                "create local temp table t (a int)",
            ),
            *("create global temporary table t (a int)", "create or replace temp view v as select 1"),
            "create schema s create temp table t (a int)",
            *("select 1 into temp t", "select 1 into temporary table t", "select 1 into local temp t"),
            "with a as (select 1) select * into temp t from a",
            *("select * from pg_temp.t", 'drop table "pg_temp".t', "select * from PG_TEMP_3.t"),
            *("select set_config('a', 'b', false)", "select pg_catalog.set_config('a', 'b', true)"),
            "select \"set_config\" ('a', 'b', false)",
            *(
                "select pg_advisory_lock(1)",
                "select pg_try_advisory_lock_shared(1)",
                "select pg_advisory_unlock_all()",
            ),
            *(
                "select setseed(0)",
                "select pg_export_snapshot()",
                "select dblink_connect('x')",
                "select lo_open(1, 2)",
            ),
            *("select currval('s')", "select lastval()"),
            "copy (select set_config('a', 'b', false)) to stdout",
            "update pg_settings set setting = 'x' where name = 'y'",
            *(
                "explain analyze execute p",
                "explain (analyze) create temp table t as select 1",
                "create table t as execute p",
            ),
            "explain declare c cursor for select 1",
            *("select 1; set a = 1", "/* a */ ; -- b\n begin"),
        ],
    )
    def test_session_state(self, sql: str) -> None:
        traits = classify(sql)
        assert traits.session_state
        assert not traits.plain

    @pytest.mark.parametrize(
        "sql",
        [
            *("set role a", "SET SESSION ROLE a", "set local role a", 'set "role" to a', "set role = a"),
            *("set session authorization a", "set session session authorization a", "set session_authorization = a"),
            *("prepare p as select 1", "load 'x'", "select setseed(0)", "select dblink_connect('x')"),
            *("create temp table t (a int)", "select 1 into temp t", "explain analyze create temp table t as select 1"),
            *("select set_config('role', 'a', false)", "select set_config($1, $2, $3)"),
            *(
                "select set_config('ro' || 'le', 'a', false)",
                "update pg_settings set setting = 'a' where name = 'role'",
            ),
            *("select 1; set role a", "begin; create temp table t (a int)", "create table pg_temp.t (a int)"),
        ],
    )
    def test_session_state_that_lasts(self, sql: str) -> None:
        traits = classify(sql)
        assert traits.session_state
        assert traits.lasting

    @pytest.mark.parametrize(
        "sql",
        [
            *("set a = 1", "set session a = 1", "set session characteristics as transaction read only", "begin"),
            *("listen c", "declare c cursor with hold for select 1", "select pg_advisory_lock(1)", "call p()", "do ''"),
            *("select set_config('a', 'b', false)", "prepare transaction 'x'", "discard all", "reset role"),
            *("select 1", "select role from t", "create table t (role text)", "update t set role = $1"),
        ],
    )
    def test_session_state_that_a_reset_undoes(self, sql: str) -> None:
        assert not classify(sql).lasting

    @pytest.mark.parametrize(
        "sql", ["select 'a", "select 1 /*", "select $a$", "select {", "select (1", "select 1)", "1", "foo"]
    )
    def test_what_cannot_be_told_is_taken_for_the_worst(self, sql: str) -> None:
        traits = classify(sql)
        assert traits.session_state
        assert not traits.plain

    def test_a_backslash_hides_a_statement_or_not(self) -> None:
        sql = "select '\\'; set a = 1; --'"
        assert classify(sql).statements == 2
        assert classify(sql).session_state
        assert classify(sql, standard_conforming_strings=False).plain

    def test_a_keyword_is_ascii(self) -> None:
        # Python folds the long s to S; the server does not, and takes the word for an identifier.
        assert classify("\u017felect 1").keywords == ("\u017felect",)
        assert not classify("\u017felect 1").plain

    @pytest.mark.parametrize(
        ("sql", "direction"),
        [
            ("copy t from stdin", "in"),
            ("COPY t (a, b) FROM STDIN WITH (FORMAT csv)", "in"),
            ("copy binary t from stdin", "in"),
            ("copy t from stdout", "in"),
            ('copy "to" from stdin', "in"),
            ("copy t to stdout", "out"),
            ("copy (select * from t) to stdout", "out"),
            ("copy (delete from t returning *) to stdout", "out"),
            ("select 1; copy /* x */ t to stdout;", "out"),
            ("copy t to stdout; copy t from stdin", "in"),
            ("copy t from '/tmp/x'", None),
            ("copy t to program 'cat'", None),
            ("copy (select 1 from stdin) to '/tmp/x'", None),
            ("select 'copy t from stdin'", None),
            ("insert into copy select 1 from stdin", None),
        ],
    )
    def test_copy_over_the_connection(self, sql: str, direction: str | None) -> None:
        assert classify(sql).copy == direction

    @pytest.mark.parametrize(
        ("sql", "commits"),
        [
            *(("commit", True), ("COMMIT AND CHAIN", True), ("end", True), ("select 1; end work", True)),
            *(
                ("commit; begin; rollback", False),
                ("commit prepared 'x'", False),
                ("prepare transaction 'x'", False),
                ("rollback", False),
            ),
            ("create procedure p() begin atomic select 1; end", False),
        ],
    )
    def test_commits(self, sql: str, commits: bool) -> None:
        assert classify(sql).commits is commits

    @given(SQL, st.booleans())
    def test_no_text_raises(self, sql: str, conforming: bool) -> None:
        traits = classify(sql, standard_conforming_strings=conforming)
        assert len(traits.keywords) == traits.statements
        assert not (traits.plain and (traits.session_state or traits.copy or traits.commits))
        assert not (traits.plain and traits.statements != 1)

    def test_an_answer_is_kept(self) -> None:
        assert classify("select 'kept'") is classify("select 'kept'")
