"""The fields of a class: the parameters of its constructor, and the column names that match them.

Supported are dataclasses, NamedTuples, TypedDicts, and classes of attrs, msgspec and pydantic. The last three are
recognised by attributes of their classes; none of these libraries is imported here.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from dataclasses import dataclass
from enum import Enum
from typing import Any, NotRequired, Required, get_origin, get_type_hints

from headrace.exceptions import InterfaceError
from headrace.exceptions._values import shown

if sys.version_info >= (3, 14):
    from annotationlib import Format

    # Types are not needed here, and their names may exist only for type checkers.
    SIGNATURE: dict[str, Any] = {"annotation_format": Format.STRING}
else:
    SIGNATURE: dict[str, Any] = {}

NO_NAMES: tuple[str, ...] = ()


class Kind(Enum):
    """The library, or part of it, that defines a class."""

    DATACLASS = "dataclass"
    NAMED_TUPLE = "NamedTuple"
    TYPED_DICT = "TypedDict"
    ATTRS = "attrs class"
    MSGSPEC = "msgspec.Struct"
    PYDANTIC = "pydantic class"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a class.

    name: the attribute, or the key of a TypedDict. keyword: the parameter of the constructor. A column of either name
    matches the field, and so do `aliases`, which are tried first. required: a row must have the field. positional: it
    can be passed by position.
    """

    name: str
    keyword: str
    aliases: tuple[str, ...] = NO_NAMES
    required: bool = True
    positional: bool = True


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a class, in the order of its parameters.

    takes_any: the constructor accepts keywords of any name, so additional columns are allowed. fixed: attributes that
    a row cannot set (init=False).
    """

    kind: Kind
    fields: tuple[Field, ...]
    takes_any: bool = False
    fixed: frozenset[str] = frozenset()


def fields_of(cls: type) -> Fields | None:
    """Return the fields of a class, or None if the class is of no supported kind.

    Raises InterfaceError for a column name that is not a str.
    """
    if hasattr(cls, "__pydantic_validator__"):  # a model, or a dataclass of pydantic's
        return _pydantic(cls)
    if hasattr(cls, "__attrs_attrs__"):
        return _attrs(cls)
    if hasattr(cls, "__struct_fields__") and hasattr(cls, "__struct_encode_fields__"):
        return _msgspec(cls)
    if dataclasses.is_dataclass(cls):
        return _dataclass(cls)
    if issubclass(cls, tuple):
        return _named_tuple(cls) if hasattr(cls, "_fields") and hasattr(cls, "_field_defaults") else None
    if issubclass(cls, dict) and hasattr(cls, "__required_keys__") and hasattr(cls, "__total__"):
        return _typed_dict(cls)
    return None


def _called(cls: type, kind: Kind, names: dict[str, str], aliases: dict[str, Any], fixed: frozenset[str]) -> Fields:
    """Return the fields of a class from the signature of its constructor.

    `names` has the attribute of each parameter with another name, `aliases` the column names by parameter.
    """
    fields = []
    takes_any = False
    for parameter in inspect.signature(cls, **SIGNATURE).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            takes_any = True
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            keyword = parameter.name
            field = Field(
                name=names.get(keyword, keyword),
                keyword=keyword,
                aliases=_column_names(cls, keyword, aliases.get(keyword)),
                required=parameter.default is parameter.empty,
                positional=parameter.kind is not parameter.KEYWORD_ONLY,
            )
            fields.append(field)
    return Fields(kind, tuple(fields), takes_any, fixed)


def _column_names(cls: type, field: str, given: Any) -> tuple[str, ...]:
    if given is None:
        return NO_NAMES
    names = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, (tuple, list)) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise InterfaceError(
            f"the column of {cls.__qualname__}.{field} is expected to be a name or a tuple of names, "
            f"got {shown(given)}",
            hint='Write field(metadata={"column": "name_of_the_column"}).',
        )
    return names


def _dataclass(cls: Any) -> Fields:
    fields = dataclasses.fields(cls)
    aliases = {field.name: field.metadata.get("column") for field in fields}
    return _called(cls, Kind.DATACLASS, {}, aliases, frozenset(field.name for field in fields if not field.init))


def _attrs(cls: Any) -> Fields:
    names: dict[str, str] = {}
    aliases: dict[str, Any] = {}
    for attribute in cls.__attrs_attrs__:
        # A private attribute is passed under its public name.
        keyword = getattr(attribute, "alias", None) or attribute.name.lstrip("_")
        names[keyword] = attribute.name
        aliases[keyword] = attribute.metadata.get("column")
    fixed = frozenset(attribute.name for attribute in cls.__attrs_attrs__ if not attribute.init)
    return _called(cls, Kind.ATTRS, names, aliases, fixed)


def _msgspec(cls: Any) -> Fields:
    pairs = zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True)
    aliases = {name: encoded for name, encoded in pairs if name != encoded}
    return _called(cls, Kind.MSGSPEC, {}, aliases, frozenset())


def _named_tuple(cls: Any) -> Fields:
    fields = tuple(Field(name, name, required=name not in cls._field_defaults) for name in cls._fields)
    return Fields(Kind.NAMED_TUPLE, fields)


def _typed_dict(cls: Any) -> Fields:
    required = set(cls.__required_keys__)
    try:
        # If annotations are strings, the class itself does not see NotRequired in them.
        hints = get_type_hints(cls, include_extras=True)
    except Exception:  # a name that exists only for type checkers
        hints = {}
    for name, hint in hints.items():
        if get_origin(hint) is NotRequired:
            required.discard(name)
        elif get_origin(hint) is Required:
            required.add(name)
    keys = dict.fromkeys((*hints, *sorted(cls.__required_keys__ | cls.__optional_keys__)))
    return Fields(Kind.TYPED_DICT, tuple(Field(key, key, required=key in required) for key in keys))


def _pydantic(cls: Any) -> Fields:
    model = getattr(cls, "__pydantic_fields__", None)
    if model is None:  # before pydantic 2.10
        model = cls.model_fields
    config = getattr(cls, "model_config", None) or getattr(cls, "__pydantic_config__", None) or {}
    by_alias = config.get("validate_by_alias", True)
    by_name = config.get("validate_by_name", False) or config.get("populate_by_name", False)
    fields = []
    fixed = set()
    for name, info in model.items():
        if getattr(info, "init", None) is False:
            fixed.add(name)
            continue
        aliases = _pydantic_aliases(info) if by_alias else NO_NAMES
        keyword = name if not aliases or by_name else aliases[0]
        fields.append(Field(name, keyword, aliases, info.is_required(), positional=False))
    return Fields(Kind.PYDANTIC, tuple(fields), config.get("extra") == "allow", frozenset(fixed))


def _pydantic_aliases(info: Any) -> tuple[str, ...]:
    alias = info.validation_alias if info.validation_alias is not None else info.alias
    # AliasChoices has several. An AliasPath leads into a value and is not a column name.
    choices = getattr(alias, "choices", (alias,))
    return tuple(choice for choice in choices if isinstance(choice, str))
