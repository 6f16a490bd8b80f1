"""The scheduler of a pool: who gets which connection, which connections come and go. No server, no loop, no clock."""

from __future__ import annotations

import ssl
from types import SimpleNamespace
from typing import Any

import pytest

from headrace import exceptions
from headrace._core.pipeline.workload import Claim, Cost, Workload
from headrace.pool import scheduler as scheduling
from headrace.pool.scheduler import Limits, Opening, PooledConnection, Reason, Scheduler, copy_of, is_transient

QUICK = 0.001


class Ends:
    """`random.uniform` that returns its bounds, in turn."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, low: float, high: float) -> float:
        self.calls += 1
        return low if self.calls % 2 else high


class FakeDriver:
    """The driver of a connection, as far as the scheduler knows it."""

    def __init__(self, parameters: dict[str, str]) -> None:
        self.request_count = 0
        self.pending = 0
        self.session = SimpleNamespace(parameters=parameters)


class Pool:
    """A scheduler under test. Its connections do nothing; the test says what has happened, and when."""

    def __init__(self, connections: int = 0, *, budget: float = 0.005, max_pipeline: int = 100, **limits: Any) -> None:
        self.scheduler = Scheduler(
            Limits(**{"min_size": 0, "max_size": 10, **limits}),
            0.0,
            Ends(),
            budget=budget,
            max_pipeline=max_pipeline,
        )
        self.now = 0.0
        self.connections = [self.open() for _ in range(connections)]

    def open(self, opening: Opening | None = None, **parameters: str) -> PooledConnection:
        reported = {"in_hot_standby": "off", "default_transaction_read_only": "off", **parameters}
        driver = FakeDriver(reported)
        opening = opening or self.scheduler.begin_opening(self.now)
        return self.scheduler.add(SimpleNamespace(), driver, Workload(), opening, self.now)

    # Claims.

    def read(self, cost: float | None = QUICK) -> Claim:
        """A plain read whose text takes `cost` seconds; None if it is new."""
        claim = Claim()
        claim.cost = cost_of(cost)
        claim.pipelined = claim.movable = True
        return claim

    def write(self, cost: float | None = QUICK) -> Claim:
        claim = Claim()
        claim.cost = cost_of(cost)
        return claim

    def lease(self) -> Claim:
        return Claim()

    def ask(self, claim: Claim) -> PooledConnection | None:
        """Claim a connection, and have the server begin with it if it is the first there."""
        pooled = self.scheduler.claim(claim, self.now)
        if pooled is not None:
            self.begin(pooled)
        return pooled

    def serve(self, pooled: PooledConnection) -> list[Claim]:
        served = self.scheduler.serve(pooled, self.now)
        if served and pooled.work.count == len(served):
            self.begin(pooled)
        return served

    def begin(self, pooled: PooledConnection) -> None:
        head = next(iter(pooled.work), None)
        if head is not None and pooled.work.count == 1:
            pooled.work.head_since = self.now
            pooled.work.head_cost = max(head.cost.seconds, 0) if head.cost is not None else 0

    def reply(self, pooled: PooledConnection) -> list[Claim]:
        """The server is done with the head; returns the claims that the connection is given then."""
        next(iter(pooled.work)).finish()
        pooled.work.overrun = False
        pooled.work.replied_at = pooled.work.head_since = self.now
        return self.serve(pooled)

    def occupy(self, *costs: float | None) -> list[PooledConnection]:
        """Have the connections work on one write each."""
        occupied = []
        for cost in costs:
            pooled = self.ask(self.write(cost))
            assert pooled is not None
            occupied.append(pooled)
        return occupied

    def reserved(self) -> list[PooledConnection]:
        found = [pooled for pooled in self.scheduler.available if pooled.reserved]
        assert self.scheduler.reserved == len(found)
        return found

    def sweep(self, now: float) -> dict[PooledConnection, Reason]:
        """Sweep, and retire what is to be retired as the pool does."""
        going = dict(self.scheduler.sweep(now))
        for pooled in going:
            self.scheduler.drain(pooled.driver)
            self.scheduler.remove(pooled.driver)
        return going


def cost_of(seconds: float | None) -> Cost:
    cost = Cost()
    if seconds is not None:
        cost.note(seconds)
    return cost


# The cost of a text


def test_a_cost_is_unknown_before_the_first_execution() -> None:
    cost = Cost()
    assert (cost.seconds, cost.measured) == (-1, 0)
    cost.note(0.5)
    assert (cost.seconds, cost.mean, cost.slowest, cost.measured) == (0.5, 0.5, 0.5, 1)


def test_a_cost_is_the_slowest_of_the_last_sixteen_executions() -> None:
    cost = Cost()
    cost.note(1.0)
    for i in range(15):
        cost.note(0.001 * (i + 1))
        assert cost.slowest == 1.0
    cost.note(0.002)
    assert cost.slowest == 0.015


def test_a_cost_is_the_moving_mean_if_that_is_larger() -> None:
    cost = Cost()
    cost.note(1.0)
    for _ in range(16):
        cost.note(0.0)
    assert cost.slowest == 0
    assert cost.mean == pytest.approx(0.875**16)
    assert cost.seconds == cost.mean


def test_a_workload_adds_up_what_is_expected_of_its_claims() -> None:
    pool = Pool(1)
    (one,) = pool.connections
    first, second = pool.write(0.001), pool.read(0.002)
    for claim in (first, second):
        assert pool.ask(claim) is one
    assert list(one.work) == [first, second]
    assert one.work.expected == pytest.approx(0.003)
    first.finish()
    assert (first.work, second.work) == (None, one.work)
    second.finish()
    # Rounding errors do not add up.
    assert (one.work.count, one.work.expected, one.work.unmeasured) == (0, 0, 0)


# Idle first


@pytest.mark.parametrize("kind", ["read", "write", "lease"])
def test_a_claim_gets_an_idle_connection_if_there_is_one(kind: str) -> None:
    pool = Pool(3)
    pool.occupy(QUICK, QUICK)
    assert pool.ask(getattr(pool, kind)()) is pool.connections[2]


def test_an_idle_connection_that_needs_no_ping_comes_first() -> None:
    pool = Pool(2)
    one, two = pool.connections
    pool.now = scheduling.PING_AFTER
    two.work.replied_at = pool.now
    assert pool.ask(pool.read()) is two
    assert pool.ask(pool.read()) is one


def test_a_leased_or_blocked_connection_is_not_idle() -> None:
    pool = Pool(2)
    one, two = pool.connections
    pool.scheduler.lease(one)
    two.blocked = True
    assert pool.ask(pool.read()) is None
    assert pool.ask(pool.write()) is None
    assert pool.serve(two) == pool.serve(one) == []
    two.blocked = False
    assert len(pool.serve(two)) == 1


# Behind others


def test_a_read_is_sent_behind_the_least_work() -> None:
    pool = Pool(2)
    one, two = pool.occupy(0.003, 0.001)
    assert pool.ask(pool.read(0.003)) is two
    assert pool.ask(pool.read()) is one


def test_a_read_is_sent_only_behind_work_within_the_budget() -> None:
    pool = Pool(1, budget=0.005)
    (one,) = pool.occupy(0.002)
    assert pool.ask(pool.read(0.004)) is one
    # Six milliseconds are ahead of it now.
    late = pool.read()
    assert pool.ask(late) is None
    assert pool.reply(one) == [late]


def test_nothing_is_sent_behind_a_text_whose_cost_is_unknown() -> None:
    pool = Pool(1)
    (one,) = pool.occupy(None)
    late = pool.read()
    assert pool.ask(late) is None
    assert pool.reply(one) == [late]


def test_nothing_is_sent_behind_a_claim_whose_statement_is_being_prepared() -> None:
    """It would overtake that one, which is sent once the statement is ready."""
    pool = Pool(1)
    write = pool.write()
    one = pool.ask(write)
    assert one is not None
    write.unprepared = True
    late, later = pool.read(), pool.read()
    assert pool.ask(late) is None
    assert pool.serve(one) == []
    write.unprepared = False
    assert pool.serve(one) == [late]
    assert pool.ask(later) is one


@pytest.mark.parametrize("cost", [None, 0.006])
def test_a_read_that_is_not_known_to_be_quick_is_sent_behind_nothing(cost: float | None) -> None:
    """It could keep a connection from a read that came before it, and that is asked again because its head overruns."""
    pool = Pool(2)
    one, _ = pool.occupy(QUICK, 1.0)
    slow, quick = pool.read(cost), pool.read()
    assert pool.ask(slow) is None
    # First come, first served: a quick read that came later waits as well.
    assert pool.ask(quick) is None
    assert pool.reply(one) == [slow]


def test_a_read_that_turns_out_to_be_slow_while_it_waits_is_sent_behind_nothing() -> None:
    pool = Pool(1)
    (one,) = pool.occupy(None)
    first, slow, last = pool.read(), pool.read(), pool.read()
    for claim in (first, slow, last):
        assert pool.ask(claim) is None
    assert slow.cost is not None
    slow.cost.note(1.0)
    # The last one may go behind the first, but it came later than the slow one.
    assert pool.reply(one) == [first]
    assert pool.serve(one) == []
    assert pool.reply(one) == [slow]
    assert pool.reply(one) == [last]


def test_a_connection_whose_server_still_parses_for_a_call_that_was_given_up_is_not_idle() -> None:
    """The statement may wait for a lock, and nobody waits for it any more."""
    pool = Pool(1)
    (one,) = pool.occupy(QUICK)
    pool.reply(one)
    one.work.preparing = 1
    write, read = pool.write(), pool.read()
    assert [pool.ask(claim) for claim in (read, write)] == [None, None]
    one.work.preparing = 0
    assert pool.serve(one) == [read]


def test_only_reads_are_sent_behind_others() -> None:
    pool = Pool(1)
    (one,) = pool.occupy(QUICK)
    write, lease, read = pool.write(), pool.lease(), pool.read()
    assert [pool.ask(claim) for claim in (write, lease)] == [None, None]
    assert pool.ask(read) is None
    assert pool.reply(one) == [write]
    assert pool.reply(one) == [lease]


def test_reads_are_sent_behind_a_write() -> None:
    pool = Pool(1)
    (one,) = pool.occupy(QUICK)
    reads = [pool.read() for _ in range(3)]
    assert [pool.ask(read) for read in reads] == [one] * 3


@pytest.mark.parametrize("options", [{"budget": 0}, {"max_pipeline": 1}])
def test_pipelining_can_be_turned_off(options: dict[str, Any]) -> None:
    pool = Pool(1, **options)
    (one,) = pool.connections
    first, second, third = (pool.read() for _ in range(3))
    assert [pool.ask(claim) for claim in (first, second, third)] == [one, None, None]
    assert pool.reply(one) == [second]
    assert pool.reply(one) == [third]


def test_max_pipeline_bounds_the_claims_in_flight() -> None:
    pool = Pool(1, max_pipeline=3)
    reads = [pool.read(0.0001) for _ in range(5)]
    assert [pool.ask(read) for read in reads] == [*pool.connections * 3, None, None]
    assert pool.reply(pool.connections[0]) == [reads[3]]


# Heads that overrun


@pytest.mark.parametrize(("cost", "patience"), [(0.0, 0.005), (0.001, 0.005), (0.003, 0.012)])
def test_a_head_overruns_after_the_budget_and_four_times_its_cost(cost: float, patience: float) -> None:
    pool = Pool(1)
    (one,) = pool.occupy(cost)
    assert pool.ask(pool.read()) is one
    assert pool.scheduler.next_check(0.0) == pytest.approx(patience)
    assert pool.scheduler.overrunning(patience - 0.0001) == []
    assert pool.scheduler.overrunning(patience + 0.0001) == [one]
    pool.now = patience + 0.0001
    # Nothing is sent behind it any more, marked or not.
    assert pool.ask(pool.read()) is None
    pool.scheduler.mark_overrun(one)
    assert pool.scheduler.overrunning(1.0) == []
    assert pool.scheduler.next_check(1.0) == -1
    assert pool.serve(one) == []


def test_heads_with_nothing_behind_them_are_not_watched() -> None:
    pool = Pool(1)
    pool.occupy(QUICK)
    assert pool.scheduler.next_check(0.0) == -1


def test_a_head_is_watched_while_a_claim_waits_for_a_connection_to_itself() -> None:
    """Its reservation may have to move."""
    pool = Pool(1)
    pool.occupy(QUICK)
    pool.ask(pool.write())
    assert pool.scheduler.next_check(0.0) == pytest.approx(0.005)


def test_the_next_look_is_never_far() -> None:
    """A later head might have to be looked at before."""
    pool = Pool(1)
    (one,) = pool.occupy(0.004)
    assert pool.ask(pool.read()) is one
    one.work.head_cost = 10.0
    assert pool.scheduler.next_check(0.0) == pytest.approx(4 * 0.005)


def test_the_head_of_a_draining_connection_is_watched() -> None:
    """What stands behind it may be stuck there for ever."""
    pool = Pool(1)
    (one,) = pool.occupy(QUICK)
    assert pool.ask(pool.read()) is one
    pool.scheduler.drain(one.driver)
    assert pool.scheduler.next_check(0.0) == pytest.approx(0.005)
    assert pool.scheduler.overrunning(1.0) == [one]


# Claims that need a connection to themselves


def test_as_many_connections_are_reserved_as_claims_wait_for_one_to_themselves() -> None:
    pool = Pool(3)
    one, two, three = pool.occupy(0.004, 0.002, 0.003)
    claims = [pool.write(), pool.lease(), pool.write(), pool.write()]
    for claim, reserved in zip(claims, ([two], [two, three], [one, two, three], [one, two, three]), strict=True):
        assert pool.ask(claim) is None
        assert pool.reserved() == reserved
    assert pool.scheduler.waiting == 4


def test_nothing_more_is_sent_on_a_reserved_connection() -> None:
    pool = Pool(2)
    one, two = pool.occupy(0.003, 0.001)
    write = pool.write()
    assert pool.ask(write) is None
    assert pool.reserved() == [two]
    assert pool.ask(pool.read()) is one
    assert pool.reply(two) == [write]
    assert pool.reserved() == []


def test_a_claim_gets_whichever_connection_is_idle_first() -> None:
    pool = Pool(2)
    one, two = pool.occupy(0.003, 0.001)
    write = pool.write(0.002)
    pool.ask(write)
    assert pool.reserved() == [two]
    assert pool.reply(one) == [write]
    assert pool.reserved() == []
    assert pool.ask(pool.read()) is two


def test_a_reservation_moves_if_its_head_overruns() -> None:
    pool = Pool(3)
    one, two, three = pool.occupy(0.001, 0.003, 0.002)
    pool.ask(pool.write())
    assert pool.reserved() == [one]
    pool.scheduler.mark_overrun(one)
    assert pool.reserved() == [three]
    pool.scheduler.mark_overrun(three)
    assert pool.reserved() == [two]
    pool.scheduler.mark_overrun(two)
    assert len(pool.reserved()) == 1


def test_a_reservation_does_not_stay_on_a_head_that_never_ends() -> None:
    """Another connection is at work again, and would be sent reads for ever otherwise."""
    pool = Pool(2)
    one, two = pool.occupy(QUICK, QUICK)
    assert {pool.ask(pool.read()), pool.ask(pool.read()), pool.ask(pool.read()), pool.ask(pool.read())} == {one, two}
    pool.now = 0.1
    for pooled in pool.scheduler.overrunning(pool.now):
        pool.scheduler.mark_overrun(pooled)
    write = pool.write()
    pool.ask(write)
    (stuck,) = pool.reserved()
    (other,) = {one, two} - {stuck}
    pool.ask(pool.read())
    # The head of the other is done; what stands behind it keeps it at work.
    assert other.work.count > 2
    assert pool.reply(other) == []
    assert pool.reserved() == [other]
    assert pool.reply(other) == []
    assert pool.reply(other) == [write]


def test_a_reservation_moves_while_a_cancel_request_is_under_way() -> None:
    pool = Pool(2)
    one, two = pool.occupy(0.001, 0.003)
    pool.ask(pool.write())
    assert pool.reserved() == [one]
    one.blocked = True
    assert pool.ask(pool.read()) is None
    assert pool.reserved() == [two]


def test_a_reservation_moves_to_a_connection_that_will_be_idle_earlier() -> None:
    pool = Pool(2)
    one, two = pool.occupy(3.0, 4.0)
    write = pool.write()
    pool.ask(write)
    assert pool.reserved() == [one]
    # The work of the second is taken away, for instance because it was never sent.
    next(iter(two.work)).finish()
    assert pool.ask(pool.read()) is None
    assert pool.reserved() == [two]
    assert pool.serve(two) == [write]


def test_a_reservation_is_given_up_if_the_claim_is_withdrawn() -> None:
    pool = Pool(1)
    (one,) = pool.occupy(QUICK)
    write, read = pool.write(), pool.read()
    assert [pool.ask(write), pool.ask(read)] == [None, None]
    pool.scheduler.give_up(write)
    assert pool.reserved() == []
    assert pool.serve(one) == [read]
    # A second time does nothing, and neither does it for a claim in flight.
    pool.scheduler.give_up(write)
    pool.scheduler.give_up(read)
    assert list(one.work)[1:] == [read]


def test_a_reservation_ends_with_its_connection_and_with_a_lease() -> None:
    pool = Pool(2)
    one, two = pool.occupy(0.001, 0.003)
    pool.ask(pool.write())
    pool.ask(pool.write())
    assert pool.reserved() == [one, two]
    pool.scheduler.remove(one.driver)
    assert (one.gone, one.reserved, pool.reserved()) == (True, False, [two])
    three = pool.open()
    assert pool.reserved() == [two, three]
    pool.scheduler.drain(two.driver)
    assert pool.reserved() == [three]


# First come, first served


def test_leases_writes_and_reads_are_served_in_the_order_of_arrival() -> None:
    pool = Pool(1)
    (one,) = pool.occupy(None)
    claims = [pool.read(), pool.lease(), pool.write(), pool.read()]
    for claim in claims:
        assert pool.ask(claim) is None
    assert pool.scheduler.claims() == claims
    assert pool.reply(one) == [claims[0]]
    assert pool.reply(one) == [claims[1]]
    claims[1].finish()
    pool.scheduler.lease(one)
    assert pool.serve(one) == []
    pool.scheduler.give_back(one)
    assert pool.serve(one) == [claims[2]]
    # The last one is a read, which goes behind the write.
    assert pool.serve(one) == [claims[3]]


@pytest.mark.parametrize("kind", ["read", "write", "lease"])
def test_no_claim_overtakes_those_that_wait(kind: str) -> None:
    """A connection may be idle for a moment before it is given to them."""
    pool = Pool(1)
    (one,) = pool.occupy(None)
    waits = getattr(pool, kind)()
    pool.ask(waits)
    next(iter(one.work)).finish()
    for late in (pool.read(), pool.write()):
        assert pool.ask(late) is None
    assert pool.serve(one)[0] is waits


def test_a_claim_that_is_put_back_keeps_its_place() -> None:
    pool = Pool(2)
    one, two = pool.occupy(None, None)
    first, second, third = pool.write(), pool.write(), pool.write()
    for claim in (first, second, third):
        pool.ask(claim)
    assert pool.reply(two) == [first]
    pool.scheduler.repeat(first, pool.now)
    assert first.work is None
    assert list(pool.scheduler.alone) == [first, second, third]
    assert pool.serve(two) == [first]
    assert pool.reply(one) == [second]
    pool.scheduler.repeat(second, pool.now)
    pool.scheduler.repeat(first, pool.now)
    assert list(pool.scheduler.alone) == [first, second, third]
    assert len(pool.reserved()) == 2


def test_reads_that_are_put_back_keep_their_order() -> None:
    pool = Pool(1)
    (one,) = pool.connections
    reads = [pool.read() for _ in range(7)]
    for read in reads:
        pool.ask(read)
    in_flight = list(one.work)
    assert in_flight == reads[:6]
    for read in (reads[4], reads[2], reads[5]):
        pool.scheduler.repeat(read, pool.now)
    assert list(pool.scheduler.pipelined) == [reads[2], reads[4], reads[5], reads[6]]
    assert pool.serve(one)[0] is reads[2]


def test_a_claim_lets_reads_go_first_that_came_before_it_and_stand_behind_a_head() -> None:
    """One of them may be what the caller of this claim waits for: they must not be left without any connection."""
    pool = Pool(2)
    one, two = pool.occupy(0.001, 0.002)
    assert pool.ask(pool.read()) is one
    write = pool.write()
    assert pool.ask(write) is None
    assert pool.reply(two) == []
    assert pool.scheduler.holds_back
    # Neither does a read that comes later get it, unless it is within the budget elsewhere.
    assert pool.ask(pool.read()) is one
    # The read that came first has an answer ahead of it now, and is the head.
    assert pool.reply(one) == []
    assert pool.serve(two) == [write]
    assert not pool.scheduler.holds_back


def test_a_read_that_is_asked_again_is_served_before_a_claim_that_came_later() -> None:
    pool = Pool(2)
    one, two = pool.occupy(0.001, 0.002)
    read, write = pool.read(), pool.write()
    assert pool.ask(read) is one
    assert pool.ask(write) is None
    assert pool.reply(two) == []
    pool.now = 0.01
    assert pool.scheduler.overrunning(pool.now) == [one]
    pool.scheduler.mark_overrun(one)
    repetition = pool.read()
    repetition.ticket, repetition.pipelined = read.ticket, False
    repetition.asked_twice = read.asked_twice = True
    pool.scheduler.repeat(repetition, pool.now)
    assert pool.serve(two) == [repetition]
    assert pool.reply(two) == [write]


@pytest.mark.parametrize("kind", ["read", "write", "lease"])
def test_a_lease_is_out_of_the_sharing_until_it_is_given_back(kind: str) -> None:
    pool = Pool(1)
    (one,) = pool.connections
    pool.scheduler.lease(one)
    assert (pool.scheduler.leases(), pool.scheduler.idle_size()) == (1, 0)
    claim = getattr(pool, kind)()
    assert pool.ask(claim) is None
    assert pool.reserved() == []
    pool.scheduler.give_back(one)
    assert len(pool.reserved()) == (kind != "read")
    assert pool.serve(one) == [claim]
    assert pool.scheduler.leases() == 0


# Reads that give way


def test_a_read_that_overruns_gives_way_to_a_claim_that_came_before_it() -> None:
    """Reads that wait for a lock must not keep all connections from a claim that came before them."""
    pool = Pool(2)
    one, two = pool.occupy(0.001, 0.002)
    write = pool.write()
    pool.ask(write)
    read = pool.read()
    assert pool.reserved() == [one]
    assert pool.ask(read) is two
    pool.now = 0.002
    assert pool.reply(two) == []
    pool.now = 0.02
    for pooled in pool.scheduler.overrunning(pool.now):
        pool.scheduler.mark_overrun(pooled)
    assert pool.scheduler.to_preempt() == [read]
    # Once it is being cancelled nothing else has to be.
    two.blocked = True
    assert pool.scheduler.to_preempt() == []


def test_no_read_gives_way_to_a_claim_that_came_after_it() -> None:
    pool = Pool(1)
    (one,) = pool.connections
    assert pool.ask(pool.read()) is one
    pool.ask(pool.write())
    pool.now = 1.0
    pool.scheduler.mark_overrun(one)
    assert pool.scheduler.to_preempt() == []


# Opening


def test_wanted_keeps_min_size_and_serves_the_wait_queue() -> None:
    pool = Pool(min_size=2, max_size=4)
    scheduler = pool.scheduler
    # While there is none the first is opened alone: if it fails, it fails once.
    assert scheduler.wanted() == 1
    opening = scheduler.begin_opening()
    assert scheduler.wanted() == 0
    scheduler.end_opening(opening)
    scheduler.end_opening(opening)
    one = pool.open()
    assert scheduler.wanted() == 1
    two = pool.open()
    assert scheduler.wanted() == 0
    pool.occupy(None, None)
    for _ in range(5):
        pool.ask(pool.lease())
    assert scheduler.wanted() == 2
    assert scheduler.can_grow
    # One that is draining counts until it is gone, but not towards those that are kept.
    scheduler.drain(one.driver)
    assert scheduler.wanted() == 2
    for _ in range(2):
        scheduler.begin_opening()
    assert scheduler.wanted() == 0
    assert not scheduler.can_grow
    assert scheduler.remove(one.driver) is None
    assert scheduler.can_grow
    assert scheduler.wanted() == 1
    assert scheduler.remove(two.driver) is two


def test_at_most_one_connection_is_opened_for_each_waiter() -> None:
    pool = Pool(1, max_size=10)
    pool.occupy(None)
    assert pool.scheduler.wanted() == 0
    pool.ask(pool.read())
    pool.ask(pool.write())
    assert pool.scheduler.wanted() == 2
    openings = [pool.scheduler.begin_opening() for _ in range(2)]
    assert pool.scheduler.wanted() == 0
    pool.scheduler.end_opening(openings[0])
    assert pool.scheduler.wanted() == 1


def test_an_attempt_that_gets_no_answer_holds_up_no_other() -> None:
    pool = Pool(1, max_size=2)
    pool.occupy(None)
    pool.ask(pool.write())
    opening = pool.scheduler.begin_opening()
    assert (pool.scheduler.wanted(), pool.scheduler.can_grow) == (0, False)
    pool.scheduler.mark_stalled(opening)
    assert (pool.scheduler.wanted(), pool.scheduler.can_grow) == (1, True)
    pool.open()
    # There is no place for the slow one any more.
    assert not pool.scheduler.has_capacity()
    pool.scheduler.end_opening(opening)
    assert len(pool.scheduler.opening) == 0


def test_only_one_attempt_without_an_answer_is_left_out_of_account() -> None:
    pool = Pool(1, max_size=2)
    pool.occupy(None)
    pool.ask(pool.write())
    for more in (1, 0):
        pool.scheduler.mark_stalled(pool.scheduler.begin_opening())
        assert pool.scheduler.wanted() == more


def test_attempts_are_further_and_further_apart() -> None:
    pool = Pool(min_size=3)
    scheduler = pool.scheduler
    delays = []
    for _ in range(9):
        delays.append(scheduler.failed(OSError("no"), 0.0))
        # Others that fail at the same time make it no longer, and nothing is tried meanwhile.
        assert scheduler.failed(OSError("no"), 0.0) == 0
        assert scheduler.wanted() == 0
        assert not scheduler.can_grow
        scheduler.end_back_off()
        # Then one is tried at a time.
        assert scheduler.wanted() == 1
    # Chance takes off half of it every other time here, and nothing otherwise.
    exact = [min(scheduling.FIRST_DELAY * 2**i, scheduling.LONGEST_DELAY) for i in range(9)]
    assert delays == [delay / 2 if i % 2 == 0 else delay for i, delay in enumerate(exact)]
    pool.open()
    assert (scheduler.failures, scheduler.last_error) == (0, None)
    assert scheduler.wanted() == 2


def test_with_several_hosts_no_pause_is_longer_than_a_second() -> None:
    scheduler = Pool(min_size=3).scheduler
    delays = []
    for _ in range(9):
        delays.append(scheduler.failed(OSError("no"), 0.0, several_hosts=True))
        scheduler.end_back_off()
    assert max(delays) == 1


def test_a_connection_whose_server_has_another_role_is_replaced_at_the_end_of_its_lease() -> None:
    pool = Pool()
    pooled = pool.open()
    assert pool.scheduler.expired(pooled, 0.0) is None
    pooled.misfit = True
    assert pool.scheduler.expired(pooled, 0.0) == "role_changed"


# Callers that cannot be served


def test_all_waiters_fail_at_once_with_an_error_that_time_does_not_mend() -> None:
    pool = Pool()
    claims = [pool.read(), pool.write(), pool.lease()]
    claims[1].limited = True
    for claim in claims:
        pool.ask(claim)
    pool.scheduler.failed(exceptions.InvalidPasswordError("no"), 0.0)
    assert pool.scheduler.claims_to_fail(0.0, 60.0) == claims
    assert pool.scheduler.waiting == 0
    assert not any(claim.waits for claim in claims)


def test_waiters_without_a_time_limit_fail_after_their_patience_if_time_may_mend_the_error() -> None:
    pool = Pool()
    early, limited = pool.write(), pool.write()
    limited.limited = True
    pool.ask(early)
    pool.ask(limited)
    pool.scheduler.failed(ConnectionRefusedError(), 5.0)
    # Only the time of the outage counts.
    assert pool.scheduler.claims_to_fail(14.9, 10.0) == []
    pool.now = 8.0
    late = pool.read()
    pool.ask(late)
    pool.scheduler.failed(ConnectionRefusedError(), 9.0)
    assert pool.scheduler.claims_to_fail(15.0, 10.0) == [early]
    assert pool.scheduler.claims_to_fail(18.0, 10.0) == [late]
    assert pool.scheduler.claims() == [limited]


def test_nobody_fails_while_there_are_connections() -> None:
    pool = Pool(1)
    pool.occupy(None)
    pool.ask(pool.write())
    pool.scheduler.failed(exceptions.InvalidPasswordError("no"), 0.0)
    assert pool.scheduler.claims_to_fail(1000.0, 1.0) == []


@pytest.mark.parametrize(
    ("error", "mends"),
    [
        (ConnectionRefusedError(), True),
        (TimeoutError(), True),
        (exceptions.ConnectionDoesNotExistError("gone"), True),
        (exceptions.TooManyConnectionsError("53300"), True),
        (exceptions.CannotConnectNowError("57P03"), True),
        (exceptions.AdminShutdownError("57P01"), True),
        (exceptions.TargetServerAttributeNotMatched("no primary"), True),
        (exceptions.InvalidPasswordError("28P01"), False),
        (exceptions.InvalidAuthorizationSpecificationError("28000"), False),
        (exceptions.InvalidCatalogNameError("3D000"), False),
        (exceptions.InsufficientPrivilegeError("42501"), False),
        (ssl.SSLCertVerificationError(1, "self-signed"), False),
        (ValueError("a callback of the program"), False),
    ],
)
def test_errors_that_time_may_mend(error: BaseException, *, mends: bool) -> None:
    assert is_transient(error) is mends


def test_each_caller_gets_an_error_of_its_own() -> None:
    """A caller may add notes to it, or raise it from something."""
    error = OSError("no")
    error.__cause__ = cause = ValueError()
    error.add_note("a note")
    one, two = copy_of(error), copy_of(error)
    one.add_note("another note")
    assert (one.__notes__, two.__notes__, error.__notes__) == (["a note", "another note"], ["a note"], ["a note"])
    assert one.__cause__ is two.__cause__ is cause


def test_an_error_that_cannot_be_copied_is_shared() -> None:
    class Particular(Exception):
        def __init__(self, one: str, two: str) -> None:
            super().__init__(one + two)

    class Forgetful(Exception):
        def __reduce__(self) -> Any:
            return Forgetful, ()

    for error in (Particular("a", "b"), Forgetful("a")):
        assert copy_of(error) is error


# Going


def test_idle_connections_go_down_to_min_size_longest_idle_first() -> None:
    pool = Pool(3, min_size=1, idle_lifetime=20.0)
    one, two, three = pool.connections
    assert pool.sweep(5) == {}
    two.work.replied_at = 10.0
    assert pool.sweep(19.9) == {}
    assert pool.sweep(20) == {one: Reason.IDLE, three: Reason.IDLE}
    assert pool.sweep(1000) == {}
    assert list(pool.scheduler.connections.values()) == [two]


def test_a_connection_that_is_at_work_or_leased_is_not_idle() -> None:
    pool = Pool(2, idle_lifetime=10.0)
    (busy,) = pool.occupy(QUICK)
    leased = pool.connections[1]
    pool.scheduler.lease(leased)
    for now in range(0, 100, 10):
        assert pool.sweep(now) == {}
    pool.now = 100
    pool.reply(busy)
    assert pool.sweep(109.9) == {}
    assert pool.sweep(110) == {busy: Reason.IDLE}


def test_lifetimes_are_jittered_and_end_at_work_too() -> None:
    pool = Pool(2, max_lifetime=100.0)
    early, late = pool.connections
    assert (early.retire_at, late.retire_at) == (90, 100)
    assert pool.occupy(QUICK) == [early]
    assert pool.sweep(89.9) == {}
    assert pool.sweep(90) == {early: Reason.MAX_LIFETIME}
    # A leased one goes when it is given back.
    pool.scheduler.lease(late)
    assert pool.sweep(200) == {}
    assert pool.scheduler.expired(late, 200) is Reason.MAX_LIFETIME


def test_connections_expire_by_queries_by_their_session_and_by_generation() -> None:
    pool = Pool(3, max_queries=3)
    one, two, three = pool.connections
    pool.occupy(QUICK)
    one.driver.request_count = 3
    three.not_resettable = True
    assert pool.scheduler.expired(one, 0) is Reason.MAX_QUERIES
    assert pool.scheduler.expired(two, 0) is None
    assert pool.scheduler.expired(three, 0) is Reason.NOT_RESETTABLE
    # Those at work are looked at again when they are done.
    assert pool.sweep(0) == {three: Reason.NOT_RESETTABLE}
    pool.reply(one)
    assert pool.sweep(0) == {one: Reason.MAX_QUERIES}
    assert pool.scheduler.next_generation(1) == [two]
    assert pool.scheduler.expired(two, 1) is Reason.GENERATION_RETIRED
    assert pool.scheduler.expired(pool.open(), 1) is None


def test_a_connection_that_was_being_opened_belongs_to_the_former_generation() -> None:
    pool = Pool()
    opening = pool.scheduler.begin_opening()
    pool.scheduler.next_generation(0)
    assert pool.scheduler.expired(pool.open(opening), 0) is Reason.GENERATION_RETIRED


@pytest.mark.parametrize(
    ("limits", "interval"),
    [
        (Limits(0, 1), scheduling.PING_AFTER / 4),
        (Limits(0, 1, idle_lifetime=2), 0.5),
        (Limits(0, 1, max_lifetime=1, idle_lifetime=300), 0.25),
    ],
)
def test_sweeps_are_as_frequent_as_the_shortest_time_needs(limits: Limits, interval: float) -> None:
    assert limits.sweep_interval() == interval


def test_a_connection_that_is_being_reset_cannot_be_judged_by_its_status() -> None:
    pool = Pool(1)
    (one,) = pool.connections
    one.driver.request_count = one.driver.pending = one.reset_at = 3
    assert not one.is_reset
    one.driver.request_count = 4
    one.driver.pending = 2
    assert not one.is_reset
    one.driver.pending = 1
    assert one.is_reset


# Errors that will affect all of a generation


def test_a_second_shutdown_within_a_second_retires_the_generation() -> None:
    """One session alone may have been terminated by hand."""
    pool = Pool(4)
    one, two, three, four = pool.connections
    assert not pool.scheduler.retires_generation(one, "57P01", 10.0)
    assert not pool.scheduler.retires_generation(two, "57P01", 11.1)
    assert pool.scheduler.retires_generation(three, "57P01", 12.0)
    pool.scheduler.next_generation(12.0)
    assert not pool.scheduler.retires_generation(four, "57P01", 20.0)
    assert not pool.scheduler.retires_generation(four, "57P01", 20.1)


@pytest.mark.parametrize("sqlstate", ["57P02", "57P03"])
def test_a_crash_retires_a_generation_once(sqlstate: str) -> None:
    pool = Pool(1)
    (one,) = pool.connections
    assert pool.scheduler.retires_generation(one, sqlstate, 10)
    pool.scheduler.next_generation(10)
    assert not pool.scheduler.retires_generation(one, sqlstate, 20)
    two = pool.open()
    assert not pool.scheduler.retires_generation(two, sqlstate, 10 + scheduling.GENERATION_PAUSE / 2)
    assert pool.scheduler.retires_generation(two, sqlstate, 10 + scheduling.GENERATION_PAUSE)


@pytest.mark.parametrize("sqlstate", [None, "57014", "57P05", "40001", "XX000"])
def test_other_ends_say_nothing_of_the_others(sqlstate: str | None) -> None:
    pool = Pool(1)
    for now in (10, 10.1):
        assert not pool.scheduler.retires_generation(pool.connections[0], sqlstate, now)


@pytest.mark.parametrize(
    ("parameters", "retires"),
    [
        ({}, False),
        ({"in_hot_standby": "on"}, True),
        ({"default_transaction_read_only": "on"}, True),
    ],
)
def test_a_refusal_to_write_retires_a_generation_of_a_read_only_server(
    parameters: dict[str, str], *, retires: bool
) -> None:
    """The transaction alone may be read-only, by its own wish: that says nothing of the server."""
    pool = Pool()
    assert pool.scheduler.retires_generation(pool.open(None, **parameters), "25006", 10) is retires


def test_a_refusal_by_a_server_that_does_not_say_whether_it_is_read_only_retires_its_generation() -> None:
    pool = Pool()
    pooled = pool.open()
    pooled.driver.session.parameters.clear()
    assert pool.scheduler.retires_generation(pooled, "25006", 10)


def test_nothing_is_assigned_to_the_connections_of_a_generation_that_is_retired() -> None:
    """They are retired one by one, and each time the claims that wait are served."""
    pool = Pool(3)
    one, *others = pool.connections
    assert pool.scheduler.next_generation(1) == [one, *others]
    read, write = pool.read(), pool.write()
    assert pool.ask(read) is None
    assert pool.ask(write) is None
    pool.scheduler.drain(one.driver)
    assert [pool.serve(pooled) for pooled in pool.scheduler.available] == []
    assert pool.scheduler.claims() == [read, write]
    assert pool.scheduler.reserved == 0
    new = pool.open()
    assert pool.serve(new) == [read]


# Calls whose connection has ended


def lost(
    pool: Pool, claim: Claim, pooled: PooledConnection, sqlstate: str | None = None, *, started: bool = True
) -> bool:
    """The connection of a claim ends; returns whether the claim waits for another one."""
    again = pool.scheduler.may_be_sent_again(claim, pooled, sqlstate, started, pool.now)
    if again:
        pool.scheduler.repeat(claim, pool.now)
    pool.scheduler.remove(pooled.driver)
    return again


def sent(pool: Pool, claim: Claim) -> PooledConnection:
    pooled = next(pooled for pooled in pool.scheduler.available if not pooled.work.count)
    assert pool.serve(pooled) == [claim]
    return pooled


@pytest.mark.parametrize("sqlstate", [None, "57P01", "XX000"])
def test_a_write_is_sent_again_only_if_it_was_not_started(sqlstate: str | None) -> None:
    pool = Pool(10)
    write = pool.write()
    pooled = pool.ask(write)
    for _ in range(3):
        assert pooled is not None
        assert lost(pool, write, pooled, sqlstate, started=False)
        pooled = sent(pool, write)
    assert pooled is not None
    assert not lost(pool, write, pooled, sqlstate, started=False)
    other = pool.write()
    pooled = pool.ask(other)
    assert pooled is not None
    assert not lost(pool, other, pooled, sqlstate)


@pytest.mark.parametrize("sqlstate", [None, "XX000", "57P05"])
def test_a_read_that_may_have_ended_two_connections_fails(sqlstate: str | None) -> None:
    pool = Pool(1)
    read = pool.read()
    pooled = pool.ask(read)
    assert pooled is not None
    pool.now = 1.0
    assert lost(pool, read, pooled, sqlstate)
    pool.now = 2.0
    pooled = pool.open()
    assert pool.serve(pooled) == [read]
    assert not lost(pool, read, pooled, sqlstate)
    assert not pooled.ends_generation
    assert (read.starts, read.suspected, read.moves) == (2, 2, 0)


def test_a_read_that_connections_of_one_generation_have_lost_waits_for_the_next() -> None:
    """All of them may end with their host, so the second one is no new suspicion."""
    pool = Pool(5)
    read = pool.read()
    pooled = pool.ask(read)
    assert pooled is not None
    pool.now = 1.0
    assert lost(pool, read, pooled)
    assert not pool.scheduler.retires_generation(pooled, None, pool.now)
    pooled = sent(pool, read)
    assert lost(pool, read, pooled)
    # Even if the generation is young.
    assert pool.scheduler.retires_generation(pooled, None, pool.now)
    pool.scheduler.next_generation(pool.now)
    assert pool.scheduler.claims() == [read]
    pool.now = 2.0
    new = pool.open()
    assert pool.serve(new) == [read]
    assert (read.starts, read.suspected) == (2, 1)
    assert not lost(pool, read, new)


def test_a_read_is_started_three_times_at_most() -> None:
    pool = Pool(5)
    read = pool.read()
    pooled = pool.ask(read)
    for ends_generation in (False, True):
        assert pooled is not None
        assert lost(pool, read, pooled, "57P01")
        # Or it would be started for the last time on a connection that ends for the same reason.
        assert pooled.ends_generation is ends_generation
        pooled = sent(pool, read)
    assert pooled is not None
    assert read.suspected == 0
    assert not lost(pool, read, pooled, "57P01")


def test_a_suspected_read_is_sent_behind_no_other() -> None:
    """Those behind one that ends connections are suspected with it, and would fail with it the next time."""
    pool = Pool(1)
    ends_connections, behind = pool.read(), pool.read()
    pooled = pool.ask(ends_connections)
    assert pooled is not None
    assert pool.ask(behind) is pooled
    pool.now = 1.0
    assert lost(pool, ends_connections, pooled)
    assert lost(pool, behind, pooled)
    one, two = pool.open(), pool.open()
    assert pool.serve(one) == [ends_connections]
    assert pool.serve(one) == []
    assert pool.serve(two) == [behind]
    # A read that was not suspected may be sent behind it.
    assert pool.ask(pool.read()) in (one, two)


def test_a_server_that_is_starting_up_or_shutting_down_retires_the_generation() -> None:
    pool = Pool()
    refusal = exceptions.CannotConnectNowError("the database system is shutting down")
    assert not pool.scheduler.refusal_retires(refusal, 10)
    pool.open()
    assert pool.scheduler.refusal_retires(refusal, 10)
    assert not pool.scheduler.refusal_retires(exceptions.TooManyConnectionsError("too many"), 10)
    pool.scheduler.next_generation(10)
    assert not pool.scheduler.refusal_retires(refusal, 10.5)


def test_a_refused_connection_right_after_a_shutdown_retires_the_generation() -> None:
    pool = Pool(1)
    refusal = ConnectionRefusedError()
    assert not pool.scheduler.refusal_retires(refusal, 10)
    assert not pool.scheduler.retires_generation(pool.connections[0], "57P01", 10)
    assert pool.scheduler.refusal_retires(refusal, 12)
    assert not pool.scheduler.refusal_retires(refusal, 10.1 + scheduling.LONGEST_DELAY)
