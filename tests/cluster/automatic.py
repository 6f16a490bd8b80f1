"""Clusters that fail over by themselves: three PostgreSQL servers under pg_auto_failover, or under Patroni with etcd.

    with PgAutoFailover() as bed:
        bed.wait_until_whole()
        bed.primary().kill()

All programs are Debian's. They run on 127.0.0.1 in a directory of their own, as a user that PostgreSQL accepts. All
processes are killed when the `with` block is left, and also soon after the test process has died.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Self

import psycopg

from tests.installations import DEBIAN
from tests.postmaster import HOST, UNPRIVILEGED, Account, HeldPort, ServerError, until

DATABASE = "postgres"
NODES = 3
LONGEST_RECOVERY = 120.0
"""Seconds within which three servers have to be one cluster again."""


class Node:
    """A PostgreSQL server with the program that watches over it."""

    def __init__(self, bed: Bed, name: str) -> None:
        self.bed = bed
        self.name = name
        self.directory = bed.directory / name
        self.directory.mkdir()
        bed.account.own(self.directory)
        self.held = HeldPort()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self.held.number

    def kill(self) -> None:
        """Kill the server and the program that would start it again, as if the machine had lost its power."""
        kill_all(self.directory)
        if self.process is not None:
            # As a zombie it would count as running, for a program that looks into its pid file.
            self.process.wait()
        shutil.rmtree(self.bed.run / "pg_autoctl" / self.directory.relative_to("/"), ignore_errors=True)

    def freeze(self) -> None:
        """Stop all processes: connections are accepted, and nothing is answered."""
        # A process may be started by one that is not stopped yet.
        for _ in range(2):
            signal_all(self.directory, signal.SIGSTOP)

    def thaw(self) -> None:
        signal_all(self.directory, signal.SIGCONT)

    def start(self) -> None:
        """Start the program that watches over the server."""
        self.process = self.bed._spawn(self.name, self.bed._command(self), self.directory)

    def revive(self) -> None:
        """Let a node go on that was frozen, and start one that was killed."""
        self.thaw()
        if self.process is None or self.process.poll() is not None:
            self.start()

    def connect(self, **kwargs: Any) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(
            host=HOST,
            port=self.port,
            user=self.bed.user,
            dbname=DATABASE,
            autocommit=True,
            connect_timeout=2,
            application_name="bed",
            **kwargs,
        )

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []


class Bed(ABC):
    """Three nodes with synchronous replication to one of the standbys at least."""

    programs: ClassVar[tuple[str, ...]]
    packages: ClassVar[str]

    @classmethod
    def missing(cls) -> str | None:
        """Return why this machine cannot run it; None if it can."""
        absent = [program for program in cls.programs if shutil.which(program) is None]
        if not (DEBIAN / "15" / "bin" / "postgres").exists():
            absent.append("PostgreSQL 15")
        if sys.platform != "linux":
            absent.append("Linux")
        return f"needs {', '.join(absent)} (Debian: {cls.packages})" if absent else None

    def __init__(self) -> None:
        self.account = Account()
        self.bin = DEBIAN / "15" / "bin"
        self.user = UNPRIVILEGED if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self.directory = self.account.private_directory()
        self.run = self.directory / "run"
        self.run.mkdir()
        self.account.own(self.run)
        self.held: list[HeldPort] = []
        self.started: list[subprocess.Popen[bytes]] = []
        self.guard = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.automatic", str(self.directory)],
            stdin=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            start_new_session=True,
        )
        self.nodes = [Node(self, f"node{number}") for number in range(1, NODES + 1)]

    def __enter__(self) -> Self:
        try:
            self._start()
            self.wait_until_whole()
            self.primary().sql("CREATE TABLE written (token int)")
            self.primary().sql("CREATE TABLE probed (token int)")
        except BaseException:
            sys.stderr.write(self.logged())
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Kill all processes, and delete the directory."""
        self.guard.communicate()
        for process in self.started:
            process.wait()
        for held in [*self.held, *(node.held for node in self.nodes)]:
            held.close()

    def dsn(self, *nodes: Node) -> str:
        hosts = ",".join(f"{HOST}:{node.port}" for node in nodes or self.nodes)
        return f"postgresql://{self.user}@{hosts}/{DATABASE}"

    def primary(self) -> Node:
        """Return the node that says that it is the primary; ServerError if it is not exactly one."""
        found = [node for node in self.nodes if not node.sql("SELECT pg_is_in_recovery()")[0][0]]
        if len(found) != 1:
            raise ServerError(f"{len(found)} nodes say that they are the primary")
        return found[0]

    def standbys(self) -> list[Node]:
        primary = self.primary()
        return [node for node in self.nodes if node is not primary]

    def wait_until_whole(self) -> None:
        """Return when there is a primary with two standbys that stream, one of which is synchronous."""

        def is_whole() -> bool:
            try:
                rows = self.primary().sql("SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'")
                for node in self.standbys():
                    node.sql("SELECT 1")
            except (psycopg.Error, ServerError):
                time.sleep(0.1)
                return False
            states = [state for (state,) in rows]
            return len(states) == NODES - 1 and bool({"sync", "quorum"} & set(states)) and self._is_settled()

        until(is_whole, f"{NODES} nodes are a cluster", within=LONGEST_RECOVERY)

    def revive(self) -> None:
        """Bring all nodes back."""
        for node in self.nodes:
            node.revive()

    def logged(self) -> str:
        """Return the end of each log."""
        pieces = []
        for log in sorted(self.directory.glob("*.log")):
            pieces += [f"--- {log.name}", *log.read_text(errors="replace").splitlines()[-25:]]
        return "\n".join(pieces)

    @abstractmethod
    def switch_over(self) -> None:
        """Make another node the primary, in an orderly way."""

    @abstractmethod
    def _start(self) -> None: ...

    @abstractmethod
    def _command(self, node: Node) -> list[str]: ...

    @abstractmethod
    def _is_settled(self) -> bool: ...

    def _port(self) -> int:
        self.held.append(HeldPort())
        return self.held[-1].number

    def _process(self) -> dict[str, Any]:
        kwargs = self.account.process(self.directory)
        kwargs["env"] = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "HOME": str(self.directory),
            "TMPDIR": str(self.directory),
            "XDG_CONFIG_HOME": str(self.directory / "config"),
            "XDG_DATA_HOME": str(self.directory / "share"),
            "XDG_RUNTIME_DIR": str(self.run),
            # pg_autoctl has servers listen there, and for some connections it takes libpq's default.
            "PG_REGRESS_SOCK_DIR": str(self.directory),
            "PGHOST": str(self.directory),
        }
        return kwargs

    def _spawn(self, name: str, command: list[str], place: Path | None = None) -> subprocess.Popen[bytes]:
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Some programs replace their arguments, so `processes()` knows them by the directory.
                **{**self._process(), "cwd": place or self.directory},
            )
        self.started.append(process)
        return process

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LONGEST_RECOVERY,
            **self._process(),
        )
        if done.returncode != 0:
            raise ServerError(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout}")


class PgAutoFailover(Bed):
    """pg_auto_failover: a monitor decides, and a keeper beside each server carries it out."""

    programs = ("pg_autoctl",)
    packages = "postgresql-15-auto-failover, pg-auto-failover-cli"

    SETTINGS: ClassVar[dict[str, str]] = {
        "health_check_period": "1s",
        "health_check_timeout": "1s",
        "health_check_retry_delay": "500ms",
        "node_considered_unhealthy_timeout": "3s",
        "startup_grace_period": "1s",
        "primary_demote_timeout": "3s",
    }
    """The monitor's defaults wait for half a minute."""

    def _start(self) -> None:
        monitor = self.directory / "monitor"
        self.monitor_port = self._port()
        self._spawn(
            "monitor",
            [
                *("pg_autoctl", "create", "monitor", "--pgdata", str(monitor), "--pgport", str(self.monitor_port)),
                *("--hostname", HOST, "--auth", "trust", "--no-ssl", "--run"),
            ],
        )
        until(self._monitor_answers, "the monitor starts")
        for name, value in self.SETTINGS.items():
            self._ask(f"ALTER SYSTEM SET pgautofailover.{name} = '{value}'")
        self._ask("SELECT pg_reload_conf()")
        for node in self.nodes:
            node.start()
            if node is self.nodes[0]:
                # The first one is the primary, and the others are copied from it.
                until(lambda: self._states() == ["single"], "the first node starts")

    def _command(self, node: Node) -> list[str]:
        data = node.directory / "data"
        if data.exists():
            return ["pg_autoctl", "run", "--pgdata", str(data)]
        return [
            *(
                "pg_autoctl",
                "create",
                "postgres",
                "--pgdata",
                str(data),
                "--pgport",
                str(node.port),
                "--name",
                node.name,
            ),
            *(
                "--hostname",
                HOST,
                "--monitor",
                self._uri(),
                "--dbname",
                DATABASE,
                "--auth",
                "trust",
                "--no-ssl",
                "--run",
            ),
        ]

    def switch_over(self) -> None:
        self._run("pg_autoctl", "perform", "switchover", "--monitor", self._uri())

    def _is_settled(self) -> bool:
        return self._states() == ["primary", "secondary", "secondary"]

    def _uri(self) -> str:
        return f"postgres://autoctl_node@{HOST}:{self.monitor_port}/pg_auto_failover"

    def _ask(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(
            host=HOST,
            port=self.monitor_port,
            user=self.user,
            dbname="pg_auto_failover",
            autocommit=True,
            connect_timeout=2,
        ) as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

    def _monitor_answers(self) -> bool:
        try:
            return bool(self._ask("SELECT 1 FROM pg_extension WHERE extname = 'pgautofailover'"))
        except psycopg.OperationalError:
            time.sleep(0.1)
            return False

    def _states(self) -> list[str]:
        rows = self._ask(
            "SELECT reportedstate::text FROM pgautofailover.node"
            " WHERE reportedstate = goalstate ORDER BY reportedstate::text"
        )
        return [state for (state,) in rows]


class Patroni(Bed):
    """Patroni: the nodes hold an election by a key in etcd."""

    programs = ("patroni", "patronictl", "etcd")
    packages = "patroni, etcd-server"

    def _start(self) -> None:
        client, peer = (f"http://{HOST}:{self._port()}" for _ in range(2))
        self.etcd = client.removeprefix("http://")
        self.apis = {node.name: self._port() for node in self.nodes}
        self._spawn(
            "etcd",
            [
                *("etcd", "--name", "only", "--data-dir", str(self.directory / "etcd")),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--initial-cluster", f"only={peer}", "--unsafe-no-fsync", "--logger", "zap"),
            ],
        )
        for node in self.nodes:
            path = self._configuration(node)
            path.write_text(json.dumps(self._settings(node)))
            self.account.own(path)
            node.start()

    def url(self, node: Node) -> str:
        """Return the address of the REST API of a node."""
        return f"http://{HOST}:{self.apis[node.name]}"

    def _configuration(self, node: Node) -> Path:
        return node.directory / "patroni.yml"

    def _command(self, node: Node) -> list[str]:
        return ["/usr/bin/python3", "-s", shutil.which("patroni") or "patroni", str(self._configuration(node))]

    def _settings(self, node: Node) -> dict[str, Any]:
        api = f"{HOST}:{self.apis[node.name]}"
        server = f"{HOST}:{node.port}"
        return {
            "scope": "shop",
            "name": node.name,
            "restapi": {"listen": api, "connect_address": api},
            "etcd3": {"host": self.etcd},
            "bootstrap": {
                "dcs": {
                    # These are the shortest that Patroni takes.
                    "ttl": 20,
                    "loop_wait": 1,
                    "retry_timeout": 3,
                    "synchronous_mode": True,
                    "synchronous_mode_strict": True,
                    "postgresql": {
                        "use_pg_rewind": False,
                        "remove_data_directory_on_diverged_timelines": True,
                        "use_slots": True,
                        "parameters": {"shared_buffers": "32MB", "wal_keep_size": "64MB", "max_connections": 100},
                    },
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "no-sync"],
                "pg_hba": [
                    "local all all trust",
                    f"host all all {HOST}/32 trust",
                    f"host replication all {HOST}/32 trust",
                ],
            },
            "postgresql": {
                "listen": server,
                "connect_address": server,
                "data_dir": str(node.directory / "data"),
                "bin_dir": str(self.bin),
                "pgpass": str(node.directory / "pgpass"),
                "authentication": {
                    "superuser": {"username": self.user, "password": "none"},
                    "replication": {"username": "replicator", "password": "none"},
                },
                "parameters": {"unix_socket_directories": str(node.directory)},
            },
        }

    def switch_over(self) -> None:
        leader = self.primary()
        self._run(
            "/usr/bin/python3",
            *("-s", shutil.which("patronictl") or "patronictl", "-c", str(self._configuration(leader))),
            *("switchover", "shop", "--leader", leader.name, "--force"),
        )

    def _is_settled(self) -> bool:
        try:
            with urllib.request.urlopen(self.url(self.nodes[0]) + "/cluster", timeout=2) as answer:
                members = json.load(answer)["members"]
        except OSError:
            return False
        return sorted(member["role"] for member in members) == ["leader", "replica", "sync_standby"]


def processes(directory: Path) -> list[int]:
    """Return the processes that work in a directory, or whose arguments name it. One that has ended does neither."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            if b"tests.cluster.automatic" in arguments:
                continue
            place = Path(os.readlink(entry / "cwd").removesuffix(" (deleted)"))
            names = [Path(os.fsdecode(argument)) for argument in arguments if argument.startswith(b"/")]
            if any(name.is_relative_to(directory) for name in (place, *names)):
                found.append(int(entry.name))
    return found


def signal_all(directory: Path, what: signal.Signals) -> list[int]:
    """Send a signal to the processes of a directory, and return them.

    Another process sends it, so that this one goes on working meanwhile, and has calls in flight.
    """
    found = processes(directory)
    if found:
        # Some may have ended already.
        script = f'kill -{what.value} "$@" 2>/dev/null'
        subprocess.run(["/bin/sh", "-c", script, "kill", *map(str, found)], check=False)
    return found


def kill_all(directory: Path) -> None:
    """Kill the processes of a directory until there is none."""

    until(lambda: not signal_all(directory, signal.SIGKILL), f"the processes of {directory} end")


if __name__ == "__main__":
    # The guard: standard input ends when the test process does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin.read()
    kill_all(Path(sys.argv[1]))
    shutil.rmtree(sys.argv[1], ignore_errors=True)
