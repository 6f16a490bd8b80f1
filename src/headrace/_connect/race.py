"""The race of several servers for one connection: which address is tried when, and who may authenticate.

The rules:

1. The addresses are tried in the order of preference. The next one is begun when an attempt has failed, or when the
   servers of all attempts under way have been silent for a while. The first session that suits wins.
2. At most two attempts are under way at once. If both servers stay silent and another address is left, the attempt
   that has been silent for longest makes room, and its address is tried again at the end, with twice the patience.
3. While silent servers are waited for, the addresses that have failed are tried again every second: one of them may
   have become what is wanted.
4. One attempt at a time authenticates, so that the others cost their servers no session and see no password. Its turn
   ends with the attempt, or when its server has been silent for some seconds.

Only attempts whose server has accepted the connection take part, because an address that is still being connected to
costs nobody anything. This module does no I/O. The caller passes the time, in seconds of one clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ANSWER_DELAY: Final = 1.0
"""Seconds in which a server that has accepted a connection must have said something, or the next address is begun."""

PATIENCE: Final = 3.0
"""Seconds of silence after which an attempt makes room for another address and loses its turn."""

ROUND_PAUSE: Final = 1.0
"""Seconds after which addresses that have failed are tried again while a silent server is waited for."""

AT_ONCE: Final = 2
"""The most attempts for one connection at a time."""


@dataclass(slots=True, eq=False)
class Attempt:
    """An attempt at one address, from the accepted connection to the session."""

    since: float
    """When its server was heard for the last time; at first, when it accepted the connection."""
    patience: float
    """Seconds of silence after which it makes room for another address."""
    heard: bool = False
    """True if its server has said anything."""
    waits: bool = False
    """True if it waits for its turn to authenticate. Its server is not silent then."""
    has_turn: bool = False


class Race:
    """The attempts of one search. `patience` is the time in seconds that rules 2 and 4 speak of.

    A strict race gives up every attempt whose server is silent for so long: it looks for a server that is preferred,
    and another one will do.
    """

    def __init__(self, patience: float = PATIENCE, *, strict: bool = False) -> None:
        self.patience = patience
        self.strict = strict
        self.attempts: list[Attempt] = []

    def begin(self, now: float, *, made_room: int = 0) -> Attempt:
        """Record that a server has accepted a connection. `made_room`: how often its address has made room."""
        attempt = Attempt(now, self.patience * 2**made_room)
        self.attempts.append(attempt)
        return attempt

    def end(self, attempt: Attempt) -> None:
        """Record that an attempt has ended."""
        if attempt in self.attempts:
            self.attempts.remove(attempt)

    def heard(self, attempt: Attempt, now: float) -> None:
        """Record that the server of an attempt has said something."""
        attempt.heard = True
        attempt.since = now

    def ask_turn(self, attempt: Attempt, now: float) -> Attempt | None:
        """Have an attempt wait for its turn to authenticate; return the attempt that has got the turn now, if any."""
        if attempt.has_turn:
            return attempt
        attempt.waits = True
        return self.next_turn(now)

    def next_turn(self, now: float) -> Attempt | None:
        """Give the turn to the attempt that has waited for longest, if no other has it, and return that attempt."""
        if any(each.has_turn and now - each.since < self.patience for each in self.attempts):
            return None
        for attempt in self.attempts:
            if attempt.waits:
                attempt.waits, attempt.has_turn, attempt.since = False, True, now
                return attempt
        return None

    def may_begin(self, now: float) -> bool:
        """Return whether another address is to be begun now."""
        return len(self.attempts) < AT_ONCE and self._all_stall(now)

    def to_give_up(self, now: float, *, others_left: bool) -> list[Attempt]:
        """Return the attempts to be given up now, because of their silence."""
        silent = [each for each in self.attempts if not each.waits and now - each.since >= each.patience]
        if self.strict:
            return silent
        if not others_left or len(self.attempts) < AT_ONCE or not self._all_stall(now):
            return []
        return sorted(silent, key=lambda each: each.since)[:1]

    def next_change(self, now: float) -> float | None:
        """Return the seconds until the answers of the other methods may change by the time alone; None for never."""
        times = [
            time
            for each in self.attempts
            for time in (self._stalls_at(each), each.since + self.patience, each.since + each.patience)
        ]
        return min((time - now for time in times if time > now), default=None)

    def _all_stall(self, now: float) -> bool:
        return all(now >= self._stalls_at(each) for each in self.attempts)

    def _stalls_at(self, attempt: Attempt) -> float:
        """Return when the server of an attempt is silent for long enough to begin the next address."""
        if attempt.waits:
            return float("inf")
        return attempt.since + (self.patience if attempt.heard else min(ANSWER_DELAY, self.patience))
