"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS as a pure state machine.

Sources: RFC 5802 (SCRAM), RFC 7677 (SCRAM-SHA-256), PostgreSQL documentation, "SASL Authentication". One
exchange:

    client = ScramClient(...)
    send(client.client_first())
    challenge = client.challenge(receive())     # checks nonce and iterations
    keys = derive_keys(password, challenge)     # the only slow step: pure, in a thread
    send(client.client_final(keys))
    client.verify(receive())                    # the server knows the password too

Everything from the server is checked before use. A message that breaks the rules raises ProtocolError, which names the
rule but contains neither the password nor anything derived from it. An object serves one exchange; create a new one
for the next attempt or host.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Final, NoReturn

from headrace._connect.params.secret import Secret, hides_locals
from headrace._connect.saslprep import saslprep
from headrace.exceptions import ProtocolError

SCRAM_SHA_256: Final = "SCRAM-SHA-256"
SCRAM_SHA_256_PLUS: Final = "SCRAM-SHA-256-PLUS"

KEY_LENGTH: Final = 32
"""Length of ClientKey, ServerKey and every other result of SHA-256, in bytes."""

MIN_ITERATIONS: Final = 1
MAX_ITERATIONS: Final = 1_000_000
"""This many take about a third of a second of one core. PostgreSQL's default is 4096."""

# Random bytes in a nonce, as in libpq: 24 characters in base64.
_NONCE_BYTES: Final = 18
_NONCE_MAX: Final = 1024
_SALT_MAX: Final = 1024
_MESSAGE_MAX: Final = 8192

# RFC 5802, 7: printable is any visible ASCII character except the comma.
_SERVER_FIRST: Final = re.compile(rb"r=([\x21-\x2b\x2d-\x7e]+),s=([A-Za-z0-9+/=]+),i=([1-9][0-9]{0,9})")
_SERVER_FINAL: Final = re.compile(rb"v=([A-Za-z0-9+/=]+)")
_SERVER_ERROR: Final = re.compile(rb"e=([\x20-\x2b\x2d-\x7e]{1,100})")


@dataclass(frozen=True, slots=True, repr=False)
class ScramKeys:
    """ClientKey and ServerKey. The first is enough to log in, so they are never shown."""

    client_key: bytes
    server_key: bytes

    def __repr__(self) -> str:
        return "<ScramKeys>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("SCRAM keys cannot be pickled")


@dataclass(frozen=True, slots=True)
class Challenge:
    """The server's challenge: the salt and the number of iterations to hash the password with."""

    salt: bytes
    iterations: int
    nonce: bytes = field(repr=False)
    message: bytes = field(repr=False)
    """The server-first-message, which both sides sign."""


@hides_locals
def derive_keys(password: Secret, challenge: Challenge) -> ScramKeys:
    """Hash the password as the challenge asks (PBKDF2). It takes a millisecond to a second: run it off the event loop.

    It is pure: it touches no state, and releases the interpreter lock while it hashes.
    """
    salted = hashlib.pbkdf2_hmac("sha256", saslprep(password.reveal()), challenge.salt, challenge.iterations)
    return ScramKeys(
        client_key=hmac.digest(salted, b"Client Key", "sha256"),
        server_key=hmac.digest(salted, b"Server Key", "sha256"),
    )


class _State(enum.Enum):
    NEW = "nothing has been sent"
    FIRST_SENT = "the client-first-message has been sent"
    CHALLENGED = "the server-first-message has come"
    FINAL_SENT = "the client-final-message has been sent"
    VERIFIED = "the server has been verified"
    FAILED = "the exchange has failed"


class ScramClient:
    """The client's side of one exchange."""

    def __init__(
        self,
        *,
        binding: bytes | None = None,
        binding_possible: bool = False,
        username: str = "",
        nonce: str | None = None,
        min_iterations: int = MIN_ITERATIONS,
        max_iterations: int = MAX_ITERATIONS,
    ) -> None:
        """Prepare an exchange.

        `binding` is the data of tls-server-end-point; with it the mechanism is SCRAM-SHA-256-PLUS. Without it,
        `binding_possible` tells the server that the client supports binding, so that a man in the middle who removed
        the offer is detected. `username` stays empty: PostgreSQL uses the one of the startup message. `nonce` is for
        tests only.
        """
        self._binding = binding
        flag = b"p=tls-server-end-point" if binding is not None else b"y" if binding_possible else b"n"
        self._gs2_header = flag + b",,"
        self._nonce = (nonce or base64.b64encode(secrets.token_bytes(_NONCE_BYTES)).decode()).encode("ascii")
        name = username.replace("=", "=3D").replace(",", "=2C").encode()
        self._first_bare = b"n=" + name + b",r=" + self._nonce
        self._min_iterations = min_iterations
        self._max_iterations = max_iterations
        self._challenge: Challenge | None = None
        self._server_signature = b""
        self._state = _State.NEW

    @property
    def mechanism(self) -> str:
        """The name of the mechanism for the SASLInitialResponse."""
        return SCRAM_SHA_256 if self._binding is None else SCRAM_SHA_256_PLUS

    @property
    def verified(self) -> bool:
        """True if the server has proved that it knows the password."""
        return self._state is _State.VERIFIED

    def client_first(self) -> bytes:
        """Return the client-first-message."""
        self._step(_State.NEW, _State.FIRST_SENT)
        return self._gs2_header + self._first_bare

    def challenge(self, message: bytes) -> Challenge:
        """Parse the server-first-message.

        Raises ProtocolError if it is malformed, too long, does not extend the client's nonce, or asks for more or
        fewer iterations than allowed.
        """
        self._step(_State.FIRST_SENT, _State.CHALLENGED)
        match = None if len(message) > _MESSAGE_MAX else _SERVER_FIRST.fullmatch(message)
        if match is None:
            self._fail("the server's first SCRAM message is malformed")
        nonce = match[1]
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            self._fail("the server's SCRAM nonce does not extend the client's")
        if len(nonce) > _NONCE_MAX:
            self._fail(f"the server's SCRAM nonce is {len(nonce)} bytes long, expected at most {_NONCE_MAX}")
        salt = self._base64(match[2])
        if not 1 <= len(salt) <= _SALT_MAX:
            self._fail(f"the server's SCRAM salt is {len(salt)} bytes long, expected 1 to {_SALT_MAX}")
        iterations = int(match[3])
        if not self._min_iterations <= iterations <= self._max_iterations:
            self._fail(
                f"the server asks for {iterations} SCRAM iterations, allowed are {self._min_iterations} to"
                f" {self._max_iterations} (scram_min_iterations, scram_max_iterations)"
            )
        self._challenge = Challenge(salt, iterations, nonce, message)
        return self._challenge

    def client_final(self, keys: ScramKeys) -> bytes:
        """Return the client-final-message, the proof that the client knows the password (RFC 5802, 3)."""
        self._step(_State.CHALLENGED, _State.FINAL_SENT)
        assert self._challenge is not None
        bound = base64.b64encode(self._gs2_header + (self._binding or b""))
        without_proof = b"c=" + bound + b",r=" + self._challenge.nonce
        signed = self._first_bare + b"," + self._challenge.message + b"," + without_proof
        stored_key = hashlib.sha256(keys.client_key).digest()
        signature = hmac.digest(stored_key, signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(keys.client_key, signature, strict=True))
        self._server_signature = hmac.digest(keys.server_key, signed, "sha256")
        return without_proof + b",p=" + base64.b64encode(proof)

    def verify(self, message: bytes) -> None:
        """Check the server-final-message: only a server that knows the password can produce the signature.

        Raises ProtocolError if the signature is wrong or missing, or if the server sent an error instead.
        """
        self._step(_State.FINAL_SENT, _State.VERIFIED)
        if len(message) <= _MESSAGE_MAX and (error := _SERVER_ERROR.fullmatch(message)):
            self._fail(f"the server ended the SCRAM exchange with the error {error[1].decode('ascii')!r}")
        match = None if len(message) > _MESSAGE_MAX else _SERVER_FINAL.fullmatch(message)
        if match is None:
            self._fail("the server's final SCRAM message is malformed")
        if not hmac.compare_digest(self._base64(match[1]), self._server_signature):
            self._fail("the server's SCRAM signature is wrong: it does not know the password, so it is not the server")

    def _step(self, expected: _State, following: _State) -> None:
        if self._state is not expected:
            self._fail(f"a SCRAM message came out of turn: {self._state.value}")
        self._state = following

    def _base64(self, text: bytes) -> bytes:
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:
            self._fail("the server's SCRAM message has malformed base64 in it")

    def _fail(self, reason: str) -> NoReturn:
        self._state = _State.FAILED
        raise ProtocolError(reason)
