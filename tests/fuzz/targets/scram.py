"""SCRAM: the server's two messages, with a NUL between them. Only a server that knows the password is believed."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from headrace import exceptions
from headrace._connect.params.secret import Secret
from headrace._connect.scram import ScramClient, derive_keys
from tests.fuzz.target import Target
from tests.peers.scram import ScramServer

NONCE = "rOprNGfwEbeRWgbNEkqO"
PASSWORD = Secret("secret")
MAX_ITERATIONS = 8


def exchange(iterations: int, salt: bytes) -> bytes:
    """Return the server's messages of an honest exchange."""
    client, server = ScramClient(nonce=NONCE), ScramServer(PASSWORD.reveal(), iterations=iterations, salt=salt)
    first = server.challenge(client.client_first())
    final = client.client_final(derive_keys(PASSWORD, client.challenge(first)))
    return first + b"\0" + server.outcome(final)


class Scram(Target):
    """See above."""

    name = "scram"
    share = 0.25
    allowed = (exceptions.ProtocolError,)
    words = (
        NONCE.encode(),
        b"r=",
        b",s=",
        b",i=",
        b"v=",
        b"e=",
        b"=",
        b"==",
        b"m=x,",
        b"0",
        b"99999999999",
        b"\0",
        b",",
    )

    def seeds(self) -> Iterable[bytes]:
        yield exchange(1, b"salt of 16 bytes")
        yield exchange(8, b"s")
        yield exchange(2, bytes(100)).partition(b"\0")[0] + b"\0e=other-error"

    def run(self, data: bytes) -> object:
        client = ScramClient(nonce=NONCE, max_iterations=MAX_ITERATIONS)
        first, _, final = data.partition(b"\0")
        begin = client.client_first()
        challenge = client.challenge(first)
        keys = derive_keys(PASSWORD, challenge)
        answer = client.client_final(keys)
        client.verify(final)
        assert client.verified
        # The peer of the tests, which checks the proof as a server does, would have signed so.
        server = ScramServer(
            PASSWORD.reveal(), iterations=challenge.iterations, salt=challenge.salt, nonce=challenge.nonce.decode()
        )
        server.challenge(begin)
        assert server._server_first.partition(b",s=")[0] == first.partition(b",s=")[0]
        server._server_first = first
        assert base64.b64decode(server.outcome(answer)[2:]) == base64.b64decode(final[2:])
        return challenge.iterations
