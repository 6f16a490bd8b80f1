"""Real PostgreSQL servers for tests: each a cluster of its own, gone when the tests end.

    with Cluster(installation) as cluster:
        cluster.sql("SELECT version()")
        with cluster.database() as name:
            dsn = cluster.dsn(name)

A cluster listens on 127.0.0.1 and on a Unix socket, both with trust authentication; `hba` and `settings`
change that for the length of a `with` block. Durability is switched off. Everything here is synchronous and
goes by psycopg, so that nothing of the driver under test takes part in judging it.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import psycopg

from tests.installations import Installation
from tests.postmaster import HOST, PATIENCE, Account, Postmaster, ServerError, ShutdownMode, until

__all__ = ["HOST", "PATIENCE", "SUPERUSER", "Backend", "Cluster", "Replicas", "ServerError", "until"]

SUPERUSER = "postgres"

MONITOR = "monitor"
"""The role this module connects as; it gets in whatever `hba` says, so no test can lock its harness out."""

SETTINGS = {
    "listen_addresses": HOST,
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    # A worker busy in template1 would make CREATE DATABASE wait, and nothing here lives long enough to need
    # one.
    "autovacuum": "off",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "max_prepared_transactions": "10",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_line_prefix": "%m [%p] %q%a@%d ",
    # The default leaves files in /dev/shm when a server is killed; these stay in the data directory.
    "dynamic_shared_memory_type": "mmap",
    # By default a standby that has lost its primary looks for another one only every five seconds.
    "wal_retrieve_retry_interval": "100ms",
    # A standby that comes back finds what it has missed.
    "wal_keep_size": "64MB",
    # As with segments of 16 MB; the defaults go by the size.
    "min_wal_size": "80MB",
    "max_wal_size": "1GB",
}

SEGMENT_NAME = 24
"""Hexadecimal digits of a WAL segment's name: eight of the timeline, sixteen of the position."""

TRUST = (
    "local all all trust",
    "host all all 127.0.0.1/32 trust",
    "local replication all trust",
    "host replication all 127.0.0.1/32 trust",
)

# Removes its argument once the test process has ended, in whatever way: standard input is a pipe from there.
REMOVER = 'read -r _; rm -rf "$1"'

Rows = list[tuple[Any, ...]]


class Backend(NamedTuple):
    """One client backend, as pg_stat_activity shows it."""

    pid: int
    user: str
    database: str
    application: str
    state: str | None
    query: str


class Cluster:
    """A PostgreSQL server with a data directory, a TCP port and a Unix socket of its own; a context manager.

    Its data directory is a copy of one that initdb has made for all clusters of this process: a copy takes a fifth of
    the time. Copies share a system identifier; with `identified` initdb runs again and gives the cluster one of its
    own. With `standby_of` the cluster is a streaming standby of another one of the same version. It begins as the same
    copy if the other one still has all that it has written since, and as a base backup otherwise.

    A server that does not do in PATIENCE seconds what it is told to raises ServerError. Its process and its
    files are gone when the `with` block is left, and soon after the test process was killed. Not thread-safe.
    """

    def __init__(
        self, installation: Installation, *, standby_of: Cluster | None = None, identified: bool = False
    ) -> None:
        self._account = Account()
        self.directory = self._account.private_directory()
        self._values: dict[str, str] = dict(SETTINGS)
        self._rules: tuple[str, ...] = TRUST
        self._monitor: psycopg.Connection[tuple[Any, ...]] | None = None
        self._numbers = itertools.count(1)
        self._template: Path | None = None
        self._behind: str | None = None
        try:
            self.postmaster = _postmaster(installation, self.directory, self._account)
            if standby_of is not None:
                self._follow(standby_of)
            elif identified:
                _initialise(self.postmaster)
            else:
                self._template = _template(installation)
                self._copy(self._template)
            self._write_configuration()
        except BaseException:
            self.remove()
            raise

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.stop("immediate")
        finally:
            self.postmaster.let_go()
            self.remove()

    def __repr__(self) -> str:
        return f"<Cluster {self.name} on port {self.port}{'' if self.is_running else ', stopped'}>"

    # Where it is

    @property
    def name(self) -> str:
        """The installation's name, such as `pg18`."""
        return self.postmaster.installation.name

    @property
    def version(self) -> int:
        """The server's major version."""
        return self.postmaster.installation.version

    @property
    def port(self) -> int:
        """The TCP port, also the number in the Unix socket's name; 0 before the first start."""
        return self.postmaster.port

    @property
    def is_running(self) -> bool:
        """True if the server was started and has not ended."""
        return self.postmaster.is_running

    def host(self, *, unix: bool = False) -> str:
        """Return the address, or with `unix` the directory of the Unix socket."""
        return str(self.directory) if unix else HOST

    def dsn(
        self,
        database: str = SUPERUSER,
        *,
        user: str = SUPERUSER,
        password: str | None = None,
        unix: bool = False,
    ) -> str:
        """Return a connection URI, by TCP, or by the Unix socket with `unix`."""
        login = quote(user, safe="")
        if password is not None:
            login += ":" + quote(password, safe="")
        place = f"host={quote(self.host(unix=unix), safe='')}&port={self.port}"
        return f"postgresql://{login}@/{quote(database, safe='')}?{place}"

    # Life

    def start(self) -> None:
        """Start the server, on the port it had if it had one; returns when it accepts connections.

        A new standby has what its primary had when it was made.
        """
        self.postmaster.start()
        if self._behind is not None:
            self.catch_up(self._behind)
            self._behind = None

    def stop(self, mode: ShutdownMode = "fast") -> None:
        """Shut the server down and wait for its end; nothing happens where it is not running."""
        self._forget_monitor()
        self.postmaster.stop(mode)

    def restart(self, mode: ShutdownMode = "fast") -> None:
        """Stop in the given mode and start again, on the same port and socket."""
        self.stop(mode)
        self.start()

    def reload(self) -> None:
        """Have the server read its configuration; connections made after the return go by the new one."""
        before = self.sql("SELECT pg_conf_load_time()")[0][0]
        os.kill(self.postmaster.pid, signal.SIGHUP)

        def is_loaded() -> bool:
            # A backend inherits the load time of the postmaster that forked it, so each look needs a new one.
            with self._connect() as connection:
                row = connection.execute("SELECT pg_conf_load_time() > %s", (before,)).fetchone()
            return row == (True,)

        until(is_loaded, "the server reloads its configuration")

    def promote(self) -> None:
        """Make a standby a primary; returns when it takes writes."""
        self.sql("SELECT pg_promote(wait => false)")
        until(lambda: self.sql("SELECT pg_is_in_recovery()") == [(False,)], f"{self} becomes a primary")

    def position(self) -> str:
        """Return a position in the WAL that a standby has reached once it has replayed all that is written by now."""
        position: str = self.sql("SELECT pg_current_wal_insert_lsn()::text")[0][0]
        # The start of a page counts as reached only once something behind it was replayed, and an idle primary writes
        # something every 15 seconds.
        self.sql(
            "BEGIN; SET LOCAL synchronous_commit = local; SELECT pg_logical_emit_message(true, 'tests', ''); COMMIT"
        )
        return position

    def catch_up(self, position: str) -> None:
        """Wait until a standby has replayed the WAL up to a position."""
        replayed = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
        until(lambda: self.sql(replayed, position) == [(True,)], f"{self} replays up to {position}")

    def freeze(self) -> None:
        """Stop every process of the server: it accepts connections, and answers nothing until `thaw()` or the end."""
        self.postmaster.freeze()

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self.postmaster.thaw()

    def crash(self) -> None:
        """End every process of the server by SIGKILL."""
        self._forget_monitor()
        self.postmaster.crash()

    def follow(self, primary: Cluster) -> None:
        """Have a standby follow another primary from now on, after a promotion for instance."""
        self.sql(f"ALTER SYSTEM SET primary_conninfo = '{primary._address}'")
        self.reload()

    def rejoin(self, primary: Cluster) -> None:
        """Start the server anew, on the same port, as a standby with a copy of another server's data."""
        self.stop("immediate")
        shutil.rmtree(self.postmaster.data)
        self._follow(primary)
        self._write_configuration()
        self.start()

    def remove(self) -> None:
        """Delete the server's files; it must have been stopped."""
        shutil.rmtree(self.directory, ignore_errors=True)

    # Configuration

    @contextmanager
    def settings(
        self, values: Mapping[str, str] | None = None, /, *, restart: bool = False, **more: str
    ) -> Iterator[None]:
        """Run the block with other server settings, after a reload, or a restart for those that need one."""
        before = self._values
        self._values = {**before, **(values or {}), **more}
        try:
            self._configure(restart=restart)
            yield
        finally:
            self._values = before
            self._configure(restart=restart)

    @contextmanager
    def hba(self, *rules: str) -> Iterator[None]:
        """Run the block with these pg_hba.conf lines ahead of the ones that trust everybody."""
        before = self._rules
        self._rules = (*rules, *before)
        try:
            self._configure()
            yield
        finally:
            self._rules = before
            self._configure()

    # Contents

    def sql(self, query: str, *parameters: object, database: str | None = None) -> Rows:
        """Run a query as a superuser, in a transaction of its own, and return its rows; `%s` is a parameter.

        It runs in the database `postgres` on a connection that is kept, or with `database` there on a new
        one.
        """
        if database is not None:
            with self._connect(database) as connection:
                return _rows(connection, query, parameters)
        if self._monitor is not None:
            try:
                return _rows(self._monitor, query, parameters)
            except psycopg.OperationalError:
                # A test may have ended every backend there is, this one among them.
                if not self._monitor.broken:
                    raise
                self._forget_monitor()
        self._monitor = self._connect()
        return _rows(self._monitor, query, parameters)

    @contextmanager
    def database(self, *, template: str = "template1") -> Iterator[str]:
        """Run the block with a new database, a copy of `template`; dropped then, whoever is connected."""
        name = f"test_{next(self._numbers)}"
        # Nobody waits for a disk here, so a copy of files takes a third of the time.
        option = "STRATEGY file_copy" if self.version >= 15 else ""
        self.sql(f'CREATE DATABASE "{name}" TEMPLATE "{template}" {option}')
        try:
            yield name
        finally:
            if self.is_running:
                self.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def backends(self, database: str | None = None) -> list[Backend]:
        """Return the client backends, of one database or of all, without those of this module."""
        rows = self.sql(
            "SELECT pid, usename, datname, application_name, state, query FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND usename <> %s"
            " AND datname = coalesce(%s::text, datname) ORDER BY pid",
            MONITOR,
            database,
        )
        return [Backend(*row) for row in rows]

    def connection(self, database: str) -> psycopg.Connection[tuple[Any, ...]]:
        """Open a connection that `backends` leaves out. The caller closes it."""
        return self._connect(database)

    def waits_for(self, pid: int) -> str | None:
        """Return the event that a backend waits for, "" for none; None where there is no such backend."""
        rows = self.sql("SELECT coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = %s", pid)
        return rows[0][0] if rows else None

    # How it is done

    def _copy(self, template: Path) -> None:
        self.postmaster.run("cp", "-R", str(template), str(self.postmaster.data))

    def _follow(self, primary: Cluster) -> None:
        """Make the data directory of a standby."""
        self._template = None
        template = primary._template
        if template is not None and (primary.postmaster.data / "pg_wal" / _first_segment(template)).exists():
            # It was shut down in order, so it is a base backup of all that have begun as copies of it.
            self._copy(template)
            kept = (primary.postmaster.data / "postgresql.auto.conf").read_text().splitlines()
            self._write("postgresql.auto.conf", [*kept, f"primary_conninfo = '{primary._address}'"])
            self._write("standby.signal", [])
            self._behind = primary.position()
            return
        self.postmaster.run(
            "pg_basebackup",
            *("--pgdata", str(self.postmaster.data), "--write-recovery-conf", "--wal-method", "stream"),
            *("--checkpoint", "fast", "--no-sync", "--dbname", primary.dsn()),
        )

    def _configure(self, *, restart: bool = False) -> None:
        """Write the configuration and have a running server use it; ServerError where it does not like it."""
        self._write_configuration()
        if restart:
            self.restart()
        elif self.is_running:
            self.reload()
        else:
            return
        wrong = self.sql(
            "SELECT format('%s = %s: %s', name, setting, error) FROM pg_file_settings"
            " WHERE error IS NOT NULL UNION ALL"
            " SELECT format('pg_hba.conf line %s: %s', line_number, error) FROM pg_hba_file_rules"
            " WHERE error IS NOT NULL"
        )
        if wrong:
            raise ServerError("; ".join(text for (text,) in wrong))

    def _write_configuration(self) -> None:
        escaped = {name: value.replace("'", "''") for name, value in self._values.items()}
        self._write("tests.conf", [f"{name} = '{value}'" for name, value in escaped.items()])
        self._write("pg_hba.conf", [f"local all {MONITOR} trust", *self._rules])

    def _write(self, name: str, lines: Sequence[str]) -> None:
        path = self.postmaster.data / name
        path.write_text("".join(f"{line}\n" for line in lines))
        self._account.own(path)

    @property
    def _address(self) -> str:
        """The address that a standby connects to."""
        return f"host={self.host()} port={self.port} user={SUPERUSER}"

    def _connect(self, database: str = SUPERUSER) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(
            host=str(self.directory),
            port=self.port,
            user=MONITOR,
            dbname=database,
            application_name=MONITOR,
            autocommit=True,
            connect_timeout=10,
        )

    def _forget_monitor(self) -> None:
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None


class Replicas:
    """A primary and its streaming standbys, of one installation; a context manager.

        with Replicas(installation) as replicas:
            dsn = replicas.dsn(target_session_attrs="primary")
            replicas.primary.freeze()
            replicas.promote(replicas.standbys[0])

    `servers` keeps its order: at first the primary, then the standbys. `primary` is the one that was promoted last.
    """

    def __init__(self, installation: Installation, standbys: int = 2) -> None:
        self._installation = installation
        self._count = standbys
        self._stack = ExitStack()
        self.servers: list[Cluster] = []
        self.primary: Cluster

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.primary = stack.enter_context(Cluster(self._installation))
            self.servers = [self.primary]
            for _ in range(self._count):
                self.servers.append(stack.enter_context(Cluster(self._installation, standby_of=self.primary)))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    @property
    def standbys(self) -> list[Cluster]:
        """The servers that are not the primary."""
        return [server for server in self.servers if server is not self.primary]

    def dsn(self, *servers: Cluster, **options: str) -> str:
        """Return a connection URI of all servers in their order, or of these, with options."""
        hosts = ",".join(f"{each.host()}:{each.port}" for each in servers or self.servers)
        more = "&".join(f"{name}={quote(value, safe='')}" for name, value in options.items())
        return f"postgresql://{SUPERUSER}@{hosts}/{SUPERUSER}?{more}"

    def catch_up(self) -> None:
        """Wait until all running standbys have replayed what the primary has written."""
        position = self.primary.position()
        for standby in self.standbys:
            if standby.is_running:
                standby.catch_up(position)

    def promote(self, standby: Cluster) -> None:
        """Make a standby the primary; returns when it takes writes. The other running standbys follow it."""
        others = [each for each in self.standbys if each is not standby and each.is_running]
        standby.promote()
        self.primary, former = standby, self.primary
        for each in others:
            if each is not former:
                each.follow(standby)


def _postmaster(installation: Installation, directory: Path, account: Account) -> Postmaster:
    """Return a postmaster over a directory, with programs that its user can run."""
    if not account.may_enter(installation.bin):
        installation = installation.copied_to(directory)
    return Postmaster(installation, directory, account)


def _initialise(postmaster: Postmaster) -> None:
    """Make the data directory of a cluster."""
    postmaster.run(
        "initdb",
        *("--pgdata", str(postmaster.data), "--username", SUPERUSER, "--auth", "trust"),
        *("--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"),
        # Segments of 16 MB, the default, would be almost half of each copy.
        *("--wal-segsize", "1"),
    )
    # A single-user backend reads its script from standard input: no server has to be up for it.
    create = f"CREATE ROLE {MONITOR} SUPERUSER LOGIN\n"
    postmaster.run("postgres", "--single", "-D", str(postmaster.data), SUPERUSER, script=create)
    with (postmaster.data / "postgresql.conf").open("a") as file:
        file.write("include 'tests.conf'\n")


@functools.cache
def _template(installation: Installation) -> Path:
    """Return a data directory for clusters to be copies of; it is removed as this process ends."""
    account = Account()
    directory = account.private_directory()
    remover = subprocess.Popen(
        ["/bin/sh", "-c", REMOVER, "remover", str(directory)], stdin=subprocess.PIPE, start_new_session=True
    )
    atexit.register(remover.communicate)
    postmaster = _postmaster(installation, directory, account)
    _initialise(postmaster)
    return postmaster.data


@functools.cache
def _first_segment(template: Path) -> str:
    """Return the name of the first WAL segment: a server that has it has all that follow."""
    return min(path.name for path in (template / "pg_wal").iterdir() if len(path.name) == SEGMENT_NAME)


def _rows(connection: psycopg.Connection[tuple[Any, ...]], query: str, parameters: tuple[object, ...]) -> Rows:
    cursor = connection.execute(query.encode(), parameters or None)
    return cursor.fetchall() if cursor.description else []
