"""Names that programs import from `asyncpg.connect_utils`."""

from __future__ import annotations

from enum import StrEnum


class SessionAttribute(StrEnum):
    """The kinds of server that `target_session_attrs` can ask for. A str works as well."""

    any = "any"
    primary = "primary"
    standby = "standby"
    prefer_standby = "prefer-standby"
    read_write = "read-write"
    read_only = "read-only"
