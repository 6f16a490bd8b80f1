"""Query hooks: objects that are told of the start and the end of each operation.

Hooks belong to one connection, to one pool, or to all of the process. `Hooks` keeps those of one of them, and those of
the level above. A connection or a pool without hooks pays one comparison with None for a call.
"""

from __future__ import annotations

import logging
import threading
import weakref
from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from headrace.exceptions import InterfaceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace._connect.params.resolve import ConnectParams

log = logging.getLogger("headrace")

OperationKind = Literal["query", "batch", "each", "copy", "prepare", "connect", "acquire", "lease"]

WITHOUT_QUERY: Final = ("connect", "acquire", "lease")


class ServerInfo(NamedTuple):
    """The server of a connection, as a query hook gets it."""

    address: str
    """The host as the program has named it, or the path of a Unix socket."""

    port: int | None
    """None for a Unix socket."""

    peer_address: str | None
    """The IP address that the connection leads to, or the path of a Unix socket. None if it is not known."""

    peer_port: int | None

    params: ConnectParams
    """The connection's parameters, with `user`, `database` and `server_settings`; their repr shows no password."""


class Operation(NamedTuple):
    """The record of an operation that begins, as a query hook gets it."""

    kind: OperationKind
    """The kind of the operation:

    - "query": one query, of a call, a prepared statement, a cursor or a transaction (BEGIN, COMMIT, SAVEPOINT ...);
    - "batch": `executemany()` or `fetchmany()`;
    - "each": `fetch_each()` and its kin, from the first element that is sent to the end of the iteration;
    - "copy": a COPY, from its command to its command tag;
    - "prepare": `Connection.prepare()`;
    - "connect": a connection is opened;
    - "acquire": the wait for a lease of a pool;
    - "lease": the time from the end of that wait until the connection is given back.
    """

    query: str
    """The text; '' for the last three kinds. An empty query, such as a ping, is no operation."""

    args: Any
    """The arguments: a tuple, or for "batch" and "each" the iterable that was passed."""

    timeout: float | None
    """The time limit in seconds, None for no limit."""

    server: ServerInfo | None
    """The server. A pool that has not connected yet does not know it: see `Outcome.server`."""

    pool: Any
    """The pool that the call was made on, or that the connection belongs to; None for a connection of its own."""


class Outcome(NamedTuple):
    """The record of an operation that has ended, as a query hook gets it."""

    operation: Operation

    elapsed: float
    """Seconds from the call to its end, with the wait for a connection, for other requests, and for repetitions."""

    error: BaseException | None
    """The error that the caller gets, or None. It may be CancelledError or TimeoutError."""

    status: str | None
    """The last command tag, such as "UPDATE 3". None if there is none, as for rows that were not all read."""

    executions: int | None
    """How often a "batch" or "each" was executed. None if that is not known, and for other kinds."""

    server: ServerInfo | None
    """The server that has answered. None if the operation did not come to have a connection."""


class QueryHook:
    """A base for query hooks. Any object with these two methods will do.

    Both methods are called in the context (contextvars) of the caller, and are plain functions, which must not block.
    An error in one of them is logged, once for each hook, and does not affect the operation.
    """

    def start(self, operation: Operation) -> Any:
        """Note that an operation has begun; returns a token, which `end()` gets. It may be anything."""

    def end(self, token: Any, outcome: Outcome) -> None:
        """Note that an operation has ended. It is called once for each call of `start()` that has returned."""


new_tuple: Final = tuple.__new__
"""Makes an Operation or an Outcome of all its fields, in half the time of their own constructors."""

SERVER: Final = Operation._fields.index("server")

FAILED: Final = object()
"""The token of a hook whose `start()` has raised."""


class Hook:
    """A hook, and whether an error in it was logged."""

    __slots__ = ("_is_reported", "end", "given", "start")

    def __init__(self, given: Any) -> None:
        start, end = getattr(given, "start", None), getattr(given, "end", None)
        if isinstance(given, type) or not callable(start) or not callable(end):
            raise InterfaceError(
                "hook is expected to be an object with the methods start(operation) and end(token, outcome), "
                f"got {given!r:.100}",
                hint="Write a subclass of headrace.QueryHook and pass an instance of it.",
            )
        self.given = given
        self.start: Callable[[Operation], Any] = start
        self.end: Callable[[Any, Outcome], object] = end
        self._is_reported = False

    def report(self, method: str) -> None:
        """Log the error that a method has raised, unless one was logged before."""
        if not self._is_reported:
            self._is_reported = True
            log.exception("error in %s() of the query hook %r; further errors in it are not logged", method, self.given)


class Watched:
    """One operation as hooks are told of it: `begin()`, then `end()`. It is made for each call, so it does little."""

    __slots__ = ("_hooks", "_observer", "_operation", "_served_by", "_started", "_tokens")

    def __init__(self, hooks: tuple[Hook, ...], operation: Operation, observer: Any = None) -> None:
        self._hooks = hooks
        self._operation = operation
        self._observer = observer
        """The observer of the connection that has the request; None if there is none yet."""
        self._served_by = operation[SERVER]
        self._started = 0.0
        self._tokens: list[Any] | None = None

    def begin(self) -> Watched:
        """Tell the hooks of the start."""
        self._started = monotonic()
        operation = self._operation
        self._tokens = tokens = []
        for hook in self._hooks:
            try:
                tokens.append(hook.start(operation))
            except Exception:
                hook.report("start")
                tokens.append(FAILED)
        return self

    def end(self, error: BaseException | None, status: str | None = None, executions: int | None = None) -> None:
        """Tell the hooks of the end, unless they were told before, or not of the start."""
        tokens = self._tokens
        if tokens is None:
            return
        self._tokens = None
        observer = self._observer
        server = self._served_by if observer is None else observer.server
        elapsed = monotonic() - self._started
        outcome = new_tuple(Outcome, (self._operation, elapsed, error, status, executions, server))
        for hook, token in zip(self._hooks, tokens, strict=True):
            if token is not FAILED:
                try:
                    hook.end(token, outcome)
                except Exception:
                    hook.report("end")

    def served_by(self, server: ServerInfo) -> None:
        """Note the server, which was not known at the start."""
        self._served_by = server

    # -- as the observer of a request ------------------------------------------------------------------------------

    def on(self, driver: Any) -> Watched:
        """Note the connection that a shared call was assigned to."""
        self._observer = driver.observer
        return self

    def shared(self, request: Any, timeout: float | None, error: BaseException | None) -> None:
        """Tell the hooks of the end of a request that a task has awaited, and the query loggers of the connection."""
        observer = self._observer
        if observer is not None and observer.loggers:
            seconds = monotonic() - self._started
            observer.finished(request.query, request.arguments, timeout, seconds, error)
        self.end(error, request.status, getattr(request, "executions", None))


class Hooks:
    """The hooks of a connection, of a pool or of all of the process, and of the levels above (`parent`)."""

    __slots__ = ("__weakref__", "_children", "_own", "_parent", "all")

    _lock = threading.Lock()  # connections of several event loops, each in its thread, share a parent

    def __init__(self, parent: Hooks | None) -> None:
        self._children: weakref.WeakSet[Hooks] | None = None
        self._own: tuple[Hook, ...] = ()
        self._parent: Hooks | None = None
        self.all: tuple[Hook, ...] = ()
        """The hooks of this level and those above, each once."""
        if parent is not None:
            self.move(parent)

    def move(self, parent: Hooks) -> None:
        """Put this level below another one."""
        with self._lock:
            before, self._parent = self._parent, parent
            if before is not None and before._children is not None:
                before._children.discard(self)
            if parent._children is None:
                parent._children = weakref.WeakSet()
            parent._children.add(self)
        if parent.all or self.all:
            self._update()

    def add(self, hook: Any) -> None:
        """Add a hook, if it is not there; raises InterfaceError if it lacks a method."""
        added = Hook(hook)
        if all(each.given is not hook for each in self._own):
            self._own = (*self._own, added)
            self._update()

    def remove(self, hook: Any) -> None:
        """Remove a hook, if it is there."""
        self._own = tuple(each for each in self._own if each.given is not hook)
        self._update()

    def _update(self) -> None:
        above = self._parent.all if self._parent is not None else ()
        known = {id(hook.given) for hook in above}
        self.all = (*above, *(hook for hook in self._own if id(hook.given) not in known))
        self.changed()
        for child in self.children():
            child._update()

    def children(self) -> list[Hooks]:
        """Return the levels below: of connections, and of pools."""
        with self._lock:
            return [] if self._children is None else list(self._children)

    def changed(self) -> None:
        """Do what a change of `all` asks for."""

    @property
    def pool(self) -> Any:
        """The pool, at the level of a pool."""
        return None

    @property
    def server(self) -> ServerInfo | None:
        """The server that connections lead to, if it is known."""
        return None

    def connected_to(self, server: ServerInfo) -> None:
        """Note the server of a connection of this level."""

    def watched(self, kind: OperationKind, query: str, args: Any, timeout: float | None) -> Watched | None:
        """Return an operation that is going to begin; None if there are no hooks, or if it is an empty query."""
        hooks = self.all
        if not hooks or not (query or kind in WITHOUT_QUERY):
            return None
        return Watched(hooks, new_tuple(Operation, (kind, query, args, timeout, self.server, self.pool)))

    def start(self, kind: OperationKind, query: str, args: Any, timeout: float | None) -> Watched | None:
        """Tell the hooks of the start of an operation; returns None if there are none."""
        watched = self.watched(kind, query, args, timeout)
        return watched.begin() if watched is not None else None


EVERYWHERE: Final = Hooks(None)
"""The hooks of all connections and pools of the process."""

OPENING: Final[ContextVar[Hooks]] = ContextVar("OPENING", default=EVERYWHERE)
"""The level for which `connect()` opens a connection: that of a pool while it calls its `connect` callback."""


def add_query_hook(hook: QueryHook) -> None:
    """Have a hook told of the operations of all connections and pools of the process, open ones and later ones.

    See `Connection.add_query_hook()` and `QueryHook`. Raises InterfaceError if the hook lacks a method.
    """
    EVERYWHERE.add(hook)


def remove_query_hook(hook: QueryHook) -> None:
    """Remove a hook that `headrace.add_query_hook()` has added, if it is there. Operations under way still end."""
    EVERYWHERE.remove(hook)
