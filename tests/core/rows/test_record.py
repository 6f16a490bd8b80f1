"""Records in pickles and copies: the keys and values stay, in processes without a connection too."""

from __future__ import annotations

import copy
import datetime
import pickle
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest

from headrace import Record
from headrace._core.rows.record import make_record
from headrace.types import BitString, Box, Point, Range

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class Named(Record):
    """A record class with attributes."""

    note: str

    def shout(self) -> str:
        return str(self["a"]).upper()


def record(**values: Any) -> Record:
    return make_record(Record, tuple(values), tuple(values.values()))


def same(first: Record, second: Record) -> bool:
    return type(first) is type(second) and list(first.items()) == list(second.items()) and repr(first) == repr(second)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_keys_and_values_come_out_of_a_pickle(protocol: int) -> None:
    row = record(a=1, b="zwei", c=None, d=[1, [2]], e=Decimal("1.50"), f=datetime.date(2024, 2, 29))
    again = pickle.loads(pickle.dumps(row, protocol))
    assert same(row, again)
    assert again["b"] == again[1] == again.get("b") == "zwei"
    assert hash(record(a=1)) == hash(pickle.loads(pickle.dumps(record(a=1), protocol)))


def test_no_column_and_columns_of_one_name() -> None:
    for row in (record(), make_record(Record, ("x", "y", "x"), (1, 2, 3))):
        for again in (pickle.loads(pickle.dumps(row)), copy.copy(row), copy.deepcopy(row)):
            assert same(row, again)
    assert pickle.loads(pickle.dumps(make_record(Record, ("x", "x"), (1, 2))))["x"] == 2


def test_values_of_types_that_are_headraces_own() -> None:
    inner = record(p=Point(1, 2), q=Range(1, 5, upper_inc=True))
    row = record(
        inner=inner, rows=[inner, None], bits=BitString("101"), box=Box((1, 2), (0, 0)), empty=Range(empty=True)
    )
    for again in (pickle.loads(pickle.dumps(row)), copy.deepcopy(row)):
        assert same(row, again)
        assert same(inner, again["inner"])


@pytest.mark.parametrize("protocol", PROTOCOLS[2:])
def test_a_subclass_keeps_its_class_and_attributes(protocol: int) -> None:
    named = make_record(Named, ("a",), ("x",))
    named.note = "remark"
    for again in (pickle.loads(pickle.dumps(named, protocol)), copy.copy(named), copy.deepcopy(named)):
        assert same(named, again)
        assert again.note == "remark"
    assert pickle.loads(pickle.dumps(named, protocol)).shout() == "X"


def test_a_copy_is_shallow_or_deep() -> None:
    row = record(a=[1])
    assert copy.copy(row)["a"] is row["a"]
    deep = copy.deepcopy(row)
    assert deep["a"] == [1]
    assert deep["a"] is not row["a"]


def test_the_names_of_many_rows_are_pickled_once() -> None:
    names = ("a_column_with_a_long_name", "another_column_with_a_long_name")
    first = make_record(Record, names, (1, 2))
    rows = [copy.copy(first) for _ in range(100)]
    assert pickle.dumps(rows).count(b"another_column_with_a_long_name") == 1
    assert pickle.loads(pickle.dumps(rows)) == rows


def test_another_process_needs_no_connection() -> None:
    code = "import pickle, sys; row = pickle.load(sys.stdin.buffer); print(repr(row), type(row))"
    data = pickle.dumps(record(a=1, b=record(c=Range(1, 2))))
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert done.stdout.decode().split("\n")[0] == ("<Record a=1 b=<Record c=<Range [1, 2)>>> <class 'headrace.Record'>")


def test_a_form_of_another_version_is_refused() -> None:
    with pytest.raises(
        pickle.UnpicklingError, match=r"by another version of headrace, in form 2: this version reads form 1"
    ):
        Record._from_pickle(2, "something", "else", "altogether")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "args",
    [
        (),
        (1,),
        (1, (("a",), {"a": 0}), [1]),
        (1, (("a",), {"a": 0}), (1, 2)),
        (1, (("a", "b"), {"a": 0}), (1,)),
        (1, ((1,), {"a": 0}), (1,)),
        (1, (["a"], {"a": 0}), (1,)),
        (1, (("a",), [("a", 0)]), (1,)),
        (1, (("a",),), (1,)),
        (1, None, (1,)),
        ("1", (("a",), {"a": 0}), (1,)),
        (10**30, (("a",), {"a": 0}), (1,)),
    ],
)
def test_a_damaged_pickle_is_refused(args: tuple[Any, ...]) -> None:
    with pytest.raises(pickle.UnpicklingError):
        Record._from_pickle(*args)  # type: ignore[attr-defined]


def test_a_damaged_index_raises_where_it_is_used() -> None:
    row = Record._from_pickle(1, (("a",), {"a": 7, "b": "x"}), (1,))  # type: ignore[attr-defined]
    with pytest.raises(IndexError):
        row["a"]
    with pytest.raises(TypeError):
        row["b"]
