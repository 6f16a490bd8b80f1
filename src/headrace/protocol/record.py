"""Names that programs import from `asyncpg.protocol.record`."""

from headrace._core.rows.record import Record as Record
