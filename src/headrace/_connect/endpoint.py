"""One way to a server: a socket address, with TLS or without, and how a transport is opened there.

The session and the CancelRequests for it take the same way. Source: PostgreSQL documentation, "SSL Session Encryption"
(protocol-flow-ssl), and `requirepeer`, `keepalives` and what follows in "Parameter Key Words" (libpq-paramkeywords).
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from headrace._connect.tls import Attempt, check_alpn, make_context, server_hostname
from headrace._core.wire.frontend import ssl_request
from headrace.exceptions import ClientConfigurationError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from headrace._connect.params.resolve import Address, ConnectParams, Keepalives

_P = TypeVar("_P", bound=asyncio.BaseProtocol)

PLAIN: Final = Attempt(tls=False)

# struct ucred of Linux: process, user and group.
_CREDENTIALS: Final = struct.Struct("3i")


class SSLRequestError(ConnectionError):
    """The SSLRequest was not answered by yes or no. As in libpq since 17 that ends the attempt, in every sslmode."""


class TamperedError(SSLRequestError):
    """Somebody between client and server has put words into the server's mouth."""


@dataclass(slots=True, eq=False)
class Endpoint:
    """A socket address, the attempt to be made there, and what came of it."""

    params: ConnectParams
    address: Address
    family: int
    sockaddr: Any
    attempt: Attempt = PLAIN
    reached: bool = False
    """Whether something took the connection."""
    encrypted: bool | None = None
    """Whether TLS is on; None before that is agreed on."""
    accepted: bool = False
    """Whether the server has let the user in."""
    context: ssl.SSLContext | None = None
    hostname: str | None = None
    """The name sent and verified in the TLS handshake."""

    def __str__(self) -> str:
        """Return the address as the user gave it, and what it was resolved to where that is not the same."""
        text = str(self.address)
        if not self.address.is_unix and str(self.sockaddr[0]) not in text:
            return f"{text} ({self.sockaddr[0]})"
        return text

    async def open(self, protocol: Callable[[], _P], sock: socket.socket | None = None) -> tuple[asyncio.Transport, _P]:
        """Connect, agree on TLS where the attempt says so, and make a transport with the protocol.

        `sock` is one that is connected already; it belongs to the transport, or is closed. Raises OSError (ssl.SSLError
        for a handshake that fails) where there is no server or not the right one, ClientConfigurationError for options
        that cannot be carried out. On cancellation the socket is closed.
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
                # Cancelled as the handshake was done, asyncio would go on to say goodbye, on a socket that is closed.
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
        """Make what TLS needs, before anybody is connected to. Raises ClientConfigurationError for unfit files."""
        if self.attempt.tls and self.context is None:
            # It reads files, and the system's authorities are many.
            loop = asyncio.get_running_loop()
            self.context = await loop.run_in_executor(None, make_context, self.params.tls)
            self.hostname = server_hostname(self.params.tls, self.address.host)

    async def connect(self) -> socket.socket:
        """Return a socket that is connected to the address. Raises OSError; on cancellation the socket is closed."""
        loop = asyncio.get_running_loop()
        sock: socket.socket | None = None
        try:
            sock = socket.socket(self.family, socket.SOCK_STREAM)
            sock.setblocking(False)
            if self.family != socket.AF_UNIX:
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
        """Send an SSLRequest; return whether the server takes up TLS.

        Raises SSLRequestError for any other answer than yes or no. Only one byte may come before the handshake:
        whatever stands behind it was not sent by the server that is going to be authenticated, and is refused
        (CVE-2021-23222).
        """
        try:
            await loop.sock_sendall(sock, ssl_request())
            answer = await loop.sock_recv(sock, 1)
        except ConnectionError as error:
            raise SSLRequestError(error.errno, f"{self} broke off instead of answering the SSLRequest") from error
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
        # An error text here would come unauthenticated: it is not shown (CVE-2024-10977).
        raise SSLRequestError(f"{self} did not answer the SSLRequest as a PostgreSQL server does")

    async def _transport(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, protocol: Callable[[], _P]
    ) -> tuple[asyncio.Transport, _P]:
        if self.family == socket.AF_UNIX:
            return await loop.create_unix_connection(protocol, sock=sock)
        if self.encrypted:
            name = self.hostname or ""
            return await loop.create_connection(protocol, sock=sock, ssl=self.context, server_hostname=name)
        return await loop.create_connection(protocol, sock=sock)


def keep_alive(sock: socket.socket, keepalives: Keepalives) -> None:
    """Set up how a dead peer is found out. Options that the platform does not have are passed over.

    Raises ClientConfigurationError for a value that the platform does not take.
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
    """Refuse a server on a Unix socket that runs as another user than `requirepeer` says.

    Raises ConnectionError where it does, ClientConfigurationError where the platform cannot tell.
    """
    import pwd

    if not hasattr(socket, "SO_PEERCRED"):
        raise ClientConfigurationError("requirepeer is not supported on this platform")
    uid = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[1]
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid {uid}"
    if name != user:
        raise ConnectionError(f"requirepeer={user}, but the server runs as {name}")
