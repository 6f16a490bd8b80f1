"""What must be true after every test: no task still running, nothing left unclosed, no transaction open.

A test that means to leave such a thing behind is marked `leaves_tasks`. When a test fails, its report shows
what the server logged meanwhile.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.servers import Backend, Cluster, ServerError, until

GRACE = 5.0
"""Seconds for a task that is about to end to do so, and for a server to notice that a client has left."""

_log = pytest.StashKey[tuple[Path, int]]()


def pytest_collection_finish() -> None:
    """Set apart what there is before the tests, so that collecting garbage after each takes no time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> None:
    """Take the checks that apply to this test: set up before its other fixtures, they run after these."""
    if request.node.get_closest_marker("leaves_tasks"):
        return
    if "database" in request.fixturenames:
        request.getfixturevalue("no_transaction_left")
    if pytest_asyncio.is_async_test(request.node):
        request.getfixturevalue("no_task_left")


@pytest.fixture
async def no_task_left() -> AsyncIterator[None]:
    """Fail where a task started during the test is still running after it."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        _, left = await asyncio.wait(left, timeout=GRACE)
    if left:
        names = "\n".join(f"  {task!r}" for task in left)
        for task in left:
            task.cancel()
        pytest.fail(f"the test left {len(left)} task(s) running:\n{names}", pytrace=False)


@pytest.fixture
def no_transaction_left(request: pytest.FixtureRequest, server: Cluster, database: str) -> Iterator[None]:
    """Fail where a backend of the test's database is left in a transaction, or the server down."""
    log = server.postmaster.log
    request.node.stash[_log] = (log, log.stat().st_size)
    yield
    if not server.is_running:
        server.start()
        pytest.fail("the test left the shared server down", pytrace=False)

    def open_transactions() -> list[Backend]:
        return [each for each in server.backends(database) if each.state and "in transaction" in each.state]

    try:
        until(lambda: not open_transactions(), "backends leave their transactions", within=GRACE)
    except ServerError:
        left = open_transactions()
        for backend in left:
            server.sql("SELECT pg_terminate_backend(%s)", backend.pid)
        shown = "\n".join(f"  {backend}" for backend in left)
        pytest.fail(f"the test left {len(left)} backend(s) in a transaction:\n{shown}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """Fail where the test left a connection or a file unclosed: its finalizer warns, and warnings are errors.

    Without this the warning would come up in whichever later test happens to collect the garbage.
    """
    result = yield
    if isinstance(item, pytest.Function):
        item.funcargs.clear()  # pytest's own last references to what the fixtures gave
    left: list[str] = []
    before, sys.unraisablehook = (
        sys.unraisablehook,
        lambda unraisable: left.append(f"  {unraisable.exc_value!r}"),
    )
    try:
        gc.collect()
    finally:
        sys.unraisablehook = before
    if nextitem is None or nextitem.path != item.path:
        # What the module's tests have imported, and what pytest keeps of each test, is there to stay: looked through
        # after every later test, it would take most of the time of all tests.
        gc.freeze()
    if left:
        pytest.fail("\n".join(["the test left something unclosed:", *left]), pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what the server logged during a test to the report of its failure."""
    report = yield
    # The last test's server is gone by the time that its own teardown is reported.
    if report.failed and _log in item.stash and (found := item.stash[_log])[0].exists():
        path, start = found
        with path.open("rb") as log:
            log.seek(start)
            logged = log.read().decode(errors="replace")
        if logged:
            report.sections.append(("PostgreSQL log", logged))
    return report
