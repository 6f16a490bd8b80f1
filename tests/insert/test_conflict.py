"""The arguments about conflicts, and the clause that they make."""

from __future__ import annotations

from typing import Any

import pytest

import headrace
from headrace.insert.conflict import Conflict


def conflict(on_conflict: Any = None, **arguments: Any) -> Conflict:
    given = {"update": None, "constraint": None, "where": None, "on_duplicate": "last", **arguments}
    return Conflict(on_conflict, **given)


UPDATE = ' DO UPDATE SET "v" = EXCLUDED."v"'


@pytest.mark.parametrize(
    ("made", "clause"),
    [
        (conflict(), ""),
        (conflict("ignore"), " ON CONFLICT DO NOTHING"),
        (conflict("ignore", constraint="a b"), ' ON CONFLICT ON CONSTRAINT "a b" DO NOTHING'),
        (conflict(("ignore", ["k"])), ' ON CONFLICT ("k") DO NOTHING'),
        (conflict(("update", ["k"])), ' ON CONFLICT ("k") DO UPDATE SET "v" = EXCLUDED."v"'),
        (conflict(["update", iter(["k"])]), ' ON CONFLICT ("k") DO UPDATE SET "v" = EXCLUDED."v"'),
        (conflict(("update", ["k", "v"])), ' ON CONFLICT ("k", "v") DO NOTHING'),
        (conflict(("update", ['"'])), ' ON CONFLICT ("""") DO UPDATE SET "k" = EXCLUDED."k", "v" = EXCLUDED."v"'),
        (conflict(("update", ["k"]), where="v > 0 --"), ' ON CONFLICT ("k") WHERE (v > 0 --\n)' + UPDATE),
        (conflict("update", constraint="c", update=["v"]), ' ON CONFLICT ON CONSTRAINT "c"' + UPDATE),
        (conflict(("update", ["k"]), update={"n": "t.n + 1"}), ' ON CONFLICT ("k") DO UPDATE SET "n" = (t.n + 1\n)'),
    ],
)  # fmt: skip
def test_clause(made: Conflict, clause: str) -> None:
    assert made.clause(["k", "v"]) == clause


@pytest.mark.parametrize(
    ("on_conflict", "arguments", "message"),
    [
        ("replace", {}, 'on_conflict is expected to be "ignore"'),
        (("update",), {}, "on_conflict is expected to be"),
        (("update", "id"), {}, "list of column names, got str 'id'"),
        (("update", []), {}, "got no columns"),
        (("update", [1]), {}, "a name in on_conflict is expected to be a str, got int 1"),
        ("update", {}, "needs the columns of a unique index"),
        (None, {"update": ["v"]}, "update needs on_conflict"),
        (None, {"constraint": "c"}, "constraint needs on_conflict"),
        (None, {"where": "v > 0"}, "where needs on_conflict"),
        ("ignore", {"where": "v > 0"}, "where needs columns in on_conflict"),
        ("ignore", {"update": ["v"]}, "not with 'ignore'"),
        (("update", ["k"]), {"constraint": "c"}, "cannot both be given"),
        (("update", ["k"]), {"update": []}, "at least one column"),
        (("update", ["k"]), {"update": "v"}, "list of column names, got str 'v'"),
        (("update", ["k"]), {"update": {"v": 1}}, "is expected to be a str, got int 1"),
        (("update", ["k"]), {"on_duplicate": "first"}, "on_duplicate is expected to be 'last' or 'error'"),
        ("ignore", {"on_duplicate": "error"}, "on_duplicate='error' goes with"),
    ],
)
def test_arguments_that_do_not_go_together(on_conflict: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(headrace.InterfaceError, match=message):
        conflict(on_conflict, **arguments)
