"""The query hooks of a pool: of its own calls, of its leases, and of the calls on its connections."""

from __future__ import annotations

import weakref
from typing import Any, Protocol

from headrace._client.query_hooks import Hooks, ServerInfo


class Observed(Protocol):
    """A part of a pool that tells hooks of operations: `SharedCalls` and `Leases`."""

    hooks: Any
    """The `PoolHooks`; None if there are no hooks."""


class PoolHooks(Hooks):
    """The query hooks of one pool. Those of its connections are the level below.

    There is only a weak reference to the pool, or a forgotten pool would be noticed only by the garbage collector.
    """

    __slots__ = ("_parts", "_pool", "_server")

    def __init__(self, parent: Hooks, pool: object, *parts: Observed) -> None:
        self._pool = weakref.ref(pool)
        self._parts = parts
        self._server: ServerInfo | None = None
        super().__init__(parent)

    def changed(self) -> None:
        for part in self._parts:
            part.hooks = self if self.all else None

    @property
    def pool(self) -> Any:
        return self._pool()

    @property
    def server(self) -> ServerInfo | None:
        return self._server

    def connected_to(self, server: ServerInfo) -> None:
        """Note the server of the connection that was opened last."""
        self._server = server
