"""Names and attributes of spans and metrics, as the semantic conventions have them.

Source: OpenTelemetry, "Semantic conventions for PostgreSQL client operations", "... for database client spans" and
"... for database client metrics", version 1.33, the first stable one.
"""

from __future__ import annotations

import re
from collections.abc import Sized
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal

from headrace._sql.summary import sanitized, summary
from headrace.exceptions import PostgresError

if TYPE_CHECKING:
    from headrace._client.query_hooks import Operation, ServerInfo

QueryText = bool | Literal["raw"]

SYSTEM: Final = {"db.system.name": "postgresql"}
BATCHES: Final = frozenset(("batch", "each"))
LONGEST_CACHED: Final = 8_192
MOST_CACHED: Final = 1024

_COPIED: Final = re.compile(r'COPY ((?:"(?:[^"]|"")*"\.)?"(?:[^"]|"")*")')
_REGULAR: Final = re.compile(r'"([a-z_][a-z0-9_]*)"')


class Description:
    """The name and the attributes of one text's spans, and the attributes of its durations."""

    __slots__ = ("attributes", "metric_attributes", "name")

    def __init__(self, name: str, attributes: dict[str, Any], metric_attributes: dict[str, Any]) -> None:
        self.name = name
        self.attributes = attributes
        self.metric_attributes = metric_attributes


class ServerDescriptions:
    """The attributes of one server, and the descriptions of texts that are run there."""

    __slots__ = ("_query_text", "known", "metric_attributes", "server", "span_attributes")

    def __init__(self, server: ServerInfo | None, query_text: QueryText) -> None:
        self.server = server
        self._query_text = query_text
        self.known: dict[tuple[str, str, bool], Description] = {}
        """The descriptions by kind ("BATCH" if a text is executed more than once), text, and if there are arguments."""
        self.metric_attributes: dict[str, Any] = {**SYSTEM, **server_attributes(server)}
        self.span_attributes = {**self.metric_attributes, **peer_attributes(server)}

    def describe(self, operation: Operation, *, many: bool) -> Description:
        """Return the description of an operation; `many` says that its text is executed more than once."""
        kind = operation.kind
        query = operation.query
        key = ("BATCH" if many else kind, query, kind in BATCHES or bool(operation.args))
        found = self.known.get(key)
        if found is None:
            found = self._described(kind, query, many=many, has_parameters=key[2])
            if len(query) <= LONGEST_CACHED:
                if len(self.known) >= MOST_CACHED:
                    self.known.clear()
                self.known[key] = found
        return found

    def _described(self, kind: str, query: str, *, many: bool, has_parameters: bool) -> Description:
        more: dict[str, Any] = {}
        short = summary(query)
        if kind == "copy" and (copied := _COPIED.match(query)) is not None:
            # The text was made from the arguments of a COPY method, which name one table.
            table = _REGULAR.sub(r"\1", copied[1])
            short = f"COPY {table}"
            more = {"db.operation.name": "COPY", "db.collection.name": table}
        elif kind == "prepare":
            short = f"PREPARE {short}".rstrip()
            more["db.operation.name"] = "PREPARE"
        elif many:
            short = f"BATCH {short}".rstrip()
        if short:
            more["db.query.summary"] = short
        attributes = {**self.span_attributes, **more}
        if self._query_text:
            # A COPY has the arguments in its text.
            plain = self._query_text == "raw" or has_parameters or kind == "prepare"
            attributes["db.query.text"] = query if plain else sanitized(query)
        name = short or self.metric_attributes.get("db.namespace") or "postgresql"
        return Description(name, attributes, {**self.metric_attributes, **more})


def server_attributes(server: ServerInfo | None) -> dict[str, Any]:
    """Return the attributes of a server: the database, with the schema that the program has asked for, and the address.

    The schema is the first one of `search_path` in `server_settings`. One that is set later is not seen.
    """
    if server is None:
        return {}
    params = server.params
    path = params.server_settings.get("search_path", "").split(",")[0].strip().strip('"')
    namespace = f"{params.database}|{path}" if path and path != "$user" else params.database
    attributes: dict[str, Any] = {"db.namespace": namespace, "server.address": shown(server.address)}
    if server.port is not None:
        attributes["server.port"] = server.port
    return attributes


def peer_attributes(server: ServerInfo | None) -> dict[str, Any]:
    """Return the attributes of the node that a connection leads to."""
    if server is None or server.peer_address is None:
        return {}
    if server.peer_port is None:
        return {"network.peer.address": shown(server.peer_address)}
    return {"network.peer.address": server.peer_address, "network.peer.port": server.peer_port}


def shown(address: str) -> str:
    """Return an address without the NUL of a Unix socket in the abstract namespace."""
    return address.replace("\0", "@", 1)


def batch_size(args: Any) -> int | None:
    """Return the number of elements of a batch; None if it is not known before they are read."""
    return len(args) if isinstance(args, Sized) else None


def error_attributes(error: BaseException) -> dict[str, Any]:
    """Return the attributes of an error: its SQLSTATE if it comes from the server, otherwise the name of its class."""
    if isinstance(error, PostgresError) and error.severity is not None and error.sqlstate:
        return {"db.response.status_code": error.sqlstate, "error.type": error.sqlstate}
    return {"error.type": class_name(error)}


def class_name(error: BaseException) -> str:
    """Return the name of the class of an error, with its module unless that is builtins."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def parameters(args: Any) -> dict[str, str]:
    """Return the attributes of a query's arguments. One that has no text is left out."""
    found = {}
    for number, value in enumerate(args):
        with suppress(Exception):
            found[f"db.query.parameter.{number}"] = str(value)
    return found
