"""Names that programs take from `asyncpg.protocol`."""

from headrace._core.record import Record
from headrace.types import Attribute, BitString, Range, Type

__all__ = ["Attribute", "BitString", "Range", "Record", "Type"]
