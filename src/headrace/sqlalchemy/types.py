"""SQLAlchemy's types as headrace takes and gives their values.

A parameter gets its type by a cast in the statement (`$1::INTEGER`), because PostgreSQL cannot always tell it.
"""

from __future__ import annotations

import decimal
from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import types as sqltypes
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.dialects.postgresql import base, json, ranges

from headrace.types import BitString, Range

FLOATS: Final = frozenset({700, 701, 1021, 1022})
"""The OIDs of float4, float8 and their arrays."""

Processor = Any
"""A function of one value, or None. SQLAlchemy's own annotations of it differ between its versions."""


def cast(cls: type[Any]) -> type[Any]:
    """Return a subclass of a type whose parameters are cast."""
    return type(f"Cast{cls.__name__}", (cls,), {"render_bind_cast": True, "__module__": __name__})


class CastInterval(pg.INTERVAL):
    """Interval, whether it was written as SQLAlchemy's type or as PostgreSQL's."""

    render_bind_cast = True

    @classmethod
    def adapt_emulated_to_native(cls, interval: Any, **kw: Any) -> CastInterval:  # type: ignore[override]
        """Return this type for SQLAlchemy's Interval."""
        return cls(precision=interval.second_precision)


class DecodedJSON(pg.JSON):
    """JSON, which headrace has parsed already."""

    def result_processor(self, dialect: Any, coltype: Any) -> Processor:
        """Return None."""
        return None


class DecodedJSONB(pg.JSONB):
    """JSONB, which headrace has parsed already."""

    def result_processor(self, dialect: Any, coltype: Any) -> Processor:
        """Return None."""
        return None


class CastJSONIntIndex(sqltypes.JSON.JSONIntIndexType):
    """The position of an element in a JSON document."""

    __visit_name__ = "json_int_index"
    render_bind_cast = True


class CastJSONStrIndex(sqltypes.JSON.JSONStrIndexType):
    """The key of an element in a JSON document."""

    __visit_name__ = "json_str_index"
    render_bind_cast = True


class JSONPath(json.JSONPathType):
    """A path into a JSON document: an array of texts for the server, unless it is written as a text already."""

    def bind_processor(self, dialect: Any) -> Processor:
        """Return the function for parameters."""

        def process(value: Any) -> Any:
            return value if isinstance(value, str) else [str(step) for step in value or ()]

        return process


class _Number:
    """The base of Numeric and Float. headrace gives Decimal for numeric, and float for floats."""

    render_bind_cast = True
    asdecimal: bool
    _effective_decimal_return_scale: int

    def bind_processor(self, dialect: Any) -> Processor:
        """Return None: headrace takes int, float and Decimal."""
        return None

    def result_processor(self, dialect: Any, coltype: Any) -> Processor:
        """Return the function that makes a Decimal of a float, or a float of a Decimal."""
        if not self.asdecimal:
            return None if coltype in FLOATS else lambda value: None if value is None else float(value)
        if coltype not in FLOATS:
            return None
        template = f"%.{self._effective_decimal_return_scale}f"
        return lambda value: None if value is None else decimal.Decimal(template % value)


class CastNumeric(_Number, sqltypes.Numeric):  # type: ignore[type-arg]
    """Numeric."""


class CastFloat(_Number, sqltypes.Float):  # type: ignore[type-arg]
    """Float, Double and REAL."""


class CastBit(pg.BIT):
    """BIT and BIT VARYING."""

    render_bind_cast = True

    def bind_processor(self, dialect: Any) -> Processor:
        """Return the function that makes headrace's BitString of a text of 0 and 1, or of SQLAlchemy's BitString."""

        def process(value: Any) -> Any:
            return BitString(str(value)) if isinstance(value, str) else value

        return process

    def result_processor(self, dialect: Any, coltype: Any) -> Processor:
        """Return the function that makes SQLAlchemy's BitString, which SQLAlchemy 2.0 does not have."""
        own = getattr(pg, "BitString", None)
        if own is None:
            return None
        return lambda value: None if value is None else own.from_int(value.to_int(), length=len(value))


def range_to_bind(value: Any) -> Any:
    """Return headrace's Range for SQLAlchemy's; anything else as it is."""
    if not isinstance(value, ranges.Range):
        return value
    lower_inc, upper_inc = value.bounds[0] == "[", value.bounds[1] == "]"
    return Range(value.lower, value.upper, lower_inc=lower_inc, upper_inc=upper_inc, empty=value.empty)


def range_of_result(value: Any) -> Any:
    """Return SQLAlchemy's Range for headrace's."""
    if value is None:
        return None
    if value.isempty:
        return ranges.Range(empty=True)
    bounds: Any = f"{'[' if value.lower_inc else '('}{']' if value.upper_inc else ')'}"
    return ranges.Range(value.lower, value.upper, bounds=bounds)


class RangeType(ranges.AbstractSingleRangeImpl[Any]):
    """The range types."""

    def bind_processor(self, dialect: Any) -> Processor:
        """Return the function for parameters."""
        return range_to_bind

    def result_processor(self, dialect: Any, coltype: Any) -> Processor:
        """Return the function for results."""
        return range_of_result


class MultirangeType(ranges.AbstractMultiRangeImpl[Any]):
    """The multirange types."""

    def bind_processor(self, dialect: Any) -> Processor:
        """Return the function for parameters, which takes texts and None as they are."""

        def process(value: str | Iterable[Any] | None) -> Any:
            return value if value is None or isinstance(value, str) else [range_to_bind(each) for each in value]

        return process

    def result_processor(self, dialect: Any, coltype: Any) -> Processor:
        """Return the function for results."""
        return lambda value: None if value is None else ranges.MultiRange(range_of_result(each) for each in value)


COLSPECS: Final[dict[type[Any], type[Any]]] = {
    **base.PGDialect.colspecs,
    **{
        cls: cast(cls)
        for cls in (
            sqltypes.String,
            sqltypes.CHAR,
            sqltypes.Time,
            sqltypes.Date,
            sqltypes.DateTime,
            sqltypes.Boolean,
            sqltypes.Integer,
            sqltypes.SmallInteger,
            sqltypes.BigInteger,
            pg.OID,
            pg.REGCLASS,
            pg.REGCONFIG,
        )
    },
    pg.CITEXT: pg.CITEXT,
    pg.BIT: CastBit,
    pg.INTERVAL: CastInterval,
    sqltypes.ARRAY: cast(pg.ARRAY),
    sqltypes.Enum: cast(pg.ENUM),
    sqltypes.Float: CastFloat,
    sqltypes.Interval: CastInterval,
    sqltypes.LargeBinary: cast(pg.BYTEA),
    sqltypes.Numeric: CastNumeric,
    sqltypes.JSON: DecodedJSON,
    pg.JSONB: DecodedJSONB,
    sqltypes.JSON.JSONIndexType: sqltypes.JSON.JSONIndexType,
    sqltypes.JSON.JSONIntIndexType: CastJSONIntIndex,
    sqltypes.JSON.JSONPathType: JSONPath,
    sqltypes.JSON.JSONStrIndexType: CastJSONStrIndex,
    ranges.AbstractSingleRange: RangeType,
    ranges.AbstractMultiRange: MultirangeType,
}
"""SQLAlchemy's type -> the type that stands for it."""
