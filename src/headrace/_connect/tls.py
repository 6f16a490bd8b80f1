"""TLS as in libpq: what the ssl options mean, the SSLContext for them, and which attempts to make.

Sources: PostgreSQL documentation, "SSL Support" in libpq and "SSL Session Encryption" in "Message Flow". This module
uses no sockets. `make_context()` reads files with certificates and keys, so call it off the event loop.
"""

from __future__ import annotations

import os
import ssl
import stat
import weakref
from dataclasses import dataclass
from typing import Any, Final, Literal

from headrace._connect.params.secret import Secret
from headrace._connect.platform import APPEND_FLAGS, open_to_others
from headrace.exceptions import ClientConfigurationError, ProtocolError
from headrace.exceptions._values import shown

SSLMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
SSLNegotiation = Literal["postgres", "direct"]
SSLCertMode = Literal["disable", "allow", "require"]

ALPN: Final = "postgresql"
"""The protocol's name for ALPN, registered with IANA. Direct TLS needs it."""

SYSTEM: Final = "system"
"""sslrootcert=system: the certificate authorities that the operating system trusts."""

VERSIONS: Final[dict[str, ssl.TLSVersion]] = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}

_CERTIFICATE_REQUEST: Final = 13
"""HandshakeType certificate_request (RFC 8446, 4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSSettings:
    """The connection parameters for TLS. A path that was not given is None."""

    mode: SSLMode = "prefer"
    negotiation: SSLNegotiation = "postgres"
    rootcert: str | None = None
    cert: str | None = None
    key: str | None = None
    password: Secret | None = None
    certmode: SSLCertMode = "allow"
    crl: str | None = None
    crldir: str | None = None
    sni: bool = True
    min_version: str | None = "TLSv1.2"
    max_version: str | None = None
    keylogfile: str | None = None
    context: ssl.SSLContext | None = None
    """The user's own context. It decides everything but the negotiation."""
    require_alpn: bool = False
    """sslnegotiation=direct: a server that does not select ALPN may not be PostgreSQL. Not required for direct_tls,
    which asyncpg has for proxies that speak TLS."""
    directory: str | None = None
    """The directory of files that were not named: ~/.postgresql."""

    def __post_init__(self) -> None:
        """Refuse combinations that would be less safe than they look."""
        if self.negotiation == "direct" and self.mode in ("disable", "allow", "prefer"):
            raise ClientConfigurationError(
                "direct TLS requires sslmode=require, verify-ca, or verify-full: sslnegotiation=direct (direct_tls) "
                f"was given with sslmode={self.mode}",
                hint="Set sslmode=verify-full, or require to verify nothing.",
            )
        if self.rootcert == SYSTEM and self.mode != "verify-full":
            raise ClientConfigurationError(
                f"sslrootcert=system needs sslmode=verify-full, got sslmode={self.mode}: anybody can get a"
                " certificate from one of the system's authorities, so only the name in it proves something"
            )
        if not self.sni and self.mode == "verify-full":
            raise ClientConfigurationError(
                "sslsni=0 does not go with sslmode=verify-full: Python's ssl module cannot verify a name it"
                " does not send",
                hint="Leave sslsni out, or use sslmode=verify-ca.",
            )
        for name, version in (
            ("ssl_min_protocol_version", self.min_version),
            ("ssl_max_protocol_version", self.max_version),
        ):
            if version is not None and version not in VERSIONS:
                raise ClientConfigurationError(f"{name} must be one of {', '.join(VERSIONS)}, got {shown(version)}")
        if self.min_version and self.max_version and VERSIONS[self.min_version] > VERSIONS[self.max_version]:
            raise ClientConfigurationError(
                f"ssl_min_protocol_version={self.min_version} is newer than ssl_max_protocol_version={self.max_version}"
            )


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to connect to an address, on a socket of its own."""

    tls: bool
    direct: bool = False
    """TLS from the first byte, without an SSLRequest."""
    plain_on_refusal: bool = False
    """An `N` to the SSLRequest lets this attempt continue without TLS, on the same socket."""


def attempts(settings: TLSSettings, *, unix: bool, channel_binding: str = "prefer") -> tuple[Attempt, ...]:
    """Return the attempts for an address, in order. The first successful one counts.

    The next attempt is made if the server refuses the connection, or the TLS handshake fails, before AuthenticationOk.
    It is not made if the client refuses (an unfit authentication method, a false signature), after a time-out or on
    cancellation. An attempt without TLS is skipped if an earlier attempt already continued without it.

    Over a Unix socket there is no TLS. channel_binding=require leaves out the attempts that cannot bind. Raises
    ClientConfigurationError if that leaves none.
    """
    if unix:
        return (Attempt(tls=False),)
    plain = Attempt(tls=False)
    match settings.mode:
        case "disable":
            planned: tuple[Attempt, ...] = (plain,)
        case "allow":
            planned = (plain, Attempt(tls=True))
        case "prefer":
            planned = (Attempt(tls=True, plain_on_refusal=True), plain)
        case _:
            planned = (Attempt(tls=True, direct=settings.negotiation == "direct"),)
    if channel_binding == "require":
        planned = tuple(Attempt(tls=True, direct=attempt.direct) for attempt in planned if attempt.tls)
        if not planned:
            raise ClientConfigurationError(
                "channel_binding=require needs TLS, but sslmode=disable", hint="Set sslmode=require or above."
            )
    return planned


def server_hostname(settings: TLSSettings, host: str | None) -> str | None:
    """Return the name that the TLS handshake sends and verifies; None for neither.

    `host` is the user's name for the server, not the address it was resolved to. Raises ClientConfigurationError if
    the name must be verified and is not known.
    """
    context = settings.context
    verified = settings.mode == "verify-full" if context is None else context.check_hostname
    if host is None:
        if verified:
            raise ClientConfigurationError(
                "the name in the server's certificate must be verified, but only hostaddr is given",
                hint="Give host=... with the name in the certificate; hostaddr is still the address to connect to.",
            )
        return None
    return host if settings.sni or verified else None


def make_context(settings: TLSSettings) -> ssl.SSLContext:
    """Return the SSLContext for the settings, or the user's own. It reads files: do not call it on the event loop.

    Raises ClientConfigurationError for files that are missing, unreadable or malformed, or a key that is readable by
    others.
    """
    if settings.context is not None:
        return settings.context
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _set_versions(context, settings)
    context.set_alpn_protocols([ALPN])
    if _load_authorities(context, settings):
        context.verify_mode = ssl.CERT_REQUIRED
        _load_revoked(context, settings)
    context.check_hostname = settings.mode == "verify-full"
    if settings.certmode != "disable":
        _load_certificate(context, settings)
    if settings.certmode == "require":
        watch_certificate_request(context)
    if settings.keylogfile is not None:
        try:
            # OpenSSL would create the file readable by everyone.
            os.close(os.open(settings.keylogfile, APPEND_FLAGS, 0o600))
            context.keylog_filename = settings.keylogfile
        except OSError as reason:
            raise _unreadable("sslkeylogfile", settings.keylogfile, reason) from None
    return context


def check_alpn(settings: TLSSettings, selected: str | None) -> None:
    """Check the protocol that the server selected by ALPN, as libpq does. Raises ProtocolError."""
    if selected is None and settings.require_alpn:
        raise ProtocolError(
            "the server did not select the protocol by ALPN, which sslnegotiation=direct requires: it may"
            " not be PostgreSQL, or may be older than 17"
        )
    if selected is not None and selected != ALPN and settings.context is None:
        raise ProtocolError("the server selected a protocol by ALPN that is not PostgreSQL's")


def _set_versions(context: ssl.SSLContext, settings: TLSSettings) -> None:
    context.minimum_version = VERSIONS.get(settings.min_version or "", ssl.TLSVersion.MINIMUM_SUPPORTED)
    context.maximum_version = VERSIONS.get(settings.max_version or "", ssl.TLSVersion.MAXIMUM_SUPPORTED)


def _default(settings: TLSSettings, name: str) -> str | None:
    """Return the path of a file in ~/.postgresql; None if it does not exist."""
    if settings.directory is None:
        return None
    path = os.path.join(settings.directory, name)
    return path if os.path.exists(path) else None


def _load_authorities(context: ssl.SSLContext, settings: TLSSettings) -> bool:
    """Load the certificate authorities; return whether there are any, which means that the server is verified.

    As in libpq, a root.crt is used in every sslmode: with it, require means verify-ca.
    """
    if settings.rootcert == SYSTEM:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return True
    path = settings.rootcert or _default(settings, "root.crt")
    if path is None:
        if settings.mode in ("verify-ca", "verify-full"):
            where = os.path.join(settings.directory or "~/.postgresql", "root.crt")
            raise ClientConfigurationError(
                f'root certificate file "{where}" does not exist or cannot be accessed: sslmode={settings.mode} needs '
                "certificate authorities",
                hint="Name a file as sslrootcert, or use the system's with sslrootcert=system and sslmode=verify-full.",
            )
        return False
    try:
        context.load_verify_locations(cafile=path)
    except (OSError, ssl.SSLError) as reason:
        raise _unreadable("sslrootcert", path, reason) from None
    return True


def _load_revoked(context: ssl.SSLContext, settings: TLSSettings) -> None:
    """Load the certificate revocation lists, if any. Each certificate of a chain then needs one."""
    path, directory = settings.crl, settings.crldir
    if path is None and directory is None:
        path = _default(settings, "root.crl")
        if path is None:
            return
    if directory is not None and not os.path.isdir(directory):
        raise ClientConfigurationError(f"sslcrldir {directory!r} is no directory")
    try:
        context.load_verify_locations(cafile=path, capath=directory)
    except (OSError, ssl.SSLError) as reason:
        raise _unreadable("sslcrl", path or str(directory), reason) from None
    context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN


def _load_certificate(context: ssl.SSLContext, settings: TLSSettings) -> None:
    """Load the client's certificate and key, if any."""
    cert = settings.cert or _default(settings, "postgresql.crt")
    if cert is None:
        if settings.certmode == "require":
            raise ClientConfigurationError(
                "sslcertmode=require, but there is no client certificate",
                hint="Name one as sslcert, or put it into ~/.postgresql/postgresql.crt.",
            )
        return
    if not os.path.exists(cert):
        raise _unreadable("sslcert", cert, FileNotFoundError(2, "No such file or directory"))
    key = settings.key or _default(settings, "postgresql.key")
    if key is None:
        raise ClientConfigurationError(
            f"there is a client certificate, {cert!r}, but no key for it",
            hint="Name the key as sslkey, put it into ~/.postgresql/postgresql.key, or set sslcertmode=disable.",
        )
    _check_key(key)
    password = settings.password
    try:
        # Always pass a callable: without one OpenSSL would prompt at the terminal.
        context.load_cert_chain(cert, key, password=lambda: b"" if password is None else password.to_bytes())
    except (OSError, ssl.SSLError) as reason:
        hint = "If the key is encrypted, give its password as sslpassword." if password is None else None
        raise _unreadable("sslcert and sslkey", f"{cert}, {key}", reason, hint) from None


def _check_key(path: str) -> None:
    """Refuse a key that is not a plain file or that others can read, by libpq's rule."""
    try:
        status = os.stat(path)
    except OSError as reason:
        raise _unreadable("sslkey", path, reason) from None
    if not stat.S_ISREG(status.st_mode):
        raise ClientConfigurationError(f"sslkey {path!r} is not a plain file")
    # A group may read root's keys, as distributions set them up for services.
    if open_to_others(status, root_may_share=True):
        raise ClientConfigurationError(
            f"sslkey {path!r} can be used by others than its owner (mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"chmod 600 {path} (or 640 if root owns it).",
        )


def _unreadable(name: str, path: str, reason: Exception, hint: str | None = None) -> ClientConfigurationError:
    # An SSLError is an OSError too. Its reason is a constant of OpenSSL, never part of the file.
    why = getattr(reason, "reason", None) or getattr(reason, "strerror", None) or "malformed"
    return ClientConfigurationError(f"{name} {path!r} cannot be used: {why}", hint=hint)


# ---- sslcertmode=require

_asked: weakref.WeakSet[Any] = weakref.WeakSet()


def watch_certificate_request(context: ssl.SSLContext) -> None:
    """Record for each connection of the context whether the server requests the client's certificate.

    Python has no public API for this. A debugging callback that every Python since 3.8 has sees the message. Raises
    ClientConfigurationError on a Python without it.
    """
    if not hasattr(context, "_msg_callback"):
        raise ClientConfigurationError("sslcertmode=require cannot be checked by this version of Python")

    def note(connection: Any, direction: str, version: int, kind: int, message: int, data: bytes) -> None:
        if direction == "read" and int(kind) == 22 and int(message) == _CERTIFICATE_REQUEST:
            _asked.add(connection)

    setattr(context, "_msg_callback", note)  # noqa: B010


def certificate_requested(connection: ssl.SSLObject | ssl.SSLSocket) -> bool:
    """Return whether the server of a connection requested the client's certificate, after
    `watch_certificate_request()`."""
    return connection in _asked
