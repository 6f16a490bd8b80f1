"""Names that programs take from `asyncpg.protocol.record`."""

from headrace._core.rows.record import Record as Record
