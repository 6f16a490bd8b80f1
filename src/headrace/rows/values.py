"""The class that a single value is expected to have: `fetchval(type=...)`."""

from __future__ import annotations

from decimal import Decimal
from types import UnionType
from typing import Annotated, Any, NewType, get_origin, is_typeddict
from uuid import UUID

from headrace.exceptions import InterfaceError
from headrace.exceptions._values import shown

SQL_TYPES: dict[type[Any], str] = {
    bool: "boolean",
    int: "bigint",
    float: "double precision",
    Decimal: "numeric",
    str: "text",
    bytes: "bytea",
    UUID: "uuid",
}
"""The SQL type to cast to for a value of a class."""


def value_class(given: object) -> type[Any]:
    """Return the class whose instances are expected: list for `list[int]`, int for a NewType of int.

    Raises InterfaceError for anything that isinstance() cannot check, and for a union.
    """
    cls = given
    while isinstance(cls, NewType):
        cls = cls.__supertype__
    origin = get_origin(cls)
    if origin not in (None, Annotated, UnionType):
        cls = origin
    if is_typeddict(cls):
        return dict
    if isinstance(cls, type):
        try:
            isinstance(None, cls)
        except TypeError:
            pass  # such as Any, or a protocol
        else:
            return cls
    raise InterfaceError(f"type is expected to be a class, such as int or list[str], got {shown(given)}")


def checked_value(value: Any, cls: type[Any]) -> Any:
    """Return a value of the class, or None; raises InterfaceError for a value of another class."""
    if value is None or isinstance(value, cls):
        return value
    got = type(value).__qualname__
    wanted = SQL_TYPES.get(cls)
    raise InterfaceError(
        f"the value is expected to be of type {cls.__qualname__}, got {got} {shown(value)}",
        hint=f"Cast the column to {wanted} in the query, or pass type={got}." if wanted else f"Pass type={got}.",
    )
