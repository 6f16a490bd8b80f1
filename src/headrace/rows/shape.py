"""The shape of a row class: the column of each field, and how objects are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from types import FunctionType
from typing import Any, get_origin

from headrace._core.rows.nested_rows import NestedPlan
from headrace._core.rows.record import Record
from headrace._core.rows.row_plan import (
    AttributePlan,
    CallPlan,
    Columns,
    DictPlan,
    ObjectPlan,
    RowPlan,
    RowShape,
    TuplePlan,
)
from headrace.exceptions import InterfaceError
from headrace.exceptions._values import shown
from headrace.rows.annotations import element_class, is_key, may_be_none
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
        """Return the plan for rows of these columns.

        Raises InterfaceError if they do not match the fields, and TypeError for a list whose elements may all be NULL.
        """
        lists = self._lists(columns.names)
        return self._nested(columns, lists) if lists else self._flat(columns)

    def _flat(self, columns: Columns, prefix: str = "") -> ObjectPlan:
        """Return the plan for one object a row. The columns have lost the `prefix` that names them in errors."""
        sources = self._match(columns.names, prefix)
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

    def _lists(self, names: Iterable[str]) -> dict[Field, List]:
        """Return the lists that columns such as `skus__sku_id` fill, by their fields."""
        lists: dict[Field, List] = {}
        for at, name in enumerate(names):
            end = -1 if name in self._by_column else name.find("__", 1)
            while end > 0:
                field = self._by_column.get(name[:end])
                if field is not None and end + 2 < len(name):
                    if field not in lists:
                        element = element_class(self.cls, field.name)
                        fields = None if element is None else fields_of(element)
                        if element is None or fields is None:
                            break
                        lists[field] = List(name[:end], _shape_of(element), [], [])  # type: ignore[arg-type]
                    lists[field].positions.append(at)
                    lists[field].names.append(name[end + 2 :])
                    break
                end = name.find("__", end + 1)
        return lists

    def _nested(self, columns: Columns, lists: dict[Field, List]) -> NestedPlan:
        """Plan objects with a list: several rows become one of them."""
        cls = self.cls.__qualname__
        names = columns.names
        cannot = f"rows of this query cannot become {cls}"
        if len(lists) > 1:
            raise InterfaceError(
                f"{cannot}: there are columns for {len(lists)} lists, {' and '.join(field.name for field in lists)}",
                hint="A join has each element of one list with each of the other: ask for one in another query.",
            )
        ((field, found),) = lists.items()
        for name in names:
            if self._by_column.get(name) is field:
                raise InterfaceError(f"{cannot}: the column {name} and columns {found.prefix}__... are for one field")
        prefix = f"{found.prefix}__"
        shape = found.shape
        inner = Columns(tuple(found.names), tuple(columns.codecs[at] for at in found.positions))
        for deeper in shape._lists(found.names):
            raise InterfaceError(
                f"{cannot}: {shape.cls.__qualname__}.{deeper.name} is a list inside of the list {field.name}",
                hint="One query fills one list. Ask for the other one by another query.",
            )
        element = shape._flat(inner, prefix)
        outer = [at for at in range(columns.count) if at not in found.positions]
        # The list is passed as the value of a column behind the others. Nothing is decoded by the codec of that.
        parent = self._flat(
            Columns(
                (*(names[at] for at in outer), found.prefix), (*(columns.codecs[at] for at in outer), inner.codecs[0])
            )
        )
        required = [at for at, name in zip(found.positions, found.names, strict=True) if shape._is_required(name)]
        if not required:
            raise TypeError(
                f"{cannot}: all fields of {shape.cls.__qualname__} that have a column may be None, so a row without an "
                f"element of {field.name} looks like any other: one field, such as its id, is expected to be of a type "
                "without None"
            )
        return NestedPlan(
            columns,
            parent,
            element,
            tuple(outer),
            tuple(found.positions),
            self._key(names, outer),
            tuple(required),
            cls,
        )

    def _is_required(self, column: str) -> bool:
        """Return whether a column cannot be NULL by the annotation of its field."""
        field = self._by_column.get(column)
        return field is not None and not may_be_none(self.cls, field.name)

    def _key(self, names: Sequence[str], outer: list[int]) -> tuple[int, ...]:
        """Return the columns in which all rows of one object agree."""
        keys = [field for field in self.fields.fields if is_key(self.cls, field.name)]
        if not keys:
            return tuple(outer)
        found = {field: at for at in outer if (field := self._by_column.get(names[at])) in keys}
        missing = [field.name for field in keys if field not in found]
        if missing:
            raise InterfaceError(
                f"rows of this query cannot become {self.cls.__qualname__}: no column for the "
                f"{_listed('field', missing)}, marked as headrace.key",
            )
        return tuple(found.values())

    def _match(self, names: Sequence[str], prefix: str = "") -> dict[str, int]:
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
                both = (
                    f"two columns {prefix}{name}"
                    if other == name
                    else f"the columns {prefix}{other} and {prefix}{name}"
                )
                problems.append(f"{both} for the field {field.name if field is not None else name}")
            else:
                found[keyword] = at
        fields = self.fields.fields
        missing = [field for field in fields if field.required and field.keyword not in found]
        if missing:
            problems.append(f"no column for the {_listed('field', [field.name for field in missing])}")
        if extra:
            problems.append(f"no field for the {_listed('column', [prefix + name for name in extra])}")
        if problems:
            wanted = [name for field in missing for name in (field.name, *field.aliases)]
            raise InterfaceError(
                f"rows of this query cannot become {self.cls.__qualname__}: {'; '.join(problems)}",
                hint=self._hint(extra, wanted, missing, prefix),
            )
        order = {field.keyword: found.pop(field.keyword) for field in fields if field.keyword in found}
        return order | found

    def _hint(self, extra: list[str], wanted: list[str], missing: list[Field], prefix: str) -> str:
        for name in extra:
            if name in self.fields.fixed:
                return f"The field {name} has init=False: rows cannot set it."
        for name in extra:
            for close in get_close_matches(name, wanted, 1):
                return (
                    f"Is {prefix}{name} meant to be {prefix}{close}? Select it as: {prefix}{name} AS {prefix}{close}."
                )
        for field in missing:
            if not prefix and (element := _element(self.cls, field)) is not None:
                return (
                    f"The list {field.name} is filled by columns that are named for the fields of "
                    f"{element.__qualname__}, such as: AS {field.name}__{next(iter(_shape_of(element)._by_column))}."  # type: ignore[arg-type]
                )
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


def one_object_a_row(rows: RowShape | type[Record]) -> RowShape | type[Record]:
    """Return the class of rows where each row is expected to become one object: lists are refused."""
    return OneObjectARow(rows) if isinstance(rows, RowShape) else rows


class OneObjectARow(RowShape):
    """The shape of rows if each must become one object."""

    def __init__(self, shape: RowShape) -> None:
        self._shape = shape

    def plan(self, columns: Columns) -> RowPlan:
        """Return the plan for rows of these columns; raises InterfaceError if several rows may become one object."""
        plan = self._shape.plan(columns)
        if plan.grouped:
            raise InterfaceError("objects with lists are not expected here: each row is a result of its own")
        return plan


@dataclass
class List:
    """The columns that fill a list: its name, and the names behind it."""

    prefix: str
    shape: ClassShape
    positions: list[int]
    names: list[str]


def _element(cls: type, field: Field) -> type[Any] | None:
    """Return the class of the elements of a field, if columns can fill it as a list."""
    try:
        element = element_class(cls, field.name)
        return element if element is not None and fields_of(element) is not None else None
    except InterfaceError:
        return None


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
