"""Fixtures and an option for PgBouncer: real ones, in front of the real servers.

    async def test_select(pgbouncer, connect, database):     # runs on every PostgreSQL, through every PgBouncer found
        pooler = pgbouncer(pool_mode="session")
        connection = await connect(**pooler.kwargs(database))

Without PgBouncer these tests are skipped, each under its own name. `--pgbouncer=PATH` names another than the one
installed, and may be given several times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.pgbouncer import PgBouncer, Program, installed, program_at

if TYPE_CHECKING:
    from tests.servers import Cluster

    # What the fixture `pgbouncer` is.
    StartPgBouncer = Callable[..., PgBouncer]

NO_PGBOUNCER = "no PgBouncer found: apt-get install pgbouncer, or name one with --pgbouncer=PATH"

_programs = pytest.StashKey[list[Program]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --pgbouncer and --pooler-queries."""
    group = parser.getgroup("headrace")
    group.addoption(
        "--pooler-queries",
        type=int,
        default=5000,
        metavar="COUNT",
        help="how many queries to send through PgBouncer in the test of fault 40; a long run takes 100000",
    )
    group.addoption(
        "--pgbouncer",
        action="append",
        metavar="PATH",
        help="a PgBouncer to test through, instead of the one installed; may be given several times",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Find the PgBouncers; one that was named and is none is a usage error, before any test runs."""
    paths = config.getoption("--pgbouncer")
    try:
        config.stash[_programs] = [program_at(Path(path)) for path in paths] if paths else installed()
    except LookupError as error:
        raise pytest.UsageError(f"--pgbouncer: {error}") from None


def pytest_report_header(config: pytest.Config) -> str:
    """Say which PgBouncer the tests go through."""
    found = config.stash[_programs]
    return "pgbouncer: " + (", ".join(f"{each.name} ({each.path})" for each in found) or NO_PGBOUNCER)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that goes through PgBouncer, at first or second hand, once for each."""
    if "pgbouncer_program" in metafunc.fixturenames:
        found = metafunc.config.stash[_programs]
        metafunc.parametrize(
            "pgbouncer_program",
            found or [None],
            ids=[each.name for each in found] or ["no-pgbouncer"],
            indirect=True,
            scope="session",
        )


@pytest.fixture(scope="session")
def pgbouncer_program(request: pytest.FixtureRequest) -> Program:
    """A PgBouncer that is installed here."""
    if request.param is None:
        pytest.skip(NO_PGBOUNCER)
    program: Program = request.param
    return program


@pytest.fixture(scope="module")
def pgbouncer(pgbouncer_program: Program, server: Cluster) -> Iterator[StartPgBouncer]:
    """`pgbouncer(pool_mode="transaction", ...)`: a PgBouncer in front of `server`, one for all tests of a module.

    Skips the test where the version does not know `max_prepared_statements` and that is to be more than 0.
    """
    with ExitStack() as stack:
        started: dict[tuple[tuple[str, str], ...], PgBouncer] = {}

        def pgbouncer(**settings: object) -> PgBouncer:
            wanted = {name: str(value) for name, value in settings.items()}
            if not pgbouncer_program.keeps_statements and wanted.pop("max_prepared_statements", "0") != "0":
                pytest.skip(f"{pgbouncer_program.name} has no max_prepared_statements")
            key = tuple(sorted(wanted.items()))
            # Versions 1.18 to 1.20 may end with "server in bad state" behind a cancellation (its issues 822 and 847).
            if key not in started or not started[key].is_running:
                started[key] = stack.enter_context(PgBouncer(pgbouncer_program, server, **wanted))
            return started[key]

        yield pgbouncer
