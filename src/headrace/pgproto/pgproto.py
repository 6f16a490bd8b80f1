"""Names that programs take from `asyncpg.pgproto.pgproto`."""

from uuid import UUID

__all__ = ["UUID"]
