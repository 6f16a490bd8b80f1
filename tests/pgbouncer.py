"""Real PgBouncers in front of test servers: each a process of its own, gone when its `with` block is left.

    with PgBouncer(program, cluster, pool_mode="transaction", default_pool_size="2") as pooler:
        dsn = pooler.dsn(database)

Any database and any user of the cluster may be connected to without a password. Few server connections, given out in
turn, are what makes a client see that its backend changes: by default there are three and the one that has rested
longest goes first (`server_round_robin`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

from tests.postmaster import GUARD, HOST, PATIENCE, Account, ServerError, free_port, until
from tests.servers import SUPERUSER, Cluster

ADMIN = "pgbouncer"
"""The name of the database that is PgBouncer's own console ("Admin console" in its manual)."""

SETTINGS = {
    "listen_addr": HOST,
    "unix_socket_dir": "",
    "auth_type": "trust",
    "admin_users": SUPERUSER,
    "pool_mode": "transaction",
    "default_pool_size": "3",
    # Otherwise the connection given back last is given out first, and a single client always meets the same backend.
    "server_round_robin": "1",
    "server_login_retry": "1",
    "max_client_conn": "400",
}


@dataclass(frozen=True)
class Program:
    """One PgBouncer that is installed here."""

    path: Path
    version: tuple[int, ...]

    @property
    def name(self) -> str:
        """Return `pgbouncer1.24`, as it appears in test ids."""
        return f"pgbouncer{self.version[0]}.{self.version[1]}"

    @property
    def keeps_statements(self) -> bool:
        """True if it knows `max_prepared_statements`, which came with 1.21."""
        return self.version >= (1, 21)


def program_at(path: Path) -> Program:
    """Return the program at `path`; LookupError where that is no PgBouncer."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise LookupError(f"no PgBouncer at {path}: {error}") from None
    found = re.match(r"PgBouncer ([0-9.]+)", said)
    if found is None:
        raise LookupError(f"{path} --version says {said.strip()!r}, which names no version of PgBouncer")
    return Program(path, tuple(int(part) for part in found[1].split(".")))


def installed() -> list[Program]:
    """Return the PgBouncer of this machine, if it has one; that of an administrator may be outside of PATH."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return [] if found is None else [program_at(Path(found))]


class PgBouncer:
    """A PgBouncer process in front of a cluster; `settings` go into the [pgbouncer] section of its configuration."""

    def __init__(self, program: Program, cluster: Cluster, **settings: str) -> None:
        self.program = program
        self.port = 0
        self.settings = {**SETTINGS, **settings}
        self._cluster = cluster
        self._account = Account()
        self.directory = self._account.private_directory()
        self.log = self.directory / "pgbouncer.log"
        self.log.touch()
        self._account.own(self.log)
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"<PgBouncer {self.program.name} {self.settings['pool_mode']} on port {self.port}>"

    @property
    def host(self) -> str:
        """The address."""
        return HOST

    def dsn(self, database: str) -> str:
        """Return a connection URI."""
        return f"postgresql://{SUPERUSER}@{HOST}:{self.port}/{database}"

    def kwargs(self, database: str) -> dict[str, Any]:
        """Return keyword arguments for `headrace.connect()`."""
        return {"host": HOST, "port": self.port, "user": SUPERUSER, "database": database}

    @property
    def is_running(self) -> bool:
        """True if the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start, and return when connections are accepted."""
        for attempt in range(5):
            self.port = free_port()
            self._write_configuration()
            self._spawn()
            try:
                until(self._accepts_connections, "PgBouncer starts")
                return
            except ServerError:
                self.kill()
                if attempt == 4:
                    raise

    def console(self, command: str) -> list[dict[str, Any]]:
        """Run a command of the admin console, such as "SHOW SERVERS", and return its rows."""
        with psycopg.connect(self.dsn(ADMIN), autocommit=True, connect_timeout=10) as connection:
            cursor = connection.execute(command.encode())
            if cursor.description is None:
                return []
            names = [column.name for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def kill(self) -> None:
        """Leave no process behind."""
        # The guard first: it must not signal a process id that is no longer PgBouncer's.
        for process in (self._guard, self._process):
            if process is not None:
                process.kill()
                process.wait()
                if process.stdin is not None:
                    process.stdin.close()
        self._guard = self._process = None

    def remove(self) -> None:
        """End the process and delete its files."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _write_configuration(self) -> None:
        settings = {**self.settings, "listen_port": str(self.port), "logfile": str(self.log)}
        users = self.directory / "users.txt"
        users.write_text(f'"{SUPERUSER}" ""\n')
        lines = [
            "[databases]",
            f"* = host={self._cluster.host()} port={self._cluster.port}",
            "[pgbouncer]",
            f"auth_file = {users}",
            *(f"{name} = {value}" for name, value in settings.items()),
        ]
        configuration = self.directory / "pgbouncer.ini"
        configuration.write_text("".join(f"{line}\n" for line in lines))
        for path in (users, configuration):
            self._account.own(path)

    def _spawn(self) -> None:
        self._process = subprocess.Popen(
            [str(self.program.path), "--quiet", str(self.directory / "pgbouncer.ini")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # A Ctrl-C in the terminal is for the tests, which then stop it in their own order.
            start_new_session=True,
            **self._account.process(self.directory),
        )
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "guard", str(self._process.pid), str(self.directory)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _accepts_connections(self) -> bool:
        assert self._process is not None
        status = self._process.poll()
        if status is not None:
            logged = self.log.read_text(errors="replace")
            raise ServerError(f"PgBouncer ended with status {status} instead of starting; its log:\n{logged}")
        try:
            self.console("SHOW VERSION")
        except psycopg.OperationalError:
            return False
        return True


__all__ = ["PATIENCE", "PgBouncer", "Program", "installed", "program_at"]
