"""Names that programs take from `asyncpg.pgproto`."""

from headrace.pgproto import pgproto as pgproto
from headrace.pgproto import types as types
