"""What a round trip needs to know of one type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.core.codecs.on_server import literals


def unchanged(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Sample:
    """One type: values to send, the text that a person would write for each, and what comes back of it."""

    name: str
    """Its name in pg_type."""

    values: SearchStrategy[Any]
    literal: literals.Literal = str
    edges: tuple[Any, ...] = ()
    """Values that are always tried."""

    returned: Callable[[Any], Any] = unchanged
    """What comes back of a value where that is another one that means the same: in UTC, or without an exponent."""

    delimiter: str = ","
    """What stands between the elements of an array in its text form."""

    nests: bool = True
    """True if a list in a list is a dimension of an array: not where the type's own values are lists."""

    sql: str = ""
    """The type in SQL, where that is not its name in quotes."""

    def __repr__(self) -> str:
        return self.name

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Keep the report of a failing example short."""
        printer.text(self.name)

    @property
    def type(self) -> str:
        """The type in SQL. In quotes: `bit` and `char` without are bit(1) and another type."""
        return self.sql or f'"{self.name}"'

    @property
    def every(self) -> SearchStrategy[Any]:
        """Random values, the edges among them."""
        return self.values | st.sampled_from(self.edges) if self.edges else self.values

    def renamed(self, name: str) -> Sample:
        """Return the sample for a type of another name with the same values, such as a domain."""
        return replace(self, name=name, sql="")


def array_of(element: Sample) -> Sample:
    """Arrays of a type: of one to three dimensions, with NULLs."""

    def returned(value: Any) -> Any:
        if value is None:
            return None
        if element.nests and type(value) is list:
            return [returned(item) for item in value]
        return element.returned(value)

    items = element.every | st.none()
    values: SearchStrategy[Any] = st.lists(items, max_size=6)
    if element.nests:
        shapes = st.lists(st.integers(1, 3), min_size=2, max_size=3)
        values |= shapes.flatmap(lambda shape: _nested(items, shape))
    return Sample(
        f"{element.name}[]",
        values,
        literals.array_of(element.literal, element.delimiter, nests=element.nests),
        returned=(lambda value: [returned(item) for item in value]),
        nests=False,
        sql=f"{element.type}[]",
    )


def _nested(items: SearchStrategy[Any], shape: list[int]) -> SearchStrategy[Any]:
    """Lists of lists, rectangular, one level for each length in `shape`."""
    for length in reversed(shape):
        items = st.lists(items, min_size=length, max_size=length)
    return items
