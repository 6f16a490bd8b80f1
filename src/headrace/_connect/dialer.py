"""Dials several addresses: staggered attempts in order of preference, until one is connected.

An address that neither answers nor refuses does not delay the others: the next one is dialed after a quarter of a
second, or as soon as the previous one has failed. `race` is about the time after that.

Source: RFC 8305, "Happy Eyeballs Version 2", section 5.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace._connect.endpoint import Endpoint
from headrace._connect.params.address import Address
from headrace._connect.platform import AF_UNIX
from headrace._connect.race import PATIENCE
from headrace._connect.tls import attempts
from headrace.exceptions import (
    ClientConfigurationError,
    ConnectionDoesNotExistError,
    InterfaceError,
    PostgresError,
    ProtocolError,
    TargetServerAttributeNotMatched,
    UnsupportedClientFeatureError,
)

if TYPE_CHECKING:
    from headrace._connect.hosts import HostChoice
    from headrace._connect.params.resolve import ConnectParams

CONNECTION_ATTEMPT_DELAY = 0.25
"""Seconds after which the next address is dialed beside one that has not answered (RFC 8305, section 8)."""

LEAST_SHARE = 1.0
"""Seconds that each address gets at least before it makes room for another one, if that much time is left."""

# The server is unavailable just now, so the next address is tried. Any other error would come from every address.
TRY_NEXT = frozenset({"57P01", "57P02", "57P03"})

_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV

Rank = tuple[int, int]
"""The position of an address in the order of preference: the number of its host, and its number within the host."""


Failed = Callable[[Rank, str, Exception, "Hashable | None"], None]
"""Told the rank of an address that has failed, its text, the error, and the address or place to remember, if any."""


@dataclass(slots=True, eq=False)
class Dialed:
    """A connected socket, and how much of the address's `connect_timeout` connecting took."""

    rank: Rank
    endpoint: Endpoint
    sock: socket.socket
    seconds: float
    made_room: int = 0
    """How often the address has made room for others."""


@dataclass(slots=True, eq=False)
class _Step:
    """A host name look-up, or a connection attempt to one address of a host."""

    rank: Rank
    where: str
    key: Hashable
    run: Callable[[], Coroutine[Any, Any, Sequence[Endpoint] | Dialed]]
    again: bool = False
    """True if the address was tried before."""
    began: float = 0.0


class Dialer:
    """One pass through the addresses. `next()` returns connected sockets; `close()` must be called at the end.

    `failed` is called for each address that cannot be connected to. `choice` has the order.
    """

    def __init__(self, params: ConnectParams, addresses: Sequence[Address], failed: Failed, choice: HostChoice) -> None:
        self._params = params
        self._choice = choice
        self._evenly = params.load_balance_hosts
        self._chosen: str | None = None
        self._begun = "nothing yet"
        self._failed = failed
        self._connected: list[Dialed] = []
        self._under_way: dict[asyncio.Task[Sequence[Endpoint] | Dialed], _Step] = {}
        self._to_begin = deque(self._look_up((number, 0), address) for number, address in enumerate(addresses))
        self._unreached: list[_Step] = []
        self._next_at = 0.0

    @property
    def trying(self) -> str:
        """The address that was returned last, or those that are being connected to."""
        return self._chosen or ", ".join(step.where for step in self._under_way.values()) or self._begun

    @property
    def left(self) -> int:
        """Number of addresses left. A host that has not been looked up counts as one."""
        return len(self._connected) + len(self._under_way) + len(self._to_begin)

    def again(self, dialed: Dialed, made_room: int = 0) -> None:
        """Connect to an address once more, after all others."""
        self._to_begin.append(self._connect(dialed.rank, dialed.endpoint, made_room, again=True))

    def again_to_unreached(self) -> None:
        """Connect once more to the addresses that could not be connected to, and look up names again."""
        self._to_begin.extend(self._unreached)
        self._unreached.clear()

    async def next(self, deadline: float | None = None) -> Dialed | None:
        """Return a connected socket, the most preferred if there are several; None if no address is left.

        At `deadline`, a time of the loop, all addresses that have not answered have failed. Raises errors that another
        address would not fix, such as a missing file.
        """
        loop = asyncio.get_running_loop()
        self._chosen = None
        while not self._connected:
            if self._to_begin and (not self._under_way or loop.time() >= self._next_at):
                await self._begin(self._take_first(), loop, alone=deadline is None)
                continue
            if not self._under_way:
                return None
            until = min(
                (time for time in (self._next_at if self._to_begin else None, deadline) if time is not None),
                default=None,
            )
            timeout = None if until is None else max(until - loop.time(), 0)
            done, _ = await asyncio.wait(self._under_way, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            self._take(done)
            if not done and deadline is not None and loop.time() >= deadline:
                await self.close()
        first = min(self._connected, key=lambda dialed: dialed.rank)
        self._connected.remove(first)
        self._chosen = str(first.endpoint)
        return first

    async def close(self) -> None:
        """Close the connected sockets and abort the attempts under way, which are reported as failed."""
        now = asyncio.get_running_loop().time()
        for dialed in self._connected:
            dialed.sock.close()
        self._connected.clear()
        self._to_begin.clear()
        under_way, self._under_way = self._under_way, {}
        for task, step in under_way.items():
            if task.done():
                close_dialed(task)
            else:
                task.add_done_callback(close_dialed)
                task.cancel()
            seconds = now - step.began
            key = step.key if seconds >= CONNECTION_ATTEMPT_DELAY else None
            self._failed(step.rank, step.where, TimeoutError(f"no answer in {seconds:.3g} s"), key)
        if under_way:
            await asyncio.wait(under_way)

    async def _begin(self, step: _Step, loop: asyncio.AbstractEventLoop, *, alone: bool) -> None:
        """Begin a step. If there is nothing else to do or to wait for, it needs no task."""
        self._begun = step.where
        step.began = loop.time()
        self._next_at = step.began + CONNECTION_ATTEMPT_DELAY
        if self._under_way or self._to_begin or not alone:
            self._under_way[loop.create_task(step.run())] = step
            return
        try:
            self._add(step, await step.run())
        except Exception as error:
            self._fail(step, error)

    def _take(self, done: set[asyncio.Task[Sequence[Endpoint] | Dialed]]) -> None:
        errors: list[tuple[_Step, Exception]] = []
        for task in done:
            step = self._under_way.pop(task)
            error = task.exception()
            if error is None:
                self._add(step, task.result())
            elif isinstance(error, Exception):
                errors.append((step, error))
            else:
                raise error
        for step, error in errors:
            # Begin the next one at once.
            self._next_at = 0.0
            self._fail(step, error)

    def _add(self, step: _Step, result: Sequence[Endpoint] | Dialed) -> None:
        if isinstance(result, Dialed):
            self._connected.append(result)
            return
        endpoints = [self._connect((step.rank[0], number), endpoint) for number, endpoint in enumerate(result)]
        self._to_begin.extendleft(reversed(endpoints))
        if not self._evenly:
            self._to_begin = deque(sorted(self._to_begin, key=lambda each: (each.again, each.rank)))
        self._next_at = 0.0

    def _fail(self, step: _Step, error: Exception) -> None:
        if not another_address_may_work(error):
            raise error
        self._failed(step.rank, step.where, error, step.key)
        step.again = True
        self._unreached.append(step)

    def _take_first(self) -> _Step:
        """Remove the step to be begun next. To spread connections, hosts are compared anew each time."""
        first = self._to_begin.popleft()
        if not self._evenly or first.again or not isinstance(first.key, Address):
            return first
        steps = {step.key: step for step in (first, *self._to_begin) if isinstance(step.key, Address)}
        chosen = steps[self._choice.next(list(steps), loop_time())]
        if chosen is not first:
            self._to_begin.remove(chosen)
            self._to_begin.appendleft(first)
        return chosen

    def _look_up(self, rank: Rank, address: Address) -> _Step:
        async def run() -> Sequence[Endpoint]:
            async with connect_timeout(self._params.connect_timeout):
                found = await _resolve(address)
            endpoints = {
                (address, sockaddr): Endpoint(self._params, address, family, sockaddr) for family, sockaddr in found
            }
            order = self._choice.book.order(list(endpoints), loop_time(), evenly=self._evenly)
            return [endpoints[place] for place in order]

        return _Step(rank, str(address), address, run)

    def _connect(self, rank: Rank, endpoint: Endpoint, made_room: int = 0, *, again: bool = False) -> _Step:
        async def run() -> Dialed:
            loop = asyncio.get_running_loop()
            began = loop.time()
            params = self._params
            attempt, *_ = attempts(
                params.tls, unix=endpoint.address.is_unix, channel_binding=params.auth.channel_binding
            )
            endpoint.attempt = attempt
            async with connect_timeout(params.connect_timeout):
                await endpoint.prepare()
                sock = await endpoint.connect()
            return Dialed(rank, endpoint, sock, loop.time() - began, made_room)

        return _Step(rank, str(endpoint), endpoint.place, run, again)


@asynccontextmanager
async def connect_timeout(seconds: float | None, spent: float = 0.0) -> AsyncIterator[asyncio.Timeout]:
    """Limit a block to what is left of `connect_timeout` after `spent` seconds. Raises TimeoutError, which says so."""
    limit = asyncio.timeout(None if seconds is None else max(seconds - spent, 0))
    try:
        async with limit:
            yield limit
    except TimeoutError:
        if limit.expired():
            raise TimeoutError(f"no connection within {seconds:g} s (connect_timeout)") from None
        raise


def share_of(left: float, others: int) -> float:
    """Return how many of the remaining seconds an address gets if so many others follow it."""
    return max(left / (others + 1), min(left, LEAST_SHARE), 0)


def patience(left: float | None, others: int) -> float:
    """Return the seconds of silence after which an address makes room, if so many others are tried too.

    `left` are the seconds until the search ends, if it ends.
    """
    return PATIENCE if left is None else min(PATIENCE, share_of(left, others))


def another_address_may_work(error: Exception) -> bool:
    """Return whether another address may succeed."""
    if isinstance(error, ConnectionDoesNotExistError):
        return True
    if isinstance(error, PostgresError):
        return error.sqlstate in TRY_NEXT
    if isinstance(error, (ClientConfigurationError, UnsupportedClientFeatureError)):
        return False
    # Any other InterfaceError is a refusal by the client: it does not trust this server, but may trust another.
    return isinstance(error, (OSError, ProtocolError, InterfaceError, TargetServerAttributeNotMatched))


def loop_time() -> float:
    """Return the time of the running event loop."""
    return asyncio.get_running_loop().time()


def close_dialed(task: asyncio.Task[Any]) -> None:
    """Close the socket of a task that finished just as it was cancelled."""
    if not task.cancelled() and task.exception() is None and isinstance(task.result(), Dialed):
        task.result().sock.close()


async def _resolve(address: Address) -> list[tuple[int, Any]]:
    """Return the socket addresses of a host, looked up again at each attempt. Raises socket.gaierror."""
    if address.is_unix:
        return [(AF_UNIX, address.socket_path)]
    try:
        try:
            # A numeric address needs no thread, which could have to wait for a free one.
            infos = socket.getaddrinfo(address.target, address.port, type=socket.SOCK_STREAM, flags=_NUMERIC)
        except (socket.gaierror, UnicodeError):
            loop = asyncio.get_running_loop()
            infos = await loop.getaddrinfo(address.target, address.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        # The encoder refuses a label that is empty or too long before any look-up.
        code = error.errno if isinstance(error, socket.gaierror) else socket.EAI_NONAME
        reason = error.strerror if isinstance(error, socket.gaierror) else "it is not a host name"
        raise socket.gaierror(code, f"cannot look up the host {address.target!r}: {reason}") from None
    return list(dict.fromkeys((int(info[0]), info[4]) for info in infos))
