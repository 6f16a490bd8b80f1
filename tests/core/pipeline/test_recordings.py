"""Fault 6: real exchanges, replayed cut at every byte, give identical results; and what a cut connection makes of them.

They were recorded by `python -m tests.core.pipeline.record`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headrace.exceptions import ConnectionDoesNotExistError
from tests.core.pipeline.recording import Recording, replay, replay_until
from tests.core.pipeline.scenes import SCENES, outcome


def whole(number: int, answer: bytes) -> Iterator[bytes]:
    yield answer


def bytewise(number: int, answer: bytes) -> Iterator[bytes]:
    for i in range(len(answer)):
        yield answer[i : i + 1]


@pytest.mark.fault(number=6)
@pytest.mark.parametrize("name", SCENES)
def test_replayed_whole(name: str) -> None:
    recording = Recording.load(name)
    assert replay(recording, SCENES[name], whole) == recording.outcomes


@pytest.mark.fault(number=6)
@pytest.mark.parametrize("name", SCENES)
def test_replayed_byte_by_byte(name: str) -> None:
    recording = Recording.load(name)
    assert replay(recording, SCENES[name], bytewise) == recording.outcomes


@pytest.mark.fault(number=6)
@pytest.mark.parametrize("name", SCENES)
def test_replayed_cut_in_two_at_every_byte(name: str) -> None:
    recording = Recording.load(name)
    for round_cut, each in enumerate(recording.rounds):
        for at in range(1, len(each.received)):

            def cut(number: int, answer: bytes, at: int = at, round_cut: int = round_cut) -> Iterator[bytes]:
                if number == round_cut:
                    yield answer[:at]
                    answer = answer[at:]
                yield answer

            assert replay(recording, SCENES[name], cut) == recording.outcomes


@pytest.mark.fault(number=7)
@pytest.mark.parametrize("name", SCENES)
def test_the_connection_lost_at_every_byte(name: str) -> None:
    """Each call has the outcome it has without the loss, or an error that says whether it is safe to retry."""
    recording, scene = Recording.load(name), SCENES[name]
    expected = [outcome(call) for call in replay_until(recording, scene, None, 0)]
    for number, each in enumerate(recording.rounds):
        for at in range(len(each.received)):
            for i, call in enumerate(replay_until(recording, scene, number, at)):
                error = call.waiter.error
                if isinstance(error, ConnectionDoesNotExistError):
                    assert ("it is safe to retry" in str(error)) == error.safe_to_retry
                else:
                    assert outcome(call) == expected[i]
