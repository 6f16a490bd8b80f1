"""Several hosts: one after the other, by what kind of server is wanted, or in random order."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from tests.peers import backend
from tests.peers.frontend import Terminate
from tests.servers import Cluster

if TYPE_CHECKING:
    from tests.fixtures import Fake
    from tests.peers.fakeserver import Peer


@dataclass(frozen=True)
class Pair:
    """A primary and a standby that follows it."""

    primary: Cluster
    standby: Cluster
    nobody: int
    """A port that refuses: it is taken, but nobody listens."""

    def to(self, *names: str) -> dict[str, Any]:
        """Return connect arguments for servers in this order; "nobody" is the port that refuses."""
        known = {"primary": self.primary.port, "standby": self.standby.port, "nobody": self.nobody}
        ports = [known[name] for name in names]
        return {"host": ["127.0.0.1"] * len(names), "port": ports, "user": "postgres", "timeout": 20}


@pytest.fixture(scope="module")
def pair(server: Cluster) -> Iterator[Pair]:
    """Two real servers of the same version as `server`."""
    with ExitStack() as stack:
        bound = stack.enter_context(socket.socket())
        bound.bind(("127.0.0.1", 0))
        primary = stack.enter_context(Cluster(server.postmaster.installation))
        standby = stack.enter_context(Cluster(server.postmaster.installation, standby_of=primary))
        yield Pair(primary, standby, bound.getsockname()[1])


async def reached(pair: Pair, *names: str, **arguments: Any) -> str:
    """Connect and tell which of the pair answered."""
    connection = await headrace.connect(**pair.to(*names), **arguments)
    try:
        port = await connection.fetchval("SELECT inet_server_port()")
        return "primary" if port == pair.primary.port else "standby"
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("wanted", "order", "expected"),
    [
        ("any", ["standby", "primary"], "standby"),
        ("any", ["nobody", "primary", "standby"], "primary"),
        ("primary", ["standby", "primary"], "primary"),
        ("read-write", ["standby", "nobody", "primary"], "primary"),
        ("standby", ["primary", "standby"], "standby"),
        ("read-only", ["primary", "standby"], "standby"),
        ("prefer-standby", ["primary", "standby"], "standby"),
        ("prefer-standby", ["nobody", "primary"], "primary"),
        ("prefer-standby", ["primary", "nobody", "standby"], "standby"),
    ],
)
async def test_the_first_server_of_the_kind_wanted(pair: Pair, wanted: str, order: list[str], expected: str) -> None:
    assert await reached(pair, *order, target_session_attrs=wanted) == expected


async def test_a_primary_that_is_read_only_by_default(pair: Pair) -> None:
    """read-write and read-only go by the session, primary and standby by the server."""
    settings = {"default_transaction_read_only": "on"}
    assert await reached(pair, "primary", target_session_attrs="read-only", server_settings=settings) == "primary"
    assert await reached(pair, "primary", target_session_attrs="primary", server_settings=settings) == "primary"
    with pytest.raises(headrace.TargetServerAttributeNotMatched, match="default_transaction_read_only is on"):
        await reached(pair, "primary", target_session_attrs="read-write", server_settings=settings)


@pytest.mark.parametrize(
    ("wanted", "only"),
    [("primary", "standby"), ("read-write", "standby"), ("standby", "primary"), ("read-only", "primary")],
)
async def test_none_matches(pair: Pair, wanted: str, only: str) -> None:
    with pytest.raises(headrace.TargetServerAttributeNotMatched, match=f"does not match target_session_attrs={wanted}"):
        await reached(pair, only, target_session_attrs=wanted)


async def test_the_class_of_the_error_is_that_of_the_last_that_failed_otherwise(pair: Pair) -> None:
    """As in asyncpg: that nobody matched is only said where everybody answered."""
    with pytest.raises(ConnectionRefusedError) as caught:
        await reached(pair, "nobody", "standby", target_session_attrs="primary")
    (note,) = (each for each in caught.value.__notes__ if "These addresses" in each)
    assert note.count("ConnectionRefusedError") == 1
    assert note.count("TargetServerAttributeNotMatched") == 1


async def test_one_error_lists_every_address_with_its_reason(pair: Pair) -> None:
    where = pair.to("nobody", "nobody", "nobody")
    with pytest.raises(ConnectionRefusedError, match=str(where["port"][-1])) as caught:
        await headrace.connect(**where)
    note = caught.value.__notes__[0]
    assert all(f"127.0.0.1:{port}: ConnectionRefusedError" in note for port in where["port"])
    assert caught.value.__notes__[1:] == ["Is a server running there, and does it accept connections?"]


async def test_servers_that_do_not_report_what_they_are_are_asked(fake: Fake) -> None:
    """Before PostgreSQL 14, and behind some poolers."""
    silent = {name: value for name, value in backend.PARAMETERS.items() if name != "in_hot_standby"}

    async def script(peer: Peer) -> None:
        await peer.expect_startup()
        await peer.send(
            backend.authentication_ok(),
            *(backend.parameter_status(name, value) for name, value in silent.items()),
            backend.backend_key_data(),
            backend.ready_for_query(),
        )
        parse = await peer.next()
        assert "pg_is_in_recovery" in parse.sql  # type: ignore[attr-defined]
        await peer.next()
        await peer.next()
        await peer.send(
            backend.parse_complete(),
            backend.parameter_description(),
            backend.row_description(backend.Field("standby", oid=16, size=1), backend.Field("read_only")),
            backend.ready_for_query(),
        )
        await peer.next()
        await peer.next()
        await peer.next()
        await peer.send(
            backend.bind_complete(),
            backend.data_row(b"\1", "off"),
            backend.command_complete("SELECT 1"),
            backend.ready_for_query(),
        )
        await peer.expect_end()

    server = await fake(script, script)
    connection = await headrace.connect(server.dsn(), ssl="disable", target_session_attrs="standby", timeout=10)
    await connection.close()
    with pytest.raises(headrace.TargetServerAttributeNotMatched, match="in_hot_standby is on"):
        await headrace.connect(server.dsn(), ssl="disable", target_session_attrs="primary", timeout=10)


async def test_who_does_not_match_is_told_goodbye(fake: Fake) -> None:
    async def standby(peer: Peer) -> None:
        await peer.greet({"in_hot_standby": "on"})
        await peer.expect(Terminate)

    server = await fake(standby)
    with pytest.raises(headrace.TargetServerAttributeNotMatched):
        await headrace.connect(server.dsn(), ssl="disable", target_session_attrs="primary", timeout=10)


async def test_in_random_order_all_servers_are_reached(pair: Pair) -> None:
    seen = set()
    for _ in range(64):
        seen.add(await reached(pair, "primary", "standby", load_balance_hosts="random"))
        if len(seen) == 2:
            break
    assert seen == {"primary", "standby"}
    for _ in range(5):
        assert await reached(pair, "primary", "standby") == "primary"


async def test_in_random_order_the_kind_wanted_is_found_all_the_same(pair: Pair) -> None:
    for _ in range(5):
        assert (
            await reached(
                pair, "primary", "nobody", "standby", load_balance_hosts="random", target_session_attrs="prefer-standby"
            )
            == "standby"
        )


async def test_a_name_is_looked_up_anew_at_each_try(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that moves, as that of a primary does when another one takes over."""
    ports = iter([pair.standby.port, pair.primary.port])
    getaddrinfo = socket.getaddrinfo

    def moved(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "moving.example":
            return getaddrinfo(host, port, *args, **kwargs)
        if kwargs.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "it is a name")
        return getaddrinfo("127.0.0.1", next(ports), *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", moved)
    loop = asyncio.get_running_loop()
    if type(loop).__module__.startswith("uvloop"):
        pytest.skip("uvloop looks names up by itself")
    where = {"host": "moving.example", "user": "postgres", "timeout": 20}
    for expected in (pair.standby.port, pair.primary.port):
        connection = await headrace.connect(**where)  # type: ignore[arg-type]
        assert await connection.fetchval("SELECT inet_server_port()") == expected
        await connection.close()
