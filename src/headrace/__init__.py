"""headrace: a non-blocking PostgreSQL driver whose connections are pipelined."""

# `import headrace as asyncpg` is to find asyncpg's submodules as attributes.
from headrace import connect_utils as connect_utils
from headrace import errors as exceptions
from headrace import pgproto as pgproto
from headrace import prepared as prepared_stmt  # noqa: F401
from headrace import protocol as protocol
from headrace import utils as utils
from headrace._core.record import Record
from headrace._version import __version__
from headrace.codec import TypeCodec
from headrace.compat import install_as_asyncpg
from headrace.connection import Connection, LoggedQuery, connect
from headrace.copy import CopyReader, CopyWriter
from headrace.errors import *  # noqa: F403
from headrace.errors import is_safe_to_retry
from headrace.pool import Gap, Listening, Notification, Pool, create_pool
from headrace.query import Query, identifier, sql
from headrace.types import (
    Attribute,
    BitString,
    Box,
    Circle,
    Line,
    LineSegment,
    Path,
    Point,
    Polygon,
    Range,
    ServerVersion,
    Type,
)

__all__ = [
    "Attribute",
    "BitString",
    "Box",
    "Circle",
    "Connection",
    "CopyReader",
    "CopyWriter",
    "Gap",
    "Line",
    "LineSegment",
    "Listening",
    "LoggedQuery",
    "Notification",
    "Path",
    "Point",
    "Polygon",
    "Pool",
    "Query",
    "Range",
    "Record",
    "ServerVersion",
    "Type",
    "TypeCodec",
    "__version__",
    "connect",
    "create_pool",
    "exceptions",
    "identifier",
    "install_as_asyncpg",
    "is_safe_to_retry",
    "sql",
    *exceptions.__dict__["__all__"],
]
