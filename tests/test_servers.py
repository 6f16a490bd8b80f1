"""The test servers themselves: what the fixtures promise to every other test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.installations import Installation, installation_at
from tests.postmaster import ShutdownMode, until
from tests.servers import HOST, SUPERUSER, Cluster, ServerError

ROOT = Path(__file__).parent.parent


def test_reached_by_tcp_and_by_unix_socket(server: Cluster, database: str) -> None:
    where = "SELECT current_database(), inet_server_addr()::text, current_setting('server_version_num')::int / 10000"
    for unix, address in (False, f"{HOST}/32"), (True, None):
        with psycopg.connect(server.dsn(database, unix=unix)) as connection:
            assert connection.execute(where).fetchone() == (database, address, server.version)


def test_database_is_new_and_dropped_while_in_use(server: Cluster) -> None:
    with server.database() as name, psycopg.connect(server.dsn(name), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (id int)")
        assert [backend.database for backend in server.backends(name)] == [name]
    assert server.sql("SELECT 1 FROM pg_database WHERE datname = %s", name) == []
    with server.database() as other:
        assert server.sql("SELECT to_regclass('kept')", database=other) == [(None,)]


def test_settings_hold_for_their_block(server: Cluster) -> None:
    before = server.sql("SHOW work_mem")
    with server.settings(work_mem="7MB"):
        assert server.sql("SHOW work_mem", database=SUPERUSER) == [("7MB",)]
    assert server.sql("SHOW work_mem", database=SUPERUSER) == before


def test_setting_that_needs_a_restart_says_so(own_server: Cluster) -> None:
    with pytest.raises(ServerError, match="max_connections"), own_server.settings(max_connections="50"):
        pass
    with own_server.settings(max_connections="50", restart=True):
        assert own_server.sql("SHOW max_connections") == [("50",)]


def test_hba_rules_come_first_and_hold_for_their_block(server: Cluster) -> None:
    with server.hba("host all all 127.0.0.1/32 reject"):
        with pytest.raises(psycopg.OperationalError, match="rejects connection"):
            psycopg.connect(server.dsn())
        psycopg.connect(server.dsn(unix=True)).close()
    psycopg.connect(server.dsn()).close()


def test_malformed_hba_rule_is_an_error(server: Cluster) -> None:
    with pytest.raises(ServerError, match=r"pg_hba\.conf line 2"), server.hba("host nonsense"):
        pass


def test_restart_keeps_port_and_committed_data(own_server: Cluster) -> None:
    port = own_server.port
    own_server.sql("CREATE TABLE kept AS SELECT 1 AS id")
    # Immediate mode is a crash, and synchronous_commit is off.
    own_server.sql("CHECKPOINT")
    modes: list[ShutdownMode] = ["smart", "fast", "immediate"]
    for mode in modes:
        own_server.restart(mode)
        assert own_server.port == port
        assert own_server.sql("SELECT id FROM kept") == [(1,)]


def test_sql_survives_the_loss_of_its_connection(server: Cluster) -> None:
    (mine,) = server.sql("SELECT pg_backend_pid()")[0]
    server.sql("SELECT pg_terminate_backend(%s)", mine, database=SUPERUSER)
    assert server.sql("SELECT 1") == [(1,)]


def test_standby_follows_and_is_promoted(server: Cluster) -> None:
    with server.database() as name:
        server.sql("CREATE TABLE kept AS SELECT 1 AS id", database=name)
        with Cluster(server.postmaster.installation, standby_of=server) as standby:
            assert standby.sql("SELECT pg_is_in_recovery()") == [(True,)]
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                standby.sql("DELETE FROM kept", database=name)
            standby.promote()
            assert standby.sql("DELETE FROM kept RETURNING id", database=name) == [(1,)]


def test_failing_start_shows_the_log(own_server: Cluster) -> None:
    nonsense = own_server.settings(shared_buffers="nonsense", restart=True)
    with pytest.raises(ServerError, match="shared_buffers"), nonsense:
        pass
    assert own_server.is_running


def test_nothing_is_left_behind(server: Cluster) -> None:
    with Cluster(server.postmaster.installation) as cluster:
        pid, directory = cluster.postmaster.pid, cluster.directory
    assert not directory.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_nothing_is_left_behind_by_a_killed_test_run(server: Cluster) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.installations import installation_at; from tests.servers import Cluster\n"
        "cluster = Cluster(installation_at(Path(sys.argv[1]))); cluster.start()\n"
        "print(cluster.directory, flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(server.postmaster.installation.bin)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        directory = Path(process.stdout.readline().strip())
        assert (directory / "data").is_dir()
        process.kill()
    until(lambda: not directory.exists(), "the guard ends the server")


def test_installation_is_copied_with_its_libraries(server: Cluster, tmp_path: Path) -> None:
    copy = server.postmaster.installation.copied_to(tmp_path)
    assert copy.bin.is_relative_to(tmp_path)
    assert installation_at(copy.bin) == Installation(server.version, copy.bin)
    subprocess.run([copy.bin / "psql", "--version"], check=True, stdout=subprocess.DEVNULL)


def test_directory_without_a_server_is_no_installation(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="initdb and postgres are expected there"):
        installation_at(tmp_path)
