"""The hosts of a connection string, as a pool knows them: what became of the last attempts, and the order of the next.

Without a pool an order holds for one connect. A pool keeps a `HostBook`, so that an address that has failed is tried
last for a while, and connections are spread evenly with load_balance_hosts=random. This module does no I/O.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from headrace._connect.params.resolve import Address

REMEMBERED: Final = 10.0
"""Seconds for which an attempt that failed changes the order. After that the address has its old place again."""

MISMATCHED: Final = 1
"""The host answered, and is not of the kind wanted."""
FAILED: Final = 2
"""The host did not let the client in, or did not answer."""

# A program may seed the generator of `random`, and start several processes with the same seed.
_SYSTEM = random.SystemRandom()

K = TypeVar("K", bound=Hashable)
M = TypeVar("M", bound=Hashable)

Place = tuple["Address", Any]
"""One of the socket addresses of a host."""


@dataclass(frozen=True, slots=True)
class _Mark:
    outcome: int
    at: float


class HostBook:
    """The outcome of the last attempts at some hosts, and the order of the next.

    Its keys are addresses of hosts, and places, which are their socket addresses.

    `in_use` returns the place of each connection that is open.
    """

    def __init__(
        self,
        in_use: Callable[[], Iterable[Place]] = tuple,
        chance: Callable[[], float] = _SYSTEM.random,
    ) -> None:
        self.addresses: tuple[Address, ...] = ()
        """The hosts of the last connect."""
        self._in_use = in_use
        self._chance = chance
        self._marks: dict[Hashable, _Mark] = {}
        self._choices: list[HostChoice] = []

    @property
    def has_several(self) -> bool:
        """True if there is more than one host."""
        return len(self.addresses) > 1

    def failed(self, place: Hashable, now: float) -> None:
        """Record that an attempt at a place, or the look-up of an address, has failed."""
        self._mark(place, _Mark(FAILED, now))

    def mismatched(self, place: Hashable, now: float) -> None:
        """Record that the server at a place is not of the kind wanted."""
        self._mark(place, _Mark(MISMATCHED, now))

    def answered(self, place: Place) -> None:
        """Record that a session has begun at a place."""
        self._marks.pop(place, None)
        self._marks.pop(place[0], None)

    def _mark(self, place: Hashable, mark: _Mark) -> None:
        self._marks[place] = mark
        if isinstance(place, tuple):
            self._marks[place[0]] = mark

    def order(self, keys: Sequence[K], now: float, *, evenly: bool = False) -> list[K]:
        """Return addresses, or the places of one address, in the order in which they are to be tried.

        Those that have failed lately come last, the one that failed last at the very end; before them those that were
        not of the kind wanted. The others keep their order, or, if `evenly`, come by the number of connections that
        they have, and by chance.
        """
        if len(keys) < 2:
            return list(keys)
        self._forget(now)
        counts = self.counts() if evenly else {}
        by_chance = {key: self._chance() if evenly else 0.0 for key in keys}

        def rank(key: K) -> tuple[float, ...]:
            mark = self._marks.get(key)
            after = (0, 0.0) if mark is None else (mark.outcome, mark.at)
            return (*after, counts.get(key, 0), by_chance[key])

        return sorted(keys, key=rank)

    def counts(self) -> Mapping[Hashable, int]:
        """Return the number of connections, open or being opened, for each address and each place."""
        found: Counter[Hashable] = Counter()
        for place in self._in_use():
            found.update((place, place[0]))
        found.update(choice.address for choice in self._choices if choice.address is not None)
        return found

    def missing(self) -> list[Address]:
        """Return the hosts that have at least two connections fewer than another one, the emptiest first."""
        counts = self.counts()
        most = max((counts.get(each, 0) for each in self.addresses), default=0)
        return sorted(
            (each for each in dict.fromkeys(self.addresses) if counts.get(each, 0) < most - 1),
            key=lambda each: counts.get(each, 0),
        )

    def surplus(self, address: Address, members: Mapping[M, Address]) -> list[M]:
        """Return which of the members of a pool are to be replaced, so that a host gets its share of the connections.

        They are taken from the hosts that have most, until none of those has two more than this one.
        """
        counts = Counter({each: count for each, count in self.counts().items() if each in self.addresses})
        by_address: dict[Address, list[M]] = {}
        for member, its_address in members.items():
            by_address.setdefault(its_address, []).append(member)
        going: list[M] = []
        while True:
            fullest = max((each for each in by_address if by_address[each]), key=counts.__getitem__, default=None)
            if fullest is None or counts[fullest] - counts[address] < 2:
                return going
            going.append(by_address[fullest].pop())
            counts[fullest] -= 1
            counts[address] += 1

    def _forget(self, now: float) -> None:
        for key, mark in list(self._marks.items()):
            if now - mark.at >= REMEMBERED:
                del self._marks[key]

    @contextmanager
    def choosing(self, *, only: Address | None = None, wanted: str | None = None) -> Iterator[HostChoice]:
        """Let the `connect()` in this block go by the book. It counts as a connection until the block ends.

        With `only` it tries this host alone. `wanted` stands in for `target_session_attrs`.
        """
        choice = HostChoice(self, only, wanted)
        self._choices.append(choice)
        token = _choice.set(choice)
        try:
            yield choice
        finally:
            # The coroutine of a closed event loop may be thrown away in another context.
            with suppress(ValueError):
                _choice.reset(token)
            self._choices.remove(choice)


class HostChoice:
    """The search for one connection of a pool."""

    __slots__ = ("address", "book", "only", "wanted")

    def __init__(self, book: HostBook, only: Address | None = None, wanted: str | None = None) -> None:
        self.book = book
        self.only = only
        self.wanted = wanted
        self.address: Address | None = None
        """The host that is being tried, if connections are to be spread evenly."""

    def order(self, addresses: tuple[Address, ...], now: float, *, evenly: bool) -> tuple[Address, ...]:
        """Return the addresses in the order in which they are to be tried."""
        self.book.addresses = addresses
        if self.only is not None:
            return (self.only,)
        self.address = None
        return tuple(self.book.order(addresses, now, evenly=evenly))

    def next(self, addresses: Sequence[Address], now: float) -> Address:
        """Return the address to be tried next, to spread connections evenly. Other connections may be on their way."""
        self.address = None
        self.address = self.book.order(addresses, now, evenly=True)[0]
        return self.address


_choice: ContextVar[HostChoice | None] = ContextVar("headrace_host_choice", default=None)


def current_choice() -> HostChoice:
    """Return the choice of the pool that opens a connection in this context, or a new one with an empty book."""
    choice = _choice.get()
    return choice if choice is not None else HostChoice(HostBook())
