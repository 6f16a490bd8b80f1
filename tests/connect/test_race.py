"""The race for a connection: which address is tried when, and who may authenticate. Time is a number here."""

from __future__ import annotations

from headrace._connect.race import ANSWER_DELAY, AT_ONCE, PATIENCE, Attempt, Race


class Search:
    """A simulation of a search: servers that say something after so many seconds, or never.

    `run()` returns the names in the order in which they were begun, and the time at which each was.
    """

    def __init__(self, *answers: float | None, strict: bool = False) -> None:
        self.race = Race(strict=strict)
        self.waiting = [(str(number), answer, 0) for number, answer in enumerate(answers)]
        self.begun: list[tuple[str, float]] = []
        self.made_room: dict[str, int] = {}
        self.most = 0
        self.failed: list[str] = []

    def run(self, until: float) -> str | None:
        now = 0.0
        under_way: dict[str, tuple[Attempt, float | None]] = {}
        while now <= until:
            for name, (attempt, due) in list(under_way.items()):
                if due is not None and now >= due:
                    self.race.end(attempt)
                    return name
            for attempt in self.race.to_give_up(now, others_left=bool(self.waiting)):
                name = next(name for name, (other, _) in under_way.items() if other is attempt)
                self.race.end(attempt)
                del under_way[name]
                made_room = self.made_room[name]
                if self.race.strict:
                    self.failed.append(name)
                else:
                    self.waiting.append((name, None, made_room + 1))
            if self.waiting and self.race.may_begin(now):
                name, answer, made_room = self.waiting.pop(0)
                self.begun.append((name, now))
                due = None if answer is None else now + answer
                under_way[name] = self.race.begin(now, made_room=made_room), due
                self.made_room[name] = made_room
                self.most = max(self.most, len(under_way))
                continue
            if not under_way:
                return None
            times = [due - now for _, due in under_way.values() if due is not None]
            if (change := self.race.next_change(now)) is not None:
                times.append(change)
            if not times:
                return None
            now += min(times)
        return None


def test_a_server_that_answers_has_no_rival() -> None:
    search = Search(ANSWER_DELAY / 2, 0.0)
    assert search.run(60) == "0"
    assert search.begun == [("0", 0)]


def test_beside_a_silent_server_the_next_is_begun_after_a_second() -> None:
    search = Search(None, 0.01)
    assert search.run(60) == "1"
    assert search.begun == [("0", 0), ("1", ANSWER_DELAY)]


def test_a_slow_server_is_waited_for_while_the_next_is_silent() -> None:
    assert Search(2.0, None).run(60) == "0"
    assert Search(50.0, None).run(60) == "0"


def test_silent_servers_make_room_one_after_the_other_each_time_later() -> None:
    search = Search(None, None, None, None, 0.1)
    assert search.run(60) == "4"
    assert search.most == AT_ONCE
    assert [name for name, _ in search.begun] == ["0", "1", "2", "3", "4"]
    assert search.begun[-1][1] <= 3 * PATIENCE
    search = Search(None, None, None)
    assert search.run(600) is None
    assert [name for name, _ in search.begun[:6]] == ["0", "1", "2", "0", "1", "2"]
    assert len(search.begun) < 25


def test_a_strict_race_gives_up_everybody_who_is_silent() -> None:
    search = Search(None, None, strict=True)
    assert search.run(60) is None
    assert search.failed == ["0", "1"]


def test_one_attempt_at_a_time_authenticates() -> None:
    race = Race()
    first, second = race.begin(0.0), race.begin(1.0)
    race.heard(second, 1.1)
    assert race.ask_turn(second, 1.1) is second
    race.heard(first, 1.2)
    assert race.ask_turn(first, 1.2) is None
    assert race.next_turn(1.2 + PATIENCE / 2) is None
    race.end(second)
    assert race.next_turn(1.3 + PATIENCE / 2) is first
    assert race.ask_turn(first, 2.0) is first


def test_a_server_that_falls_silent_in_the_middle_loses_its_turn_and_goes_on() -> None:
    race = Race()
    first, second = race.begin(0.0), race.begin(1.0)
    race.heard(first, 1.0)
    assert race.ask_turn(first, 1.0) is first
    race.heard(second, 1.1)
    assert race.ask_turn(second, 1.1) is None
    assert race.next_change(1.1) == 1.0 + PATIENCE - 1.1
    assert race.next_turn(1.0 + PATIENCE) is second
    assert race.attempts == [first, second]


def test_one_that_waits_for_its_turn_is_not_silent() -> None:
    for strict in (False, True):
        race = Race(strict=strict)
        first, second = race.begin(0.0), race.begin(1.0)
        race.heard(first, 1.0)
        race.ask_turn(first, 1.0)
        race.heard(second, 1.1)
        race.ask_turn(second, 1.1)
        race.heard(first, 2.0)
        assert race.to_give_up(1.9 + PATIENCE, others_left=True) == []
        assert not race.may_begin(1.9 + PATIENCE)


def test_while_a_server_talks_no_other_is_begun() -> None:
    race = Race()
    attempt = race.begin(0.0)
    race.heard(attempt, 0.5)
    assert not race.may_begin(ANSWER_DELAY + 0.4)
    assert race.may_begin(0.5 + PATIENCE)
