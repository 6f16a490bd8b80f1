"""Names that programs import from `asyncpg.pgproto.pgproto`."""

from uuid import UUID

__all__ = ["UUID"]
