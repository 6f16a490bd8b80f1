"""Random changes to inputs: bytes flipped, cut, doubled and spliced, numbers at the edges of their types, words that
the reader knows, and for streams of messages all of that within messages whose lengths stay true.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

NUMBERS = (
    *(struct.pack("!b", number) for number in (0, 1, -1, 127, -128)),
    *(struct.pack("!h", number) for number in (0, 1, 2, -1, -2, 0x7FFF, -0x8000, 0x4000)),
    *(
        struct.pack("!i", number)
        for number in (0, 1, 2, 3, 4, 5, 8, 16, 23, 25, -1, -2, -5, 0xFFFF, 0x10000, 2**31 - 1, -(2**31), 2**30, 16384)
    ),
    *(struct.pack("!q", number) for number in (0, 1, -1, 2**63 - 1, -(2**63), 2**32, -(2**32))),
    struct.pack("!d", float("nan")),
    struct.pack("!d", float("inf")),
)
"""What lengths, counts and values are replaced by."""

MAX_SIZE = 4096
"""Inputs grow to so many bytes at most."""


class Mutation:
    """Makes inputs of others: `pool` is what they are made of, `words` what the reader knows."""

    def __init__(self, generator: random.Random, pool: Sequence[bytes], words: Sequence[bytes] = ()) -> None:
        self._random = generator.random
        self._bits = generator.getrandbits
        self._pool = pool
        self._words = (*NUMBERS, *words, *words)

    def below(self, limit: int) -> int:
        """Return a number from 0 to `limit` - 1."""
        return int(self._random() * limit)

    def other(self) -> bytes:
        """Return one of the pool."""
        return self._pool[int(self._random() * len(self._pool))]

    def changed(self, data: bytes) -> bytes:
        """Return the input, changed in one to eight places."""
        changed = bytearray(data)
        for _ in range(1 << self.below(4)):
            self._change(changed)
        del changed[MAX_SIZE:]
        return bytes(changed)

    def _change(self, data: bytearray) -> None:
        size = len(data)
        kind = self.below(11)
        at = self.below(size) if size else 0
        if kind == 0 or not size:
            data[at:at] = self._bits(32).to_bytes(4, "big")[: 1 + self.below(4)]
        elif kind == 1:
            data[at] ^= 1 << self.below(8)
        elif kind == 2:
            data[at] = self._bits(8)
        elif kind == 3:
            word = self._words[self.below(len(self._words))]
            data[at : at + len(word)] = word
        elif kind == 4:
            data[at:at] = self._words[self.below(len(self._words))]
        elif kind == 5:
            del data[at : at + 1 + self.below(min(size - at, 32))]
        elif kind == 6:
            del data[at:]
        elif kind == 7:
            data[at:at] = data[at : at + 1 + self.below(32)]
        elif kind == 8:
            other = self.other()
            start = self.below(len(other) + 1)
            data[at : at + self.below(16)] = other[start : start + 1 + self.below(64)]
        elif kind == 9:
            # A number that is nearly right.
            data[at] = (data[at] + self.below(5) - 2) & 0xFF
        else:
            place = self.below(size)
            data[at], data[place] = data[place], data[at]

    def messages(self, data: bytes) -> bytes:
        """Return a stream of backend messages with some of them changed, doubled, left out, swapped or brought in."""
        if self.below(8) == 0:
            return self.changed(data)
        messages = split(data)
        if not messages:
            return self.changed(data)
        for _ in range(1 << self.below(3)):
            at = self.below(len(messages))
            kind = self.below(8)
            if kind < 4:
                found, body = messages[at]
                messages[at] = found, self.changed(body)
            elif kind == 4:
                messages.insert(at, messages[self.below(len(messages))])
            elif kind == 5 and len(messages) > 1:
                del messages[at]
            elif kind == 6:
                place = self.below(len(messages))
                messages[at], messages[place] = messages[place], messages[at]
            else:
                others = split(self.other())
                if others:
                    start = self.below(len(others))
                    messages[at:at] = others[start : start + 1 + self.below(4)]
        stream = b"".join(kind + struct.pack("!I", len(body) + 4) + body for kind, body in messages)
        return stream[:MAX_SIZE]


def split(stream: bytes) -> list[tuple[bytes, bytes]]:
    """Cut a stream into messages as types and bodies; what is left at the end and is none makes the last."""
    messages = []
    at = 0
    while at + 5 <= len(stream):
        length = int.from_bytes(stream[at + 1 : at + 5], "big")
        if length < 4:
            break
        messages.append((stream[at : at + 1], stream[at + 5 : at + 1 + length]))
        at += 1 + length
    return messages
