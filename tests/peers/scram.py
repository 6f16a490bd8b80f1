"""The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), with each of its lies at hand.

scram = ScramServer("secret", iterations=0)
await scram.authenticate(peer)
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING

from tests.peers import backend
from tests.peers.frontend import ClientError, Password

if TYPE_CHECKING:
    from tests.peers.fakeserver import Peer

MECHANISM = "SCRAM-SHA-256"
MECHANISM_PLUS = "SCRAM-SHA-256-PLUS"


def _hmac(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")


def _attributes(text: bytes) -> dict[str, str]:
    """Return a message's `a=value` parts by their letters."""
    return {part[:1]: part[2:] for part in text.decode().split(",")}


class ScramServer:
    """One exchange, honest by default; `nonce`, `iterations` and `signature` replace what it would say.

    `nonce` stands for the whole nonce, so a dishonest one does not extend the client's; `iterations` is also
    what the proof is checked with. After the exchange `mechanism` and `gs2_header` hold what the client
    chose.
    """

    def __init__(
        self,
        password: str,
        *,
        salt: bytes = b"salt of 16 bytes",
        iterations: int = 4096,
        nonce: str | None = None,
        signature: bytes | None = None,
        mechanisms: tuple[str, ...] = (MECHANISM,),
        channel_binding: bytes = b"",
    ) -> None:
        self.password = password
        self.salt = salt
        self.iterations = iterations
        self.nonce = nonce
        self.signature = signature
        self.mechanisms = mechanisms
        self.channel_binding = channel_binding
        self.mechanism = ""
        self.gs2_header = b""
        self._client_first = b""
        self._server_first = b""

    def challenge(self, client_first: bytes) -> bytes:
        """Return the server's first message for the client's."""
        flag, authzid, bare = client_first.split(b",", 2)
        self.gs2_header = flag + b"," + authzid + b","
        self._client_first = bare
        nonce = self.nonce if self.nonce is not None else _attributes(bare)["r"] + "3rfcNHYJY1ZVvWVs7j"
        self._server_first = f"r={nonce},s={b64encode(self.salt).decode()},i={self.iterations}".encode()
        return self._server_first

    def outcome(self, client_final: bytes) -> bytes:
        """Check the client's proof and return the server's final message; ClientError where it is wrong."""
        attributes = _attributes(client_final)
        bound = b64decode(attributes["c"])
        if bound != self.gs2_header + self.channel_binding:
            raise ClientError(f"SCRAM: channel binding data {bound!r} for header {self.gs2_header!r}")
        without_proof = client_final[: client_final.rindex(b",p=")]
        exchange = b",".join((self._client_first, self._server_first, without_proof))
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), self.salt, self.iterations)
        stored = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
        proof = b64decode(attributes["p"])
        key = bytes(a ^ b for a, b in zip(proof, _hmac(stored, exchange), strict=True))
        if hashlib.sha256(key).digest() != stored:
            raise ClientError("SCRAM: the client's proof does not fit the password")
        signature = self.signature
        if signature is None:
            signature = _hmac(_hmac(salted, b"Server Key"), exchange)
        return b"v=" + b64encode(signature)

    async def authenticate(self, peer: Peer) -> None:
        """Play the exchange up to AuthenticationSASLFinal; AuthenticationOk is the script's to send."""
        await peer.send(backend.authentication_sasl(*self.mechanisms))
        self.mechanism, first = (await peer.expect(Password)).sasl_initial()
        if self.mechanism not in self.mechanisms or first is None:
            raise ClientError(f"SCRAM: the client chose {self.mechanism!r} and sent {first!r}")
        await peer.send(backend.authentication_sasl_continue(self.challenge(first)))
        final = await peer.expect(Password)
        await peer.send(backend.authentication_sasl_final(self.outcome(final.data)))
