"""The decisions of a cluster: who is the primary, which replicas may answer, and what has changed.

This module does no I/O and reads no clock. It is given observations, failures and the time. `update()` returns the
events since the last call. The rules:

1. A host that refuses is down at once. A check that had no answer in time counts only if the event loop was not
   late, and the second one in a row takes the host down.
2. The primary is the host that says so. Of several, the one on the highest timeline is it, and the others are
   former primaries. Hosts that claim it on equal timelines, or with different system identifiers, are a split: no
   write goes anywhere. With `on_split="refuse"` any two are a split. A primary on an older timeline than one that
   was seen is a former primary as well, even if the newer one cannot be reached.
3. `discover` has the last word: the primary that it names is the primary if it says so itself, and nobody else is.
   It counts if it was asked after the hosts made their present claims.
4. A replica's lag is the time since the primary's position was the one that the replica has now replayed. Without a
   primary it counts from the last known position of one.
5. A host has replayed a position if it has replayed at least as much on the same timeline, which must be the primary's.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from headrace.cluster.events import (
    ClusterEvent,
    HostDiscovered,
    HostDown,
    HostRemoved,
    HostUp,
    PrimaryChanged,
    ReplicaCaughtUp,
    ReplicaLagging,
    RoleChanged,
    Split,
)

if TYPE_CHECKING:
    from headrace.cluster.hosts import Host, Role
    from headrace.cluster.position import Position

OnSplit = Literal["newest", "refuse"]
State = Literal["unknown", "up", "lagging", "down", "former primary", "read-only", "split", "foreign", "duplicate"]

MISSES: Final = 2
"""Checks in a row without an answer in time that take a host down."""

REMEMBERED: Final = 3600
"""Positions of the primary that are remembered, to compute lags."""


@dataclass(frozen=True, slots=True)
class Observation:
    """The answer of a host to one check."""

    in_recovery: bool
    lsn: int
    """The position that a primary writes at, or up to which a standby has replayed."""
    timeline: int
    """The timeline of a primary; of a standby the highest one that it is known to have reached."""
    system_identifier: int
    started: float = 0.0
    """When the server was started, by its own clock."""
    read_only: bool = False
    """`default_transaction_read_only` is on, as for a primary that was fenced off."""

    @property
    def role(self) -> Role:
        """The role that the host says it has."""
        return "replica" if self.in_recovery else "primary"


@dataclass(slots=True)
class Record:
    """All that is known of one host."""

    host: Host
    observation: Observation | None = None
    """The last one. It stays while the host is down."""
    observed_at: float = 0.0
    is_up: bool = False
    misses: int = 0
    reason: str = "it has not been checked yet"
    """Why it is not up."""
    lag: float | None = None
    """The lag at the last check."""
    replayed: int = 0
    """The highest position that it is known to have replayed."""
    state: State = "unknown"
    why: str = ""
    """The reason for the state, for people; "" if there is nothing to say."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of the rules for the present observations."""

    primary: Host | None
    reason: str
    """Why there is no primary; "" if there is one."""
    replicas: tuple[Host, ...]
    """The replicas that may answer."""
    split: tuple[Host, ...] = ()
    """The hosts between which the rules cannot decide."""


class History:
    """Positions of the primary and the times at which it was known to have them."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._positions: list[int] = []

    def add(self, position: int, now: float) -> None:
        """Record a position. Later ones, of a primary that was lost before it had sent them, are dropped."""
        first_above = bisect_right(self._positions, position)
        if first_above and self._positions[first_above - 1] == position:
            # An idle primary: the first and the last time are enough.
            first = bisect_left(self._positions, position)
            del self._times[first + 1 :], self._positions[first + 1 :]
        else:
            del self._times[first_above:], self._positions[first_above:]
        self._times.append(now)
        self._positions.append(position)
        if len(self._times) > REMEMBERED:
            # Old positions are remembered less exactly.
            half = REMEMBERED // 2
            self._times[:half], self._positions[:half] = self._times[:half:2], self._positions[:half:2]

    def lag(self, replayed: int, now: float, *, primary_answers: bool) -> float | None:
        """Return for how many seconds the primary has had more than `replayed`; None if it was never seen with that.

        Between two observations the position is taken to grow evenly. A replica that has all that is known of the
        primary has no lag while the primary answers, and otherwise that of the time since.
        """
        if not self._positions:
            return None
        above = bisect_right(self._positions, replayed)
        if above == len(self._positions):
            return 0.0 if primary_answers else max(now - self._times[-1], 0.0)
        if above == 0:
            return None
        low, high = self._positions[above - 1], self._positions[above]
        since, until = self._times[above - 1], self._times[above]
        return max(now - (since + (until - since) * (replayed - low) / (high - low)), 0.0)


@dataclass(frozen=True, slots=True)
class Routes:
    """The hosts that may answer a read that has to see a position."""

    known: tuple[Host, ...]
    """These are known to have replayed it."""
    possible: tuple[Host, ...]
    """These may have replayed it by now, so they have to be asked."""


class Topology:
    """The hosts of one cluster, and the decisions about them. `interval` is the time between two checks of a host."""

    def __init__(
        self,
        hosts: Iterable[Host],
        *,
        interval: float = 1.0,
        timeout: float = 1.0,
        max_lag: float | None = None,
        on_split: OnSplit = "newest",
    ) -> None:
        self.records: dict[Host, Record] = {host: Record(host) for host in hosts}
        self.max_lag = max_lag
        self.on_split = on_split
        self.decision = Decision(None, "no host has been checked yet", ())
        self.system_identifier: int | None = None
        """That of the first primary, or of the one that `discover` names. A host with another one belongs elsewhere."""
        self.claims_changed_at = 0.0
        """When the hosts that claim to be the primary last changed."""
        self._fresh = interval + 2 * timeout
        """Seconds after which a lag counts from the last answer."""
        self._history = History()
        self._claims: frozenset[tuple[Host, int]] = frozenset()
        self._named: Host | None = None
        """The primary that `discover` names."""
        self._named_at = float("-inf")
        self._events: list[ClusterEvent] = []

    # -- observations ----------------------------------------------------------------------------------------------

    def observed(self, host: Host, observation: Observation, now: float) -> None:
        """Record the answer of a host to a check."""
        record = self.records.get(host)
        if record is None:
            return
        before = record.observation
        if (
            before is None
            or before.lsn > observation.lsn
            or (before.started, before.timeline)
            != (
                observation.started,
                observation.timeline,
            )
        ):
            # The server was started anew, perhaps with other data, or follows another timeline.
            record.replayed = 0
        if not record.is_up:
            self._events.append(HostUp(host, observation.role))
        elif before is not None and before.role != observation.role:
            self._events.append(RoleChanged(host, before.role, observation.role))
        record.observation, record.observed_at = observation, now
        record.is_up, record.misses, record.reason = True, 0, ""
        record.replayed = max(record.replayed, observation.lsn)
        if observation.in_recovery:
            record.lag = self._history.lag(observation.lsn, now, primary_answers=self._primary_answers(now))
        else:
            record.lag = None
        if host == self.decision.primary:
            self._history.add(observation.lsn, now)

    def missed(self, host: Host, reason: str, *, late: bool) -> bool:
        """Record a check without an answer in time; returns whether the host has gone down.

        `late` says that the event loop was late, so that the answer may be there unread.
        """
        record = self.records.get(host)
        if record is None:
            return False
        if not record.is_up:
            record.reason = reason
        if late:
            return False
        record.misses += 1
        if record.misses < MISSES:
            return False
        return self.failed(host, reason)

    def failed(self, host: Host, reason: str) -> bool:
        """Record that a host has refused a connection or ended one; returns whether it has gone down by that."""
        record = self.records.get(host)
        if record is None:
            return False
        was_up, record.is_up, record.reason = record.is_up, False, reason
        record.misses = 0
        if was_up:
            self._events.append(HostDown(host, reason))
        return was_up

    def replayed(self, host: Host, lsn: int) -> None:
        """Record that a host has replayed a position."""
        record = self.records.get(host)
        if record is not None and record.is_up:
            record.replayed = max(record.replayed, lsn)

    def discovered(self, hosts: Sequence[Host], asked_at: float) -> None:
        """Use the hosts that `discover` has returned, which was asked at `asked_at`."""
        known = {host: self.records.get(host) or Record(host) for host in hosts}
        self._events += [HostDiscovered(host) for host in known if host not in self.records]
        self._events += [HostRemoved(host) for host in self.records if host not in known]
        self.records = known
        self._named = next((host for host in hosts if host.role == "primary"), None)
        self._named_at = asked_at

    # -- decisions -------------------------------------------------------------------------------------------------

    def update(self, now: float) -> list[ClusterEvent]:
        """Decide anew; returns all events since the last call."""
        before = self.decision
        states = {host: record.state for host, record in self.records.items()}
        after = self.decision = self._decide(now)
        if after.split and after.split != before.split:
            self._events.append(Split(after.split, after.reason))
        if after.primary != before.primary:
            self._events.append(PrimaryChanged(before.primary, after.primary, after.reason))
            if after.primary is not None:
                observation = self._seen(after.primary)
                assert observation is not None
                self.system_identifier = observation.system_identifier
                self._history.add(observation.lsn, self.records[after.primary].observed_at)
        for host, record in self.records.items():
            if record.state == "lagging" != states[host]:
                self._events.append(ReplicaLagging(host, record.lag))
            elif states[host] == "lagging" and record.state == "up":
                self._events.append(ReplicaCaughtUp(host, record.lag))
        events, self._events = self._events, []
        return events

    def _decide(self, now: float) -> Decision:
        for record in self.records.values():
            self._set_state(record)
        claimants = [record for record in self.records.values() if record.state == "up" and self._claims_it(record)]
        claims = frozenset((record.host, record.observation.timeline) for record in claimants if record.observation)
        if claims != self._claims:
            self._claims, self.claims_changed_at = claims, now
        primary, reason, split = self._choose_primary(claimants)
        return Decision(primary, reason, self._usable_replicas(primary, now), split)

    def _set_state(self, record: Record) -> None:
        """Set the state that follows from the host's own answers."""
        record.why = record.reason
        if record.observation is None:
            record.state = "down" if record.reason else "unknown"
        elif not record.is_up:
            record.state = "down"
        elif (other := self._same_server(record)) is not None:
            record.state, record.why = "duplicate", f"it is the same server as {other}"
        elif not record.observation.in_recovery and record.observation.read_only:
            record.state, record.why = (
                "read-only",
                "it is a primary that takes no writes (default_transaction_read_only)",
            )
        else:
            record.state = "up"

    def _same_server(self, record: Record) -> Host | None:
        """Return an earlier host of the list that leads to the same server, by another name."""
        mine = record.observation
        for other in self.records.values():
            if other is record:
                return None
            theirs = other.observation
            if theirs is None or not other.is_up or mine is None or not mine.started:
                continue
            if (theirs.started, theirs.system_identifier) == (mine.started, mine.system_identifier):
                return other.host
        return None

    def _claims_it(self, record: Record) -> bool:
        return record.observation is not None and not record.observation.in_recovery

    def _choose_primary(self, claimants: list[Record]) -> tuple[Host | None, str, tuple[Host, ...]]:
        if self._named is not None and self._named_at >= self.claims_changed_at:
            named = [record for record in claimants if record.host == self._named]
            for record in claimants:
                if record not in named:
                    self._set_aside(record, f"discover says that {self._named} is the primary")
            if not named:
                return None, f"discover says that {self._named} is the primary, and it does not say so itself", ()
            return self._named, "", ()
        if not claimants:
            return None, "no host says that it is the primary", ()
        hosts = tuple(record.host for record in claimants)
        names = " and ".join(map(str, hosts))
        systems = {record.observation.system_identifier for record in claimants if record.observation}
        if len(systems | {self.system_identifier or next(iter(systems))}) > 1:
            return self._split(claimants, f"{names}: the system identifiers are not those of one cluster")
        if len(claimants) > 1 and self.on_split == "refuse":
            return self._split(claimants, f"{names} say that they are the primary, and on_split is 'refuse'")
        timelines = {record.host: record.observation.timeline for record in claimants if record.observation}
        newest = max(timelines.values())
        first = [record for record in claimants if timelines[record.host] == newest]
        if len(first) > 1:
            names = " and ".join(str(record.host) for record in first)
            return self._split(claimants, f"{names} say that they are the primary, on the same timeline {newest}")
        ahead = self._ahead_of(newest, next(iter(systems)))
        for record in claimants:
            if record is not first[0] or ahead is not None:
                newer = ahead or first[0].host
                self._set_aside(record, f"it was a primary; {newer} is on a newer timeline")
        if ahead is not None:
            return None, f"{first[0].host} is a former primary: {ahead} was seen on a newer timeline", ()
        return first[0].host, "", ()

    def _ahead_of(self, timeline: int, system_identifier: int) -> Host | None:
        """Return a host that was last seen on a newer timeline than this one; None if there is none."""
        for record in self.records.values():
            seen = record.observation
            if seen is not None and seen.timeline > timeline and seen.system_identifier == system_identifier:
                return record.host
        return None

    def _split(self, claimants: list[Record], reason: str) -> tuple[None, str, tuple[Host, ...]]:
        for record in claimants:
            record.state, record.why = "split", reason
        return None, f"it is not certain which host is the primary: {reason}", tuple(each.host for each in claimants)

    def _set_aside(self, record: Record, why: str) -> None:
        record.state, record.why = "former primary", why

    def _usable_replicas(self, primary: Host | None, now: float) -> tuple[Host, ...]:
        system = self.system_identifier
        leader = self._seen(primary)
        if leader is not None:
            system = leader.system_identifier
        usable = []
        for host, record in self.records.items():
            seen = record.observation
            if record.state != "up" or seen is None or not seen.in_recovery:
                continue
            if system is None:
                # No primary was ever seen: the first host of the list stands for its cluster.
                system = seen.system_identifier
            if seen.system_identifier != system:
                record.state = "foreign"
                record.why = f"its system identifier is {seen.system_identifier}, and that of the cluster is {system}"
            elif leader is not None and seen.timeline > leader.timeline:
                record.state, record.why = "foreign", f"it follows another primary, on timeline {seen.timeline}"
            elif not self._keeps_up(record, now):
                record.state = "lagging"
                lag = self.lag_of(record, now)
                behind = "an unknown time" if lag is None else f"{lag:.1f} seconds"
                record.why = f"it is {behind} behind, and max_lag is {self.max_lag:g}"
            else:
                usable.append(host)
        return tuple(usable)

    def _keeps_up(self, record: Record, now: float) -> bool:
        if self.max_lag is None:
            return True
        lag = self.lag_of(record, now)
        return lag is not None and lag <= self.max_lag

    def lag_of(self, record: Record, now: float) -> float | None:
        """Return the lag of a replica in seconds; None if it is not known, or the host is no replica."""
        seen = record.observation
        if seen is None or not seen.in_recovery:
            return None
        if now - record.observed_at <= self._fresh and record.lag is not None and self._primary_answers(now):
            return record.lag
        return self._history.lag(seen.lsn, now, primary_answers=False)

    def _primary_answers(self, now: float) -> bool:
        record = self.records.get(self.decision.primary) if self.decision.primary is not None else None
        return record is not None and record.is_up and now - record.observed_at <= self._fresh

    def _seen(self, host: Host | None) -> Observation | None:
        record = self.records.get(host) if host is not None else None
        return record.observation if record is not None and record.is_up else None

    # -- positions -------------------------------------------------------------------------------------------------

    def routes(self, position: Position) -> Routes:
        """Return the replicas that may answer a read that has to see a position; the others must not.

        Raises ForeignPositionError for a position of another cluster.
        """
        if self.system_identifier is not None:
            position.check_same_cluster(self.system_identifier)
        leader = self._seen(self.decision.primary)
        if leader is not None and leader.timeline != position.timeline:
            # Nothing but the primary itself knows whether a position of an older timeline was kept.
            return Routes((), ())
        known: list[Host] = []
        possible: list[Host] = []
        for host in self.decision.replicas:
            record = self.records[host]
            seen = record.observation
            if seen is None or seen.timeline != position.timeline:
                continue
            (known if record.replayed >= position.lsn else possible).append(host)
        return Routes(tuple(known), tuple(possible))

    def is_behind(self, position: Position) -> bool:
        """Return whether a newer primary than the known one must have been promoted, because it wrote the position."""
        leader = self._seen(self.decision.primary)
        return leader is not None and leader.timeline < position.timeline

    # -- texts -----------------------------------------------------------------------------------------------------

    def describe(self) -> str:
        """Return the state of each host, for an error."""
        return "\n".join(f"  {_describe(record)}" for record in self.records.values())


def _describe(record: Record) -> str:
    role = f" {record.observation.role}" if record.observation is not None and record.is_up else ""
    return f"{record.host}: {record.state}{role}" + (f" ({record.why})" if record.why else "")
