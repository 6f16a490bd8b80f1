"""Hints for mistakes with parameters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._sql.hints.arguments import Parameter, argument_hint
from headrace._sql.hints.server import server_error


class TestHints:
    """For a list where `IN` takes single values."""

    @staticmethod
    def hint(query: str, near: str, **fields: str) -> str | None:
        """Return the hint for a syntax error at the first `near` in the query."""
        return server_error({"C": "42601", "P": str(query.index(near) + 1)} | fields, query).hint

    @staticmethod
    def argument_hint(query: str, number: int, pg_type: str, value: object) -> str:
        """Return the hint for an argument that does not fit its parameter."""
        return argument_hint(query, Parameter(number, pg_type, "pg_catalog", "int"), value)

    @pytest.mark.parametrize(
        ("query", "near", "cure"),
        [
            ("select 1 where a in $1", "$1", '"= ANY($1)" instead of "IN $1"'),
            ("select 'in $2' where a IN /* list */ $1", "$1", '"= ANY($1)" instead of "IN $1"'),
            ("select 'in $2' where a IN /* list */ $1", "$2", None),
            ("select a from t where b not in $3", "$3", '"<> ALL($3)" instead of "NOT IN $3"'),
            ("select a from t where b = any $1", "$1", '"ANY($1)"'),
            ("select a from t where b in any($1)", "any", '"= ANY($1)", without "IN"'),
            ("select a from t where b in (1) limit limit", "limit limit", None),
            ("select a fron $1", "$1", None),
        ],
    )
    def test_a_syntax_error_at_the_parameter_says_what_to_write(self, query: str, near: str, cure: str | None) -> None:
        hint = self.hint(query, near)
        if cure is None:
            assert hint is None
        else:
            assert cure in (hint or "")

    def test_the_position_counts_characters(self) -> None:
        query = "select 'häkchen', '✓' where a in $1"
        assert "= ANY($1)" in (self.hint(query, "$1") or "")

    def test_without_a_position_the_place_is_looked_for(self) -> None:
        hint = server_error({"C": "42601"}, "select 'in $1' where a in $2").hint
        assert "= ANY($2)" in (hint or "")

    def test_the_hint_of_the_server_comes_first(self) -> None:
        assert self.hint("select 1 where a in $1", "$1", H="Look again.") == "Look again."

    def test_an_error_in_a_query_of_the_server_gets_none(self) -> None:
        assert self.hint("select 1 where a in $1", "$1", q="select 2") is None

    @pytest.mark.parametrize("value", [[1, 2], (1, 2), {1, 2}, frozenset([1]), range(3), {1: 2}.keys()], ids=repr)
    def test_a_list_for_one_value_says_what_to_write(self, value: object) -> None:
        hint = self.argument_hint("select a from t where b in ($1)", 1, "integer", value)
        assert hint == (
            f'Use "= ANY($1)" instead of "IN ($1)" to pass a {type(value).__name__}: '
            "$1 is then one parameter of type integer[]."
        )

    def test_not_in_has_a_form_of_its_own(self) -> None:
        hint = self.argument_hint("select a from t where b not in (0, $2)", 2, "text", ["a"])
        assert "<> ALL($2)" in (hint or "")

    @pytest.mark.parametrize(
        ("query", "pg_type", "value"),
        [
            ("select a from t where b in ($1)", "integer", "text"),
            ("select a from t where b in ($1)", "integer", b"bytes"),
            ("select a from t where b in ($1)", "integer[]", [1]),
            ("select a from t where b in ($1)", "_int4", [1]),
            ("select a from t where b in ($2)", "integer", [1]),
            ("select a from t where b in ($11)", "integer", [1]),
            ("select a from t where b = $1", "integer", [1]),
            ("select a from t where b in (f($1))", "integer", [1]),
            ("select a from t where b in (select c from u where d = $1)", "integer", [1]),
            ("select $1, 'b in ($1)' -- in ($1)", "integer", [1]),
        ],
    )
    def test_elsewhere_it_is_about_something_else(self, query: str, pg_type: str, value: object) -> None:
        assert "instead of" not in self.argument_hint(query, 1, pg_type, value)

    @given(st.text(), st.integers(), st.text())
    def test_no_text_makes_it_raise(self, query: str, index: int, pg_type: str) -> None:
        self.argument_hint(query, index, pg_type, [])
