"""Names that programs take from `asyncpg.pgproto`."""

from headrace import types as types
from headrace.pgproto import pgproto as pgproto
