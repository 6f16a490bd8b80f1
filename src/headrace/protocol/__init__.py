"""Names that programs import from `asyncpg.protocol`."""

from headrace.protocol import protocol as protocol
from headrace.protocol import record as record
from headrace.protocol.protocol import Attribute, BitString, Range, Record, Type
from headrace.protocol.protocol import _create_record as _create_record

__all__ = ["Attribute", "BitString", "Range", "Record", "Type"]
