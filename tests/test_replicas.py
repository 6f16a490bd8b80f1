"""The test servers with standbys: what `replicas` and `own_replicas` promise to other tests."""

from __future__ import annotations

import socket

import psycopg
import pytest

from tests.servers import Replicas, until


def test_standbys_follow_the_primary(replicas: Replicas) -> None:
    replicas.primary.sql("CREATE TABLE followed AS SELECT 1 AS id")
    replicas.catch_up()
    assert [each.sql("SELECT id FROM followed") for each in replicas.standbys] == [[(1,)], [(1,)]]
    with psycopg.connect(replicas.dsn(target_session_attrs="read-write")) as connection:
        assert connection.info.port == replicas.primary.port


def test_a_frozen_server_accepts_and_is_silent(replicas: Replicas) -> None:
    server = replicas.standbys[0]
    server.freeze()
    try:
        with socket.create_connection((server.host(), server.port), timeout=10) as connection:
            connection.sendall(bytes([0, 0, 0, 8, 4, 210, 22, 47]))
            connection.settimeout(0.2)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            server.thaw()
            connection.settimeout(30)
            assert connection.recv(1) in (b"N", b"S")
    finally:
        server.thaw()


def test_failover_and_the_return_of_the_former_primary(own_replicas: Replicas) -> None:
    former, heir, other = own_replicas.servers
    former.sql("CREATE TABLE kept AS SELECT 1 AS id")
    own_replicas.catch_up()
    pids = former.postmaster.processes()
    former.crash()
    assert not former.is_running
    assert len(pids) > 3
    own_replicas.promote(heir)
    assert own_replicas.primary is heir
    heir.sql("INSERT INTO kept VALUES (2)")
    until(lambda: other.sql("SELECT count(*) FROM kept") == [(2,)], "the other standby follows the promoted one")
    former.rejoin(heir)
    own_replicas.catch_up()
    assert former.sql("SELECT pg_is_in_recovery(), (SELECT count(*) FROM kept)") == [(True, 2)]
