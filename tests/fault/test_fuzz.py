"""Fault 8: fuzzing. Whatever the readers get they read or refuse; none crashes, hangs or takes memory for a promise.

Here runs the corpus and a short while at random; `python -m tests.fuzz` runs as long as one likes.
"""

from __future__ import annotations

import ctypes
import random
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from headrace import exceptions
from tests.fuzz import corpus
from tests.fuzz.engine import PATIENCE, Failure, Fuzzing, replay
from tests.fuzz.mutation import Mutation, split
from tests.fuzz.registry import TARGETS
from tests.fuzz.target import Target

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.fault(number=8),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def fuzz(*arguments: str) -> str:
    """Run the program in a process of its own, which may die of it; return what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", TARGETS)
def test_what_once_went_wrong_does_so_no_more(name: str) -> None:
    said = fuzz(name, "--replay")
    assert f"{name}: " in said


@pytest.mark.slow
def test_random_inputs() -> None:
    said = fuzz("--inputs", "100000", "--seed", "8", "--quiet")
    assert said.endswith("0 failures\n")
    assert {line.partition(":")[0] for line in said.splitlines()[1:-1]} == set(TARGETS)


# The fuzzing itself: it finds what is there to be found.


class Broken(Target):
    """Reads anything, but for one input in some hundred."""

    name = "broken"
    allowed = (exceptions.ProtocolError,)

    def seeds(self) -> Iterable[bytes]:
        return [b"seed", b"other"]

    def run(self, data: bytes) -> object:
        if len(data) < 3:
            raise exceptions.ProtocolError("too short")
        if b"\x7f" in data:
            self.break_down()
        return len(data)

    def break_down(self) -> None:
        raise NotImplementedError


class Raises(Broken):
    def break_down(self) -> None:
        raise SystemError("error return without exception set")


class Crashes(Broken):
    def break_down(self) -> None:
        ctypes.string_at(0)


class Hangs(Broken):
    def break_down(self) -> None:
        while True:
            time.sleep(1)


class Promises(Broken):
    def break_down(self) -> None:
        bytearray(1 << 40)


class Grows(Broken):
    def run(self, data: bytes) -> object:
        return bytearray(3_000_000)[0]


@pytest.mark.parametrize(
    ("target", "what", "patience"),
    [
        (Raises(), "SystemError: error return", PATIENCE),
        (Crashes(), "died of SIGSEGV", PATIENCE),
        (Hangs(), "hangs: no end after 2 s", 2),
        (Promises(), "MemoryError", PATIENCE),
    ],
    ids=["raises", "crashes", "hangs", "promises"],
)
def test_what_goes_wrong_is_found_with_its_input(target: Broken, what: str, patience: float, tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        list(Fuzzing(target, 1, workers=2, patience=patience).run(10_000))
    assert what in caught.value.what
    assert b"\x7f" in caught.value.data
    assert caught.value.save(tmp_path).read_bytes() == caught.value.data


def test_memory_that_does_not_go_with_the_input_is_found() -> None:
    with pytest.raises(Failure, match="bytes of memory"):
        replay(Grows())


def test_the_same_seed_makes_the_same_inputs_whatever_the_workers() -> None:
    class Collects(Broken):
        def run(self, data: bytes) -> object:
            return data[:2]

    found = []
    for seed, workers in ((1, 1), (1, 2), (2, 1)):
        fuzzing = Fuzzing(Collects(), seed, workers=workers)
        list(fuzzing.run(50_000))
        found.append(fuzzing.figures.new)
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_changed_streams_of_messages_are_made_of_whole_messages() -> None:
    stream = b"Z\0\0\0\5I" * 3
    mutation = Mutation(random.Random(1), [stream])
    whole = 0
    for _ in range(1000):
        changed = mutation.messages(stream)
        whole += sum(5 + len(body) for _, body in split(changed)) == len(changed)
    assert whole > 800


def test_the_corpus_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "PLACE", tmp_path)
    assert corpus.load("any") == []
    assert corpus.add("any", [b"one", b"two", b"one"]) == 2
    assert corpus.add("any", [b"two", b"three"]) == 1
    assert corpus.load("any") == [b"one", b"two", b"three"]
