"""Opens a connection: addresses in the order in which they answer, attempts one by one, until a server matches.

Every attempt has its own socket, TLS and authentication state, so that nothing from a false server outlives it. Only
the user's password is kept for the attempts at one address.
Source: PostgreSQL documentation, "Specifying Multiple Hosts" and "Parameter Key Words" (libpq-connect).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from headrace._connect.cancel_request import CancelSender
from headrace._connect.dialer import TRY_NEXT, Dialed, Dialer, another_address_may_work, connect_timeout
from headrace._connect.endpoint import Endpoint, SSLRequestError
from headrace._connect.handshake import Credentials, authenticator_for, start
from headrace._connect.tls import attempts
from headrace._core.rows.record import Record
from headrace._io.driver import KIND_FIRST_ROW, Driver
from headrace.exceptions import (
    ConnectionDoesNotExistError,
    MissingPasswordError,
    PostgresError,
    TargetServerAttributeNotMatched,
    is_transient,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace._connect.auth import Authenticator
    from headrace._connect.dialer import Rank
    from headrace._connect.params.resolve import ConnectParams
    from headrace._core.pipeline.session import Session

# Seconds that a server that does not match gets for an orderly end of the session.
_GOODBYE = 1.0


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that has started, and how it was opened."""

    driver: Driver
    endpoint: Endpoint
    authenticator: Authenticator
    protocol: int
    """The protocol version: 196608 is 3.0."""


async def open_driver(
    params: ConnectParams, make_session: Callable[[], Session], timeout: float | None = None
) -> Opened:
    """Connect to the first address that answers and matches `target_session_attrs`.

    Addresses that do not answer are dialed concurrently, a quarter of a second apart. TLS and authentication run for
    one address at a time. While other addresses are left, each gets an equal share of the remaining `timeout`.

    If all addresses fail, raises the error of the last: OSError (ssl.SSLError, socket.gaierror, TimeoutError after
    connect_timeout), PostgresError, ProtocolError, or InterfaceError if the client refuses the server's demands. A
    note lists the reason for each address. TargetServerAttributeNotMatched is raised only if every server answered
    and none matched. Errors that another address would not fix are raised at once, such as a wrong password, a
    missing file, or an error of the user's own callable. Raises TimeoutError if the whole takes longer than `timeout`
    seconds (None: no limit). On cancellation nothing is left open.
    """
    deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
    search = _Search(params, make_session, deadline)
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            return await search.run()
    except TimeoutError as error:
        if limit.expired():
            late = TimeoutError(f"no connection within {timeout:g} s (timeout), while trying {search.trying}")
            search.explain(late)
            raise late from None
        search.explain(error)
        raise
    except Exception as error:
        search.explain(error)
        raise
    finally:
        search.forget()


class _Search:
    """One search through the addresses."""

    def __init__(self, params: ConnectParams, make_session: Callable[[], Session], deadline: float | None) -> None:
        self.trying = "nothing yet"
        self._failures: list[tuple[Rank, str, Exception]] = []
        self._params = params
        self._make_session = make_session
        self._deadline = deadline
        self._addresses = params.ordered_addresses()
        self._credentials = {address: Credentials(params, address) for address in self._addresses}

    @property
    def failures(self) -> list[tuple[str, Exception]]:
        """Each address that failed with its error, in order of preference."""
        return [(where, error) for _, where, error in sorted(self._failures, key=lambda failure: failure[0])]

    def forget(self) -> None:
        """Drop the failures: each refers to its traceback, and the traceback to this search."""
        self._failures.clear()

    async def run(self) -> Opened:
        """Return the first session that matches; raise the decisive failure if there is none."""
        wanted: str = self._params.target_session_attrs
        if wanted == "prefer-standby":
            # A second round, as in libpq, accepts any server. Half of the time is left for it.
            now = asyncio.get_running_loop().time()
            half = None if self._deadline is None else now + (self._deadline - now) / 2
            if (found := await self._first("standby", half, half)) is not None:
                return found
            self.forget()
            wanted = "any"
        if (found := await self._first(wanted, self._deadline)) is not None:
            return found
        errors = [error for _, error in self.failures]
        mismatches = [error for error in errors if isinstance(error, TargetServerAttributeNotMatched)]
        if len(mismatches) < len(errors):
            raise next(error for error in reversed(errors) if error not in mismatches)
        if len(mismatches) > 1:
            raise TargetServerAttributeNotMatched(
                f"none of {len(mismatches)} servers matches target_session_attrs={wanted}"
            )
        raise mismatches[0]

    def explain(self, error: Exception) -> None:
        """Add the reason for each address to the error to be raised, unless it is the user's own error."""
        if any(error is credentials.failure for credentials in self._credentials.values()):
            return
        if is_transient(error):
            error.safe_to_retry = True  # type: ignore[attr-defined]
        if len(self.failures) > 1 or (self.failures and self.failures[0][1] is not error):
            lines = (f"  {where}: {type(reason).__name__}: {reason}" for where, reason in self.failures)
            error.add_note("\n".join(["These addresses failed:", *lines]))
        elif isinstance(error, OSError) and self.trying not in str(error):
            error.add_note(f"While connecting to {self.trying}.")
        if isinstance(error, (ConnectionRefusedError, FileNotFoundError)):
            error.add_note("Is a server running there, and does it accept connections?")

    async def _first(self, wanted: str, deadline: float | None, end: float | None = None) -> Opened | None:
        """Return the first session with a server of the wanted kind; None if every address has failed.

        The addresses share the time until `deadline`. Those that have not answered by `end` have failed.
        """
        dialer = Dialer(self._params, self._addresses, self._failed)
        try:
            while (dialed := await self._dialed(dialer, end)) is not None:
                credentials = self._credentials[dialed.endpoint.address]
                last = not dialer.left and end is None
                share = None if deadline is None or last else dialer.share(deadline)
                where = str(dialed.endpoint)
                limit = asyncio.timeout(share)
                try:
                    async with limit, connect_timeout(self._params.connect_timeout, dialed.seconds):
                        return await self._reach(dialed, credentials, wanted)
                except Exception as error:
                    failure = error
                    if isinstance(error, TimeoutError) and limit.expired():
                        failure = TimeoutError(f"no session within {share:.3g} s (the share of timeout of one address)")
                    elif error is credentials.failure or not another_address_may_work(error):
                        raise
                    self._failed(dialed.rank, where, failure)
            return None
        finally:
            await dialer.close()

    async def _dialed(self, dialer: Dialer, end: float | None) -> Dialed | None:
        try:
            return await dialer.next(end)
        finally:
            self.trying = dialer.trying

    def _failed(self, rank: Rank, where: str, error: Exception) -> None:
        self._failures.append((rank, where, error))

    async def _reach(self, dialed: Dialed, credentials: Credentials, wanted: str) -> Opened:
        """Try one socket address with and without TLS according to sslmode, first on the connected socket."""
        params = self._params
        base = dialed.endpoint
        sock: socket.socket | None = dialed.sock
        unix = base.address.is_unix
        failure: Exception | None = None
        went_plain = False
        for attempt in attempts(params.tls, unix=unix, channel_binding=params.auth.channel_binding):
            if went_plain and not attempt.tls:
                continue
            endpoint = replace(base, attempt=attempt)
            taken, sock = sock, None
            try:
                return await self._open(endpoint, taken, credentials, wanted)
            except Exception as error:
                failure = error if failure is None else _more_telling(failure, error)
                if error is credentials.failure or not _other_attempt_may_work(error, endpoint):
                    break
            went_plain = endpoint.encrypted is False
        assert failure is not None, "attempts() gives at least one"
        raise failure

    async def _open(
        self, endpoint: Endpoint, sock: socket.socket | None, credentials: Credentials, wanted: str
    ) -> Opened:
        """Make one attempt."""
        loop = asyncio.get_running_loop()
        driver = Driver(loop, self._make_session(), CancelSender(endpoint))
        transport, _ = await endpoint.open(lambda: driver.transport, sock)
        try:
            authenticator = await authenticator_for(endpoint, credentials, transport)
            try:
                protocol = await start(driver, endpoint, authenticator)
            finally:
                endpoint.accepted = authenticator.done
            mismatch = await _mismatch(driver, wanted)
            if mismatch is not None:
                with suppress(TimeoutError):
                    await driver.close(_GOODBYE)
                raise TargetServerAttributeNotMatched(
                    f"{endpoint} does not match target_session_attrs={self._params.target_session_attrs}: {mismatch}"
                )
        except BaseException:
            driver.terminate()
            raise
        return Opened(driver, endpoint, authenticator, protocol)


def _other_attempt_may_work(error: Exception, endpoint: Endpoint) -> bool:
    """Return whether the server may accept the client with TLS instead of without, or vice versa.

    It may not after AuthenticationOk, after an SSLRequest that was not answered by a PostgreSQL server, or if the
    client itself refuses.
    """
    if not endpoint.reached or endpoint.accepted or isinstance(error, SSLRequestError):
        return False
    if isinstance(error, PostgresError):
        return error.sqlstate not in TRY_NEXT and not isinstance(error, MissingPasswordError)
    return isinstance(error, OSError)


def _more_telling(first: Exception, last: Exception) -> Exception:
    """Return one of the failures with and without TLS, with a note about the other.

    It is the last one unless the first is more specific. A refusal such as a wrong password is more specific than a
    pg_hba.conf without a line for the client (28000) or a failed handshake, and these are more specific than a dropped
    connection.
    """
    chosen, other = (last, first) if _rank(last) >= _rank(first) else (first, last)
    chosen.add_note(f"Tried with and without TLS; the other attempt failed with {type(other).__name__}: {other}")
    return chosen


def _rank(error: Exception) -> int:
    """Return how specific an error is about why the server refuses the client."""
    if isinstance(error, PostgresError) and not isinstance(error, ConnectionDoesNotExistError):
        return 1 if error.sqlstate == "28000" else 2
    return 1 if isinstance(error, ssl.SSLError) else 0


async def _mismatch(driver: Driver, wanted: str) -> str | None:
    """Return how the server differs from the wanted kind; None if it matches."""
    if wanted == "any":
        return None
    parameters = driver.session.parameters
    standby, read_only = parameters.get("in_hot_standby"), parameters.get("default_transaction_read_only")
    if standby is None or read_only is None:
        # Servers before 14 do not report these, and some poolers do not pass them on.
        request = driver.query(
            "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('default_transaction_read_only')",
            (), KIND_FIRST_ROW, 1, 0, Record,
        )  # fmt: skip
        row = await request
        standby, read_only = "on" if row[0] else "off", row[1]
    writable = standby == "off" and read_only == "off"
    suits = {
        "read-write": writable,
        "read-only": not writable,
        "primary": standby == "off",
        "standby": standby == "on",
    }[wanted]
    return None if suits else f"in_hot_standby is {standby}, default_transaction_read_only is {read_only}"
