"""What a pool decides: who gets which connection, which ones come and go. No server, no loop, no clock."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from headrace._core.codecs.typemap import TypeMap
from headrace._core.request import Script
from headrace._core.session import Session
from headrace.driver import Driver
from headrace.pool import routing
from headrace.pool.routing import Limits, Member, Opening, Reason, Router, twin
from headrace.pool.stats import Counts, Histogram


class Ends:
    """What `random.uniform` may give: its ends, in turn."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, low: float, high: float) -> float:
        self.calls += 1
        return low if self.calls % 2 else high


class Waiter:
    """A future without a loop."""

    def __init__(self) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self.cancelled = False

    def done(self) -> bool:
        return self.cancelled or self.result is not None or self.error is not None

    def set_result(self, value: object) -> None:
        assert not self.done()
        self.result = value

    def set_exception(self, error: BaseException) -> None:
        assert not self.done()
        self.error = error


class Pool:
    """A router under test: connections are opened by `open()`, and do nothing."""

    def __init__(self, **limits: Any) -> None:
        self.router = Router(Limits(**{"min_size": 0, "max_size": 10, **limits}), 0.0, Ends())

    def open(self, opening: Opening | None = None, **parameters: str) -> Member:
        loop: Any = None
        driver = Driver(loop, Session(TypeMap()))
        driver.session.parameters.update(
            {"in_hot_standby": "off", "default_transaction_read_only": "off", **parameters}
        )
        connection: Any = SimpleNamespace(_driver=driver)
        return self.router.add(connection, opening or self.router.begin_opening(), 0.0)

    def wait(self, *, lease: bool) -> Waiter:
        waiter = Waiter()
        self.router.line.append((waiter, lease))  # type: ignore[arg-type]
        return waiter

    def sweep(self, now: float) -> dict[Member, Reason]:
        """Sweep, and retire what is to be retired as the pool does."""
        going = dict(self.router.sweep(now))
        for member in going:
            self.router.leave(member.driver)
            self.router.remove(member.driver)
        return going


def work(member: Member, count: int = 1) -> None:
    """Give a connection that many requests, which stay queued."""
    for _ in range(count):
        member.driver.session.submit(Script(None, "SELECT 1"))


def rest(member: Member) -> None:
    """Have a connection's requests be done."""
    session = member.driver.session
    while session.wants_output():
        session.take_output()
    while session.sent.count:
        session.feed(b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I")


# Who is served


def test_sharing_goes_to_the_connection_with_least_to_do() -> None:
    pool = Pool()
    assert pool.router.share() is None
    one, two = pool.open(), pool.open()
    work(one, 2)
    work(two, 1)
    assert pool.router.share() is two.driver
    work(two, 2)
    assert pool.router.share() is one.driver


def test_a_lease_is_out_of_the_sharing_until_it_is_given_back() -> None:
    pool = Pool()
    one = pool.open()
    assert pool.router.lease() is one
    assert pool.router.leases() == 1
    assert pool.router.share() is None
    assert pool.router.lease() is None
    pool.router.give_back(one)
    assert pool.router.leases() == 0
    assert pool.router.share() is one.driver


def test_the_line_is_served_in_order() -> None:
    pool = Pool()
    first, second, gone, third = (pool.wait(lease=lease) for lease in (False, True, True, False))
    gone.cancelled = True
    one = pool.open()
    pool.router.serve_line()
    # The first shares it, the second has it for himself, the third waits until it is given back.
    assert (first.result, second.result, third.result) == (one.driver, one.driver, None)
    assert pool.router.waiting() == 1
    pool.router.give_back(one)
    pool.router.serve_line()
    assert third.result is one.driver
    assert pool.router.waiting() == 0


def test_what_is_not_reset_yet_cannot_be_judged() -> None:
    pool = Pool()
    one = pool.open()
    work(one, 3)
    one.reset_at = one.driver.asked
    assert not one.is_reset
    work(one, 1)
    rest(one)
    assert one.is_reset


# Opening


def test_wanted_keeps_min_size_and_serves_the_line() -> None:
    pool = Pool(min_size=2, max_size=4)
    router = pool.router
    # Where there is none yet the first is opened alone: if it fails, it fails once.
    assert router.wanted() == 1
    opening = router.begin_opening()
    assert router.wanted() == 0
    router.end_opening(opening)
    router.end_opening(opening)
    one = pool.open()
    assert router.wanted() == 1
    pool.open()
    assert router.wanted() == 0
    for _ in range(5):
        pool.wait(lease=True)
    assert router.wanted() == 2
    assert router.room
    # One that is leaving counts until it is gone, but not towards those that are kept.
    router.leave(one.driver)
    assert router.wanted() == 2
    for _ in range(2):
        router.begin_opening()
    assert router.wanted() == 0
    assert not router.room
    router.remove(one.driver)
    assert router.room
    assert router.wanted() == 1


def test_a_failure_with_nobody_to_come_back_fails_all_in_line() -> None:
    pool = Pool(min_size=1)
    waiters = [pool.wait(lease=True) for _ in range(3)]
    error = OSError(111, "no")
    error.add_note("what became of each address")
    assert pool.router.failed(error) > 0
    errors = [waiter.error for waiter in waiters]
    assert [(type(each), each.args) for each in errors if each] == [(type(error), (111, "no"))] * 3


def test_everybody_in_line_gets_an_error_of_his_own() -> None:
    """One may add notes to his, or raise it from something."""
    error = OSError("no")
    error.__cause__ = cause = ValueError()
    error.add_note("a note")
    one, two = twin(error), twin(error)
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
        assert twin(error) is error


def test_a_failure_with_others_leased_fails_the_first_in_line() -> None:
    """The others get what is given back; were it never, each next attempt would tell one more of them."""
    pool = Pool()
    pool.open()
    pool.router.lease()
    first, second = pool.wait(lease=True), pool.wait(lease=True)
    pool.router.failed(OSError("no"))
    assert first.done()
    assert not second.done()


def test_attempts_are_further_and_further_apart() -> None:
    pool = Pool(min_size=3)
    router = pool.router
    delays = []
    for _ in range(9):
        delays.append(router.failed(OSError("no")))
        # Others that fail at the same time make it no longer, and nothing is tried meanwhile.
        assert router.failed(OSError("no")) == 0
        assert router.wanted() == 0
        assert not router.room
        router.end_rest()
        # Then one is tried at a time.
        assert router.wanted() == 1
    # Chance takes off half of it every other time here, and nothing otherwise.
    exact = [min(routing.FIRST_DELAY * 2**i, routing.LONGEST_DELAY) for i in range(9)]
    assert delays == [delay / 2 if i % 2 == 0 else delay for i, delay in enumerate(exact)]
    pool.open()
    assert router.failures == 0
    assert router.wanted() == 2
    router.begin_opening()
    assert router.wanted() == 1


# Going


def test_idle_connections_go_down_to_min_size_longest_idle_first() -> None:
    pool = Pool(min_size=1, idle_lifetime=20.0)
    one, two, three = (pool.open() for _ in range(3))
    assert pool.sweep(5) == {}
    work(two)
    rest(two)
    assert pool.sweep(10) == {}
    assert pool.sweep(24.9) == {}
    assert pool.sweep(25) == {one: Reason.IDLE, three: Reason.IDLE}
    assert pool.sweep(1000) == {}
    assert list(pool.router.members.values()) == [two]


def test_what_is_at_work_or_leased_is_not_idle() -> None:
    pool = Pool(idle_lifetime=10.0)
    busy, leased = pool.open(), pool.open()
    work(busy)
    pool.router.lease()
    assert leased.leased
    for now in range(0, 100, 10):
        assert pool.sweep(now) == {}
    rest(busy)
    assert pool.sweep(100) == {}
    assert pool.sweep(110) == {busy: Reason.IDLE}


def test_lifetimes_are_jittered_and_end_at_work_too() -> None:
    pool = Pool(max_lifetime=100.0)
    early, late = pool.open(), pool.open()
    assert (early.retire_at, late.retire_at) == (90, 100)
    work(early)
    assert pool.sweep(89.9) == {}
    assert pool.sweep(90) == {early: Reason.AGE}
    # A leased one goes when it is given back.
    assert pool.router.lease() is late
    assert pool.sweep(200) == {}
    assert pool.router.outworn(late, 200) is Reason.AGE


def test_max_queries_and_expired_generations() -> None:
    pool = Pool(max_queries=3)
    one, two = pool.open(), pool.open()
    work(one, 3)
    assert pool.router.outworn(one, 0) is Reason.QUERIES
    assert pool.router.outworn(two, 0) is None
    # Those at work are looked at again when they are done.
    assert pool.sweep(0) == {}
    rest(one)
    assert pool.sweep(0) == {one: Reason.QUERIES}
    assert pool.router.next_generation(1) == [two]
    assert pool.router.outworn(two, 1) is Reason.GENERATION
    assert pool.router.outworn(pool.open(), 1) is None


def test_one_that_was_being_opened_belongs_to_the_former_generation() -> None:
    pool = Pool()
    opening = pool.router.begin_opening()
    pool.router.next_generation(0)
    assert pool.router.outworn(pool.open(opening), 0) is Reason.GENERATION


@pytest.mark.parametrize(
    ("limits", "interval"),
    [
        (Limits(0, 1), routing.PING_AFTER / 4),
        (Limits(0, 1, idle_lifetime=2), 0.5),
        (Limits(0, 1, max_lifetime=1, idle_lifetime=300), 0.25),
    ],
)
def test_sweeps_are_as_frequent_as_the_shortest_time_needs(limits: Limits, interval: float) -> None:
    assert limits.sweep_interval() == interval


# Asleep


def test_what_lies_idle_becomes_dormant_and_is_woken_last_used_first() -> None:
    pool = Pool(min_size=3)
    router = pool.router
    members = [pool.open() for _ in range(3)]
    pool.sweep(0)
    assert pool.sweep(routing.PING_AFTER - 1) == {}
    assert len(router.free) == 3
    assert pool.sweep(routing.PING_AFTER) == {}
    assert router.free == []
    assert router.share() is None
    assert router.relief
    assert router.wake() is members[2].driver
    assert router.share() is members[2].driver
    # Rather than one at work, a lease takes a dormant one, and is told to ask it for a sign of life.
    work(members[2])
    lease = router.lease()
    assert lease is members[1]
    assert lease.unsure
    rest(members[2])
    lease = router.lease()
    assert lease is members[2]
    assert not lease.unsure
    lease = router.lease()
    assert lease is members[0]
    assert lease.unsure
    assert router.wake() is None


def test_dormant_ones_age_and_go_as_the_others_do() -> None:
    pool = Pool(idle_lifetime=100.0)
    one = pool.open()
    pool.sweep(0)
    pool.sweep(50)
    assert pool.router.dormant == [one.driver]
    assert pool.router.relief
    assert pool.sweep(100) == {one: Reason.IDLE}
    assert pool.router.dormant == []


# What tells against all of a generation


@pytest.mark.parametrize("sqlstate", ["57P01", "57P02", "57P03"])
def test_a_shutdown_condemns_a_generation_once(sqlstate: str) -> None:
    pool = Pool()
    one = pool.open()
    assert pool.router.condemns(one, sqlstate, 10)
    pool.router.next_generation(10)
    assert not pool.router.condemns(one, sqlstate, 20)
    two = pool.open()
    assert not pool.router.condemns(two, sqlstate, 10 + routing.GENERATION_PAUSE / 2)
    assert pool.router.condemns(two, sqlstate, 10 + routing.GENERATION_PAUSE)


@pytest.mark.parametrize("sqlstate", [None, "57014", "57P05", "40001", "XX000"])
def test_other_ends_say_nothing_of_the_others(sqlstate: str | None) -> None:
    pool = Pool()
    assert not pool.router.condemns(pool.open(), sqlstate, 10)


@pytest.mark.parametrize(
    ("parameters", "condemned"),
    [
        ({}, False),
        ({"in_hot_standby": "on"}, True),
        ({"default_transaction_read_only": "on"}, True),
    ],
)
def test_a_refusal_to_write_condemns_where_the_server_is_read_only(parameters: dict[str, str], condemned: bool) -> None:
    """The transaction alone may be read-only, by its own wish: that says nothing of the server."""
    pool = Pool()
    assert pool.router.condemns(pool.open(None, **parameters), "25006", 10) is condemned


def test_a_refusal_by_a_server_that_does_not_say_what_it_is_condemns() -> None:
    pool = Pool()
    member = pool.open()
    member.driver.session.parameters.clear()
    assert pool.router.condemns(member, "25006", 10)


# Counting


def test_stats_say_where_everybody_is() -> None:
    pool = Pool(min_size=2, max_size=7)
    idle, busy, leased, leaving = (pool.open() for _ in range(4))
    work(busy, 3)
    busy.driver.session.take_output()
    work(busy, 2)
    for driver in (idle.driver, busy.driver, leaving.driver):
        pool.router.free.remove(driver)
    pool.router.lease()
    pool.router.free.extend([idle.driver, busy.driver, leaving.driver])
    pool.router.leave(leaving.driver)
    pool.router.begin_opening()
    pool.wait(lease=True)
    counts = Counts(leases=5, opened=6, failed=1)
    counts.closed[Reason.QUARANTINED] += 2
    for seconds in (0.001, 0.0011, 3.0, 99.0):
        counts.waited(seconds)
    stats = counts.stats(pool.router)
    assert leased.leased
    assert (stats.size, stats.idle, stats.leased, stats.leaving, stats.opening) == (3, 1, 1, 1, 1)
    assert (stats.in_flight, stats.queued, stats.waiting) == (3, 2, 1)
    assert (stats.min_size, stats.max_size) == (2, 7)
    assert (stats.leases, stats.opened, stats.failed, stats.leaked) == (5, 6, 1, 0)
    assert stats.closed == {"quarantined": 2}
    assert stats.quarantined == 2
    assert stats.waits.count == 4
    assert stats.waits.total == pytest.approx(102.0021)
    assert stats.waits.counts[:2] == (1, 1)
    assert stats.waits.counts[-1] == 1
    assert Histogram((1.0,), (2, 3), 9.0).count == 5
