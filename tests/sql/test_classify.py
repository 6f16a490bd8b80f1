"""What the driver concludes from SQL: its statements, what they do to a session, and whether they only read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._sql.classify import classify, reads_transaction, split_statements
from tests.sql.texts import SQL

ROOT = Path(__file__).resolve().parents[2]

# Where an expression may stand, and where a query may: what is put there decides whether all of it is a plain read.
EXPRESSION_PLACES = st.sampled_from(
    [
        *("({})", "- {}", "not {}", "{} + 1", "1 operator(pg_catalog.+) {}", "{}::numeric(10, 2)", "cast({} as text)"),
        *(
            "lower({})",
            "pg_catalog.lower({})",
            "lower(a => {})",
            "coalesce(a, {})",
            "row({}, 1)",
            "array[{}]",
            "(a)[{}]",
        ),
        *("case {} when 1 then 2 end", "case when a then {} else 1 end", "{} between 1 and 2", "a between {} and 2"),
        *("a in (1, {})", "a = any ({})", "{} is distinct from a", "a like {} escape '!'", "a at time zone {}"),
        *(
            "extract(year from {})",
            "substring(a from {} for 2)",
            "overlay(a placing {} from 1)",
            "trim(both {} from a)",
        ),
        *("json_object('a' value {})", "xmlelement(name a, {})", "sum({}) filter (where b) over (partition by c)"),
        *("sum(a) over (order by {} rows 1 preceding)", "mode() within group (order by {})", '{} collate "C"'),
    ]
)
QUERY_PLACES = st.sampled_from(
    [
        *("select {}", "values (1, {})", "select distinct on ({}) a from t", "select distinct on (a) {} from t"),
        *(
            "select a b, {} c from t as u(a, b)",
            "select 1 from t v (a) where {}",
            "select 1 from t group by a, rollup({})",
        ),
        *("select 1 group by grouping sets ((a), cube ({}))", "select 1 having {}", "select 1 order by a, {} desc"),
        *(
            "select 1 limit {}",
            "select 1 offset {} rows",
            "select 1 from t join u on {}",
            "select 1 union all select {}",
        ),
        *(
            "select 1 from generate_series(1, {}) with ordinality as g(n, m)",
            "select 1 from t, lateral (select {}) u(a)",
        ),
        *(
            "with a(x) as materialized (select {}), b (y) as (table a) select 1 from b",
            "with a as (select 1) select {}",
        ),
        *("(with a as (select 1) (select 2) order by {})", "select 1 window w as (order by {}), v as (w)"),
        *("select exists (select {})", "select 1 from (values ({})) v(a)", "select array(select {} from t)"),
    ]
)


@st.composite
def queries_around(draw: st.DrawFn, innermost: str) -> str:
    """Return a query with an expression somewhere in it."""
    expression = innermost
    for place in draw(st.lists(EXPRESSION_PLACES, max_size=4)):
        expression = place.replace("{}", expression)
    query = draw(QUERY_PLACES).replace("{}", expression)
    for place in draw(st.lists(QUERY_PLACES, max_size=2)):
        query = place.replace("{}", f"({query})")
    return query


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

    @pytest.mark.parametrize(
        "body",
        [
            "select 1 case;",
            "select 1 end; select 2 case;",
            "select (select 1 end) case; select case when (select true end) then 1 end end;",
            "insert into t select a case from t returning a end;",
            "; return case when a then 1 end;",
            "",
        ],
    )
    def test_case_and_end_may_be_labels_of_columns(self, body: str) -> None:
        routine = f"create function f() returns int begin atomic {body} end"
        assert split_statements(f"{routine}; set a = 1; select 1") == [routine, "set a = 1", "select 1"]

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
            "with a as (select 1) select * from a",
            "with recursive t(n) as (values (1) union all select n + 1 from t) select n from t",
            "with a as (select 1) (select * from a)",
            "with recursive s as (select 1) search depth first by a set b select * from s",
            "select a as b, t.share from t",
            "select 'begin; commit', $$insert into t$$, \"update\" from t -- ; commit",
            "select set_config from t",
            "select 'pg_temp.t'",
            "select a[1], t.b[2:3] from t where a in ($1, $2) and b = any($3) and not exists (select) or (c)",
            "select lower(a), pg_catalog.upper(b), count(*), pg_catalog . max (c), left(d, 1), right(e, 2) from t",
            "select coalesce(a, b), nullif(a, b), greatest(a, b), least(1), cast(a as numeric(10, 2)), a::varchar(3)",
            "select extract(year from now()), substring(a from 1 for 2), overlay(a placing b from 1)",
            "select trim(both from a), trim(a, b) from t",
            "select position(a in b), row(1, 2), array(select 1), normalize(a, nfc)",
            "select current_timestamp(3), time(3) '1:00'",
            "select a::bit varying(3), cast(b as public.geometry(point, 4326)), c::public.citext(3)",
            "select timestamp(3) '2026-01-01'",
            "select xmlelement(name a, xmlattributes(b)), xmlforest(c), xmlconcat(d), xmlexists('a' passing b)",
            "select json_object('a' value 1), json_array(1), json_build_object('a', 1), jsonb_agg(b order by c)",
            "select * from json_table(a, '$' columns (b numeric(3, 2) path '$.b', nested path '$.c' columns (d text)))",
            "select count(*) filter (where a), rank() over (partition by b order by c) from t",
            "select rank() over w from t window w as (), v as (w)",
            "select percentile_cont(0.5) within group (order by a) over (order by (b)) from t group by (a), b",
            "select grouping(a) from t group by grouping sets ((a), (), cube (b), rollup(c)), rollup (a), cube(b)",
            "select * from t a(x, y), u as b(z), (values (1)) v(c), lateral (select 1) as w (d)",
            "select * from only (t) join (u join w on (true)) on (a)",
            "select * from a left join (b natural join (c)) using (id) cross join (select 1) d",
            "select * from a where (a.x, a.y) overlaps (a.b, a.c)",
            "select * from generate_series(1, 3) g(n), unnest($1::int[], $2) with ordinality as u(a, b)",
            "select * from unnest(a) with ordinality u(a, b), rows from (generate_series(1, 2)) as r(a)",
            "select * from json_to_recordset($1) as x(a int, b varchar(3), c geometry(point))",
            "with a(x, y) as materialized (select 1), f(w) as (table a) select * from f",
            "with b (z) as not materialized (select 2) select * from b",
            "select * from (with lower(x) as (select 1) select x from lower) s",
            "select 1 from t tablesample system (10) repeatable (1)",
            "select * from t where a at time zone ('x') > now() order by (a), b limit (1) offset (2)",
            "select * from t order by a fetch first (1) rows with ties",
            "select case when (a) then (b) else (c) end, a between (1) and (2), (a) is distinct from (b), (a).* from t",
            "select distinct on (a) (b), lower(c) from t where a operator(pg_catalog.+) (b) > (c) and d like (e)",
            "select case when a then lower(b) end, collation for (c), array[(1), (2)], b ilike ('x') from t",
            "select random(), gen_random_uuid(), uuidv7(), clock_timestamp(), timeofday()",
            "select pg_sleep(0), pg_sleep_for('1s')",
            "select has_table_privilege('t', 'select'), to_tsvector(a) @@ plainto_tsquery(b), ts_headline(a, b) from t",
        ],
    )
    def test_a_plain_read(self, sql: str) -> None:
        traits = classify(sql)
        assert traits.plain_read
        assert not traits.session_state

    @pytest.mark.parametrize(
        "sql",
        [
            "",
            "select 1; select 2",
            "insert into t values (1)",
            "update t set a = 1",
            "delete from t",
            "explain select 1",
            "show all",
            "merge into t using u on t.a = u.a when not matched then insert values (u.a)",
            "with a as (insert into t values (1) returning *) select * from a",
            "with a as (update t set a = 1 returning 1) table a",
            "with a as (select 1) delete from t",
            "select 1 into t",
            "with a as (select 1) select * into t from a",
            "create table t as select 1",
            "select 1 from t for update skip locked",
            "table t for no key update",
            "select 1 from t for share",
            "(select 1 from t for key share)",
            # Core functions that change something, and such as are not among PostgreSQL's own.
            "select nextval('s')",
            "select pg_notify('c', 'x')",
            "select pg_advisory_xact_lock(1)",
            "select txid_current()",
            "select dblink('x', 'y')",
            "select f()",
            "select * from f(1)",
            "select lower(f(1))",
            "select public.lower(a)",
            "select lo_get(1)",
            "select query_to_xml('select f()', true, true, '')",
            "select table_to_xml('t', true, true, '')",
            "select ts_stat('select f()')",
            "select ts_rewrite(a, 'select f()')",
            "select pg_catalog.nextval('s')",
            # A name on the list counts bare or behind pg_catalog alone.
            "select \"lower\"('A')",
            'select pg_catalog."lower"(a)',
            '"pg_catalog".lower(a)',
            "select a.pg_catalog.lower(b)",
            'select "pg_catalog".lower(a)',
            "select U&\"lower\"('A')",
            'select a from U&"t"',
            "select L\u00d6WER(a)",
            "select \u017fum(a)",
            # A function called with no parenthesis, or by grammar.
            "select ('s'::regclass).nextval",
            "select s.nextval from regclass('s') s",
            'select ($1)."nextval"',
            "select (t).f from t",
            "select a[1].f from t",
            "select $1.f",
            "select treat('s'::regclass as nextval)",
            # Where an operand may stand, a name before a parenthesis is a function's, whatever stands before it.
            "select distinct on (a) f(b) from t",
            "select 1 operator(pg_catalog.+) f(2)",
            "select distinct on (a) over(1)",
            "select * from a, f(x) as (a int)",
            "select * from a, f(x) as b(c)",
            "select * from t as a(b), f(b)",
            "with a as (select 1) select 1, f(1) as b",
            "(with a as (select 1) (select 1) order by a, f(1))",
            "with a as (select 1) select * from a, f(x) as (c int)",
            "with a as (select f(1)) select 1",
            "with a(x) as (select 1), b as (select 2 from a, f(x) as (c int)) table b",
            "values (f(1))",
            "select * from rows from (f(1))",
            "select * from t join lateral f(1) on true",
            "select 1 limit f(1)",
            "select case f(1) when f(2) then 1 end",
            "select a like f(1)",
            "select a at time zone f(1)",
            "select -f(1)",
            "select a between symmetric f(1) and 2",
            "select a like b escape f(1)",
            "select 1 fetch first f(1) rows only",
            "select sum(a) over (rows f(1) preceding)",
            "select lower(a => f(1))",
            "select cube(a)",
            "select rollup(a)",
            "select a from t group by a having cube(1) > 0",
            "select a from t group by a, f(1)",
            "select join(1)",
            "select 1 tablesample from t tablesample f(1)",
            "select over(1)",
            "select filter(1)",
            "select operator(1)",
            "select xmlelement(name a, f(1))",
            "select json_object('a' value f(1))",
            "select array[f(1)]",
            "select (f(1))",
            "select extract(year from f(1))",
            "select cast(f(1) as int)",
            "select * from json_table(f(1), '$' columns (a int))",
            "select f (1)",
            "select f/**/(1)",
            "select f --\n (1)",
            "select columns(1)",
            "select materialized(1)",
            "select 1 order by not f(1)",
            "select any_value(a) from t",
            "select t.values(1)",
            "select 1 union select f(1)",
            "select 'a",
            "select (1",
            "select 1)",
            "foo",
            "select set_config('a', 'b', false)",
            "select * from pg_temp.t",
        ],
    )
    def test_no_plain_read(self, sql: str) -> None:
        assert not classify(sql).plain_read

    @given(queries_around("a"))
    def test_a_plain_read_however_it_is_composed(self, sql: str) -> None:
        assert classify(sql).plain_read

    @given(st.data())
    def test_one_call_anywhere_makes_it_none(self, data: st.DataObject) -> None:
        calls = ["f(a)", "f()", "s.lower(a)", '"lower"(a)', "nextval('s')", "(a).f", "over (a)", "columns(a)"]
        sql = data.draw(queries_around(data.draw(st.sampled_from(calls))))
        assert not classify(sql).plain_read

    @pytest.mark.parametrize(
        ("sql", "reads_session"),
        [
            *(("select 1", False), ("select now()", False), ("select 'pg_settings'", False)),
            *(("select pg_backend_pid()", True), ("select pg_catalog.current_setting('a')", True)),
            *(("select current_user", True), ("select current_role", True), ("select session_user, 1", True)),
            *(("select current_schema", True), ("select current_schemas(true)", True), ("select user", True)),
            *(("table pg_settings", True), ("select name from pg_catalog.pg_prepared_statements", True)),
            *(('select * from "pg_cursors"', True), ("select pg_my_temp_schema()", True)),
            *(("select * from pg_locks", False), ("select * from pg_stat_activity", False)),
            ("select * from pg_stat_activity where pid <> pg_backend_pid()", True),
        ],
    )
    def test_reading_the_session(self, sql: str, reads_session: bool) -> None:
        traits = classify(sql)
        assert traits.plain_read
        assert traits.reads_session is reads_session

    @pytest.mark.parametrize(
        "sql",
        [
            "",
            "select 1; select 2",
            "select 1 into t",
            "select * from t where a in ($1, $2) for update skip locked",
            "insert into t values (1) on conflict do nothing returning *",
            "insert into temp values (1)",
            "update t set a = 1",
            "delete from t using u where t.a = u.a",
            "merge into t using u on t.a = u.a when not matched then insert values (u.a)",
            "with a as (insert into t values (1) returning *) select * from a",
            "with update as (select 1), insert as materialized (select 2) delete from t",
            "with a as (select 1) merge into t using a on true when matched then do nothing",
            "with recursive s as (select 1) search depth first by a set update select * from s",
            "with recursive s as (select 1) cycle a set insert to true default false using delete table s",
            "select a as into, t.into from t",
            "select pg_advisory_xact_lock(1), set_config from t",
            "select nextval('s')",
            "with a as (select 1) select * into t from a",
            "create table t (a int)",
            "create unlogged table t (a int)",
            "create table temp (a int)",
            "create index temp on t (a)",
            "create view v as select 1",
            "create function f() returns int language sql as 'select 1'",
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
    def test_no_plain_read_but_fit_for_a_shared_connection(self, sql: str) -> None:
        traits = classify(sql)
        assert not traits.plain_read
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
            # Names that do not show.
            *("select U&\"set_config\"('a', 'b', false)", "select U&\"s!0065t_config\" uescape '!' ('a', 'b', false)"),
            *('set U&"role" to a', 'select * from u&"pg\\005ftemp".t', 'select a from U&"t"'),
            # SQL that a function runs.
            "select query_to_xml('select set_config(''a'', ''b'', false)', true, true, '')",
            *(
                "select query_to_xml($1, true, true, '')",
                "select * from ts_stat('select f()')",
                "select ts_rewrite(a, $1)",
            ),
            *("select * from crosstab('select f()') as t(a int)", "select run($$select pg_advisory_lock(1)$$)"),
            "select run(E'select\\nset_config(''a'', ''b'', false)')",
            "create function f() returns int language sql as 'select set_config(1)'",
            # Functions that are called without a parenthesis behind their names.
            *("select (1::bigint).pg_advisory_lock", "select treat(1::bigint as pg_advisory_lock)"),
            *("select s.currval from regclass('s') s", "select ('s'::regclass).\"currval\""),
            # Three statements, although `case` may seem to keep the first one open.
            "create function f() returns int begin atomic select 1 case; end; set a = 1; select 1",
            *("select 1; set a = 1", "/* a */ ; -- b\n begin"),
        ],
    )
    def test_session_state(self, sql: str) -> None:
        traits = classify(sql)
        assert traits.session_state
        assert not traits.plain_read

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
            *("discard all", "discard temp", "discard plans", "discard sequences", "deallocate p", "deallocate all"),
            *("reset role", "reset session authorization", "reset session_authorization", 'reset "role"', "reset seed"),
            "set session characteristics as transaction read only",
            *(
                "set seed = 0.5",
                "set session seed to 0.5",
                'set "seed" = 0.5',
                "select set_config('seed', '0.5', false)",
            ),
            *("select set_config(E'r\\x6fle', 'a', false)", "select set_config(U&'r!006fle' uescape '!', 'a', false)"),
            *("select query_to_xml('select setseed(0)', true, true, '')", "select run('select dblink_connect(1)')"),
            "select query_to_xml('select set_config(''role'', ''a'', false)', true, true, '')",
            *(
                'select U&"setseed"(0)',
                'set U&"role" to a',
                "select (0.5::float8).setseed",
                "select treat(0.5 as setseed)",
            ),
            "select pg_create_logical_replication_slot('s', 'p', true)",
            "select pg_replication_origin_session_setup('o')",
            "deallocate transaction",
            "prepare transaction as select 1",
        ],
    )
    def test_session_state_that_a_reset_does_not_undo(self, sql: str) -> None:
        traits = classify(sql)
        assert traits.session_state
        assert traits.not_resettable

    @pytest.mark.parametrize(
        "sql",
        [
            *("set a = 1", "set session a = 1", "set local a = 1", "set transaction read only", "begin"),
            *("reset all", "reset a", "set time zone 'UTC'", "set constraints all deferred", "select currval('s')"),
            *("listen c", "declare c cursor with hold for select 1", "select pg_advisory_lock(1)", "call p()", "do ''"),
            *("select set_config('a', 'b', false)", "prepare transaction 'x'", "execute p", "select 'a"),
            *("select 1", "select role from t", "create table t (role text)", "update t set role = $1"),
        ],
    )
    def test_session_state_that_a_reset_undoes(self, sql: str) -> None:
        assert not classify(sql).not_resettable

    @pytest.mark.parametrize(
        "sql", ["select 'a", "select 1 /*", "select $a$", "select {", "select (1", "select 1)", "1", "foo"]
    )
    def test_what_cannot_be_told_is_taken_for_the_worst(self, sql: str) -> None:
        traits = classify(sql)
        assert traits.session_state
        assert not traits.plain_read

    @pytest.mark.parametrize(
        ("sql", "runs_code"),
        [
            *(
                ("call p()", True),
                ("do $$ begin end $$", True),
                ("execute p", True),
                ("create table t as execute p", True),
            ),
            *(("explain analyze execute p", True), ("select 1; call p()", True)),
            *(("select query_to_xml($1, true, true, '')", True), ("select * from ts_stat('select f()')", True)),
            *(
                ("select f()", False),
                ("set a = 1", False),
                ("create trigger t after insert on t execute function f()", False),
            ),
            *(
                ('select call, "do" from execute', False),
                ("prepare p as select 1", False),
                ("select 'call p()'", False),
            ),
        ],
    )
    def test_code_that_does_not_show(self, sql: str, runs_code: bool) -> None:
        traits = classify(sql)
        assert traits.runs_code is runs_code
        assert traits.session_state or not runs_code

    @pytest.mark.parametrize(
        ("sql", "needs_own_session"),
        [
            *(("select lastval()", True), ("values (currval('s'), 1)", True), ("(select pg_catalog.lastval())", True)),
            *(("with a as (select 1) select \"currval\"('s') from a", True), ("select ('s'::regclass).currval", True)),
            *(("select nextval('s'), currval('s')", False), ("select setval('s', 1), lastval()", False)),
            *(("with a as (insert into t default values) select lastval()", False), ("select 'lastval()'", False)),
            *(("insert into t values (currval('s'))", False), ("create table t as select lastval()", False)),
            *(("select nextval('s'); select lastval()", False), ("explain analyze select lastval()", False)),
            *(("select lastval from t", False), ("select 1", False), ("select lastval(); select 1", False)),
        ],
    )
    def test_a_value_that_an_earlier_statement_left(self, sql: str, needs_own_session: bool) -> None:
        traits = classify(sql)
        assert traits.needs_own_session is needs_own_session
        assert traits.session_state or not needs_own_session

    @pytest.mark.parametrize("sql", ["select '\\'; set a = 1; --'", "select '\\'' || '; set a = 1; --'"])
    def test_a_backslash_is_read_both_ways(self, sql: str) -> None:
        readings = [classify(sql, standard_conforming_strings=conforming) for conforming in (True, False)]
        assert sorted(reading.statements for reading in readings) == [1, 2]
        assert [reading.plain_read for reading in readings].count(True) == 1
        strict = classify(sql)
        assert strict.statements == len(strict.keywords) == 2
        assert strict.session_state
        assert not strict.plain_read

    def test_a_backslash_that_ends_no_constant_either_way_matters_to_neither(self) -> None:
        assert classify("select a from t where b like '10\\%' and c ~ '^\\d+$'").plain_read

    def test_a_keyword_is_ascii(self) -> None:
        # Python folds the long s to S; the server does not, and takes the word for an identifier.
        assert classify("\u017felect 1").keywords == ("\u017felect",)
        assert not classify("\u017felect 1").plain_read

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
        assert not (traits.plain_read and (traits.session_state or traits.copy or traits.commits))
        assert not (traits.plain_read and traits.statements != 1)
        assert traits.session_state or not (traits.not_resettable or traits.runs_code or traits.needs_own_session)
        strict = classify(sql)
        assert strict.statements == len(strict.keywords) >= traits.statements
        assert strict.session_state >= traits.session_state
        assert strict.plain_read <= traits.plain_read

    def test_the_generated_names_are_up_to_date(self) -> None:
        tool = [sys.executable, str(ROOT / "tools" / "generate_functions.py"), "--check"]
        assert subprocess.run(tool, check=False).returncode == 0

    def test_an_answer_is_kept(self) -> None:
        assert classify("select 'kept'") is classify("select 'kept'")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT now()", "SELECT pg_catalog . now ( )", "SELECT NOW()", "SELECT 'now'::timestamptz",
        "SELECT date 'today'",
        "SELECT 'today10:00'::timestamp", "SELECT age(born)", "SELECT current_date", "SELECT CURRENT_TIMESTAMP(3)",
        "SELECT localtime", "SELECT transaction_timestamp()", "SELECT txid_current_if_assigned()",
        "SELECT pg_current_xact_id_if_assigned()", r"SELECT U&'n\006fw'::timestamptz",
    ],
)  # fmt: skip
def test_a_text_that_may_read_its_transaction(text: str) -> None:
    assert reads_transaction(text)


@pytest.mark.parametrize(
    "text",
    ["SELECT image, page, language FROM snow WHERE known = $1", "SELECT nowhere, usage_now_, age_ FROM t", "SELECT 1",
     "SELECT clock_timestamp(), statement_timestamp()"],
)  # fmt: skip
def test_a_text_that_does_not_read_its_transaction(text: str) -> None:
    assert not reads_transaction(text)
