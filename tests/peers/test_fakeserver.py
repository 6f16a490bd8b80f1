"""The fake server, held against drivers that are known to work: asyncpg and psycopg (libpq)."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import psycopg
import pytest

from tests.peers import backend
from tests.peers.backend import Field
from tests.peers.fakeserver import FakeServer, Peer, Script
from tests.peers.frontend import (
    Bind,
    CancelRequest,
    ClientError,
    CopyData,
    CopyDone,
    Describe,
    Execute,
    Flush,
    Message,
    Parse,
    Password,
    Query,
    Sync,
)
from tests.peers.scram import ScramServer

if TYPE_CHECKING:
    from tests.fixtures import Fake


def libpq(server: FakeServer, **kwargs: Any) -> Any:
    """Connect psycopg, which sends a Query for a statement without parameters."""
    dsn = server.dsn()
    return psycopg.AsyncConnection.connect(dsn, autocommit=True, sslmode="disable", **kwargs)


async def answer(peer: Peer, *reply: bytes) -> Query:
    """Wait for a simple query and send the reply and ReadyForQuery."""
    query = await peer.expect(Query)
    await peer.send(*reply, backend.ready_for_query())
    return query


def script_answering(*reply: bytes) -> Script:
    """Return the script of a session with one simple query."""

    async def script(peer: Peer) -> None:
        await peer.greet()
        await answer(peer, *reply)
        await peer.expect_end()

    return script


async def test_rows_reach_the_client(fake: Fake) -> None:
    rows = (
        backend.row_description(Field("name", format=backend.TEXT), Field("id", oid=23, size=4, format=backend.TEXT)),
        backend.data_row("Schreibtisch", "1"),
        backend.data_row(None, "-2"),
        backend.command_complete("SELECT 2"),
    )
    server = await fake(script_answering(*rows))
    async with await libpq(server) as connection:
        cursor = await connection.execute("SELECT name, id FROM product")
        assert await cursor.fetchall() == [("Schreibtisch", 1), (None, -2)]
        assert cursor.statusmessage == "SELECT 2"
        assert [column.name for column in cursor.description or ()] == ["name", "id"]


async def test_extended_query_is_understood_and_answered(fake: Fake) -> None:
    seen: list[Message] = []

    async def script(peer: Peer) -> None:
        await peer.greet()
        seen.append(await peer.expect(Parse, Describe, Flush))
        await peer.send(
            backend.parse_complete(),
            backend.parameter_description(23),
            backend.row_description(Field("double", oid=23, size=4)),
        )
        seen.append(await peer.expect(Bind, Execute, Sync))
        await peer.send(
            backend.bind_complete(),
            backend.data_row((42).to_bytes(4)),
            backend.command_complete("SELECT 1"),
            backend.ready_for_query(),
        )
        await peer.expect_end()

    server = await fake(script)
    connection = await asyncpg.connect(server.dsn(), ssl=False)
    assert await connection.fetchval("SELECT $1::int * 2 AS double", 21) == 42
    connection.terminate()
    parse, bind = seen
    assert isinstance(parse, Parse)
    assert (parse.sql, parse.oids) == ("SELECT $1::int * 2 AS double", ())
    assert isinstance(bind, Bind)
    assert (bind.statement, bind.values) == (parse.name, ((21).to_bytes(4),))


async def test_every_field_of_an_error_reaches_the_client(fake: Fake) -> None:
    fields = dict(
        detail="the detail",
        hint="the hint",
        position="1",
        internal_position="2",
        internal_query="SELECT internal",
        where="the context",
        schema="public",
        table="brand",
        column="brand_name",
        datatype="text",
        constraint="brand_pkey",
        file="nbtinsert.c",
        line="666",
        routine="_bt_check_unique",
    )
    server = await fake(script_answering(backend.error_response("taken", code="23505", **fields)))
    async with await libpq(server) as connection:
        with pytest.raises(psycopg.errors.UniqueViolation, match="^taken") as caught:
            await connection.execute("INSERT")
    diagnostics = caught.value.diag
    names = {
        "detail": "message_detail",
        "hint": "message_hint",
        "position": "statement_position",
        "where": "context",
        "schema": "schema_name",
        "table": "table_name",
        "column": "column_name",
        "datatype": "datatype_name",
        "constraint": "constraint_name",
        "file": "source_file",
        "line": "source_line",
        "routine": "source_function",
    }
    assert {field: getattr(diagnostics, names.get(field, field)) for field in fields} == fields
    assert (diagnostics.severity, diagnostics.sqlstate) == ("ERROR", "23505")


async def test_asynchronous_messages_reach_the_client(fake: Fake) -> None:
    server = await fake(
        script_answering(
            backend.notice_response("by the way", severity="WARNING"),
            backend.parameter_status("application_name", "renamed"),
            backend.notification_response("stock", "empty", pid=99),
            backend.empty_query_response(),
        )
    )
    async with await libpq(server) as connection:
        notices: list[str | None] = []
        connection.add_notice_handler(lambda diagnostic: notices.append(diagnostic.message_primary))
        notified: list[Any] = []
        connection.add_notify_handler(notified.append)
        await connection.execute("")
        assert notices == ["by the way"]
        assert connection.info.parameter_status("application_name") == "renamed"
        assert [(each.channel, each.payload, each.pid) for each in notified] == [("stock", "empty", 99)]


async def test_copy_goes_both_ways(fake: Fake) -> None:
    copied = bytearray()

    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.expect(Query)
        await peer.send(backend.copy_in_response(backend.TEXT))
        while isinstance(message := await peer.next(), CopyData):
            copied.extend(message.data)
        assert message == CopyDone()
        await peer.send(backend.command_complete("COPY 2"), backend.ready_for_query())
        out = backend.copy_out_response(backend.TEXT), backend.copy_data(b"1\n"), backend.copy_data(b"2\n")
        await answer(peer, *out, backend.copy_done(), backend.command_complete("COPY 2"))
        await peer.expect_end()

    server = await fake(script)
    async with await libpq(server) as connection:
        async with connection.cursor().copy("COPY t FROM STDIN") as copy:
            await copy.write(b"1\n2\n")
        assert copied == b"1\n2\n"
        async with connection.cursor().copy("COPY t TO STDOUT") as copy:
            assert b"".join([bytes(data) async for data in copy]) == b"1\n2\n"


async def test_scram_accepts_the_password(fake: Fake) -> None:
    async def script(peer: Peer) -> None:
        await peer.expect_startup(user="postgres")
        await ScramServer("s€cret").authenticate(peer)
        await peer.send(backend.greeting())
        await peer.expect_end()

    server = await fake(script, script)
    async with await libpq(server, password="s€cret"):
        pass
    await (await asyncpg.connect(server.dsn(), ssl=False, password="s€cret")).close()


async def test_scram_notices_a_wrong_password() -> None:
    async def script(peer: Peer) -> None:
        await peer.expect_startup()
        await ScramServer("right").authenticate(peer)

    with pytest.raises(ClientError, match="proof does not fit"):
        async with FakeServer(script) as server:
            with pytest.raises(psycopg.OperationalError):
                await libpq(server, password="wrong")


@pytest.mark.parametrize(
    ("lie", "complaint"),
    [
        ({"nonce": "my own"}, "nonce"),
        ({"signature": b"\0" * 32}, "incorrect server signature"),
    ],
    ids=["nonce", "signature"],
)
async def test_scram_lies_are_noticed_by_libpq(fake: Fake, lie: dict[str, Any], complaint: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.expect_startup()
        scram = ScramServer("secret", **lie)
        if "nonce" in lie:
            await peer.send(backend.authentication_sasl(*scram.mechanisms))
            _, first = (await peer.expect(Password)).sasl_initial()
            assert first is not None
            await peer.send(backend.authentication_sasl_continue(scram.challenge(first)))
        else:
            await scram.authenticate(peer)
        await peer.expect_end()

    server = await fake(script)
    with pytest.raises(psycopg.OperationalError, match=complaint):
        await libpq(server, password="secret")


async def test_password_methods_of_old(fake: Fake) -> None:
    async def cleartext(peer: Peer) -> None:
        await peer.expect_startup()
        await peer.send(backend.authentication_cleartext_password())
        assert (await peer.expect(Password)).text() == "secret"
        await peer.send(backend.greeting())
        await peer.expect_end()

    async def md5(peer: Peer) -> None:
        startup = await peer.expect_startup()
        await peer.send(backend.authentication_md5_password(b"NaCl"))
        inner = hashlib.md5(b"secret" + startup.parameters["user"].encode()).hexdigest()
        said = (await peer.expect(Password)).text()
        assert said == "md5" + hashlib.md5(inner.encode() + b"NaCl").hexdigest()
        await peer.send(backend.greeting())
        await peer.expect_end()

    server = await fake(cleartext, md5)
    for _ in range(2):
        async with await libpq(server, password="secret"):
            pass


async def test_cancel_request_comes_on_a_connection_of_its_own(fake: Fake) -> None:
    cancelled = asyncio.Event()
    seen: list[CancelRequest] = []

    async def session(peer: Peer) -> None:
        await peer.expect_startup()
        await peer.send(backend.greeting())
        await peer.expect(Query)
        await cancelled.wait()
        await peer.send(backend.error_response("cancelled", code="57014"), backend.ready_for_query())
        await peer.expect_end()

    async def cancel(peer: Peer) -> None:
        seen.append(await peer.expect_cancel_request())
        cancelled.set()

    server = await fake(session, cancel)
    async with await libpq(server) as connection:
        running = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
        await server.connected()
        await connection.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            await running
    assert [(each.pid, each.secret) for each in seen] == [(4711, b"\x12\x34\x56\x78")]


async def test_tls_is_offered_and_used(fake: Fake, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = "req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 1 -keyout".split()
    subprocess.run(["openssl", *make, key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def script(peer: Peer) -> None:
        await peer.expect_ssl_request(b"S")
        await peer.start_tls(context)
        await peer.greet()
        await peer.expect_end()

    server = await fake(script)
    async with await psycopg.AsyncConnection.connect(server.dsn(), sslmode="require") as connection:
        assert connection.pgconn.ssl_in_use


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_connection_ends_in_the_middle_of_a_message(fake: Fake, end: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.expect(Query)
        await peer.send(backend.data_row("half")[:-2])
        if end == "close":
            await peer.close()
        else:
            peer.reset()

    server = await fake(script)
    connection = await libpq(server)
    with pytest.raises(psycopg.OperationalError, match="server closed the connection|Connection reset"):
        await connection.execute("SELECT 1")
    await connection.close()


async def test_unexpected_message_fails_the_test() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.expect(Parse)

    with pytest.raises(ClientError, match="expected Parse, got Query"):
        async with FakeServer(script) as server, await libpq(server) as connection:
            with pytest.raises(psycopg.OperationalError):
                await connection.execute("SELECT 1")


async def test_client_that_leaves_early_fails_the_test() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.expect(Query)

    with pytest.raises(ClientError, match="expected Query, got Terminate"):
        async with FakeServer(script) as server:
            await (await libpq(server)).close()


async def test_connections_and_scripts_must_match() -> None:
    with pytest.raises(ClientError, match=r"no connection came for the last 1 script"):
        async with FakeServer(script_answering()):
            pass
    with pytest.raises(ClientError, match="connection 1 has no script"):
        async with FakeServer() as server:
            with pytest.raises(psycopg.OperationalError):
                await libpq(server)


async def test_script_of_every_further_connection(fake: Fake) -> None:
    tag = backend.command_complete("SET")
    server = await fake(every=script_answering(tag))
    for _ in range(3):
        async with await libpq(server) as connection:
            assert (await connection.execute("SET a.b TO c")).statusmessage == "SET"
    assert len(server.peers) == 3


async def test_silent_server_holds_the_connection(fake: Fake) -> None:
    async def script(peer: Peer) -> None:
        await peer.hold()

    server = await fake(script)
    with pytest.raises(psycopg.OperationalError, match="timeout"):
        await libpq(server, connect_timeout=2)
    assert b"postgres" in server.peers[0].received
