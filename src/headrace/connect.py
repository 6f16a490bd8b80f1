"""Opening a connection: hosts in turn, TLS, authentication, time-outs.

Every address, and every attempt at one, starts afresh: a socket, TLS and authentication state of its own, so nothing
that a false server said outlives it.

Source: PostgreSQL documentation, "Start-up" and "SSL Session Encryption" (protocol-flow), "Database Connection Control
Functions" (libpq-connect) for the order of things.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
import struct
from asyncio import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace._core.frontend import cancel_request, ssl_request, startup_message
from headrace._core.record import Record
from headrace._core.session import Session
from headrace.auth import Authenticator, Work
from headrace.driver import KIND_FIRST_ROW, Driver
from headrace.errors import (
    ClientConfigurationError,
    ConnectionDoesNotExistError,
    InterfaceError,
    PostgresError,
    TargetServerAttributeNotMatched,
)
from headrace.tls import attempts, certificate_requested, check_alpn, make_context, server_hostname

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace._params.address import Address
    from headrace.params import ConnectParams, Keepalives
    from headrace.tls import Attempt

# What a server says when it is not there for anybody just now; anything else it says would be said again.
_TRY_NEXT = frozenset({"57P01", "57P02", "57P03"})
_CREDENTIALS = struct.Struct("3i")


@dataclass(slots=True)
class Place:
    """Where and how a connection was made: a CancelRequest takes the same way."""

    address: Address
    family: int
    sockaddr: Any
    attempt: Attempt
    encrypted: bool = False
    context: ssl.SSLContext | None = None
    hostname: str | None = None


async def open_driver(
    params: ConnectParams, make_session: Callable[[], Session]
) -> tuple[Driver, Place, Authenticator]:
    """Connect to the first address that answers and suits `target_session_attrs`.

    Raises what the last address failed with (OSError, ssl.SSLError, PostgresError, TimeoutError ...), with a note for
    each address where there were several; TargetServerAttributeNotMatched where none suited. An error that another
    address would not mend, such as a wrong password, is raised at once. On cancellation nothing is left open.
    """
    failures: list[tuple[str, BaseException]] = []
    wanted = params.target_session_attrs
    addresses = params.ordered_addresses()
    if wanted == "prefer-standby":
        found = await _first_of(params, make_session, addresses, "standby", failures)
        if found is not None:
            return found
        wanted = "any"
    found = await _first_of(params, make_session, addresses, wanted, failures)
    if found is not None:
        return found
    where, error = failures[-1]
    if len(failures) > 1:
        error.add_note(
            "All addresses failed:\n"
            + "\n".join(f"  {where}: {type(each).__name__}: {each}" for where, each in failures)
        )
    elif isinstance(error, (OSError, ConnectionDoesNotExistError)):
        error.add_note(f"While connecting to {where}.")
    raise error


async def _first_of(
    params: ConnectParams,
    make_session: Callable[[], Session],
    addresses: tuple[Address, ...],
    wanted: str,
    failures: list[tuple[str, BaseException]],
) -> tuple[Driver, Place, Authenticator] | None:
    for address in addresses:
        try:
            async with asyncio.timeout(params.connect_timeout):
                for family, sockaddr in await _resolve(params, address):
                    try:
                        return await _attempt_all(params, make_session, address, family, sockaddr, wanted)
                    except (OSError, InterfaceError, PostgresError) as error:
                        if not _worth_another(error):
                            raise
                        failures.append((_shown(address, sockaddr), error))
        except TimeoutError:
            failures.append((str(address), TimeoutError(f"no connection to {address} in {params.connect_timeout:g} s")))
        except OSError as error:
            if not _worth_another(error):
                raise
            failures.append((str(address), error))
    return None


def _worth_another(error: BaseException) -> bool:
    """Return whether another address may do better."""
    if isinstance(error, (TargetServerAttributeNotMatched, ConnectionDoesNotExistError)):
        return True
    if isinstance(error, PostgresError):
        return error.sqlstate in _TRY_NEXT
    return isinstance(error, OSError)


def _shown(address: Address, sockaddr: Any) -> str:
    text = str(address)
    if not address.is_unix and isinstance(sockaddr, tuple) and str(sockaddr[0]) not in text:
        return f"{text} ({sockaddr[0]})"
    return text


async def _resolve(params: ConnectParams, address: Address) -> list[tuple[int, Any]]:
    """Return the socket addresses of a host, asked for anew at each try."""
    if address.is_unix:
        return [(socket.AF_UNIX, address.socket_path)]
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(address.target, address.port, type=socket.SOCK_STREAM)
    found = list(dict.fromkeys((info[0], info[4]) for info in infos))
    if params.load_balance_hosts:
        random.SystemRandom().shuffle(found)
    return found  # type: ignore[return-value]


async def _attempt_all(
    params: ConnectParams,
    make_session: Callable[[], Session],
    address: Address,
    family: int,
    sockaddr: Any,
    wanted: str,
) -> tuple[Driver, Place, Authenticator]:
    """Try one socket address, with and without TLS as sslmode says."""
    planned = attempts(params.tls, unix=address.is_unix, channel_binding=params.auth.channel_binding)
    went_plain = False
    for i, attempt in enumerate(planned):
        if went_plain and not attempt.tls:
            continue
        place = Place(address, family, sockaddr, attempt)
        if attempt.tls:
            place.context = await asyncio.get_running_loop().run_in_executor(None, make_context, params.tls)
            place.hostname = server_hostname(params.tls, address.host)
        try:
            return await _open(params, make_session, place, wanted)
        except (PostgresError, ssl.SSLError, ConnectionDoesNotExistError) as error:
            went_plain = attempt.tls and not place.encrypted and not isinstance(error, ssl.SSLError)
            last = i == len(planned) - 1 or all(went_plain and not each.tls for each in planned[i + 1 :])
            if last or isinstance(error, TargetServerAttributeNotMatched):
                raise
    raise AssertionError("attempts() gives at least one")


async def _open(
    params: ConnectParams, make_session: Callable[[], Session], place: Place, wanted: str
) -> tuple[Driver, Place, Authenticator]:
    loop = asyncio.get_running_loop()
    sock = await _connected_socket(params.keepalives, place)
    try:
        if place.address.is_unix and params.requirepeer is not None:
            _check_peer(sock, params.requirepeer)
        if place.attempt.tls:
            place.encrypted = place.attempt.direct or await _ask_for_tls(sock, place)
        driver = Driver(loop, make_session(), _canceller(params, place))
        await _make_transport(loop, lambda: driver, sock, place)
    except BaseException:
        sock.close()
        raise
    try:
        ssl_object = driver.transport.get_extra_info("ssl_object")
        if ssl_object is not None:
            check_alpn(params.tls, ssl_object.selected_alpn_protocol())
        authenticator = await _authenticator(params, place, ssl_object)
        await _start(params, driver, authenticator)
        await _check_session_attrs(driver, wanted, place)
    except BaseException:
        driver.terminate()
        raise
    return driver, place, authenticator


async def _connected_socket(keepalives: Keepalives, place: Place) -> socket.socket:
    loop = asyncio.get_running_loop()
    sock = socket.socket(place.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if place.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _keep_alive(sock, keepalives)
        await loop.sock_connect(sock, place.sockaddr)
    except OSError as error:
        sock.close()
        raise type(error)(
            error.errno, f"cannot connect to PostgreSQL at {place.address}: {os.strerror(error.errno or 0)}; "
            "is a server running there, and does it accept connections?"
        ) from None  # fmt: skip
    except BaseException:
        sock.close()
        raise
    return sock


def _keep_alive(sock: socket.socket, keepalives: Keepalives) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(keepalives.enabled))
    for name, value in (
        ("TCP_KEEPIDLE", keepalives.idle if keepalives.enabled else None),
        ("TCP_KEEPINTVL", keepalives.interval if keepalives.enabled else None),
        ("TCP_KEEPCNT", keepalives.count if keepalives.enabled else None),
        ("TCP_USER_TIMEOUT", keepalives.user_timeout),
    ):
        option = getattr(socket, name, None)
        if value and option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _check_peer(sock: socket.socket, user: str) -> None:
    """Refuse a server on a Unix socket that runs as another user than `requirepeer` says."""
    import pwd

    if not hasattr(socket, "SO_PEERCRED"):
        raise ClientConfigurationError("requirepeer is not supported on this platform")
    uid = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[1]
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid {uid}"
    if name != user:
        raise ConnectionError(f"requirepeer specifies {user!r}, but the server runs as {name!r}")


async def _ask_for_tls(sock: socket.socket, place: Place) -> bool:
    """Send an SSLRequest; returns whether the server takes up TLS.

    Only one byte may come before the handshake: whatever stands behind it was not sent by the server we will
    authenticate, and is refused (CVE-2021-23222).
    """
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, ssl_request())
    answer = await loop.sock_recv(sock, 1)
    if answer == b"S":
        try:
            rest = sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return True
        raise ConnectionError(
            f"{place.address} sent unencrypted bytes behind its answer to the SSLRequest" if rest
            else f"{place.address} closed the connection after its answer to the SSLRequest"
        )  # fmt: skip
    if answer == b"N":
        if place.attempt.plain_on_refusal:
            return False
        raise ConnectionError(f"{place.address} does not support TLS, which sslmode requires")
    if answer == b"":
        raise ConnectionError(f"{place.address} closed the connection instead of answering the SSLRequest")
    # An error text here would come unauthenticated: it is not shown (CVE-2024-10977).
    raise ConnectionError(f"{place.address} did not answer the SSLRequest as a PostgreSQL server does")


async def _make_transport(
    loop: asyncio.AbstractEventLoop, protocol: Callable[[], Any], sock: socket.socket, place: Place
) -> None:
    if place.family == socket.AF_UNIX:
        await loop.create_unix_connection(protocol, sock=sock)
    elif place.encrypted:
        await loop.create_connection(protocol, sock=sock, ssl=place.context, server_hostname=place.hostname or "")
    else:
        await loop.create_connection(protocol, sock=sock)


async def _authenticator(params: ConnectParams, place: Place, ssl_object: Any) -> Authenticator:
    return Authenticator(
        params.auth,
        user=params.user,
        password=await params.password_for(place.address),
        token=await params.token(),
        encrypted=place.encrypted,
        local=place.address.is_unix,
        certificate=ssl_object.getpeercert(binary_form=True) if ssl_object is not None else None,
        certificate_sent=(
            certificate_requested(ssl_object) if ssl_object is not None and params.auth.certificate_required else None
        ),
        host=place.address.host,
    )


async def _start(params: ConnectParams, driver: Driver, authenticator: Authenticator) -> None:
    """Send the startup message and answer what the server asks, up to the first ReadyForQuery."""
    loop = asyncio.get_running_loop()
    working: list[asyncio.Task[None]] = []

    def fail(error: BaseException) -> None:
        if not request.waiter.done():
            request.waiter.set_exception(error)

    async def work(step: Work) -> None:
        try:
            answer = authenticator.resume(await loop.run_in_executor(None, step.run))
        except Exception as error:
            fail(error)
        else:
            if answer is not None and not driver.is_closed:
                driver.answer(answer)

    def on_authentication(code: int, payload: bytes) -> None:
        try:
            reply = authenticator.respond(code, payload)
        except Exception as error:
            fail(error)
            return
        if isinstance(reply, Work):
            working.append(loop.create_task(work(reply)))
        elif reply is not None:
            driver.answer(reply)

    request = driver.start(startup_message(params.max_protocol_version, params.startup_parameters()), on_authentication)
    try:
        await request.waiter
    finally:
        for task in working:
            task.cancel()


async def _check_session_attrs(driver: Driver, wanted: str, place: Place) -> None:
    """Raise TargetServerAttributeNotMatched unless the server is of the kind that is wanted."""
    if wanted == "any":
        return
    parameters = driver.session.parameters
    standby, read_only = parameters.get("in_hot_standby"), parameters.get("default_transaction_read_only")
    if standby is None or read_only is None:
        # Servers before 14 do not report these.
        request = driver.query(
            "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('default_transaction_read_only')",
            (), KIND_FIRST_ROW, 1, 0, Record,
        )  # fmt: skip
        row = await request.waiter
        standby, read_only = "on" if row[0] else "off", row[1]
    writable = standby == "off" and read_only == "off"
    suits = {
        "read-write": writable,
        "read-only": not writable,
        "primary": standby == "off",
        "standby": standby == "on",
    }[wanted]
    if not suits:
        raise TargetServerAttributeNotMatched(
            f"{place.address} does not match target_session_attrs={wanted}: "
            f"in_hot_standby is {standby}, default_transaction_read_only is {read_only}"
        )


def _canceller(params: ConnectParams, place: Place) -> Any:
    """Return the coroutine function that delivers a CancelRequest the way the connection itself was made."""

    async def deliver(pid: int, secret: bytes) -> None:
        loop = asyncio.get_running_loop()
        sock = await _connected_socket(params.keepalives, place)
        protocol = _CancelProtocol(loop, cancel_request(pid, secret))
        try:
            if place.encrypted and not place.attempt.direct and not await _ask_for_tls(sock, place):
                raise ConnectionError(f"{place.address} no longer supports TLS")
            await _make_transport(loop, lambda: protocol, sock, place)
        except BaseException:
            sock.close()
            raise
        try:
            await protocol.closed
        except CancelledError:
            protocol.abort()
            raise

    return deliver


class _CancelProtocol(asyncio.Protocol):
    """Sends a CancelRequest and waits for the server to close: then it has signalled the backend."""

    def __init__(self, loop: asyncio.AbstractEventLoop, message: bytes) -> None:
        self.closed: asyncio.Future[None] = loop.create_future()
        self._message = message
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        transport.write(self._message)  # type: ignore[attr-defined]

    def abort(self) -> None:
        """Give up waiting."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            # A reset is as good as an orderly end: either way the server is done with the request.
            self.closed.set_result(None)
