"""Opens a connection: attempts at the addresses, two at once if a server is silent, until a server matches.

Every attempt has its own socket, TLS and authentication state, so that nothing from a false server outlives it. Only
the user's password is kept for the attempts at one address. `hosts` has the order, `race` decides what is begun when.
Source: PostgreSQL documentation, "Specifying Multiple Hosts" and "Parameter Key Words" (libpq-connect).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from headrace._connect.cancel_request import CancelSender
from headrace._connect.dialer import (
    CONNECTION_ATTEMPT_DELAY,
    TRY_NEXT,
    Dialed,
    Dialer,
    another_address_may_work,
    close_dialed,
    connect_timeout,
    patience,
)
from headrace._connect.endpoint import Endpoint, SSLRequestError
from headrace._connect.failures import Failure, no_server, state_of
from headrace._connect.handshake import Credentials, authenticator_for, start
from headrace._connect.hosts import current_choice
from headrace._connect.race import ANSWER_DELAY, ROUND_PAUSE, Attempt, Race
from headrace._connect.roles import READ_ONLY, STANDBY, mismatch, reports_role, role
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
    from collections.abc import Callable, Coroutine, Hashable, Mapping

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
    params: ConnectParams, make_session: Callable[[Any], Session], timeout: float | None = None
) -> Opened:
    """Connect to the first address that answers and matches `target_session_attrs`.

    Addresses that do not answer are dialed concurrently, a quarter of a second apart. If a server accepts the
    connection and is silent, the next address is begun after a second; see `race`. One server at a time authenticates.

    If all addresses fail, raises the error of the last: OSError (ssl.SSLError, socket.gaierror, TimeoutError after
    connect_timeout), PostgresError, ProtocolError, or InterfaceError if the client refuses the server's demands. With
    several hosts an OSError tells the state of each. A note lists the reason for each address.
    TargetServerAttributeNotMatched is raised only if every server answered and none matched. Errors that another
    address would not fix are raised at once, such as a wrong password, a missing file, or an error of the user's own
    callable. Raises TimeoutError if the whole takes longer than `timeout` seconds (None: no limit). On cancellation
    nothing is left open.
    """
    deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
    search = _Search(params, make_session, deadline)
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            return await search.run()
    except TimeoutError as error:
        if limit.expired():
            late = TimeoutError(f"no connection within {timeout:g} s (timeout){search.where()}")
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

    def __init__(self, params: ConnectParams, make_session: Callable[[Any], Session], deadline: float | None) -> None:
        self.trying = "nothing yet"
        self._choice = current_choice()
        self._book = self._choice.book
        self._wanted: str = self._choice.wanted or params.target_session_attrs
        self._failures: list[tuple[Rank, Failure]] = []
        self._params = params
        self._make_session = make_session
        self._deadline = deadline
        self._addresses = params.addresses
        self._credentials = {address: Credentials(params, address) for address in self._addresses}

    @property
    def failures(self) -> list[Failure]:
        """The failed attempts, in order of preference."""
        return [failure for _, failure in sorted(self._failures, key=lambda failure: failure[0])]

    def forget(self) -> None:
        """Drop the failures: each refers to its traceback, and the traceback to this search."""
        self._failures.clear()

    async def run(self) -> Opened:
        """Return the first session that matches; raise the decisive failure if there is none."""
        if self._wanted == "prefer-standby":
            # A second round, as in libpq, accepts any server. Half of the time is left for it.
            now = asyncio.get_running_loop().time()
            half = None if self._deadline is None else now + (self._deadline - now) / 2
            if (found := await self._first("standby", half, strict=True)) is not None:
                return found
            self.forget()
            self._wanted = "any"
        if (found := await self._first(self._wanted, self._deadline)) is not None:
            return found
        errors = [failure.error for failure in self.failures]
        mismatches = [error for error in errors if isinstance(error, TargetServerAttributeNotMatched)]
        decisive = next((error for error in reversed(errors) if error not in mismatches), mismatches[-1:])
        if isinstance(decisive, list):
            (decisive,) = decisive
        raise self._told_of_all(decisive)

    def _told_of_all(self, error: Exception) -> Exception:
        """Return an error of the same class that tells the state of each host, if there are several."""
        plain = isinstance(error, OSError) and not isinstance(error, ssl.SSLError)
        if len(self._params.addresses) < 2 or not (
            plain or type(error) in (ConnectionDoesNotExistError, TargetServerAttributeNotMatched)
        ):
            return error
        told = type(error)(no_server(self._wanted, self._params.addresses, self.failures))
        if isinstance(error, OSError) and isinstance(told, OSError):
            told.errno = error.errno
        return told

    def where(self) -> str:
        """Return what a search that has run out of time was doing, for its error."""
        if len(self._params.addresses) < 2:
            return f", while trying {self.trying}"
        return f": {no_server(self._wanted, self._params.addresses, self.failures)}"

    def explain(self, error: Exception) -> None:
        """Add the reason for each address to the error to be raised, unless it is the user's own error."""
        if any(error is credentials.failure for credentials in self._credentials.values()):
            return
        if is_transient(error):
            error.safe_to_retry = True  # type: ignore[attr-defined]
        failures = self.failures
        if len(failures) > 1 or (failures and failures[0].error is not error):
            lines = (f"  {each.where}: {type(each.error).__name__}: {each.error}" for each in failures)
            error.add_note("\n".join(["These addresses failed:", *lines]))
        elif isinstance(error, OSError) and self.trying not in str(error):
            error.add_note(f"While connecting to {self.trying}.")
        if isinstance(error, (ConnectionRefusedError, FileNotFoundError)):
            error.add_note("Is a server running there, and does it accept connections?")

    async def _first(self, wanted: str, deadline: float | None, *, strict: bool = False) -> Opened | None:
        """Return the first session with a server of the wanted kind; None if every address has failed.

        If `strict`, an address that does not answer for a few seconds has failed.
        """
        loop = asyncio.get_running_loop()
        evenly = self._params.load_balance_hosts
        addresses = self._choice.order(self._params.addresses, loop.time(), evenly=evenly)
        self._addresses = addresses
        seconds = patience(None if deadline is None else deadline - loop.time(), len(addresses) - 1)
        dialer = Dialer(self._params, addresses, self._failed, self._choice)
        contest = _Contest(Race(seconds, strict=strict), dialer, strict=strict)
        try:
            while True:
                if contest.is_idle:
                    # Nothing is under way, so this needs no task.
                    dialed = await self._dialed(dialer, contest.end())
                    if dialed is None:
                        return None
                    if not dialer.left and not strict:
                        outcome = await self._outcome(dialed, wanted, None)
                    else:
                        contest.begin(dialed, self._outcome, wanted)
                        continue
                    if isinstance(outcome, Opened):
                        return outcome
                    self._record(dialed, outcome)
                    continue
                if (won := self._winner(await contest.step(self._gave_up))) is not None:
                    return won
                for dialed in contest.take_dialed():
                    contest.begin(dialed, self._outcome, wanted)
        finally:
            now = loop.time()
            self.trying = contest.trying or dialer.trying
            for entry in await contest.close():
                # Some did not answer in time. The others were begun later than the winner, or had to wait.
                silent = now - entry.attempt.since
                key = entry.dialed.endpoint.place if not entry.attempt.waits and silent >= ANSWER_DELAY else None
                self._fail(entry.dialed, TimeoutError(f"no answer in {silent:.3g} s"), key)
            await dialer.close()

    def _winner(self, ended: list[tuple[Dialed, Opened | Exception]]) -> Opened | None:
        """Return the preferred session of those that have begun at once, and record the attempts that have failed."""
        winner: Opened | None = None
        for dialed, result in ended:
            if not isinstance(result, Opened):
                self._record(dialed, result)
            elif winner is None:
                winner = result
            else:
                result.driver.terminate()
        return winner

    async def _dialed(self, dialer: Dialer, end: float | None) -> Dialed | None:
        try:
            return await dialer.next(end)
        finally:
            self.trying = dialer.trying

    async def _outcome(self, dialed: Dialed, wanted: str, turn: _Entry | None) -> Opened | Exception:
        """Return the session with the server of a connected socket, or the error if another address may work."""
        credentials = self._credentials[dialed.endpoint.address]
        try:
            async with connect_timeout(self._params.connect_timeout, dialed.seconds) as limit:
                if turn is not None:
                    turn.limit = limit
                return await self._reach(dialed, credentials, wanted, turn)
        except Exception as error:
            if error is credentials.failure or not another_address_may_work(error):
                raise
            return error

    def _record(self, dialed: Dialed, error: Exception) -> None:
        """Record that an address has failed, or has no server of the wanted kind."""
        place = dialed.endpoint.place
        if isinstance(error, TargetServerAttributeNotMatched):
            self._book.mismatched(place, asyncio.get_running_loop().time())
            self._fail(dialed, error, None)
        else:
            self._fail(dialed, error, place)

    def _gave_up(self, dialed: Dialed, seconds: float) -> None:
        """Record that an attempt was given up because of its server's silence."""
        self._fail(dialed, TimeoutError(f"no answer in {seconds:.3g} s"), dialed.endpoint.place)

    def _fail(self, dialed: Dialed, error: Exception, key: Hashable | None) -> None:
        self._failed(dialed.rank, str(dialed.endpoint), error, key)

    def _failed(self, rank: Rank, where: str, error: Exception, key: Hashable | None) -> None:
        host, number = rank
        # The book may have changed the order.
        address = self._addresses[host]
        rank = self._params.addresses.index(address), number
        self._failures = [each for each in self._failures if (each[0], each[1].where) != (rank, where)]
        self._failures.append((rank, Failure(address, where, error, state_of(error))))
        if key is not None:
            self._book.failed(key, asyncio.get_running_loop().time())

    async def _reach(self, dialed: Dialed, credentials: Credentials, wanted: str, turn: _Entry | None) -> Opened:
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
                return await self._open(endpoint, taken, credentials, wanted, turn)
            except Exception as error:
                failure = error if failure is None else _more_telling(failure, error)
                if error is credentials.failure or not _other_attempt_may_work(error, endpoint):
                    break
            went_plain = endpoint.encrypted is False
        assert failure is not None, "attempts() gives at least one"
        raise failure

    async def _open(
        self,
        endpoint: Endpoint,
        sock: socket.socket | None,
        credentials: Credentials,
        wanted: str,
        turn: _Entry | None,
    ) -> Opened:
        """Make one attempt."""
        loop = asyncio.get_running_loop()
        driver = Driver(loop, self._make_session, CancelSender(endpoint))
        transport, _ = await endpoint.open(lambda: driver.transport, sock)
        try:
            if turn is not None and endpoint.attempt.tls:
                # The server has answered the SSLRequest, or has made the handshake.
                turn.heard()
                if (waiter := turn.ask_turn()) is not None:
                    await waiter
            authenticator = await authenticator_for(endpoint, credentials, transport)
            try:
                protocol = await start(driver, endpoint, authenticator, turn)
            finally:
                endpoint.accepted = authenticator.done
            if turn is not None:
                turn.heard()
            reported = await _reported(driver, wanted)
            difference = mismatch(wanted, reported)
            if difference is not None:
                with suppress(TimeoutError):
                    await driver.close(_GOODBYE)
                error = TargetServerAttributeNotMatched(
                    f"{endpoint} does not match target_session_attrs={self._params.target_session_attrs}: {difference}"
                )
                error.role = role(reported)
                raise error
            self._book.answered(endpoint.place)
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


async def _reported(driver: Driver, wanted: str) -> Mapping[str, str]:
    """Return what `roles` needs to know about the server, which is asked if it does not report it."""
    parameters = driver.session.parameters
    return parameters if wanted == "any" or reports_role(parameters) else await asked_role(driver)


async def asked_role(driver: Driver) -> dict[str, str]:
    """Ask a server for the parameters that tell its role. Raises PostgresError and what a loss raises."""
    request = driver.query(
        "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('default_transaction_read_only')",
        (), KIND_FIRST_ROW, 1, 0, Record,
    )  # fmt: skip
    row = await request
    return {STANDBY: "on" if row[0] else "off", READ_ONLY: row[1]}


class _Entry:
    """An attempt of a contest: its task, and its turn to authenticate."""

    def __init__(self, contest: _Contest, attempt: Attempt, dialed: Dialed) -> None:
        self.attempt = attempt
        self.dialed = dialed
        self.limit: asyncio.Timeout | None = None
        """The limit of `connect_timeout`, which does not run while this waits for its turn."""
        self.task: asyncio.Task[Opened | Exception]
        self._contest = contest
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._began_to_wait = 0.0
        self._due: float | None = None

    def heard(self) -> None:
        """Record that the server has said something."""
        self._contest.heard(self)

    def ask_turn(self) -> asyncio.Future[None] | None:
        """Return None if this may authenticate now, or else a future for its turn."""
        if self._contest.ask_turn(self):
            return None
        self._waiter = self._loop.create_future()
        self._began_to_wait = self._loop.time()
        self._due = None if self.limit is None else self.limit.when()
        if self.limit is not None:
            self.limit.reschedule(None)
        return self._waiter

    def give_turn(self) -> None:
        """Let this authenticate."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
            if self.limit is not None and self._due is not None:
                self.limit.reschedule(self._due + self._loop.time() - self._began_to_wait)


class _Contest:
    """Carries out the decisions of a race: the attempts under way, and the search for the next connected socket."""

    def __init__(self, race: Race, dialer: Dialer, *, strict: bool) -> None:
        self._race = race
        self._dialer = dialer
        self._strict = strict
        self._loop = asyncio.get_running_loop()
        self._entries: list[_Entry] = []
        self._dialing: asyncio.Task[Dialed | None] | None = None
        self._ended: list[Dialed] = []
        self._next_round: float | None = None
        self._changed: asyncio.Future[None] = self._loop.create_future()

    @property
    def is_idle(self) -> bool:
        """True if nothing is under way."""
        return not self._entries and self._dialing is None

    @property
    def trying(self) -> str:
        """The addresses of the attempts under way."""
        return ", ".join(str(entry.dialed.endpoint) for entry in self._entries)

    def end(self) -> float | None:
        """Return until when addresses may be connected to: for ever, unless the race is strict."""
        if not self._strict:
            return None
        return self._loop.time() + self._race.patience + CONNECTION_ATTEMPT_DELAY * self._dialer.left

    def begin(
        self,
        dialed: Dialed,
        outcome: Callable[[Dialed, str, _Entry], Coroutine[Any, Any, Opened | Exception]],
        wanted: str,
    ) -> None:
        """Begin an attempt."""
        entry = _Entry(self, self._race.begin(self._loop.time(), made_room=dialed.made_room), dialed)
        entry.task = self._loop.create_task(outcome(dialed, wanted, entry))
        self._entries.append(entry)

    def heard(self, entry: _Entry) -> None:
        """Record that the server of an attempt has said something."""
        self._race.heard(entry.attempt, self._loop.time())

    def ask_turn(self, entry: _Entry) -> bool:
        """Return whether an attempt may authenticate now; if not, it waits for its turn."""
        given = self._race.ask_turn(entry.attempt, self._loop.time())
        if given is entry.attempt:
            return True
        if given is not None:
            self._wake(given)
        if not self._changed.done():
            # The turn of the other may end by the time alone.
            self._changed.set_result(None)
        return False

    def _wake(self, attempt: Attempt) -> None:
        self._entry(attempt).give_turn()

    def _entry(self, attempt: Attempt) -> _Entry:
        return next(entry for entry in self._entries if entry.attempt is attempt)

    async def step(self, gave_up: Callable[[Dialed, float], None]) -> list[tuple[Dialed, Opened | Exception]]:
        """Wait for the next event; return the attempts that have ended, with their outcomes. Raises fatal errors."""
        now, race, dialer = self._loop.time(), self._race, self._dialer
        if self._next_round is not None and now >= self._next_round:
            self._begin_round()
        others_left = bool(dialer.left)
        if self._dialing is None and dialer.left and race.may_begin(now):
            self._dialing = self._loop.create_task(dialer.next(self.end()))
        waiting_for: list[asyncio.Future[Any]] = [self._changed, *(entry.task for entry in self._entries)]
        if self._dialing is not None:
            waiting_for.append(self._dialing)
        times = [self._next_round - now if self._next_round is not None else None, race.next_change(now)]
        timeout = min((time for time in times if time is not None), default=None)
        await asyncio.wait(waiting_for, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if self._changed.done():
            self._changed = self._loop.create_future()
        now = self._loop.time()
        for attempt in race.to_give_up(now, others_left=others_left and self._dialing is None):
            entry = self._entry(attempt)
            if entry.task.done():
                continue
            seconds = now - attempt.since
            await self._stop(entry)
            gave_up(entry.dialed, seconds)
            if not self._strict:
                dialer.again(entry.dialed, entry.dialed.made_room + 1)
        ended = [entry for entry in self._entries if entry.task.done()]
        for entry in ended:
            self._leave(entry)
            self._ended.append(entry.dialed)
        if dialer.left or self._strict or not self._entries:
            self._next_round = None
        elif self._next_round is None:
            self._next_round = now + ROUND_PAUSE
        try:
            outcomes = [
                (entry.dialed, entry.task.result()) for entry in sorted(ended, key=lambda each: each.dialed.rank)
            ]
        except BaseException:
            for entry in ended:
                _drop(entry.task)
            raise
        is_won = any(isinstance(outcome, Opened) for _, outcome in outcomes)
        if not is_won and (turn := race.next_turn(now)) is not None:
            self._wake(turn)
        return outcomes

    def _begin_round(self) -> None:
        """Try again the addresses that have failed, because only silent servers are left."""
        self._next_round = None
        self._dialer.again_to_unreached()
        ended, self._ended = self._ended, []
        for dialed in ended:
            self._dialer.again(dialed)

    def take_dialed(self) -> list[Dialed]:
        """Return the next connected socket, if there is one."""
        if self._dialing is None or not self._dialing.done():
            return []
        dialing, self._dialing = self._dialing, None
        dialed = dialing.result()
        return [] if dialed is None else [dialed]

    async def close(self) -> list[_Entry]:
        """Stop whatever is under way; return the attempts that were."""
        left = list(self._entries)
        if self._dialing is not None:
            dialing, self._dialing = self._dialing, None
            await _cancel(dialing, close_dialed)
        for entry in left:
            await self._stop(entry)
        return left

    async def _stop(self, entry: _Entry) -> None:
        """Cancel an attempt, and drop its session if it has just begun."""
        self._leave(entry)
        await _cancel(entry.task, _drop)

    def _leave(self, entry: _Entry) -> None:
        self._race.end(entry.attempt)
        self._entries.remove(entry)


async def _cancel(task: asyncio.Task[Any], done: Callable[[asyncio.Task[Any]], None]) -> None:
    """Cancel a task and wait for its end; `done` closes its result if it has one."""
    if task.done():
        done(task)
        return
    task.add_done_callback(done)
    task.cancel()
    await asyncio.wait([task])


def _drop(task: asyncio.Task[Opened | Exception]) -> None:
    """Close the session of an attempt that came too late."""
    if not task.cancelled() and task.exception() is None and isinstance(opened := task.result(), Opened):
        opened.driver.terminate()
