"""Names that programs import from `asyncpg.pgproto`."""

from headrace.pgproto import pgproto as pgproto
from headrace.pgproto import types as types
