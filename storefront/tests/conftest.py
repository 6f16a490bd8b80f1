"""A server for the storefront's tests, databases on it, and command lines.

The server is the one that STOREFRONT_TEST_DSN names; its user must be allowed to create databases. Without that, an
embedded server is created for the run and removed after it. The tests of jobs run on every PostgreSQL of --pg.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

# Under --import-mode=importlib pytest calls this file storefront.tests.conftest, and makes a module `storefront` of the
# directory storefront/. It is removed here, so that the package is imported instead.
if getattr(sys.modules.get("storefront"), "__file__", None) is None:
    sys.modules.pop("storefront", None)

from storefront import EmbeddedServer, Sample, cli, create_schema, embedded, load, open_connection
from storefront.database import with_database

SAMPLE = Sample(brand_count=10, product_count=50, sku_count=1_000, seed=7)

GIVEN = os.environ.get("STOREFRONT_TEST_DSN")

_numbers = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def launchers() -> Iterator[None]:
    """Wait for the ends of servers that others still used when the one who had started them left."""
    yield
    for launcher in embedded._running_launchers:
        if launcher is not None:
            launcher.wait(60)


def execute(dsn: str, *statements: str) -> None:
    """Run statements on a new connection."""

    async def run() -> None:
        async with open_connection(dsn) as connection:
            for statement in statements:
                await connection.execute(statement)

    asyncio.run(run())


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The DSN of a server on which databases can be created. Its parameter is an installation to run, if it has one."""
    if (installation := getattr(request, "param", None)) is not None:
        yield request.getfixturevalue("clusters")(installation).dsn()
        return
    if GIVEN:
        yield with_database(GIVEN, "postgres")
        return
    with EmbeddedServer(tmp_path_factory.mktemp("server")) as server:
        yield server.dsn()


@pytest.fixture(scope="session")
def new_name(postgres: str) -> Iterator[Callable[[], str]]:
    """A function that returns the name of a database that does not exist.

    On the server of STOREFRONT_TEST_DSN the databases of these names are dropped at the end.
    """
    given: list[str] = []

    def name() -> str:
        # A server may serve tests twice, with tests on another one between them.
        given.append(f"storefront_test_{os.getpid()}_{next(_numbers)}")
        return given[-1]

    yield name
    if GIVEN:
        execute(postgres, *(f"DROP DATABASE IF EXISTS {each} WITH (FORCE)" for each in given))


@pytest.fixture(scope="session")
def new_database(postgres: str, new_name: Callable[[], str]) -> Callable[[str], str]:
    """A function that creates a database as a copy of another, and returns its name."""

    async def strategy() -> str:
        """Return the option for copies of files. It takes less time than the default if nobody waits for a disk."""
        async with open_connection(postgres) as connection:
            quick = connection.get_server_version() >= (15,) and await connection.fetchval("SHOW fsync") == "off"
            return "STRATEGY file_copy" if quick else ""

    option = asyncio.run(strategy())

    def create(template: str) -> str:
        name = new_name()
        execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template} {option}")
        return name

    return create


@pytest.fixture(scope="session")
def sample() -> Sample:
    """The sample in the small catalogue: 10 brands, 50 products, 1,000 SKUs."""
    return SAMPLE


@pytest.fixture(scope="session")
def loaded(postgres: str, new_database: Callable[[str], str]) -> str:
    """The name of a database with the small catalogue, to copy. No test may connect to it."""
    name = new_database("template0")

    async def fill() -> None:
        async with open_connection(with_database(postgres, name)) as connection:
            await create_schema(connection)
            await load(connection, SAMPLE)

    asyncio.run(fill())
    return name


@pytest.fixture
def dsn(postgres: str, loaded: str, new_database: Callable[[str], str]) -> str:
    """The DSN of a new database with the small catalogue."""
    return with_database(postgres, new_database(loaded))


@pytest.fixture
def empty(postgres: str, new_database: Callable[[str], str]) -> str:
    """The DSN of a new database with the schema, but without brands, products and SKUs."""
    dsn = with_database(postgres, new_database("template0"))

    async def fill() -> None:
        async with open_connection(dsn) as connection:
            await create_schema(connection)

    asyncio.run(fill())
    return dsn


@pytest.fixture
def bare(postgres: str, new_name: Callable[[], str]) -> str:
    """The DSN of a database that does not exist. The test may create it."""
    return with_database(postgres, new_name())


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Restore the storefront's logger after each test, because commands redirect it."""
    logger = logging.getLogger("storefront")
    before = logger.handlers, logger.level, logger.propagate
    yield
    logger.handlers, logger.level, logger.propagate = before


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home directory of the user whose command lines `run` runs."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path) -> Callable[..., Result]:
    """A function that runs a command line in an empty directory. `dsn` is the database, if any."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STOREFRONT_DSN", raising=False)
    monkeypatch.delenv("STOREFRONT_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    monkeypatch.setenv("COLUMNS", "100")

    def run(*args: str, dsn: str | None = None) -> Result:
        result = CliRunner().invoke(cli.app, args, env={"STOREFRONT_DSN": dsn} if dsn else None)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        return result

    return run


@pytest.fixture
def fails(run: Callable[..., Result]) -> Callable[..., None]:
    """A function that runs a command line and expects an exit status and one line on stderr, with `message` in it.

    The command prints nothing on standard output and leaves no file.
    """

    def fails(*args: str, status: int, message: str, dsn: str | None = None) -> None:
        before = sorted(os.listdir())
        result = run(*args, dsn=dsn)
        assert sorted(os.listdir()) == before
        assert result.exit_code == status, result.output
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1, result.stderr
        assert result.stderr.startswith("storefront: ")
        assert message in result.stderr

    return fails


@pytest.fixture(
    params=["lookup 1", "load", "brands add Aurora", "brands list", "search a", "export", "bench -n 5"],
    ids=lambda line: line.replace(" ", "-"),
)
def needs_catalogue(request: pytest.FixtureRequest) -> list[str]:
    """The command line of each command that needs a catalogue, as its arguments."""
    line: str = request.param
    return line.split()


@pytest.fixture
def program() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """A function that starts the program `storefront` in its own process group, so that SIGINT can be sent to it.

    A shell starts background processes with SIGINT ignored, and child processes inherit that. It is reset here. With
    `dsn` the program uses that database, and otherwise an embedded server.
    """
    started: list[subprocess.Popen[str]] = []

    def start(*args: str, dsn: str | None = None) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STOREFRONT_")}
        process = subprocess.Popen(
            [sys.executable, "-m", "storefront", *args],
            env={**environment, **({"STOREFRONT_DSN": dsn} if dsn else {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
