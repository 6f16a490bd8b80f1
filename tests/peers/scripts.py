"""Parts of scripts for the fake server that several tests play: preparing, running and describing a statement."""

from __future__ import annotations

from tests.peers import backend
from tests.peers.backend import Field
from tests.peers.fakeserver import Peer, Script
from tests.peers.frontend import Bind, Describe, Execute, Parse, Sync

TEXT = 25
INT4 = 23


def described(*columns: Field | str, parameters: tuple[int, ...] = ()) -> bytes:
    """Return the whole answer to the preparation of a statement; without columns it returns no rows."""
    return b"".join(
        [
            backend.parse_complete(),
            backend.parameter_description(*parameters),
            backend.row_description(*columns) if columns else backend.no_data(),
            backend.ready_for_query(),
        ]
    )


def answered(*rows: bytes, tag: str | None = None, status: str = "I") -> bytes:
    """Return the whole answer to one execution: rows as `backend.data_row` makes them."""
    return b"".join(
        [
            backend.bind_complete(),
            *rows,
            backend.command_complete(f"SELECT {len(rows)}" if tag is None else tag),
            backend.ready_for_query(status),
        ]
    )


row = backend.data_row


def cancelled() -> bytes:
    """Return the whole answer to what was cancelled."""
    return backend.error_response("canceling statement due to user request", code="57014") + backend.ready_for_query()


async def prepare(peer: Peer, *columns: Field | str, parameters: tuple[int, ...] = ()) -> Parse:
    """Expect one statement to be prepared, and describe it."""
    parse = await peer.expect(Parse, Describe, Sync)
    await peer.send(described(*columns, parameters=parameters))
    return parse


async def run(peer: Peer, *rows: bytes) -> Bind:
    """Expect one execution of a prepared statement, and answer with these rows."""
    bind = await peer.expect(Bind, Execute, Sync)
    await peer.send(answered(*rows))
    return bind


def answering(reply: bytes, *columns: Field | str, parameters: tuple[int, ...] = ()) -> Script:
    """Return the script that greets, prepares one statement, answers its first execution by `reply`, and holds."""

    async def script(peer: Peer) -> None:
        await peer.greet()
        await prepare(peer, *columns, parameters=parameters)
        await peer.expect(Bind, Execute, Sync)
        await peer.send(reply)
        await peer.hold()

    return script
