"""headrace: a non-blocking PostgreSQL driver whose connections are pipelined.

Importing it loads what every program needs: connections. Pools, clusters, the loader and asyncpg's other modules are
imported when they are first used. Without them, the import takes about half the time.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from headrace import _subinterpreters as _subinterpreters  # first: it decides how compiled modules are loaded

# asyncpg's submodules are there as attributes once asyncpg is imported, and so are headrace's.
from headrace import arrow as arrow
from headrace import connection as connection
from headrace import cursor as cursor
from headrace import exceptions as exceptions
from headrace import prepared_stmt as prepared_stmt
from headrace import transaction as transaction
from headrace import types as types
from headrace._client.queries import ResultIterator
from headrace._client.query_hooks import Operation, Outcome, QueryHook, ServerInfo, add_query_hook, remove_query_hook
from headrace._client.type_codecs import TypeCodec
from headrace._core.rows.record import Record
from headrace._sql.named_parameters import Query, identifier, sql
from headrace._version import __version__
from headrace.connection import Connection, LoggedQuery, connect
from headrace.copy import CopyReader, CopyWriter
from headrace.exceptions import *  # noqa: F403
from headrace.exceptions import is_safe_to_retry
from headrace.rows import key
from headrace.stream import Stream
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

if TYPE_CHECKING:
    from headrace import cluster as cluster
    from headrace import compat as compat
    from headrace import connect_utils as connect_utils
    from headrace import pgproto as pgproto
    from headrace import pool as pool
    from headrace import protocol as protocol
    from headrace import serverversion as serverversion
    from headrace import utils as utils
    from headrace.cluster import Cluster, Position, create_cluster
    from headrace.compat import install_as_asyncpg
    from headrace.loader import Loader
    from headrace.pool import Gap, Listening, Notification, Pool, create_pool
else:
    # The same as type checkers see above: submodules, and the names that come from them.
    _SUBMODULES = ("cluster", "compat", "connect_utils", "pgproto", "pool", "protocol", "serverversion", "utils")
    _NAMES = {
        "cluster": ("Cluster", "Position", "create_cluster"),
        "compat": ("install_as_asyncpg",),
        "loader": ("Loader",),
        "pool": ("Gap", "Listening", "Notification", "Pool", "create_pool"),
    }
    _MODULES = {name: module for module, names in _NAMES.items() for name in names}

    def __getattr__(name):
        """Import a submodule, or a name from its module, at its first use (PEP 562)."""
        if name in _SUBMODULES:
            return import_module(f"headrace.{name}")
        if name in _MODULES:
            value = globals()[name] = getattr(import_module(f"headrace.{_MODULES[name]}"), name)
            return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *_SUBMODULES, *_MODULES})


__all__ = [
    "Attribute",
    "BitString",
    "Box",
    "Circle",
    "Cluster",
    "Connection",
    "CopyReader",
    "CopyWriter",
    "Gap",
    "Line",
    "LineSegment",
    "Listening",
    "Loader",
    "LoggedQuery",
    "Notification",
    "Operation",
    "Outcome",
    "Path",
    "Point",
    "Polygon",
    "Pool",
    "Position",
    "Query",
    "QueryHook",
    "Range",
    "Record",
    "ResultIterator",
    "ServerInfo",
    "ServerVersion",
    "Stream",
    "Type",
    "TypeCodec",
    "__version__",
    "add_query_hook",
    "connect",
    "create_cluster",
    "create_pool",
    "exceptions",
    "identifier",
    "install_as_asyncpg",
    "is_safe_to_retry",
    "key",
    "remove_query_hook",
    "sql",
    *exceptions.__dict__["__all__"],
]
