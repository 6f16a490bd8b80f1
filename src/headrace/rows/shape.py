"""The shape of a row class: the column of each field, and how objects are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache
from types import FunctionType
from typing import Any, get_origin

from headrace._core.rows.record import Record
from headrace._core.rows.row_plan import (
    AttributePlan,
    CallPlan,
    Columns,
    DictPlan,
    RowPlan,
    RowShape,
    TuplePlan,
)
from headrace.exceptions import InterfaceError
from headrace.exceptions._values import shown
from headrace.rows.fields import Field, Fields, Kind, fields_of

SUPPORTED = "a dataclass, NamedTuple, TypedDict, or a class of attrs, msgspec or pydantic"


def rows_as(row: object, record_class: object = None) -> RowShape | type[Record]:
    """Return the shape of a class given as `row=`, or the class itself if it is a record class.

    Raises InterfaceError for an unsupported class, and if `record_class` was given too.
    """
    if record_class is not None:
        raise InterfaceError("row and record_class cannot both be given: a row becomes one or the other")
    origin = get_origin(row)
    given = row if origin is None else origin  # Page[int] is made by Page
    if not isinstance(given, type):
        raise InterfaceError(f"row is expected to be {SUPPORTED}; got {type(row).__name__} {shown(row)}")
    cls: type[Any] = given
    if issubclass(cls, Record):
        return cls
    return _shape_of(cls)  # type: ignore[arg-type]  # mypy: a class is hashable


def checked_record_class(record_class: object) -> RowShape | type[Record]:
    """Return a record class, or a result of `rows_as()`; raises InterfaceError for anything else."""
    if isinstance(record_class, RowShape):
        return record_class
    if isinstance(record_class, type) and issubclass(record_class, Record):
        # Rows are made in C, which calls neither.
        if record_class.__new__ is not Record.__new__ or record_class.__init__ is not Record.__init__:
            raise InterfaceError(f"record_class must not redefine __new__ or __init__: {shown(record_class)} does")
        return record_class
    raise InterfaceError(
        f"record_class is expected to be a subclass of headrace.Record, got {shown(record_class)}",
        hint="For rows of a class of your own pass row= instead." if isinstance(record_class, type) else None,
    )


@lru_cache(maxsize=256)
def _shape_of(cls: type) -> ClassShape:
    fields = fields_of(cls)
    if fields is None:
        raise InterfaceError(
            f"row is expected to be {SUPPORTED}; got {cls.__module__}.{cls.__qualname__}",
            hint="For the values of one column use fetchval(), or take them out of records.",
        )
    return ClassShape(cls, fields)


class ClassShape(RowShape):
    """Rows as objects of one class. A statement gets its plan from it once."""

    def __init__(self, cls: type, fields: Fields) -> None:
        self.cls = cls
        self.fields = fields
        self._by_column: dict[str, Field] = {}
        for field in fields.fields:
            for alias in field.aliases:
                self._by_column.setdefault(alias, field)
        for field in fields.fields:
            self._by_column.setdefault(field.name, field)
            self._by_column.setdefault(field.keyword, field)

    def __repr__(self) -> str:
        return f"<rows as {self.cls.__qualname__}>"

    def plan(self, columns: Columns) -> RowPlan:
        """Return the plan for rows of these columns; raises InterfaceError if they do not match the fields."""
        sources = self._match(columns.names)
        kind = self.fields.kind
        if kind is Kind.TYPED_DICT:
            return DictPlan(columns, columns.names)
        if len(sources) == len(self.fields.fields) == columns.count:
            if kind is Kind.NAMED_TUPLE and _makes_bare_tuples(self.cls):
                return TuplePlan(columns, self.cls, tuple(sources.values()))
            if _sets_attributes_alone(self.cls, kind):
                names = {field.keyword: field.name for field in self.fields.fields}
                return AttributePlan(columns, self.cls, tuple(map(names.__getitem__, sources)), tuple(sources.values()))
        return self._call(columns, sources)

    def _match(self, names: Sequence[str]) -> dict[str, int]:
        """Return the column of each keyword that has one, in the order of the parameters."""
        found: dict[str, int] = {}
        problems: list[str] = []
        extra: list[str] = []
        for at, name in enumerate(names):
            field = self._by_column.get(name)
            keyword = field.keyword if field is not None else name
            if field is None and not self.fields.takes_any:
                extra.append(name)
            elif keyword in found:
                other = names[found[keyword]]
                both = f"two columns {name}" if other == name else f"the columns {other} and {name}"
                problems.append(f"{both} for the field {field.name if field is not None else name}")
            else:
                found[keyword] = at
        fields = self.fields.fields
        missing = [field for field in fields if field.required and field.keyword not in found]
        if missing:
            problems.append(f"no column for the {_listed('field', [field.name for field in missing])}")
        if extra:
            problems.append(f"no field for the {_listed('column', extra)}")
        if problems:
            wanted = [name for field in missing for name in (field.name, *field.aliases)]
            raise InterfaceError(
                f"rows of this query cannot become {self.cls.__qualname__}: {'; '.join(problems)}",
                hint=self._hint(extra, wanted),
            )
        order = {field.keyword: found.pop(field.keyword) for field in fields if field.keyword in found}
        return order | found

    def _hint(self, extra: list[str], wanted: list[str]) -> str:
        for name in extra:
            if name in self.fields.fixed:
                return f"The field {name} has init=False: rows cannot set it."
        for name in extra:
            for close in get_close_matches(name, wanted, 1):
                return f"Is {name} meant to be {close}? Select it as: {name} AS {close}."
        return "Select a column for each field without a default, by the field's name, and no others."

    def _call(self, columns: Columns, sources: dict[str, int]) -> CallPlan:
        """Plan a call: by position up to the first gap, then by keyword."""
        positional = 0
        for field, keyword in zip(self.fields.fields, sources, strict=False):
            if field.keyword != keyword or not field.positional:
                break
            positional += 1
        keywords = tuple(sources)[positional:]
        return CallPlan(columns, self.cls, tuple(sources.values()), keywords, _plain_init(self.cls))


def _listed(what: str, names: list[str]) -> str:
    return f"{what}{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _plain_init(cls: Any) -> FunctionType | None:
    """Return `__init__` if calling the class means `object.__new__` and this function, else None."""
    init = cls.__init__
    plain = cls.__new__ is object.__new__ and type(cls).__call__ is type.__call__ and isinstance(init, FunctionType)
    return init if plain else None


def _makes_bare_tuples(cls: Any) -> bool:
    """Return whether a NamedTuple is as namedtuple() made it, without `__new__` or `__init__` of a subclass."""
    maker = next(base for base in cls.__mro__ if "_fields" in base.__dict__)
    return bool(
        cls.__new__ is maker.__new__
        and maker.__bases__ == (tuple,)
        and cls.__init__ is object.__init__
        and type(cls).__call__ is type.__call__
    )


def _sets_attributes_alone(cls: Any, kind: Kind) -> bool:
    """Return whether calling a class only sets an attribute for each argument, and setting them directly is quicker.

    It must be the library's own `__init__` that runs, with nothing before, after or in between. For an ordinary
    dataclass without slots, calling `__init__` is the quickest way.
    """
    init = _plain_init(cls)
    if init is None:
        return False
    code = init.__code__
    arguments = code.co_argcount + code.co_kwonlyargcount - 1
    untouched = cls.__setattr__ is object.__setattr__
    if kind is Kind.DATACLASS:
        fields = dataclasses.fields(cls)
        frozen = cls.__dataclass_params__.frozen
        return (
            # dataclasses compiles what it generates inside a function of this name.
            code.co_qualname == "__create_fn__.<locals>.__init__"
            and (frozen or (untouched and "__slots__" in cls.__dict__))
            and not hasattr(cls, "__post_init__")
            and all(field.init for field in fields)
            and arguments == len(fields)
        )
    if kind is Kind.ATTRS:
        attributes = cls.__attrs_attrs__
        return (
            code.co_filename.startswith("<attrs generated")
            and (untouched or cls.__setattr__.__module__ == "attr._make")
            and not hasattr(cls, "__attrs_pre_init__")
            and not hasattr(cls, "__attrs_post_init__")
            and not any("_attrs_cached_hash" in names for names in (code.co_names, code.co_consts))
            and all(each.init and each.validator is None and each.converter is None for each in attributes)
            and arguments == len(attributes)
        )
    return False
