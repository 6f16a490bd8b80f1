"""`storefront serve`, as a program."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import Result

import headrace

Program = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def serve(program: Program, dsn: str) -> Callable[..., tuple[subprocess.Popen[str], str]]:
    """A function that starts the service, and returns the process and the address once it listens."""

    def start(*args: str) -> tuple[subprocess.Popen[str], str]:
        process = program("serve", "--port", "0", *args, dsn=dsn)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving on http://127.0.0.1:"), process.communicate()
        return process, line.removeprefix("serving on ").strip()

    return start


@pytest.fixture
def key(run: Callable[..., Result], dsn: str) -> str:
    """The key of a partner."""
    return run("partners", "add", "Aurora", dsn=dsn).stdout.strip()


class Lock:
    """A lock of the table sku, held by a connection. Every look-up waits for it."""

    def __init__(self, dsn: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._connection: headrace.Connection = self._run(headrace.connect(dsn))
        self._run(self._connection.execute("BEGIN; LOCK TABLE sku IN ACCESS EXCLUSIVE MODE"))

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(coroutine)

    def _waiters(self) -> int:
        count: int = self._run(self._connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))
        return count

    def wait_for_waiter(self) -> None:
        """Wait until a look-up waits."""
        while not self._waiters():
            pass

    def wait_for_no_waiter(self) -> None:
        """Wait until no look-up waits any more, although the table is locked."""
        while self._waiters():
            pass

    def release(self) -> None:
        """Let the look-ups go on."""
        self._run(self._connection.execute("ROLLBACK"))

    def close(self) -> None:
        """Close the connection."""
        self._run(self._connection.close())
        self._loop.close()


@pytest.fixture
def lock(dsn: str) -> Iterator[Lock]:
    """A lock that every look-up waits for."""
    lock = Lock(dsn)
    yield lock
    lock.close()


class Batch(threading.Thread):
    """A batch that is sent in a thread."""

    def __init__(self, address: str, key: str) -> None:
        super().__init__(daemon=True)
        self._address = address
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "text/plain"}
        self.answer: httpx.Response
        self.start()

    def run(self) -> None:
        self.answer = httpx.post(f"{self._address}/v1/batches", content="1\n", headers=self._headers, timeout=120)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_running_batches_and_refuses_new_ones(
    serve: Callable[..., tuple[subprocess.Popen[str], str]], key: str, lock: Lock, number: signal.Signals
) -> None:
    process, address = serve()
    batch = Batch(address, key)
    lock.wait_for_waiter()
    process.send_signal(number)
    headers = {"Authorization": f"Bearer {key}"}
    while (answer := httpx.get(f"{address}/v1/products/1/skus", headers=headers)).status_code == 200:
        pass
    assert (answer.status_code, answer.json()["detail"]) == (503, "the service is shutting down")
    assert answer.headers["connection"] == "close"
    assert "retry-after" in answer.headers
    assert httpx.get(f"{address}/readyz").status_code == 503
    assert batch.is_alive()
    lock.release()
    batch.join()
    assert batch.answer.status_code == 200
    assert json.loads(batch.answer.text.splitlines()[-1])["outcome"] == "complete"
    out, err = process.communicate()
    assert (process.returncode, out, err) == (0, "", "")


def test_after_the_grace_time_running_batches_are_ended(
    serve: Callable[..., tuple[subprocess.Popen[str], str]], key: str, lock: Lock
) -> None:
    process, address = serve("--grace", "0.05")
    batch = Batch(address, key)
    lock.wait_for_waiter()
    process.terminate()
    batch.join()
    assert (batch.answer.status_code, batch.answer.json()["detail"]) == (503, "the service is shutting down")
    process.communicate()
    assert process.returncode == 0
    lock.wait_for_no_waiter()


def test_other_commands_work_beside_the_service_on_the_embedded_server(
    program: Program, run: Callable[..., Result], tmp_path: Path
) -> None:
    where = ("--data-dir", str(tmp_path / "catalogue"))
    assert run("init", *where).exit_code == 0
    process = program("serve", "--port", "0", *where)
    assert process.stdout is not None
    address = process.stdout.readline().removeprefix("serving on ").strip()
    assert run("load", "--brands", "1", "--products", "1", "--skus", "1", *where).exit_code == 0
    key = run("partners", "add", "Aurora", *where).stdout.strip()
    answer = httpx.get(f"{address}/v1/products/1/skus", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200
    assert run("partners", "revoke", "Aurora", *where).exit_code == 0
    process.terminate()
    out, err = process.communicate()
    assert (process.returncode, out, err) == (0, "", "")


def test_a_body_of_a_gigabyte_takes_no_memory(
    serve: Callable[..., tuple[subprocess.Popen[str], str]], key: str
) -> None:
    process, address = serve()

    def most_memory() -> int:
        status = Path(f"/proc/{process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1_024

    headers = {"Authorization": f"Bearer {key}", "Content-Type": "text/plain"}
    httpx.post(f"{address}/v1/batches", content="1\n", headers=headers)
    before = most_memory()
    sent = 0
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(
            f"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
            "Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        piece = b"10000\r\n" + b"1\n" * 2**15 + b"\r\n"
        client.settimeout(0)
        answer = b""
        while sent < 10**9 and not answer:
            client.settimeout(60)
            client.sendall(piece)
            sent += 2**16
            client.settimeout(0)
            try:
                answer = client.recv(4_096)
            except BlockingIOError:
                continue
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert sent < 64 * 2**20
    assert most_memory() - before < 64 * 2**20


def test_no_database_at_the_start_is_a_clear_error(fails: Callable[..., None], bare: str) -> None:
    fails("serve", "--port", "0", "--dsn", bare, status=1, message="run `storefront init")
    nobody = "postgresql://nobody@127.0.0.1:1/products"
    fails("serve", "--port", "0", "--dsn", nobody, status=1, message="cannot reach the server")


@pytest.mark.parametrize("proxy", ["*", "proxy.example", "10.0.0.1/8", ""])
def test_a_proxy_is_an_address(fails: Callable[..., None], dsn: str, proxy: str) -> None:
    """Headers of another name would not be believed, without a word, and those of `*` from anybody."""
    message = f"--proxy expects an address or a network, such as 10.0.0.1 or 10.0.0.0/8, got {proxy!r}"
    fails("serve", "--port", "0", "--proxy", proxy, status=2, message=message, dsn=dsn)


def test_a_port_in_use_is_a_clear_error(fails: Callable[..., None], dsn: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = f"cannot listen on 127.0.0.1, port {port}: Address already in use: choose another --port\n"
        fails("serve", "--port", str(port), status=1, message=message, dsn=dsn)


def test_a_host_that_does_not_exist_is_a_clear_error(fails: Callable[..., None], dsn: str) -> None:
    fails("serve", "--host", "no-such-host.invalid", status=1, message="cannot listen on no-such-host.invalid", dsn=dsn)
