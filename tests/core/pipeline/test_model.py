"""Whatever happens to a session, in whatever order, it does what a reference in plain Python says.

Two drivers put together what happens: one at random, which is fast and goes far, and hypothesis, which finds the
shortest way to a difference. For hours of it: `pytest tests/core/pipeline/test_model.py --hypothesis-profile=long`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.core.pipeline.model import FAILING, LAST_WORDS, Model, live
from tests.core.pipeline.simulation import ECHOES

SHARED = st.booleans()
LIMITS = st.sampled_from([100, 1, 3])
SIZES = st.sampled_from([100, 0, 1, 3])


class Life(RuleBasedStateMachine):
    """The life of a session."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()

    @initialize(max_pipeline=LIMITS, cache=SIZES)
    def begin(self, max_pipeline: int, cache: int) -> None:
        """A session with its limits."""
        self.model = Model(max_pipeline=max_pipeline, cache=cache)

    def lives(self) -> bool:
        """True if the connection is there."""
        return not self.model.is_lost

    # Calls

    @precondition(lives)
    @rule(text=st.sampled_from(ECHOES), shared=SHARED)
    def fetch(self, text: str, shared: bool) -> None:
        self.model.fetch(text, shared=shared)

    @precondition(lives)
    @rule(text=st.sampled_from(FAILING), shared=SHARED)
    def fail(self, text: str, shared: bool) -> None:
        self.model.fetch(text, shared=shared)

    @precondition(lives)
    @rule(shared=SHARED)
    def write(self, shared: bool) -> None:
        self.model.write(shared=shared)

    @precondition(lives)
    @rule(count=st.sampled_from([1, 2, 5, 2500]), once=st.booleans(), bad=st.booleans())
    def write_many(self, count: int, once: bool, bad: bool) -> None:
        self.model.write_many(count, once=once, bad=bad)

    @precondition(lives)
    @rule(sql=st.sampled_from(["BEGIN", "COMMIT", "ROLLBACK", "SELECT 1", "DEALLOCATE ALL"]))
    def run(self, sql: str) -> None:
        self.model.run(sql, uncancellable=sql in ("COMMIT", "ROLLBACK"))

    @precondition(lives)
    @rule(text=st.sampled_from([*ECHOES, *FAILING]))
    def prepare(self, text: str) -> None:
        self.model.hold(text)

    @precondition(lambda self: self.model.held and not self.model.is_lost)
    @rule()
    def let_go(self) -> None:
        self.model.let_go()

    @precondition(lives)
    @rule()
    def copy_in(self) -> None:
        self.model.copy_in()

    @precondition(lives)
    @rule()
    def copy_out(self) -> None:
        self.model.copy_out()

    @precondition(lambda self: self.model.flowing())
    @rule(end=st.booleans())
    def feed_copy(self, end: bool) -> None:
        self.model.feed_copy(end=end)

    @precondition(lives)
    @rule(choice=st.integers(0, 20))
    def give_up(self, choice: int) -> None:
        self.model.give_up(choice)

    @precondition(lives)
    @rule()
    def grace_over(self) -> None:
        self.model.grace_over()

    # The wire and the server

    @precondition(lives)
    @rule()
    def write_out(self) -> None:
        self.model.write_out()

    @precondition(lambda self: self.model.server.inbox)
    @rule(messages=st.sampled_from([1, 2, 5, 10_000]))
    def work(self, messages: int) -> None:
        self.model.work(messages)

    @precondition(lambda self: self.model.server.outbox)
    @rule(size=st.integers(1, 40) | st.just(1 << 30))
    def read(self, size: int) -> None:
        self.model.read(size)

    @precondition(lives)
    @rule()
    def exchange(self) -> None:
        """All that is to be written, worked on and read, at once."""
        self.model.write_out()
        self.model.work(len(self.model.server.inbox))
        self.model.read(len(self.model.server.outbox))

    @precondition(lambda self: not self.model.dead)
    @rule(kind=st.sampled_from(["notice", "notification", "parameter"]))
    def tell(self, kind: str) -> None:
        self.model.tell(kind)

    @precondition(lambda self: not self.model.dead)
    @rule()
    def invalidate(self) -> None:
        self.model.server.invalidate()

    @precondition(lambda self: self.model.signals)
    @rule()
    def arrive(self) -> None:
        self.model.arrive()

    @precondition(lambda self: self.model.arrived and not self.model.is_lost)
    @rule(again=st.booleans())
    def deliver(self, again: bool) -> None:
        self.model.deliver(again=again)

    # The end, which few lives come to early

    @precondition(lambda self: not self.model.dead)
    @rule(luck=st.integers(0, 9), words=st.sampled_from(LAST_WORDS))
    def die(self, luck: int, words: bytes) -> None:
        if luck == 9:
            self.model.die(words)

    @precondition(lives)
    @rule(luck=st.integers(0, 9))
    def lose(self, luck: int) -> None:
        if luck == 9 or self.model.dead:
            self.model.lose()

    @precondition(lambda self: self.model.is_lost)
    @rule(max_pipeline=LIMITS, cache=SIZES)
    def begin_again(self, max_pipeline: int, cache: int) -> None:
        self.model.check_all()
        self.begin(max_pipeline, cache)

    @invariant()
    def is_as_the_reference_says(self) -> None:
        self.model.check()

    def teardown(self) -> None:
        model = self.model
        if not model.dead:
            model.settle_down()
            assert model.talk.idle, "something waits for ever"
            assert not model.session.cancellation.is_open
            model.check()
        model.read(len(model.server.outbox))
        model.session.connection_lost("the end")
        model.check_all()


LONG = settings.get_current_profile_name() == "long"

TestModel = Life.TestCase
TestModel.settings = settings(
    max_examples=20_000 if LONG else 40,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.parametrize("first", range(0, 1_000_000 if LONG else 200, 50))
def test_lives_at_random(first: int) -> None:
    for seed in range(first, first + 50):
        with note(seed):
            live(seed)


@contextmanager
def note(seed: int) -> Iterator[None]:
    """Say which life went wrong."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"again: live({seed})")
        raise
