"""Names that programs import from `asyncpg.serverversion`."""

from __future__ import annotations

from headrace.types import ServerVersion, parse_server_version

__all__ = ["ServerVersion", "split_server_version_string"]


def split_server_version_string(version_string: str) -> ServerVersion:
    """Return the version in a text as servers report it, such as "15.4 (Debian 15.4-1)"."""
    return parse_server_version(version_string)
