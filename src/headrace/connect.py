"""Opening a connection: addresses in turn, attempts in turn, until a server suits.

Every attempt starts afresh, with a socket, TLS and authentication state of its own, so that nothing a false server
said outlives it; only what the user said about the password is kept for the attempts at one address.

Source: PostgreSQL documentation, "Specifying Multiple Hosts" and "Parameter Key Words" (libpq-connect).
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from headrace._core.record import Record
from headrace.canceller import Canceller
from headrace.driver import KIND_FIRST_ROW, Driver
from headrace.errors import (
    ClientConfigurationError,
    ConnectionDoesNotExistError,
    InterfaceError,
    PostgresError,
    ProtocolError,
    TargetServerAttributeNotMatched,
    UnsupportedClientFeatureError,
)
from headrace.place import Place, SSLRequestError
from headrace.startup import Credentials, authenticator_for, start
from headrace.tls import attempts

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from headrace._core.session import Session
    from headrace.auth import Authenticator
    from headrace.params import Address, ConnectParams

_T = TypeVar("_T")

# What a server says when it is not there for anybody just now; anything else it says, another would say too.
_TRY_NEXT = frozenset({"57P01", "57P02", "57P03"})

_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV

# Seconds that a server which does not suit gets to end the session in good order.
_GOODBYE = 1.0


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that has started, and how it came about."""

    driver: Driver
    place: Place
    authenticator: Authenticator
    protocol: int
    """The protocol's version: 196608 is 3.0."""


async def open_driver(
    params: ConnectParams, make_session: Callable[[], Session], timeout: float | None = None
) -> Opened:
    """Connect to the first address that answers and suits `target_session_attrs`.

    Raises, of the failures of all addresses, the last: OSError (ssl.SSLError, socket.gaierror, TimeoutError after
    connect_timeout), PostgresError, ProtocolError, InterfaceError where the client refuses what the server wants;
    a note lists each address with its reason. TargetServerAttributeNotMatched comes only where every server answered
    and none suited. What another address would not mend, such as a wrong password or a missing file, and whatever the
    user's own callable raises, comes at once. TimeoutError after `timeout` seconds for the whole (None: no limit).
    On cancellation nothing is left open.
    """
    search = _Search(params, make_session)
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
        # Each failure refers to its traceback, and that to this search.
        search.failures.clear()


class _Search:
    """One walk through the addresses."""

    def __init__(self, params: ConnectParams, make_session: Callable[[], Session]) -> None:
        self.trying = "nothing yet"
        self.failures: list[tuple[str, Exception]] = []
        """What became of each address, in the order of the attempts."""
        self._params = params
        self._make_session = make_session
        self._addresses = params.ordered_addresses()
        self._credentials = {address: Credentials(params, address) for address in self._addresses}

    async def run(self) -> Opened:
        """Return the first session that suits; raise the failure that is to be raised."""
        wanted: str = self._params.target_session_attrs
        if wanted == "prefer-standby":
            if (found := await self._first("standby")) is not None:
                return found
            # A second round, as in libpq: what was no standby is welcome now.
            self.failures.clear()
            wanted = "any"
        if (found := await self._first(wanted)) is not None:
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
        """Add to the error to be raised what became of each address; not to one of the user's own."""
        if any(error is credentials.failure for credentials in self._credentials.values()):
            return
        if len(self.failures) > 1 or (self.failures and self.failures[0][1] is not error):
            lines = (f"  {where}: {type(reason).__name__}: {reason}" for where, reason in self.failures)
            error.add_note("\n".join(["What became of each address:", *lines]))
        elif isinstance(error, OSError) and self.trying not in str(error):
            error.add_note(f"While connecting to {self.trying}.")
        if isinstance(error, (ConnectionRefusedError, FileNotFoundError)):
            error.add_note("Is a server running there, and does it accept connections?")

    async def _first(self, wanted: str) -> Opened | None:
        """Return the first session with a server of the kind wanted; None where every address has failed."""
        for address in self._addresses:
            self.trying = str(address)
            credentials = self._credentials[address]
            resolved = await self._limited(self.trying, credentials, _resolve(self._params, address))
            for family, sockaddr in resolved or ():
                place = Place(self._params, address, family, sockaddr)
                found = await self._limited(str(place), credentials, self._reach(place, credentials, wanted))
                if found is not None:
                    return found
        return None

    async def _limited(self, where: str, credentials: Credentials, step: Coroutine[Any, Any, _T]) -> _T | None:
        """Give the step connect_timeout seconds; note a failure that another address may mend, and return None."""
        seconds = self._params.connect_timeout
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await step
        except Exception as error:
            if isinstance(error, TimeoutError) and limit.expired():
                self.failures.append((where, TimeoutError(f"no connection within {seconds:g} s (connect_timeout)")))
            elif error is not credentials.failure and _another_may_mend(error):
                self.failures.append((where, error))
            else:
                raise
        return None

    async def _reach(self, way: Place, credentials: Credentials, wanted: str) -> Opened:
        """Try one socket address, with and without TLS as sslmode says."""
        params = self._params
        unix = way.address.is_unix
        failure: Exception | None = None
        went_plain = False
        for attempt in attempts(params.tls, unix=unix, channel_binding=params.auth.channel_binding):
            if went_plain and not attempt.tls:
                continue
            place = replace(way, attempt=attempt)
            try:
                return await self._open(place, credentials, wanted)
            except Exception as error:
                failure = error if failure is None else _more_telling(failure, error)
                if error is credentials.failure or not _the_other_way_may_mend(error, place):
                    break
            went_plain = place.encrypted is False
        assert failure is not None, "attempts() gives at least one"
        raise failure

    async def _open(self, place: Place, credentials: Credentials, wanted: str) -> Opened:
        """Make one attempt."""
        loop = asyncio.get_running_loop()
        transport, driver = await place.open(lambda: Driver(loop, self._make_session(), Canceller(place)))
        try:
            authenticator = await authenticator_for(place, credentials, transport)
            try:
                protocol = await start(driver, place, authenticator)
            finally:
                place.accepted = authenticator.done
            mismatch = await _mismatch(driver, wanted)
            if mismatch is not None:
                with suppress(TimeoutError):
                    await driver.close(_GOODBYE)
                raise TargetServerAttributeNotMatched(
                    f"{place} does not match target_session_attrs={self._params.target_session_attrs}: {mismatch}"
                )
        except BaseException:
            driver.terminate()
            raise
        return Opened(driver, place, authenticator, protocol)


def _another_may_mend(error: Exception) -> bool:
    """Return whether another address may do better."""
    if isinstance(error, ConnectionDoesNotExistError):
        return True
    if isinstance(error, PostgresError):
        return error.sqlstate in _TRY_NEXT
    if isinstance(error, (ClientConfigurationError, UnsupportedClientFeatureError)):
        return False
    # What is left of InterfaceError is what the client refuses: this server is not to be trusted, another may be.
    return isinstance(error, (OSError, ProtocolError, InterfaceError, TargetServerAttributeNotMatched))


def _the_other_way_may_mend(error: Exception, place: Place) -> bool:
    """Return whether the server, which was reached, may let the client in with TLS instead of without, or vice versa.

    Not after AuthenticationOk, not after an SSLRequest that was not answered as a PostgreSQL server does, and never if
    it is the client that refuses.
    """
    if not place.reached or place.accepted or isinstance(error, SSLRequestError):
        return False
    if isinstance(error, PostgresError):
        return error.sqlstate not in _TRY_NEXT
    return isinstance(error, OSError)


def _more_telling(first: Exception, last: Exception) -> Exception:
    """Return one of the failures with and without TLS, with a note on the other.

    It is the last, unless that tells less than the first: a refusal such as a wrong password tells more than a
    pg_hba.conf without a line for the client (28000) or a failed handshake, and these tell more than a connection that
    was dropped.
    """
    chosen, other = (last, first) if _rank(last) >= _rank(first) else (first, last)
    chosen.add_note(f"Tried with TLS and without; the other time: {type(other).__name__}: {other}")
    return chosen


def _rank(error: Exception) -> int:
    """Return how much an error tells of why a server does not let the client in."""
    if isinstance(error, PostgresError) and not isinstance(error, ConnectionDoesNotExistError):
        return 1 if error.sqlstate == "28000" else 2
    return 1 if isinstance(error, ssl.SSLError) else 0


async def _resolve(params: ConnectParams, address: Address) -> list[tuple[int, Any]]:
    """Return the socket addresses of a host, looked up anew at each try. Raises socket.gaierror."""
    if address.is_unix:
        return [(socket.AF_UNIX, address.socket_path)]
    try:
        try:
            # An address is no work for a thread, which may have to wait for its turn.
            infos = socket.getaddrinfo(address.target, address.port, type=socket.SOCK_STREAM, flags=_NUMERIC)
        except (socket.gaierror, UnicodeError):
            loop = asyncio.get_running_loop()
            infos = await loop.getaddrinfo(address.target, address.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        # A label that is too long, or empty, is refused before anybody is asked.
        code = error.errno if isinstance(error, socket.gaierror) else socket.EAI_NONAME
        reason = error.strerror if isinstance(error, socket.gaierror) else "it is no host name"
        raise socket.gaierror(code, f"cannot look up the host {address.target!r}: {reason}") from None
    found = list(dict.fromkeys((int(info[0]), info[4]) for info in infos))
    if params.load_balance_hosts:
        random.SystemRandom().shuffle(found)
    return list(found)


async def _mismatch(driver: Driver, wanted: str) -> str | None:
    """Return what the server is instead of the kind that is wanted; None where it suits."""
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
