"""Fault 47: the process is frozen while the server ends its sessions. The first call after that succeeds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers import until

if TYPE_CHECKING:
    from tests.servers import Cluster

pytestmark = pytest.mark.fault(number=47)

PATIENCE = 60.0

KINDS = ("read", "write", "lease", "lease in a transaction")

CLIENT = """
import asyncio, json, sys
import headrace

async def main():
    kwargs, how = json.loads(sys.argv[1])
    async with headrace.create_pool(**kwargs, min_size=2, max_size=2) as pool:
        async def call(number):
            if how == "read":
                return await pool.fetchval("SELECT $1::int", number)
            if how == "write":
                return await pool.fetchval("INSERT INTO thawed VALUES ($1, $2) RETURNING a", how, number)
            async with pool.acquire() as connection:
                if how == "lease":
                    return await connection.fetchval("SELECT $1::int", number)
                async with connection.transaction():
                    return await connection.fetchval("INSERT INTO thawed VALUES ($1, $2) RETURNING a", how, number)

        for number in range(10):
            await asyncio.gather(call(-1), call(-1))
        print("ready", flush=True)
        number = 0
        for line in iter(sys.stdin.readline, ""):
            number += 1
            print(await call(number), flush=True)
            # Reading a line stops the event loop, and nothing is to be under way then.
            while pool.get_idle_size() < 2:
                await asyncio.sleep(0.001)
            print("ready", flush=True)

asyncio.run(main())
"""


@contextmanager
def client(kwargs: dict[str, Any], how: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process with a pool that is idle but for the calls that it is told to make, one for each line."""
    command = [sys.executable, "-c", CLIENT, json.dumps([kwargs, how])]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def says(process: subprocess.Popen[str]) -> str:
    """Return the next line that the process prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ask(process: subprocess.Popen[str]) -> None:
    """Have it make a call."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def state(process: subprocess.Popen[str]) -> str:
    """Return the state of a process as proc(5) has it: T is stopped."""
    with open(f"/proc/{process.pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


@pytest.mark.skipif(sys.platform != "linux", reason="the state of a process is read from /proc")
@pytest.mark.parametrize("asked", ["while it is frozen", "after it"])
def test_the_first_call_after_it_succeeds(
    asked: str, server: Cluster, connect_kwargs: dict[str, Any], database: str
) -> None:
    """The loop finds the end of the sessions and the call at the same moment, or the call alone.

    There is a process for each kind of call, and all are frozen together.
    """
    server.sql("DROP TABLE IF EXISTS thawed; CREATE TABLE thawed (how text, a int)", database=database)
    with ExitStack() as stack:
        processes = {how: stack.enter_context(client(connect_kwargs, how)) for how in KINDS}
        assert {how: says(process) for how, process in processes.items()} == dict.fromkeys(KINDS, "ready")
        for number in range(1, 3):
            for process in processes.values():
                os.kill(process.pid, signal.SIGSTOP)
                until(lambda process=process: state(process) == "T", "the client is frozen")  # type: ignore[misc]
            for backend in server.backends(database):
                server.sql("SELECT pg_terminate_backend(%s)", backend.pid)
            until(lambda: not server.backends(database), "the sessions have ended")
            # The driver looks at a socket that may not have been read for a second.
            time.sleep(1.1)
            for process in processes.values():
                if asked == "while it is frozen":
                    ask(process)
                os.kill(process.pid, signal.SIGCONT)
                if asked == "after it":
                    ask(process)
            assert {how: says(process) for how, process in processes.items()} == dict.fromkeys(KINDS, str(number))
            assert {how: says(process) for how, process in processes.items()} == dict.fromkeys(KINDS, "ready")
    found = server.sql("SELECT how, a FROM thawed WHERE a > 0 ORDER BY 1, 2", database=database)
    assert found == [(how, number) for how in ("lease in a transaction", "write") for number in (1, 2)]
    server.sql("DROP TABLE thawed", database=database)
