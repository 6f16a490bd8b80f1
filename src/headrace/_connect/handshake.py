"""The start of a session: startup message, authentication, and the messages before the first ReadyForQuery.

Source: PostgreSQL documentation, "Start-up" (protocol-flow-start-up).
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any, Protocol

from headrace._connect.auth import Authenticator, AuthRequest, Work
from headrace._connect.hashing import hashers
from headrace._connect.poolers import explain_refused_parameter
from headrace._connect.tls import certificate_requested
from headrace._core.wire.frontend import startup_message
from headrace.exceptions import ConnectionDoesNotExistError, PostgresError, ProtocolError

if TYPE_CHECKING:
    from headrace._connect.endpoint import Endpoint
    from headrace._connect.params.resolve import Address, ConnectParams, Secret
    from headrace._io.driver import Driver


class Turn(Protocol):
    """The turn of an attempt to authenticate, if other attempts are under way; see `race`."""

    def heard(self) -> None:
        """Record that the server has said something."""

    def ask_turn(self) -> asyncio.Future[None] | None:
        """Return None if this attempt may authenticate now, or else a future for its turn."""


class Credentials:
    """The password and the token for one address. A callable that provides them is called once."""

    def __init__(self, params: ConnectParams, address: Address) -> None:
        self._params = params
        self._address = address
        self._found: tuple[Secret | None, Secret | None] | None = None
        self.failure: Exception | None = None
        """The error of the user's callable, which another address would not fix."""

    async def get(self) -> tuple[Secret | None, Secret | None]:
        """Return password and token, None if there is none. An error of a callable is raised unchanged."""
        if self._found is None:
            try:
                self._found = await self._params.password_for(self._address), await self._params.token()
            except Exception as error:
                self.failure = error
                raise
        return self._found


async def authenticator_for(
    endpoint: Endpoint, credentials: Credentials, transport: asyncio.Transport
) -> Authenticator:
    """Return the client's side of authentication for a new transport, with no state of other attempts."""
    params = endpoint.params
    connection: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    password, token = await credentials.get()
    sent = connection is not None and params.auth.certificate_required and certificate_requested(connection)
    return Authenticator(
        params.auth,
        user=params.user,
        password=password,
        token=token,
        encrypted=bool(endpoint.encrypted),
        local=endpoint.address.is_unix,
        certificate=None if connection is None else connection.getpeercert(binary_form=True),
        certificate_sent=sent,
        host=endpoint.address.host,
    )


async def start(driver: Driver, endpoint: Endpoint, authenticator: Authenticator, turn: Turn | None = None) -> int:
    """Send the startup message and answer the server's requests; return the protocol version at ReadyForQuery.

    The server's first request is answered when it is this attempt's `turn`.

    Raises PostgresError, ProtocolError or InterfaceError if the server or the authenticator refuses, ssl.SSLError if
    the server rejects the client's certificate, and ConnectionDoesNotExistError if the server closes the connection
    without a reason that arrives. After an error and on cancellation the caller must drop the driver. A hash that is
    being computed then continues in its thread, and its result is ignored.
    """
    params = endpoint.params
    if driver.is_closed:
        # It was closed while the user's callable was asked for the password, for instance.
        raise _gone(endpoint, driver.session.failure)
    exchange = _Exchange(driver, authenticator, turn)
    request = driver.start(
        startup_message(params.max_protocol_version, params.startup_parameters()),
        exchange.on_authentication,
        params.min_protocol_version,
    )
    exchange.waiter = request.waiter
    try:
        await request.waiter
        await exchange.finish()
    except ConnectionDoesNotExistError as error:
        gone = _gone(endpoint, error.__cause__)
        raise gone from None if gone is error.__cause__ else error.__cause__
    except PostgresError as error:
        explain_refused_parameter(error)
        raise
    finally:
        exchange.give_up()
    return request.protocol


def _gone(endpoint: Endpoint, reason: object) -> Exception:
    """Return the error for a server that closed the connection before the session had started."""
    if isinstance(reason, ssl.SSLError):
        return reason
    why = f": {reason}" if isinstance(reason, Exception) else ""
    # With TLS 1.3 the client proceeds before its certificate is checked, and a reset may overtake the reason.
    hint = "The server's log may say why, for example that it rejects the client certificate."
    return ConnectionDoesNotExistError(
        f"{endpoint} closed the connection before the session had started{why}",
        hint=hint if endpoint.encrypted else None,
    )


class _Exchange:
    """Passes authentication messages between a driver and an authenticator, and runs slow steps in a thread."""

    def __init__(self, driver: Driver, authenticator: Authenticator, turn: Turn | None) -> None:
        self.waiter: asyncio.Future[Any] | None = None
        self._driver = driver
        self._authenticator = authenticator
        self._turn = turn
        self._waits_for_turn: asyncio.Future[None] | None = None
        self._working: asyncio.Future[object] | None = None
        self._hashes = False
        self._held: tuple[int, bytes] | None = None
        self._error: Exception | None = None

    def on_authentication(self, code: int, payload: bytes) -> None:
        """Process an Authentication message from the session."""
        if self._turn is not None:
            self._turn.heard()
            # The server may let the client in without a question, and then there is nothing to wait for.
            waiter = self._waits_for_turn
            if waiter is None and code != AuthRequest.OK:
                waiter = self._turn.ask_turn()
            if waiter is not None:
                self._waits_for_turn = waiter
                waiter.add_done_callback(lambda waiter: self._go_on(waiter, code, payload))
                return
        if self._working is not None and not self._hashes and self._held is None:
            # With GSSAPI the server's last token and AuthenticationOk come together: process the token first.
            self._held = code, payload
            return
        try:
            reply = self._authenticator.respond(code, payload)
        except Exception as error:
            self._fail(error)
            return
        if isinstance(reply, Work):
            self._hashes = reply.hashes
            executor = hashers() if reply.hashes else None
            self._working = asyncio.get_running_loop().run_in_executor(executor, reply.run)
            self._working.add_done_callback(self._worked)
        elif reply is not None:
            try:
                self._driver.answer(reply)
            finally:
                del reply  # it may be the password, which no local variable may show in a traceback

    def _go_on(self, waiter: asyncio.Future[None], code: int, payload: bytes) -> None:
        self._waits_for_turn = None
        if not waiter.cancelled() and not self._driver.is_closed:
            self.on_authentication(code, payload)

    async def finish(self) -> None:
        """Wait for the last step after ReadyForQuery, and raise its error, so that nothing is accepted before it."""
        while self._working is not None:
            await asyncio.wait((self._working,))
        if self._error is not None:
            raise self._error
        if not self._authenticator.done:
            raise ProtocolError("the server is ready for queries before authentication is complete")

    def give_up(self) -> None:
        """Stop waiting for a result, and mark an error that nobody retrieved as retrieved."""
        if self._working is not None:
            self._working.cancel()
        if self._waits_for_turn is not None:
            self._waits_for_turn.cancel()
        if self.waiter is not None and self.waiter.done() and not self.waiter.cancelled():
            self.waiter.exception()

    def _worked(self, working: asyncio.Future[object]) -> None:
        self._working = None
        if working.cancelled():
            return
        try:
            answer = self._authenticator.resume(working.result())
        except Exception as error:
            self._fail(error)
            return
        if answer is not None and not self._driver.is_closed:
            self._driver.answer(answer)
        if self._held is not None:
            held, self._held = self._held, None
            self.on_authentication(*held)

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(error)
