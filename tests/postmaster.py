"""The process of a test server: run as a user that PostgreSQL accepts, and never left behind."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from tests.installations import Installation

HOST = "127.0.0.1"

UNPRIVILEGED = "nobody"
"""Who a server runs as when the tests run as root, which PostgreSQL refuses to do."""

PATIENCE = 60.0
"""Seconds that a server may take for anything asked of it here; more is a failure."""

# Ends the server $1 and removes its directory $2 once the test process has died: standard input is a pipe
# from there.
GUARD = """
read -r _
kill -QUIT "$1"
for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$1" 2>/dev/null || break; sleep 0.5; done
rm -rf "$2"
"""

ShutdownMode = Literal["smart", "fast", "immediate"]
"""How a postmaster ends ("Shutting Down the Server"): smart waits for its clients to leave, fast ends their
sessions, immediate aborts and leaves recovery to the next start."""

_SIGNALS: dict[ShutdownMode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}


class ServerError(Exception):
    """A test server did not do what was asked of it."""


def until(check: Callable[[], bool], what: str, *, within: float = PATIENCE) -> None:
    """Call `check` until it answers True; ServerError naming `what` after `within` seconds."""
    deadline = time.monotonic() + within
    while not check():
        if time.monotonic() > deadline:
            raise ServerError(f"{what}: not within {within:g} s")
        time.sleep(0.01)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on just now."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


class HeldPort:
    """A TCP port of 127.0.0.1 that the kernel gives to nobody who lets it choose, also while its server is down.

    For it is bound already, here. On Linux a server can listen there all the same, since both sides set SO_REUSEADDR
    ("socket(7)"); elsewhere it could not, and the port is merely one that was free.
    """

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((HOST, 0))
        self.number: int = self._socket.getsockname()[1]
        if sys.platform != "linux":
            self.close()

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()


def open_to_all(directory: Path) -> bool:
    """True if any user may enter `directory`, through every directory above it."""
    return all(place.stat().st_mode & stat.S_IXOTH for place in (directory, *directory.parents))


class Account:
    """The user that servers run as: the one running the tests, or for root an unprivileged one."""

    def __init__(self) -> None:
        self._other = pwd.getpwnam(UNPRIVILEGED) if os.geteuid() == 0 else None

    def may_enter(self, directory: Path) -> bool:
        """True if a server can read what is in `directory`."""
        return self._other is None or open_to_all(directory)

    def own(self, path: Path) -> None:
        """Make the server's user the owner of `path`."""
        if self._other is not None:
            os.chown(path, self._other.pw_uid, self._other.pw_gid)

    def private_directory(self) -> Path:
        """Make a temporary directory that only the server's user may enter (and root)."""
        base = Path(tempfile.gettempdir())
        directory = Path(tempfile.mkdtemp(prefix="headrace-", dir=base if self.may_enter(base) else "/tmp"))
        self.own(directory)
        return directory.resolve()

    def process(self, directory: Path) -> dict[str, Any]:
        """Return keyword arguments for subprocess: this user, in `directory`, an environment without PG*."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        kwargs: dict[str, Any] = {"cwd": directory, "env": {**environment, "LC_ALL": "C"}}
        if self._other is not None:
            kwargs |= {"user": self._other.pw_uid, "group": self._other.pw_gid, "extra_groups": []}
        return kwargs


class Postmaster:
    """The server process over `directory`/data, with its Unix socket and its log in `directory`.

    What takes longer than PATIENCE raises ServerError with the end of the log.
    """

    def __init__(self, installation: Installation, directory: Path, account: Account) -> None:
        self.installation = installation
        self.directory = directory
        self.data = directory / "data"
        self.log = directory / "server.log"
        self.log.touch()
        self._port: HeldPort | None = None
        self._account = account
        self._server: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._frozen: list[int] = []

    @property
    def is_running(self) -> bool:
        """True if the process was started and has not ended."""
        return self._server is not None and self._server.poll() is None

    @property
    def port(self) -> int:
        """The TCP port, the same for all starts; 0 before the first."""
        return 0 if self._port is None else self._port.number

    @property
    def pid(self) -> int:
        """The process id; ServerError where there is none."""
        if self._server is None:
            raise ServerError(f"{self.installation.name} is not running")
        return self._server.pid

    def start(self) -> None:
        """Start, and return when connections are accepted; the first start chooses the port for all."""
        attempts = 1 if self._port else 5
        for attempt in range(1, attempts + 1):
            port = self._port or HeldPort()
            logged = self.log.stat().st_size
            try:
                self._spawn(port.number)
                until(self._accepts_connections, "the server starts")
            except BaseException as error:
                self.kill()
                if port is not self._port:
                    port.close()
                # Where a port cannot be held, somebody else may have taken it meanwhile.
                taken = b"Address already in use" in self.log.read_bytes()[logged:]
                if attempt == attempts or not (taken and isinstance(error, ServerError)):
                    raise
            else:
                self._port = port
                return

    def stop(self, mode: ShutdownMode) -> None:
        """Shut down and wait for the end; nothing happens where the server is not running."""
        self.thaw()
        try:
            if self._server is not None and self._server.poll() is None:
                self._server.send_signal(_SIGNALS[mode])
                self._server.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise self.failure(f"no end within {PATIENCE:g} s of a {mode} shutdown") from None
        finally:
            self.kill()

    def processes(self) -> list[int]:
        """Return the ids of the postmaster and of the processes that it has started."""
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], check=True, stdout=subprocess.PIPE, text=True).stdout
        pairs = [line.split() for line in listed.splitlines()]
        return [self.pid, *(int(pid) for pid, parent in pairs if int(parent) == self.pid)]

    def freeze(self) -> None:
        """Stop all processes by SIGSTOP: connections are accepted by the kernel, and nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)
        # From here on none is added.
        self._frozen = self.processes()
        for pid in self._frozen[1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the processes go on; nothing happens where they are not frozen."""
        frozen, self._frozen = self._frozen, []
        for pid in reversed(frozen):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def crash(self) -> None:
        """Kill all processes by SIGKILL, as the machine's loss of power does."""
        pids = self.processes()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._frozen = []
        self.kill()

    def kill(self) -> None:
        """Leave no process behind, whatever state it is in."""
        self.thaw()
        # The guard first: it must not signal a process id that is no longer the server's.
        for process in (self._guard, self._server):
            if process is not None:
                process.kill()
                process.wait()
                if process.stdin is not None:
                    process.stdin.close()
        self._guard = self._server = None

    def let_go(self) -> None:
        """Give up the port; there will be no further start."""
        if self._port is not None:
            self._port.close()

    def run(self, program: str, *arguments: str, script: str = "") -> None:
        """Run one of PostgreSQL's programs, or of the system's, as the server's user.

        ServerError with its output if it fails.
        """
        own = self.installation.bin / program
        done = subprocess.run(
            [str(own) if own.exists() else program, *arguments],
            check=False,
            input=script,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            **self._account.process(self.directory),
        )
        if done.returncode != 0:
            raise ServerError(f"{program} ended with status {done.returncode}:\n{done.stdout}")

    def failure(self, what: str) -> ServerError:
        """Return the error that says `what`, followed by the end of the log."""
        logged = self.log.read_text(errors="replace").splitlines()[-30:]
        return ServerError("\n".join([f"{self.installation.name}: {what}; the end of its log:", *logged]))

    def _spawn(self, port: int) -> None:
        with self.log.open("ab") as log:
            self._server = subprocess.Popen(
                [
                    *(str(self.installation.bin / "postgres"), "-D", str(self.data)),
                    *("-p", str(port), "-k", str(self.directory)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A Ctrl-C in the terminal is for the tests, which then stop the server in their own order.
                start_new_session=True,
                **self._account.process(self.directory),
            )
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "guard", str(self._server.pid), str(self.directory)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _accepts_connections(self) -> bool:
        assert self._server is not None
        status = self._server.poll()
        if status is not None:
            raise self.failure(f"the server ended with status {status} instead of starting")
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        # Line 1 is the process id, line 8 the status (pidfile.h, LOCK_FILE_LINE_PM_STATUS).
        return len(lines) >= 8 and lines[0] == str(self._server.pid) and lines[7].strip() == "ready"
