"""sql(): named parameters are found where SQL has room for them, and values never become part of a text."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

import headrace
from headrace._sql.lexer import Kind, tokens
from headrace._sql.named_parameters import bound, bound_each, identifier, read_text, sql

templates = pytest.mark.skipif(sys.version_info < (3, 14), reason="this Python has no template literals")


def template(text: str, /, **names: object) -> Any:
    """The value of the template literal t"text", where these names are known."""
    quotes = "'''" if text.endswith('"') else '"""'
    return eval(f"t{quotes}{text}{quotes}", names)


# -- where a parameter is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "values", "expected", "args"),
    [
        ("SELECT 1", {}, "SELECT 1", ()),
        ("SELECT :a", {"a": 1}, "SELECT $1", (1,)),
        ("SELECT :a, :b", {"b": 2, "a": 1}, "SELECT $1, $2", (1, 2)),
        ("SELECT :b, :a, :b", {"a": 1, "b": 2}, "SELECT $1, $2, $1", (2, 1)),
        ("WHERE a=:a AND b>=:b AND c<>:a", {"a": 1, "b": 2}, "WHERE a=$1 AND b>=$2 AND c<>$1", (1, 2)),
        ("VALUES(:a,:b),(-:a,- :b)", {"a": 1, "b": 2}, "VALUES($1,$2),(-$1,- $2)", (1, 2)),
        ("SELECT :a::int::text", {"a": 1}, "SELECT $1::int::text", (1,)),
        ("SELECT x::int, :a :: int", {"a": 1}, "SELECT x::int, $1 :: int", (1,)),
        ("SELECT f(x := :x, y=>:y)", {"x": 1, "y": 2}, "SELECT f(x := $1, y=>$2)", (1, 2)),
        ("SELECT d ? :k, d ?| :l, d ?& :l, d @? :p", {"k": 1, "l": 2, "p": 3},
         "SELECT d ? $1, d ?| $2, d ?& $2, d @? $3", (1, 2, 3)),
        ("SELECT a[1:2], a[:lo : :hi], a[lo:hi], a[:i]", {"lo": 1, "hi": 2, "i": 3},
         "SELECT a[1:2], a[$1 : $2], a[lo:hi], a[$3]", (1, 2, 3)),
        ("SELECT a[f(x):y], a[b[1]:y], a[\"x\":y]", {}, "SELECT a[f(x):y], a[b[1]:y], a[\"x\":y]", ()),
        ("SELECT JSON_OBJECT('a':b, 'c' : :d)", {"d": 1}, "SELECT JSON_OBJECT('a':b, 'c' : $1)", (1,)),
        ("SELECT ':a', E'\\':a', U&':a', $$:a$$, $t$ $$:a $t$, \":a\"", {},
         "SELECT ':a', E'\\':a', U&':a', $$:a$$, $t$ $$:a $t$, \":a\"", ()),
        ("SELECT :a -- :b\n, /* :c /* :d */ :e */ :f", {"a": 1, "f": 2},
         "SELECT $1 -- :b\n, /* :c /* :d */ :e */ $2", (1, 2)),
        (":first and :last", {"first": 1, "last": 2}, "$1 and $2", (1, 2)),
        ("SELECT :a_1, :A, :größe", {"a_1": 1, "A": 2, "größe": 3}, "SELECT $1, $2, $3", (1, 2, 3)),
        ("SELECT :text, :self", {"text": 1, "self": 2}, "SELECT $1, $2", (1, 2)),
    ],
)  # fmt: skip
def test_names_become_numbers(text: str, values: dict[str, Any], expected: str, args: tuple[Any, ...]) -> None:
    query = sql(text, **values)
    assert query.text == expected
    assert query.args == args


def test_the_same_text_is_cut_once() -> None:
    first, second = sql("SELECT :a + :b", a=1, b=2), sql("SELECT :a + :b", a=3, b=4)
    assert first.text is second.text
    assert (first.args, second.args) == ((1, 2), (3, 4))


def test_any_value_is_an_argument() -> None:
    values = [None, "'; DROP TABLE t; --", b"", [1, 2], (1, 2), [], {"a": 1}, ":a", object()]
    for value in values:
        query = sql("SELECT :value", value=value)
        assert query.text == "SELECT $1"
        assert query.args == (value,)


PIECES = st.lists(
    st.sampled_from(
        [
            *(":", "::", ":=", ":a", ":b", "a", "7", " ", "\n", "[", "]", "(", ")", ",", "'x'", "':a'", '":a"', "--"),
            *("-- :a\n", "/* :a */", "$$:a$$", "E'\\'", "'", "?", "-", "=", "$", "é", "."),
        ]
    )
).map("".join)


@given(PIECES)
def test_nothing_but_names_is_changed(text: str) -> None:
    try:
        found = read_text(text)
    except headrace.InterfaceError:
        reject()
    names = [f":{found.names[index]}" for index in found.indexes]
    assert "".join(part + name for part, name in zip(found.parts, [*names, ""], strict=True)) == text
    assert sum(token.kind is Kind.PARAMETER for token in tokens(found.text)) == len(names)


# -- names that do not fit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "values", "error"),
    [
        ("SELECT :a, :b, :c", {"b": 1}, "no value for the parameters :a, :c"),
        ("SELECT :a", {"a": 1, "b": 2}, "the query does not have the parameter :b"),
        ("SELECT :name", {"nmae": 1}, "no value for the parameter :name; .* not have the parameter :nmae\n.*Is :name"),
        ("SELECT ':a'", {"a": 1}, "not have the parameter :a\nHINT:  Inside a string"),
        ("SELECT x[b:a]", {"a": 1}, "not have the parameter :a\nHINT:  .* touches what stands before it"),
        ("SELECT $1", {"a": 1}, r"the numbered parameter \$1, at character 8\nHINT:  .*:id"),
        ("SELECT :a, $1", {"a": 1}, r"the numbered parameter \$1, at character 12"),
        ("SELECT :a, 'x", {"a": 1}, 'never ends, from character 12: "\'x"'),
        ("SELECT :a /* x", {"a": 1}, "never ends, from character 11"),
        ("SELECT :a$b", {"a": 1}, r"expected to be a Python identifier: :a\$b"),
    ],
)
def test_names_and_values_that_differ(text: str, values: dict[str, Any], error: str) -> None:
    with pytest.raises(headrace.InterfaceError, match=error):
        sql(text, **values)


def test_what_is_no_text() -> None:
    with pytest.raises(TypeError, match=r"sql\(\) expects a str, .* got bytes b'SELECT 1'"):
        sql(b"SELECT 1")  # type: ignore[arg-type]


# -- queries inside queries -----------------------------------------------------------------------------------------


def test_a_query_as_a_value_becomes_part_of_the_text() -> None:
    dear = sql("price > :limit", limit=100)
    query = sql("SELECT * FROM t WHERE :filter AND id = :id LIMIT :limit", filter=dear, id=5, limit=10)
    assert query.text == "SELECT * FROM t WHERE price > $1 AND id = $2 LIMIT $3"
    assert query.args == (100, 5, 10)
    again = sql("(:q) UNION ALL (:q) UNION ALL (:other)", q=query, other=sql("SELECT :id, :x", id=1, x=2))
    assert again.text == (
        "(SELECT * FROM t WHERE price > $1 AND id = $2 LIMIT $3) UNION ALL "
        "(SELECT * FROM t WHERE price > $1 AND id = $2 LIMIT $3) UNION ALL (SELECT $4, $5)"
    )
    assert again.args == (100, 5, 10, 1, 2)


def test_queries_are_joined() -> None:
    conditions = [sql("a = :x", x=1), sql("b"), sql("c = :x OR d = :x", x=2)]
    query = sql("SELECT * FROM t WHERE :where", where=sql(" AND ").join(conditions))
    assert query.text == "SELECT * FROM t WHERE a = $1 AND b AND c = $2 OR d = $2"
    assert query.args == (1, 2)
    assert sql(", ").join([]).text == ""
    assert sql(", ").join(conditions[:1]).text == "a = $1"
    with pytest.raises(headrace.InterfaceError, match="a query is expected, made by sql.*got str 'b'"):
        sql(", ").join(["b"])  # type: ignore[list-item]


def test_a_query_stands_by_itself_wherever_it_is_put() -> None:
    """No token of a query runs into one of its surroundings, and a comment at its end hides nothing."""
    assert sql("SELECT 1 -:x", x=sql("-1")).text == "SELECT 1 - -1"
    assert sql("SELECT :x+1", x=sql("a")).text == "SELECT a +1"
    assert sql("SELECT (:x), f(:x,:x);", x=sql("a")).text == "SELECT (a), f(a,a);"
    assert sql("SELECT * FROM :s.:t", s=identifier("a"), t=identifier("b")).text == 'SELECT * FROM "a"."b"'
    assert sql("SELECT :x, 2", x=sql("1 -- one")).text == "SELECT 1 -- one\n, 2"


def test_values_that_are_lists_of_queries() -> None:
    with pytest.raises(headrace.InterfaceError, match=r"value of :where is a list of queries\nHINT:  .*join"):
        sql("SELECT * FROM t WHERE :where", where=[sql("a"), sql("b")])


def test_a_query_inside_another_has_its_values() -> None:
    with pytest.raises(headrace.InterfaceError, match="no value for the parameter :x of a query inside another"):
        sql("SELECT :q, :a", q=sql(":x"), a=1)


def test_identifiers_are_quoted() -> None:
    order = sql("SELECT * FROM :table ORDER BY :column", table=identifier("public", "user"), column=identifier('a"; b'))
    assert order.text == 'SELECT * FROM "public"."user" ORDER BY "a""; b"'
    assert order.args == ()
    for names in ((), ("",), ("a", "")):
        with pytest.raises(headrace.InterfaceError, match="identifier.. expects the parts of a name"):
            identifier(*names)
    with pytest.raises(headrace.InterfaceError, match="NUL"):
        identifier("a\0b")


# -- in the place of a text -----------------------------------------------------------------------------------------


def test_a_query_in_the_place_of_a_text() -> None:
    assert bound("SELECT $1", (1,)) == ("SELECT $1", (1,))
    assert bound(sql("SELECT :a", a=1), ()) == ("SELECT $1", (1,))

    class Text(str):
        __slots__ = ()

    text, _ = bound(Text("SELECT 1"), ())
    assert type(text) is str
    with pytest.raises(headrace.InterfaceError, match="brings its arguments along: 2 more were passed"):
        bound(sql("SELECT :a", a=1), (1, 2))
    with pytest.raises(headrace.InterfaceError, match=r"no value for the parameters :a, :b\nHINT:  .*a=\.\.\."):
        bound(sql("SELECT :a, :b"), ())
    with pytest.raises(TypeError, match="query is expected to be a str, or what headrace.sql.. returns; got int 5"):
        bound(5, ())


def test_elements_are_mappings_of_names() -> None:
    query = sql("INSERT INTO t VALUES (:a, :b, :a)")
    elements = [{"a": 1, "b": 2}, {"b": 4, "a": 3}]
    text, args = bound_each(query, elements)
    assert text == "INSERT INTO t VALUES ($1, $2, $1)"
    assert list(args) == list(args) == [[1, 2], [3, 4]]
    text, args = bound_each(query, iter(elements))
    assert iter(args) is args
    assert list(args) == [[1, 2], [3, 4]]
    assert bound_each("INSERT", [(1,)]) == ("INSERT", [(1,)])
    with pytest.raises(headrace.InterfaceError, match="each element has arguments of its own"):
        bound_each(sql("SELECT :a", a=1), [])
    with pytest.raises(TypeError, match="query is expected to be a str"):
        bound_each(5, [])


@pytest.mark.parametrize(
    ("element", "error"),
    [
        ((1, 2), r"element #1: expected a mapping, got tuple \(1, 2\)\nHINT:  .* :a, :b"),
        ({"a": 1}, "element #1: no value for the parameter :b"),
        ({"a": 1, "b": 2, "c": 3}, "element #1: the query does not have the parameter :c"),
        ({"a": 1, "c": 3}, "element #1: no value for the parameter :b; the query does not have the parameter :c"),
    ],
)
def test_elements_that_do_not_fit(element: Any, error: str) -> None:
    _, args = bound_each(sql("INSERT INTO t VALUES (:a, :b)"), [{"a": 1, "b": 2}, element])
    with pytest.raises(headrace.DataError, match=error):
        list(args)


def test_its_repr_shows_no_values() -> None:
    assert repr(sql("SELECT :password", password="secret")) == "<Query 'SELECT $1', 1 argument>"
    assert repr(sql("SELECT :a, :b")) == "<Query 'SELECT $1, $2', 2 parameters>"
    assert repr(sql("SELECT 1")) == "<Query 'SELECT 1', 0 arguments>"


# -- template literals ----------------------------------------------------------------------------------------------


@templates
def test_template_literals() -> None:
    query = sql(template("SELECT * FROM t WHERE a = {a} AND b > {b * 2}::int AND c = {a}", a=1, b=2))
    assert query.text == "SELECT * FROM t WHERE a = $1 AND b > $2::int AND c = $1"
    assert query.args == (1, 4)
    assert bound(template("SELECT {a}", a=1), ()) == ("SELECT $1", (1,))
    assert sql(template("SELECT 1")).args == ()


@templates
def test_template_literals_are_cut_once() -> None:
    first, second = (sql(template("SELECT {a} + {b}", a=n, b=n)) for n in (1, 2))
    assert first.text is second.text


@templates
def test_an_expression_is_a_parameter_each_time() -> None:
    numbers = iter((1, 2))
    query = sql(template("SELECT {next(n)}, {next(n)}", n=numbers, next=next))
    assert (query.text, query.args) == ("SELECT $1, $2", (1, 2))


@templates
def test_templates_inside_templates() -> None:
    inner = template("a = {a}", a=1)
    query = sql(template("SELECT * FROM {t} WHERE {q} AND b = {b}", t=identifier("x"), q=inner, b=2))
    assert (query.text, query.args) == ('SELECT * FROM "x" WHERE a = $1 AND b = $2', (1, 2))
    assert sql("SELECT * FROM t WHERE :q", q=inner).text == "SELECT * FROM t WHERE a = $1"
    assert sql(" OR ").join([inner, inner]).text == "a = $1 OR a = $2"


@templates
@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("SELECT '{a}'", r"{a} stands in or at a string or bit string constant: \"'\$1'\""),
        ("SELECT 'x{a}y', {a}", "{a} stands in or at a string or bit string constant"),
        ('SELECT "{a}"', "{a} stands in or at a quoted identifier"),
        ("SELECT 1 -- {a}", "{a} stands in or at a comment"),
        ("SELECT x{a}", "{a} stands in or at a keyword or identifier"),
        ("SELECT {a}x", "{a} stands in or at a parameter"),
        ("SELECT {a}0", "{a} stands in or at a parameter"),
        ("SELECT {a}{a}, $1", r"numbered parameter \$1"),
        ("SELECT {a}, $1", r"the numbered parameter \$1"),
        ("SELECT {a!r}", "{a} has a conversion or format"),
        ("SELECT {a:>5}", "{a} has a conversion or format"),
        ("SELECT {a=}", "{a} has a conversion or format"),
        ("SELECT {a}, 'x", "never ends"),
    ],
)
def test_interpolations_that_are_no_parameters(text: str, error: str) -> None:
    with pytest.raises(headrace.InterfaceError, match=error):
        sql(template(text, a=1))


@templates
def test_a_template_brings_its_values() -> None:
    with pytest.raises(headrace.InterfaceError, match="the parameter :b cannot be passed too"):
        sql(template("SELECT {a}", a=1), b=2)
