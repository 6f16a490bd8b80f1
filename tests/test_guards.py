"""The checks after every test: what they catch, shown by a run of pytest inside this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.installations import installations
from tests.time_limit import HAS_TIMER

pytest_plugins = ("pytester",)

ROOT = Path(__file__).parent.parent

CONFTEST = """
pytest_plugins = "tests.fixtures", "tests.guards"

def pytest_configure(config):
    config.pluginmanager.get_plugin("tests.guards").GRACE = 0.1
"""

TESTS = """
import asyncio, psycopg, pytest

async def test_leaves_a_task():
    globals()["task"] = asyncio.create_task(asyncio.Event().wait())

async def test_leaves_a_connection():
    async with await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0) as server:
        cycle = [await asyncio.open_connection(*server.sockets[0].getsockname())]
        cycle.append(cycle)

def test_leaves_a_transaction(server, database):
    globals()["connection"] = psycopg.connect(server.dsn(database))
    connection.execute("SELECT 1")

def test_leaves_the_server_down(server, database):
    server.stop()

def test_finds_it_up_again(server, database):
    assert server.sql("SELECT 1") == [(1,)]

def test_fails_and_shows_the_log(server, database):
    with psycopg.connect(server.dsn(database)) as connection:
        connection.execute("SELECT nonsense")

@pytest.mark.leaves_tasks
async def test_may_leave_a_task():
    globals()["task"] = asyncio.create_task(asyncio.Event().wait())
"""


def test_what_is_left_behind_fails_the_test(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS)
    options = ("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(pytester.path), str(pytester.path))
    result = pytester.runpytest_subprocess(*options, "--pg", str(installations()[0].version))
    result.assert_outcomes(passed=6, failed=1, errors=4)
    result.stdout.fnmatch_lines_random(
        [
            "*ERROR at teardown of test_leaves_a_task*",
            "the test left 1 task(s) running:",
            "*ERROR at teardown of test_leaves_a_connection*",
            "the test left something unclosed:",
            "  ResourceWarning*unclosed*",
            "*ERROR at teardown of test_leaves_a_transaction*",
            "the test left 1 backend(s) in a transaction:",
            "*ERROR at teardown of test_leaves_the_server_down*",
            "the test left the shared server down",
            "*PostgreSQL log*",
            '*ERROR:  column "nonsense" does not exist*',
        ]
    )


HANGING = """
import asyncio, contextlib, threading, time
import pytest

async def test_waits():
    await asyncio.Event().wait()

async def test_keeps_the_loop_busy():
    while True:
        await asyncio.sleep(0)

async def test_blocks_the_loop():
    threading.Event().wait()

def test_blocks():
    threading.Event().wait()

async def test_takes_no_cancellation():
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()

@pytest.fixture
async def never():
    await asyncio.Event().wait()

async def test_is_never_set_up(never):
    pass

@pytest.fixture
async def endless():
    yield
    await asyncio.Event().wait()

async def test_is_never_torn_down(endless):
    pass

async def test_ends():
    await asyncio.sleep(0)
"""

LIMITED = """
pytest_plugins = "tests.fixtures", "tests.time_limit"

def pytest_configure(config):
    plugin = config.pluginmanager.get_plugin("tests.time_limit")
    plugin.SHARE = 0.5 / float(config.getini("faulthandler_timeout"))
    plugin.AGAIN = 0.2
"""


@pytest.mark.skipif(not HAS_TIMER, reason="needs setitimer(2)")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_test_that_hangs_fails_and_the_next_one_runs(pytester: pytest.Pytester, loop: str) -> None:
    pytester.makeconftest(LIMITED)
    pytester.makepyfile(HANGING)
    options = ("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(pytester.path), str(pytester.path))
    result = pytester.runpytest_subprocess(*options, "--loop", loop)
    result.assert_outcomes(passed=2, failed=5, errors=2)
    result.stdout.fnmatch_lines_random(
        [
            "*ERROR at setup of test_is_never_set_up*",
            "*ERROR at teardown of test_is_never_torn_down*",
            "*Failed: the test was ended: it took longer than 0.5 s*",
            ">*await asyncio.Event().wait()*",
            ">*threading.Event().wait()*",
            "*Threads and tasks when the time was over*",
            "*Stack for <Task pending*",
        ]
    )
