"""Authentication as a pure state machine: an Authentication message in, the reply out.

Source: PostgreSQL documentation, "Start-up" in "Message Flow", and the Authentication messages in "Message
Formats".

    authenticator = Authenticator(settings, user=..., password=..., encrypted=..., ...)
    reply = authenticator.respond(code, payload)        # for each message 'R'
    if isinstance(reply, Work):                         # a slow step, for a thread
        reply = authenticator.resume(await loop.run_in_executor(None, reply.run))
    if reply is not None:
        send(reply)
    ...until authenticator.done

It is strict by default. The server may ask for one method, in the order of that method, and only if `require_auth`,
`channel_binding` and `allow_cleartext_password` allow it. AuthenticationOk counts only after a complete exchange. A
protocol violation raises ProtocolError, a demand that the settings forbid InterfaceError, a missing password
MissingPasswordError, and a missing token ClientConfigurationError. After an error, and for each further attempt or
host, a new Authenticator is needed, so that nothing from a false server is carried over.
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, NoReturn

from headrace._connect.channel_binding import tls_server_end_point
from headrace._connect.gssapi import GssExchange
from headrace._connect.params.require_auth import AllowedMethods
from headrace._connect.params.secret import Secret
from headrace._connect.scram import (
    MAX_ITERATIONS,
    MIN_ITERATIONS,
    SCRAM_SHA_256,
    SCRAM_SHA_256_PLUS,
    ScramClient,
    ScramKeys,
    derive_keys,
)
from headrace.exceptions import (
    ClientConfigurationError,
    InterfaceError,
    MissingPasswordError,
    ProtocolError,
    UnsupportedClientFeatureError,
)

OAUTHBEARER: Final = "OAUTHBEARER"

_BEARER_TOKEN: Final = re.compile(rb"[A-Za-z0-9._~+/-]+=*")
_PAYLOAD_MAX: Final = 65_536
_MECHANISMS_MAX: Final = 1_024


class AuthRequest(enum.IntEnum):
    """Codes of the Authentication messages."""

    OK = 0
    KERBEROS_V5 = 2
    CLEARTEXT_PASSWORD = 3
    MD5_PASSWORD = 5
    SCM_CREDENTIAL = 6
    GSS = 7
    GSS_CONTINUE = 8
    SSPI = 9
    SASL = 10
    SASL_CONTINUE = 11
    SASL_FINAL = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """The connection parameters for authentication."""

    require_auth: AllowedMethods | None = None
    """None allows every method."""
    channel_binding: Literal["disable", "prefer", "require"] = "prefer"
    allow_cleartext_password: bool = False
    scram_keys: ScramKeys | None = None
    scram_min_iterations: int = MIN_ITERATIONS
    scram_max_iterations: int = MAX_ITERATIONS
    krbsrvname: str = "postgres"
    gssdelegation: bool = False
    certificate_required: bool = False
    """sslcertmode=require: AuthenticationOk counts only if the client's certificate was requested and sent."""


class Work:
    """A slow step that touches no state. Run it in a thread and pass the result to `resume()`."""

    __slots__ = ("_step", "hashes")

    def __init__(self, step: Callable[[], object], *, hashes: bool = False) -> None:
        self._step = step
        self.hashes = hashes
        """True if the step keeps a processor busy. Otherwise it waits for I/O."""

    def run(self) -> object:
        """Run the step. Raises what the step raises."""
        return self._step()


Reply = bytes | Work | None
"""A complete message to send, work to do first, or nothing to send."""


class _State(enum.Enum):
    START = enum.auto()
    ANSWERED = enum.auto()
    """The exchange of the method is complete: AuthenticationOk must follow."""
    SCRAM_FIRST = enum.auto()
    SCRAM_WORK = enum.auto()
    SCRAM_FINAL = enum.auto()
    OAUTH = enum.auto()
    OAUTH_REFUSED = enum.auto()
    GSS_WORK = enum.auto()
    GSS = enum.auto()
    DONE = enum.auto()
    FAILED = enum.auto()


class Authenticator:
    """The client's side of the authentication of one connection."""

    def __init__(
        self,
        settings: AuthSettings,
        *,
        user: str,
        password: Secret | None = None,
        token: Secret | None = None,
        encrypted: bool,
        local: bool = False,
        certificate: bytes | None = None,
        certificate_sent: bool | None = None,
        host: str | None = None,
    ) -> None:
        """Prepare the authentication of one connection.

        `encrypted`: TLS is on. `local`: a Unix socket. `certificate`: the server's, in DER, for channel
        binding. `certificate_sent`: whether the server requested the client's certificate and got it, for
        sslcertmode=require. `token`: for OAUTHBEARER. `host`: the name of the server in Kerberos.
        """
        self._settings = settings
        self._user = user
        self._password = password
        self._token = token
        self._encrypted = encrypted
        self._local = local
        self._certificate = certificate
        self._certificate_sent = certificate_sent
        self._host = host
        self._scram: ScramClient | None = None
        self._gss: GssExchange | None = None
        self._method = "none"
        self._state = _State.START

    def __repr__(self) -> str:
        return f"<Authenticator {self._method} {self._state.name}>"

    @property
    def done(self) -> bool:
        """True if AuthenticationOk has arrived and was accepted."""
        return self._state is _State.DONE

    @property
    def method(self) -> str:
        """The method that the server asked for, by its name in require_auth; "none" if it asked for nothing."""
        return self._method

    @property
    def channel_bound(self) -> bool:
        """True if both sides have proved that they hold the ends of the same TLS connection."""
        return self._scram is not None and self._scram.mechanism == SCRAM_SHA_256_PLUS and self._scram.verified

    def respond(self, code: int, payload: bytes) -> Reply:
        """Return the reply to an Authentication message of this code and payload.

        Raises the errors that the module lists. The connection must then be closed without sending anything more.
        """
        if len(payload) > _PAYLOAD_MAX:
            self._fail(
                ProtocolError(f"an Authentication message has {len(payload)} bytes, expected at most {_PAYLOAD_MAX}")
            )
        try:
            return self._answer(code, payload)
        except BaseException:
            self._state = _State.FAILED
            raise

    def resume(self, result: object) -> bytes | None:
        """Continue with the result of the `Work` that respond() returned. Return the message to send, or None."""
        try:
            if self._state is _State.SCRAM_WORK and isinstance(result, ScramKeys):
                assert self._scram is not None
                answer = _message(self._scram.client_final(result))
                self._state = _State.SCRAM_FINAL
                return answer
            if self._state is _State.GSS_WORK and (result is None or isinstance(result, bytes)):
                assert self._gss is not None
                self._state = _State.ANSWERED if self._gss.complete else _State.GSS
                return None if result is None else _message(result)
            raise RuntimeError("resume() without work to resume, or with the result of other work")
        except BaseException:
            self._state = _State.FAILED
            raise

    # ---- requests of the server

    def _answer(self, code: int, payload: bytes) -> Reply:
        match code:
            case AuthRequest.OK:
                self._ok(payload)
                return None
            case AuthRequest.CLEARTEXT_PASSWORD:
                return self._cleartext_password(payload)
            case AuthRequest.MD5_PASSWORD:
                return self._md5_password(payload)
            case AuthRequest.SASL:
                return self._sasl(payload)
            case AuthRequest.SASL_CONTINUE:
                return self._sasl_continue(payload)
            case AuthRequest.SASL_FINAL:
                self._sasl_final(payload)
                return None
            case AuthRequest.GSS:
                return self._gss_start(payload)
            case AuthRequest.GSS_CONTINUE:
                return self._gss_continue(payload)
            case AuthRequest.SSPI:
                self._begin("sspi")
                raise UnsupportedClientFeatureError(
                    "the server asks for SSPI authentication, which headrace does not support",
                    hint="Let pg_hba.conf of the server ask for gss or scram-sha-256.",
                )
            case AuthRequest.KERBEROS_V5 | AuthRequest.SCM_CREDENTIAL:
                raise UnsupportedClientFeatureError(
                    f"the server asks for {AuthRequest(code).name} authentication, which PostgreSQL itself"
                    " dropped long ago"
                )
            case _:
                raise ProtocolError(f"the server asks for authentication with the unknown code {code}")

    def _begin(self, method: str) -> None:
        """Record the method that the server asks for, once, and refuse it if the settings forbid it."""
        if self._state is not _State.START:
            raise ProtocolError(
                f"the server asks for the authentication method {method} in the middle of {self._method}"
            )
        self._method = method
        if method == "none":
            said = "the server lets the client in without authentication"
        else:
            said = f"the server asks for the authentication method {method}"
        required = self._settings.require_auth
        if required is not None and method not in required:
            raise InterfaceError(f"{said}, which require_auth={required.text} forbids")
        if self._settings.channel_binding == "require" and method != "scram-sha-256":
            raise InterfaceError(f"{said}, which has no channel binding, but channel_binding=require")

    def _ok(self, payload: bytes) -> None:
        _expect_length("AuthenticationOk", payload, 0)
        if self._state not in (_State.START, _State.ANSWERED, _State.OAUTH):
            raise ProtocolError(
                f"the server sent AuthenticationOk in the middle of the exchange for {self._method}:"
                " it has not proved that it is the right server"
            )
        if self._state is _State.START:
            self._begin("none")
        if self._settings.channel_binding == "require" and not self.channel_bound:
            raise InterfaceError("channel_binding=require, but the server let the client in without channel binding")
        if self._settings.certificate_required and not self._certificate_sent:
            raise InterfaceError("sslcertmode=require, but the server did not ask for the client's certificate")
        self._state = _State.DONE

    def _cleartext_password(self, payload: bytes) -> bytes:
        _expect_length("AuthenticationCleartextPassword", payload, 0)
        self._begin("password")
        self._need_privacy("password")
        password = self._need_password()
        self._state = _State.ANSWERED
        return _message(password.to_bytes() + b"\0")

    def _md5_password(self, payload: bytes) -> bytes:
        _expect_length("AuthenticationMD5Password", payload, 4)
        self._begin("md5")
        password = self._need_password()
        user = self._user.encode("utf-8")
        # usedforsecurity: without it a system in FIPS mode refuses MD5, which the server asks for.
        inner = hashlib.md5(password.to_bytes() + user, usedforsecurity=False).hexdigest().encode()
        outer = hashlib.md5(inner + payload, usedforsecurity=False).hexdigest().encode()
        self._state = _State.ANSWERED
        return _message(b"md5" + outer + b"\0")

    # ---- SASL

    def _sasl(self, payload: bytes) -> bytes:
        offered = _mechanisms(payload)
        scram = SCRAM_SHA_256 in offered or SCRAM_SHA_256_PLUS in offered
        if OAUTHBEARER in offered and (self._token is not None or not scram):
            return self._oauth()
        if scram:
            return self._scram_first(offered)
        self._begin("sasl")
        raise UnsupportedClientFeatureError(
            f"the server offers no SASL mechanism that headrace supports, only {', '.join(offered)}"
        )

    def _scram_first(self, offered: tuple[str, ...]) -> bytes:
        self._begin("scram-sha-256")
        if self._settings.scram_keys is None:
            self._need_password()
        binding = self._binding(offered)
        self._scram = ScramClient(
            binding=binding,
            binding_possible=self._encrypted and self._settings.channel_binding != "disable",
            min_iterations=self._settings.scram_min_iterations,
            max_iterations=self._settings.scram_max_iterations,
        )
        self._state = _State.SCRAM_FIRST
        return _initial_response(self._scram.mechanism, self._scram.client_first())

    def _binding(self, offered: tuple[str, ...]) -> bytes | None:
        """Return the binding data for SCRAM-SHA-256-PLUS; None for SCRAM-SHA-256.

        There is no silent downgrade. If the certificate has no binding, that is an error unless binding is turned off,
        because a man in the middle could present such a certificate.
        """
        wanted = self._settings.channel_binding
        if SCRAM_SHA_256_PLUS not in offered:
            if wanted == "require":
                raise InterfaceError(
                    "channel_binding=require, but the server does not offer SCRAM-SHA-256-PLUS",
                    hint=None if self._encrypted else "Channel binding needs TLS: sslmode=require or above.",
                )
            return None
        if not self._encrypted:
            raise ProtocolError("the server offers SCRAM-SHA-256-PLUS although the connection is not encrypted")
        if wanted == "disable":
            if SCRAM_SHA_256 not in offered:
                raise InterfaceError("channel_binding=disable, but the server offers SCRAM-SHA-256-PLUS alone")
            return None
        binding = None if self._certificate is None else tls_server_end_point(self._certificate)
        if binding is None:
            raise InterfaceError(
                "the server offers channel binding, but the signature of its certificate has no hash"
                " function to bind to (RFC 5929 defines none for Ed25519)",
                hint="Give the server a certificate signed with RSA or ECDSA, or set channel_binding=disable.",
            )
        return binding

    def _sasl_continue(self, payload: bytes) -> Reply:
        if self._state is _State.OAUTH:
            # The token was refused. A lone separator ends the exchange, and the server's error follows (RFC
            # 7628, 3.2.3).
            self._state = _State.OAUTH_REFUSED
            return _message(b"\x01")
        if self._state is not _State.SCRAM_FIRST:
            raise ProtocolError("the server sent AuthenticationSASLContinue out of turn")
        assert self._scram is not None
        challenge = self._scram.challenge(payload)
        keys, password = self._settings.scram_keys, self._password
        self._state = _State.SCRAM_WORK
        if keys is not None:
            return self.resume(keys)
        assert password is not None
        return Work(lambda: derive_keys(password, challenge), hashes=True)

    def _sasl_final(self, payload: bytes) -> None:
        if self._state is not _State.SCRAM_FINAL:
            raise ProtocolError("the server sent AuthenticationSASLFinal out of turn")
        assert self._scram is not None
        self._scram.verify(payload)
        self._state = _State.ANSWERED

    def _oauth(self) -> bytes:
        self._begin("oauth")
        if self._token is None:
            raise ClientConfigurationError(
                "the server asks for an OAuth bearer token, and none is given",
                hint="Give oauth_token=..., a str or a callable that returns one.",
            )
        self._need_privacy("OAuth token")
        if not _BEARER_TOKEN.fullmatch(self._token.to_bytes()):
            raise ClientConfigurationError(
                "oauth_token is no bearer token: it has characters that RFC 6750, 2.1, does not allow"
            )
        self._state = _State.OAUTH
        # No AuthenticationSASLFinal follows: AuthenticationOk comes next (RFC 7628, 3.1).
        return _initial_response(OAUTHBEARER, b"n,,\x01auth=Bearer " + self._token.to_bytes() + b"\x01\x01")

    # ---- GSSAPI

    def _gss_start(self, payload: bytes) -> Work:
        _expect_length("AuthenticationGSS", payload, 0)
        self._begin("gss")
        if self._host is None:
            raise ClientConfigurationError(
                "the server asks for GSSAPI authentication, which needs the host name of the server",
                hint="Give host=...",
            )
        gss = GssExchange(service=self._settings.krbsrvname, host=self._host, delegate=self._settings.gssdelegation)
        self._gss = gss
        self._state = _State.GSS_WORK
        return Work(lambda: gss.step(None))

    def _gss_continue(self, payload: bytes) -> Work:
        gss = self._gss
        if self._state is not _State.GSS or gss is None:
            raise ProtocolError("the server sent AuthenticationGSSContinue out of turn")
        self._state = _State.GSS_WORK
        return Work(lambda: gss.step(payload))

    # ---- the client's secrets

    def _need_password(self) -> Secret:
        if self._password is None:
            raise MissingPasswordError(
                f"the server asks for a password ({self._method}) for the role {self._user!r}, and none is given",
                hint="Give password=..., put it into the DSN or the passfile (~/.pgpass), or set PGPASSWORD.",
            )
        if b"\0" in self._password.to_bytes():
            raise ClientConfigurationError("the password contains a NUL character, which no password can contain")
        return self._password

    def _need_privacy(self, what: str) -> None:
        """Refuse to send a secret in cleartext over a connection that others could read."""
        if not (self._encrypted or self._local or self._settings.allow_cleartext_password):
            raise InterfaceError(
                f"the server asks for the {what} in cleartext, and the connection is not encrypted: it was not sent",
                hint="Use TLS (sslmode=verify-full), or scram-sha-256 in pg_hba.conf;"
                " allow_cleartext_password=True sends it.",
            )

    def _fail(self, error: Exception) -> NoReturn:
        self._state = _State.FAILED
        raise error


def _message(payload: bytes) -> bytes:
    """Return a message 'p': PasswordMessage, SASLInitialResponse, SASLResponse or GSSResponse."""
    return b"p" + (len(payload) + 4).to_bytes(4, "big") + payload


def _initial_response(mechanism: str, response: bytes) -> bytes:
    """Return a SASLInitialResponse."""
    return _message(mechanism.encode("ascii") + b"\0" + len(response).to_bytes(4, "big") + response)


def _mechanisms(payload: bytes) -> tuple[str, ...]:
    """Return the names in an AuthenticationSASL: each ends with a NUL, and another NUL ends the list."""
    if len(payload) > _MECHANISMS_MAX or not payload.endswith(b"\0\0") or not payload.isascii():
        raise ProtocolError("the server's list of SASL mechanisms is malformed")
    names = tuple(payload[:-2].decode("ascii").split("\0"))
    if not all(name.isprintable() and name for name in names):
        raise ProtocolError("the server's list of SASL mechanisms is malformed")
    return names


def _expect_length(message: str, payload: bytes, length: int) -> None:
    if len(payload) != length:
        raise ProtocolError(f"{message} has {len(payload)} bytes after its code, expected {length}")
