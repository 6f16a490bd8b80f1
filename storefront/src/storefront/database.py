"""Find the database that a DSN names, connect to it, and create it.

A DSN may name several hosts: a primary and its replicas. Then writes go to the primary and reads to the replicas, and
`Database` knows which is which. With one host there is nothing to choose. `open_connection`, `open_reader` and
`open_database` decide by the DSN, so nobody else has to.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeAlias
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import headrace
from storefront.errors import StorefrontError, UsageError

logger = logging.getLogger(__name__)

DATABASE = "products"
"""The database that is used if a DSN names none."""

MAINTENANCE_DATABASE = "postgres"
"""The database that every server has. It is connected to in order to create another one."""

POOL_SIZE = 6
"""The number of connections in a pool, unless the user asks for another."""

CATCH_UP_TIME = 2.0
"""How many seconds a reader waits for the primary to say what was written. Then it reads what the replicas have."""

FAILOVER_TIME = 30.0
"""How many seconds a command waits for a primary, if there is none. The service has a limit for each query."""

REPLICATION_TIME = 10.0
REPLICATION_PAUSE = 0.05
"""How many seconds a new database may take to arrive at the replicas, and those between two looks."""

CATALOGUE_CHANNEL = "storefront_catalogue"
"""The channel on which a command tells that it may have changed the catalogue, if there are replicas."""

AnyPool: TypeAlias = "headrace.Pool | headrace.cluster.View[headrace.Record]"
"""A pool, or the same methods on the hosts of a cluster."""

Executor: TypeAlias = "headrace.Connection | AnyPool"
"""An object that can run a single statement.

The names are in quotes, because a command that uses one connection does not import pools and clusters.
"""

_DATABASE_PARAMETERS = ("dbname", "database")


def named_database(dsn: str) -> str | None:
    """Return the database that a DSN names in its path or as a parameter, or None if it names none.

    Raises UsageError if the DSN is not a postgresql:// URI. The message does not repeat the DSN, which may contain a
    password.
    """
    try:
        parts = urlsplit(dsn)
    except ValueError as error:
        raise UsageError(f"--dsn is not a URI: {error}") from error
    if parts.scheme not in ("postgresql", "postgres"):
        raise UsageError("--dsn expects a URI such as postgresql://user@host:5432/products")
    if name := unquote(parts.path.removeprefix("/")):
        return name
    given = dict(parameters(dsn))
    return next((given[key] for key in _DATABASE_PARAMETERS if given.get(key)), None)


def parameters(dsn: str) -> list[tuple[str, str]]:
    """Return the parameters of a DSN. A plus sign is itself, and not a space as in a web form."""
    return parse_qsl(urlsplit(dsn).query.replace("+", "%2B"))


def with_database(dsn: str, database: str) -> str:
    """Return the DSN with `database` in place of the database that it names."""
    parts = urlsplit(dsn)
    query = [(key, value) for key, value in parameters(dsn) if key not in _DATABASE_PARAMETERS]
    rebuilt = f"{parts.scheme}://{parts.netloc}/{quote(database, safe='')}"
    return f"{rebuilt}?{urlencode(query, quote_via=quote)}" if query else rebuilt


def complete(dsn: str) -> str:
    """Return the DSN, with the storefront's database added if it names none."""
    return dsn if named_database(dsn) else with_database(dsn, DATABASE)


def has_several_hosts(dsn: str) -> bool:
    """Return whether a DSN names several hosts, the environment included, and leaves the choice among them open.

    With `target_session_attrs` a DSN asks for one connection to a server of that kind, as everywhere.
    """
    given = dict(parameters(dsn))
    named = given.get("host") or urlsplit(dsn).netloc.rpartition("@")[2]
    named = named or given.get("hostaddr") or os.environ.get("PGHOST", "")
    return "," in named and not (given.get("target_session_attrs") or os.environ.get("PGTARGETSESSIONATTRS"))


class Database:
    """The servers of a database, and which of them a statement goes to.

    With one host, `primary` and `reads` are the same pool. With several, `primary` is a cluster, whose own methods go
    to the primary, and `reads` has the methods of a pool on its replicas. They see what was committed before the last
    `catch_up()`. Without a primary they show what they have, so there is no limit in seconds either.
    """

    def __init__(self, pool: headrace.Pool | headrace.Cluster) -> None:
        self.primary: headrace.Pool | headrace.Cluster = pool
        self._pool = pool
        self._cluster = pool if isinstance(pool, headrace.Cluster) else None
        self._reads: AnyPool = pool if self._cluster is None else self._cluster.replicas
        self._position: headrace.Position | None = None
        self._has_caught_up = False
        if self._cluster is not None:
            self._cluster.add_listener(self._on_event)

    @property
    def has_replicas(self) -> bool:
        """True if there are several hosts, so that reads may go to others than writes."""
        return self._cluster is not None

    @property
    def reads(self) -> AnyPool:
        """The pool to read from. Ask for it again for each piece of work, because `catch_up()` replaces it."""
        return self._reads

    async def catch_up(self) -> None:
        """From now on, read what was committed before this call. With one host there is nothing to do.

        If no primary can be asked, a warning is logged, and reads go on with what the replicas have.
        """
        if self._cluster is None:
            return
        self._has_caught_up = True
        try:
            position = await self._cluster.position(timeout=CATCH_UP_TIME)
        except (headrace.PostgresError, headrace.InterfaceError, OSError) as error:
            why = str(error).split("\n", 1)[0] or type(error).__name__
            logger.warning("what was written last may be missing, because the primary does not answer: %s", why)
            return
        if self._position is None or self._position < position:
            self._position = position
            self._reads = self._cluster.replicas.after(position)

    async def follow(self) -> None:
        """Catch up after each change that a command of the storefront makes, until the task is cancelled.

        Returns at once if there is one host.
        """
        if self._cluster is None:
            return
        async with self._cluster.listen(CATALOGUE_CHANNEL) as events:
            await self.catch_up()
            # After a lost connection, and so after a change of the primary, there is a gap, which counts as a change.
            async for _ in events:
                await self.catch_up()

    async def tell_change(self) -> None:
        """Tell those who follow() that the catalogue may have changed. With one host there is nobody to tell."""
        if self._cluster is None:
            return
        try:
            await self._cluster.execute("SELECT pg_notify($1, '')", CATALOGUE_CHANNEL, timeout=CATCH_UP_TIME)
        except (headrace.PostgresError, headrace.InterfaceError, OSError) as error:
            logger.warning("readers see the change a little later, because they were not told: %s", error)

    def hosts(self) -> list[headrace.cluster.HostInfo]:
        """Return the state of each host. With one host there is none to tell apart, and the list is empty."""
        return [] if self._cluster is None else self._cluster.hosts()

    def pools(self) -> Mapping[str, headrace.pool.PoolStats]:
        """Return the statistics of the pool of each host that has one, by its address. One host alone is called ""."""
        if isinstance(self._pool, headrace.Pool):
            return {"": self._pool.stats()}
        return {host_address(info): info.pool for info in self._pool.hosts() if info.pool is not None}

    def cluster_stats(self) -> headrace.cluster.ClusterStats | None:
        """Return the counters of the cluster, or None with one host."""
        return None if self._cluster is None else self._cluster.stats()

    async def _on_event(self, event: headrace.cluster.ClusterEvent) -> None:
        if not isinstance(event, headrace.cluster.PrimaryChanged) or not self._has_caught_up:
            return
        if event.after is None and self._cluster is not None:
            # The last records may be lost with it, and then no replica ever has the position.
            self._position = None
            self._reads = self._cluster.replicas
        else:
            # Nobody but the new primary knows whether a position of the former one was kept.
            await self.catch_up()


def host_address(info: headrace.cluster.HostInfo) -> str:
    """Return the name and port of a host, as a DSN has them, and its IP address if that was given as well."""
    host = f"[{info.host}]:{info.port}" if ":" in info.host else f"{info.host}:{info.port}"
    return f"{host} ({info.hostaddr})" if info.hostaddr and info.hostaddr != info.host else host


@asynccontextmanager
async def open_database(
    dsn: str, *, size: int = POOL_SIZE, command_timeout: float | None = None
) -> AsyncIterator[Database]:
    """Open a pool for each host, of `size` connections at most, for the time of a `with` block."""
    opened: headrace.Pool | headrace.Cluster
    if has_several_hosts(dsn):
        opened = headrace.create_cluster(
            dsn,
            min_size=1,
            max_size=size,
            failover_timeout=FAILOVER_TIME,
            command_timeout=command_timeout,
        )
    else:
        opened = headrace.create_pool(dsn, min_size=1, max_size=size, command_timeout=command_timeout)
    async with opened:
        yield Database(opened)


@asynccontextmanager
async def leased(executor: Executor) -> AsyncIterator[headrace.Connection]:
    """Lease a connection of a pool for the time of a `with` block. A connection is passed on as it is."""
    if isinstance(executor, headrace.Connection):
        yield executor
    else:
        async with executor.acquire() as connection:
            yield connection


@asynccontextmanager
async def open_connection(dsn: str) -> AsyncIterator[headrace.Connection]:
    """Open a connection for the time of a `with` block. It is closed at the end, or terminated if the block fails.

    Of several hosts it is the primary.
    """
    if has_several_hosts(dsn):
        async with open_database(dsn, size=1) as database:
            async with database.primary.acquire() as connection:
                yield connection
            await database.tell_change()
        return
    opened = await headrace.connect(dsn)
    try:
        yield opened
    except BaseException:
        opened.terminate()
        raise
    await opened.close()


@asynccontextmanager
async def open_reader(dsn: str) -> AsyncIterator[Executor]:
    """Open the database to read what was committed before now: a connection or, with several hosts, their replicas."""
    if has_several_hosts(dsn):
        async with open_database(dsn, size=1) as database:
            await database.catch_up()
            yield database.reads
        return
    async with open_connection(dsn) as connection:
        yield connection


async def create_database(dsn: str) -> str | None:
    """Create the database that `dsn` names. Return the status of the statement, or None if the database exists.

    Raises StorefrontError if it does not arrive at the replicas in time.
    """
    if await _exists(dsn):
        return None
    name = (named_database(dsn) or DATABASE).replace('"', '""')
    async with open_connection(with_database(dsn, MAINTENANCE_DATABASE)) as maintenance:
        try:
            status: str = await maintenance.execute(f'CREATE DATABASE "{name}"')
        except (headrace.DuplicateDatabaseError, headrace.UniqueViolationError):
            # Another program has just created it. If both do so at once, the name is found to be taken in the index.
            return None
    if has_several_hosts(dsn):
        await _wait_for_replicas(dsn)
    return status


async def _wait_for_replicas(dsn: str) -> None:
    """Return when all hosts have a new database. Raises StorefrontError if that takes too long."""
    for _ in range(round(REPLICATION_TIME / REPLICATION_PAUSE)):
        if await _exists(dsn):
            return
        await asyncio.sleep(REPLICATION_PAUSE)
    raise StorefrontError(
        f"the database was created, but did not arrive at the replicas within {REPLICATION_TIME:g} seconds: "
        "run the command again later"
    )


async def _exists(dsn: str) -> bool:
    """Return whether all hosts that answer have the database."""
    try:
        async with open_connection(dsn):
            return True
    except headrace.InvalidCatalogNameError:
        return False
