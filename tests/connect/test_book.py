"""A pool's knowledge of its hosts: the order of the next attempt, and an even share for each. It does no I/O."""

from __future__ import annotations

import random

from headrace._connect.hosts import REMEMBERED, HostBook, HostChoice, Place, current_choice
from headrace._connect.params.address import Address

A, B, C = (Address(name, None, 5432) for name in "abc")


def at(address: Address, number: int = 1) -> Place:
    return address, (f"127.0.0.{number}", address.port)


def test_the_order_is_as_given() -> None:
    assert HostBook().order([A, B, C], 0.0) == [A, B, C]


def test_the_host_that_failed_last_is_tried_last() -> None:
    book = HostBook()
    book.failed(at(A), 1.0)
    assert book.order([A, B, C], 2.0) == [B, C, A]
    book.failed(at(B), 2.0)
    assert book.order([A, B, C], 3.0) == [C, A, B]


def test_hosts_of_another_kind_come_before_those_that_failed() -> None:
    book = HostBook()
    book.failed(at(A), 1.0)
    book.mismatched(at(B), 2.0)
    assert book.order([A, B, C], 3.0) == [C, B, A]


def test_a_host_has_its_old_place_again_after_a_while_or_a_success() -> None:
    book = HostBook()
    book.failed(at(A), 1.0)
    assert book.order([A, B], 0.9 + REMEMBERED) == [B, A]
    assert book.order([A, B], 1.0 + REMEMBERED) == [A, B]
    book.failed(at(A), 20.0)
    book.answered(at(A))
    assert book.order([A, B], 21.0) == [A, B]


def test_the_addresses_of_one_host_are_remembered_one_by_one() -> None:
    book = HostBook()
    places = [at(A, 1), at(A, 2)]
    book.failed(places[0], 1.0)
    book.answered(places[1])
    assert book.order(places, 2.0) == places[::-1]
    assert book.order([A, B], 2.0) == [A, B]


class Pool:
    """A pool of connections to hosts that are up or down."""

    def __init__(self, seed: int, *hosts: Address) -> None:
        self.hosts = hosts
        self.down: set[Address] = set()
        self.members: list[Place] = []
        self.now = 0.0
        self.book = HostBook(lambda: self.members, random.Random(seed).random)
        self.book.addresses = hosts

    def open(self, count: int = 1) -> None:
        """Open connections, all of them at once."""
        searches = []
        for _ in range(count):
            choice = HostChoice(self.book)
            self.book._choices.append(choice)
            searches.append((choice, choice.next(self.hosts, self.now)))
        for choice, address in searches:
            left = list(self.hosts)
            while left:
                self.now += 0.001
                if address not in self.down:
                    self.book.answered(at(address))
                    self.members.append(at(address))
                    break
                self.book.failed(at(address), self.now)
                left.remove(address)
                address = choice.next(left, self.now) if left else address
            self.book._choices.remove(choice)

    def sizes(self) -> list[int]:
        return sorted(sum(place[0] == host for place in self.members) for host in self.hosts)


def test_a_pool_is_spread_evenly() -> None:
    for seed in range(50):
        pool = Pool(seed, A, B, C)
        pool.open(1)
        pool.open(8)
        assert pool.sizes() == [3, 3, 3]
        pool.open(2)
        assert pool.sizes() == [3, 4, 4]


def test_different_pools_begin_at_different_hosts() -> None:
    firsts = set()
    for seed in range(50):
        pool = Pool(seed, A, B, C)
        pool.open()
        firsts.add(pool.members[0][0])
    assert firsts == {A, B, C}


def test_a_host_that_comes_back_gets_its_share_again() -> None:
    for seed in range(50):
        pool = Pool(seed, A, B, C)
        pool.down.add(A)
        for _ in range(9):
            pool.open()
        assert pool.sizes() == [0, 4, 5]
        assert pool.book.missing() == [A]
        pool.down.clear()
        going = pool.book.surplus(A, {number: place[0] for number, place in enumerate(pool.members)})
        assert len(going) == 3
        pool.members = [place for number, place in enumerate(pool.members) if number not in going]
        pool.now += REMEMBERED
        for _ in going:
            pool.open()
        assert pool.sizes() == [3, 3, 3]
        assert pool.book.missing() == []


def test_leased_connections_are_left_alone() -> None:
    pool = Pool(1, A, B)
    pool.down.add(A)
    for _ in range(6):
        pool.open()
    assert pool.book.surplus(A, {}) == []
    assert len(pool.book.surplus(A, {0: B})) == 1


def test_the_choice_holds_for_its_block() -> None:
    book = HostBook()
    assert current_choice().book is not book
    with book.choosing(only=B) as choice:
        assert current_choice() is choice
        assert choice.order((A, B), 0.0, evenly=True) == (B,)
    assert current_choice().book is not book
    assert book.has_several


def test_a_connection_that_is_being_opened_counts() -> None:
    book = HostBook()
    with book.choosing() as one:
        one.next((A, B), 0.0)
        with book.choosing() as other:
            other.next((A, B), 0.0)
            assert {one.address, other.address} == {A, B}
