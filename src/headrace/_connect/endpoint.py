"""An endpoint of a server: a socket address, with or without TLS, and how a transport is opened there.

A session and its CancelRequests use the same endpoint. Source: PostgreSQL documentation, "SSL Session Encryption"
(protocol-flow-ssl), and `requirepeer`, `keepalives` and the options after it in "Parameter Key Words"
(libpq-paramkeywords).
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from headrace._connect.platform import AF_UNIX, peer_user
from headrace._connect.tls import Attempt, check_alpn, make_context, server_hostname
from headrace._core.wire.frontend import ssl_request
from headrace.exceptions import ClientConfigurationError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from headrace._connect.params.resolve import Address, ConnectParams, Keepalives

_P = TypeVar("_P", bound=asyncio.BaseProtocol)

PLAIN: Final = Attempt(tls=False)


class SSLRequestError(ConnectionError):
    """The SSLRequest was not answered by yes or no. As in libpq since 17, this ends the attempt for every sslmode."""


class TamperedError(SSLRequestError):
    """Bytes arrived that the server cannot have sent: the connection was tampered with."""


@dataclass(slots=True, eq=False)
class Endpoint:
    """A socket address, the attempt to make there, and its outcome."""

    params: ConnectParams
    address: Address
    family: int
    sockaddr: Any
    attempt: Attempt = PLAIN
    reached: bool = False
    """True if the TCP or Unix connection was accepted."""
    encrypted: bool | None = None
    """True if TLS is on; None before that is negotiated."""
    accepted: bool = False
    """True if the server has authenticated the user."""
    context: ssl.SSLContext | None = None
    hostname: str | None = None
    """The name that the TLS handshake sends and verifies."""

    @property
    def place(self) -> tuple[Address, Any]:
        """The socket address and the host that it belongs to."""
        return self.address, self.sockaddr

    def __str__(self) -> str:
        """Return the address as the user gave it, and the resolved address if it is different."""
        text = str(self.address)
        if not self.address.is_unix and str(self.sockaddr[0]) not in text:
            return f"{text} ({self.sockaddr[0]})"
        return text

    async def open(self, protocol: Callable[[], _P], sock: socket.socket | None = None) -> tuple[asyncio.Transport, _P]:
        """Connect, negotiate TLS if the attempt says so, and create a transport with the protocol.

        `sock` is a connected socket. It then belongs to the transport, or is closed. Raises OSError (ssl.SSLError for a
        failed handshake) if there is no server or a wrong one, ClientConfigurationError for options that cannot be
        applied. On cancellation the socket is closed.
        """
        loop = asyncio.get_running_loop()
        if sock is None:
            await self.prepare()
            sock = await self.connect()
        protocols: list[_P] = []

        def make_protocol() -> _P:
            protocols.append(protocol())
            return protocols[-1]

        try:
            self.reached = True
            if self.address.is_unix and self.params.requirepeer is not None:
                check_peer(sock, self.params.requirepeer)
            wants_to_ask = self.attempt.tls and not self.attempt.direct
            self.encrypted = await self._ask_for_tls(loop, sock) if wants_to_ask else self.attempt.tls
            transport, made = await self._transport(loop, sock, make_protocol)
        except BaseException:
            for each in protocols:
                # If it was cancelled just after the handshake, asyncio would still shut TLS down, on a closed socket.
                if (half_made := getattr(each, "transport", None)) is not None:
                    half_made.abort()
            sock.close()
            raise
        try:
            if self.encrypted:
                check_alpn(self.params.tls, transport.get_extra_info("ssl_object").selected_alpn_protocol())
        except BaseException:
            transport.abort()
            raise
        return transport, made

    async def prepare(self) -> None:
        """Load what TLS needs, before connecting. Raises ClientConfigurationError for unusable files."""
        if self.attempt.tls and self.context is None:
            # This reads files, and the system may have many authorities.
            loop = asyncio.get_running_loop()
            self.context = await loop.run_in_executor(None, make_context, self.params.tls)
            self.hostname = server_hostname(self.params.tls, self.address.host)

    async def connect(self) -> socket.socket:
        """Return a socket connected to the address. Raises OSError. On cancellation the socket is closed."""
        loop = asyncio.get_running_loop()
        sock: socket.socket | None = None
        try:
            sock = socket.socket(self.family, socket.SOCK_STREAM)
            sock.setblocking(False)
            if self.family != AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                keep_alive(sock, self.params.keepalives)
            await loop.sock_connect(sock, self.sockaddr)
        except OSError as error:
            if sock is not None:
                sock.close()
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise type(error)(error.errno, f"cannot connect to PostgreSQL at {self}: {reason}") from None
        except BaseException:
            if sock is not None:
                sock.close()
            raise
        return sock

    async def _ask_for_tls(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> bool:
        """Send an SSLRequest; return whether the server accepts TLS.

        Raises SSLRequestError for any other answer than yes or no. Only one byte may arrive before the handshake: the
        server that is about to be authenticated cannot have sent anything after it, so that is refused
        (CVE-2021-23222).
        """
        try:
            await loop.sock_sendall(sock, ssl_request())
            answer = await loop.sock_recv(sock, 1)
        except ConnectionError as error:
            raise SSLRequestError(
                error.errno, f"{self} dropped the connection instead of answering the SSLRequest"
            ) from error
        if answer == b"S":
            try:
                rest = sock.recv(1, socket.MSG_PEEK)
            except (BlockingIOError, InterruptedError):
                return True
            if rest:
                raise TamperedError(f"{self} sent unencrypted bytes behind its answer to the SSLRequest")
            raise ConnectionError(f"{self} closed the connection after its answer to the SSLRequest")
        if answer == b"N":
            if self.attempt.plain_on_refusal:
                return False
            raise ConnectionError(
                f'PostgreSQL server at "{self}" rejected SSL upgrade: it does not support TLS, '
                f"which sslmode={self.params.tls.mode} requires"
            )
        if answer == b"":
            raise SSLRequestError(f"{self} closed the connection instead of answering the SSLRequest")
        # An error text would be unauthenticated here, so it is not shown (CVE-2024-10977).
        raise SSLRequestError(f"{self} did not answer the SSLRequest as a PostgreSQL server does")

    async def _transport(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, protocol: Callable[[], _P]
    ) -> tuple[asyncio.Transport, _P]:
        if sys.platform != "win32" and self.family == AF_UNIX:
            return await loop.create_unix_connection(protocol, sock=sock)
        if self.encrypted:
            name = self.hostname or ""
            return await loop.create_connection(protocol, sock=sock, ssl=self.context, server_hostname=name)
        return await loop.create_connection(protocol, sock=sock)


def keep_alive(sock: socket.socket, keepalives: Keepalives) -> None:
    """Configure how a dead peer is detected. Options that the platform does not have are ignored.

    Raises ClientConfigurationError for a value that the platform refuses.
    """
    idle = "TCP_KEEPALIVE" if sys.platform == "darwin" else "TCP_KEEPIDLE"
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(keepalives.enabled))
    for name, option, value in (
        ("keepalives_idle", idle, keepalives.idle if keepalives.enabled else None),
        ("keepalives_interval", "TCP_KEEPINTVL", keepalives.interval if keepalives.enabled else None),
        ("keepalives_count", "TCP_KEEPCNT", keepalives.count if keepalives.enabled else None),
        ("tcp_user_timeout", "TCP_USER_TIMEOUT", keepalives.user_timeout),
    ):
        if value is None or not hasattr(socket, option):
            continue
        try:
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        except OSError as error:
            raise ClientConfigurationError(f"{name}={value} is refused by the system: {error.strerror}") from None


def check_peer(sock: socket.socket, user: str) -> None:
    """Check that the server on a Unix socket runs as the user in `requirepeer`.

    Raises ConnectionError if it does not, ClientConfigurationError if the platform cannot tell.
    """
    name = peer_user(sock)
    if name is None:
        raise ClientConfigurationError("requirepeer is not supported on this platform")
    if name != user:
        raise ConnectionError(f"requirepeer={user}, but the server runs as {name}")
