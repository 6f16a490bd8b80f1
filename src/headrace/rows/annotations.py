"""Annotations of the fields of row classes, as far as rows depend on them: lists, keys, and what may be None.

They are read only if the columns of a query name a list: all other rows do without them.
"""

from __future__ import annotations

import collections.abc
import inspect
import re
import sys
from types import NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, Final, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

from headrace.exceptions import InterfaceError

if sys.version_info >= (3, 14):
    from annotationlib import Format, get_annotations


class Key:
    """The class of `headrace.key`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "headrace.key"

    def __reduce__(self) -> str:
        return "key"


key: Final = Key()
"""Marks the fields that tell one object with a list from another: `product_id: Annotated[int, headrace.key]`."""

LISTS = frozenset((list, collections.abc.Sequence, collections.abc.MutableSequence, collections.abc.Collection,
                   collections.abc.Iterable))  # fmt: skip

LISTS_BY_NAME = re.compile(r"\b(?:[Ll]ist|(?:Mutable)?Sequence|Collection|Iterable)\s*\[").search
KEY_BY_NAME = re.compile(r"\bkey\b").search
NONE_BY_NAME = re.compile(r"\b(?:None|Optional|Any|object)\b").search


class Unresolved(str):
    """An annotation with a name that does not exist at run time."""

    __slots__ = ()


def annotation_of(cls: type, name: str) -> Any:
    """Return the annotation of a field, `Unresolved` if it has a name that does not exist, or Any without one."""
    model = getattr(cls, "__pydantic_fields__", None)
    if model is not None and name in model:
        # pydantic has resolved it, where it was defined.
        info = model[name]
        return Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    for attribute in getattr(cls, "__attrs_attrs__", ()):
        if attribute.name == name and attribute.type is not None and not isinstance(attribute.type, str):
            return attribute.type
    for base in cls.__mro__:
        given = _annotations(base).get(name)
        if given is None:
            continue
        try:
            return get_type_hints(
                SimpleNamespace(__annotations__={name: given}),
                vars(sys.modules.get(base.__module__, object)) | {base.__name__: base},
                dict(vars(base)),
                include_extras=True,
            )[name]
        except Exception:
            return Unresolved(given if isinstance(given, str) else getattr(given, "__forward_arg__", repr(given)))
    return Any


def _annotations(base: type) -> dict[str, Any]:
    if sys.version_info >= (3, 14):
        return get_annotations(base, format=Format.FORWARDREF)
    return inspect.get_annotations(base)


def element_class(cls: type, name: str) -> type[Any] | None:
    """Return the class of the elements of a field that is a list of objects of one class; None for any other field.

    Raises InterfaceError if the class is known to type checkers alone.
    """
    annotation = annotation_of(cls, name)
    if isinstance(annotation, Unresolved):
        if LISTS_BY_NAME(annotation) is None:
            return None
        raise InterfaceError(
            f"the type of {cls.__qualname__}.{name} is not known at run time: {str(annotation)!r}",
            hint="Define or import the class of the list at the top of the module, and not under TYPE_CHECKING.",
        )
    for choice in _choices(annotation):
        if get_origin(choice) in LISTS:
            (element,) = get_args(choice)
            while get_origin(element) is Annotated:
                element = get_args(element)[0]
            origin = get_origin(element)
            element = element if origin is None else origin
            return element if isinstance(element, type) else None
    return None


def is_key(cls: type, name: str) -> bool:
    """Return whether a field is marked by `headrace.key`; raises InterfaceError if that cannot be known."""
    annotation = annotation_of(cls, name)
    if isinstance(annotation, Unresolved):
        if KEY_BY_NAME(annotation) is None:
            return False
        raise InterfaceError(
            f"the type of {cls.__qualname__}.{name} is not known at run time: {str(annotation)!r}",
            hint="Import its names at the top of the module, and not under TYPE_CHECKING.",
        )
    return get_origin(annotation) is Annotated and any(each is key for each in annotation.__metadata__)


def may_be_none(cls: type, name: str) -> bool:
    """Return whether None is a value of a field by its annotation."""
    annotation = annotation_of(cls, name)
    if isinstance(annotation, Unresolved):
        return NONE_BY_NAME(annotation) is not None
    return any(
        choice in (None, NoneType, Any, object) or isinstance(choice, TypeVar) for choice in _choices(annotation)
    )


def _choices(annotation: Any) -> list[Any]:
    """Return the members of a union, or the one type, without what Annotated, NewType and aliases add."""
    origin = get_origin(annotation)
    if origin is Annotated or str(origin) in ("typing.Required", "typing.NotRequired", "typing.ReadOnly"):
        return _choices(get_args(annotation)[0])
    if origin is Union or origin is UnionType:
        return [choice for member in get_args(annotation) for choice in _choices(member)]
    if isinstance(annotation, NewType):
        return _choices(annotation.__supertype__)
    if hasattr(annotation, "__value__"):  # type Name = ...
        return _choices(annotation.__value__)
    return [annotation]
