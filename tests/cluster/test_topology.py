"""The decisions of a cluster: who is the primary, which replicas may answer. No server, no loop, no clock."""

from __future__ import annotations

import random

import pytest

from headrace.cluster.events import (
    ClusterEvent,
    HostDown,
    HostUp,
    PrimaryChanged,
    ReplicaCaughtUp,
    ReplicaLagging,
    RoleChanged,
    Split,
)
from headrace.cluster.hosts import Host
from headrace.cluster.position import Position
from headrace.cluster.topology import History, Observation, Routes, Topology
from headrace.exceptions import ForeignPositionError

A, B, C = Host("a"), Host("b"), Host("c")
SYSTEM = 7
OTHER = 8


class World:
    """A topology under test; the test says what each host has answered, and when."""

    def __init__(self, *hosts: Host, **options: object) -> None:
        self.topology = Topology(hosts or (A, B, C), **options)  # type: ignore[arg-type]
        self.now = 0.0
        self.started = {A: 1.0, B: 2.0, C: 3.0}

    def primary(
        self, host: Host, lsn: int = 100, *, timeline: int = 1, system: int = SYSTEM, read_only: bool = False
    ) -> None:
        self._observe(host, Observation(False, lsn, timeline, system, self.started[host], read_only))

    def replica(self, host: Host, lsn: int = 100, *, timeline: int = 1, system: int = SYSTEM) -> None:
        self._observe(host, Observation(True, lsn, timeline, system, self.started[host]))

    def _observe(self, host: Host, observation: Observation) -> None:
        self.topology.observed(host, observation, self.now)

    def refuse(self, *hosts: Host) -> None:
        for host in hosts:
            self.topology.failed(host, "connection refused")

    def events(self) -> list[ClusterEvent]:
        return self.topology.update(self.now)

    @property
    def writes_go_to(self) -> Host | None:
        self.topology.update(self.now)
        return self.topology.decision.primary

    @property
    def reads_go_to(self) -> tuple[Host, ...]:
        self.topology.update(self.now)
        return self.topology.decision.replicas

    def state(self, host: Host) -> str:
        return self.topology.records[host].state


@pytest.fixture
def world() -> World:
    """A primary and two replicas that have caught up."""
    made = World()
    made.primary(A)
    made.replica(B)
    made.replica(C)
    made.events()
    return made


# The primary.


def test_the_host_that_says_so_is_the_primary() -> None:
    world = World()
    world.replica(B)
    world.replica(C)
    assert world.writes_go_to is None
    assert "no host says that it is the primary" in world.topology.decision.reason
    world.primary(A)
    assert world.writes_go_to == A
    assert world.reads_go_to == (B, C)


def test_a_host_that_refuses_is_down_at_once(world: World) -> None:
    world.refuse(A)
    assert world.events() == [
        HostDown(A, "connection refused"),
        PrimaryChanged(A, None, "no host says that it is the primary"),
    ]
    assert world.reads_go_to == (B, C)


def test_a_check_without_an_answer_counts_the_second_time(world: World) -> None:
    assert not world.topology.missed(A, "no answer", late=False)
    assert world.writes_go_to == A
    assert world.topology.missed(A, "no answer", late=False)
    assert world.writes_go_to is None


def test_an_answer_between_two_misses_ends_the_count(world: World) -> None:
    world.topology.missed(A, "no answer", late=False)
    world.primary(A)
    world.topology.missed(A, "no answer", late=False)
    assert world.writes_go_to == A


def test_a_check_does_not_count_if_the_event_loop_was_late(world: World) -> None:
    for _ in range(5):
        assert not world.topology.missed(A, "no answer", late=True)
    assert world.writes_go_to == A


def test_a_promoted_replica_is_the_primary(world: World) -> None:
    world.refuse(A)
    world.events()
    world.primary(B, timeline=2)
    assert world.events() == [RoleChanged(B, "replica", "primary"), PrimaryChanged(None, B, "")]
    assert world.reads_go_to == (C,)


def test_of_two_primaries_the_one_on_the_higher_timeline_is_it(world: World) -> None:
    world.primary(B, timeline=2)
    assert world.writes_go_to == B
    assert world.state(A) == "former primary"
    assert world.reads_go_to == (C,)


def test_two_primaries_on_one_timeline_are_a_split(world: World) -> None:
    world.refuse(A)
    world.events()
    world.primary(B, timeline=2)
    world.primary(C, timeline=2)
    events = world.events()
    assert world.topology.decision.primary is None
    [split] = [event for event in events if isinstance(event, Split)]
    assert split.hosts == (B, C)
    assert "b:5432 and c:5432 say that they are the primary, on the same timeline 2" in split.reason
    assert [world.state(host) for host in (B, C)] == ["split", "split"]
    assert world.events() == []


def test_a_primary_of_another_cluster_stops_writes(world: World) -> None:
    world.primary(B, timeline=9, system=OTHER)
    assert world.writes_go_to is None
    assert "system identifiers" in world.topology.decision.reason


def test_a_primary_of_another_cluster_takes_nobodys_place(world: World) -> None:
    world.refuse(A)
    world.events()
    world.primary(B, timeline=9, system=OTHER)
    assert world.writes_go_to is None


def test_any_two_primaries_are_a_split_if_the_program_says_so() -> None:
    world = World(on_split="refuse")
    world.primary(A)
    world.primary(B, timeline=2)
    assert world.writes_go_to is None
    assert "on_split" in world.topology.decision.reason


def test_a_former_primary_is_none_while_the_newer_one_is_down(world: World) -> None:
    world.refuse(A)
    world.primary(B, timeline=2)
    world.events()
    world.refuse(B)
    world.primary(A)
    assert world.writes_go_to is None
    assert "a:5432 is a former primary: b:5432 was seen on a newer timeline" in world.topology.decision.reason
    # It was set up again as a replica of the former primary, so the newer timeline was given up.
    world.replica(B)
    assert world.writes_go_to == A


def test_a_replica_on_a_newer_timeline_shows_that_a_primary_is_a_former_one(world: World) -> None:
    world.replica(C, timeline=2)
    assert world.writes_go_to is None
    assert world.state(A) == "former primary"


def test_a_primary_that_takes_no_writes_is_none(world: World) -> None:
    world.primary(A, read_only=True)
    assert world.writes_go_to is None
    assert world.state(A) == "read-only"
    world.primary(B)
    assert world.writes_go_to == B


def test_one_server_by_two_names_is_one_primary() -> None:
    world = World(A, B)
    world.started[B] = world.started[A]
    world.primary(A)
    world.primary(B)
    assert world.writes_go_to == A
    assert world.state(B) == "duplicate"


# discover has the last word.


def test_discover_decides_a_split(world: World) -> None:
    world.refuse(A)
    world.primary(B, timeline=2)
    world.primary(C, timeline=2)
    assert world.writes_go_to is None
    world.topology.discovered([A, B, Host("c", role="primary")], asked_at=world.now)
    assert world.writes_go_to == C
    assert world.state(B) == "former primary"


def test_an_answer_of_discover_from_before_does_not_decide(world: World) -> None:
    world.topology.discovered([Host("a", role="primary"), B, C], asked_at=world.now)
    world.events()
    world.now = 5.0
    world.refuse(A)
    world.primary(B, timeline=2)
    assert world.writes_go_to == B


def test_a_primary_that_discover_does_not_name_gets_no_writes(world: World) -> None:
    world.now = 5.0
    world.refuse(A)
    world.primary(B, timeline=2)
    world.events()
    world.topology.discovered([Host("a", role="primary"), B, C], asked_at=world.now)
    assert world.writes_go_to is None
    assert "discover says that a:5432 is the primary" in world.topology.decision.reason


def test_a_replica_is_no_primary_even_if_discover_names_it(world: World) -> None:
    world.topology.discovered([A, Host("b", role="primary"), C], asked_at=world.now)
    assert world.writes_go_to is None
    assert world.reads_go_to == (B, C)


def test_a_host_that_discover_does_not_list_any_more_is_forgotten(world: World) -> None:
    world.topology.discovered([A, C], asked_at=world.now)
    assert world.reads_go_to == (C,)
    world.replica(B)
    assert world.reads_go_to == (C,)


# Replicas and their lag.


def test_a_replica_that_has_all_of_the_primary_has_no_lag(world: World) -> None:
    world.topology.max_lag = 0.1
    for _ in range(60):
        world.now += 1.0
        world.primary(A)
        world.replica(B)
        assert B in world.reads_go_to


def test_a_lag_is_the_time_since_the_primary_was_there(world: World) -> None:
    world.topology.max_lag = 3.0
    for lsn in range(200, 1100, 100):
        world.now += 1.0
        world.primary(A, lsn)
        world.replica(B, lsn)
        world.replica(C, 200)
        world.events()
    assert world.topology.lag_of(world.topology.records[C], world.now) == pytest.approx(8.0)
    assert world.reads_go_to == (B,)
    assert world.state(C) == "lagging"


def test_a_replica_that_is_cut_off_from_the_primary_lags_more_and_more(world: World) -> None:
    world.topology.max_lag = 3.0
    world.now = 1.0
    world.primary(A, 101)
    world.replica(B, 100)
    lags = []
    for _ in range(5):
        world.now += 1.0
        world.primary(A, 101)
        world.replica(B, 100)
        world.events()
        lags.append(world.topology.lag_of(world.topology.records[B], world.now))
    assert lags == pytest.approx([2.0, 3.0, 4.0, 5.0, 6.0])


def test_events_tell_that_a_replica_lags_and_has_caught_up(world: World) -> None:
    world.topology.max_lag = 3.0
    world.now = 10.0
    world.primary(A, 200)
    world.replica(B, 200)
    world.replica(C, 200)
    world.events()
    world.now = 14.0
    world.primary(A, 300)
    world.replica(B, 300)
    world.replica(C, 300)
    world.events()
    world.now = 18.0
    world.primary(A, 400)
    world.replica(B, 300)
    world.replica(C, 400)
    assert [event for event in world.events() if isinstance(event, ReplicaLagging)] == [ReplicaLagging(B, 4.0)]
    world.replica(B, 400)
    assert world.events() == [ReplicaCaughtUp(B, 0.0)]


def test_without_a_primary_a_lag_counts_from_its_last_known_position(world: World) -> None:
    world.topology.max_lag = 5.0
    world.now = 1.0
    world.primary(A, 150)
    world.replica(B, 150)
    world.events()
    world.refuse(A)
    world.now = 4.0
    world.replica(B, 150)
    assert B in world.reads_go_to
    world.now = 7.0
    world.replica(B, 150)
    assert world.reads_go_to == ()


def test_a_lag_that_is_not_known_is_too_long() -> None:
    world = World(max_lag=5.0)
    world.replica(B)
    assert world.reads_go_to == ()
    assert world.state(B) == "lagging"
    assert World(B).reads_go_to == ()


def test_without_max_lag_any_replica_answers() -> None:
    world = World()
    world.replica(B, 1)
    assert world.reads_go_to == (B,)


def test_a_replica_of_another_cluster_gets_no_reads(world: World) -> None:
    world.replica(B, system=OTHER)
    assert world.reads_go_to == (C,)
    assert world.state(B) == "foreign"


def test_the_history_forgets_what_a_lost_primary_had_not_sent() -> None:
    history = History()
    for now, position in ((0.0, 100), (1.0, 200), (2.0, 300), (5.0, 250)):
        history.add(position, now)
    assert history.lag(250, 6.0, primary_answers=True) == 0.0
    assert history.lag(200, 6.0, primary_answers=True) == 5.0


def test_the_history_of_an_idle_primary_stays_short() -> None:
    history = History()
    for now in range(10_000):
        history.add(100, float(now))
    assert len(history._times) == 2
    history.add(200, 10_000.0)
    assert history.lag(100, 10_001.0, primary_answers=True) == pytest.approx(2.0)


def test_the_history_is_bounded() -> None:
    history = History()
    for now in range(10_000):
        history.add(now, float(now))
    assert len(history._times) <= 3600
    assert history.lag(5_000, 10_000.0, primary_answers=True) == pytest.approx(5_000.0)


# Positions.


def test_a_replica_that_is_known_to_have_a_position_is_not_asked(world: World) -> None:
    world.replica(B, 200)
    world.events()
    assert world.topology.routes(Position(SYSTEM, 1, 150)) == Routes((B,), (C,))
    world.topology.replayed(C, 150)
    assert world.topology.routes(Position(SYSTEM, 1, 150)) == Routes((B, C), ())


def test_a_position_of_an_older_timeline_is_answered_by_the_primary(world: World) -> None:
    world.refuse(A)
    world.primary(B, 300, timeline=2)
    world.replica(C, 300, timeline=2)
    world.events()
    assert world.topology.routes(Position(SYSTEM, 1, 150)) == Routes((), ())
    assert world.topology.routes(Position(SYSTEM, 2, 150)) == Routes((C,), ())


def test_a_replica_that_is_not_known_to_be_on_the_timeline_does_not_answer(world: World) -> None:
    world.refuse(A)
    world.primary(B, 300, timeline=2)
    world.replica(C, 300, timeline=1)
    world.events()
    assert world.topology.routes(Position(SYSTEM, 2, 150)) == Routes((), ())


def test_a_position_of_another_cluster_is_an_error(world: World) -> None:
    with pytest.raises(ForeignPositionError, match="belongs to another cluster: its system identifier is 8"):
        world.topology.routes(Position(OTHER, 1, 1))


def test_a_server_that_was_started_anew_is_asked_again(world: World) -> None:
    world.replica(B, 200)
    world.refuse(B)
    world.started[B] += 1
    world.replica(B, 100)
    world.events()
    assert B not in world.topology.routes(Position(SYSTEM, 1, 150)).known


# Everything at once.


class Truth:
    """Servers as they are, of which the topology sees a part."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.timeline = 1
        self.lsn = 100
        self.primaries = {A: 1}
        self.replayed = {B: (1, 100), C: (1, 100)}
        self.reachable = {A, B, C}
        self.starts = 10.0

    def step(self, world: World) -> None:
        what = self.random.choice(("write", "replay", "check", "check", "check", "cut", "heal", "promote", "demote"))
        host = self.random.choice((A, B, C))
        newest = [each for each, timeline in self.primaries.items() if timeline == self.timeline]
        if what == "write" and newest:
            self.lsn += self.random.randrange(1, 50)
        elif what == "replay" and host in self.replayed and newest:
            self.replayed[host] = (self.timeline, self.lsn)
        elif what == "cut":
            self.reachable.discard(host)
            world.refuse(host)
        elif what == "heal":
            self.reachable.add(host)
        elif what == "promote" and host in self.replayed:
            self.timeline += 1
            _, self.lsn = self.replayed.pop(host)
            self.primaries[host] = self.timeline
        elif what == "demote" and host in self.primaries and host not in newest:
            self.starts += 1
            world.started[host] = self.starts
            del self.primaries[host]
            self.replayed[host] = (self.timeline, self.lsn)
        elif what == "check" and host in self.reachable:
            if host in self.primaries:
                is_newest = self.primaries[host] == self.timeline
                world.primary(host, self.lsn if is_newest else 100, timeline=self.primaries[host])
            else:
                timeline, lsn = self.replayed[host]
                world.replica(host, lsn, timeline=timeline)


@pytest.mark.parametrize("seed", range(200))
def test_writes_go_to_the_newest_primary_that_was_seen_and_reads_to_replicas(seed: int) -> None:
    truth, world = Truth(seed), World(max_lag=20.0)
    newest_seen = 0
    for _ in range(300):
        world.now += 0.2
        truth.step(world)
        primary = world.writes_go_to
        decision, records = world.topology.decision, world.topology.records
        seen = {host: record.observation for host, record in records.items() if record.observation is not None}
        newest_seen = max((each.timeline for each in seen.values()), default=0)
        if primary is not None:
            assert records[primary].is_up
            assert not seen[primary].in_recovery
            assert seen[primary].timeline == newest_seen
        for replica in decision.replicas:
            assert records[replica].is_up
            assert seen[replica].in_recovery
            lag = world.topology.lag_of(records[replica], world.now)
            assert lag is not None
            assert lag <= 20.0
        position = Position(SYSTEM, truth.timeline, truth.lsn)
        for host in world.topology.routes(position).known:
            assert truth.replayed.get(host) == (truth.timeline, truth.lsn)


def test_a_host_is_reported_when_it_comes_and_goes(world: World) -> None:
    world.refuse(B)
    assert world.events() == [HostDown(B, "connection refused")]
    world.refuse(B)
    assert world.events() == []
    world.replica(B)
    assert world.events() == [HostUp(B, "replica")]
