"""Fault 49: no file descriptor is free: what needs one fails with a clear error, and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import pytest

from tests.servers import Cluster, until

if TYPE_CHECKING:
    from tests.secure import Secure

pytestmark = pytest.mark.fault(number=49)

PROGRAM = """
import asyncio, errno, os, resource, sys
import headrace

held = []

def use_up():
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        assert error.errno == errno.EMFILE, error

async def wait_for_word(word):
    # The thread is started while there are descriptors.
    print(word, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)

async def main():
    connection = await headrace.connect({dsn!r}, ssl={ssl!r}, sslrootcert={root!r}, application_name="cancelled")
    call = asyncio.create_task(connection.execute("SELECT pg_sleep(600)"))
    await wait_for_word("running")
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    use_up()
    call.cancel()
    try:
        await call
    except asyncio.CancelledError:
        pass
    await wait_for_word("cancelled")
    assert connection.is_closed()
    use_up()
    try:
        await headrace.connect({dsn!r}, ssl="disable")
    except OSError as error:
        assert error.errno == errno.EMFILE, error
        assert "cannot connect to PostgreSQL at" in str(error), error
    os.close(held.pop())
    await (await headrace.connect({dsn!r}, ssl="disable")).close()
    held.append(os.open("/dev/null", os.O_RDONLY))
    print("done", flush=True)

asyncio.run(main())
"""


def active(server: Cluster) -> int:
    return sum(each.application == "cancelled" and each.state == "active" for each in server.backends())


async def check_that_the_query_ends(server: Cluster, dsn: str, ssl: str, root: str | None) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM.format(dsn=dsn, ssl=ssl, root=root),
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert program.stdin is not None
    assert program.stdout is not None
    try:
        assert await program.stdout.readline() == b"running\n"
        await asyncio.to_thread(until, lambda: active(server) == 1, "the query runs")
        program.stdin.write(b"\n")
        assert await program.stdout.readline() == b"cancelled\n"
        await asyncio.to_thread(until, lambda: active(server) == 0, "the query is cancelled")
        program.stdin.write(b"\n")
        assert await program.stdout.readline() == b"done\n"
        assert await program.wait() == 0
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()


async def test_a_cancelled_query_ends_at_the_server(server: Cluster) -> None:
    """The connection is given up, and the CancelRequest takes its descriptor."""
    await check_that_the_query_ends(server, server.dsn(), "disable", None)


async def test_a_cancelled_query_ends_at_the_server_over_tls(tls: Secure) -> None:
    dsn = " ".join(f"{key}='{value}'" for key, value in tls.to("scram").items())
    await check_that_the_query_ends(tls.cluster, dsn, "verify-full", str(tls.pki.root))
