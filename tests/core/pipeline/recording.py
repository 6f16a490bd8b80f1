"""Recordings: what a real server answered to what a session sent, in rounds, kept in recordings/ as JSON.

A round is what the session wanted written and all that came until it wanted to write again. Names of statements are
numbered in the order of their appearance, for the session never gives the same one twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.core.pipeline.scenes import Scene
from tests.core.pipeline.script import Call, Conversation
from tests.peers import backend, frontend

PLACE = Path(__file__).parent / "recordings"


@dataclasses.dataclass
class Round:
    """What was sent, a line a message, and what came."""

    sent: list[str]
    received: bytes


@dataclasses.dataclass
class Recording:
    """One scene as it was played to a server."""

    server: str
    rounds: list[Round]
    outcomes: str

    def save(self, name: str) -> None:
        """Write the file."""
        rounds = [
            {
                "sent": each.sent,
                "received": [f"{kind.decode()} {body.hex()}" for kind, body in backend.split(each.received)],
            }
            for each in self.rounds
        ]
        text = json.dumps({"server": self.server, "rounds": rounds, "outcomes": self.outcomes}, indent=1)
        (PLACE / f"{name}.json").write_text(text + "\n")

    @classmethod
    def load(cls, name: str) -> Recording:
        """Read the file."""
        data = json.loads((PLACE / f"{name}.json").read_text())
        rounds = [Round(each["sent"], b"".join(map(_message, each["received"]))) for each in data["rounds"]]
        return cls(data["server"], rounds, data["outcomes"])


def _message(line: str) -> bytes:
    kind, _, body = line.partition(" ")
    return backend.message(kind.encode(), bytes.fromhex(body))


class Names:
    """Numbers statements in the order of their appearance."""

    def __init__(self) -> None:
        self._numbers: dict[str, str] = {}

    def line(self, message: frontend.Message) -> str:
        """The message as a line."""
        fields = {each.name: getattr(message, each.name) for each in dataclasses.fields(message) if each.name != "raw"}
        for key in ("name", "statement"):
            given = fields.get(key)
            if given and given.startswith("headrace_"):
                fields[key] = self._numbers.setdefault(given, f"s{len(self._numbers) + 1}")
        return f"{type(message).__name__} " + " ".join(f"{key}={value!r}" for key, value in fields.items())


def play(talk: Conversation, scene: Scene, exchange: Callable[[list[str]], None]) -> str:
    """Play a scene: `exchange` is called with all that is to be sent, and feeds what comes in answer.

    Returns the outcomes as text.
    """
    names = Names()
    acts = scene(talk)
    try:
        while True:
            next(acts)
            while talk.session.wants_output():
                talk.flush()
                exchange([names.line(message) for message in talk.messages])
            assert talk.idle, "the scene goes on although not all is answered"
    except StopIteration as end:
        return repr(end.value)


def replay(recording: Recording, scene: Scene, cut: Callable[[int, bytes], Iterator[bytes]], **limits: Any) -> str:
    """Play a scene from a recording, each round's answer in the pieces that `cut` makes of it; returns the outcomes."""
    talk = Conversation(**limits)
    rounds = enumerate(recording.rounds)

    def exchange(sent: list[str]) -> None:
        number, recorded = next(rounds)
        assert sent == recorded.sent
        for piece in cut(number, recorded.received):
            talk.reply(piece)

    outcomes = play(talk, scene, exchange)
    assert next(rounds, None) is None, "the recording goes on"
    return outcomes


def replay_until(recording: Recording, scene: Scene, number: int | None, at: int) -> list[Call]:
    """Play a scene until byte `at` of a round's answer, where the connection is lost; with None play all of it.

    Returns the calls made so far, in order.
    """
    talk = Conversation()
    calls: list[Call] = []
    talk.calls = calls
    rounds = enumerate(recording.rounds)

    def exchange(sent: list[str]) -> None:
        current, recorded = next(rounds)
        if current == number:
            talk.reply(recorded.received[:at])
            talk.session.connection_lost("cut")
            assert talk.idle, "something waits for ever"
            raise EOFError
        talk.reply(recorded.received)

    with contextlib.suppress(EOFError):
        play(talk, scene, exchange)
    return calls
