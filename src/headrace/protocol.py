"""Names that programs take from `asyncpg.protocol`, and from `asyncpg.protocol.protocol`."""

import sys

from headrace._core.record import Record
from headrace.types import Attribute, BitString, Range, Type

protocol = sys.modules[__name__]

__all__ = ["Attribute", "BitString", "Range", "Record", "Type"]
